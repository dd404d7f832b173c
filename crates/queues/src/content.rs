//! What a message holds, and how much of it memory keeps.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base::RequestId;
use bytes::Bytes;
use store::Blobs;

use crate::Error;
use crate::limits::KEPT_BYTES;
use crate::tables::Stored;

/// A body.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    /// In its row.
    Inline(Bytes),
    /// In a file of its own, by name.
    File(String),
    /// Nowhere: its row is damaged. Who asks for it is told.
    Gone,
}

/// Head and body.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) head: Bytes,
    pub(crate) body: Body,
}

impl Content {
    pub(crate) fn of(row: Stored) -> Self {
        let body = match (row.body, row.file) {
            (_, Some(file)) => Body::File(file),
            (Some(bytes), None) => Body::Inline(bytes.into()),
            (None, None) => Body::Gone,
        };
        Self { head: row.head.into(), body }
    }

    fn size(&self) -> usize {
        let body = match &self.body {
            Body::Inline(bytes) => bytes.len(),
            Body::File(name) => name.len(),
            Body::Gone => 0,
        };
        self.head.len() + body
    }
}

/// A content that counts against what memory keeps; nothing where there was no room.
pub(crate) type Held = Option<Arc<Kept>>;

/// See [`Held`].
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) content: Content,
    size: usize,
    all: Arc<AtomicUsize>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.all.fetch_sub(self.size, Ordering::Relaxed);
    }
}

/// Keeps the content if there is room.
pub(crate) fn keep(content: Content, all: &Arc<AtomicUsize>) -> Held {
    let size = content.size();
    let room = |held: usize| held.checked_add(size).filter(|sum| *sum <= KEPT_BYTES);
    all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok()?;
    Some(Arc::new(Kept { content, size, all: Arc::clone(all) }))
}

/// Letters in front of a body in a file, which make the file one message's own: files are named by their bytes, and two
/// messages may have the same.
const UNIQUE: usize = 36;

/// Writes a body into a file of its own; its name.
pub(crate) async fn write(files: &Blobs, body: &Bytes) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(UNIQUE + body.len());
    RequestId::random().with_text(|text| bytes.extend_from_slice(text.as_bytes()));
    bytes.extend_from_slice(body);
    Ok(files.put(bytes.into()).await?)
}

/// What is said of a body that its row does not have.
pub(crate) fn gone() -> Error {
    Error::Damaged("a message has no body".into())
}

/// Reads it.
pub(crate) async fn read(files: &Blobs, name: &str) -> Result<Bytes, Error> {
    let bytes = match files.get(name).await {
        Err(store::Error::Io { source, .. }) if source.kind() == ErrorKind::InvalidData => {
            return Err(Error::Damaged(format!("the body {name} is damaged")));
        }
        bytes => bytes?,
    };
    let bytes = bytes.filter(|bytes| bytes.len() >= UNIQUE);
    let bytes = bytes.ok_or_else(|| Error::Damaged(format!("the body {name} is gone")))?;
    Ok(bytes.slice(UNIQUE..))
}
