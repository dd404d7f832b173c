//! `virga delete NAME…`

use anyhow::Result;
use http::Method;

use super::function_path;
use crate::client::Client;
use crate::output;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Functions to delete, with their versions and URLs; NAME:VERSION deletes that version only
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Deletes them one after the other; stops at the first that cannot be.
pub(crate) async fn run(client: &Client, args: &Args, json: bool) -> Result<()> {
    for name in &args.names {
        client.lambda(Method::DELETE, &function_path(name, ""), None).await?;
        if json {
            output::json(&serde_json::json!({ "FunctionName": name, "Deleted": true }))?;
        } else {
            output::line(format!("deleted {name}"))?;
        }
    }
    Ok(())
}
