//! An authenticated request, as operations see it.

use base::RequestId;
use bytes::Bytes;
use http::request::Parts;
use iam::Caller;

use crate::{Api, Context};

/// Everything an operation may look at.
pub(crate) struct Request<'a> {
    /// The services behind.
    pub(crate) api: &'a Api,
    /// Who is asking.
    pub(crate) caller: &'a Caller,
    /// Method, path, query and headers.
    pub(crate) head: &'a Parts,
    /// The body, whole.
    pub(crate) body: Bytes,
    /// What the connection says.
    pub(crate) context: &'a Context,
    /// The id that the answer carries.
    pub(crate) id: RequestId,
}

impl Request<'_> {
    /// The first value of a query parameter.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        self.queries(name).next()
    }

    /// All values of a query parameter.
    pub(crate) fn queries(&self, name: &str) -> impl Iterator<Item = String> {
        let query = self.head.uri.query().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes())
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// A header that is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).and_then(|value| value.to_str().ok())
    }
}
