//! How parts of a layer come.
//!
//! Parts that lie next to each other in the blob are asked for together, a *run*, and each is there as soon as its own bytes
//! have come. Whoever needs a part that somebody else has asked for waits for that. What is held in memory of a run is the
//! gzip member that is coming, and the bytes of one part.

use std::collections::HashMap;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use flate2::read::GzDecoder;
use rustix::fs::{OFlags, Timespec, Timestamps};
use tokio::sync::watch;

use super::partial::Partial;
use super::remote::{Remote, Urgency, patiently};
use super::toc::Part;
use crate::{Digest, Error, limits, registry};

/// A run on its way, and how it ended. Changes with each part that has come, too.
pub(super) type Flight = watch::Receiver<Option<Result<(), Arc<Error>>>>;

type Flights = HashMap<u32, Flight>;

impl Partial {
    /// Where a part is on its way; it is sent for, with its neighbours, if it is not. `None` if it is there.
    pub(super) fn flight(
        self: &Arc<Self>,
        part: usize,
        remote: &Arc<Remote>,
        urgency: Urgency,
    ) -> Option<Flight> {
        let rank = self.ranks[part] as usize;
        let most = match urgency {
            Urgency::Now if !self.is_read_on(rank) => limits::AHEAD_BYTES,
            _ => limits::RUN_BYTES,
        };
        self.flight_of(part, most, remote, urgency, |_| true)
    }

    /// The same, with no neighbours but those among `ranks`, which are sorted.
    pub(super) fn flight_among(
        self: &Arc<Self>,
        part: usize,
        ranks: &[u32],
        remote: &Arc<Remote>,
    ) -> Option<Flight> {
        let wanted = |rank: usize| u32::try_from(rank).is_ok_and(|rank| ranks.binary_search(&rank).is_ok());
        self.flight_of(part, limits::RUN_BYTES, remote, Urgency::Ahead, wanted)
    }

    fn flight_of(
        self: &Arc<Self>,
        part: usize,
        most: u64,
        remote: &Arc<Remote>,
        urgency: Urgency,
        wanted: impl Fn(usize) -> bool,
    ) -> Option<Flight> {
        let mut flights = self.flights.lock();
        if self.is_there(part) {
            return None;
        }
        let rank = self.ranks[part] as usize;
        if let Some(flight) = flights.get(&self.order[rank]) {
            return Some(flight.clone());
        }
        let run = self.run(rank, most, &flights, wanted);
        Some(self.send_for(run, remote, urgency, &mut flights))
    }

    /// Whether the parts before it in the blob are there: then whoever reads goes on.
    fn is_read_on(&self, rank: usize) -> bool {
        let before = &self.order[rank.saturating_sub(2)..rank];
        before.len() == 2 && before.iter().all(|part| self.is_there(*part as usize))
    }

    /// A missing part and those behind it that are missing too, as long as they are close.
    fn run(&self, first: usize, most: u64, flights: &Flights, wanted: impl Fn(usize) -> bool) -> Vec<u32> {
        let start = self.parts[self.order[first] as usize].offset;
        let mut end = start;
        let mut run = Vec::new();
        for (rank, number) in self.order.iter().enumerate().skip(first) {
            let part = &self.parts[*number as usize];
            if rank > first {
                let is_missing = self.is_missing(*number as usize);
                let is_close = part.offset <= end + limits::GAP_BYTES;
                let fits = part.offset + part.room - start <= most;
                if !is_missing || flights.contains_key(number) || !is_close || !fits || !wanted(rank) {
                    break;
                }
            }
            end = end.max(part.offset + part.room);
            run.push(*number);
        }
        run
    }

