//! Lambda layer ARNs: `arn:aws:lambda:REGION:ACCOUNT:layer:NAME[:VERSION]`.

use std::fmt;

use crate::{AccountId, Region};

/// The ARN of a layer, or of one version of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LayerArn {
    /// Where it lives.
    pub region: Region,
    /// Whose it is.
    pub account: AccountId,
    /// Its name.
    pub name: String,
    /// The version's number; `None` is the layer as a whole.
    pub version: Option<u64>,
}

impl LayerArn {
    /// Reads an ARN of exactly this shape. The name is not checked further; a version is a number as it is printed.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let fixed = [parts.next()?, parts.next()?, parts.next()?];
        let region = Region::parse(parts.next()?)?;
        let account = AccountId::parse(parts.next()?)?;
        if fixed != ["arn", "aws", "lambda"] || parts.next()? != "layer" {
            return None;
        }
        let name = parts.next().filter(|name| !name.is_empty())?.to_owned();
        let version = match parts.next() {
            None => None,
            Some(digits) => Some(digits.parse().ok().filter(|number: &u64| number.to_string() == digits)?),
        };
        parts.next().is_none().then_some(Self { region, account, name, version })
    }

    /// One version of the same layer.
    pub fn versioned(&self, version: u64) -> Self {
        Self { version: Some(version), ..self.clone() }
    }

    /// The layer as a whole.
    pub fn unversioned(&self) -> Self {
        Self { version: None, ..self.clone() }
    }
}

impl fmt::Display for LayerArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arn:aws:lambda:{}:{}:layer:{}", self.region, self.account, self.name)?;
        match self.version {
            Some(version) => write!(f, ":{version}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LayerArn;

    #[test]
    fn reads_what_it_writes() {
        for text in [
            "arn:aws:lambda:us-east-1:123456789012:layer:tools",
            "arn:aws:lambda:eu-west-3:123456789012:layer:tools:7",
        ] {
            assert_eq!(LayerArn::parse(text).map(|arn| arn.to_string()).as_deref(), Some(text));
        }
    }

    #[test]
    fn refuses_other_shapes() {
        for text in [
            "tools",
            "arn:aws:lambda:us-east-1:123456789012:function:tools",
            "arn:aws:lambda:us-east-1:123:layer:tools:1",
            "arn:aws:lambda:us-east-1:123456789012:layer:",
            "arn:aws:lambda:us-east-1:123456789012:layer:tools:",
            "arn:aws:lambda:us-east-1:123456789012:layer:tools:01",
            "arn:aws:lambda:us-east-1:123456789012:layer:tools:x",
            "arn:aws:lambda:us-east-1:123456789012:layer:tools:1:2",
        ] {
            assert_eq!(LayerArn::parse(text), None, "{text}");
        }
    }
}
