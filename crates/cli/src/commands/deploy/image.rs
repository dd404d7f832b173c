//! `virga deploy --image REF`: a function whose code is a container image.
//!
//! The server fetches the image, from a registry or from a path of its own machine; nothing is uploaded. A deployment
//! of an existing function asks the server to look again, since a tag may mean another image by now.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use clap::{Args as _, FromArgMatches};
use http::Method;
use serde_json::{Map, Value, json};

use super::change::differing;
use super::{Action, Args, add_given, concurrency, given_tags, release, role, settle, url, wait};
use crate::client::Client;
use crate::commands::{function_path, segment, text};
use crate::detect::Contract;
use crate::failure::is_not_found;
use crate::output::{self, Progress};

/// Deploys one image.
pub(super) async fn run(client: &Client, image: &str, args: &Args, as_json: bool) -> Result<()> {
    if args.runtime.is_some() || args.handler.is_some() {
        bail!("--runtime and --handler are for code that is packed; an image says itself what it runs");
    }
    let uri = absolute(image)?;
    let name = args.name.clone().map_or_else(|| name_of(&uri), Ok)?;
    let progress = Progress::start(format!("deploying {name}"));
    let existing = match client.lambda(Method::GET, &function_path(&name, ""), None).await {
        Ok(found) => Some(found),
        Err(error) if is_not_found(&error) => None,
        Err(error) => return Err(error),
    };
    let before = existing.as_ref().map(|found| text(&found["Configuration"], "CodeSha256").to_owned());
    progress.step(format!("fetching {uri}"));
    let mut changed = match &existing {
        None => {
            let mut body = creation(&name, &uri, args);
            body["Role"] = json!(role::of(client, args.role.as_deref()).await?);
            client.lambda(Method::POST, "/2015-03-31/functions", Some(&body)).await?;
            true
        }
        Some(existing) => update(client, &name, &uri, args, existing).await?,
    };
    let configuration = wait(client, &name).await?;
    changed |= before.as_deref().is_some_and(|before| before != text(&configuration, "CodeSha256"));
    let action = match (&existing, changed) {
        (None, _) => Action::Created,
        (Some(_), true) => Action::Updated,
        (Some(_), false) => Action::Unchanged,
    };
    let kept = concurrency::set(client, &name, args, &progress).await?;
    let released = release::release(client, &name, &args.release, &progress).await?;
    let urls = if args.no_url { None } else { Some(url(client, &name, args.release.alias()).await?) };
    let resolved = client.lambda(Method::GET, &function_path(&name, ""), None).await?;
    let resolved = text(&resolved["Code"], "ResolvedImageUri").to_owned();
    drop(progress);
    if as_json {
        let done = json!({
            "FunctionName": name,
            "FunctionArn": configuration["FunctionArn"],
            "PackageType": "Image",
            "ImageUri": uri,
            "ResolvedImageUri": resolved,
            "CodeSha256": configuration["CodeSha256"],
            "Action": format!("{action:?}"),
            "FunctionUrl": urls.as_ref().map(|urls| urls.host.clone()),
            "PathUrl": urls.as_ref().and_then(|urls| urls.path.clone()),
            "ProvisionedVersion": kept.as_ref().map(|kept| kept.version.clone()),
            "Version": released.as_ref().map(|released| released.version.clone()),
            "Alias": released.as_ref().and_then(|released| released.alias.clone()),
        });
        return output::line(done.to_string());
    }
    output::line(format!("{uri}: {resolved}"))?;
    super::outcome(&name, "image", action, (kept.as_ref(), released.as_ref()), urls.as_ref())
}

/// Deploys an image that was built here, as the command would without further flags.
pub(in crate::commands) async fn built(
    client: &Client,
    image: &str,
    name: &str,
    contract: Option<Contract>,
    as_json: bool,
) -> Result<()> {
    let mut line = vec!["deploy".to_owned(), format!("--image={image}"), format!("--name={name}")];
    line.extend(contract.map(|contract| format!("--contract={}", contract.as_str())));
    let found = Args::augment_args(clap::Command::new("deploy")).try_get_matches_from(line)?;
    run(client, image, &Args::from_arg_matches(&found)?, as_json).await
}

