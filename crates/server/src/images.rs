//! The store of images as functions see it.

use std::collections::HashSet;
use std::error::Error as _;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use base::AccountId;
use functions::{Functions, ImageError, ImageProblem, Pulled, Unpacked};
use futures_util::future::BoxFuture;
use images::{Digest, Error, Images, Meter, Mounter, Outcome, Stored};
use observe::ImageParts;
use sandbox::process::jail::Launcher;
use tokio::sync::mpsc;

/// What shows images to instances before they are all there.
pub(crate) struct Mounts(pub(crate) Launcher);

impl Mounter for Mounts {
    fn mount(&self, folder: &Path) -> io::Result<OwnedFd> {
        self.0.mount(folder)
    }

    fn unmount(&self, folder: &Path) -> io::Result<()> {
        self.0.unmount(folder)
    }
}

/// Counts parts of images.
pub(crate) struct Counted(pub(crate) ImageParts);

impl Meter for Counted {
    fn received(&self, bytes: u64) {
        self.0.received(bytes);
    }

    fn part(&self) {
        self.0.part();
    }

    fn run(&self, took: Duration, outcome: Outcome) {
        self.0.run(took, outcome.reason());
    }
}

/// What went wrong with an image's parts.
pub(crate) type Trouble = (Digest, String);

/// Tells functions what went wrong with their images' parts.
pub(crate) async fn tell(functions: Functions, mut troubled: mpsc::Receiver<Trouble>) {
    while let Some((id, text)) = troubled.recv().await {
        functions.image_trouble(id.hex(), &text);
    }
}

/// Both know nothing of each other.
pub(crate) struct Adapter(pub(crate) Images);

impl functions::Images for Adapter {
    fn check(&self, uri: &str) -> Result<(), ImageError> {
        self.0.check(uri).map_err(told)
    }

    fn pull<'a>(
        &'a self,
        account: &'a AccountId,
        uri: &'a str,
        digest: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Pulled, ImageError>> {
        Box::pin(async move {
            let pinned = digest.and_then(Digest::from_hex);
            let pulled = self.0.pull(account.as_str(), uri, pinned.as_ref()).await.map_err(told)?;
            Ok(Pulled {
                id: pulled.id.hex().to_owned(),
                digest: pulled.digest.hex().to_owned(),
                resolved: pulled.resolved.clone(),
                bytes: pulled.bytes,
                unpacked: unpacked(pulled.stored.clone()),
                hold: Box::new(pulled),
            })
        })
    }

    fn find(&self, id: &str) -> Option<Unpacked> {
        self.0.find(&Digest::from_hex(id)?).map(unpacked)
    }

    fn waited(&self, id: &str) -> Option<Duration> {
        self.0.waited(&Digest::from_hex(id)?)
    }

    fn remove(&self, id: &str) {
        let Some(digest) = Digest::from_hex(id) else { return };
        if let Err(error) = self.0.remove(&digest) {
            let detail = error.source().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(id, %error, detail, "an unused image could not be removed");
        }
    }

    fn sweep(&self, wanted: &HashSet<String>) -> Result<(), ImageError> {
        self.0.sweep(&|id| wanted.contains(id.hex())).map_err(told)
    }
}

fn unpacked(stored: Stored) -> Unpacked {
    let Stored { root, execution } = stored;
    Unpacked {
        root,
        user: execution.user,
        env: execution.env,
        entry_point: execution.entry_point,
        command: execution.command,
        working_directory: execution.working_directory,
        ports: execution.ports,
    }
}

/// What the function's owner is told. The host's own troubles are the operator's, and in the log.
fn told(error: Error) -> ImageError {
    let problem = match &error {
        Error::Denied(_) => ImageProblem::Denied,
        Error::NotFound(_) => ImageProblem::Missing,
        Error::Reference(_) | Error::Invalid(_) => ImageProblem::Invalid,
        Error::Unreachable(_) | Error::Full(_) | Error::Room(_) | Error::Host { .. } => {
            ImageProblem::Unavailable
        }
    };
    let mut text = error.to_string();
    if let Error::Host { .. } = error {
        let detail = error.source().map(ToString::to_string).unwrap_or_default();
        tracing::error!(%error, detail, "an image could not be had");
        text = "Fetching the image failed on the host".to_owned();
    }
    ImageError { problem, text }
}
