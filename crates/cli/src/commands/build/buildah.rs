//! Folders with a Dockerfile: buildah builds those, without a daemon too.
//!
//! What it makes lies in a layout of its own until it was written or pushed from there, by the same code as every other
//! image. What buildah prints goes to standard error; its storage, its isolation and its registries are what its own
//! settings say.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use images::build::{Made, Workshop};
use tokio::process::Command;

use super::Args;
use super::folder::Own;

/// The image's name in the layout.
const NAME: &str = "built";

/// An image in a folder that goes with this.
pub(super) struct Built(Own);

impl Built {
    /// Takes it out, to be written or pushed.
    pub(super) async fn take(&self, workshop: &Workshop) -> Result<Made, images::Error> {
        workshop.take(self.0.path(), NAME).await
    }

    /// As buildah calls it.
    fn reference(&self) -> OsString {
        let mut text = OsString::from("oci:");
        text.push(self.0.path());
        text.push(format!(":{NAME}"));
        text
    }
}

/// The folder's Dockerfile, where that says what is to be built.
pub(super) fn file(args: &Args) -> Result<Option<PathBuf>> {
    if args.base.is_some() {
        return Ok(None);
    }
    let files = ["Dockerfile", "Containerfile"].map(|name| args.path.join(name));
    let Some(file) = files.into_iter().find(|file| file.is_file()) else { return Ok(None) };
    let said = [
        ("--entrypoint", args.entrypoint.is_some()),
        ("--cmd", args.cmd.is_some()),
        ("--env", !args.env.is_empty()),
        ("--port", args.port.is_some()),
        ("--user", args.user.is_some()),
        ("--into", args.into.is_some()),
        ("--label", !args.label.is_empty()),
        ("--handler", args.handler.is_some()),
        ("--run-steps", args.steps.wanted()),
    ];
    if let Some((flag, _)) = said.into_iter().find(|(_, said)| *said) {
        let file = file.display();
        bail!("{flag} does not go with {file}; with --base the folder is built without that");
    }
    Ok(Some(file))
}

/// Has buildah build it.
pub(super) async fn run(args: &Args, file: &Path, scratch: &Path) -> Result<Built> {
    let built = Built(Own::new(scratch)?);
    let mut command = Command::new("buildah");
    command.args(arguments(args, file, &built)).stdin(Stdio::null()).stdout(io::stderr()).kill_on_drop(true);
    let status = match command.status().await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
            "{} is built by buildah, which is not on this machine: install it (Debian: apt-get install buildah; Fedora: dnf \
             install buildah), or have the folder built without it: --base REF",
            file.display()
        ),
        other => other.context("cannot run buildah")?,
    };
    if !status.success() {
        bail!("buildah could not build {}: {status}", file.display());
    }
    Ok(built)
}

/// Its command line.
fn arguments(args: &Args, file: &Path, built: &Built) -> Vec<OsString> {
    let mut line: Vec<OsString> =
        ["build", "--format", "oci", "--disable-compression=false"].map(Into::into).into();
    if let Some(auth) = &args.registry_auth {
        line.extend(["--authfile".into(), auth.into()]);
    }
    for (key, value) in &args.build_arg {
        line.extend(["--build-arg".into(), format!("{key}={value}").into()]);
    }
    line.extend(["--file".into(), file.into(), "--tag".into(), built.reference()]);
    // A folder whose name begins with a dash is a folder all the same.
    line.extend(["--".into(), args.path.clone().into()]);
    line
}
