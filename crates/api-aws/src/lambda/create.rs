//! Lambda API: CreateFunction.

use std::collections::BTreeMap;

use functions::model::{CreateFunction, FunctionRef};
use http::{Response, StatusCode};
use sandbox::Body;

use super::{code_signing, configuration, failed, image, json, name, tags, unbuilt};
use crate::constraint::Violations;
use crate::failure::Failure;
use crate::members::Members;
use crate::request::Request;

/// Lambda's defaults for what a request leaves out.
const TIMEOUT_S: u32 = 3;
const MEMORY_MB: u32 = 128;
const EPHEMERAL_MB: u32 = 512;
/// A static site's time-out: how long the slowest client may take for a file. No code runs meanwhile.
const SITE_TIMEOUT_S: u32 = 900;

/// 201 with the configuration, `Pending`.
pub(super) async fn create_function(request: &Request<'_>) -> Result<Response<Body>, Failure> {
    let args = read(request)?;
    let view = request.api.functions.create(request.caller, args).await.map_err(failed(request))?;
    Ok(json(StatusCode::CREATED, &configuration::shape(&view)))
}

fn read(request: &Request<'_>) -> Result<CreateFunction, Failure> {
    let members = Members::parse(&request.body)?;
    let form = members.text("FunctionName")?;
    let mut violations = Violations::default();
    violations.required("functionName", form.is_some());
    let given = configuration::given(&members, &mut violations)?;
    violations.required("role", given.role.is_some());
    let code = members.object("Code")?;
    violations.required("code", code.is_some());
    let tags = members.map("Tags")?.unwrap_or_default();
    tags::check(&tags, &mut violations);
    let code_signing = code_signing::given(&members, &mut violations)?;
    violations.finish()?;

    let function = name_of(request, &form.unwrap_or_default())?;
    unbuilt::refuse(&members)?;
    let code = code.unwrap_or(Members::parse(b"")?);
    unbuilt::refuse(&code)?;
    let code = image::code(&code)?.ok_or_else(code_missing)?;
    let is_image = image::check_type(members.text("PackageType")?.as_deref(), &code)?;
    let timeout_s = if given.runtime.as_deref() == Some("static") { SITE_TIMEOUT_S } else { TIMEOUT_S };
    Ok(CreateFunction {
        name: function.name,
        description: given.description.unwrap_or_default(),
        role: given.role.unwrap_or_default(),
        runtime: match given.runtime {
            None if is_image => String::new(),
            runtime => runtime.ok_or_else(runtime_missing)?,
        },
        handler: given.handler.unwrap_or_default(),
        timeout_s: given.timeout_s.unwrap_or(timeout_s),
        memory_mb: given.memory_mb.unwrap_or(MEMORY_MB),
        ephemeral_mb: given.ephemeral_mb.unwrap_or(EPHEMERAL_MB),
        environment: given.environment.unwrap_or_else(BTreeMap::new),
        logging: given.logging,
        log_group: given.log_group,
        code,
        layers: given.layers.unwrap_or_default(),
        snap_start: given.snap_start.unwrap_or(false),
        traced: given.traced.unwrap_or(false),
        file_systems: given.file_systems.unwrap_or_default(),
        image_config: given.image_config.unwrap_or_default(),
        code_signing,
        tags,
        publish: members.boolean("Publish")?.unwrap_or(false),
    })
}

/// The name of a new function: in the caller's account, and of no version.
fn name_of(request: &Request<'_>, form: &str) -> Result<FunctionRef, Failure> {
    let function = name::unqualified(form, &request.caller.account, &request.api.region)?;
    if function.account == request.caller.account {
        return Ok(function);
    }
    Err(Failure::new(
        "AccessDeniedException",
        StatusCode::FORBIDDEN,
        "A function can be created in the caller's own account only.",
    ))
}

fn runtime_missing() -> Failure {
    Failure::invalid_parameter(
        "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
    )
}

pub(super) fn code_missing() -> Failure {
    Failure::invalid_parameter("Please provide a source for function code.")
}
