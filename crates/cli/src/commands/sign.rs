//! `virga sign`: a package with a signature in it, made where the key is.
//!
//! The key never leaves this machine. With a profile's name the server is asked which version is current and how long its
//! signatures last; with the ARN of a version nobody is asked, so that signing can be done where no server is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base::{Clock, RequestId, SystemClock};
use http::Method;
use serde_json::{Value, json};
use signing::{PrivateKey, PublicKey, Statement};

use super::{segment, text};
use crate::client::Client;
use crate::output;
use crate::package::{Files, Package};
use crate::settings::{Connection, Flags};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A folder or a zip
    path: PathBuf,
    /// In whose name: a signing profile, or the ARN of a version of one (then no server is asked)
    #[arg(long, value_name = "NAME|ARN")]
    profile: String,
    /// The private key (PEM, Ed25519), as `virga signer key` or `openssl genpkey -algorithm ed25519` makes it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the signed zip goes (default: beside PATH, as NAME.signed.zip)
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Days after which the signature is not to be trusted, where that is less than the profile says
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=4050))]
    expires_days: Option<u32>,
}

const DAY_MS: i64 = 86_400_000;

/// Signs.
pub(crate) async fn run(flags: &Flags, args: &Args) -> Result<()> {
    let text = std::fs::read_to_string(&args.key);
    let text = text.with_context(|| format!("cannot read {}", args.key.display()))?;
    let key = PrivateKey::from_pem(&text).with_context(|| args.key.display().to_string())?;
    let package = Package::build(&files(&args.path)?)?;
    let version_arn = version_arn(flags, &args.profile, &key).await?;
    let now = SystemClock.now().as_millis();
    let job = job_arn(&version_arn)?;
    let statement = |tree: String| Statement {
        profile_version_arn: version_arn.clone(),
        job_arn: job.clone(),
        tree,
        signed_at_ms: now,
        expires_at_ms: args.expires_days.map(|days| now + i64::from(days) * DAY_MS),
    };
    let signed = signing::sign(&package.zip, &key, statement)?;
    let output = args.output.clone().unwrap_or_else(|| beside(&args.path));
    std::fs::write(&output, &signed).with_context(|| format!("cannot write {}", output.display()))?;
    if flags.json {
        return output::json(&json!({
            "Output": output.display().to_string(),
            "SigningProfileVersionArn": version_arn,
            "SigningJobArn": job,
        }));
    }
    output::line(format!(
        "{} {} in the name of {version_arn}",
        output::colour(32, "signed"),
        output.display()
    ))
}

fn files(path: &Path) -> Result<Files> {
    if path.is_dir() {
        return Ok(Files::Folder(path.to_owned()));
    }
    if path.extension().is_some_and(|end| end == "zip") && path.is_file() {
        return Ok(Files::Ready(path.to_owned()));
    }
    bail!("{} is neither a folder nor a .zip", path.display())
}

/// `NAME.signed.zip` beside what was signed.
fn beside(path: &Path) -> PathBuf {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let stem = whole.file_stem().and_then(|stem| stem.to_str()).unwrap_or("package");
    whole.with_file_name(format!("{stem}.signed.zip"))
}

/// The ARN of the profile's version that the key is of.
async fn version_arn(flags: &Flags, profile: &str, key: &PrivateKey) -> Result<String> {
    if profile.starts_with("arn:") {
        return Ok(profile.to_owned());
    }
    let client = Client::new(Connection::resolve(flags)?);
    let path = format!("/signing-profiles/{}", segment(profile));
    let found: Value = client.call("signer", Method::GET, &path, None).await?;
    let registered = PublicKey::parse(text(&found["signingParameters"], "publicKey"));
    if registered.ok() != Some(key.public()) {
        bail!(
            "this is not the key of the signing profile {profile} (its current version is {}): register it with `virga \
             signer put {profile} --public-key FILE`, or give the ARN of the version that it is of",
            text(&found, "profileVersion")
        );
    }
    if text(&found, "status") != "Active" {
        bail!("the signing profile {profile} is {}", text(&found, "status").to_lowercase());
    }
    Ok(text(&found, "profileVersionArn").to_owned())
}

/// A name for this one signature, in the profile's account.
fn job_arn(version_arn: &str) -> Result<String> {
    let (before, rest) = version_arn.split_once(":/signing-profiles/").unwrap_or_default();
    let named = rest.split_once('/').is_some_and(|(name, version)| !name.is_empty() && !version.is_empty());
    if !named || !before.starts_with("arn:aws:signer:") {
        bail!(
            "{version_arn} is not of the form arn:aws:signer:REGION:ACCOUNT:/signing-profiles/NAME/VERSION"
        );
    }
    Ok(format!("{before}:/signing-jobs/{}", RequestId::random()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_its_profile_s_account_s() {
        let made = job_arn("arn:aws:signer:eu-west-1:123456789012:/signing-profiles/us/abcdefghij").unwrap();
        assert!(made.starts_with("arn:aws:signer:eu-west-1:123456789012:/signing-jobs/"), "{made}");
        for bad in
            ["us", "arn:aws:signer:eu-west-1:1:/signing-profiles/us", "arn:aws:s3:x:1:/signing-profiles/us/a"]
        {
            assert!(job_arn(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_signed_package_lies_beside_the_other() {
        assert_eq!(beside(Path::new("/x/app.zip")), Path::new("/x/app.signed.zip"));
        assert_eq!(beside(Path::new("/x/app")), Path::new("/x/app.signed.zip"));
    }
}
