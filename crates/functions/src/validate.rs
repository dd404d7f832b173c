//! The rules of a configuration that hold whoever asks (Lambda API: CreateFunction).

use std::ops::RangeInclusive;

use crate::model::Configuration;
use crate::{Error, environment, layers, limits, settings};

/// Checks a function's name.
pub(crate) fn name(name: &str) -> Result<(), Error> {
    let legal = (1..=limits::NAME_CHARS).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    legal.then_some(()).ok_or_else(|| {
        constraint(
            "functionName",
            name,
            "Member must have 1 to 64 characters and satisfy regular expression pattern: [a-zA-Z0-9-_]+",
        )
    })
}

/// Checks a layer's name.
pub(crate) fn layer_name(name: &str) -> Result<(), Error> {
    let legal = (1..=limits::LAYER_NAME_CHARS).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    legal.then_some(()).ok_or_else(|| {
        constraint(
            "layerName",
            name,
            "Member must have 1 to 140 characters and satisfy regular expression pattern: [a-zA-Z0-9-_]+",
        )
    })
}

/// Checks everything but name and runtime.
pub(crate) fn configuration(configuration: &Configuration) -> Result<(), Error> {
    range("timeout", configuration.timeout_s, limits::TIMEOUT_S)?;
    range("memorySize", configuration.memory_mb, limits::MEMORY_MB)?;
    range("ephemeralStorage.size", configuration.ephemeral_mb, limits::EPHEMERAL_MB)?;
    if configuration.description.chars().count() > limits::DESCRIPTION_CHARS {
        return Err(constraint("description", "", "Member must have length less than or equal to 256"));
    }
    if configuration.handler.len() > limits::HANDLER_BYTES
        || configuration.handler.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        return Err(constraint(
            "handler",
            &configuration.handler,
            "Member must have length less than or equal to 128 and satisfy regular expression pattern: [^\\s]+",
        ));
    }
    handler_given(configuration)?;
    image(configuration)?;
    layers::check(configuration)?;
    role(&configuration.role)?;
    environment::check(&configuration.environment)
}

/// Managed runtimes cannot guess what to run, a function or a web server's file; `bootstrap` and a component can be
/// found without a name (Lambda API: CreateFunction, `Handler`).
fn handler_given(configuration: &Configuration) -> Result<(), Error> {
    let found = !settings::runtime_of(configuration)?.is_managed();
    if found || !configuration.handler.is_empty() {
        return Ok(());
    }
    Err(Error::Invalid(
        "Runtime and Handler are mandatory parameters for functions created with deployment packages.".into(),
    ))
}

/// What an image function says in place of its image (Lambda API: ImageConfig).
fn image(configuration: &Configuration) -> Result<(), Error> {
    let Some(image) = &configuration.image else { return Ok(()) };
    let config = &image.config;
    for (member, list) in [("entryPoint", &config.entry_point), ("command", &config.command)] {
        let items = list.iter().flatten();
        if items.clone().count() > limits::IMAGE_WORDS {
            let rule = "Member must have length less than or equal to 1500";
            return Err(constraint(&format!("imageConfig.{member}"), "", rule));
        }
        if items.clone().any(|item| item.contains('\0'))
            || items.map(String::len).sum::<usize>() > limits::IMAGE_WORDS_BYTES
        {
            return Err(constraint(
                &format!("imageConfig.{member}"),
                "",
                "Member must be shorter, and without NUL",
            ));
        }
    }
    match &config.working_directory {
        Some(folder) if folder.len() > limits::WORKING_DIRECTORY_CHARS => {
            let rule = "Member must have length less than or equal to 1000";
            Err(constraint("imageConfig.workingDirectory", "", rule))
        }
        _ => Ok(()),
    }
}

/// `arn:aws:iam::ACCOUNT:role/NAME`; whether there is such a role is not asked.
fn role(role: &str) -> Result<(), Error> {
    let rest = role.strip_prefix("arn:").and_then(|rest| rest.split_once(":iam::"));
    let legal = rest.is_some_and(|(_, rest)| {
        let (account, name) = rest.split_once(":role/").unwrap_or_default();
        base::AccountId::parse(account).is_some()
            && !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@-_/".contains(&byte))
    });
    legal.then_some(()).ok_or_else(|| {
        constraint("role", role, "Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\\d{12}:role/?[a-zA-Z_0-9+=,.@\\-_/]+")
    })
}

fn range(member: &str, value: u32, range: RangeInclusive<u32>) -> Result<(), Error> {
    if value > *range.end() {
        let rule = format!("Member must have value less than or equal to {}", range.end());
        return Err(constraint(member, &value.to_string(), &rule));
    }
    if value < *range.start() {
        let rule = format!("Member must have value greater than or equal to {}", range.start());
        return Err(constraint(member, &value.to_string(), &rule));
    }
    Ok(())
}

fn constraint(member: &str, value: &str, rule: &str) -> Error {
    Error::Invalid(format!(
        "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: {rule}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_roles() {
        for good in ["a", "my-fn_2", &"n".repeat(64)] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a.b", "é", &"n".repeat(65)] {
            assert!(name(bad).is_err(), "{bad}");
        }
        assert!(role("arn:aws:iam::123456789012:role/service-role/x").is_ok());
        for bad in [
            "",
            "role",
            "arn:aws:iam::1:role/x",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::123456789012:user/x",
        ] {
            assert!(role(bad).is_err(), "{bad}");
        }
        assert!(
            range("timeout", 0, limits::TIMEOUT_S).is_err()
                && range("timeout", 901, limits::TIMEOUT_S).is_err()
        );
    }
}
