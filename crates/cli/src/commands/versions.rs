//! `virga versions FUNCTION`: what is published, and which aliases lead where.

use anyhow::Result;
use serde_json::{Value, json};

use super::{alias, segment, text};
use crate::client::Client;
use crate::output;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The function
    function: String,
}

/// Prints the versions, the newest first and `$LATEST` on top.
pub(crate) async fn run(client: &Client, args: &Args, as_json: bool) -> Result<()> {
    let mut versions = all(client, &args.function).await?;
    // The listing has `$LATEST` first.
    if let Some((_, published)) = versions.split_first_mut() {
        published.reverse();
    }
    let aliases = alias::all(client, &args.function).await?;
    for version in &mut versions {
        let number = text(version, "Version");
        let names: Vec<String> = aliases.iter().filter_map(|alias| leading(alias, number)).collect();
        version["Aliases"] = json!(names);
    }
    if as_json {
        return output::json(&Value::Array(versions));
    }
    let header = ["VERSION", "ALIASES", "CODE", "STATE", "MODIFIED", "DESCRIPTION"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(versions.iter().map(row));
    output::raw(output::table(&rows).as_bytes())
}

/// The alias's name where it leads to this version, with the part of the calls if that is not all.
fn leading(alias: &Value, version: &str) -> Option<String> {
    let (name, canary) = (text(alias, "Name"), alias::canary(alias));
    let part = match canary {
        Some((other, weight)) if other == version => weight,
        Some((_, weight)) if text(alias, "FunctionVersion") == version => 1.0 - weight,
        None if text(alias, "FunctionVersion") == version => return Some(name.to_owned()),
        _ => return None,
    };
    Some(format!("{name} ({:.0}%)", part * 100.0))
}

fn row(version: &Value) -> Vec<String> {
    let of = |member: &str| text(version, member).to_owned();
    let names: Vec<&str> =
        version["Aliases"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let code = of("CodeSha256").chars().take(12).collect();
    let modified = of("LastModified").split('.').next().unwrap_or("").replace('T', " ");
    vec![of("Version"), names.join(", "), code, of("State"), modified, of("Description")]
}

/// Every version of a function, `$LATEST` first, then by number.
pub(crate) async fn all(client: &Client, function: &str) -> Result<Vec<Value>> {
    super::pages(client, &format!("/2015-03-31/functions/{}/versions", segment(function)), "Versions").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_told_with_their_part() {
        let weights = json!({ "AdditionalVersionWeights": { "4": 0.1 } });
        let alias = json!({ "Name": "live", "FunctionVersion": "3", "RoutingConfig": weights });
        assert_eq!(leading(&alias, "3").as_deref(), Some("live (90%)"));
        assert_eq!(leading(&alias, "4").as_deref(), Some("live (10%)"));
        assert_eq!(leading(&alias, "2"), None);
        let alone = json!({ "Name": "live", "FunctionVersion": "3" });
        assert_eq!(leading(&alone, "3").as_deref(), Some("live"));
    }
}
