//! FilterLogEvents, GetLogEvents.

use std::sync::Arc;

use base::Timestamp;
use observe::{Event, EventPage, Matcher, Query};

use crate::pattern::Pattern;
use crate::service::{GroupName, Logs};
use crate::{Error, names, retention, tables};

/// What is looked for.
#[derive(Debug, Default)]
pub struct Search {
    /// Only these streams (empty: all).
    pub streams: Vec<String>,
    /// Only streams whose names start so.
    pub stream_prefix: Option<String>,
    /// From this time on, inclusive.
    pub start: Option<Timestamp>,
    /// Up to this time, inclusive.
    pub end: Option<Timestamp>,
    /// Only messages that it takes.
    pub pattern: Option<Arc<Pattern>>,
    /// Where to begin: from an earlier page.
    pub token: Option<String>,
    /// At most so many.
    pub most: usize,
}

/// Which way to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the token, or the start, on.
    Forward,
    /// What lies before the token, or the last page.
    Backward,
}

/// Events, those of one page in the order of their times.
#[derive(Debug)]
pub struct Page {
    /// The events.
    pub events: Vec<Event>,
    /// Where the rest of the search begins; `None` when there is none.
    pub next: Option<String>,
    /// The place where this page begins: what is read backward from it comes before.
    pub start: String,
    /// The place where this page ends: what is read forward from it comes after, now or later.
    pub end: String,
}

/// Pages without a single event that are gone through for one answer: 64 MiB, as much as a group holds.
const EMPTY_PAGES: usize = 4;

impl Logs {
    /// Looks for events of a group.
    pub async fn search(&self, group: &GroupName, search: Search) -> Result<Page, Error> {
        names::check_group(&group.name)?;
        let named = if search.token.is_none() { search.streams.clone() } else { Vec::new() };
        let query = self.query(group, search).await?;
        let page = self.read(group, Direction::Forward, query).await?;
        if page.events.is_empty() {
            for stream in &named {
                self.expect_stream(group, stream).await?;
            }
        }
        Ok(page)
    }

    /// Reads a page of one stream, which must be there.
    pub async fn read_stream(
        &self,
        group: &GroupName,
        stream: &str,
        direction: Direction,
        mut search: Search,
    ) -> Result<Page, Error> {
        names::check_stream(stream)?;
        self.expect_group(group).await?;
        search.streams = vec![stream.to_owned()];
        let first = search.token.is_none();
        let query = self.query(group, search).await?;
        let page = self.read(group, direction, query).await?;
        // Looking for the stream may take reading the whole group: only where nothing else says that it is there.
        if first && page.events.is_empty() {
            self.expect_stream(group, stream).await?;
        }
        Ok(page)
    }

    pub(crate) async fn query(&self, group: &GroupName, search: Search) -> Result<Query, Error> {
        let (row, hidden) =
            self.look(group, |tx, group| Ok((tables::group(tx, group)?, tables::hidden(tx, group)?))).await?;
        let cutoff = retention::cutoff(self.inner.clock.now(), row.unwrap_or_default().retention_days);
        let matcher = search.pattern.filter(|pattern| !pattern.is_all()).map(|pattern| {
            let takes = move |message: &str| pattern.matches(message);
            Matcher(Arc::new(takes))
        });
        Ok(Query {
            streams: search.streams,
            stream_prefix: search.stream_prefix,
            start: search.start.max(cutoff),
            end: search.end,
            next_token: search.token,
            limit: search.most,
            matcher,
            hidden: Arc::new(hidden),
        })
    }

    pub(crate) async fn read(
        &self,
        group: &GroupName,
        direction: Direction,
        query: Query,
    ) -> Result<Page, Error> {
        let group = group.clone();
        let page = self.on_files(move |files| {
            let read = |query: &Query| match direction {
                Direction::Forward => files.filter(&group.account, &group.name, query),
                Direction::Backward => files.before(&group.account, &group.name, query),
            };
            through_empty(query, read)
        });
        let page = page.await?;
        Ok(Page { events: page.events, next: page.next_token, start: page.start, end: page.resume })
    }
}

/// Reads until there is an event, or the end, or enough was looked through.
fn through_empty<E>(mut query: Query, read: impl Fn(&Query) -> Result<EventPage, E>) -> Result<EventPage, E> {
    let mut page = read(&query)?;
    for _ in 1..EMPTY_PAGES {
        if !page.events.is_empty() || page.next_token.is_none() {
            break;
        }
        query.next_token = page.next_token;
        page = read(&query)?;
    }
    // Streams have no common clock, and what was put late has an earlier time than its place.
    page.events.sort_by_key(|event| event.timestamp);
    Ok(page)
}
