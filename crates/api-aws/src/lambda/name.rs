//! The forms of `FunctionName`: a name, `name:qualifier`, a partial ARN, an ARN; and the `Qualifier`
//! parameter beside it (Lambda API: FunctionName, Qualifier).

use base::{AccountId, Region};
use functions::model::FunctionRef;
use http::StatusCode;

use crate::constraint::Violations;
use crate::failure::Failure;

/// The model's pattern, quoted in refusals.
const PATTERN: &str = "(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1}:)?\
(\\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\\$LATEST|[a-zA-Z0-9-_]+))?";
const QUALIFIER_PATTERN: &str = "\\$(LATEST(\\.PUBLISHED)?)|[a-zA-Z0-9-_$]+";

/// Most characters of the name itself; the whole form may be longer.
const NAME_MAX: usize = 64;
/// Most characters of the longest form.
const FORM_MAX: usize = 140;

/// The parts that a form may have.
#[derive(Debug, PartialEq, Eq)]
struct Parts<'a> {
    region: Option<&'a str>,
    account: Option<&'a str>,
    name: &'a str,
    qualifier: Option<&'a str>,
}

/// Reads a `FunctionName` and a `Qualifier`; what the name leaves out is the caller's own.
pub(crate) fn function(
    form: &str,
    qualifier: Option<&str>,
    account: &AccountId,
    region: &Region,
) -> Result<FunctionRef, Failure> {
    let mut violations = Violations::default();
    violations.length("functionName", form, 1, FORM_MAX);
    let parts = split(form);
    violations.pattern("functionName", form, parts.is_some(), PATTERN);
    if let Some(parts) = &parts {
        violations.length("functionName", parts.name, 1, NAME_MAX);
    }
    if let Some(qualifier) = qualifier {
        violations.length("qualifier", qualifier, 1, 128);
        violations.pattern("qualifier", qualifier, is_qualifier(qualifier), QUALIFIER_PATTERN);
    }
    violations.finish()?;
    // The pattern's violation has been reported if there are no parts.
    let Some(parts) = parts else { return Err(Failure::invalid_parameter("functionName")) };
    if let Some(other) = parts.region.filter(|other| *other != region.as_str()) {
        let message = format!("Functions from '{other}' are not reachable in this region ('{region}')");
        return Err(Failure::new("ResourceNotFoundException", StatusCode::NOT_FOUND, message));
    }
    Ok(FunctionRef {
        account: parts.account.and_then(AccountId::parse).unwrap_or_else(|| account.clone()),
        name: parts.name.to_owned(),
        qualifier: one_qualifier(parts.qualifier, qualifier)?.map(str::to_owned),
    })
}

/// A function as a whole: for operations that do not take a version.
pub(crate) fn unqualified(form: &str, account: &AccountId, region: &Region) -> Result<FunctionRef, Failure> {
    let function = function(form, None, account, region)?;
    match function.qualifier.as_deref() {
        None | Some(functions::model::LATEST) => Ok(FunctionRef { qualifier: None, ..function }),
        Some(other) => Err(Failure::invalid_parameter(format!(
            "This operation changes $LATEST only; the qualifier '{other}' cannot be given."
        ))),
    }
}

fn one_qualifier<'a>(in_name: Option<&'a str>, beside: Option<&'a str>) -> Result<Option<&'a str>, Failure> {
    match (in_name, beside) {
        (Some(a), Some(b)) if a != b => Err(Failure::invalid_parameter(
            "The derived qualifier from the function name does not match the specified qualifier.",
        )),
        (a, b) => Ok(a.or(b)),
    }
}

