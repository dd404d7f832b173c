//! `virga invoke NAME [EVENT]`

use std::io::Read;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use base64::Engine;
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::{function_path, text};
use crate::client::{Answer, Client};
use crate::failure::Failure;
use crate::output;
use crate::trace::Trace;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The function; NAME:VERSION and NAME:ALIAS call that version
    name: String,
    /// The event, JSON: as it is, @FILE, or - for standard input. Nothing means {}
    #[arg(value_name = "EVENT", conflicts_with = "event_file")]
    event: Option<String>,
    /// A file that holds the event
    #[arg(long, value_name = "FILE")]
    event_file: Option<PathBuf>,
    /// Do not wait: the event is kept until the function has run; prints the request's id
    #[arg(long = "async", conflicts_with_all = ["tail", "trace"])]
    later: bool,
    /// Show the end of the log on standard error
    #[arg(long)]
    tail: bool,
    /// Show what the call was made of, a cold start's phases among them, on standard error
    #[arg(long)]
    trace: bool,
}

/// Calls the function; its own failure is an error of the command.
pub(crate) async fn run(client: &Client, args: &Args, as_json: bool) -> Result<()> {
    let event = event(args)?;
    let mut headers = HeaderMap::new();
    if args.tail {
        headers.insert("x-amz-log-type", "Tail".parse()?);
    }
    if args.trace {
        headers.insert("x-virga-trace", "on".parse()?);
    }
    let path = function_path(&args.name, "/invocations");
    if args.later {
        headers.insert("x-amz-invocation-type", "Event".parse()?);
        let answer = client.send("lambda", Method::POST, &path, headers, event).await?;
        return accepted(&answer, as_json);
    }
    let began = Instant::now();
    let answer = client.send("lambda", Method::POST, &path, headers, event).await?;
    let took = began.elapsed();
    let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
    let tail = header("x-amz-log-result").map(decode).transpose()?;
    let failed = header("x-amz-function-error").map(str::to_owned);
    let trace = args.trace.then(|| {
        let timing = header("server-timing").context("the server does not trace: is it a Virga server?")?;
        Trace::read(timing, took)
    });
    let trace = trace.transpose()?;
    if as_json {
        print_json(&answer, failed.as_deref(), tail.as_deref(), trace.as_ref())?;
    } else {
        if let Some(trace) = &trace {
            eprint!("{}", trace.draw());
        }
        if let Some(tail) = &tail {
            eprintln!("{}", output::log_text(tail));
        }
        print_payload(&answer.body)?;
    }
    match failed {
        Some(kind) => Err(Failure::Function(failure_text(&args.name, &kind, &answer.body)).into()),
        None => Ok(()),
    }
}

/// The id by which logs and failed events name the call.
fn accepted(answer: &Answer, as_json: bool) -> Result<()> {
    let id = answer.headers.get("x-amzn-requestid").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if as_json { output::json(&json!({ "RequestId": id })) } else { output::line(id) }
}

fn event(args: &Args) -> Result<Bytes> {
    let file = |path: &PathBuf| {
        std::fs::read(path)
            .map(Bytes::from)
            .with_context(|| format!("cannot read the event from {}", path.display()))
    };
    match (&args.event_file, args.event.as_deref()) {
        (Some(path), _) => file(path),
        (None, None) => Ok(Bytes::from_static(b"{}")),
        (None, Some("-")) => {
            let mut event = Vec::new();
            std::io::stdin()
                .lock()
                .read_to_end(&mut event)
                .context("cannot read the event from standard input")?;
            Ok(event.into())
        }
        (None, Some(text)) => match text.strip_prefix('@') {
            Some("") => bail!("@ names no file"),
            Some(path) => file(&PathBuf::from(path)),
            None => Ok(Bytes::copy_from_slice(text.as_bytes())),
        },
    }
}

fn decode(base64: &str) -> Result<String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(base64).context("X-Amz-Log-Result")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// JSON is indented on a terminal; everything else goes out as it is.
fn print_payload(payload: &[u8]) -> Result<()> {
    if let Ok(value) = serde_json::from_slice::<Value>(payload) {
        return output::json(&value);
    }
    output::raw(payload)?;
    output::line("")
}

fn print_json(
    answer: &Answer,
    failed: Option<&str>,
    tail: Option<&str>,
    trace: Option<&Trace>,
) -> Result<()> {
    let payload = serde_json::from_slice(&answer.body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&answer.body).into_owned()));
    let version = answer.headers.get("x-amz-executed-version").and_then(|value| value.to_str().ok());
    let mut shown = json!({
        "ExecutedVersion": version,
        "FunctionError": failed,
        "LogTail": tail,
        "Payload": payload,
    });
    if let Some(trace) = trace {
        shown["Trace"] = trace.json();
    }
    output::json(&shown)
}

fn failure_text(name: &str, kind: &str, payload: &[u8]) -> String {
    let payload: Value = serde_json::from_slice(payload).unwrap_or_default();
    match (text(&payload, "errorType"), text(&payload, "errorMessage")) {
        ("", "") => format!("{name} failed ({kind})"),
        (error, message) => format!("{name} failed: {error}: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(event: Option<&str>) -> Args {
        Args {
            name: "f".to_owned(),
            event: event.map(str::to_owned),
            event_file: None,
            later: false,
            tail: false,
            trace: false,
        }
    }

    #[test]
    fn events_come_from_where_they_are_said_to() {
        assert_eq!(event(&args(None)).unwrap(), "{}");
        assert_eq!(event(&args(Some(r#"{"a": 1}"#))).unwrap(), r#"{"a": 1}"#);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[1]").unwrap();
        let at = format!("@{}", file.path().display());
        assert_eq!(event(&args(Some(&at))).unwrap(), "[1]");
        assert!(event(&args(Some("@/nowhere"))).is_err());
        assert!(event(&args(Some("@"))).is_err());
    }

    #[test]
    fn failures_name_the_error() {
        let text = failure_text("f", "Unhandled", br#"{"errorType": "ValueError", "errorMessage": "no"}"#);
        assert_eq!(text, "f failed: ValueError: no");
        assert_eq!(failure_text("f", "Unhandled", b"x"), "f failed (Unhandled)");
    }
}
