//! `virga show NAME`

use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

use super::{function_path, segment, text};
use crate::client::Client;
use crate::failure::is_not_found;
use crate::output;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The function; NAME:VERSION and NAME:ALIAS show that version
    name: String,
}

/// Prints one function's configuration, tags and URLs.
pub(crate) async fn run(client: &Client, args: &Args, as_json: bool) -> Result<()> {
    let function = client.lambda(Method::GET, &function_path(&args.name, ""), None).await?;
    let configuration = &function["Configuration"];
    let urls = urls(client, text(configuration, "FunctionName"), qualifier(&args.name)).await?;
    if as_json {
        return output::json(&json!({
            "Configuration": configuration,
            "Tags": function["Tags"],
            "Reserved": function["Concurrency"]["ReservedConcurrentExecutions"],
            "FunctionUrl": urls.as_ref().map(|urls| urls.host.clone()),
            "PathUrl": urls.as_ref().and_then(|urls| urls.path.clone()),
        }));
    }
    output::raw(output::table(&rows(&function, urls.as_ref())).as_bytes())
}

/// The qualifier in `NAME:QUALIFIER`.
fn qualifier(name: &str) -> Option<&str> {
    (!name.starts_with("arn:")).then(|| name.split_once(':')).flatten().map(|(_, qualifier)| qualifier)
}

fn rows(function: &Value, urls: Option<&Urls>) -> Vec<Vec<String>> {
    let (configuration, tags) = (&function["Configuration"], &function["Tags"]);
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            rows.push(vec![name.to_owned(), value]);
        }
    };
    let of = |member: &str| text(configuration, member).to_owned();
    row("name", of("FunctionName"));
    row("arn", of("FunctionArn"));
    row("description", of("Description"));
    row("runtime", of("Runtime"));
    row("handler", of("Handler"));
    row("memory", format!("{} MB", configuration["MemorySize"]));
    if let Some(calls) = function["Concurrency"]["ReservedConcurrentExecutions"].as_u64() {
        row("reserved", format!("{calls} calls at once"));
    }
    row("timeout", format!("{} s", configuration["Timeout"]));
    row("code", format!("{} bytes, sha256 {}", configuration["CodeSize"], text(configuration, "CodeSha256")));
    row("state", [of("State"), of("StateReason")].join(" ").trim().to_owned());
    row("last update", [of("LastUpdateStatus"), of("LastUpdateStatusReason")].join(" ").trim().to_owned());
    row("modified", of("LastModified"));
    for (key, value) in configuration["Environment"]["Variables"].as_object().into_iter().flatten() {
        row("env", format!("{key}={}", value.as_str().unwrap_or("")));
    }
    for (key, value) in tags.as_object().into_iter().flatten() {
        row("tag", format!("{key}={}", value.as_str().unwrap_or("")));
    }
    if let Some(urls) = urls {
        row("url", urls.host.clone());
        row("path url", urls.path.clone().unwrap_or_default());
    }
    rows
}

/// Where a function with a URL configuration answers.
pub(crate) struct Urls {
    /// By host name; needs a resolver that knows `*.localhost` (curl and browsers do).
    pub(crate) host: String,
    /// By path, for everybody else; only where the server listens on a loopback address.
    pub(crate) path: Option<String>,
}

impl Urls {
    /// From GetFunctionUrlConfig's answer.
    pub(crate) fn new(answer: &Value) -> Self {
        let path = answer["virgaPathUrl"].as_str().map(str::to_owned);
        Self { host: text(answer, "FunctionUrl").to_owned(), path }
    }
}

/// Where the URL configuration of a function, or of an alias of it, is.
pub(crate) fn url_path(name: &str, alias: Option<&str>) -> String {
    let qualifier = alias.map(|alias| format!("?Qualifier={}", segment(alias))).unwrap_or_default();
    format!("/2021-10-31/functions/{}/url{qualifier}", segment(name))
}

/// The URLs of the function, or of an alias of it, if it has a URL configuration.
pub(crate) async fn urls(client: &Client, name: &str, alias: Option<&str>) -> Result<Option<Urls>> {
    let path = url_path(name, alias);
    match client.lambda(Method::GET, &path, None).await {
        Ok(answer) => Ok(Some(Urls::new(&answer))),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
