//! Lambda API: PublishLayerVersion, ListLayers, ListLayerVersions, GetLayerVersion, GetLayerVersionByArn,
//! DeleteLayerVersion, and the member `Layers` of functions.

use base::LayerArn;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use functions::{LayerFilter, LayerPage, LayerView, PackageSource, PublishLayer};
use http::{Response, StatusCode};
use iam::Principal;
use sandbox::{Body, Runtime};
use serde_json::{Map, Value, json as value};

use super::{code_signing, failed, image, json, max_items, no_content};
use crate::constraint::Violations;
use crate::failure::Failure;
use crate::members::Members;
use crate::request::Request;
use crate::{download, limits};

/// The model's patterns, quoted in refusals.
const NAME_PATTERN: &str =
    "(arn:[a-zA-Z0-9-]+:lambda:[a-zA-Z0-9-]+:\\d{12}:layer:[a-zA-Z0-9-_]+)|[a-zA-Z0-9-_]+";
const VERSION_PATTERN: &str = "arn:[a-zA-Z0-9-]+:lambda:[a-zA-Z0-9-]+:\\d{12}:layer:[a-zA-Z0-9-_]+:[0-9]+";
/// Characters of a layer's name, in whichever form.
const NAME_MAX: usize = 140;
/// Lambda API: CompatibleRuntimes and CompatibleArchitectures have so many items at most.
const RUNTIMES_MAX: usize = 15;
const ARCHITECTURES_MAX: usize = 2;
const ARCHITECTURES: [&str; 2] = ["x86_64", "arm64"];
/// Runtimes that Lambda's model knows and this server does not run: a layer may be for them too.
const OTHER_RUNTIMES: [&str; 14] = [
    "nodejs",
    "nodejs4.3",
    "nodejs6.10",
    "nodejs8.10",
    "nodejs4.3-edge",
    "java8",
    "java8.al2",
    "python2.7",
    "dotnetcore1.0",
    "dotnetcore2.0",
    "dotnetcore2.1",
    "dotnetcore3.1",
    "go1.x",
    "ruby2.5",
];

/// 201 with the version.
pub(super) async fn publish(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let layer = layer(request, label)?;
    if layer.account != request.caller.account {
        return Err(Failure::new(
            "AccessDeniedException",
            StatusCode::FORBIDDEN,
            "A layer can be published in the caller's own account only.",
        ));
    }
    let args = read(&request.body, layer.name)?;
    let view = request.api.functions.publish_layer(request.caller, args).await.map_err(failed(request))?;
    Ok(json(StatusCode::CREATED, &with_content(request, &view)))
}

fn read(body: &[u8], name: String) -> Result<PublishLayer, Failure> {
    let members = Members::parse(body)?;
    let mut violations = Violations::default();
    let content = members.object("Content")?;
    violations.required("content", content.is_some());
    let text = |member: &str| Ok::<_, Failure>(members.text(member)?.unwrap_or_default());
    let (description, license) = (text("Description")?, text("LicenseInfo")?);
    violations.length("description", &description, 0, 256);
    violations.length("licenseInfo", &license, 0, 512);
    let runtimes = members.texts("CompatibleRuntimes")?.unwrap_or_default();
    violations.count("compatibleRuntimes", runtimes.len(), RUNTIMES_MAX);
    runtimes.iter().for_each(|runtime| check_runtime(&mut violations, "compatibleRuntimes", runtime));
    let architectures = members.texts("CompatibleArchitectures")?.unwrap_or_default();
    violations.count("compatibleArchitectures", architectures.len(), ARCHITECTURES_MAX);
    for architecture in &architectures {
        violations.one_of("compatibleArchitectures", architecture, &ARCHITECTURES);
    }
    violations.finish()?;
    let content = content.unwrap_or(Members::parse(b"")?);
    super::unbuilt::refuse(&content)?;
    let content = match (content.blob("ZipFile")?, image::object(&content)?) {
        (Some(zip), None) => PackageSource::Zip(zip.into()),
        (None, Some(object)) => PackageSource::Object(object),
        _ => return Err(Failure::invalid_parameter("Please provide one source for the layer's content.")),
    };
    Ok(PublishLayer { name, description, license, runtimes, architectures, content })
}

