//! What a request presents: a credential and a signature, in a header or in the query.

use std::borrow::Cow;

use base::{Region, Timestamp};
use http::HeaderName;

use super::{ALGORITHM, Request, S3, Scope, TERMINATOR};
use crate::AuthError;

/// How far a client's clock may be off. AWS: 5 minutes, S3: 15.
const SKEW_MS: i64 = 5 * 60 * 1000;
const SKEW_S3_MS: i64 = 15 * 60 * 1000;

/// The longest life of a presigned request: 7 days.
const MAX_EXPIRES_S: u64 = 604_800;

/// Services that are signed for `us-east-1` whatever the region.
const GLOBAL: [&str; 2] = ["iam", "sts"];

/// A signature and all that is said about it. Nothing of it is proved.
pub(crate) struct Presented {
    pub(crate) access_key_id: String,
    pub(crate) scope: Scope,
    pub(crate) signed_headers: Vec<String>,
    pub(crate) signature: String,
    /// In the basic form, as it is signed.
    pub(crate) time: String,
    pub(crate) session_token: Option<String>,
    /// `X-Amz-Content-Sha256`.
    pub(crate) payload: Option<String>,
    signed_at: Timestamp,
    /// Seconds; presigned requests only.
    expires: Option<u64>,
}

impl Presented {
    /// Reads the `Authorization` header, or else the query.
    pub(crate) fn read(request: &Request<'_>) -> Result<Self, AuthError> {
        let mut headers = request.values("authorization");
        match (headers.next(), headers.next()) {
            (Some(value), None) => Self::from_header(request, &text(value)),
            (Some(_), Some(_)) => Err(incomplete("There is more than one Authorization header.")),
            (None, _) if parameter(request, "X-Amz-Algorithm").is_some() => Self::from_query(request),
            (None, _) => Err(AuthError::MissingToken),
        }
    }

    /// Whether the signature came in the query.
    pub(crate) fn is_query(&self) -> bool {
        self.expires.is_some()
    }

    fn from_header(request: &Request<'_>, value: &str) -> Result<Self, AuthError> {
        let (algorithm, fields) = value.trim().split_once(' ').unwrap_or((value, ""));
        check_algorithm(algorithm)?;
        let fields = header_fields(fields)?;
        let field = |name: &str| fields.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
        let stated = header(request, "x-amz-date").or_else(|| header(request, "date"));
        let (Some(credential), Some(signature), Some(signed), Some(stated)) =
            (field("Credential"), field("Signature"), field("SignedHeaders"), stated.as_deref())
        else {
            let present = [
                ("'Credential' parameter", field("Credential").is_some()),
                ("'Signature' parameter", field("Signature").is_some()),
                ("'SignedHeaders' parameter", field("SignedHeaders").is_some()),
                ("existence of either a 'X-Amz-Date' or a 'Date' header", stated.is_some()),
            ];
            return Err(missing("Authorization header requires", &present));
        };
        let signed_at = parse_time(stated).ok_or_else(|| bad_date(stated))?;
        let (access_key_id, scope) = parse_credential(credential)?;
        Ok(Self {
            access_key_id,
            scope,
            signed_headers: parse_signed_headers(signed)?,
            signature: signature.to_owned(),
            // A time that came in the basic form is its own.
            time: match Timestamp::from_basic(stated) {
                Some(_) => stated.to_owned(),
                None => signed_at.to_basic(),
            },
            session_token: header(request, "x-amz-security-token"),
            payload: header(request, "x-amz-content-sha256"),
            signed_at,
            expires: None,
        })
    }

