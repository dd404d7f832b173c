//! Which layers of an image come in parts, found out before any of it is fetched.

use bytes::Bytes;

use super::index::Index;
use super::toc::{self, Problem};
use crate::layer::Notes;
use crate::registry::{Ranged, Session};
use crate::source::{Found, LayerAt};
use crate::store::Store;
use crate::{Digest, Error, limits};

/// A layer that comes in parts.
#[derive(Clone)]
pub(crate) struct Planned {
    /// What it is called by in the store.
    pub(crate) key: Digest,
    /// What it is made from, where the store does not have it.
    pub(crate) made_from: Option<(Index, Vec<u8>)>,
    /// How many things it lists.
    entries: u64,
}

/// What is to be done for an image.
#[derive(Clone)]
pub(crate) struct Plan {
    /// What it is called by in the store.
    pub(crate) id: Digest,
    /// In the order of its layers; `None` where one is fetched whole.
    pub(crate) layers: Vec<Option<Planned>>,
}

impl Plan {
    /// To fetch all of it.
    pub(crate) fn whole(found: &Found) -> Self {
        Self { id: found.id.clone(), layers: found.layers.iter().map(|_| None).collect() }
    }

    /// What its layers are called by in the store.
    pub(crate) fn names(&self, found: &Found) -> Vec<Digest> {
        let name = |(planned, layer): (&Option<Planned>, &LayerAt)| match planned {
            Some(planned) => planned.key.clone(),
            None => layer.diff.clone(),
        };
        self.layers.iter().zip(&found.layers).map(name).collect()
    }
}

/// Looks for tables of contents; `None` where an image has none, lists more than there is `room` for in memory, or its registry
/// gives no parts. A table that is not what the manifest says is an error.
pub(crate) async fn plan(
    session: &Session,
    found: &Found,
    store: &Store,
    room: u64,
) -> Result<Option<Plan>, Error> {
    let mut layers = Vec::with_capacity(found.layers.len());
    for layer in &found.layers {
        match one(session, layer, store).await? {
            Outcome::Planned(planned) => layers.push(Some(planned)),
            Outcome::Whole => layers.push(None),
            Outcome::NoParts => return Ok(None),
        }
    }
    let entries = layers.iter().flatten().map(|planned| planned.entries).sum::<u64>();
    if layers.iter().all(Option::is_none) || entries > room {
        return Ok(None);
    }
    let mut plan = Plan { id: found.id.clone(), layers };
    let names: Vec<String> = plan.names(found).iter().map(ToString::to_string).collect();
    // The configuration does not say which tables its layers have: another image may say the same, and others.
    plan.id = Digest::of(format!("in parts: {} of {}", found.id, names.join(" ")).as_bytes());
    Ok(Some(plan))
}

enum Outcome {
    Planned(Planned),
    Whole,
    NoParts,
}

async fn one(session: &Session, layer: &LayerAt, store: &Store) -> Result<Outcome, Error> {
    let (Some(toc), Some(blob)) = (&layer.toc, &layer.blob) else { return Ok(Outcome::Whole) };
    if layer.size < limits::PARTIAL_BYTES || store.layer(&layer.diff).is_dir() {
        return Ok(Outcome::Whole);
    }
    let key = Index::key(blob, toc);
    let place = store.layer(&key);
    if place.is_dir() {
        let notes = blocking(move || Notes::read(&place)).await;
        // One that goes just now is made anew.
        if let Ok(Notes { entries, .. }) = notes {
            return Ok(Outcome::Planned(Planned { key, made_from: None, entries }));
        }
    }
    let footer = match part(session, blob, layer.size - toc::FOOTER_BYTES, toc::FOOTER_BYTES).await? {
        Some(footer) => footer,
        None => return Ok(Outcome::NoParts),
    };
    let table = toc::place(&footer, layer.size);
    let length = table.map(|end| layer.size - toc::FOOTER_BYTES - end);
    let (Some(end), Some(length)) = (table, length.filter(|length| *length <= limits::TOC_BYTES)) else {
        return Ok(Outcome::Whole);
    };
    let Some(member) = part(session, blob, end, length).await? else { return Ok(Outcome::NoParts) };
    let index = Index { blob: blob.clone(), size: layer.size, end, toc: toc.clone() };
    blocking(move || read(key, index, &member)).await
}

fn read(key: Digest, index: Index, member: &[u8]) -> Result<Outcome, Error> {
    let text = toc::text(member, &index.toc)?;
    match toc::parse(&text, index.end) {
        Ok(toc) => {
            let entries = toc.entries.len().max(toc.parts.len()) as u64;
            Ok(Outcome::Planned(Planned { key, made_from: Some((index, text)), entries }))
        }
        Err(Problem::Large) => Ok(Outcome::Whole),
        Err(Problem::Invalid(error)) => Err(error),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::host("reading a layer's index")(std::io::Error::other(error))))
}

/// A part of a blob, `None` where the registry gives none. What may have failed by chance is tried again.
async fn part(session: &Session, blob: &Digest, from: u64, length: u64) -> Result<Option<Bytes>, Error> {
    let once = async || match session.range(blob, from, length).await? {
        Ranged::Part(part) => part.all().await.map(Some),
        Ranged::Unsupported => Ok(None),
    };
    let mut pause = limits::RETRY_AFTER;
    for _ in 1..limits::ATTEMPTS {
        match once().await {
            Err(Error::Unreachable(_)) => {}
            other => return other,
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    once().await
}
