//! Packages by reference: objects of an S3-compatible store in place of uploads.
//!
//! Reading from the store is another's, who speaks TLS and signs; the server brings it ([`Objects`]). What was read is
//! taken in like an upload, so nothing is read twice and the store need not be there afterwards.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::{Error, limits};

/// An object that holds a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRef {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// Which version of it; the newest where absent.
    pub version: Option<String>,
}

/// Reads objects.
pub trait Objects: Send + Sync + 'static {
    /// The object's bytes; an error where it has more than `most`, before they are in memory.
    fn read<'a>(&'a self, object: &'a ObjectRef, most: usize) -> BoxFuture<'a, Result<Bytes, ObjectError>>;
}

/// Why an object could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectError {
    /// The store refused, with its own code and message.
    Refused {
        /// For example `NoSuchKey`.
        code: String,
        /// For people.
        message: String,
        /// Whether it is a matter of rights.
        denied: bool,
    },
    /// It is larger than it may be.
    TooLarge,
    /// The store cannot be reached, broke off, or answers what no such store does.
    Unavailable(String),
}

/// Where a package's bytes come from.
#[derive(Debug, Clone)]
pub enum PackageSource {
    /// They are here.
    Zip(Bytes),
    /// They are in a store.
    Object(ObjectRef),
}

/// The bytes of a package.
pub(crate) async fn obtain(store: Option<&Arc<dyn Objects>>, source: PackageSource) -> Result<Bytes, Error> {
    match source {
        PackageSource::Zip(zip) if zip.len() > limits::ZIPPED_BYTES => Err(Error::CodeTooLarge(format!(
            "Zipped size must be smaller than {} bytes",
            limits::ZIPPED_BYTES
        ))),
        PackageSource::Zip(zip) => Ok(zip),
        PackageSource::Object(object) => {
            let none = || {
                Error::Invalid(
                    "This server reads no packages from S3: its operator has set no store (--package-store). Send \
                     the package itself as ZipFile."
                        .into(),
                )
            };
            let most = usize::try_from(limits::UNZIPPED_BYTES).unwrap_or(usize::MAX);
            let read = store.ok_or_else(none)?.read(&object, most).await;
            read.map_err(|error| refused(error, &object))
        }
    }
}

/// Lambda's words for what S3 says.
fn refused(error: ObjectError, object: &ObjectRef) -> Error {
    match error {
        ObjectError::Refused { code, message, denied: true } => Error::Denied(format!(
            "Your access has been denied by S3, please make sure your request credentials have permission to GetObject \
             for {}/{}. S3 Error Code: {code}. S3 Error Message: {message}",
            object.bucket, object.key
        )),
        ObjectError::Refused { code, message, denied: false } => Error::Invalid(format!(
            "Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}"
        )),
        ObjectError::TooLarge => Error::CodeTooLarge(format!(
            "Unzipped size must be smaller than {} bytes",
            limits::UNZIPPED_BYTES
        )),
        ObjectError::Unavailable(text) => {
            Error::Unavailable(format!("The store of packages cannot be read: {text}."))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_zip_has_fifty_megabytes_and_not_one_byte_more() {
        let sized = |bytes: usize| obtain(None, PackageSource::Zip(vec![0; bytes].into()));
        assert_eq!(sized(50 << 20).await.map(|zip| zip.len()).ok(), Some(50 << 20));
        assert!(matches!(sized((50 << 20) + 1).await, Err(Error::CodeTooLarge(_))));
    }
}