    fn from_query(request: &Request<'_>) -> Result<Self, AuthError> {
        let field = |name| parameter(request, name);
        check_algorithm(&field("X-Amz-Algorithm").unwrap_or_default())?;
        let (Some(credential), Some(signature), Some(signed), Some(stated), Some(expires)) = (
            field("X-Amz-Credential"),
            field("X-Amz-Signature"),
            field("X-Amz-SignedHeaders"),
            field("X-Amz-Date"),
            field("X-Amz-Expires"),
        ) else {
            let names =
                ["X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date", "X-Amz-Expires"];
            let present: Vec<_> = names.map(|name| (name, field(name).is_some())).to_vec();
            return Err(missing("AWS query-string parameters must include", &present));
        };
        let signed_at = Timestamp::from_basic(&stated).ok_or_else(|| bad_date(&stated))?;
        let (access_key_id, scope) = parse_credential(&credential)?;
        Ok(Self {
            access_key_id,
            scope,
            signed_headers: parse_signed_headers(&signed)?,
            signature,
            time: stated,
            session_token: field("X-Amz-Security-Token"),
            payload: header(request, "x-amz-content-sha256").or_else(|| field("X-Amz-Content-Sha256")),
            signed_at,
            expires: Some(parse_expires(&expires)?),
        })
    }

    /// The scope's date must be the request's, its region ours.
    pub(crate) fn check_scope(&self, region: &Region) -> Result<(), AuthError> {
        let Scope { date, region: scoped, service } = &self.scope;
        let day = self.time.get(..8).unwrap_or_default();
        if date != day {
            return Err(AuthError::InvalidScope(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
                 '{date}' != '{day}', from '{}'.",
                self.time
            )));
        }
        let global = GLOBAL.contains(&service.as_str()) && scoped == "us-east-1";
        if scoped != region.as_str() && !global {
            return Err(AuthError::InvalidScope(format!(
                "Credential should be scoped to a valid region, not '{scoped}'."
            )));
        }
        Ok(())
    }

    /// The time must be about now; a presigned one counts from its date for as long as it says.
    pub(crate) fn check_time(&self, now: Timestamp) -> Result<(), AuthError> {
        let skew = if self.scope.service == S3 { SKEW_S3_MS } else { SKEW_MS };
        let minutes = skew / 60_000;
        let (signed, now_ms) = (self.signed_at.as_millis(), now.as_millis());
        let (time, at) = (&self.time, || now.to_basic());
        if signed > now_ms + skew {
            let bound = Timestamp(now_ms + skew).to_basic();
            return Err(AuthError::Expired(format!(
                "Signature not yet current: {time} is still later than {bound} ({} + {minutes} min.)",
                at()
            )));
        }
        match self.expires {
            None if signed < now_ms - skew => {
                let bound = Timestamp(now_ms - skew).to_basic();
                Err(AuthError::Expired(format!(
                    "Signature expired: {time} is now earlier than {bound} ({} - {minutes} min.)",
                    at()
                )))
            }
            Some(seconds) if signed + seconds as i64 * 1000 <= now_ms => {
                let end = Timestamp(signed + seconds as i64 * 1000).to_basic();
                Err(AuthError::Expired(format!("Signature expired: {end} is now earlier than {}", at())))
            }
            _ => Ok(()),
        }
    }

    /// What decides about a request must be signed: where it goes, and every `x-amz-` header that came.
    pub(crate) fn check_signed_headers(&self, request: &Request<'_>) -> Result<(), AuthError> {
        let signed = |name: &str| self.signed_headers.iter().any(|other| other == name);
        if !signed("host") {
            return Err(incomplete(
                "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
            ));
        }
        let mut names = request.headers.iter().map(|(name, _)| name.as_ref());
        match names.find(|name| name.starts_with("x-amz-") && !signed(name)) {
            Some(name) => {
                Err(incomplete(&format!("'{name}' must be a 'SignedHeader' in the AWS Authorization.")))
            }
            None => Ok(()),
        }
    }
}

/// `A=1, B=2`; commas alone or spaces alone separate too, as clients write all three.
fn header_fields(fields: &str) -> Result<Vec<(&str, &str)>, AuthError> {
    let mut found = Vec::with_capacity(3);
    let mut rest = fields;
    while !rest.is_empty() {
        // What separates is ASCII, so that what is between is text.
        let end = rest.bytes().position(|byte| matches!(byte, b',' | b' ')).unwrap_or(rest.len());
        let part = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        if !part.is_empty() {
            found.push(part.split_once('=').ok_or_else(|| {
                incomplete(&format!(
                    "'{part}' not a valid key=value pair (missing equal-sign) in Authorization header."
                ))
            })?);
        }
    }
    Ok(found)
}

