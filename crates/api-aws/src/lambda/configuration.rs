//! The answer shape FunctionConfiguration, and the members that CreateFunction and
//! UpdateFunctionConfiguration take in common.

use std::collections::BTreeMap;

use base::LayerArn;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use functions::model::{Configuration, FunctionView, ImageConfig, Reason, State, UpdateStatus};
use functions::{AttachedLayer, FileSystemConfig, LogLevel, Logging, LoggingChange};
use serde_json::{Map, Value, json};

use super::unbuilt::HOST_ARCHITECTURE;
use super::{code_signing, file_systems, image, layers};
use crate::constraint::Violations;
use crate::failure::Failure;
use crate::members::Members;

/// Lambda API: FunctionConfiguration. Members without a value are left out, never null.
pub(crate) fn shape(view: &FunctionView) -> Value {
    let configuration = &view.configuration;
    let mut out = json!({
        "FunctionName": view.arn.name,
        "FunctionArn": view.arn.to_string(),
        "Role": configuration.role,
        "CodeSize": configuration.code.size,
        "Description": configuration.description,
        "Timeout": configuration.timeout_s,
        "MemorySize": configuration.memory_mb,
        "LastModified": configuration.last_modified.to_lambda(),
        "CodeSha256": code_sha256(configuration),
        "Version": configuration.version,
        "TracingConfig": { "Mode": if configuration.traced { "Active" } else { "PassThrough" } },
        "RevisionId": configuration.revision_id,
        "State": state(configuration.state),
        "LastUpdateStatus": update_status(configuration.update_status),
        "PackageType": if configuration.image.is_some() { "Image" } else { "Zip" },
        "Architectures": [HOST_ARCHITECTURE],
        "EphemeralStorage": { "Size": configuration.ephemeral_mb },
        "SnapStart": snap_start_shape(configuration),
        "LoggingConfig": logging_shape(configuration, &view.arn.name),
    });
    code_signing::signed(&mut out, configuration.signature.as_ref());
    if let Value::Object(out) = &mut out {
        match &configuration.image {
            None => drop(out.insert("Runtime".to_owned(), json!(configuration.runtime))),
            Some(code) => {
                if let Some(config) = image::config_response(&code.config) {
                    out.insert("ImageConfigResponse".to_owned(), config);
                }
            }
        }
        if !configuration.handler.is_empty() {
            out.insert("Handler".to_owned(), json!(configuration.handler));
        }
        if !configuration.environment.is_empty() {
            out.insert("Environment".to_owned(), json!({ "Variables": configuration.environment }));
        }
        if !configuration.layers.is_empty() {
            let shape = |layer: &AttachedLayer| {
                let mut shape = json!({ "Arn": layer.arn, "CodeSize": layer.code.size });
                code_signing::signed(&mut shape, layer.signature.as_ref());
                shape
            };
            let layers: Vec<Value> = configuration.layers.iter().map(shape).collect();
            out.insert("Layers".to_owned(), layers.into());
        }
        if !configuration.file_systems.is_empty() {
            out.insert("FileSystemConfigs".to_owned(), file_systems::shape(&configuration.file_systems));
        }
        reason(out, "StateReason", configuration.state_reason.as_ref());
        // `Creating` is a reason for a state only; the model does not know it as one for an update's.
        let update = configuration.update_reason.as_ref().filter(|reason| reason.code != "Creating");
        reason(out, "LastUpdateStatusReason", update);
    }
    out
}

/// `On` for a published version that can be called and whose runtime can be copied (Lambda API: SnapStartResponse).
fn snap_start_shape(configuration: &Configuration) -> Value {
    let copied = ["python", "php", "ruby"].iter().any(|runtime| configuration.runtime.starts_with(runtime));
    let published = configuration.version != functions::model::LATEST;
    let on = configuration.snap_start && copied && published && configuration.state == State::Active;
    json!({
        "ApplyOn": if configuration.snap_start { "PublishedVersions" } else { "None" },
        "OptimizationStatus": if on { "On" } else { "Off" },
    })
}

fn logging_shape(configuration: &Configuration, function: &str) -> Value {
    let group = configuration.log_group.clone().unwrap_or_else(|| format!("/aws/lambda/{function}"));
    match configuration.logging {
        Logging::Text => json!({ "LogFormat": "Text", "LogGroup": group }),
        Logging::Json { application, system } => json!({
            "LogFormat": "JSON",
            "ApplicationLogLevel": application.as_str(),
            "SystemLogLevel": system.as_str(),
            "LogGroup": group,
        }),
    }
}

