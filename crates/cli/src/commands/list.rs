//! `virga list`

use anyhow::Result;
use serde_json::Value;

use super::text;
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
    super::pages(client, "/2015-03-31/functions/", "Functions").await
}
