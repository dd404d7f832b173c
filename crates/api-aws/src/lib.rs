//! The AWS-style APIs: who is asking, codecs, error tables. One folder a service, one file an operation or a
//! closely related group.
//!
//! [`Api::handle`] takes everything that is not a function URL. The order is fixed: a download link
//! (`/_code/…`) is checked by its token; anything else has its signature's claim read from the head *before*
//! any body, then a bounded body, then the signature checked, then the operation.
//!
//! Built: Lambda's core, SQS, CloudWatch Logs, IAM's roles and policies, STS's sessions, Signer's profiles. Every other
//! service and operation is
//! refused by its name in its own protocol. What an operation *means* is not here: this crate knows shapes,
//! the product crates know rules.

mod auth;
mod constraint;
mod dispatch;
mod download;
mod eventstream;
mod failure;
mod identity;
mod lambda;
mod limits;
mod logs;
mod members;
mod protocol;
mod query;
mod request;
mod signer;
mod sqs;
mod sts;

pub mod body;

use std::sync::Arc;

use base::{Clock, Region, RequestId};
use http::header::{HeaderName, HeaderValue};
use http::{Response, request::Parts};
use sandbox::Body;

/// What the APIs are built on.
pub struct Deps {
    /// Functions.
    pub functions: functions::Functions,
    /// Who is calling.
    pub iam: iam::Iam,
    /// Log groups.
    pub logs: ::logs::Logs,
    /// Message queues.
    pub mailboxes: mailboxes::Mailboxes,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// The region this server answers for.
    pub region: Region,
    /// How long a request's body may take.
    pub patience: body::Patience,
}

/// What the connection says about a request.
#[derive(Debug, Clone)]
pub struct Context {
    /// Scheme and authority by which the client reached the server, without a slash at the end:
    /// `http://127.0.0.1:9080`. Links in answers start with it.
    pub base_url: String,
    /// Where the request came from.
    pub address: std::net::IpAddr,
    /// Whether function URLs by path (`/_fn/NAME/…`) exist where the client is.
    pub paths: bool,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Api {
    deps: Arc<Deps>,
}

impl std::ops::Deref for Api {
    type Target = Deps;
    fn deref(&self) -> &Deps {
        &self.deps
    }
}

impl Api {
    /// Puts the APIs in front of the services.
    pub fn new(deps: Deps) -> Self {
        Self { deps: Arc::new(deps) }
    }

    /// Answers one request. Never fails: an error is an answer too.
    pub async fn handle(&self, head: Parts, body: Body, context: Context) -> Response<Body> {
        let id = RequestId::random();
        let mut response = if head.uri.path().starts_with(download::PREFIX) {
            download::serve(self, &head, id).await
        } else {
            dispatch::answer(self, &head, body, &context, id).await
        };
        if let Ok(id) = HeaderValue::try_from(id.to_string()) {
            response.headers_mut().insert(HeaderName::from_static("x-amzn-requestid"), id);
        }
        response
    }
}
