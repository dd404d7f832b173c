//! Whoever counts what comes of images in parts.

use std::time::Duration;

use crate::Error;

/// Counts. What it does must be quick.
pub trait Meter: Send + Sync {
    /// Bytes came from a registry.
    fn received(&self, bytes: u64);

    /// A part came, and had the digest that it should have.
    fn part(&self);

    /// Parts that were asked for together have come, or could not be had, so long after they were wanted.
    fn run(&self, took: Duration, outcome: Outcome);
}

/// What became of parts that were asked for together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// They came.
    Came,
    /// The registry did not answer, broke off, or answered with an error of its own.
    Unreachable,
    /// What came was not what the image's index says.
    Invalid,
    /// The registry does not let us have them any more, or has them no more.
    Refused,
    /// The server's own disk or host.
    Host,
}

impl Outcome {
    /// All that are failures, as [`Outcome::reason`] calls them.
    pub const FAILURES: [Self; 4] = [Self::Unreachable, Self::Invalid, Self::Refused, Self::Host];

    pub(crate) fn of(failure: Option<&Error>) -> Self {
        match failure {
            None => Self::Came,
            Some(Error::Unreachable(_)) => Self::Unreachable,
            Some(Error::Invalid(_) | Error::Reference(_)) => Self::Invalid,
            Some(Error::Denied(_) | Error::NotFound(_)) => Self::Refused,
            Some(Error::Full(_) | Error::Room(_) | Error::Host { .. }) => Self::Host,
        }
    }

    /// Why they did not come, in a word.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Came => None,
            Self::Unreachable => Some("unreachable"),
            Self::Invalid => Some("invalid"),
            Self::Refused => Some("refused"),
            Self::Host => Some("host"),
        }
    }
}

/// Nobody counts.
pub(crate) struct Nobody;

impl Meter for Nobody {
    fn received(&self, _: u64) {}
    fn part(&self) {}
    fn run(&self, _: Duration, _: Outcome) {}
}
