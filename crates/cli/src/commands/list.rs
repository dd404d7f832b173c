//! `virga list`

use anyhow::Result;
use http::Method;
use serde_json::Value;

use super::{segment, text};
use crate::client::Client;
use crate::output;

/// Prints every function of the account.
pub(crate) async fn run(client: &Client, json: bool) -> Result<()> {
    let functions = all(client).await?;
    if json {
        return output::json(&Value::Array(functions));
    }
    if functions.is_empty() {
        return output::line("no functions yet: make one with `virga deploy PATH`");
    }
    let header = ["NAME", "RUNTIME", "MEMORY", "TIMEOUT", "STATE", "MODIFIED"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(functions.iter().map(row));
    output::raw(output::table(&rows).as_bytes())
}

fn row(function: &Value) -> Vec<String> {
    let modified = text(function, "LastModified").split('.').next().unwrap_or("").replace('T', " ");
    vec![
        text(function, "FunctionName").to_owned(),
        match text(function, "PackageType") {
            "Image" => "image".to_owned(),
            _ => text(function, "Runtime").to_owned(),
        },
        format!("{} MB", function["MemorySize"]),
        format!("{} s", function["Timeout"]),
        text(function, "State").to_owned(),
        modified,
    ]
}

/// Every function of the account, as ListFunctions has it.
pub(super) async fn all(client: &Client) -> Result<Vec<Value>> {
    let mut functions = Vec::new();
    let mut marker = String::new();
    loop {
        let path = format!("/2015-03-31/functions/?MaxItems=50{marker}");
        let mut page = client.lambda(Method::GET, &path, None).await?;
        if let Value::Array(items) = page["Functions"].take() {
            functions.extend(items);
        }
        match page["NextMarker"].as_str() {
            Some(next) if !next.is_empty() => marker = format!("&Marker={}", segment(next)),
            _ => return Ok(functions),
        }
    }
}
