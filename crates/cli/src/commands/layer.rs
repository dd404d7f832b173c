//! `virga layer publish|list|delete`, and what `virga deploy --layer` makes of a folder.
//!
//! A layer is packed as a function is: the same files give the same bytes, and what the newest version holds already is
//! not published again.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine;
use http::Method;
use serde_json::{Value, json};

use super::{segment, text};
use crate::client::Client;
use crate::detect;
use crate::output;
use crate::package::{Files, Package};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Publish a version of a layer from a folder or a zip: what functions see at /opt
    Publish(Publish),
    /// List the layers, or the versions of one
    List {
        /// A layer: its versions are listed
        name: Option<String>,
    },
    /// Delete versions of a layer; functions that have them keep them
    Delete {
        /// NAME:VERSION, or the ARN of a version
        #[arg(required = true, value_name = "NAME:VERSION")]
        versions: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Publish {
    /// A folder (python, nodejs, ruby, java, php, bin, lib, …) or a zip
    path: PathBuf,
    /// The layer's name (default: the folder's or file's)
    #[arg(long)]
    name: Option<String>,
    /// A runtime that it is for; may be repeated. Nothing is refused for it
    #[arg(long, value_name = "RUNTIME")]
    runtime: Vec<String>,
    /// An architecture that it is for: x86_64 or arm64; may be repeated
    #[arg(long, value_name = "NAME")]
    architecture: Vec<String>,
    /// Free text
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// An identifier of a licence, its URL or its text
    #[arg(long, value_name = "TEXT")]
    license: Option<String>,
}

/// Does what is asked for.
pub(crate) async fn run(client: &Client, args: &Args, as_json: bool) -> Result<()> {
    match &args.command {
        Command::Publish(args) => publish(client, args, as_json).await,
        Command::List { name } => list(client, name.as_deref(), as_json).await,
        Command::Delete { versions } => delete(client, versions, as_json).await,
    }
}

async fn publish(client: &Client, args: &Publish, as_json: bool) -> Result<()> {
    let name = name_of(&args.path, args.name.as_deref())?;
    let package = packed(&args.path)?;
    let mut body = content(&package);
    for (member, list) in
        [("CompatibleRuntimes", &args.runtime), ("CompatibleArchitectures", &args.architecture)]
    {
        if !list.is_empty() {
            body[member] = json!(list);
        }
    }
    for (member, given) in [("Description", &args.description), ("LicenseInfo", &args.license)] {
        if let Some(given) = given {
            body[member] = json!(given);
        }
    }
    let answer = client.lambda(Method::POST, &versions_path(&name), Some(&body)).await?;
    if as_json {
        return output::json(&answer);
    }
    output::line(text(&answer, "LayerVersionArn"))
}

/// What `deploy` names as a layer, as the ARN of a version: an ARN as it is; of a folder or zip the newest version of
/// the layer of its name if that holds the same, else a new one.
pub(super) async fn arn_of(client: &Client, given: &str) -> Result<String> {
    if given.starts_with("arn:") {
        return Ok(given.to_owned());
    }
    let path = Path::new(given);
    if !path.exists() {
        bail!("{given} is neither the ARN of a layer version nor a folder or zip here");
    }
    let (name, package) = (name_of(path, None)?, packed(path)?);
    let newest = client.lambda(Method::GET, &format!("{}?MaxItems=1", versions_path(&name)), None).await?;
    if let Some(number) = newest["LayerVersions"][0]["Version"].as_u64() {
        let newest = client.lambda(Method::GET, &format!("{}/{number}", versions_path(&name)), None).await?;
        if newest["Content"]["CodeSha256"] == package.sha256() {
            return Ok(text(&newest, "LayerVersionArn").to_owned());
        }
    }
    let answer = client.lambda(Method::POST, &versions_path(&name), Some(&content(&package))).await?;
    Ok(text(&answer, "LayerVersionArn").to_owned())
}

fn name_of(path: &Path, given: Option<&str>) -> Result<String> {
    given.map_or_else(|| detect::name_of(path), |name| Ok(name.to_owned()))
}

fn packed(path: &Path) -> Result<Package> {
    let about = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if about.is_dir() {
        return Package::build(&Files::Folder(path.to_owned()));
    }
    if path.extension().is_none_or(|extension| extension != "zip") {
        bail!("{} is neither a folder nor a .zip: a layer is a tree of files", path.display());
    }
    Package::build(&Files::Ready(path.to_owned()))
}

fn content(package: &Package) -> Value {
    let zip = base64::engine::general_purpose::STANDARD.encode(&package.zip);
    json!({ "Content": { "ZipFile": zip } })
}

fn versions_path(layer: &str) -> String {
    format!("/2018-10-31/layers/{}/versions", segment(layer))
}

async fn list(client: &Client, name: Option<&str>, as_json: bool) -> Result<()> {
    let (path, member) = match name {
        Some(name) => (versions_path(name), "LayerVersions"),
        None => ("/2018-10-31/layers".to_owned(), "Layers"),
    };
    let items = all(client, &path, member).await?;
    if as_json {
        return output::json(&Value::Array(items));
    }
    if items.is_empty() {
        return output::line("none: make one with `virga layer publish FOLDER`");
    }
    let mut rows = vec![["VERSION", "CREATED", "RUNTIMES", "DESCRIPTION"].map(str::to_owned).to_vec()];
    rows.extend(
        items.iter().map(|item| row(if name.is_some() { item } else { &item["LatestMatchingVersion"] })),
    );
    output::raw(output::table(&rows).as_bytes())
}

fn row(version: &Value) -> Vec<String> {
    let created = text(version, "CreatedDate").split('.').next().unwrap_or("").replace('T', " ");
    let runtimes = version["CompatibleRuntimes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    // `arn:aws:lambda:REGION:ACCOUNT:layer:NAME:VERSION`
    let named = text(version, "LayerVersionArn").splitn(7, ':').last().unwrap_or("");
    vec![
        named.to_owned(),
        created,
        runtimes.collect::<Vec<_>>().join(" "),
        text(version, "Description").to_owned(),
    ]
}

async fn all(client: &Client, path: &str, member: &str) -> Result<Vec<Value>> {
    let (mut items, mut marker) = (Vec::new(), String::new());
    loop {
        let mut page = client.lambda(Method::GET, &format!("{path}?MaxItems=50{marker}"), None).await?;
        if let Value::Array(more) = page[member].take() {
            items.extend(more);
        }
        match page["NextMarker"].as_str() {
            Some(next) if !next.is_empty() => marker = format!("&Marker={}", segment(next)),
            _ => return Ok(items),
        }
    }
}

async fn delete(client: &Client, versions: &[String], as_json: bool) -> Result<()> {
    let named = |version: &String| {
        let (layer, number) = version.rsplit_once(':').unwrap_or((version, ""));
        let number = number.parse::<u64>().ok().filter(|_| !layer.is_empty() && !layer.ends_with(":layer"));
        let number = number.with_context(|| format!("{version} is not of the form NAME:VERSION"))?;
        Ok((layer.to_owned(), number))
    };
    let named: Vec<(String, u64)> = versions.iter().map(named).collect::<Result<_>>()?;
    for ((layer, number), version) in named.iter().zip(versions) {
        client.lambda(Method::DELETE, &format!("{}/{number}", versions_path(layer)), None).await?;
        if as_json {
            output::json(&json!({ "LayerVersion": version, "Deleted": true }))?;
        } else {
            output::line(format!("deleted {version}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_name_and_number() {
        let version = json!({
            "LayerVersionArn": "arn:aws:lambda:us-east-1:123456789012:layer:tools:7",
            "CreatedDate": "2026-11-20T07:37:38.123+0000",
            "CompatibleRuntimes": ["python3.11", "php8.2"],
        });
        assert_eq!(row(&version), ["tools:7", "2026-11-20 07:37:38", "python3.11 php8.2", ""]);
    }

    #[test]
    fn a_layer_is_a_folder_or_a_zip() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x.py"), "").unwrap();
        assert!(packed(dir.path()).is_ok());
        let refused = packed(&dir.path().join("x.py")).err().unwrap().to_string();
        assert!(refused.contains("neither a folder nor a .zip"), "{refused}");
    }
}
