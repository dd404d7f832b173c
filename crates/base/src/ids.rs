//! Identifiers that cross layers.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A tenant: twelve digits, as in an ARN.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountId(Arc<str>);

impl AccountId {
    /// Reads twelve digits; anything else is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| Self(text.into()))
    }

    /// A random account id that does not start with zero, so that no tool trims it.
    pub fn random() -> Self {
        let spread = uuid::Uuid::new_v4().as_u128() % 900_000_000_000;
        Self((100_000_000_000 + spread).to_string().into())
    }

    /// The twelve digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for AccountId {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("an account id is twelve digits")
    }
}

impl From<AccountId> for String {
    fn from(id: AccountId) -> Self {
        id.0.as_ref().to_owned()
    }
}

/// A region's name: `us-east-1` unless the operator says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(Arc<str>);

impl Region {
    /// Lower-case letters, digits and dashes, 1 to 32 of them: it becomes part of a host name.
    pub fn parse(text: &str) -> Option<Self> {
        let legal = (1..=32).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        legal.then(|| Self(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Region {
    fn default() -> Self {
        Self("us-east-1".into())
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Region {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("a region is lower-case letters, digits and dashes")
    }
}

impl From<Region> for String {
    fn from(region: Region) -> Self {
        region.0.as_ref().to_owned()
    }
}

/// One request or invocation: a version 4 UUID, as AWS request ids are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(uuid::Uuid);

impl RequestId {
    /// A new one, from a generator of the thread's own that the operating system seeds: as hard to guess as its
    /// randomness, without a system call for each.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4())
    }

    /// Gives the hyphenated form to whoever copies it, without a string in between.
    pub fn with_text<T>(self, use_text: impl FnOnce(&str) -> T) -> T {
        use_text(self.0.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()))
    }

    /// A number from 0 to 1, without 1, that is as random as the id and always the same for it.
    pub fn fraction(self) -> f64 {
        // The last 62 bits of a version 4 UUID are random (RFC 9562 §5.4); a double holds 53.
        const BITS: u32 = f64::MANTISSA_DIGITS;
        let low = self.0.as_u64_pair().1 & ((1 << BITS) - 1);
        low as f64 / (1_u64 << BITS) as f64
    }

    /// Reads the hyphenated form.
    pub fn parse(text: &str) -> Option<Self> {
        uuid::Uuid::try_parse(text).ok().map(Self)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// One instance of a function: 32 hexadecimal digits, the last part of its log stream's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InstanceId(Arc<str>);

impl InstanceId {
    /// A new one.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().simple().to_string().into())
    }

    /// The 32 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_twelve_digits() {
        assert!(AccountId::parse("123456789012").is_some());
        for bad in ["", "12345678901", "1234567890123", "12345678901x"] {
            assert!(AccountId::parse(bad).is_none(), "{bad}");
        }
        assert_eq!(AccountId::random().as_str().len(), 12);
    }

    #[test]
    fn regions_fit_a_host_name() {
        assert!(Region::parse("eu-west-3").is_some());
        for bad in ["", "EU", "a.b", "-a", "a-"] {
            assert!(Region::parse(bad).is_none(), "{bad}");
        }
    }
}
