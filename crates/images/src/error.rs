//! What can go wrong with an image, by whose it is to mend.

use std::io;

use base::Kind;

/// An image could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The reference does not name an image, or one that this server may not fetch.
    #[error("{0}")]
    Reference(String),
    /// The registry wants other credentials, or gives these no access.
    #[error("{0}")]
    Denied(String),
    /// There is no such image.
    #[error("{0}")]
    NotFound(String),
    /// The image is not what it says, or nothing that may be unpacked or run here.
    #[error("{0}")]
    Invalid(String),
    /// The registry did not answer, or broke off. Trying again may help.
    #[error("{0}")]
    Unreachable(String),
    /// The store holds as much as it may.
    #[error("{0}")]
    Room(String),
    /// No room is left on the server's disk.
    #[error("no room is left on the server's disk while {0}")]
    Full(String),
    /// The host failed at something that should work.
    #[error("{context}")]
    Host {
        /// What was being done.
        context: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Reference(_) | Self::Invalid(_) => Kind::Invalid,
            Self::Denied(_) => Kind::Denied,
            Self::NotFound(_) => Kind::NotFound,
            Self::Unreachable(_) => Kind::Unavailable,
            Self::Full(_) | Self::Room(_) => Kind::LimitExceeded,
            Self::Host { .. } => Kind::Internal,
        }
    }

    /// Wraps a system error with what was being done (it reads after "while"). A full disk is told apart, and so is
    /// an error of ours that came through a reader.
    pub(crate) fn host<E: Into<io::Error>>(context: impl Into<String>) -> impl FnOnce(E) -> Self {
        let context = context.into();
        move |source| {
            let source: io::Error = source.into();
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(context),
                _ => Self::unwrap_from(source).unwrap_or_else(|source| Self::Host { context, source }),
            }
        }
    }

    /// The error of ours that a reader passed on, if it is one.
    pub(crate) fn unwrap_from(error: io::Error) -> Result<Self, io::Error> {
        if error.get_ref().is_some_and(|inner| inner.is::<Self>()) {
            let inner = error.into_inner().map(|inner| inner.downcast::<Self>());
            return match inner {
                Some(Ok(ours)) => Ok(*ours),
                // Just looked at.
                Some(Err(other)) => Err(io::Error::other(other)),
                None => Err(io::ErrorKind::Other.into()),
            };
        }
        Err(error)
    }

    /// For one more of several that wait for the same.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Reference(text) => Self::Reference(text.clone()),
            Self::Denied(text) => Self::Denied(text.clone()),
            Self::NotFound(text) => Self::NotFound(text.clone()),
            Self::Invalid(text) => Self::Invalid(text.clone()),
            Self::Unreachable(text) => Self::Unreachable(text.clone()),
            Self::Full(text) => Self::Full(text.clone()),
            Self::Room(text) => Self::Room(text.clone()),
            Self::Host { context, source } => {
                Self::Host { context: context.clone(), source: io::Error::from(source.kind()) }
            }
        }
    }

    /// Through a reader.
    pub(crate) fn into_io(self) -> io::Error {
        io::Error::other(self)
    }

    /// Bytes of a stream could not be read: an error of ours that came through it, or a stream that makes no sense.
    pub(crate) fn unreadable(what: &str) -> impl FnOnce(io::Error) -> Self + '_ {
        move |error| match Self::unwrap_from(error) {
            Ok(ours) => ours,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Invalid(format!("{what} ends in the middle"))
            }
            Err(error) => Self::Invalid(format!("{what} cannot be read: {error}")),
        }
    }
}