fn reason(out: &mut Map<String, Value>, member: &str, reason: Option<&Reason>) {
    if let Some(reason) = reason {
        out.insert(member.to_owned(), json!(reason.text));
        out.insert(format!("{member}Code"), json!(reason.code));
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Pending => "Pending",
        State::Active => "Active",
        State::Failed => "Failed",
    }
}

fn update_status(status: UpdateStatus) -> &'static str {
    match status {
        UpdateStatus::InProgress => "InProgress",
        UpdateStatus::Successful => "Successful",
        UpdateStatus::Failed => "Failed",
    }
}

/// The digest: of a zip base64 in Lambda's API, of an image hexadecimal.
fn code_sha256(configuration: &Configuration) -> String {
    match &configuration.image {
        Some(image) => image.digest.clone().unwrap_or_default(),
        None => STANDARD.encode(hex::decode(&configuration.code.digest).unwrap_or_default()),
    }
}

/// The members that both operations take, checked for shape and range; `None` where absent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) description: Option<String>,
    pub(crate) role: Option<String>,
    pub(crate) runtime: Option<String>,
    pub(crate) handler: Option<String>,
    pub(crate) timeout_s: Option<u32>,
    pub(crate) memory_mb: Option<u32>,
    pub(crate) ephemeral_mb: Option<u32>,
    pub(crate) environment: Option<BTreeMap<String, String>>,
    pub(crate) logging: LoggingChange,
    pub(crate) log_group: Option<String>,
    pub(crate) layers: Option<Vec<LayerArn>>,
    pub(crate) snap_start: Option<bool>,
    pub(crate) traced: Option<bool>,
    pub(crate) file_systems: Option<Vec<FileSystemConfig>>,
    pub(crate) image_config: Option<ImageConfig>,
}

const ROLE_PATTERN: &str = "arn:(aws[a-zA-Z-]*)?:iam::\\d{12}:role/?[a-zA-Z_0-9+=,.@\\-_/]+";
const VARIABLE_PATTERN: &str = "[a-zA-Z]([a-zA-Z0-9_])+";

/// Reads them, noting what breaks the model's constraints.
pub(crate) fn given(members: &Members<'_>, violations: &mut Violations) -> Result<Given, Failure> {
    let given = Given {
        description: members.text("Description")?,
        role: members.text("Role")?,
        runtime: members.text("Runtime")?,
        handler: members.text("Handler")?,
        timeout_s: number(members.integer("Timeout")?, "timeout", 1, 900, violations),
        memory_mb: number(members.integer("MemorySize")?, "memorySize", 128, 10_240, violations),
        ephemeral_mb: ephemeral_storage(members, violations)?,
        environment: environment(members, violations)?,
        logging: logging(members, violations)?,
        log_group: log_group(members, violations)?,
        layers: layers::given(members, violations)?,
        snap_start: switch(
            members,
            violations,
            ("SnapStart", "ApplyOn", "snapStart.applyOn"),
            ["PublishedVersions", "None"],
        )?,
        traced: switch(
            members,
            violations,
            ("TracingConfig", "Mode", "tracingConfig.mode"),
            ["Active", "PassThrough"],
        )?,
        file_systems: file_systems::given(members, violations)?,
        image_config: image::config(members)?,
    };
    if let Some(text) = &given.description {
        violations.length("description", text, 0, 256);
    }
    if let Some(role) = &given.role {
        violations.pattern("role", role, is_role(role), ROLE_PATTERN);
    }
    if let Some(handler) = &given.handler {
        violations.length("handler", handler, 0, 128);
        violations.pattern("handler", handler, !handler.contains(char::is_whitespace), "[^\\s]+");
    }
    Ok(given)
}

/// A structure of one member that has two values: whether it is the first of them.
fn switch(
    members: &Members<'_>,
    violations: &mut Violations,
    (name, member, shown): (&str, &str, &str),
    values: [&str; 2],
) -> Result<Option<bool>, Failure> {
    let value = members.object(name)?.map(|config| config.text(member)).transpose()?.flatten();
    if let Some(value) = &value {
        violations.one_of(shown, value, &values);
    }
    Ok(value.map(|value| value == values[0]))
}

fn number(value: Option<i64>, member: &str, min: u32, max: u32, violations: &mut Violations) -> Option<u32> {
    let value = value?;
    violations.range(member, value, min.into(), max.into());
    u32::try_from(value).ok()
}

