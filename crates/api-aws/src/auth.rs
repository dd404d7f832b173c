//! Why a request was not let in, in each protocol's own words.

use http::{StatusCode, request::Parts};
use iam::AuthError;

use crate::failure::Failure;
use crate::protocol::Protocol;

/// The refusal of an unauthenticated request.
pub(crate) fn refusal(error: &AuthError, protocol: Protocol) -> Failure {
    let (code, status) = match protocol {
        Protocol::RestJson => (json_code(error), StatusCode::FORBIDDEN),
        Protocol::Json(_) | Protocol::Cbor => (json_code(error), StatusCode::BAD_REQUEST),
        Protocol::Query | Protocol::RestXml => (query_code(error), StatusCode::FORBIDDEN),
        Protocol::Ec2 => (ec2_code(error), StatusCode::UNAUTHORIZED),
        Protocol::S3 => s3_code(error),
    };
    Failure::new(code, status, error.to_string())
}

fn json_code(error: &AuthError) -> &'static str {
    match error {
        AuthError::MissingToken => "MissingAuthenticationTokenException",
        AuthError::IncompleteSignature(_) => "IncompleteSignatureException",
        AuthError::UnrecognizedClient => "UnrecognizedClientException",
        AuthError::SignatureMismatch | AuthError::Expired(_) | AuthError::InvalidScope(_) => {
            "InvalidSignatureException"
        }
    }
}

fn query_code(error: &AuthError) -> &'static str {
    match error {
        AuthError::MissingToken => "MissingAuthenticationToken",
        AuthError::IncompleteSignature(_) => "IncompleteSignature",
        AuthError::UnrecognizedClient => "InvalidClientTokenId",
        AuthError::SignatureMismatch | AuthError::Expired(_) | AuthError::InvalidScope(_) => {
            "SignatureDoesNotMatch"
        }
    }
}

fn ec2_code(error: &AuthError) -> &'static str {
    match error {
        AuthError::Expired(_) => "RequestExpired",
        AuthError::IncompleteSignature(_) => "IncompleteSignature",
        AuthError::MissingToken
        | AuthError::UnrecognizedClient
        | AuthError::SignatureMismatch
        | AuthError::InvalidScope(_) => "AuthFailure",
    }
}

fn s3_code(error: &AuthError) -> (&'static str, StatusCode) {
    match error {
        AuthError::MissingToken => ("AccessDenied", StatusCode::FORBIDDEN),
        AuthError::IncompleteSignature(_) | AuthError::InvalidScope(_) => {
            ("AuthorizationHeaderMalformed", StatusCode::BAD_REQUEST)
        }
        AuthError::UnrecognizedClient => ("InvalidAccessKeyId", StatusCode::FORBIDDEN),
        AuthError::SignatureMismatch => ("SignatureDoesNotMatch", StatusCode::FORBIDDEN),
        AuthError::Expired(_) => ("RequestTimeTooSkewed", StatusCode::FORBIDDEN),
    }
}

/// The service that a request says it is for, before anything about it is believed: only good for choosing
/// the dialect of a refusal.
pub(crate) fn claimed_service(head: &Parts) -> Option<String> {
    let header = head.headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let scope = match header {
        Some(header) => header.split_once("Credential=")?.1.split([',', ' ']).next()?.to_owned(),
        None => form_urlencoded::parse(head.uri.query()?.as_bytes())
            .find(|(name, _)| name == "X-Amz-Credential")?
            .1
            .into_owned(),
    };
    let service = scope.rsplit('/').nth(1)?;
    Some(service.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protocol_has_its_own_name_for_each_error() {
        let malformed = AuthError::IncompleteSignature("no date".into());
        let expired = AuthError::Expired("Signature expired".into());
        for (error, protocol, code, status) in [
            (&AuthError::MissingToken, Protocol::RestJson, "MissingAuthenticationTokenException", 403),
            (&AuthError::UnrecognizedClient, Protocol::RestJson, "UnrecognizedClientException", 403),
            (&AuthError::SignatureMismatch, Protocol::RestJson, "InvalidSignatureException", 403),
            (&malformed, Protocol::RestJson, "IncompleteSignatureException", 403),
            (&expired, Protocol::RestJson, "InvalidSignatureException", 403),
            (&AuthError::UnrecognizedClient, Protocol::Json("1.1"), "UnrecognizedClientException", 400),
            (&AuthError::UnrecognizedClient, Protocol::Query, "InvalidClientTokenId", 403),
            (&AuthError::SignatureMismatch, Protocol::Query, "SignatureDoesNotMatch", 403),
            (&AuthError::UnrecognizedClient, Protocol::S3, "InvalidAccessKeyId", 403),
            (&malformed, Protocol::S3, "AuthorizationHeaderMalformed", 400),
            (&AuthError::SignatureMismatch, Protocol::Ec2, "AuthFailure", 401),
        ] {
            let failure = refusal(error, protocol);
            assert_eq!((&*failure.code, failure.status.as_u16()), (code, status), "{error:?} {protocol:?}");
        }
    }

    #[test]
    fn the_scope_names_the_service() {
        let by_header =
            "AWS4-HMAC-SHA256 Credential=AKID/20261120/us-east-1/sqs/aws4_request, SignedHeaders=host";
        for (header, uri, expect) in [
            (Some(by_header), "/", Some("sqs")),
            (Some("Bearer x"), "/", None),
            (None, "/?X-Amz-Credential=AKID%2F20261120%2Fus-east-1%2Fs3%2Faws4_request", Some("s3")),
            (None, "/?a=b", None),
            (None, "/", None),
        ] {
            let mut request = http::Request::get(uri);
            if let Some(header) = header {
                request = request.header("authorization", header);
            }
            let head = request.body(()).unwrap().into_parts().0;
            assert_eq!(claimed_service(&head).as_deref(), expect, "{uri}");
        }
    }
}
