//! AWS Signature Version 4: once for all services, for checking and for signing.
//!
//! Source of the rules: "Create a signed AWS API request" and "Elements of an AWS API request signature" in
//! the IAM User Guide; the public signing test suite is run against this module.
//!
//! Absent: Signature Version 4A, chunked payloads (`STREAMING-…`), POST policies.

mod canonical;
mod key;
mod presented;
mod sign;

pub use canonical::{Request, canonical_head, with_payload};
pub use key::{Scope, signature, signing_key, string_to_sign};
pub use sign::{SignError, sign_request};

pub(crate) use key::{SigningKeys, hex};
pub(crate) use presented::Presented;

/// The only algorithm.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What ends every credential scope.
pub const TERMINATOR: &str = "aws4_request";

/// Stands for the body's hash where the body is not signed.
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// The one service with rules of its own: paths are taken as they are, and bodies may be unsigned.
pub(crate) const S3: &str = "s3";