fn ephemeral_storage(members: &Members<'_>, violations: &mut Violations) -> Result<Option<u32>, Failure> {
    let Some(storage) = members.object("EphemeralStorage")? else { return Ok(None) };
    let size = storage.integer("Size")?;
    violations.required("ephemeralStorage.size", size.is_some());
    Ok(number(size, "ephemeralStorage.size", 512, 10_240, violations))
}

fn environment(
    members: &Members<'_>,
    violations: &mut Violations,
) -> Result<Option<BTreeMap<String, String>>, Failure> {
    let Some(environment) = members.object("Environment")? else { return Ok(None) };
    let variables = environment.map("Variables")?.unwrap_or_default();
    for name in variables.keys() {
        // The name is shown, the value never: it may be a secret.
        violations.pattern("environment.variables", name, is_variable(name), VARIABLE_PATTERN);
    }
    Ok(Some(variables))
}

/// The group that the function logs to; one that is empty says nothing.
fn log_group(members: &Members<'_>, violations: &mut Violations) -> Result<Option<String>, Failure> {
    let Some(config) = members.object("LoggingConfig")? else { return Ok(None) };
    let group = config.condition("LogGroup")?;
    if let Some(group) = &group {
        let fine = group.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_/#".contains(&byte));
        violations.length("loggingConfig.logGroup", group, 1, 512);
        violations.pattern("loggingConfig.logGroup", group, fine, "[\\.\\-_/#A-Za-z0-9]+");
    }
    Ok(group)
}

/// How the function logs.
fn logging(members: &Members<'_>, violations: &mut Violations) -> Result<LoggingChange, Failure> {
    let Some(config) = members.object("LoggingConfig")? else { return Ok(LoggingChange::default()) };
    let format = config.text("LogFormat")?;
    if let Some(format) = &format {
        violations.one_of("loggingConfig.logFormat", format, &["JSON", "Text"]);
    }
    let application = config.text("ApplicationLogLevel")?;
    if let Some(level) = &application {
        let names = LogLevel::ALL.map(LogLevel::as_str);
        violations.one_of("loggingConfig.applicationLogLevel", level, &names);
    }
    let system = config.text("SystemLogLevel")?;
    if let Some(level) = &system {
        violations.one_of("loggingConfig.systemLogLevel", level, &["DEBUG", "INFO", "WARN"]);
    }
    let level = |name: Option<String>| name.as_deref().and_then(LogLevel::parse);
    let (application, system) = (level(application), level(system));
    Ok(LoggingChange { json: format.map(|format| format == "JSON"), application, system })
}

