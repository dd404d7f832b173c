//! `virga domain add | remove | list`: host names of one's own for functions' URLs.
//!
//! They are words of the tag `virga:domain`; the server sees to it that each is one function's.

use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::{function_path, list, segment, text};
use crate::client::Client;
use crate::output;

const TAG: &str = "virga:domain";

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Have a function's URL answer at a host name, beside its own
    Add {
        /// The host name; where it leads is the business of your DNS
        #[arg(value_name = "HOST")]
        host: String,
        /// The function
        #[arg(value_name = "NAME")]
        function: String,
    },
    /// Take a host name back
    Remove {
        /// The host name
        #[arg(value_name = "HOST")]
        host: String,
    },
    /// List all host names with their functions
    List,
}

/// A function and the host names that are its own.
struct Named {
    arn: String,
    name: String,
    hosts: Vec<String>,
}

/// Does it.
pub(crate) async fn run(client: &Client, args: &Args, json: bool) -> Result<()> {
    match &args.action {
        Action::Add { host, function } => {
            let found = client.lambda(Method::GET, &function_path(function, ""), None).await?;
            let mut named = of(&found["Configuration"], &found["Tags"]);
            let host = host.to_ascii_lowercase();
            if !named.hosts.contains(&host) {
                named.hosts.push(host.clone());
                write(client, &named).await?;
            }
            told(&host, &named.name, "leads to", json)
        }
        Action::Remove { host } => {
            let host = host.to_ascii_lowercase();
            let owner = all(client).await?.into_iter().find(|named| named.hosts.contains(&host));
            let mut named = owner.with_context(|| format!("no function of yours has the domain {host}"))?;
            named.hosts.retain(|one| *one != host);
            write(client, &named).await?;
            told(&host, &named.name, "no longer leads to", json)
        }
        Action::List => print(&all(client).await?, json),
    }
}

fn of(configuration: &Value, tags: &Value) -> Named {
    let hosts = text(tags, TAG).split_whitespace().map(str::to_owned).collect();
    let (arn, name) = (text(configuration, "FunctionArn"), text(configuration, "FunctionName"));
    Named { arn: arn.to_owned(), name: name.to_owned(), hosts }
}

async fn all(client: &Client) -> Result<Vec<Named>> {
    let mut found = Vec::new();
    for function in list::all(client).await? {
        let arn = segment(text(&function, "FunctionArn"));
        let tags = client.lambda(Method::GET, &format!("/2017-03-31/tags/{arn}"), None).await?;
        found.push(of(&function, &tags["Tags"]));
    }
    Ok(found)
}

async fn write(client: &Client, named: &Named) -> Result<()> {
    ensure!(!named.arn.is_empty(), "the server's answer names no function");
    let path = format!("/2017-03-31/tags/{}", segment(&named.arn));
    if named.hosts.is_empty() {
        let path = format!("{path}?tagKeys={}", segment(TAG));
        client.lambda(Method::DELETE, &path, None).await?;
    } else {
        let tags = json!({ "Tags": { TAG: named.hosts.join(" ") } });
        client.lambda(Method::POST, &path, Some(&tags)).await?;
    }
    Ok(())
}

fn told(host: &str, function: &str, how: &str, json: bool) -> Result<()> {
    match json {
        true => output::json(&json!({ "Domain": host, "FunctionName": function })),
        false => output::line(format!("{host} {how} {function}")),
    }
}

fn print(all: &[Named], json: bool) -> Result<()> {
    let pairs: Vec<_> = all
        .iter()
        .flat_map(|named| named.hosts.iter().map(|host| (host.clone(), named.name.clone())))
        .collect();
    if json {
        let items = pairs.iter().map(|(host, name)| json!({ "Domain": host, "FunctionName": name }));
        return output::json(&Value::Array(items.collect()));
    }
    if pairs.is_empty() {
        return output::line("no domains yet: `virga domain add HOST NAME` gives a function one");
    }
    let mut rows = vec![vec!["DOMAIN".to_owned(), "FUNCTION".to_owned()]];
    rows.extend(pairs.into_iter().map(|(host, name)| vec![host, name]));
    output::raw(output::table(&rows).as_bytes())
}
