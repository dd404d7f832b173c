//! From a request to its service: authentication first, then the body, then the operation.
//!
//! The order is the point: a stranger's body is never read, an operation that is not built refuses before
//! its body is read where its name is in the head, and no operation runs before the signature over head and
//! body was checked.

use base::RequestId;
use http::request::Parts;
use http::{Response, StatusCode};
use sandbox::Body;

use crate::body::{self, ReadError};
use crate::failure::Failure;
use crate::protocol::{self, Protocol};
use crate::request::Request;
use crate::{Api, Context, auth, identity, lambda, limits, logs, signer, sqs, sts};

/// A service that is built, as far as the head says what is asked.
enum Plan {
    Lambda(lambda::Plan),
    Logs,
    Sqs,
    Sts,
    Identity,
    Signer,
    /// Another service: refused, once its action is known.
    Absent,
}

impl Plan {
    fn body_limit(&self) -> usize {
        match self {
            Self::Lambda(plan) => plan.body_limit(),
            Self::Logs => limits::LOG_EVENTS,
            Self::Sqs => limits::MESSAGES,
            _ => limits::OTHER,
        }
    }

    fn unread(&self, error: ReadError) -> Failure {
        match self {
            Self::Lambda(plan) => plan.unread(error),
            _ => unread(error),
        }
    }
}

/// Answers a request of any service.
pub(crate) async fn answer(
    api: &Api,
    head: &Parts,
    body: Body,
    context: &Context,
    id: RequestId,
) -> Response<Body> {
    let claim = match api.iam.begin(head) {
        Ok(claim) => claim,
        Err(error) => {
            let protocol = protocol::of_request(head, auth::claimed_service(head).as_deref());
            return protocol.refuse(&auth::refusal(&error, protocol), id);
        }
    };
    let protocol = protocol::of_request(head, Some(&claim.service));
    match serve(api, head, body, context, claim, protocol, id).await {
        Ok(response) => response,
        Err(failure) => protocol.refuse(&failure, id),
    }
}

async fn serve(
    api: &Api,
    head: &Parts,
    body: Body,
    context: &Context,
    claim: iam::Claim,
    protocol: Protocol,
    id: RequestId,
) -> Result<Response<Body>, Failure> {
    let service = claim.service.clone();
    let plan = plan(head, &service, protocol)?;
    let body = body::read(body, plan.body_limit(), api.patience).await.map_err(|error| plan.unread(error))?;
    let caller = claim.finish(&body).map_err(|error| auth::refusal(&error, protocol))?.at(context.address);
    let request = Request { api, caller: &caller, head, body, context, id };
    match plan {
        Plan::Lambda(plan) => plan.run(&request).await,
        Plan::Logs => logs::run(&request).await,
        Plan::Sqs => sqs::run(&request, protocol).await,
        Plan::Sts => sts::run(&request),
        Plan::Identity => identity::run(&request).await,
        Plan::Signer => Ok(signer::run(&request).await),
        Plan::Absent => Err(absent(&service, protocol, head, &request.body)),
    }
}

/// What the head alone decides. S3 bodies may be endless, so S3 is refused here.
fn plan(head: &Parts, service: &str, protocol: Protocol) -> Result<Plan, Failure> {
    match (service, protocol) {
        ("lambda", _) => lambda::plan(&head.method, head.uri.path()).map(Plan::Lambda),
        ("logs", _) => Ok(Plan::Logs),
        ("sqs", Protocol::Json(_) | Protocol::Query) => Ok(Plan::Sqs),
        ("sts", _) => Ok(Plan::Sts),
        ("iam", _) => Ok(Plan::Identity),
        ("signer", _) => Ok(Plan::Signer),
        (_, Protocol::S3) => Err(absent(service, protocol, head, b"")),
        _ => Ok(Plan::Absent),
    }
}

/// The refusal of a service that is not built, in the words of its protocol.
fn absent(service: &str, protocol: Protocol, head: &Parts, body: &[u8]) -> Failure {
    match protocol {
        Protocol::Json(_) => {
            let target =
                head.headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
            unknown_operation(service, target.rsplit_once('.').map_or(target, |(_, operation)| operation))
        }
        Protocol::Cbor => unknown_operation(service, head.uri.path().rsplit('/').next().unwrap_or_default()),
        Protocol::Query | Protocol::Ec2 => invalid_action(service, action(head, body).as_deref()),
        Protocol::S3 => not_implemented("NotImplemented", service, head),
        Protocol::RestXml => not_implemented("NotImplemented", service, head),
        Protocol::RestJson => not_implemented("NotImplementedException", service, head),
    }
}

