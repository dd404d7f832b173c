//! IAM (query protocol, 2010-05-08): roles, their policies, managed policies, and as much of users as there is.
//!
//! Shapes only. What a role is, who may and what happens is the `iam` crate's.

mod errors;
mod page;
mod policies;
mod role_policies;
mod roles;
mod users;

pub(crate) use errors::failure;

use http::Response;
use iam::Iam;
use sandbox::Body;

use crate::dispatch;
use crate::failure::Failure;
use crate::query::{self, Form, Xml};
use crate::request::Request;

const NAMESPACE: &str = "https://iam.amazonaws.com/doc/2010-05-08/";

/// A request with its members.
struct Call<'a> {
    request: &'a Request<'a>,
    iam: &'a Iam,
    form: Form,
    action: String,
}

impl Call<'_> {
    /// 200 with what `result` writes.
    fn answer(&self, result: impl FnOnce(&mut Xml)) -> Response<Body> {
        query::answer(&self.action, NAMESPACE, self.request.id, result)
    }

    /// 200 without a result.
    fn done(&self) -> Response<Body> {
        self.answer(|_| ())
    }

    fn failed(&self) -> impl Fn(iam::directory::Error) -> Failure {
        let id = self.request.id;
        move |error| errors::failure(&error, id)
    }
}

/// Runs the action that the form or the query names.
pub(crate) async fn run(request: &Request<'_>) -> Result<Response<Body>, Failure> {
    let action = dispatch::action(request.head, &request.body);
    let Some(action) = action else { return Err(dispatch::invalid_action("IAM", None)) };
    let call = Call { request, iam: &request.api.iam, form: Form::of(request), action };
    match call.action.as_str() {
        "CreateRole" => roles::create(&call).await,
        "GetRole" => roles::get(&call),
        "ListRoles" => roles::list(&call),
        "DeleteRole" => roles::delete(&call).await,
        "UpdateRole" => roles::update(&call).await,
        "UpdateRoleDescription" => roles::update_description(&call).await,
        "UpdateAssumeRolePolicy" => roles::update_trust(&call).await,
        "PutRolePermissionsBoundary" => roles::put_boundary(&call).await,
        "DeleteRolePermissionsBoundary" => roles::delete_boundary(&call).await,
        "TagRole" => roles::tag(&call).await,
        "UntagRole" => roles::untag(&call).await,
        "ListRoleTags" => roles::list_tags(&call),
        "ListInstanceProfilesForRole" => roles::list_instance_profiles(&call),
        "PutRolePolicy" => role_policies::put(&call).await,
        "GetRolePolicy" => role_policies::get(&call),
        "ListRolePolicies" => role_policies::list(&call),
        "DeleteRolePolicy" => role_policies::delete(&call).await,
        "AttachRolePolicy" => role_policies::attach(&call).await,
        "DetachRolePolicy" => role_policies::detach(&call).await,
        "ListAttachedRolePolicies" => role_policies::list_attached(&call),
        "CreatePolicy" => policies::create(&call).await,
        "GetPolicy" => policies::get(&call),
        "ListPolicies" => policies::list(&call),
        "DeletePolicy" => policies::delete(&call).await,
        "CreatePolicyVersion" => policies::create_version(&call).await,
        "GetPolicyVersion" => policies::get_version(&call),
        "ListPolicyVersions" => policies::list_versions(&call),
        "SetDefaultPolicyVersion" => policies::set_default(&call).await,
        "DeletePolicyVersion" => policies::delete_version(&call).await,
        "ListEntitiesForPolicy" => policies::list_entities(&call),
        "GetUser" => users::get(&call),
        "ListUsers" => users::list(&call),
        "ListAccountAliases" => users::list_account_aliases(&call),
        other => Err(dispatch::invalid_action("IAM", Some(other))),
    }
}

/// A document as IAM's answers hold it: percent-encoded (RFC 3986).
fn encoded(document: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(document, KEPT).to_string()
}

fn tags<'a>(xml: &mut Xml, tags: impl IntoIterator<Item = (&'a String, &'a String)>) {
    xml.list("Tags", tags, |member, (key, value)| {
        member.text("Key", key).text("Value", value);
    });
}
