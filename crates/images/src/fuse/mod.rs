//! A file system that the kernel asks this process about (FUSE protocol 7.31, `linux/fuse.h`): read-only, and as much of the
//! protocol as that takes.
//!
//! The device is somebody else's to open and mount; here requests are read from it and answered. What they ask about is a
//! [`Tree`]. Everything is to be kept by the kernel for good, since nothing changes: names, attributes, links, pages. Files and
//! folders are not opened at all (`FUSE_NO_OPEN_SUPPORT`), so that what is in the page cache costs nobody here anything.
//!
//! Whoever waits for an answer that is on its way cannot be killed before it comes. So everything is answered from memory or the
//! disk at once but reads, and those end when the kernel says that nobody wants them any more.

mod wire;

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rustix::io::Errno;

pub(crate) use wire::{Attributes, Entry, Name, ROOT};
use wire::{Operation, Request};

/// What the file system shows.
pub(crate) trait Tree: Send + Sync + 'static {
    /// What a name in a folder means; `None` where there is nothing.
    fn look_up(&self, folder: u64, name: &[u8]) -> Result<Option<Entry>, Errno>;

    /// What something is.
    fn attributes(&self, node: u64) -> Result<Attributes, Errno>;

    /// Where a link leads.
    fn link(&self, node: u64) -> Result<Vec<u8>, Errno>;

    /// What is in a folder, the same at each call.
    fn list(&self, node: u64) -> Result<Arc<Vec<Name>>, Errno>;

    /// Bytes of a file: at once, or later.
    fn read(&self, node: u64, at: u64, size: u32) -> Result<Bytes, Errno>;
}

/// Bytes of a file.
pub(crate) enum Bytes {
    Now(Vec<u8>),
    Later(BoxFuture<'static, Result<Vec<u8>, Errno>>),
}

/// Bytes of one request: names, and what would be written if anything could be.
const REQUEST_BYTES: usize = 64 << 10;

/// A device, and the answers that are on their way to it.
struct Device {
    descriptor: OwnedFd,
    /// Reads that wait, by their requests. Whoever takes one out of here answers it.
    waiting: Mutex<HashMap<u64, tokio::task::AbortHandle>>,
}

/// Answers what is asked on a device until nobody has it mounted any more, in a thread of its own.
pub(crate) fn serve(
    descriptor: OwnedFd,
    tree: Arc<dyn Tree>,
    runtime: tokio::runtime::Handle,
) -> io::Result<()> {
    let device = Arc::new(Device { descriptor, waiting: Mutex::default() });
    let work = move || {
        let mut buffer = vec![0; REQUEST_BYTES];
        loop {
            match rustix::io::read(&device.descriptor, &mut buffer) {
                Ok(count) => device.deal_with(&buffer[..count], &*tree, &runtime),
                // Taken back before it was read, or a signal.
                Err(Errno::NOENT | Errno::INTR | Errno::AGAIN) => {}
                // Not mounted any more.
                Err(_) => return,
            }
        }
    };
    std::thread::Builder::new().name("image-files".to_owned()).spawn(work).map(drop)
}

impl Device {
    fn deal_with(self: &Arc<Self>, bytes: &[u8], tree: &dyn Tree, runtime: &tokio::runtime::Handle) {
        let Some(request) = Request::parse(bytes) else { return };
        let unique = request.unique;
        if let Operation::Interrupt(other) = request.operation {
            return self.give_up(other);
        }
        match answer(&request, tree) {
            None => {}
            Some(Ok(Bytes::Now(bytes))) => self.answer(unique, Ok(&bytes)),
            Some(Err(error)) => self.answer(unique, Err(error)),
            Some(Ok(Bytes::Later(bytes))) => self.wait_for(unique, bytes, runtime),
        }
    }

    fn wait_for(
        self: &Arc<Self>,
        unique: u64,
        bytes: BoxFuture<'static, Result<Vec<u8>, Errno>>,
        runtime: &tokio::runtime::Handle,
    ) {
        let device = Arc::clone(self);
        // Held until it is noted, so that it is not over before.
        let mut waiting = self.waiting.lock();
        let task = runtime.spawn(async move {
            let outcome = bytes.await;
            if device.waiting.lock().remove(&unique).is_some() {
                device.answer(unique, outcome.as_deref().map_err(|error| *error));
            }
        });
        waiting.insert(unique, task.abort_handle());
    }

    /// Nobody wants the answer any more, but the kernel waits for one.
    fn give_up(&self, unique: u64) {
        let task = self.waiting.lock().remove(&unique);
        if let Some(task) = task {
            task.abort();
            self.answer(unique, Err(Errno::INTR));
        }
    }

