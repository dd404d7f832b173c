//! `virga signer`: signing profiles, the names with keys that packages are checked with.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base::{Clock, SystemClock};
use http::Method;
use serde_json::{Value, json};
use signing::{PrivateKey, PublicKey};

use super::{segment, text};
use crate::client::Client;
use crate::output;
use crate::settings::{Connection, Flags};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a key: FILE gets the private half, FILE.pub the public one
    Key {
        /// Where it goes; what is there already stays
        file: PathBuf,
    },
    /// Register a public key under a profile's name; of one that is there already this is the next version
    Put {
        /// Letters, digits and _
        name: String,
        /// The public key (PEM, Ed25519)
        #[arg(long, value_name = "FILE")]
        public_key: PathBuf,
        /// Days that its signatures are trusted (default: 4050)
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=4050))]
        valid_days: Option<u32>,
    },
    /// List the profiles, canceled ones too
    List,
    /// Sign nothing more in a profile's name; what was signed before stays trusted
    Cancel {
        /// The profile
        name: String,
    },
    /// Trust the signatures of a profile's version no more
    Revoke {
        /// The profile
        name: String,
        /// Its version (default: the current one)
        #[arg(long, value_name = "VERSION")]
        version: Option<String>,
        /// Those made in the last so many seconds, and later ones (default: all)
        #[arg(long, value_name = "SECONDS")]
        last_s: Option<u32>,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Trust one signature no more
    RevokeSignature {
        /// The job that it was made by: what follows signing-jobs/ in its ARN, or the ARN
        job: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// Does it. Only a key needs no server.
pub(crate) async fn run(flags: &Flags, args: &Args) -> Result<()> {
    if let Command::Key { file } = &args.command {
        return key(file, flags.json);
    }
    let client = Client::new(Connection::resolve(flags)?);
    match &args.command {
        Command::Key { .. } => Ok(()),
        Command::Put { name, public_key, valid_days } => {
            put(&client, name, public_key, *valid_days, flags.json).await
        }
        Command::List => list(&client, flags.json).await,
        Command::Cancel { name } => {
            client.call("signer", Method::DELETE, &path(name), None).await?;
            said(flags.json, &json!({ "Profile": name, "Canceled": true }), &format!("canceled {name}"))
        }
        Command::Revoke { name, version, last_s, reason } => {
            revoke(&client, name, version.as_deref(), *last_s, reason, flags.json).await
        }
        Command::RevokeSignature { job, reason } => {
            let id = job.rsplit('/').next().unwrap_or(job);
            let path = format!("/signing-jobs/{}/revoke", segment(id));
            client.call("signer", Method::PUT, &path, Some(&json!({ "reason": reason }))).await?;
            said(flags.json, &json!({ "Job": id, "Revoked": true }), &format!("revoked {id}"))
        }
    }
}

fn path(name: &str) -> String {
    format!("/signing-profiles/{}", segment(name))
}

fn said(as_json: bool, value: &Value, line: &str) -> Result<()> {
    if as_json { output::json(value) } else { output::line(line) }
}

fn key(file: &Path, as_json: bool) -> Result<()> {
    let key = PrivateKey::generate()?;
    let mut name = file.as_os_str().to_owned();
    name.push(".pub");
    let public = PathBuf::from(name);
    write_new(file, &key.to_pem()?, 0o600)?;
    write_new(&public, &key.public().to_pem(), 0o644)?;
    let shown =
        json!({ "PrivateKey": file.display().to_string(), "PublicKey": public.display().to_string() });
    said(as_json, &shown, &format!("made {} and {}", file.display(), public.display()))
}

/// Keys are not overwritten: there may be no other copy.
fn write_new(file: &Path, text: &str, mode: u32) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(file);
    let mut opened = opened.with_context(|| format!("cannot make {}", file.display()))?;
    opened.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", file.display()))
}

async fn put(client: &Client, name: &str, file: &Path, days: Option<u32>, as_json: bool) -> Result<()> {
    let text_of = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    if text_of.contains("PRIVATE KEY") {
        bail!(
            "{} is a private key: give the public one, which `virga signer key` writes beside it",
            file.display()
        );
    }
    let public = PublicKey::parse(&text_of).with_context(|| file.display().to_string())?;
    let mut body =
        json!({ "platformId": "Virga-Ed25519", "signingParameters": { "publicKey": public.to_line() } });
    if let Some(days) = days {
        body["signatureValidityPeriod"] = json!({ "value": days, "type": "DAYS" });
    }
    let made = client.call("signer", Method::PUT, &path(name), Some(&body)).await?;
    said(as_json, &made, text(&made, "profileVersionArn"))
}

async fn list(client: &Client, as_json: bool) -> Result<()> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let path = format!("/signing-profiles?includeCanceled=true{token}");
        let mut page = client.call("signer", Method::GET, &path, None).await?;
        if let Value::Array(more) = page["profiles"].take() {
            all.extend(more);
        }
        match page["nextToken"].as_str() {
            Some(next) => token = format!("&nextToken={}", segment(next)),
            None => break,
        }
    }
    if as_json {
        return output::json(&Value::Array(all));
    }
    if all.is_empty() {
        return output::line("none: `virga signer put NAME --public-key FILE` makes one");
    }
    let mut rows = vec![["PROFILE", "STATUS", "CURRENT VERSION"].map(str::to_owned).to_vec()];
    let columns = ["profileName", "status", "profileVersionArn"];
    rows.extend(all.iter().map(|one| columns.map(|name| text(one, name).to_owned()).to_vec()));
    output::raw(output::table(&rows).as_bytes())
}

async fn revoke(
    client: &Client,
    name: &str,
    version: Option<&str>,
    last_s: Option<u32>,
    reason: &str,
    as_json: bool,
) -> Result<()> {
    let version = match version {
        Some(version) => version.to_owned(),
        None => {
            let found = client.call("signer", Method::GET, &path(name), None).await?;
            text(&found, "profileVersion").to_owned()
        }
    };
    let now = SystemClock.now().as_millis() / 1000;
    let effective = last_s.map_or(0, |seconds| now - i64::from(seconds));
    let body = json!({ "profileVersion": version, "reason": reason, "effectiveTime": effective });
    client.call("signer", Method::PUT, &format!("{}/revoke", path(name)), Some(&body)).await?;
    let shown = json!({ "Profile": name, "Version": version, "Revoked": true });
    said(as_json, &shown, &format!("revoked {name}, version {version}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_its_owner_s_and_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("release.key");
        key(&file, true).unwrap();
        let private = std::fs::read_to_string(&file).unwrap();
        let public = std::fs::read_to_string(dir.path().join("release.key.pub")).unwrap();
        assert_eq!(PrivateKey::from_pem(&private).unwrap().public(), PublicKey::parse(&public).unwrap());
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(key(&file, true).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), private);
    }
}