/// Paths do not say the operation's name without the service's model; method and path do as well.
fn not_implemented(code: &'static str, service: &str, head: &Parts) -> Failure {
    let message = format!(
        "The service '{service}' is not built in this server yet ({} {}).",
        head.method,
        head.uri.path()
    );
    Failure::new(code, StatusCode::NOT_IMPLEMENTED, message)
}

/// JSON protocols' refusal of an operation.
pub(crate) fn unknown_operation(service: &str, operation: &str) -> Failure {
    let operation = &operation[..operation.floor_char_boundary(100)];
    Failure::bad(
        "UnknownOperationException",
        format!("The operation '{operation}' of '{service}' is not built in this server yet."),
    )
}

/// Query protocols' refusal of an action.
pub(crate) fn invalid_action(service: &str, action: Option<&str>) -> Failure {
    let message = match action {
        Some(action) => {
            let action = &action[..action.floor_char_boundary(100)];
            format!("The action '{action}' of '{service}' is not built in this server yet.")
        }
        None => format!("The request to '{service}' names no Action."),
    };
    Failure::bad("InvalidAction", message)
}

/// The query protocol's `Action`, in the query or the form.
pub(crate) fn action(head: &Parts, body: &[u8]) -> Option<String> {
    let find = |text: &[u8]| {
        form_urlencoded::parse(text).find(|(name, _)| name == "Action").map(|(_, value)| value.into_owned())
    };
    find(head.uri.query().unwrap_or_default().as_bytes()).or_else(|| find(body))
}

fn unread(error: ReadError) -> Failure {
    match error {
        ReadError::TooLarge(limit) => Failure::new(
            "RequestEntityTooLarge",
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("Request must be smaller than {limit} bytes."),
        ),
        ReadError::TimedOut => Failure::new(
            "RequestTimeout",
            StatusCode::REQUEST_TIMEOUT,
            "The request's body did not arrive in time.",
        ),
        ReadError::Broken => {
            Failure::bad("IncompleteBody", "The request's body ended early or is malformed.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn services_that_are_not_built_are_refused_by_name() {
        let form: &[(&str, &str)] = &[("content-type", "application/x-www-form-urlencoded")];
        let states: &[(&str, &str)] = &[
            ("x-amz-target", "AWSStepFunctions.ListActivities"),
            ("content-type", "application/x-amz-json-1.0"),
        ];
        let cbor: &[(&str, &str)] = &[("smithy-protocol", "rpc-v2-cbor")];
        for (service, uri, headers, body, code, status, named) in [
            ("states", "/", states, "", "UnknownOperationException", 400, "ListActivities"),
            ("iam", "/", form, "Action=CreateRole&Version=2010-05-08", "InvalidAction", 400, "CreateRole"),
            ("iam", "/?Action=ListRoles", &[], "", "InvalidAction", 400, "ListRoles"),
            ("ec2", "/", form, "Action=RunInstances", "InvalidAction", 400, "RunInstances"),
            ("s3", "/bucket/key", &[], "", "NotImplemented", 501, "/bucket/key"),
            ("scheduler", "/schedules", &[], "", "NotImplementedException", 501, "scheduler"),
            (
                "monitoring",
                "/service/X/operation/ListMetrics",
                cbor,
                "",
                "UnknownOperationException",
                400,
                "ListMetrics",
            ),
            ("no-such-service", "/x", &[], "", "NotImplementedException", 501, "no-such-service"),
        ] {
            let head = head("POST", uri, headers);
            let protocol = protocol::of_request(&head, Some(service));
            let failure = absent(service, protocol, &head, body.as_bytes());
            assert_eq!((&*failure.code, failure.status.as_u16()), (code, status), "{service}");
            assert!(failure.message.contains(named), "{service}: {}", failure.message);
        }
    }

    #[test]
    fn s3_is_refused_before_its_body() {
        let head = head("PUT", "/bucket/key", &[]);
        assert!(plan(&head, "s3", Protocol::S3).is_err());
        assert!(plan(&head, "states", Protocol::Json("1.0")).is_ok());
    }
}