fn check_runtime(violations: &mut Violations, member: &str, runtime: &str) {
    let known = Runtime::parse(runtime).is_some()
        || OTHER_RUNTIMES.contains(&runtime)
        || runtime.strip_prefix("dotnet").is_some_and(|version| version.parse::<u8>().is_ok());
    violations.pattern(member, runtime, known, "one of Lambda's runtimes, or one of this server's");
}

/// A page of layers, or one version by its ARN: only their query tells the operations apart.
pub(super) fn list_or_get_by_arn(request: &Request<'_>) -> Result<Response<Body>, Failure> {
    if request.query("find").as_deref() == Some("LayerVersion") {
        let text = request.query("Arn").unwrap_or_default();
        let mut violations = Violations::default();
        let arn = version_arn(&text, "arn", &mut violations);
        violations.finish()?;
        // What is no ARN was reported.
        let Some(arn) = arn else { return Err(Failure::invalid_parameter("Arn")) };
        return version(request, &arn);
    }
    let (filter, page) = listing(request)?;
    let page = request.api.functions.layers(request.caller, &filter, &page).map_err(failed(request))?;
    let items = page.items.iter().map(|view| {
        value!({
            "LayerName": view.arn.name,
            "LayerArn": view.arn.unversioned().to_string(),
            "LatestMatchingVersion": shape(view),
        })
    });
    Ok(paged("Layers", items.collect(), page.next_marker))
}

/// A page of a layer's versions, the newest first.
pub(super) fn versions(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let layer = layer(request, label)?;
    let (filter, page) = listing(request)?;
    let page = request.api.functions.layer_versions(request.caller, &layer, &filter, &page);
    let page = page.map_err(failed(request))?;
    Ok(paged("LayerVersions", page.items.iter().map(shape).collect(), page.next_marker))
}

fn listing(request: &Request<'_>) -> Result<(LayerFilter, LayerPage), Failure> {
    let given = |name: &str| request.query(name).filter(|value| !value.is_empty());
    let filter =
        LayerFilter { runtime: given("CompatibleRuntime"), architecture: given("CompatibleArchitecture") };
    let mut violations = Violations::default();
    if let Some(runtime) = &filter.runtime {
        check_runtime(&mut violations, "compatibleRuntime", runtime);
    }
    if let Some(architecture) = &filter.architecture {
        violations.one_of("compatibleArchitecture", architecture, &ARCHITECTURES);
    }
    violations.finish()?;
    let max_items = max_items(request, 50, limits::FUNCTION_PAGE)?;
    Ok((filter, LayerPage { marker: given("Marker"), max_items }))
}

fn paged(member: &str, items: Vec<Value>, next_marker: Option<String>) -> Response<Body> {
    let mut out = Map::new();
    out.insert(member.to_owned(), items.into());
    if let Some(marker) = next_marker {
        out.insert("NextMarker".to_owned(), value!(marker));
    }
    json(StatusCode::OK, &Value::Object(out))
}

/// A version, with a link to its package.
pub(super) fn get(request: &Request<'_>, labels: &[String]) -> Result<Response<Body>, Failure> {
    version(request, &numbered(request, labels)?)
}

fn version(request: &Request<'_>, arn: &LayerArn) -> Result<Response<Body>, Failure> {
    let view = request.api.functions.layer_version(request.caller, arn).map_err(failed(request))?;
    Ok(json(StatusCode::OK, &with_content(request, &view)))
}

/// 204, also where there is none.
pub(super) async fn delete(request: &Request<'_>, labels: &[String]) -> Result<Response<Body>, Failure> {
    let arn = numbered(request, labels)?;
    request.api.functions.delete_layer_version(request.caller, &arn).await.map_err(failed(request))?;
    Ok(no_content())
}

