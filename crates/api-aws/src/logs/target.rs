//! Which group a request means: by its name, or by an identifier, which may be an ARN.

use ::logs::GroupName;

use super::{invalid, missing, permit};
use crate::failure::Failure;
use crate::members::Members;
use crate::request::Request;

/// A group that the caller may do something to.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) group: GroupName,
    /// Without `:*` at the end.
    pub(super) arn: String,
}

impl Target {
    /// The group of `logGroupName`.
    pub(super) fn named(request: &Request<'_>, members: &Members<'_>, action: &str) -> Result<Self, Failure> {
        let name = members.text("logGroupName")?.ok_or_else(|| missing("logGroupName"))?;
        Self::new(request, &name, action)
    }

    /// The group of `logGroupName` or `logGroupIdentifier`, of which one has to be given.
    pub(super) fn identified(
        request: &Request<'_>,
        members: &Members<'_>,
        action: &str,
    ) -> Result<Self, Failure> {
        match (members.text("logGroupName")?, members.text("logGroupIdentifier")?) {
            (Some(name), None) => Self::new(request, &name, action),
            (None, Some(identifier)) if identifier.starts_with("arn:") => {
                Self::of_arn(request, &identifier, action)
            }
            (None, Some(identifier)) => Self::new(request, &identifier, action),
            (Some(_), Some(_)) => {
                Err(invalid("LogGroup name and LogGroup ARN are mutually exclusive parameters."))
            }
            (None, None) => Err(invalid("Either LogGroup name or LogGroup ARN must be specified.")),
        }
    }

    /// The group of an ARN. One of another account is the caller's to do nothing with.
    pub(super) fn of_arn(request: &Request<'_>, arn: &str, action: &str) -> Result<Self, Failure> {
        let arn = arn.strip_suffix(":*").unwrap_or(arn);
        let name = name_in(arn, request.api.region.as_str()).ok_or_else(|| {
            invalid(format!("The ARN {arn} is not that of a log group in {}.", request.api.region))
        })?;
        permit(request.caller, action, arn)?;
        let group = GroupName { account: request.caller.account.clone(), name: name.to_owned() };
        Ok(Self { group, arn: arn.to_owned() })
    }

    fn new(request: &Request<'_>, name: &str, action: &str) -> Result<Self, Failure> {
        let arn = arn(request, name);
        permit(request.caller, action, &arn)?;
        let group = GroupName { account: request.caller.account.clone(), name: name.to_owned() };
        Ok(Self { group, arn })
    }
}

/// The ARN of one of the caller's groups.
pub(super) fn arn(request: &Request<'_>, group: &str) -> String {
    format!("arn:aws:logs:{}:{}:log-group:{group}", request.api.region, request.caller.account)
}

/// `arn:PARTITION:logs:REGION:ACCOUNT:log-group:NAME`
fn name_in<'a>(arn: &'a str, region: &str) -> Option<&'a str> {
    let mut parts = arn.splitn(7, ':');
    let fine = parts.next() == Some("arn")
        && parts.next().is_some()
        && parts.next() == Some("logs")
        && parts.next() == Some(region)
        && parts.next().is_some_and(|account| base::AccountId::parse(account).is_some())
        && parts.next() == Some("log-group");
    parts.next().filter(|name| fine && !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_arns() {
        for (arn, expect) in [
            ("arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/x", Some("/aws/lambda/x")),
            ("arn:aws:logs:us-east-1:123456789012:log-group:", None),
            ("arn:aws:logs:eu-west-1:123456789012:log-group:x", None),
            ("arn:aws:logs:us-east-1::log-group:x", None),
            ("arn:aws:lambda:us-east-1:123456789012:function:x", None),
            ("x", None),
        ] {
            assert_eq!(name_in(arn, "us-east-1"), expect, "{arn}");
        }
    }
}
