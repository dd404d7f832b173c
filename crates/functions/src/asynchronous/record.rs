//! What a destination is told: Lambda's invocation record, version 1.0 (Lambda: adding a destination).

use base::Timestamp;
use bytes::Bytes;
use sandbox::FunctionError;
use serde::Serialize;
use serde_json::value::RawValue;

use super::head::Head;
use crate::Error;

/// What there is to tell.
pub(crate) struct Happened<'a> {
    pub(crate) now: Timestamp,
    pub(crate) head: &'a Head,
    /// Qualified.
    pub(crate) function: String,
    /// `Success`, or why it was given up.
    pub(crate) condition: &'a str,
    pub(crate) invokes: u32,
    pub(crate) payload: &'a Bytes,
    /// The version that ran last and what it answered; nothing if none did.
    pub(crate) answer: Option<(&'a str, &'a Result<Bytes, FunctionError>)>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    version: &'static str,
    timestamp: String,
    request_context: RequestContext<'a>,
    request_payload: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_context: Option<ResponseContext<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_payload: Option<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    request_id: &'a str,
    function_arn: &'a str,
    condition: &'a str,
    approximate_invoke_count: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseContext<'a> {
    status_code: u16,
    executed_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_error: Option<&'static str>,
}

/// The record as JSON.
pub(crate) fn record(happened: &Happened<'_>) -> Result<Bytes, Error> {
    let answer = happened.answer.as_ref();
    let record = Record {
        version: "1.0",
        timestamp: happened.now.to_rfc3339(),
        request_context: RequestContext {
            request_id: &happened.head.id,
            function_arn: &happened.function,
            condition: happened.condition,
            approximate_invoke_count: happened.invokes,
        },
        request_payload: raw(happened.payload)?,
        response_context: answer.map(|(version, result)| ResponseContext {
            status_code: 200,
            executed_version: version,
            function_error: result.as_ref().err().map(kind),
        }),
        response_payload: answer.map(|(_, result)| raw(payload(result))).transpose()?,
    };
    serde_json::to_vec(&record).map(Bytes::from).map_err(Error::internal)
}

/// What a function answered, whichever way.
pub(crate) fn payload(result: &Result<Bytes, FunctionError>) -> &Bytes {
    match result {
        Ok(bytes) => bytes,
        Err(error) => &error.json,
    }
}

/// As an Invoke's answer says it.
fn kind(error: &FunctionError) -> &'static str {
    if error.error_type.as_deref() == Some("Handled") { "Handled" } else { "Unhandled" }
}

/// JSON as it is; what is none as a string.
fn raw(bytes: &Bytes) -> Result<Box<RawValue>, Error> {
    let text = String::from_utf8_lossy(bytes);
    match serde_json::from_str::<Box<RawValue>>(&text) {
        Ok(raw) => Ok(raw),
        Err(_) if text.trim().is_empty() => RawValue::from_string("null".to_owned()).map_err(Error::internal),
        Err(_) => serde_json::value::to_raw_value(&text).map_err(Error::internal),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(answer: Option<&Result<Bytes, FunctionError>>) -> Value {
        let head = Head { id: "e4b46cbf-b738-4ba1-8880-a18cdf61200e".into(), ..Head::unknown(0) };
        let happened = Happened {
            now: Timestamp(1_795_160_258_123),
            head: &head,
            function: "arn:aws:lambda:us-east-2:123456789012:function:my-function:$LATEST".into(),
            condition: "RetriesExhausted",
            invokes: 3,
            payload: &Bytes::from_static(br#"{"ORDER_IDS":["9e07af03"]}"#),
            answer: answer.map(|answer| ("$LATEST", answer)),
        };
        serde_json::from_slice(&record(&happened).unwrap()).unwrap()
    }

    #[test]
    fn lambdas_own_example() {
        let json = Bytes::from_static(br#"{"errorMessage":"no","errorType":"E"}"#);
        let failed = Err(FunctionError { json, error_type: Some("E".into()) });
        assert_eq!(
            check(Some(&failed)),
            json!({
                "version": "1.0",
                "timestamp": "2026-11-20T07:37:38.123Z",
                "requestContext": {
                    "requestId": "e4b46cbf-b738-4ba1-8880-a18cdf61200e",
                    "functionArn": "arn:aws:lambda:us-east-2:123456789012:function:my-function:$LATEST",
                    "condition": "RetriesExhausted",
                    "approximateInvokeCount": 3
                },
                "requestPayload": { "ORDER_IDS": ["9e07af03"] },
                "responseContext": {
                    "statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"
                },
                "responsePayload": { "errorMessage": "no", "errorType": "E" }
            })
        );
    }

    #[test]
    fn what_never_ran_has_no_response() {
        let record = check(None);
        assert!(record.get("responseContext").is_none() && record.get("responsePayload").is_none());
        assert_eq!(check(Some(&Ok(Bytes::from_static(b"plain"))))["responsePayload"], "plain");
        assert_eq!(check(Some(&Ok(Bytes::new())))["responsePayload"], Value::Null);
    }
}