/// Lambda API: LayerVersionsListItem. Members without a value are left out.
fn shape(view: &LayerView) -> Value {
    let version = &view.version;
    let mut out = value!({
        "LayerVersionArn": view.arn.to_string(),
        "Version": view.arn.version,
        "Description": version.description,
        "CreatedDate": version.created.to_lambda(),
    });
    let lists =
        [("CompatibleRuntimes", &version.runtimes), ("CompatibleArchitectures", &version.architectures)];
    for (member, list) in lists {
        if !list.is_empty() {
            out[member] = value!(list);
        }
    }
    if !version.license.is_empty() {
        out["LicenseInfo"] = value!(version.license);
    }
    out
}

/// The same with the layer's ARN and its content (Lambda API: GetLayerVersionResponse).
fn with_content(request: &Request<'_>, view: &LayerView) -> Value {
    let code = &view.version.code;
    let mut content = value!({
        "CodeSha256": STANDARD.encode(hex::decode(&code.digest).unwrap_or_default()),
        "CodeSize": code.size,
    });
    code_signing::signed(&mut content, view.version.signature.as_ref());
    if let Some(location) = location(request, view) {
        content["Location"] = value!(location);
    }
    let mut out = shape(view);
    out["LayerArn"] = value!(view.arn.unversioned().to_string());
    out["Content"] = content;
    out
}

/// A link works with the rights of the user who asked for it; functions get none.
fn location(request: &Request<'_>, view: &LayerView) -> Option<String> {
    let Principal::User { name } = &request.caller.principal else { return None };
    let package = download::Package {
        account: request.caller.account.clone(),
        user: name.clone(),
        noun: download::Noun::Layer,
        owner: view.arn.account.clone(),
        name: view.arn.name.clone(),
        version: view.arn.version.unwrap_or_default().to_string(),
    };
    Some(download::link(request.api, &package, &request.context.base_url))
}

/// The layer that a path names, by its name or its ARN.
fn layer(request: &Request<'_>, label: &str) -> Result<LayerArn, Failure> {
    let mut violations = Violations::default();
    violations.length("layerName", label, 1, NAME_MAX);
    let plain = is_name(label).then(|| LayerArn {
        region: request.api.region.clone(),
        account: request.caller.account.clone(),
        name: label.to_owned(),
        version: None,
    });
    let by_arn = || LayerArn::parse(label).filter(|arn| arn.version.is_none() && is_name(&arn.name));
    let layer = plain.or_else(by_arn);
    violations.pattern("layerName", label, layer.is_some(), NAME_PATTERN);
    violations.finish()?;
    // What names none was reported.
    let Some(layer) = layer else { return Err(Failure::invalid_parameter("layerName")) };
    check_region(request, &layer)?;
    Ok(layer)
}

/// The version that a path names.
pub(super) fn numbered(request: &Request<'_>, labels: &[String]) -> Result<LayerArn, Failure> {
    let label = |index: usize| labels.get(index).map_or("", String::as_str);
    let layer = layer(request, label(0))?;
    let number = label(1).parse::<i64>();
    let number = number.map_err(|_| Failure::serialization("STRING_VALUE can not be converted to a Long"))?;
    match u64::try_from(number).ok().filter(|number| *number > 0) {
        Some(number) => Ok(layer.versioned(number)),
        None => Err(Failure::invalid_parameter("Layer Version Cannot be less than 1.")),
    }
}

fn check_region(request: &Request<'_>, layer: &LayerArn) -> Result<(), Failure> {
    if layer.region == request.api.region {
        return Ok(());
    }
    let message = format!(
        "Layers from '{}' are not reachable in this region ('{}')",
        layer.region.as_str(),
        request.api.region.as_str()
    );
    Err(Failure::new("ResourceNotFoundException", StatusCode::NOT_FOUND, message))
}

/// `Layers` of CreateFunction and UpdateFunctionConfiguration.
pub(super) fn given(
    members: &Members<'_>,
    violations: &mut Violations,
) -> Result<Option<Vec<LayerArn>>, Failure> {
    let Some(texts) = members.texts("Layers")? else { return Ok(None) };
    let arns = texts.iter().filter_map(|text| version_arn(text, "layers", violations));
    Ok(Some(arns.collect()))
}

