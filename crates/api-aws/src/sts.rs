//! STS (query protocol, 2011-06-15): who am I.

use base::RequestId;
use http::{Response, StatusCode};
use iam::Caller;
use sandbox::Body;

use crate::dispatch;
use crate::failure::Failure;
use crate::protocol::{self, escape};
use crate::request::Request;

/// Runs the action that the form or the query names. STS API: GetCallerIdentity needs no permission.
pub(crate) fn run(request: &Request<'_>) -> Result<Response<Body>, Failure> {
    match dispatch::action(request.head, &request.body).as_deref() {
        Some("GetCallerIdentity") => {
            Ok(protocol::answer(StatusCode::OK, "text/xml", identity(request.caller, request.id)))
        }
        action => Err(dispatch::invalid_action("STS", action)),
    }
}

fn identity(caller: &Caller, id: RequestId) -> String {
    let user = caller.id();
    format!(
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
         <Arn>{}</Arn><UserId>{}</UserId><Account>{}</Account></GetCallerIdentityResult><ResponseMetadata>\
         <RequestId>{id}</RequestId></ResponseMetadata></GetCallerIdentityResponse>\n",
        escape(&caller.arn()),
        escape(&user),
        caller.account
    )
}