    fn send_for(
        self: &Arc<Self>,
        run: Vec<u32>,
        remote: &Arc<Remote>,
        urgency: Urgency,
        flights: &mut Flights,
    ) -> Flight {
        let (flying, flight) = watch::channel(None);
        run.iter().for_each(|part| drop(flights.insert(*part, flight.clone())));
        let (layer, remote) = (Arc::clone(self), Arc::clone(remote));
        // A task of its own: others wait for these parts too, whoever gives up.
        tokio::spawn(async move {
            let came = || flying.send_modify(|_| {});
            let outcome = layer.bring(&run, &remote, urgency, &came).await.map_err(Arc::new);
            let failure = outcome.clone().err();
            if let Some(error) = &failure {
                remote.trouble(error);
                flying.send_replace(Some(outcome.clone()));
                // Whoever asks again at once hears the same: nobody asks the registry faster than so.
                tokio::time::sleep(limits::FAILED_FOR).await;
            }
            let mut flights = layer.flights.lock();
            run.iter().for_each(|part| drop(flights.remove(part)));
            flying.send_replace(Some(outcome));
        });
        flight
    }

    /// Waits for a part.
    pub(super) async fn land(&self, part: usize, mut flight: Flight) -> Result<(), Arc<Error>> {
        let landed = flight.wait_for(|ended| ended.is_some() || self.is_there(part)).await;
        let ended = landed.map(|ended| ended.clone());
        match ended {
            _ if self.is_there(part) => Ok(()),
            Ok(Some(Err(error))) => Err(error),
            // Only a runtime that goes down drops it.
            _ => Err(Arc::new(Error::Unreachable("the server is stopping".to_owned()))),
        }
    }

    /// Has a run there. What broke off, or came wrong, is tried again; it goes on for as long as parts come.
    async fn bring(
        self: &Arc<Self>,
        run: &[u32],
        remote: &Arc<Remote>,
        urgency: Urgency,
        came: &(impl Fn() + Sync),
    ) -> Result<(), Error> {
        let since = Instant::now();
        let parts = AtomicU64::new(0);
        let weight = run.iter().map(|part| self.parts[*part as usize].weight()).max().unwrap_or(0);
        let tried = async {
            let _turn = patiently(remote.turn(urgency, weight), || remote.parts()).await?;
            let counted = || {
                parts.fetch_add(1, Ordering::Relaxed);
                came();
            };
            patiently(self.try_run(run, remote, &counted), || parts.load(Ordering::Relaxed)).await?
        };
        let outcome = tried.await;
        remote.measure(since.elapsed(), outcome.as_ref().err());
        outcome
    }

