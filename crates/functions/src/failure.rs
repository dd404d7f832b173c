//! What callers are told when a call ends without the function's own answer: Lambda's error payloads.
//!
//! Pure. Every failure has a type, a message and a payload of both; nothing of the host's is in it.

use base::RequestId;
use bytes::Bytes;
use sandbox::{Error as SandboxError, Exit, Fault, FunctionError, StartError};
use serde_json::json;

use crate::limits;

/// A failure as the caller sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// For example `Runtime.ExitError`.
    pub(crate) error_type: String,
    /// With `RequestId: … Error: ` in front where Lambda has it.
    pub(crate) message: String,
    /// The payload where it is not made of these two: what the runtime client reported.
    reported: Option<Bytes>,
}

impl Failure {
    fn new(error_type: &str, message: String) -> Self {
        Self { error_type: error_type.to_owned(), message, reported: None }
    }

    /// `Timeout` is over.
    pub(crate) fn timed_out(id: RequestId, timeout_s: u32) -> Self {
        let message = format!("RequestId: {id} Error: Task timed out after {timeout_s}.00 seconds");
        Self::new("Sandbox.Timedout", message)
    }

    /// An instance ended during a call or during initialisation.
    pub(crate) fn exited(id: RequestId, exit: Exit) -> Self {
        let (error_type, how) = match exit {
            Exit::Code(0) => ("Runtime.ExitError", "Runtime exited without providing a reason".to_owned()),
            Exit::Code(code) => {
                ("Runtime.ExitError", format!("Runtime exited with error: exit status {code}"))
            }
            Exit::Signal(signal) => {
                ("Runtime.ExitError", format!("Runtime exited with error: signal: {}", signal_name(signal)))
            }
            Exit::OutOfMemory => {
                ("Runtime.OutOfMemory", "Runtime exited with error: signal: killed".to_owned())
            }
            Exit::Stopped => ("Sandbox.Stopped", "The instance was stopped".to_owned()),
        };
        Self::new(error_type, format!("RequestId: {id} Error: {how}"))
    }

    /// A call came to nothing.
    pub(crate) fn fault(id: RequestId, fault: &Fault) -> Self {
        match fault {
            Fault::Exited(exit) | Fault::NotDelivered(exit) => Self::exited(id, *exit),
            Fault::AnswerTooLarge { limit, .. } => Self::too_large(*limit),
            Fault::Truncated => {
                let text = format!("RequestId: {id} Error: The answer broke off before its end");
                Self::new("Runtime.TruncatedResponse", text)
            }
            Fault::Trap(text) => Self::new("Runtime.Trap", format!("RequestId: {id} Error: {text}")),
            Fault::BadAnswer(text) => {
                Self::new("Runtime.BadAnswer", format!("RequestId: {id} Error: {text}"))
            }
        }
    }