    fn answer(&self, unique: u64, outcome: Result<&[u8], Errno>) {
        let (error, bytes) = match outcome {
            Ok(bytes) => (0, bytes),
            Err(error) => (error.raw_os_error(), &[][..]),
        };
        let head = wire::head(unique, error, bytes.len());
        // Taken back meanwhile, or not mounted any more: nobody waits.
        let _ = rustix::io::writev(self.descriptor.as_fd(), &[IoSlice::new(&head), IoSlice::new(bytes)]);
    }
}

/// The answer to a request; `None` where there is to be none.
fn answer(request: &Request<'_>, tree: &dyn Tree) -> Option<Result<Bytes, Errno>> {
    let node = request.node;
    let answered = match &request.operation {
        Operation::Init { major, readahead, flags } => wire::init(*major, *readahead, *flags),
        Operation::LookUp(name) => tree.look_up(node, name).map(|entry| wire::entry(entry.as_ref())),
        Operation::Attributes => tree.attributes(node).map(|found| wire::attributes(&found)),
        Operation::ReadLink => tree.link(node),
        Operation::List { at, size } => tree.list(node).map(|names| wire::list(&names, *at, *size)),
        Operation::Read { at, size } => return Some(tree.read(node, *at, *size)),
        Operation::Statistics => Ok(wire::statistics()),
        Operation::Change => Err(Errno::ROFS),
        // The kernel does not ask again.
        Operation::Other => Err(Errno::NOSYS),
        Operation::OneWay | Operation::Interrupt(_) => return None,
    };
    Some(answered.map(Bytes::Now))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What a tree answers to a request of this operation, on this node, with this body.
    pub(crate) fn ask(
        tree: &dyn Tree,
        operation: u32,
        node: u64,
        body: &[u8],
    ) -> Option<Result<Bytes, Errno>> {
        let mut bytes = Vec::new();
        bytes.extend(u32::try_from(40 + body.len()).unwrap().to_ne_bytes());
        bytes.extend(operation.to_ne_bytes());
        bytes.extend(7_u64.to_ne_bytes());
        bytes.extend(node.to_ne_bytes());
        bytes.extend([0; 16]);
        bytes.extend(body);
        answer(&Request::parse(&bytes).unwrap(), tree)
    }

    struct Nothing;

    impl Tree for Nothing {
        fn look_up(&self, _: u64, _: &[u8]) -> Result<Option<Entry>, Errno> {
            Ok(None)
        }
        fn attributes(&self, _: u64) -> Result<Attributes, Errno> {
            Err(Errno::STALE)
        }
        fn link(&self, _: u64) -> Result<Vec<u8>, Errno> {
            Err(Errno::INVAL)
        }
        fn list(&self, _: u64) -> Result<Arc<Vec<Name>>, Errno> {
            Err(Errno::NOTDIR)
        }
        fn read(&self, _: u64, _: u64, _: u32) -> Result<Bytes, Errno> {
            Err(Errno::IO)
        }
    }

    fn error(answered: Option<Result<Bytes, Errno>>) -> Option<Errno> {
        answered.and_then(Result::err)
    }

    #[test]
    fn what_is_not_there_is_said() {
        assert_eq!(error(ask(&Nothing, 3, 1, &[])), Some(Errno::STALE));
        for changing in [4, 6, 8, 9, 10, 11, 12, 13, 16, 21, 24, 35, 43, 45, 47] {
            assert_eq!(error(ask(&Nothing, changing, 1, &[])), Some(Errno::ROFS), "{changing}");
        }
        for unknown in [14, 22, 23, 25, 27, 34, 39, 46, 52, 4711] {
            assert_eq!(error(ask(&Nothing, unknown, 1, &[])), Some(Errno::NOSYS), "{unknown}");
        }
        for one_way in [2, 42] {
            assert!(ask(&Nothing, one_way, 1, &[0; 16]).is_none(), "{one_way}");
        }
        let Some(Ok(Bytes::Now(absent))) = ask(&Nothing, 1, 1, b"x\0") else { panic!("an answer") };
        assert_eq!((absent.len(), &absent[..8]), (128, &[0; 8][..]), "that there is nothing is kept");
    }

    #[test]
    fn requests_that_are_cut_off_are_none() {
        for bytes in [&[][..], &[0; 39], &[40, 0, 0, 0]] {
            assert!(Request::parse(bytes).is_none());
        }
        assert_eq!(
            error(ask(&Nothing, 15, 1, &[0; 8])),
            Some(Errno::NOSYS),
            "a read that does not say where"
        );
    }

    #[test]
    fn an_old_kernel_is_told() {
        let body = [6_u32, 0, 0, 0].map(u32::to_ne_bytes).concat();
        assert_eq!(error(ask(&Nothing, 26, 0, &body)), Some(Errno::PROTO));
        let body = [7_u32, 40, 1 << 17, u32::MAX].map(u32::to_ne_bytes).concat();
        let Some(Ok(Bytes::Now(agreed))) = ask(&Nothing, 26, 0, &body) else { panic!("an answer") };
        assert_eq!(agreed.len(), 64);
    }
}
