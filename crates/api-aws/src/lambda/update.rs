//! Lambda API: UpdateFunctionCode, UpdateFunctionConfiguration.

use functions::model::{UpdateCode, UpdateConfiguration};
use http::{Response, StatusCode};
use sandbox::Body;

use super::{configuration, create, failed, image, json, latest, unbuilt};
use crate::constraint::Violations;
use crate::failure::Failure;
use crate::members::Members;
use crate::request::Request;

/// 200 with the configuration, `LastUpdateStatus` in progress.
pub(super) async fn update_function_code(
    request: &Request<'_>,
    label: &str,
) -> Result<Response<Body>, Failure> {
    let function = latest(request, label)?;
    let args = read_code(&request.body)?;
    let updated = request.api.functions.update_code(request.caller, &function, args).await;
    Ok(json(StatusCode::OK, &configuration::shape(&updated.map_err(failed(request))?)))
}

fn read_code(body: &[u8]) -> Result<UpdateCode, Failure> {
    let members = Members::parse(body)?;
    unbuilt::refuse(&members)?;
    Ok(UpdateCode {
        code: image::code(&members)?.ok_or_else(create::code_missing)?,
        dry_run: members.boolean("DryRun")?.unwrap_or(false),
        publish: members.boolean("Publish")?.unwrap_or(false),
        revision_id: members.condition("RevisionId")?,
    })
}

/// 200 with the configuration.
pub(super) async fn update_function_configuration(
    request: &Request<'_>,
    label: &str,
) -> Result<Response<Body>, Failure> {
    let function = latest(request, label)?;
    let args = read_configuration(&request.body)?;
    let updated = request.api.functions.update_configuration(request.caller, &function, args).await;
    Ok(json(StatusCode::OK, &configuration::shape(&updated.map_err(failed(request))?)))
}

fn read_configuration(body: &[u8]) -> Result<UpdateConfiguration, Failure> {
    let members = Members::parse(body)?;
    let mut violations = Violations::default();
    let given = configuration::given(&members, &mut violations)?;
    violations.finish()?;
    unbuilt::refuse(&members)?;
    Ok(UpdateConfiguration {
        description: given.description,
        role: given.role,
        runtime: given.runtime,
        handler: given.handler,
        timeout_s: given.timeout_s,
        memory_mb: given.memory_mb,
        ephemeral_mb: given.ephemeral_mb,
        environment: given.environment,
        logging: given.logging,
        log_group: given.log_group,
        layers: given.layers,
        snap_start: given.snap_start,
        traced: given.traced,
        file_systems: given.file_systems,
        image_config: given.image_config,
        revision_id: members.condition("RevisionId")?,
    })
}

#[cfg(test)]
mod tests {
    use functions::model::NewCode;

    use super::*;

    #[test]
    fn code_comes_as_a_zip_or_an_image() {
        let update =
            read_code(br#"{"ZipFile":"UEs=","Publish":true,"DryRun":false,"RevisionId":"r"}"#).unwrap();
        assert!(matches!(&update.code, NewCode::Zip(zip) if &zip[..] == b"PK"));
        assert_eq!((update.publish, update.dry_run), (true, false));
        let image = read_code(br#"{"ImageUri":"r.example/a:b"}"#).unwrap();
        assert!(matches!(&image.code, NewCode::Image(uri) if uri == "r.example/a:b"));
        assert_eq!(update.revision_id.as_deref(), Some("r"));
        for (body, code) in [
            ("{}", "InvalidParameterValueException"),
            (r#"{"ZipFile":"UEs=","ImageUri":"a"}"#, "InvalidParameterValueException"),
            (r#"{"S3Bucket":"b"}"#, "InvalidParameterValueException"),
            (r#"{"S3Bucket":"code","S3Key":"k","ZipFile":"UEs="}"#, "InvalidParameterValueException"),
            (r#"{"ZipFile":"not base64!"}"#, "SerializationException"),
            (r#"{"ZipFile":7}"#, "SerializationException"),
            ("nonsense", "SerializationException"),
        ] {
            assert_eq!(read_code(body.as_bytes()).unwrap_err().code, code, "{body}");
        }
    }

    #[test]
    fn absent_members_stay_as_they_are() {
        let update = read_configuration(br#"{"Timeout":10,"Environment":{}}"#).unwrap();
        assert_eq!((update.timeout_s, update.memory_mb), (Some(10), None));
        assert_eq!(update.environment, Some(Default::default()));
        assert_eq!(read_configuration(br#"{"Timeout":0}"#).unwrap_err().code, "ValidationException");
    }
}