    /// The answer to an event is over the limit (Lambda quotas).
    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("Response payload size exceeded maximum allowed payload size ({limit} bytes).");
        Self::new("Function.ResponseSizeTooLarge", message)
    }

    /// The instance that was started for the call did not come up. `None`: the host's fault, not the function's.
    pub(crate) fn start(id: RequestId, error: &StartError, init_timeout_s: f64) -> Option<Self> {
        match error {
            StartError::Init { json, error_type } => Some(Self::reported(json, error_type.as_deref())),
            StartError::Exited(exit) => Some(Self::exited(id, *exit)),
            StartError::TimedOut => Some(Self::new(
                "Sandbox.Timedout",
                format!("RequestId: {id} Error: Initialization timed out after {init_timeout_s:.2} seconds"),
            )),
            StartError::Entrypoint(text) => {
                Some(Self::new("Runtime.InvalidEntrypoint", format!("RequestId: {id} Error: {text}")))
            }
            StartError::Sandbox(SandboxError::Invalid(text)) => {
                Some(Self::new("Runtime.InvalidEntrypoint", format!("RequestId: {id} Error: {text}")))
            }
            StartError::Sandbox(_) => None,
        }
    }

    /// What the runtime client said itself.
    fn reported(json: &Bytes, error_type: Option<&str>) -> Self {
        let value: serde_json::Value = serde_json::from_slice(json).unwrap_or_default();
        let text = |key: &str| value.get(key).and_then(|text| text.as_str()).map(str::to_owned);
        let error_type = error_type.map(str::to_owned).or_else(|| text("errorType"));
        Self {
            error_type: error_type.unwrap_or_else(|| "Runtime.Unknown".into()),
            message: text("errorMessage").unwrap_or_else(|| "initialisation failed".into()),
            reported: Some(json.clone()),
        }
    }

    /// A web server answered an Invoke with a status that is no success.
    pub(crate) fn status(id: RequestId, status: u16, body: &[u8]) -> Self {
        let message = format!("RequestId: {id} Error: The web server answered with status {status}");
        let text = String::from_utf8_lossy(body);
        let payload = json!({
            "errorType": "Http.Status", "errorMessage": message, "statusCode": status, "body": text,
        });
        let payload = payload.to_string();
        // Escaped, a body within the limit may have become six times as long.
        if payload.len() > limits::PAYLOAD_BYTES {
            return Self::too_large(limits::PAYLOAD_BYTES);
        }
        Self { reported: Some(payload.into()), ..Self::new("Http.Status", message) }
    }

    /// The payload of an Invoke's answer.
    pub(crate) fn into_function_error(self) -> FunctionError {
        let made =
            || json!({ "errorType": self.error_type, "errorMessage": self.message }).to_string().into();
        FunctionError { json: self.reported.clone().unwrap_or_else(made), error_type: Some(self.error_type) }
    }
}

/// As Go's os package prints signals, whose words Lambda's messages are.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        11 => "segmentation fault",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        31 => "bad system call",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "8f507cfc-8f5b-4b8a-a0a8-0a4c4d3f5b11";

    fn payload(failure: impl FnOnce(RequestId) -> Failure) -> String {
        let failure = failure(RequestId::parse(ID).unwrap());
        String::from_utf8(failure.into_function_error().json.to_vec()).unwrap().replace(ID, "ID")
    }

    #[test]
    fn exits_have_lambdas_words() {
        for (exit, expect) in [
            (
                Exit::Code(1),
                r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited with error: exit status 1"}"#,
            ),
            (
                Exit::Code(0),
                r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited without providing a reason"}"#,
            ),
            (
                Exit::Signal(9),
                r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited with error: signal: killed"}"#,
            ),
            (
                Exit::OutOfMemory,
                r#"{"errorType":"Runtime.OutOfMemory","errorMessage":"RequestId: ID Error: Runtime exited with error: signal: killed"}"#,
            ),
        ] {
            assert_eq!(payload(|id| Failure::exited(id, exit)), expect);
        }
        assert_eq!(
            payload(|id| Failure::timed_out(id, 1)),
            r#"{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: ID Error: Task timed out after 1.00 seconds"}"#
        );
    }

    #[test]
    fn a_status_with_too_long_a_body_is_too_large() {
        assert!(payload(|id| Failure::status(id, 500, b"broken")).contains(r#""body":"broken""#));
        let escaped = payload(|id| Failure::status(id, 500, &vec![0; limits::PAYLOAD_BYTES / 2]));
        assert!(escaped.starts_with(r#"{"errorType":"Function.ResponseSizeTooLarge""#));
    }

    #[test]
    fn init_reports_pass_through() {
        let json = Bytes::from_static(
            br#"{"errorType":"Runtime.ImportModuleError","errorMessage":"no x","stackTrace":[]}"#,
        );
        let error = StartError::Init { json: json.clone(), error_type: None };
        let failure = Failure::start(RequestId::random(), &error, 10.0).unwrap();
        assert_eq!(
            (failure.error_type.as_str(), failure.message.as_str()),
            ("Runtime.ImportModuleError", "no x")
        );
        assert_eq!(failure.into_function_error().json, json);
    }
}
