//! What the store answers: the object, whole and no larger than it may be, or an error in S3's XML.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use functions::{ObjectError, ObjectRef};
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::unavailable;

/// Bytes of an error that are read, and characters of its message that are passed on.
const ERROR_BYTES: usize = 16 << 10;
const MESSAGE_CHARS: usize = 300;

/// Reads it.
pub(super) async fn read(
    response: Response<Incoming>,
    object: &ObjectRef,
    most: usize,
    silence: Duration,
) -> Result<Bytes, ObjectError> {
    let (head, body) = response.into_parts();
    if head.status != StatusCode::OK {
        let text = collect(body, ERROR_BYTES, silence).await.unwrap_or_default();
        return Err(refused(head.status, &String::from_utf8_lossy(&text)));
    }
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    // A store that does not keep versions would give the newest instead.
    if object.version.is_some() && header("x-amz-version-id") != object.version.as_deref() {
        return Err(ObjectError::Refused {
            code: "NoSuchVersion".into(),
            message: "The store answered with another version than the one that was asked for.".into(),
            denied: false,
        });
    }
    let Some(length) = header("content-length").and_then(|text| text.parse::<u64>().ok()) else {
        return Err(unavailable("it does not say how long the object is".to_owned()));
    };
    if length > most as u64 {
        return Err(ObjectError::TooLarge);
    }
    let bytes = collect(body, most, silence).await?;
    // hyper holds the body to its length; this is for one that is no HTTP/1.1 body at all.
    if bytes.len() as u64 != length {
        return Err(unavailable("the object ended early".to_owned()));
    }
    Ok(bytes)
}

/// The body, each part of which has to come within a time.
async fn collect(mut body: Incoming, most: usize, silence: Duration) -> Result<Bytes, ObjectError> {
    let mut bytes = BytesMut::new();
    while !body.is_end_stream() {
        let frame = tokio::time::timeout(silence, body.frame()).await;
        match frame.map_err(|_| unavailable("it stopped sending".to_owned()))? {
            None => break,
            Some(frame) => {
                let frame = frame.map_err(|error| unavailable(format!("it broke off: {error}")))?;
                let Some(data) = frame.data_ref() else { continue };
                if bytes.len() + data.len() > most {
                    return Err(ObjectError::TooLarge);
                }
                bytes.extend_from_slice(data);
            }
        }
    }
    Ok(bytes.freeze())
}

/// An error by S3's own code where there is one. A redirect is one too: nothing else than the endpoint is asked.
fn refused(status: StatusCode, text: &str) -> ObjectError {
    if status.is_server_error() {
        return unavailable(format!("it answered {status}"));
    }
    let usual = match status {
        StatusCode::NOT_FOUND => "NoSuchKey",
        StatusCode::FORBIDDEN => "AccessDenied",
        _ if status.is_redirection() => "PermanentRedirect",
        _ => "InvalidRequest",
    };
    let code = element(text, "Code").filter(|code| code.bytes().all(|b| b.is_ascii_alphanumeric()));
    let message = element(text, "Message").unwrap_or_default();
    let message: String = message.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS).collect();
    ObjectError::Refused {
        code: code.unwrap_or(usual).to_owned(),
        message: if message.is_empty() { format!("the store answered {status}") } else { message },
        denied: matches!(status, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED),
    }
}

/// The text of the first element of this name. Not a parser of XML: what it finds is shown, and nothing follows from it.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once('<').map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_in_s3s_words() {
        let xml = "<?xml?><Error><Code>NoSuchBucket</Code><Message>The bucket\u{7} is not</Message></Error>";
        let told = |status: u16, text: &str| refused(StatusCode::from_u16(status).unwrap(), text);
        assert_eq!(
            told(404, xml),
            ObjectError::Refused {
                code: "NoSuchBucket".into(),
                message: "The bucket is not".into(),
                denied: false
            }
        );
        for (status, code, denied) in
            [(404, "NoSuchKey", false), (403, "AccessDenied", true), (301, "PermanentRedirect", false)]
        {
            let message = format!("the store answered {}", StatusCode::from_u16(status).unwrap());
            assert_eq!(told(status, ""), ObjectError::Refused { code: code.into(), message, denied });
        }
        assert!(matches!(told(503, xml), ObjectError::Unavailable(_)));
    }
}
