//! Members that Lambda's model knows and this server does not do: accepted while they hold the value that
//! means "not used", refused by name otherwise. Silently dropping `VpcConfig` would be a security hole.

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::members::Members;

/// Lambda's name for this machine's architecture.
pub(crate) const HOST_ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };

/// Refuses the members of `CreateFunction`, `UpdateFunctionConfiguration` and `UpdateFunctionCode` that are
/// not built.
pub(crate) fn refuse(members: &Members<'_>) -> Result<(), Failure> {
    let defaults = [
        ("VpcConfig", json!({})),
        ("DeadLetterConfig", json!({})),
        ("KMSKeyArn", json!("")),
        ("SourceKMSKeyArn", json!("")),
        ("Architectures", json!([HOST_ARCHITECTURE])),
        ("TenancyConfig", json!(null)),
        ("CapacityProviderConfig", json!(null)),
        ("DurableConfig", json!(null)),
        ("RuntimeConfig", json!(null)),
        ("AcceleratorConfig", json!(null)),
        ("PublishTo", json!(null)),
        ("S3ObjectStorageMode", json!(null)),
    ];
    for (name, default) in defaults {
        if let Some(value) = members.value(name)?
            && !holds_default(&value, &default)
        {
            return Err(refusal(name, &default));
        }
    }
    Ok(())
}

fn refusal(name: &str, default: &Value) -> Failure {
    let hint =
        if is_empty(default) { String::new() } else { format!("; the only value accepted is {default}") };
    // Encrypting with a key that is nobody's would be worse than saying so.
    let hint = match name {
        "KMSKeyArn" | "SourceKMSKeyArn" => ": it has no KMS, and seals with a key of its own".to_owned(),
        _ => hint,
    };
    Failure::invalid_parameter(format!("{name} is not supported by this server yet{hint}."))
}

/// Whether a value says nothing, or what is so anyway.
fn holds_default(value: &Value, default: &Value) -> bool {
    if is_empty(value) || value == default {
        return true;
    }
    match value {
        Value::Object(members) => members
            .iter()
            .all(|(name, member)| holds_default(member, default.get(name).unwrap_or(&Value::Null))),
        _ => false,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(is_empty),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, refused: Option<&str>) {
        let outcome = refuse(&Members::parse(body.as_bytes()).unwrap());
        match (outcome, refused) {
            (Ok(()), None) => {}
            (Err(failure), Some(name)) => {
                assert_eq!(failure.code, "InvalidParameterValueException");
                assert!(
                    failure.message.starts_with(&format!("{name} is not supported")),
                    "{body}: {}",
                    failure.message
                );
            }
            (outcome, _) => panic!("{body}: {outcome:?}"),
        }
    }

    #[test]
    fn defaults_pass() {
        check("{}", None);
        check(
            r#"{"VpcConfig":{"SubnetIds":[],"SecurityGroupIds":[],"Ipv6AllowedForDualStack":false}}"#,
            None,
        );
        check(r#"{"DeadLetterConfig":{"TargetArn":""}}"#, None);
        check(r#"{"KMSKeyArn":"","ImageConfig":{"EntryPoint":[]}}"#, None);
        check(
            r#"{"PackageType":"Zip","FileSystemConfigs":[],"DurableConfig":null,"Surprise":{"a":1}}"#,
            None,
        );
        check(&format!(r#"{{"Architectures":["{HOST_ARCHITECTURE}"]}}"#), None);
    }

    #[test]
    fn what_is_asked_for_and_not_built_is_refused_by_name() {
        check(r#"{"VpcConfig":{"SubnetIds":["subnet-1"]}}"#, Some("VpcConfig"));
        check(r#"{"DeadLetterConfig":{"TargetArn":"arn:aws:sqs:us-east-1:1:q"}}"#, Some("DeadLetterConfig"));
        check(r#"{"KMSKeyArn":"arn:aws:kms:us-east-1:123456789012:key/x"}"#, Some("KMSKeyArn"));
        check(r#"{"Architectures":["sparc"]}"#, Some("Architectures"));
        check(r#"{"AcceleratorConfig":{"AcceleratorMemorySize":16}}"#, Some("AcceleratorConfig"));
    }
}