/// Takes the optional parts from the front for as long as a name would be left.
fn split(form: &str) -> Option<Parts<'_>> {
    let mut rest: Vec<&str> = form.split(':').collect();
    if rest.len() > 3 && rest[0] == "arn" && is_partition(rest[1]) && rest[2] == "lambda" {
        rest.drain(..3);
    }
    let mut take = |fits: fn(&str) -> bool| {
        let taken = rest.len() > 1 && fits(rest[0]) && is_name(rest[1]) || rest.len() > 2 && fits(rest[0]);
        taken.then(|| rest.remove(0))
    };
    let region = take(is_region);
    let account = take(|text| AccountId::parse(text).is_some());
    take(|text| text == "function");
    match rest[..] {
        [name] if is_name(name) => Some(Parts { region, account, name, qualifier: None }),
        [name, qualifier]
            if is_name(name) && (qualifier == functions::model::LATEST || is_name(qualifier)) =>
        {
            Some(Parts { region, account, name, qualifier: Some(qualifier) })
        }
        _ => None,
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn is_qualifier(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'$' | b'.'))
}

fn is_partition(text: &str) -> bool {
    text.strip_prefix("aws").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-'))
}

/// `xx-name-1`, as all of AWS's regions are; a region of the operator's own naming is told by its ARN.
fn is_region(text: &str) -> bool {
    let mut dashed = text.rsplitn(2, '-');
    let digit = dashed.next().is_some_and(|last| last.len() == 1 && last.as_bytes()[0].is_ascii_digit());
    let words = dashed.next().is_some_and(|words| {
        words.contains('-') && words.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
    });
    digit && words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(form: &str, qualifier: Option<&str>, expect: &str) {
        let account = AccountId::parse("111111111111").unwrap();
        let shown = match function(form, qualifier, &account, &Region::default()) {
            Ok(FunctionRef { account, name, qualifier }) => {
                format!("{account} {name} {}", qualifier.as_deref().unwrap_or("-"))
            }
            Err(failure) => format!("{}: {}", failure.code, failure.message),
        };
        assert!(shown.starts_with(expect), "{form} {qualifier:?}: {shown}");
    }

    #[test]
    fn all_forms_name_a_function() {
        check("hello", None, "111111111111 hello -");
        check("hello:7", None, "111111111111 hello 7");
        check("hello:$LATEST", None, "111111111111 hello $LATEST");
        check("hello", Some("7"), "111111111111 hello 7");
        check("hello:7", Some("7"), "111111111111 hello 7");
        check("function:hello", None, "111111111111 hello -");
        check("function:$LATEST", None, "111111111111 function $LATEST");
        check("function", None, "111111111111 function -");
        check("222222222222:function:hello", None, "222222222222 hello -");
        check("222222222222:function:hello:live", None, "222222222222 hello live");
        check("222222222222", None, "111111111111 222222222222 -");
        check("us-east-1:222222222222:function:hello", None, "222222222222 hello -");
        check("arn:aws:lambda:us-east-1:222222222222:function:hello", None, "222222222222 hello -");
        check("arn:aws-cn:lambda:us-east-1:222222222222:function:hello:3", None, "222222222222 hello 3");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let pattern = "ValidationException: 1 validation error detected: Value";
        for bad in
            ["a b", "a/b", "a:b:c", "hello:", ":hello", "arn:aws:lambda", "arn:aws:s3:::bucket", "é", "a.b"]
        {
            check(bad, None, pattern);
        }
        check("", None, "ValidationException: 2 validation errors");
        check(&"a".repeat(65), None, "ValidationException: 1 validation error detected: Value");
        check(
            "hello",
            Some("a b"),
            "ValidationException: 1 validation error detected: Value 'a b' at 'qualifier'",
        );
        check("hello:7", Some("8"), "InvalidParameterValueException: The derived qualifier");
        check(
            "arn:aws:lambda:eu-west-1:222222222222:function:hello",
            None,
            "ResourceNotFoundException: Functions from 'eu-west-1' are not reachable",
        );
    }

    #[test]
    fn changes_are_to_latest_only() {
        let account = AccountId::parse("111111111111").unwrap();
        let read = |form| unqualified(form, &account, &Region::default());
        assert_eq!(read("hello:$LATEST").unwrap().qualifier, None);
        assert_eq!(read("hello:3").unwrap_err().code, "InvalidParameterValueException");
    }
}
