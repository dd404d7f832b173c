//! Whom guests' `https` trusts, read when the first request asks for it.
//!
//! A guest of the server's process is encrypted for here. A worker encrypts for its own guests, so that what a stranger's
//! server answers is parsed where an escape finds nothing; it has no files, so the server hands it the roots as a
//! sealed memory file, one for all workers.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use tls::{Client, Roots};
use tokio::sync::OnceCell;

use crate::sealed::{self, Holds};

/// The roots in the forms that they are needed in.
pub(crate) struct Trust {
    more: Roots,
    all: OnceCell<Roots>,
    client: OnceCell<Client>,
    file: OnceCell<OwnedFd>,
}

impl Trust {
    /// The host's roots, which are not read yet, and those of a file, which are.
    pub(crate) fn new(more: Option<&Path>) -> io::Result<Self> {
        let mut roots = Roots::default();
        more.map_or(Ok(()), |path| roots.add_file(path))?;
        let (all, client, file) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Ok(Self { more: roots, all, client, file })
    }

    async fn all(&self) -> io::Result<&Roots> {
        let read = || async {
            let mut roots = self.more.clone();
            tokio::task::spawn_blocking(move || roots.add_hosts().map(|()| roots)).await?
        };
        self.all.get_or_try_init(read).await
    }

    /// For guests of this process.
    pub(crate) async fn client(&self) -> io::Result<Client> {
        self.client.get_or_try_init(|| async { Client::new(self.all().await?) }).await.cloned()
    }

    /// For a worker, which reads it with [`client`].
    pub(crate) async fn file(&self) -> io::Result<&OwnedFd> {
        let make = || async { sealed::file(Holds::Data, &self.all().await?.to_bytes()) };
        self.file.get_or_try_init(make).await
    }

    /// Whether anything was read of the host's.
    #[cfg(test)]
    fn is_read(&self) -> bool {
        self.all.initialized()
    }
}

/// By the roots that a file of [`Trust::file`] holds.
pub(crate) fn client(file: OwnedFd) -> io::Result<Client> {
    Client::new(&Roots::from_bytes(&sealed::read(&file.into())?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_worker_trusts_whom_the_server_does() {
        let trust = Trust::new(None).unwrap();
        assert!(!trust.is_read(), "nobody asked yet");
        let file = trust.file().await.unwrap().try_clone().unwrap();
        assert!(trust.is_read());
        // Another worker has read of the same file before.
        assert!(client(file.try_clone().unwrap()).is_ok());
        let read = Roots::from_bytes(&sealed::read(&file.into()).unwrap()).unwrap();
        assert_eq!(read.to_bytes(), trust.all().await.unwrap().to_bytes());
        assert!(!read.to_bytes().is_empty(), "the host has certificates");
    }

    #[test]
    fn certificates_that_make_no_sense_are_told_at_once() {
        let refused = Trust::new(Some(Path::new("/dev/null"))).err().map(|error| error.to_string());
        assert!(refused.unwrap().contains("/dev/null"));
    }
}
