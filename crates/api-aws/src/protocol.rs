//! The wire protocols of AWS's services, and how each writes an error down.
//!
//! Known for services that are not built too: their clients must be able to read the refusal.

use base::RequestId;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode, request::Parts};
use sandbox::Body;
use serde_json::{Value, json};

use crate::failure::Failure;

/// How a service's requests and answers look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Paths and methods, JSON bodies.
    RestJson,
    /// `X-Amz-Target` and a JSON body; the version is that of the content type.
    Json(&'static str),
    /// `Action=…` in a form, XML answers.
    Query,
    /// EC2's variety of the query protocol.
    Ec2,
    /// S3: paths and methods, XML bodies, errors without an envelope.
    S3,
    /// Paths and methods, XML bodies, errors in an envelope.
    RestXml,
    /// Smithy RPC v2 in CBOR.
    Cbor,
}

/// The protocol of the service with this signing name, as the published models have it.
pub(crate) fn of_service(service: &str) -> Option<Protocol> {
    Some(match service {
        "lambda" | "signer" | "scheduler" | "apigateway" | "execute-api" | "appsync" | "xray" | "batch"
        | "eks" | "elasticfilesystem" | "kafka" | "iot" | "bedrock" | "glacier" => Protocol::RestJson,
        "logs" | "events" | "kinesis" | "kms" | "secretsmanager" | "ssm" | "ecr" | "ecs" | "cognito-idp"
        | "cognito-identity" | "firehose" | "acm" | "tagging" | "athena" | "glue" | "codebuild"
        | "codepipeline" | "organizations" => Protocol::Json("1.1"),
        "sqs" | "states" | "dynamodb" | "servicediscovery" => Protocol::Json("1.0"),
        "sts"
        | "iam"
        | "sns"
        | "cloudformation"
        | "autoscaling"
        | "elasticloadbalancing"
        | "rds"
        | "ses"
        | "monitoring"
        | "elasticache"
        | "redshift" => Protocol::Query,
        "ec2" => Protocol::Ec2,
        "s3" | "s3express" | "s3-outposts" => Protocol::S3,
        "route53" | "cloudfront" | "s3control" => Protocol::RestXml,
        _ => return None,
    })
}

/// What a request looks like, whoever it is for: some services speak several protocols, and some requests
/// name no service.
pub(crate) fn of_request(head: &Parts, service: Option<&str>) -> Protocol {
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    if header("smithy-protocol") == Some("rpc-v2-cbor") {
        return Protocol::Cbor;
    }
    if header("x-amz-target").is_some() {
        let version_1_0 =
            header("content-type").is_some_and(|kind| kind.starts_with("application/x-amz-json-1.0"));
        return Protocol::Json(if version_1_0 { "1.0" } else { "1.1" });
    }
    let form =
        header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    let known = service.and_then(of_service);
    if form && matches!(known, None | Some(Protocol::Json(_))) {
        return Protocol::Query;
    }
    // The query protocol's form may be the query of a GET: what speaks JSON alone has no actions there.
    let query = head.uri.query().unwrap_or_default();
    let mut names = form_urlencoded::parse(query.as_bytes());
    if matches!(known, Some(Protocol::Json(_))) && names.any(|(name, _)| name == "Action") {
        return Protocol::Query;
    }
    known.unwrap_or(Protocol::RestJson)
}

impl Protocol {
    /// The error as this protocol's clients read it.
    pub(crate) fn refuse(self, failure: &Failure, id: RequestId) -> Response<Body> {
        let (kind, body) = match self {
            Self::RestJson => ("application/json", rest_json(failure).to_string().into_bytes()),
            Self::Json("1.0") => ("application/x-amz-json-1.0", json_rpc(failure).to_string().into_bytes()),
            Self::Json(_) => ("application/x-amz-json-1.1", json_rpc(failure).to_string().into_bytes()),
            Self::Query | Self::RestXml => ("text/xml", query(failure, id).into_bytes()),
            Self::Ec2 => ("text/xml", ec2(failure, id).into_bytes()),
            Self::S3 => ("application/xml", s3(failure, id).into_bytes()),
            Self::Cbor => ("application/cbor", cbor(failure)),
        };
        let mut response = answer(failure.status, kind, body);
        self.error_headers(failure, response.headers_mut());
        response
    }

