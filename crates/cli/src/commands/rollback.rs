//! `virga rollback FUNCTION`: back to the version before, in one command.
//!
//! With an alias, the alias is led back: from a canary to the version that it is compared with, else to the version
//! that the alias led to before. No code moves, so it takes a moment. Without one, `$LATEST` gets the code and the
//! settings of the version that was published before what it has now.

use anyhow::{Context, Result, bail};
use base64::Engine;
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::alias::{self, LIVE};
use super::{deploy, function_path, text, versions};
use crate::client::Client;
use crate::output::{self, Progress};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The function
    function: String,
    /// The alias that is led back (default: live, or the only one that the function has)
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    /// The version to go back to (default: the one before)
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
}

/// Goes back.
pub(crate) async fn run(client: &Client, args: &Args, as_json: bool) -> Result<()> {
    let done = match chosen(client, args).await? {
        Some(alias) => of_alias(client, args, &alias).await?,
        None => of_code(client, args).await?,
    };
    if as_json {
        return output::json(&done);
    }
    let target = match text(&done, "Alias") {
        "" => args.function.clone(),
        alias => format!("{}:{alias}", args.function),
    };
    let (from, to) = (text(&done, "From"), text(&done, "To"));
    output::line(format!("{} {target} from {from} to {to}", output::colour(32, "rolled back")))
}

/// The alias that is meant, as it is now.
async fn chosen(client: &Client, args: &Args) -> Result<Option<Value>> {
    if let Some(name) = &args.alias {
        let found = alias::find(client, &args.function, name).await?;
        return found.map(Some).with_context(|| format!("{} has no alias {name}", args.function));
    }
    let mut all = alias::all(client, &args.function).await?;
    if let Some(live) = all.iter().position(|alias| text(alias, "Name") == LIVE) {
        return Ok(Some(all.swap_remove(live)));
    }
    if all.len() > 1 {
        let names: Vec<&str> = all.iter().map(|alias| text(alias, "Name")).collect();
        bail!("{} has several aliases ({}): say which one with --alias", args.function, names.join(", "));
    }
    Ok(all.pop())
}

async fn of_alias(client: &Client, args: &Args, alias: &Value) -> Result<Value> {
    let (name, now) = (text(alias, "Name"), text(alias, "FunctionVersion"));
    let to = back_to(alias, args.to.as_deref())
        .with_context(|| format!("{}:{name} has led to no other version than {now} yet", args.function))?;
    let members = json!({
        "FunctionVersion": to,
        "RoutingConfig": alias::routing(None),
        // Somebody else's change in between is not undone unseen.
        "RevisionId": alias["RevisionId"],
    });
    alias::update(client, &args.function, name, &members).await?;
    Ok(json!({ "FunctionName": args.function, "Alias": name, "From": alias::leads(alias), "To": to }))
}

/// Where an alias is led back to: a canary is given up first.
fn back_to<'a>(alias: &'a Value, asked: Option<&'a str>) -> Option<&'a str> {
    if asked.is_some() {
        return asked;
    }
    match alias::canary(alias) {
        Some(_) => Some(text(alias, "FunctionVersion")),
        None => alias["virgaPreviousVersion"].as_str(),
    }
}

async fn of_code(client: &Client, args: &Args) -> Result<Value> {
    let progress = Progress::start(format!("rolling {} back", args.function));
    let all = versions::all(client, &args.function).await?;
    let (latest, published) = all.split_first().context("the server lists no versions")?;
    let target = match &args.to {
        Some(to) => published.iter().find(|version| text(version, "Version") == to),
        None => before(latest, published),
    };
    let target = target.with_context(|| {
        format!(
            "{} has no published version to go back to: `virga deploy PATH --publish` or `--alias {LIVE}` makes one",
            args.function
        )
    })?;
    let number = text(target, "Version");
    progress.step(format!("bringing back {}:{number}", args.function));
    let settings = SETTINGS.iter().filter_map(|name| Some(((*name).to_owned(), setting(target, name)?)));
    let settings = Value::Object(settings.collect());
    client.lambda(Method::PUT, &function_path(&args.function, "/configuration"), Some(&settings)).await?;
    deploy::wait(client, &args.function).await?;
    let code = code_of(client, &args.function, number).await?;
    client.lambda(Method::PUT, &function_path(&args.function, "/code"), Some(&code)).await?;
    deploy::wait(client, &args.function).await?;
    let from = published.iter().rev().find(|version| same(latest, version));
    let from = from.map_or("$LATEST", |version| text(version, "Version"));
    Ok(json!({ "FunctionName": args.function, "From": from, "To": number }))
}

