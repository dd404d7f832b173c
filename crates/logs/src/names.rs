//! What groups, streams and tags may be called (CloudWatch Logs API: CreateLogGroup, CreateLogStream, TagResource).

use crate::Error;

/// The longest name of a group, stream or filter.
const LENGTH: usize = 512;

const GROUP_PATTERN: &str = r"[\.\-_/#A-Za-z0-9]+";
const NAME_PATTERN: &str = "[^:*]*";

/// A group's name. `aws/` at the start is AWS's own.
pub(crate) fn check_group(name: &str) -> Result<(), Error> {
    let fine = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_/#".contains(&byte));
    check("logGroupName", name, fine, GROUP_PATTERN)?;
    if name.starts_with("aws/") {
        return Err(Error::Invalid("Log groups starting with AWS/ are reserved for AWS.".to_owned()));
    }
    Ok(())
}

/// A stream's name.
pub(crate) fn check_stream(name: &str) -> Result<(), Error> {
    check("logStreamName", name, !name.contains([':', '*']), NAME_PATTERN)
}

/// A subscription filter's name.
pub(crate) fn check_filter(name: &str) -> Result<(), Error> {
    check("filterName", name, !name.contains([':', '*']), NAME_PATTERN)
}

fn check(member: &str, name: &str, matches: bool, pattern: &str) -> Result<(), Error> {
    let length = name.chars().count();
    let rule = if length == 0 {
        "Member must have length greater than or equal to 1".to_owned()
    } else if length > LENGTH {
        format!("Member must have length less than or equal to {LENGTH}")
    } else if !matches {
        format!("Member must satisfy regular expression pattern: {pattern}")
    } else {
        return Ok(());
    };
    Err(violation(member, name, &rule))
}

/// AWS's words for a value that its model forbids.
pub(crate) fn violation(member: &str, value: &str, rule: &str) -> Error {
    let shown = &value[..value.floor_char_boundary(200)];
    Error::Invalid(format!(
        "1 validation error detected: Value '{shown}' at '{member}' failed to satisfy constraint: {rule}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_letters_and_length() {
        for fine in ["a", "/aws/lambda/x", "A-b_c#1.2", &"a".repeat(512)] {
            assert!(check_group(fine).is_ok(), "{fine}");
        }
        for bad in ["", "a b", "ä", "a:b", "a*", "aws/x", &"a".repeat(513)] {
            assert!(check_group(bad).is_err(), "{bad}");
        }
        for fine in ["a", "2026/11/20/[$LATEST]0", "ä ö", &"ä".repeat(512)] {
            assert!(check_stream(fine).is_ok(), "{fine}");
        }
        for bad in ["", "a:b", "a*", &"a".repeat(513)] {
            assert!(check_stream(bad).is_err(), "{bad}");
        }
    }
}
