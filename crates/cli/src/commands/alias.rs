//! `virga alias`: names that lead to a version, or to two by weight. And what other commands need of them.

use anyhow::{Context, Result, bail};
use http::Method;
use serde_json::{Value, json};

use super::{segment, text};
use crate::client::Client;
use crate::failure::is_not_found;
use crate::output;

/// The alias that commands mean when they are told none.
pub(crate) const LIVE: &str = "live";

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List a function's aliases
    List {
        /// The function
        function: String,
    },
    /// Make an alias, or have one lead to another version; all of its calls get that
    Set {
        /// The function
        function: String,
        /// The alias
        alias: String,
        /// A version's number, or $LATEST
        version: String,
        /// Another version that some of the calls get, as in 7=10%
        #[arg(long, value_name = "VERSION=PERCENT", value_parser = parse_also)]
        also: Option<(String, f64)>,
        /// What it is for
        #[arg(long)]
        description: Option<String>,
    },
    /// Delete an alias, and its URL with it
    Delete {
        /// The function
        function: String,
        /// The alias
        alias: String,
    },
}

/// Does it.
pub(crate) async fn run(client: &Client, args: &Args, as_json: bool) -> Result<()> {
    match &args.what {
        What::List { function } => list(client, function, as_json).await,
        What::Set { function, alias, version, also, description } => {
            let mut members = json!({ "FunctionVersion": version, "RoutingConfig": routing(also.as_ref()) });
            if let Some(description) = description {
                members["Description"] = json!(description);
            }
            let made = put(client, function, alias, members).await?;
            if as_json {
                return output::json(&made);
            }
            output::line(format!("{function}:{alias} leads to {}", leads(&made)))
        }
        What::Delete { function, alias } => {
            client.lambda(Method::DELETE, &path(function, alias), None).await?;
            if as_json {
                return output::json(&json!({ "FunctionName": function, "Name": alias, "Deleted": true }));
            }
            output::line(format!("deleted {function}:{alias}"))
        }
    }
}

async fn list(client: &Client, function: &str, as_json: bool) -> Result<()> {
    let aliases = all(client, function).await?;
    if as_json {
        return output::json(&Value::Array(aliases));
    }
    if aliases.is_empty() {
        return output::line(format!(
            "{function} has no aliases yet: make one with `virga deploy PATH --alias {LIVE}`"
        ));
    }
    let mut rows = vec![["ALIAS", "LEADS TO", "BEFORE", "DESCRIPTION"].map(str::to_owned).to_vec()];
    rows.extend(aliases.iter().map(|alias| {
        let of = |member| text(alias, member).to_owned();
        vec![of("Name"), leads(alias), of("virgaPreviousVersion"), of("Description")]
    }));
    output::raw(output::table(&rows).as_bytes())
}

/// `3`, or `3 (90%), 4 (10%)`.
pub(crate) fn leads(alias: &Value) -> String {
    let version = text(alias, "FunctionVersion");
    let Some((other, weight)) = canary(alias) else { return version.to_owned() };
    format!("{version} ({}%), {other} ({}%)", percent(1.0 - weight), percent(weight))
}

/// The other version that an alias leads to, and its part.
pub(crate) fn canary(alias: &Value) -> Option<(&str, f64)> {
    let weights = alias["RoutingConfig"]["AdditionalVersionWeights"].as_object()?;
    weights.iter().next().map(|(version, weight)| (version.as_str(), weight.as_f64().unwrap_or(0.0)))
}

/// Without the noise of a binary fraction.
fn percent(part: f64) -> f64 {
    (part * 10_000.0).round() / 100.0
}

/// RoutingConfig: empty has all calls go to the alias's version.
pub(crate) fn routing(also: Option<&(String, f64)>) -> Value {
    match also {
        Some((version, weight)) => json!({ "AdditionalVersionWeights": { version: weight } }),
        None => json!({ "AdditionalVersionWeights": {} }),
    }
}

fn path(function: &str, alias: &str) -> String {
    format!("/2015-03-31/functions/{}/aliases/{}", segment(function), segment(alias))
}

/// The alias, if the function has it.
pub(crate) async fn find(client: &Client, function: &str, alias: &str) -> Result<Option<Value>> {
    match client.lambda(Method::GET, &path(function, alias), None).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Changes these members of an alias.
pub(crate) async fn update(client: &Client, function: &str, alias: &str, members: &Value) -> Result<Value> {
    client.lambda(Method::PUT, &path(function, alias), Some(members)).await
}

/// Changes these members of an alias, or makes it.
pub(crate) async fn put(client: &Client, function: &str, alias: &str, mut members: Value) -> Result<Value> {
    if find(client, function, alias).await?.is_some() {
        return update(client, function, alias, &members).await;
    }
    members["Name"] = json!(alias);
    let path = format!("/2015-03-31/functions/{}/aliases", segment(function));
    client.lambda(Method::POST, &path, Some(&members)).await
}

/// All aliases of a function, by name.
pub(crate) async fn all(client: &Client, function: &str) -> Result<Vec<Value>> {
    super::pages(client, &format!("/2015-03-31/functions/{}/aliases", segment(function)), "Aliases").await
}

fn parse_also(text: &str) -> Result<(String, f64)> {
    let (version, part) =
        text.split_once('=').with_context(|| format!("{text} is not of the form VERSION=PERCENT"))?;
    Ok((version.to_owned(), parse_percent(part)?))
}

/// Percent, as a part of one.
pub(crate) fn parse_percent(text: &str) -> Result<f64> {
    let number: f64 = text
        .strip_suffix('%')
        .unwrap_or(text)
        .parse()
        .with_context(|| format!("{text} is not a number of percent"))?;
    if !(0.0..=100.0).contains(&number) {
        bail!("{text} is not from 0 to 100 percent");
    }
    Ok(number / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_alias_leads_to_is_told() {
        let alone = json!({ "FunctionVersion": "3" });
        assert_eq!(leads(&alone), "3");
        let routing = routing(Some(&("4".to_owned(), 0.07)));
        assert_eq!(leads(&json!({ "FunctionVersion": "3", "RoutingConfig": routing })), "3 (93%), 4 (7%)");
    }

    #[test]
    fn parts_are_in_percent() {
        assert_eq!(parse_percent("10").ok(), Some(0.1));
        assert_eq!(parse_percent("0.5%").ok(), Some(0.005));
        assert_eq!(parse_also("7=10%").ok(), Some(("7".to_owned(), 0.1)));
        for bad in ["", "x", "-1", "101", "NaN", "%"] {
            assert!(parse_percent(bad).is_err(), "{bad}");
        }
        assert!(parse_also("7").is_err());
    }
}