fn version_arn(text: &str, member: &str, violations: &mut Violations) -> Option<LayerArn> {
    violations.length(member, text, 1, NAME_MAX);
    let arn = LayerArn::parse(text).filter(|arn| arn.version.is_some() && is_name(&arn.name));
    violations.pattern(member, text, arn.is_some(), VERSION_PATTERN);
    arn
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expect: &str) {
        let shown = match read(body.as_bytes(), "tools".to_owned()) {
            Ok(PublishLayer { content: PackageSource::Zip(zip), runtimes, architectures, .. }) => {
                format!("{} {runtimes:?} {architectures:?}", zip.len())
            }
            Ok(other) => format!("{other:?}"),
            Err(failure) => format!("{}: {}", failure.code, failure.message),
        };
        assert!(shown.contains(expect), "{body}: {shown}");
    }

    #[test]
    fn a_request_is_checked_for_shape() {
        let content = r#""Content":{"ZipFile":"UEs="}"#;
        let with = |more: &str| format!("{{{content}{more}}}");
        check(&with(""), "2 [] []");
        check(&with(r#","CompatibleRuntimes":["python3.11","go1.x","dotnet8","php8.2"]"#), "php8.2");
        check(&with(r#","CompatibleArchitectures":["arm64","x86_64"]"#), "arm64");
        check("{}", "Value null at 'content'");
        check(r#"{"Content":{}}"#, "InvalidParameterValueException: Please provide one source");
        check(r#"{"Content":{"S3Bucket":"code","S3Key":"k"}}"#, "ObjectRef");
        check(r#"{"Content":{"S3Bucket":"code","S3Key":"k","ZipFile":"UEs="}}"#, "one source");
        check(&with(r#","CompatibleRuntimes":["cobol"]"#), "'cobol' at 'compatibleRuntimes'");
        check(&with(r#","CompatibleArchitectures":["sparc"]"#), "[x86_64, arm64]");
        check(&with(r#","CompatibleRuntimes":"python3.11""#), "SerializationException");
    }

    #[test]
    fn limits_are_the_models_at_and_past() {
        let with =
            |member: &str, value: String| format!(r#"{{"Content":{{"ZipFile":"UEs="}},"{member}":{value}}}"#);
        let runtimes = |count: usize| {
            let all: Vec<String> = (0..count).map(|minor| format!("\"python3.{minor}\"")).collect();
            with("CompatibleRuntimes", format!("[{}]", all.join(",")))
        };
        check(&runtimes(15), "python3.14");
        check(
            &runtimes(16),
            "'compatibleRuntimes' failed to satisfy constraint: Member must have length less than or",
        );
        for (member, most) in [("Description", 256), ("LicenseInfo", 512)] {
            check(&with(member, format!("\"{}\"", "x".repeat(most))), "2 [] []");
            check(
                &with(member, format!("\"{}\"", "x".repeat(most + 1))),
                &format!("less than or equal to {most}"),
            );
        }
    }

    #[test]
    fn functions_name_versions_by_their_arns() {
        let parse = |body: &str| {
            let members = Members::parse(body.as_bytes()).unwrap();
            let mut violations = Violations::default();
            let given = given(&members, &mut violations).map_err(|failure| failure.message)?;
            violations.finish().map_err(|failure| failure.message)?;
            Ok::<_, String>(given.map(|arns| arns.len()))
        };
        let arn = "arn:aws:lambda:us-east-1:123456789012:layer:tools";
        assert_eq!(parse("{}"), Ok(None));
        assert_eq!(parse(r#"{"Layers":[]}"#), Ok(Some(0)));
        assert_eq!(parse(&format!(r#"{{"Layers":["{arn}:1"]}}"#)), Ok(Some(1)));
        for bad in [arn, "tools", "arn:aws:lambda:us-east-1:123456789012:function:f:1"] {
            let refused = parse(&format!(r#"{{"Layers":["{bad}"]}}"#)).unwrap_err();
            assert!(refused.contains("at 'layers' failed to satisfy constraint"), "{refused}");
        }
    }
}