    fn error_headers(self, failure: &Failure, headers: &mut http::HeaderMap) {
        if matches!(self, Self::RestJson | Self::Json(_))
            && let Ok(code) = HeaderValue::from_str(&failure.code)
        {
            headers.insert(HeaderName::from_static("x-amzn-errortype"), code);
        }
        if let (Self::Json(_), Some(code)) = (self, failure.query_code) {
            let kind = if failure.by_sender() { "Sender" } else { "Receiver" };
            if let Ok(value) = HeaderValue::try_from(format!("{code};{kind}")) {
                headers.insert(HeaderName::from_static("x-amzn-query-error"), value);
            }
        }
        if self == Self::Cbor {
            headers
                .insert(HeaderName::from_static("smithy-protocol"), HeaderValue::from_static("rpc-v2-cbor"));
        }
        if let Some(retry) = failure.retry {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(retry.after_ms)));
            headers.insert(HeaderName::from_static("retry-after-ms"), HeaderValue::from(retry.after_ms));
        }
        if failure.status == StatusCode::PAYLOAD_TOO_LARGE {
            // The rest of the body is not read, so the connection cannot carry another request.
            headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// RFC 9110 §10.2.3 has whole seconds only; rounding up never asks too early.
fn whole_seconds(milliseconds: u64) -> u64 {
    milliseconds.div_ceil(1000).max(1)
}

/// A response with a body held whole.
pub(crate) fn answer(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<bytes::Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Lambda writes `Message` for some errors and `message` for others; the models say which.
fn rest_json(failure: &Failure) -> Value {
    let capital = matches!(
        &*failure.code,
        "ResourceNotFoundException"
            | "ServiceException"
            | "AccessDeniedException"
            | "InvalidRuntimeException"
    );
    let key = if capital { "Message" } else { "message" };
    let kind = if failure.by_sender() { "User" } else { "Service" };
    let mut body = json!({ "Type": kind, key: failure.message });
    if let Some(reason) = failure.retry.and_then(|retry| retry.reason) {
        body["Reason"] = json!(reason);
    }
    body
}

fn json_rpc(failure: &Failure) -> Value {
    json!({ "__type": failure.code, "message": failure.message })
}

fn query(failure: &Failure, id: RequestId) -> String {
    let kind = if failure.by_sender() { "Sender" } else { "Receiver" };
    format!(
        "<ErrorResponse><Error><Type>{kind}</Type><Code>{}</Code><Message>{}</Message></Error>\
         <RequestId>{id}</RequestId></ErrorResponse>\n",
        escape(failure.query_code.unwrap_or(&failure.code)),
        escape(&failure.message)
    )
}

fn ec2(failure: &Failure, id: RequestId) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{}</Code>\
         <Message>{}</Message></Error></Errors><RequestID>{id}</RequestID></Response>\n",
        escape(&failure.code),
        escape(&failure.message)
    )
}

fn s3(failure: &Failure, id: RequestId) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{}</Code><Message>{}</Message>\
         <RequestId>{id}</RequestId></Error>\n",
        escape(&failure.code),
        escape(&failure.message)
    )
}

/// A map of two texts (RFC 8949 §3.1: major type 5, then major type 3).
fn cbor(failure: &Failure) -> Vec<u8> {
    let mut out = vec![0xa2];
    for text in ["__type", &failure.code, "message", &failure.message] {
        cbor_text(&mut out, text);
    }
    out
}

fn cbor_text(out: &mut Vec<u8>, text: &str) {
    // Messages are made here and short; the cut keeps the length within two bytes whatever happens.
    let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
    match text.len() {
        length @ 0..=23 => out.push(0x60 | length as u8),
        length @ 24..=255 => out.extend([0x78, length as u8]),
        length => {
            out.push(0x79);
            out.extend((length as u16).to_be_bytes());
        }
    }
    out.extend(text.as_bytes());
}

