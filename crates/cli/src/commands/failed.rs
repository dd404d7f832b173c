//! `virga failed`: events of asynchronous invokes that were given up.

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use super::{segment, text};
use crate::client::Client;
use crate::output;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List a function's failed events, oldest first
    List {
        /// The function
        name: String,
    },
    /// Show one with its payload
    Show {
        /// The function
        name: String,
        /// The event, as `list` names it
        id: String,
    },
    /// Have failed events tried again, as if they were sent now
    Redrive(Which),
    /// Remove failed events
    Drop(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The function
    name: String,
    /// The event, as `list` names it
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    id: Option<String>,
    /// All that there are
    #[arg(long)]
    all: bool,
}

/// Does what was asked.
pub(crate) async fn run(client: &Client, args: &Args, as_json: bool) -> Result<()> {
    match &args.command {
        Command::List { name } => list(client, name, as_json).await,
        Command::Show { name, id } => show(client, name, id, as_json).await,
        Command::Redrive(which) => {
            let path = path(&which.name, "/redrive", which.id.as_deref());
            count(client, Method::POST, &path, "Redriven", "redriven", as_json).await
        }
        Command::Drop(which) => {
            let path = path(&which.name, "", which.id.as_deref());
            count(client, Method::DELETE, &path, "Deleted", "dropped", as_json).await
        }
    }
}

fn path(name: &str, rest: &str, id: Option<&str>) -> String {
    let query = id.map(|id| format!("?Id={}", segment(id))).unwrap_or_default();
    format!("/virga/functions/{}/failed-events{rest}{query}", segment(name))
}

async fn list(client: &Client, name: &str, as_json: bool) -> Result<()> {
    let events = all(client, name).await?;
    if as_json {
        return output::json(&Value::Array(events));
    }
    if events.is_empty() {
        return output::line(format!("{name} has no failed events"));
    }
    let mut rows = vec![["ID", "CONDITION", "TRIES", "FAILED"].map(str::to_owned).to_vec()];
    rows.extend(events.iter().map(|event| {
        vec![
            text(event, "Id").to_owned(),
            text(event, "Condition").to_owned(),
            event["ApproximateInvokeCount"].to_string(),
            text(event, "FailedTime").to_owned(),
        ]
    }));
    output::raw(output::table(&rows).as_bytes())
}

async fn all(client: &Client, name: &str) -> Result<Vec<Value>> {
    let (mut events, mut marker) = (Vec::new(), String::new());
    loop {
        let mut page = client.lambda(Method::GET, &(path(name, "", None) + &marker), None).await?;
        if let Value::Array(items) = page["FailedEvents"].take() {
            events.extend(items);
        }
        match page["NextMarker"].as_str() {
            Some(next) => marker = format!("?Marker={}", segment(next)),
            None => return Ok(events),
        }
    }
}

async fn show(client: &Client, name: &str, id: &str, as_json: bool) -> Result<()> {
    let path = path(name, &format!("/{}", segment(id)), None);
    let mut event = client.lambda(Method::GET, &path, None).await?;
    let payload = STANDARD.decode(text(&event, "Payload")).context("the server's answer has no payload")?;
    let Some(members) = event.as_object_mut() else { bail!("the server's answer is no object") };
    let shown = String::from_utf8_lossy(&payload).into_owned();
    let payload = serde_json::from_str(&shown).unwrap_or(json!(shown));
    members.insert("Payload".to_owned(), payload);
    if as_json {
        return output::json(&event);
    }
    for (member, value) in members.iter() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        output::line(format!("{member}: {value}"))?;
    }
    Ok(())
}

async fn count(
    client: &Client,
    method: Method,
    path: &str,
    member: &str,
    done: &str,
    as_json: bool,
) -> Result<()> {
    let answer = client.lambda(method, path, None).await?;
    if as_json {
        return output::json(&answer);
    }
    output::line(format!("{} {done}", answer[member]))
}
