//! Lambda API: CreateFunctionUrlConfig, GetFunctionUrlConfig, UpdateFunctionUrlConfig,
//! DeleteFunctionUrlConfig, ListFunctionUrlConfigs.

use base::FunctionArn;
use functions::model::{Cors, InvokeMode, UrlAuth, UrlView};
use http::{Response, StatusCode};
use sandbox::Body;
use serde_json::{Map, Value, json as value};

use super::{failed, function, json, latest, max_items, no_content};
use crate::Context;
use crate::constraint::Violations;
use crate::failure::Failure;
use crate::members::Members;
use crate::request::Request;

/// 201.
pub(super) async fn create(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = function(request, label)?;
    let given = read(&request.body, true)?;
    let auth = given.auth.unwrap_or(UrlAuth::None);
    let mode = given.mode.unwrap_or_default();
    let created = request.api.functions.create_url(request.caller, &function, auth, given.cors, mode).await;
    let mut shape = shape(request, &created.map_err(failed(request))?);
    shape.remove("LastModifiedTime");
    let text = |member: &str| shape.get(member).and_then(Value::as_str);
    let (function, url, by_path) = (text("FunctionArn"), text("FunctionUrl"), text(PATH_URL));
    tracing::info!(function, url, by_path, "a function has a URL");
    Ok(json(StatusCode::CREATED, &Value::Object(shape)))
}

/// 200.
pub(super) async fn update(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = function(request, label)?;
    let given = read(&request.body, false)?;
    let Given { auth, cors, mode } = given;
    let updated = request.api.functions.update_url(request.caller, &function, auth, cors, mode).await;
    Ok(json(StatusCode::OK, &Value::Object(shape(request, &updated.map_err(failed(request))?))))
}

/// 200.
pub(super) fn get(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = function(request, label)?;
    let view = request.api.functions.url(request.caller, &function).map_err(failed(request))?;
    Ok(json(StatusCode::OK, &Value::Object(shape(request, &view))))
}

/// 204.
pub(super) async fn delete(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = function(request, label)?;
    request.api.functions.delete_url(request.caller, &function).await.map_err(failed(request))?;
    Ok(no_content())
}

/// A page of the function's URLs: its own, its versions' and its aliases'.
pub(super) fn list(request: &Request<'_>, label: &str) -> Result<Response<Body>, Failure> {
    let function = latest(request, label)?;
    let max = max_items(request, 50, 50)?;
    let marker = request.query("Marker").filter(|marker| !marker.is_empty());
    let page = request.api.functions.urls(request.caller, &function, marker.as_deref(), max);
    let page = page.map_err(failed(request))?;
    let found: Vec<Value> = page.items.iter().map(|view| Value::Object(shape(request, view))).collect();
    let mut out = value!({ "FunctionUrlConfigs": found });
    if let Some(marker) = page.next_marker {
        out["NextMarker"] = marker.into();
    }
    Ok(json(StatusCode::OK, &out))
}

/// A member that AWS's model does not have, so that other clients ignore it: the URL by path, for those that do
/// not resolve `*.localhost`.
const PATH_URL: &str = "virgaPathUrl";

fn shape(request: &Request<'_>, view: &UrlView) -> Map<String, Value> {
    let mut out = Map::new();
    let mut add = |name: &str, value: Value| out.insert(name.to_owned(), value);
    add("FunctionUrl", value!(address(&request.context.base_url, &view.url.id, request.api.region.as_str())));
    add("FunctionArn", value!(view.function.to_string()));
    add(
        "AuthType",
        match view.url.auth {
            UrlAuth::None => value!("NONE"),
            UrlAuth::AwsIam => value!("AWS_IAM"),
        },
    );
    if let Some(cors) = view.url.cors.as_ref().filter(|cors| **cors != Cors::default()) {
        add("Cors", value!(cors));
    }
    add("CreationTime", value!(view.url.created.to_rfc3339()));
    add("LastModifiedTime", value!(view.url.modified.to_rfc3339()));
    add("InvokeMode", value!(view.url.mode));
    if let Some(by_path) = by_path(request.context, &view.function) {
        add(PATH_URL, value!(by_path));
    }
    out
}

