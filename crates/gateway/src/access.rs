//! Who may call a function URL: everybody, or who signs and may (`AuthType` `AWS_IAM`).
//!
//! A signature covers the body's hash. Where the head states that hash (`X-Amz-Content-Sha256`), the signature is
//! checked at once and the body streams on through a check of its own, which holds the last piece back until the hash
//! is known: what was not signed never arrives whole. A request that states none has its body read first, up to the
//! size of an event. Unsigned payloads are refused, as Lambda does.

use std::pin::Pin;
use std::task::{Context, Poll};

use api_aws::body as reading;
use bytes::Bytes;
use functions::Route;
use functions::model::UrlAuth;
use http::header::{HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use iam::{AuthError, Caller, Claim, Stated};
use sandbox::{Body, BoxError};
use sha2::{Digest, Sha256};

use crate::connection::Connection;
use crate::{function, limits, refusal};

/// Who signed a request.
pub(crate) struct Signer {
    pub(crate) access_key_id: String,
    pub(crate) caller: Caller,
}

/// A request that was let in.
pub(crate) struct Admitted {
    pub(crate) request: Box<Request<Body>>,
    /// `None` at a public URL.
    pub(crate) signer: Option<Signer>,
}

/// Lets the request in, or says why not.
pub(crate) async fn admit(
    connection: &Connection,
    route: &Route,
    request: Box<Request<Body>>,
) -> Result<Admitted, Response<Body>> {
    let functions = &connection.gateway.functions;
    if route.url.auth == UrlAuth::None {
        functions.permit_url(None, connection.peer, route).map_err(|error| refusal::of(&error))?;
        return Ok(Admitted { request, signer: None });
    }
    let (head, body) = request.into_parts();
    let claim = connection.gateway.api.iam.begin(&head).map_err(|error| refused(&error))?;
    if claim.service != "lambda" {
        let text = "Credential should be scoped to correct service: 'lambda'.";
        return Err(refused(&AuthError::InvalidScope(text.into())));
    }
    let access_key_id = claim.access_key_id().to_owned();
    let (caller, body) = check(connection, claim, body).await?;
    let caller = caller.at(connection.peer);
    functions.permit_url(Some(&caller), connection.peer, route).map_err(|error| refusal::of(&error))?;
    let request = Box::new(Request::from_parts(head, body));
    Ok(Admitted { request, signer: Some(Signer { access_key_id, caller }) })
}

/// Checks the signature; the body is one that can be trusted as far as it comes.
async fn check(connection: &Connection, claim: Claim, body: Body) -> Result<(Caller, Body), Response<Body>> {
    match claim.stated().map_err(|error| refused(&error))? {
        Stated::Hash(caller, hash) => Ok((caller, Body::boxed(Checked::new(body, hash)))),
        Stated::Nothing(claim) => {
            let patience = connection.gateway.settings.patience;
            let body = reading::read(body, limits::EVENT_BODY, patience).await.map_err(function::unread)?;
            let caller = claim.finish(&body).map_err(|error| refused(&error))?;
            Ok((caller, Body::from(body)))
        }
    }
}

/// A refusal in the words of Lambda's URLs.
fn refused(error: &AuthError) -> Response<Body> {
    let (name, body) = match error {
        AuthError::MissingToken => ("AccessDeniedException", serde_json::json!({ "Message": "Forbidden" })),
        AuthError::IncompleteSignature(text) => ("IncompleteSignatureException", message(text)),
        AuthError::UnrecognizedClient => ("UnrecognizedClientException", message(&error.to_string())),
        AuthError::SignatureMismatch | AuthError::Expired(_) | AuthError::InvalidScope(_) => {
            ("InvalidSignatureException", message(&error.to_string()))
        }
    };
    let mut response = refusal::json(StatusCode::FORBIDDEN, &body);
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("x-amzn-errortype"), HeaderValue::from_static(name));
    // The body, if there is one, is not read.
    headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn message(text: &str) -> serde_json::Value {
    serde_json::json!({ "message": text })
}

/// A body that ends in an error unless it comes to the hash that was signed.
struct Checked {
    inner: Body,
    hasher: Sha256,
    wanted: [u8; 32],
    /// The last piece so far, which goes out when there is another or the hash is right.
    held: Option<Bytes>,
    done: bool,
}

/// The body is not the one that was signed.
#[derive(Debug, thiserror::Error)]
#[error("the body does not have the hash that was signed")]
struct AnotherBody;

impl Checked {
    fn new(inner: Body, wanted: [u8; 32]) -> Self {
        Self { inner, hasher: Sha256::new(), wanted, held: None, done: false }
    }

    /// What follows the last piece: it, if everything is right.
    fn end(&mut self) -> Option<Result<Frame<Bytes>, BoxError>> {
        self.done = true;
        let honest = self.hasher.finalize_reset()[..] == self.wanted;
        match (honest, self.held.take()) {
            (true, held) => held.map(|bytes| Ok(Frame::data(bytes))),
            (false, _) => Some(Err(Box::new(AnotherBody))),
        }
    }
}

impl HttpBody for Checked {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        while !this.done {
            match std::task::ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                None => return Poll::Ready(this.end()),
                Some(Err(error)) => {
                    this.done = true;
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(frame)) => {
                    // Trailers are not signed, so they are nothing.
                    let Ok(data) = frame.into_data() else { continue };
                    this.hasher.update(&data);
                    if let Some(before) = this.held.replace(data) {
                        return Poll::Ready(Some(Ok(Frame::data(before))));
                    }
                }
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.held.as_ref().map_or(0, |held| held.len() as u64);
        let inner = self.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + held);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + held);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    use http_body_util::{BodyExt, StreamBody};

    fn streamed(pieces: &[&'static str]) -> Body {
        let frames: Vec<Result<Frame<Bytes>, Infallible>> =
            pieces.iter().map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes())))).collect();
        Body::boxed(StreamBody::new(futures_util::stream::iter(frames)))
    }

    fn hash(text: &str) -> [u8; 32] {
        Sha256::digest(text).into()
    }

    /// What comes out before the end, and whether the end is a good one.
    async fn through(pieces: &[&'static str], wanted: [u8; 32]) -> (String, bool) {
        let mut body = Checked::new(streamed(pieces), wanted);
        let mut text = String::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap()),
                Err(_) => return (text, false),
            }
        }
        (text, true)
    }

    #[tokio::test]
    async fn a_body_that_was_not_signed_never_arrives_whole() {
        assert_eq!(through(&["ab", "cd"], hash("abcd")).await, ("abcd".into(), true));
        assert_eq!(through(&[], hash("")).await, (String::new(), true));
        assert_eq!(through(&["ab", "cd"], hash("abce")).await, ("ab".into(), false));
        assert_eq!(through(&["abcd"], hash("abce")).await, (String::new(), false));
        assert_eq!(through(&[], hash("x")).await, (String::new(), false));
        assert_eq!(through(&["ab"], hash("")).await, (String::new(), false));
    }

    #[test]
    fn strangers_are_told_no_more_than_that() {
        let response = refused(&AuthError::MissingToken);
        assert_eq!(response.status(), 403);
        assert_eq!(response.headers()["x-amzn-errortype"], "AccessDeniedException");
    }
}