/// Text made safe inside an XML element. Characters that XML 1.0 cannot hold become U+FFFD.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' => out.push(character),
            '\r' => out.push_str("&#13;"),
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Retry;
    use http_body_util::BodyExt;

    async fn text(response: Response<Body>) -> String {
        let body = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8_lossy(&body).into_owned()
    }

    fn id() -> RequestId {
        RequestId::parse("00000000-0000-4000-8000-000000000000").unwrap()
    }

    #[tokio::test]
    async fn one_failure_in_every_dialect() {
        let failure = Failure::bad("Broken", "a <b> & \"c\"");
        let cases = [
            (Protocol::RestJson, r#"{"Type":"User","message":"a <b> & \"c\""}"#),
            (Protocol::Json("1.1"), r#"{"__type":"Broken","message":"a <b> & \"c\""}"#),
            (
                Protocol::Query,
                "<ErrorResponse><Error><Type>Sender</Type><Code>Broken</Code><Message>a &lt;b&gt; &amp; \
                 &quot;c&quot;</Message></Error><RequestId>00000000-0000-4000-8000-000000000000</RequestId>\
                 </ErrorResponse>\n",
            ),
            (
                Protocol::S3,
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>Broken</Code><Message>a &lt;b&gt; \
                 &amp; &quot;c&quot;</Message><RequestId>00000000-0000-4000-8000-000000000000</RequestId>\
                 </Error>\n",
            ),
            (Protocol::Cbor, "\u{fffd}f__typefBrokengmessageka <b> & \"c\""),
        ];
        for (protocol, expect) in cases {
            let response = protocol.refuse(&failure, id());
            assert_eq!(response.status(), 400, "{protocol:?}");
            assert_eq!(text(response).await, expect, "{protocol:?}");
        }
    }

    #[tokio::test]
    async fn a_throttled_client_is_told_when_to_return() {
        let mut failure =
            Failure::new("TooManyRequestsException", StatusCode::TOO_MANY_REQUESTS, "Rate Exceeded.");
        failure.retry = Some(Retry { reason: Some("ConcurrentInvocationLimitExceeded"), after_ms: 1_250 });
        let response = Protocol::RestJson.refuse(&failure, id());
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(response.headers()["retry-after-ms"], "1250");
        assert_eq!(response.headers()["x-amzn-errortype"], "TooManyRequestsException");
        assert_eq!(
            text(response).await,
            r#"{"Type":"User","message":"Rate Exceeded.","Reason":"ConcurrentInvocationLimitExceeded"}"#
        );
    }

    #[test]
    fn the_request_tells_its_protocol() {
        let head = |headers: &[(&str, &str)]| {
            let mut request = http::Request::post("/");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            request.body(()).unwrap().into_parts().0
        };
        let form = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
        let json_1_0 = ("content-type", "application/x-amz-json-1.0");
        let target = ("x-amz-target", "AmazonSQS.SendMessage");
        for (headers, service, expect) in [
            (&[][..], None, Protocol::RestJson),
            (&[], Some("s3"), Protocol::S3),
            (&[], Some("sts"), Protocol::Query),
            (&[form], Some("sqs"), Protocol::Query),
            (&[form], None, Protocol::Query),
            (&[json_1_0, target], Some("sqs"), Protocol::Json("1.0")),
            (&[target], None, Protocol::Json("1.1")),
            (&[("smithy-protocol", "rpc-v2-cbor")], Some("monitoring"), Protocol::Cbor),
        ] {
            assert_eq!(of_request(&head(headers), service), expect, "{headers:?} {service:?}");
        }
    }

    #[test]
    fn cbor_texts_carry_their_length() {
        for (length, prefix) in
            [(0, vec![0x60]), (23, vec![0x77]), (24, vec![0x78, 24]), (300, vec![0x79, 1, 44])]
        {
            let mut out = Vec::new();
            cbor_text(&mut out, &"x".repeat(length));
            assert_eq!(out[..prefix.len()], prefix);
            assert_eq!(out.len(), prefix.len() + length);
        }
    }
}