fn is_variable(name: &str) -> bool {
    name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn is_role(arn: &str) -> bool {
    let mut parts = arn.splitn(6, ':');
    let partition = |text: &str| text.is_empty() || text.starts_with("aws");
    parts.next() == Some("arn")
        && parts.next().is_some_and(partition)
        && parts.next() == Some("iam")
        && parts.next() == Some("")
        && parts.next().is_some_and(|account| base::AccountId::parse(account).is_some())
        && parts.next().and_then(|rest| rest.strip_prefix("role")).is_some_and(is_role_path)
}

fn is_role_path(path: &str) -> bool {
    let path = path.strip_prefix('/').unwrap_or(path);
    !path.is_empty() && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@-_/".contains(&b))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use base::{AccountId, FunctionArn, Region, Timestamp};
    use functions::model::{CodeRef, Settings};
    use sandbox::{Contract, Egress, Isolation};

    pub(crate) fn view() -> FunctionView {
        FunctionView {
            arn: FunctionArn {
                region: Region::default(),
                account: AccountId::parse("123456789012").unwrap(),
                name: "hello".into(),
                qualifier: None,
            },
            configuration: Configuration {
                version: "$LATEST".into(),
                description: String::new(),
                role: "arn:aws:iam::123456789012:role/r".into(),
                runtime: "python3.11".into(),
                handler: "app.handler".into(),
                timeout_s: 3,
                memory_mb: 128,
                ephemeral_mb: 512,
                logging: Logging::Text,
                log_group: None,
                environment: BTreeMap::new(),
                code: CodeRef { digest: "ab".repeat(32), size: 321 },
                signature: None,
                image: None,
                layers: Vec::new(),
                file_systems: Vec::new(),
                snap_start: false,
                traced: false,
                runtime_management: Default::default(),
                setting_tags: None,
                settings: Settings {
                    contract: Contract::Lambda,
                    isolation: Isolation::Process,
                    memory_mb: None,
                    cpu_hundredths: None,
                    soft_concurrency: 1,
                    hard_concurrency: 1,
                    idle_timeout_s: 300,
                    fixed_idle: false,
                    freeze: true,
                    template: true,
                    egress: Egress::None,
                    port: 8080,
                    async_timeout_s: None,
                },
                last_modified: Timestamp(1_795_160_258_123),
                revision_id: "r1".into(),
                state: State::Pending,
                state_reason: Some(Reason {
                    code: "Creating".into(),
                    text: "The function is being created.".into(),
                }),
                update_status: UpdateStatus::InProgress,
                update_reason: Some(Reason {
                    code: "Creating".into(),
                    text: "The function is being created.".into(),
                }),
            },
        }
    }

    #[test]
    fn the_shape_has_no_nulls_and_the_right_forms() {
        let shape = shape(&view());
        assert_eq!(shape["FunctionArn"], "arn:aws:lambda:us-east-1:123456789012:function:hello");
        assert_eq!(shape["LastModified"], "2026-11-20T07:37:38.123+0000");
        assert_eq!(shape["CodeSha256"], "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=");
        assert_eq!((&shape["State"], &shape["StateReasonCode"]), (&json!("Pending"), &json!("Creating")));
        assert!(shape.get("Environment").is_none() && shape.get("LastUpdateStatusReason").is_none());
        assert!(shape.as_object().unwrap().values().all(|value| !value.is_null()));
    }

    fn check(body: &str, expect: &str) {
        let members = Members::parse(body.as_bytes()).unwrap();
        let mut violations = Violations::default();
        let shown = match given(&members, &mut violations) {
            Ok(_) => violations.message().unwrap_or_default(),
            Err(failure) => failure.message,
        };
        assert!(shown.contains(expect) && shown.is_empty() == expect.is_empty(), "{body}: {shown}");
    }

    #[test]
    fn constraints_are_the_models() {
        check(r#"{"Timeout":900,"MemorySize":128,"EphemeralStorage":{"Size":512},"Handler":""}"#, "");
        check(r#"{"Role":"arn:aws:iam::123456789012:role/service-role/x"}"#, "");
        check(
            r#"{"Timeout":0}"#,
            "Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1",
        );
        check(
            r#"{"Timeout":901}"#,
            "Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900",
        );
        check(r#"{"MemorySize":10240,"EphemeralStorage":{"Size":10240}}"#, "");
        check(r#"{"MemorySize":127}"#, "greater than or equal to 128");
        check(r#"{"MemorySize":10241}"#, "less than or equal to 10240");
        check(r#"{"EphemeralStorage":{"Size":511}}"#, "greater than or equal to 512");
        check(r#"{"EphemeralStorage":{"Size":10241}}"#, "less than or equal to 10240");
        let long = |member: &str, count: usize| format!(r#"{{"{member}":"{}"}}"#, "x".repeat(count));
        for (member, most) in [("Description", 256), ("Handler", 128)] {
            check(&long(member, most), "");
            check(&long(member, most + 1), &format!("less than or equal to {most}"));
        }
        check(r#"{"MemorySize":99999999999}"#, "'memorySize'");
        check(r#"{"EphemeralStorage":{}}"#, "Value null at 'ephemeralStorage.size'");
        check(r#"{"Handler":"a b"}"#, "'handler'");
        check(r#"{"Role":"admin"}"#, "'role'");
        check(r#"{"Role":"arn:aws:iam::12:role/x"}"#, "'role'");
        check(
            r#"{"Environment":{"Variables":{"1A":"secret-value"}}}"#,
            "Value '1A' at 'environment.variables'",
        );
        check(r#"{"Environment":{"Variables":{"A1":3}}}"#, "can not be converted");
        check(r#"{"SnapStart":{"ApplyOn":"None"},"TracingConfig":{"Mode":"Active"}}"#, "");
        check(r#"{"SnapStart":{"ApplyOn":"Always"}}"#, "'snapStart.applyOn'");
        check(r#"{"TracingConfig":{"Mode":"Loud"}}"#, "[Active, PassThrough]");
        check(r#"{"Environment":[]}"#, "can not be converted to a structure");
    }

    #[test]
    fn secrets_stay_out_of_refusals() {
        let members = Members::parse(br#"{"Environment":{"Variables":{"1A":"secret-value"}}}"#).unwrap();
        let mut violations = Violations::default();
        given(&members, &mut violations).unwrap();
        assert!(!violations.message().unwrap().contains("secret-value"));
    }
}