fn check_algorithm(algorithm: &str) -> Result<(), AuthError> {
    if algorithm != ALGORITHM {
        return Err(incomplete(&format!("Unsupported AWS 'algorithm': '{algorithm}'.")));
    }
    Ok(())
}

fn parse_credential(credential: &str) -> Result<(String, Scope), AuthError> {
    let mut parts = credential.split('/');
    let mut next = || parts.next();
    let (Some(id), Some(date), Some(region), Some(service), Some(terminator), None) =
        (next(), next(), next(), next(), next(), next())
    else {
        return Err(incomplete(&format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, \
             got '{credential}'."
        )));
    };
    if terminator != TERMINATOR {
        return Err(AuthError::InvalidScope(format!(
            "Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{terminator}'."
        )));
    }
    Ok((
        id.to_owned(),
        Scope { date: date.to_owned(), region: region.to_owned(), service: service.to_owned() },
    ))
}

/// Lower-case names in order, none twice: so each header is in the canonical request at most once, and in one line.
fn parse_signed_headers(names: &str) -> Result<Vec<String>, AuthError> {
    let names: Vec<String> = names.split(';').map(str::to_owned).collect();
    let legal = |name: &String| {
        HeaderName::from_bytes(name.as_bytes()).is_ok() && !name.bytes().any(|byte| byte.is_ascii_uppercase())
    };
    if !names.iter().all(legal) || !names.is_sorted_by(|a, b| a < b) {
        return Err(incomplete("SignedHeaders must be lower-case header names in order, separated by ';'."));
    }
    Ok(names)
}

fn parse_expires(text: &str) -> Result<u64, AuthError> {
    let seconds = text.parse::<i64>().map_err(|_| incomplete("X-Amz-Expires should be a number"))?;
    let seconds = u64::try_from(seconds).map_err(|_| incomplete("X-Amz-Expires must be non-negative"))?;
    if seconds > MAX_EXPIRES_S {
        return Err(incomplete(&format!(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be \
             less than {MAX_EXPIRES_S} seconds"
        )));
    }
    Ok(seconds)
}

/// The basic form, or in a `Date` header HTTP's own.
fn parse_time(text: &str) -> Option<Timestamp> {
    Timestamp::from_basic(text).or_else(|| {
        let zoned = jiff::fmt::rfc2822::parse(text).ok()?;
        Some(Timestamp(zoned.timestamp().as_millisecond()))
    })
}

fn header(request: &Request<'_>, name: &str) -> Option<String> {
    let value = request.values(name).next()?;
    Some(text(value).trim().to_owned())
}

/// Bytes as text; most are.
fn text(value: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(value).map_or_else(|_| String::from_utf8_lossy(value), Cow::Borrowed)
}

fn parameter(request: &Request<'_>, name: &str) -> Option<String> {
    let (_, value) = request.pairs().find(|(other, _)| other.as_ref() == name.as_bytes())?;
    Some(String::from_utf8_lossy(&value).into_owned())
}

fn missing(sentence: &str, present: &[(&str, bool)]) -> AuthError {
    let absent = present.iter().filter(|(_, there)| !there);
    let sentences: Vec<_> = absent.map(|(name, _)| format!("{sentence} {name}.")).collect();
    AuthError::IncompleteSignature(sentences.join(" "))
}

fn bad_date(text: &str) -> AuthError {
    incomplete(&format!(
        "Date must be in ISO-8601 'basic format'. Got '{text}'. See http://en.wikipedia.org/wiki/ISO_8601"
    ))
}

fn incomplete(text: &str) -> AuthError {
    AuthError::IncompleteSignature(text.to_owned())
}
