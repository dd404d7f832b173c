//! Where code comes from: `ZipFile`, an object of S3, or `ImageUri` with `ImageConfig`, and what images are answered as.

use functions::ObjectRef;
use functions::model::{ImageCode, ImageConfig, NewCode};
use serde_json::{Map, Value, json};

use crate::constraint::Violations;
use crate::failure::Failure;
use crate::members::Members;

/// `ZipFile`, `S3Bucket` with `S3Key`, or `ImageUri` (Lambda API: FunctionCode).
pub(super) fn code(members: &Members<'_>) -> Result<Option<NewCode>, Failure> {
    let zip = members.blob("ZipFile")?;
    let uri = members.text("ImageUri")?.filter(|uri| !uri.is_empty());
    match (zip, object(members)?, uri) {
        (Some(zip), None, None) => Ok(Some(NewCode::Zip(zip.into()))),
        (None, Some(object), None) => Ok(Some(NewCode::Object(object))),
        (None, None, uri) => Ok(uri.map(NewCode::Image)),
        _ => Err(Failure::invalid_parameter("Please provide one source for function code, not two.")),
    }
}

/// `S3Bucket`, `S3Key`, `S3ObjectVersion` (Lambda API: FunctionCode, LayerVersionContentInput).
pub(super) fn object(members: &Members<'_>) -> Result<Option<ObjectRef>, Failure> {
    let given = |member: &str| Ok::<_, Failure>(members.text(member)?.filter(|text| !text.is_empty()));
    let (bucket, key, version) = (given("S3Bucket")?, given("S3Key")?, given("S3ObjectVersion")?);
    let (bucket, key) = match (bucket, key) {
        (None, None) if version.is_none() => return Ok(None),
        (Some(bucket), Some(key)) => (bucket, key),
        _ => return Err(Failure::invalid_parameter("S3Bucket and S3Key are both needed for code in S3.")),
    };
    let mut violations = Violations::default();
    violations.length("s3Bucket", &bucket, 3, 63);
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
    let legal = bucket.bytes().all(plain) && !bucket.ends_with('.');
    violations.pattern("s3Bucket", &bucket, legal, "[0-9A-Za-z\\.\\-_]*(?<!\\.)");
    violations.length("s3Key", &key, 1, 1024);
    if let Some(version) = &version {
        violations.length("s3ObjectVersion", version, 1, 1024);
    }
    violations.finish()?;
    Ok(Some(ObjectRef { bucket, key, version }))
}

/// Whether it is an image, which `PackageType` must agree with. Where that is not said, it is `Zip`.
pub(super) fn check_type(package: Option<&str>, code: &NewCode) -> Result<bool, Failure> {
    match (package, code) {
        (Some("Image"), NewCode::Image(_)) => Ok(true),
        (None | Some("Zip"), NewCode::Zip(_) | NewCode::Object(_)) => Ok(false),
        (Some("Image"), NewCode::Zip(_) | NewCode::Object(_)) => {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expect: &str) {
        let members = Members::parse(body.as_bytes()).unwrap();
        let shown = match object(&members) {
            Ok(found) => format!("{found:?}"),
            Err(failure) => failure.message,
        };
        assert!(shown.contains(expect), "{body}: {shown}");
    }

    #[test]
    fn objects_are_named_by_bucket_and_key() {
        check("{}", "None");
        check(r#"{"S3Bucket":"","S3Key":""}"#, "None");
        check(r#"{"S3Bucket":"code","S3Key":"k","S3ObjectVersion":"v"}"#, r#"version: Some("v")"#);
        for half in [r#"{"S3Bucket":"code"}"#, r#"{"S3Key":"k"}"#, r#"{"S3ObjectVersion":"v"}"#] {
            check(half, "both needed");
        }
        check(r#"{"S3Bucket":"co","S3Key":"k"}"#, "greater than or equal to 3");
        check(&format!(r#"{{"S3Bucket":"{}","S3Key":"k"}}"#, "b".repeat(64)), "less than or equal to 63");
        for bad in ["code.", "co/de", "co@de", "co de"] {
            check(&format!(r#"{{"S3Bucket":"{bad}","S3Key":"k"}}"#), "'s3Bucket' failed to satisfy");
        }
        let key = |length: usize| format!(r#"{{"S3Bucket":"code","S3Key":"{}"}}"#, "k".repeat(length));
        check(&key(1024), "Some(");
        check(&key(1025), "less than or equal to 1024");
    }
}
