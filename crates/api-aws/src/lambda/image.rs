//! Functions whose code is a container image: `ImageUri`, `ImageConfig`, and what they are answered as.

use functions::model::{ImageCode, ImageConfig, NewCode};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::members::Members;

/// `ZipFile` or `ImageUri` (Lambda API: FunctionCode).
pub(super) fn code(members: &Members<'_>) -> Result<Option<NewCode>, Failure> {
    let zip = members.blob("ZipFile")?;
    let uri = members.text("ImageUri")?.filter(|uri| !uri.is_empty());
    match (zip, uri) {
        (Some(_), Some(_)) => {
            Err(Failure::invalid_parameter("Please provide one source for function code, not two."))
        }
        (Some(zip), None) => Ok(Some(NewCode::Zip(zip.into()))),
        (None, uri) => Ok(uri.map(NewCode::Image)),
    }
}

/// Whether it is an image, which `PackageType` must agree with. Where that is not said, it is `Zip`.
pub(super) fn check_type(package: Option<&str>, code: &NewCode) -> Result<bool, Failure> {
    match (package, code) {
        (Some("Image"), NewCode::Image(_)) => Ok(true),
        (None | Some("Zip"), NewCode::Zip(_)) => Ok(false),
        (Some("Image"), NewCode::Zip(_)) => {
            Err(Failure::invalid_parameter("Please provide ImageUri when PackageType is Image."))
        }
        (None | Some("Zip"), NewCode::Image(_)) => {
            Err(Failure::invalid_parameter("Please set PackageType to Image when ImageUri is provided."))
        }
        (Some(_), _) => Err(Failure::invalid_parameter("PackageType is Zip or Image.")),
    }
}

/// `ImageConfig`, where given; empty members say nothing.
pub(super) fn config(members: &Members<'_>) -> Result<Option<ImageConfig>, Failure> {
    let Some(config) = members.object("ImageConfig")? else { return Ok(None) };
    let words = |member: &str| -> Result<Option<Vec<String>>, Failure> {
        Ok(config.texts(member)?.filter(|words| !words.is_empty()))
    };
    let config = ImageConfig {
        entry_point: words("EntryPoint")?,
        command: words("Command")?,
        working_directory: config.text("WorkingDirectory")?.filter(|folder| !folder.is_empty()),
    };
    Ok(Some(config))
}

/// Lambda API: ImageConfigResponse; none where the image is run as it says.
pub(super) fn config_response(config: &ImageConfig) -> Option<Value> {
    let mut out = Map::new();
    let ImageConfig { entry_point, command, working_directory } = config;
    let members = [
        ("EntryPoint", entry_point.as_ref().map(|words| json!(words))),
        ("Command", command.as_ref().map(|words| json!(words))),
        ("WorkingDirectory", working_directory.as_ref().map(|folder| json!(folder))),
    ];
    for (member, value) in members {
        if let Some(value) = value {
            out.insert(member.to_owned(), value);
        }
    }
    (!out.is_empty()).then(|| json!({ "ImageConfig": out }))
}

/// Lambda API: FunctionCodeLocation. `ECR` is the one registry type that its clients know.
pub(super) fn code_location(code: &ImageCode) -> Value {
    let mut out = json!({ "RepositoryType": "ECR", "ImageUri": code.uri });
    if let Some(resolved) = &code.resolved {
        out["ResolvedImageUri"] = json!(resolved);
    }
    out
}
