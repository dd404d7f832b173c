//! Lambda function ARNs: `arn:aws:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER]`.

use std::fmt;

use crate::{AccountId, Region};

/// The ARN of a function, or of one version of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FunctionArn {
    /// Where the function lives.
    pub region: Region,
    /// Whose it is.
    pub account: AccountId,
    /// The function's name.
    pub name: String,
    /// A version's number or `$LATEST`; `None` is the unqualified ARN.
    pub qualifier: Option<String>,
}

impl FunctionArn {
    /// Reads an ARN of exactly this shape. The name and qualifier are not checked further.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let fixed = [parts.next()?, parts.next()?, parts.next()?];
        let region = Region::parse(parts.next()?)?;
        let account = AccountId::parse(parts.next()?)?;
        if fixed != ["arn", "aws", "lambda"] || parts.next()? != "function" {
            return None;
        }
        let name = parts.next().filter(|name| !name.is_empty())?.to_owned();
        let qualifier = parts.next().map(str::to_owned);
        (parts.next().is_none() && qualifier.as_deref() != Some("")).then_some(Self {
            region,
            account,
            name,
            qualifier,
        })
    }

    /// The same function with another qualifier.
    pub fn qualified(&self, qualifier: &str) -> Self {
        Self { qualifier: Some(qualifier.to_owned()), ..self.clone() }
    }
}

impl fmt::Display for FunctionArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arn:aws:lambda:{}:{}:function:{}", self.region, self.account, self.name)?;
        match &self.qualifier {
            Some(qualifier) => write!(f, ":{qualifier}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FunctionArn;

    #[test]
    fn reads_what_it_writes() {
        for text in [
            "arn:aws:lambda:us-east-1:123456789012:function:hello",
            "arn:aws:lambda:us-east-1:123456789012:function:hello:$LATEST",
            "arn:aws:lambda:eu-west-3:123456789012:function:hello:7",
        ] {
            assert_eq!(FunctionArn::parse(text).map(|arn| arn.to_string()).as_deref(), Some(text));
        }
    }

    #[test]
    fn refuses_other_shapes() {
        for text in [
            "hello",
            "arn:aws:lambda:us-east-1:123:function:hello",
            "arn:aws:lambda:us-east-1:123456789012:layer:hello",
            "arn:aws:lambda:us-east-1:123456789012:function:",
            "arn:aws:lambda:us-east-1:123456789012:function:a:b:c",
            "arn:aws:lambda:us-east-1:123456789012:function:a:",
        ] {
            assert_eq!(FunctionArn::parse(text), None, "{text}");
        }
    }
}
