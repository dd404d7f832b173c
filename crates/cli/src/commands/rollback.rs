//! `virga rollback FUNCTION`: back to the version before, in one command.
//!
//! With an alias, the alias is led back: from a canary to the version that it is compared with, else to the version
//! that the alias led to before. No code moves, so it takes a moment. Without one, `$LATEST` gets the code and the
//! settings of the version that was published before what it has now, all of them: the server has one operation for it.

use anyhow::{Context, Result, bail};
use http::Method;
use serde_json::{Value, json};

use super::alias::{self, LIVE};
use super::{deploy, segment, text};
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

/// The server does it in one change: a version's code, its settings and the tags that it had.
async fn of_code(client: &Client, args: &Args) -> Result<Value> {
    let progress = Progress::start(format!("rolling {} back", args.function));
    let version = args.to.as_ref().map(|to| format!("?Version={}", segment(to))).unwrap_or_default();
    let path = format!("/virga/functions/{}/restore{version}", segment(&args.function));
    let restored = client.lambda(Method::POST, &path, None).await;
    let restored = restored.with_context(|| {
        format!(
            "`virga deploy PATH --publish` or `--alias {LIVE}` makes versions of {} to go back to",
            args.function
        )
    })?;
    let went = &restored["virgaRestored"];
    progress.step(format!("bringing back {}:{}", args.function, text(went, "To")));
    deploy::wait(client, &args.function).await?;
    let from = went["From"].as_str().unwrap_or("$LATEST");
    Ok(json!({ "FunctionName": args.function, "From": from, "To": text(went, "To") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_goes_back_from_its_canary_first() {
        let mut alias = json!({ "FunctionVersion": "3", "virgaPreviousVersion": "2" });
        assert_eq!(back_to(&alias, None), Some("2"));
        assert_eq!(back_to(&alias, Some("1")), Some("1"));
        alias["RoutingConfig"] = alias::routing(Some(&("4".to_owned(), 0.1)));
        assert_eq!(back_to(&alias, None), Some("3"));
        assert_eq!(back_to(&json!({ "FunctionVersion": "1" }), None), None);
    }
}
