//! Environment variables: what users may set, and the whole that an instance is started with.

use std::collections::BTreeMap;

use base::{FunctionArn, InstanceId};
use iam::Credentials;
use sandbox::Artifact;

use crate::logging::Logging;
use crate::model::Configuration;
use crate::{Error, limits};

/// Lambda's reserved variables (Lambda: Working with environment variables), and those by which Virga's back
/// ends reach the code.
const RESERVED: &[&str] = &[
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_FORMAT",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_LEVEL",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_TASK_ROOT",
    "LAMBDA_RUNTIME_DIR",
    "AWS_LAMBDA_MAX_CONCURRENCY",
    "AWS_LAMBDA_METADATA_API",
    "AWS_LAMBDA_METADATA_TOKEN",
];

/// Checks what a user sets (Lambda API: Environment).
pub(crate) fn check(environment: &BTreeMap<String, String>) -> Result<(), Error> {
    let reserved: Vec<&str> =
        environment.keys().map(String::as_str).filter(|key| RESERVED.contains(key)).collect();
    if !reserved.is_empty() {
        return Err(Error::Invalid(format!(
            "Lambda was unable to configure your environment variables because the environment variables you have \
             provided contains reserved keys that are currently not supported for modification. Reserved keys used in \
             this request: {}",
            reserved.join(", ")
        )));
    }
    if let Some(key) = environment.keys().find(|key| !is_key(key)) {
        return Err(Error::Invalid(format!(
            "The environment variable name '{key}' failed to satisfy constraint: Member must satisfy regular expression \
             pattern: [a-zA-Z]([a-zA-Z0-9_])+"
        )));
    }
    if let Some((key, _)) = environment.iter().find(|(_, value)| value.contains('\0')) {
        return Err(Error::Invalid(format!("The environment variable '{key}' holds a NUL.")));
    }
    let bytes: usize = environment.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > limits::ENVIRONMENT_BYTES {
        return Err(Error::Invalid(format!(
            "Lambda was unable to configure your environment variables because the environment variables you have \
             provided exceeded the 4KB limit. The environment variables hold {bytes} bytes."
        )));
    }
    Ok(())
}

fn is_key(key: &str) -> bool {
    key.len() >= 2
        && key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether an image's own variable of this name gives way. Where its code and its client lie, an image knows better.
fn is_platforms(key: &str) -> bool {
    RESERVED.contains(&key) && key != "LAMBDA_TASK_ROOT" && key != "LAMBDA_RUNTIME_DIR"
}

/// The name of a function's own log group.
pub(crate) fn own_log_group(name: &str) -> String {
    format!("/aws/lambda/{name}")
}

/// The log group that a function writes to (Lambda API: LoggingConfig, LogGroup).
pub(crate) fn log_group(name: &str, configuration: &Configuration) -> String {
    configuration.log_group.clone().unwrap_or_else(|| own_log_group(name))
}

/// An instance's log stream. In a group that several functions may share it says whose it is (Lambda: Configuring log
/// groups).
pub(crate) fn log_stream(
    date: &str,
    name: &str,
    configuration: &Configuration,
    instance: &InstanceId,
) -> String {
    let version = &configuration.version;
    match configuration.log_group {
        None => format!("{date}/[{version}]{instance}"),
        Some(_) => format!("{date}/{name}[{version}][{instance}]"),
    }
}

/// The environment of one instance (Lambda: Defined runtime environment variables), the user's own first so
/// that nothing of the platform's can be shadowed.
pub(crate) fn of_instance(
    arn: &FunctionArn,
    configuration: &Configuration,
    artifact: &Artifact,
    log_stream: &str,
    credentials: Credentials,
) -> Vec<(String, String)> {
    let memory = configuration.settings.memory_mb.unwrap_or(configuration.memory_mb);
    let mut all: Vec<(String, String)> =
        configuration.environment.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let has = |key: &str| configuration.environment.contains_key(key);
    let runtime = &artifact.runtime;
    let is_image = artifact.image.is_some();
    // An image says such things itself.
    let (time_zone, language) = (!is_image && !has("TZ"), !is_image && !has("LANG"));
    if let Some(image) = &artifact.image {
        let own = image.env.iter().filter(|(key, _)| !has(key) && !is_platforms(key));
        all.extend(own.cloned());
    }
    let mut set = |key: &str, value: String| all.push((key.to_owned(), value));
    if is_image {
        set("_HANDLER", artifact.handler.clone());
    } else {
        set("_HANDLER", configuration.handler.clone());
        set("LAMBDA_TASK_ROOT", "/var/task".into());
        set("LAMBDA_RUNTIME_DIR", "/var/runtime".into());
    }
    // Lambda sets it for managed runtimes only.
    if runtime.is_managed() {
        set("AWS_EXECUTION_ENV", format!("AWS_Lambda_{runtime}"));
    }
    set("AWS_LAMBDA_FUNCTION_NAME", arn.name.clone());
    set("AWS_LAMBDA_FUNCTION_VERSION", configuration.version.clone());
    set("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory.to_string());
    set("AWS_LAMBDA_LOG_GROUP_NAME", log_group(&arn.name, configuration));
    set("AWS_LAMBDA_LOG_STREAM_NAME", log_stream.to_owned());
    if let Logging::Json { application, .. } = configuration.logging {
        set("AWS_LAMBDA_LOG_FORMAT", "JSON".into());
        set("AWS_LAMBDA_LOG_LEVEL", application.as_str().into());
    }
    set("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".into());
    set("AWS_REGION", arn.region.to_string());
    set("AWS_DEFAULT_REGION", arn.region.to_string());
    set("AWS_ACCESS_KEY_ID", credentials.access_key_id);
    set("AWS_SECRET_ACCESS_KEY", credentials.secret_access_key);
    if let Some(token) = credentials.session_token {
        set("AWS_SESSION_TOKEN", token);
    }
    if time_zone {
        set("TZ", ":UTC".into());
    }
    if language {
        set("LANG", "en_US.UTF-8".into());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> Result<(), String> {
        let environment = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        check(&environment).map_err(|error| error.to_string())
    }

    #[test]
    fn reserved_keys_are_named() {
        let error = set(&[("AWS_REGION", "x"), ("STAGE", "dev"), ("_HANDLER", "x")]).unwrap_err();
        assert!(error.ends_with("Reserved keys used in this request: AWS_REGION, _HANDLER"), "{error}");
    }

    #[test]
    fn names_and_sizes_are_lambdas() {
        assert!(set(&[("STAGE", "dev"), ("a1", ""), ("PATH", "/opt/bin")]).is_ok());
        for bad in ["", "a", "1a", "_a", "a-b", "a b"] {
            assert!(set(&[(bad, "x")]).is_err(), "{bad}");
        }
        assert!(set(&[("KEY", &"v".repeat(4093))]).is_ok());
        assert!(set(&[("KEY", &"v".repeat(4094))]).is_err());
    }
}