/// A local form is meant from where the command runs.
pub(in crate::commands) fn absolute(image: &str) -> Result<String> {
    for scheme in ["oci:", "docker-archive:"] {
        let Some(rest) = image.strip_prefix(scheme) else { continue };
        let (path, tag) = rest.split_once(':').map_or((rest, None), |(path, tag)| (path, Some(tag)));
        let path = std::path::absolute(path).with_context(|| format!("{image} names no path"))?;
        let path = path.to_str().with_context(|| format!("{image} is not UTF-8"))?;
        return Ok(match tag {
            Some(tag) => format!("{scheme}{path}:{tag}"),
            None => format!("{scheme}{path}"),
        });
    }
    Ok(image.to_owned())
}

/// The last name of the reference, without tag, digest or file extension.
fn name_of(uri: &str) -> Result<String> {
    let local = ["oci:", "docker-archive:"].iter().find_map(|scheme| uri.strip_prefix(scheme));
    let path = match local {
        Some(rest) => rest.split(':').next().unwrap_or(rest),
        None => uri.split('@').next().unwrap_or(uri),
    };
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let last = last.split([':', '.']).next().unwrap_or_default();
    let name: String =
        last.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).take(64).collect();
    if name.is_empty() {
        bail!("{uri} gives the function no name: say one with --name");
    }
    Ok(name)
}

fn creation(name: &str, uri: &str, args: &Args) -> Value {
    let mut body = json!({
        "FunctionName": name,
        "PackageType": "Image",
        "Code": { "ImageUri": uri },
    });
    add_given(&mut body, &tags(args), args);
    body
}

/// The contract is the image's to show where no flag says it.
fn tags(args: &Args) -> BTreeMap<String, String> {
    let mut tags = given_tags(args);
    if let Some(contract) = args.contract {
        tags.insert("virga:contract".to_owned(), contract.as_str().to_owned());
    }
    tags
}

/// Tags, configuration, image; each once the one before has settled. Whether settings changed.
async fn update(client: &Client, name: &str, uri: &str, args: &Args, existing: &Value) -> Result<bool> {
    let now = &existing["Configuration"];
    if text(now, "PackageType") != "Image" {
        bail!(
            "{name} exists and its code is a package: give the image another name, or delete the function first"
        );
    }
    let mut wanted = tags(args);
    wanted.retain(|key, value| existing["Tags"][key.as_str()] != value.as_str());
    if !wanted.is_empty() {
        settle(client, name).await?;
        let path = format!("/2017-03-31/tags/{}", segment(text(now, "FunctionArn")));
        client.lambda(Method::POST, &path, Some(&json!({ "Tags": wanted }))).await?;
    }
    let settings = differing(Map::new(), args, now);
    if !settings.is_empty() {
        settle(client, name).await?;
        let path = function_path(name, "/configuration");
        client.lambda(Method::PUT, &path, Some(&Value::Object(settings.clone()))).await?;
    }
    settle(client, name).await?;
    let code = json!({ "ImageUri": uri });
    client.lambda(Method::PUT, &function_path(name, "/code"), Some(&code)).await?;
    Ok(!wanted.is_empty() || !settings.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::tests::args;
    use super::*;

    #[test]
    fn names_come_from_references() {
        for (uri, name) in [
            ("registry.example:5000/team/my.app:v1", "my"),
            ("alpine@sha256:00", "alpine"),
            ("oci:/srv/my_layout:v1", "my_layout"),
            ("docker-archive:/tmp/app.tar", "app"),
        ] {
            assert_eq!(name_of(uri).ok().as_deref(), Some(name), "{uri}");
        }
        assert!(name_of("oci:/").is_err());
        assert!(absolute("oci:x:v1").is_ok_and(|uri| uri.starts_with("oci:/") && uri.ends_with("/x:v1")));
    }

    #[test]
    fn creation_says_what_was_asked_for() {
        let body = creation("app", "r/app", &args("--image r/app --contract http --memory 64 --env A=1"));
        assert_eq!(body["Code"], json!({ "ImageUri": "r/app" }));
        assert_eq!(body["Tags"], json!({ "virga:contract": "http", "virga:memory": "64" }));
        assert_eq!((&body["PackageType"], &body["MemorySize"]), (&json!("Image"), &json!(128)));
    }
}