/// The newest version that is published and is not what `$LATEST` has.
fn before<'a>(latest: &Value, published: &'a [Value]) -> Option<&'a Value> {
    let mut newest_first = published.iter().rev();
    let newest = published.last()?;
    if !same(latest, newest) {
        // What was changed and not published is given up.
        let known = published.iter().rposition(|version| same(latest, version));
        // After a roll back it is the version before that one.
        return match known {
            Some(0) => None,
            Some(index) => published.get(index - 1),
            None => Some(newest),
        };
    }
    newest_first.find(|version| !same(latest, version))
}

/// Members that a roll back brings back beside the code.
const SETTINGS: [&str; 6] =
    ["Handler", "Runtime", "Timeout", "MemorySize", "Environment", "EphemeralStorage"];

/// Whether both run the same.
fn same(one: &Value, other: &Value) -> bool {
    one["CodeSha256"] == other["CodeSha256"] && SETTINGS.iter().all(|name| one[*name] == other[*name])
}

/// A member as a request has it; nothing where the version has none and cannot be given none.
fn setting(version: &Value, name: &str) -> Option<Value> {
    match (&version[name], name) {
        (Value::Null, "Environment") => Some(json!({ "Variables": {} })),
        (Value::Null, _) => None,
        (value, _) => Some(value.clone()),
    }
}

/// The body of UpdateFunctionCode that brings a version's code back.
async fn code_of(client: &Client, function: &str, number: &str) -> Result<Value> {
    let found = client.lambda(Method::GET, &function_path(&format!("{function}:{number}"), ""), None).await?;
    let code = &found["Code"];
    if let Some(image) = code["ResolvedImageUri"].as_str() {
        return Ok(json!({ "ImageUri": image }));
    }
    let location = code["Location"].as_str().context("the server gives no link to the version's code")?;
    let path = location.strip_prefix(client.endpoint()).unwrap_or_else(|| path_of(location));
    let zip = client.send("lambda", Method::GET, path, HeaderMap::new(), bytes::Bytes::new()).await?.body;
    Ok(json!({ "ZipFile": base64::engine::general_purpose::STANDARD.encode(zip) }))
}

/// The path and query of a link: the server may be known by another name here.
fn path_of(link: &str) -> &str {
    let rest = link.split_once("://").map_or(link, |(_, rest)| rest);
    rest.find('/').map_or("/", |slash| &rest[slash..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: &str, code: &str) -> Value {
        json!({ "Version": number, "CodeSha256": code })
    }

    #[test]
    fn an_alias_goes_back_from_its_canary_first() {
        let mut alias = json!({ "FunctionVersion": "3", "virgaPreviousVersion": "2" });
        assert_eq!(back_to(&alias, None), Some("2"));
        assert_eq!(back_to(&alias, Some("1")), Some("1"));
        alias["RoutingConfig"] = alias::routing(Some(&("4".to_owned(), 0.1)));
        assert_eq!(back_to(&alias, None), Some("3"));
        assert_eq!(back_to(&json!({ "FunctionVersion": "1" }), None), None);
    }

    #[test]
    fn code_goes_back_to_what_it_was() {
        let published = [version("1", "a"), version("2", "b"), version("3", "c")];
        for (latest, expect) in [("c", Some("2")), ("unpublished", Some("3")), ("b", Some("1")), ("a", None)]
        {
            let found = before(&version("$LATEST", latest), &published);
            assert_eq!(found.map(|version| text(version, "Version")), expect, "{latest}");
        }
        assert!(before(&version("$LATEST", "a"), &[]).is_none());
        let same_again = [version("1", "a"), version("2", "b"), version("3", "b")];
        let found = before(&version("$LATEST", "b"), &same_again);
        assert_eq!(found.map(|version| text(version, "Version")), Some("1"));
    }

    #[test]
    fn links_are_followed_at_the_known_address() {
        assert_eq!(path_of("http://localhost:1/_code/a?b=c"), "/_code/a?b=c");
        assert_eq!(path_of("http://localhost"), "/");
    }
}