/// The URL by path, where there are such.
fn by_path(context: &Context, function: &FunctionArn) -> Option<String> {
    let FunctionArn { name, qualifier, .. } = function;
    let qualifier = qualifier.as_ref().map(|qualifier| format!(":{qualifier}")).unwrap_or_default();
    context.paths.then(|| format!("{}/_fn/{name}{qualifier}/", context.base_url))
}

/// The URL by host, at the scheme and port by which the client reached this server.
fn address(base_url: &str, id: &str, region: &str) -> String {
    let (scheme, authority) = base_url.split_once("://").unwrap_or(("http", base_url));
    let port = authority
        .rsplit_once(':')
        .map(|(_, port)| port)
        .filter(|port| port.bytes().all(|b| b.is_ascii_digit()));
    match port {
        Some(port) => format!("{scheme}://{id}.lambda-url.{region}.localhost:{port}/"),
        None => format!("{scheme}://{id}.lambda-url.{region}.localhost/"),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Given {
    auth: Option<UrlAuth>,
    cors: Option<Cors>,
    mode: Option<InvokeMode>,
}

fn read(body: &[u8], auth_required: bool) -> Result<Given, Failure> {
    let members = Members::parse(body)?;
    let mut violations = Violations::default();
    let auth = members.text("AuthType")?;
    if auth_required {
        violations.required("authType", auth.is_some());
    }
    if let Some(auth) = &auth {
        violations.one_of("authType", auth, &["NONE", "AWS_IAM"]);
    }
    let mode = members.text("InvokeMode")?;
    if let Some(mode) = &mode {
        violations.one_of("invokeMode", mode, &["BUFFERED", "RESPONSE_STREAM"]);
    }
    let cors = members.object("Cors")?.map(|cors| read_cors(&cors, &mut violations)).transpose()?;
    violations.finish()?;
    let auth = auth.map(|auth| if auth == "AWS_IAM" { UrlAuth::AwsIam } else { UrlAuth::None });
    let mode = mode.map(|mode| match mode.as_str() {
        "RESPONSE_STREAM" => InvokeMode::ResponseStream,
        _ => InvokeMode::Buffered,
    });
    Ok(Given { auth, cors, mode })
}

/// Lambda API: Cors.
fn read_cors(members: &Members<'_>, violations: &mut Violations) -> Result<Cors, Failure> {
    let max_age = members.integer("MaxAge")?;
    if let Some(max_age) = max_age {
        violations.range("cors.maxAge", max_age, 0, 86_400);
    }
    let cors = Cors {
        allow_credentials: members.boolean("AllowCredentials")?,
        allow_headers: members.texts("AllowHeaders")?.unwrap_or_default(),
        allow_methods: members.texts("AllowMethods")?.unwrap_or_default(),
        allow_origins: members.texts("AllowOrigins")?.unwrap_or_default(),
        expose_headers: members.texts("ExposeHeaders")?.unwrap_or_default(),
        max_age: max_age.and_then(|seconds| u32::try_from(seconds).ok()),
    };
    for (member, list, longest) in [
        ("cors.allowHeaders", &cors.allow_headers, 1024),
        ("cors.allowOrigins", &cors.allow_origins, 253),
        ("cors.exposeHeaders", &cors.expose_headers, 1024),
    ] {
        list.iter().for_each(|item| check_item(member, item, longest, violations));
        check_count(member, list.len(), 100, violations);
    }
    for method in &cors.allow_methods {
        violations.one_of(
            "cors.allowMethods",
            method,
            &["GET", "PUT", "HEAD", "POST", "PATCH", "DELETE", "*"],
        );
    }
    check_count("cors.allowMethods", cors.allow_methods.len(), 6, violations);
    Ok(cors)
}

/// Each becomes part of a response header: printable ASCII without spaces and commas.
fn check_item(member: &str, item: &str, longest: usize, violations: &mut Violations) {
    violations.length(member, item, 1, longest);
    let printable = item.bytes().all(|b| b.is_ascii_graphic() && b != b',');
    violations.pattern(member, item, printable, "[!-+\\--~]+");
}

fn check_count(member: &str, count: usize, most: usize, violations: &mut Violations) {
    if count > most {
        violations.range(member, i64::try_from(count).unwrap_or(i64::MAX), 0, most as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_is_where_the_client_is() {
        let id = "a".repeat(32);
        for (base, expect) in [
            ("http://127.0.0.1:9080", format!("http://{id}.lambda-url.us-east-1.localhost:9080/")),
            ("http://localhost", format!("http://{id}.lambda-url.us-east-1.localhost/")),
            ("http://[::1]:9080", format!("http://{id}.lambda-url.us-east-1.localhost:9080/")),
            ("http://[::1]", format!("http://{id}.lambda-url.us-east-1.localhost/")),
        ] {
            assert_eq!(address(base, &id, "us-east-1"), expect);
        }
    }

    #[test]
    fn a_url_by_path_is_told_where_it_works() {
        let context = |paths| Context {
            base_url: "http://localhost:9080".into(),
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            paths,
        };
        let hello = FunctionArn::parse("arn:aws:lambda:us-east-1:123456789012:function:hello").unwrap();
        let said = |function: &FunctionArn| by_path(&context(true), function).unwrap();
        assert_eq!(said(&hello), "http://localhost:9080/_fn/hello/");
        assert_eq!(said(&hello.qualified("live")), "http://localhost:9080/_fn/hello:live/");
        assert_eq!(by_path(&context(false), &hello), None);
    }

    fn check(body: &str, expect: &str) {
        let shown = match read(body.as_bytes(), true) {
            Ok(given) => format!("{given:?}"),
            Err(failure) => format!("{}: {}", failure.code, failure.message),
        };
        assert!(shown.contains(expect), "{body}: {shown}");
    }

    #[test]
    fn configurations_are_checked() {
        check(r#"{"AuthType":"NONE"}"#, "Given { auth: Some(None), cors: None, mode: None }");
        check(
            r#"{"AuthType":"NONE","InvokeMode":"BUFFERED","Cors":{"AllowOrigins":["*"],"MaxAge":60}}"#,
            r#"allow_origins: ["*"]"#,
        );
        check("{}", "ValidationException: 1 validation error detected: Value null at 'authType'");
        check(r#"{"AuthType":"AWS_IAM"}"#, "Given { auth: Some(AwsIam), cors: None, mode: None }");
        check(r#"{"AuthType":"MAYBE"}"#, "ValidationException");
        check(r#"{"AuthType":"NONE","InvokeMode":"RESPONSE_STREAM"}"#, "mode: Some(ResponseStream)");
        check(r#"{"AuthType":"NONE","InvokeMode":"STREAM"}"#, "'invokeMode'");
        check(r#"{"AuthType":"NONE","Cors":{"MaxAge":86401}}"#, "'cors.maxAge'");
        check(r#"{"AuthType":"NONE","Cors":{"AllowMethods":["OPTIONS"]}}"#, "'cors.allowMethods'");
        check(r#"{"AuthType":"NONE","Cors":{"AllowOrigins":["a\r\nb"]}}"#, "'cors.allowOrigins'");
        check(r#"{"AuthType":"NONE","Cors":{"AllowOrigins":"*"}}"#, "SerializationException");
    }

    #[test]
    fn lists_and_ages_have_limits() {
        let with =
            |member: &str, value: String| format!(r#"{{"AuthType":"NONE","Cors":{{"{member}":{value}}}}}"#);
        let many = |count: usize, one: &str| format!("[{}]", vec![format!("\"{one}\""); count].join(","));
        check(&with("MaxAge", "86400".into()), "max_age: Some(86400)");
        for (member, one, most) in [
            ("AllowOrigins", "https://a.example", 100),
            ("AllowHeaders", "x-a", 100),
            ("ExposeHeaders", "x-a", 100),
            ("AllowMethods", "GET", 6),
        ] {
            check(&with(member, many(most, one)), "Given {");
            check(&with(member, many(most + 1, one)), "ValidationException");
        }
    }
}
