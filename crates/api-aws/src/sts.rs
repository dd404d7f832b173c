//! STS (query protocol, 2011-06-15): who am I, and sessions.

use http::Response;
use iam::{AssumeRole, Credentials};
use sandbox::Body;

use crate::dispatch;
use crate::failure::Failure;
use crate::identity::failure;
use crate::query::{self, Form, Xml, validation};
use crate::request::Request;

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// Runs the action that the form or the query names. STS API: GetCallerIdentity needs no permission.
pub(crate) fn run(request: &Request<'_>) -> Result<Response<Body>, Failure> {
    match dispatch::action(request.head, &request.body).as_deref() {
        Some("GetCallerIdentity") => Ok(identity(request)),
        Some("AssumeRole") => assume_role(request),
        Some("GetSessionToken") => session_token(request),
        action => Err(dispatch::invalid_action("STS", action)),
    }
}

fn identity(request: &Request<'_>) -> Response<Body> {
    let caller = request.caller;
    query::answer("GetCallerIdentity", NAMESPACE, request.id, |xml| {
        xml.text("Arn", caller.arn()).text("UserId", caller.id()).text("Account", caller.account.as_str());
    })
}

fn assume_role(request: &Request<'_>) -> Result<Response<Body>, Failure> {
    let form = Form::of(request);
    for member in ["SerialNumber", "TokenCode", "SourceIdentity"] {
        if form.text(member).is_some() {
            return Err(validation(format!("{member} is not supported by this server yet.")));
        }
    }
    for list in ["PolicyArns.member.1.arn", "Tags.member.1.Key", "TransitiveTagKeys.member.1"] {
        if form.text(list).is_some() {
            let name = list.split('.').next().unwrap_or_default();
            return Err(validation(format!("{name} is not supported by this server yet.")));
        }
    }
    let args = AssumeRole {
        role_arn: form.required("RoleArn")?,
        session_name: form.required("RoleSessionName")?,
        duration_s: form.integer("DurationSeconds")?,
        policy: form.text("Policy"),
        external_id: form.text("ExternalId"),
    };
    let assumed = request.api.iam.assume_role(request.caller, args);
    let (keys, who) = assumed.map_err(|error| failure(&error, request.id))?;
    Ok(query::answer("AssumeRole", NAMESPACE, request.id, |xml| {
        credentials(xml, &keys);
        xml.within("AssumedRoleUser", |xml| {
            xml.text("AssumedRoleId", who.id()).text("Arn", who.arn());
        });
    }))
}

fn session_token(request: &Request<'_>) -> Result<Response<Body>, Failure> {
    let seconds = Form::of(request).integer("DurationSeconds")?;
    let keys = request.api.iam.session_token(request.caller, seconds);
    let keys = keys.map_err(|error| failure(&error, request.id))?;
    Ok(query::answer("GetSessionToken", NAMESPACE, request.id, |xml| credentials(xml, &keys)))
}

fn credentials(xml: &mut Xml, keys: &Credentials) {
    xml.within("Credentials", |xml| {
        xml.text("AccessKeyId", &keys.access_key_id)
            .text("SecretAccessKey", &keys.secret_access_key)
            .maybe("SessionToken", keys.session_token.as_deref());
        if let Some(expires) = keys.expires {
            xml.time("Expiration", expires);
        }
    });
}