    async fn try_run(
        self: &Arc<Self>,
        run: &[u32],
        remote: &Remote,
        came: &(impl Fn() + Sync),
    ) -> Result<(), Error> {
        let mut pause = limits::RETRY_AFTER;
        let mut attempt = 1;
        loop {
            let missing: Vec<u32> =
                run.iter().copied().filter(|part| !self.is_there(*part as usize)).collect();
            match self.transfer(&missing, remote, came).await {
                Err(Error::Unreachable(_)) if attempt < limits::PART_ATTEMPTS => {}
                // It may have been damaged on its way.
                Err(Error::Invalid(_)) if attempt == 1 => {}
                other => return other,
            }
            attempt += 1;
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// Fetches parts, which are in the blob's order, and puts each where it belongs as soon as its bytes have come.
    async fn transfer(
        self: &Arc<Self>,
        run: &[u32],
        remote: &Remote,
        came: &(impl Fn() + Sync),
    ) -> Result<(), Error> {
        let ends = run.iter().map(|part| &self.parts[*part as usize]).map(|part| part.offset + part.room);
        let (Some(first), Some(end)) = (run.first(), ends.max()) else { return Ok(()) };
        let from = self.parts[*first as usize].offset;
        let mut coming = Coming::new(remote.range(&self.index.blob, from, end - from).await?, from);
        for member in run.chunk_by(|one, two| self.offset(*one) == self.offset(*two)) {
            let end =
                member.iter().map(|part| &self.parts[*part as usize]).map(|part| part.offset + part.room);
            let bytes = coming.cut(self.offset(member[0]), end.max().unwrap_or(0), remote).await?;
            self.put(member, bytes).await?;
            for _ in member {
                remote.came();
                came();
            }
        }
        coming.finish().await
    }

    fn offset(&self, part: u32) -> u64 {
        self.parts[part as usize].offset
    }

    async fn put(self: &Arc<Self>, member: &[u32], bytes: Bytes) -> Result<(), Error> {
        let (layer, member) = (Arc::clone(self), member.to_vec());
        let put = tokio::task::spawn_blocking(move || layer.put_all(&member, &bytes));
        put.await.unwrap_or_else(|error| Err(Error::host("unpacking a part")(std::io::Error::other(error))))
    }

    /// Puts the parts of one gzip member where they belong. They follow each other in it.
    fn put_all(&self, member: &[u32], bytes: &[u8]) -> Result<(), Error> {
        let mut plain = GzDecoder::new(bytes);
        let mut at = 0;
        for number in member {
            let part = &self.parts[*number as usize];
            let bytes = unpacked(part, &mut plain, at)?;
            at = part.inner + part.size;
            self.put_one(*number as usize, &bytes)?;
        }
        Ok(())
    }

    fn put_one(&self, number: usize, plain: &[u8]) -> Result<(), Error> {
        let (part, file) = (&self.parts[number], self.owner(number));
        let found = Digest::of(plain);
        if found != part.digest {
            return Err(Error::Invalid(format!(
                "a part of {} is not what the image's index says: {} is listed, it has {found}",
                file.path.display(),
                part.digest,
            )));
        }
        let opened = self.open_file(number, OFlags::WRONLY)?;
        opened.write_all_at(plain, part.at).map_err(Error::host("writing a file of an image"))?;
        let modified = Timespec { tv_sec: file.modified, tv_nsec: 0 };
        let times = Timestamps { last_access: modified, last_modification: modified };
        // A time that the file system cannot hold is no reason to refuse it.
        let _ = rustix::fs::futimens(&opened, &times);
        self.settle(number, true);
        Ok(())
    }
}

/// The bytes of a part, out of a member that was unpacked up to `at`.
fn unpacked(part: &Part, plain: &mut impl Read, at: u64) -> Result<Vec<u8>, Error> {
    let wrong = |text: String| Error::Invalid(format!("a part of the image cannot be unpacked: {text}"));
    let skip = part.inner.checked_sub(at).ok_or_else(|| wrong("it begins in another".to_owned()))?;
    let skipped = std::io::copy(&mut plain.by_ref().take(skip), &mut std::io::sink());
    skipped.map_err(|error| wrong(error.to_string()))?;
    let mut bytes = Vec::with_capacity(usize::try_from(part.size).unwrap_or(0));
    plain.by_ref().take(part.size).read_to_end(&mut bytes).map_err(|error| wrong(error.to_string()))?;
    Ok(bytes)
}

/// A stretch of a blob on its way.
struct Coming {
    part: registry::Part,
    held: BytesMut,
    /// Where in the blob what is held begins.
    at: u64,
}

impl Coming {
    fn new(part: registry::Part, at: u64) -> Self {
        Self { part, held: BytesMut::new(), at }
    }

    /// The bytes from one place of the blob to another; what comes before them is dropped.
    async fn cut(&mut self, from: u64, end: u64, remote: &Remote) -> Result<Bytes, Error> {
        while self.at + (self.held.len() as u64) < end {
            let early = from.saturating_sub(self.at).min(self.held.len() as u64);
            self.drop_first(early);
            let ended = || Error::Unreachable("a part of a blob ends early".to_owned());
            let bytes = self.part.next().await?.ok_or_else(ended)?;
            remote.received(bytes.len() as u64);
            self.held.extend_from_slice(&bytes);
        }
        self.drop_first(from - self.at);
        self.at = end;
        Ok(self.held.split_to(usize::try_from(end - from).unwrap_or(0)).freeze())
    }

    fn drop_first(&mut self, count: u64) {
        self.held.advance(usize::try_from(count).unwrap_or(0));
        self.at += count;
    }

    /// Reads the end, so that the connection can be used again.
    async fn finish(mut self) -> Result<(), Error> {
        while self.part.next().await?.is_some() {}
        Ok(())
    }
}
