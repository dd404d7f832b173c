//! A function URL's CORS configuration (Lambda API: Cors; the Fetch standard's CORS protocol).
//!
//! Where it is configured, the gateway answers preflights itself and its headers replace the function's own.
//! The origin `*` is answered as `*`, never as the asking origin: with credentials browsers then refuse, and
//! a URL that wants them names its origins.

use functions::model::Cors;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY,
};
use http::{Method, Response};
use sandbox::Body;

/// What of a configuration matters for one request.
pub(crate) struct Policy<'a> {
    cors: &'a Cors,
    origin: Option<HeaderValue>,
}

impl<'a> Policy<'a> {
    /// The policy for a request, if the URL has one.
    pub(crate) fn of(cors: Option<&'a Cors>, headers: &HeaderMap) -> Option<Self> {
        let cors = cors.filter(|cors| **cors != Cors::default())?;
        Some(Self { cors, origin: headers.get(ORIGIN).cloned() })
    }

    /// The answer to a preflight, which the function does not see.
    pub(crate) fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response<Body>> {
        if method != Method::OPTIONS
            || self.origin.is_none()
            || !headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        {
            return None;
        }
        let mut response = Response::new(Body::empty());
        let out = response.headers_mut();
        if self.allow(out) {
            list(out, ACCESS_CONTROL_ALLOW_METHODS, &self.cors.allow_methods);
            list(out, ACCESS_CONTROL_ALLOW_HEADERS, &self.cors.allow_headers);
            if let Some(seconds) = self.cors.max_age {
                out.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(seconds));
            }
        }
        Some(response)
    }

    /// Adds to an answer what the policy says, in place of what the function said.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        for name in [
            ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            ACCESS_CONTROL_EXPOSE_HEADERS,
            ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_HEADERS,
            ACCESS_CONTROL_MAX_AGE,
        ] {
            headers.remove(name);
        }
        if self.allow(headers) {
            list(headers, ACCESS_CONTROL_EXPOSE_HEADERS, &self.cors.expose_headers);
        }
    }

    /// Whether the origin may; says so if it may.
    fn allow(&self, headers: &mut HeaderMap) -> bool {
        let any = self.cors.allow_origins.iter().any(|allowed| allowed == "*");
        if !any && !self.cors.allow_origins.is_empty() {
            // Without an origin too: a cache must not give that answer to one who has one.
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = &self.origin else { return false };
        let named = self.cors.allow_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes());
        if named {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        } else if any {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        } else {
            return false;
        }
        if self.cors.allow_credentials == Some(true) {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        true
    }
}

fn list(headers: &mut HeaderMap, name: HeaderName, items: &[String]) {
    if !items.is_empty()
        && let Ok(value) = HeaderValue::try_from(items.join(","))
    {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors() -> Cors {
        Cors {
            allow_credentials: Some(true),
            allow_headers: vec!["x-a".into(), "x-b".into()],
            allow_methods: vec!["GET".into(), "POST".into()],
            allow_origins: vec!["https://a.example".into()],
            expose_headers: vec!["x-out".into()],
            max_age: Some(60),
        }
    }

    fn asked(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn preflights_are_answered_here() {
        let cors = cors();
        let headers = asked(&[("origin", "https://a.example"), ("access-control-request-method", "POST")]);
        let policy = Policy::of(Some(&cors), &headers).unwrap();
        assert!(policy.preflight(&Method::GET, &headers).is_none());
        let response = policy.preflight(&Method::OPTIONS, &headers).unwrap();
        let out = response.headers();
        assert_eq!(response.status(), 200);
        assert_eq!(out[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.example");
        assert_eq!(out[ACCESS_CONTROL_ALLOW_METHODS], "GET,POST");
        assert_eq!(out[ACCESS_CONTROL_ALLOW_HEADERS], "x-a,x-b");
        assert_eq!(out[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert_eq!(out[ACCESS_CONTROL_MAX_AGE], "60");
        assert_eq!(out[VARY], "Origin");
        let plain = asked(&[("origin", "https://a.example")]);
        assert!(Policy::of(Some(&cors), &plain).unwrap().preflight(&Method::OPTIONS, &plain).is_none());
    }

    #[test]
    fn strangers_are_not_told_to_come_in() {
        let cors = cors();
        let headers = asked(&[("origin", "https://b.example"), ("access-control-request-method", "GET")]);
        let policy = Policy::of(Some(&cors), &headers).unwrap();
        let response = policy.preflight(&Method::OPTIONS, &headers).unwrap();
        assert!(!response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        let mut own = asked(&[("access-control-allow-origin", "*")]);
        policy.apply(&mut own);
        assert!(!own.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        let mut plain = HeaderMap::new();
        Policy::of(Some(&cors), &HeaderMap::new()).unwrap().apply(&mut plain);
        assert_eq!(plain[VARY], "Origin");
        assert_eq!(plain.len(), 1);
    }

    #[test]
    fn a_star_stays_a_star() {
        let cors = Cors { allow_origins: vec!["*".into()], ..cors() };
        let headers = asked(&[("origin", "https://b.example")]);
        let mut out = HeaderMap::new();
        Policy::of(Some(&cors), &headers).unwrap().apply(&mut out);
        assert_eq!(out[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(out[ACCESS_CONTROL_EXPOSE_HEADERS], "x-out");
    }

    #[test]
    fn no_configuration_is_no_policy() {
        assert!(Policy::of(None, &HeaderMap::new()).is_none());
        assert!(Policy::of(Some(&Cors::default()), &HeaderMap::new()).is_none());
    }
}
