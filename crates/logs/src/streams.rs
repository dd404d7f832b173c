//! CreateLogStream, DeleteLogStream, DescribeLogStreams.
//!
//! A stream is there if it was made, or something was written to it. Deleting one hides what it holds: its bytes lie
//! between those of others, and go with them.

use std::collections::BTreeMap;

use observe::{LogsError, Query, StreamInfo};

use crate::service::{GroupName, Logs};
use crate::tables::{self, StreamRow};
use crate::{Error, limits, names};

/// A stream as it is shown.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// Milliseconds.
    pub created: i64,
    /// What is known of its events, if it has any.
    pub events: Option<StreamInfo>,
}

/// How streams are arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By name.
    Name,
    /// By the time of the last event; those without any first.
    LastEvent,
}

/// Some streams.
#[derive(Debug)]
pub struct StreamsPage {
    /// The streams.
    pub streams: Vec<Stream>,
    /// Whether there are more.
    pub more: bool,
}

impl Logs {
    /// Makes a stream.
    pub async fn create_stream(&self, group: &GroupName, stream: &str) -> Result<(), Error> {
        names::check_stream(stream)?;
        let _turn = self.inner.changes.lock().await;
        self.expect_group(group).await?;
        if self.has_stream(group, stream).await? {
            return Err(Error::AlreadyExists("The specified log stream already exists"));
        }
        if self.look(group, tables::count_streams).await? >= limits::STREAMS {
            return Err(Error::LimitExceeded("Resource limit exceeded.".to_owned()));
        }
        let (name, created) = (stream.to_owned(), self.inner.clock.now().as_millis());
        self.record(group, move |tx, group| {
            let old = tables::stream(tx, group, &name)?;
            let hidden_until = old.and_then(|row| row.hidden_until);
            tables::set_stream(
                tx,
                group,
                &StreamRow { name: name.clone(), created: Some(created), hidden_until },
            )
        })
        .await
    }

    /// Deletes a stream with its events. One that is still written to is there again with its next event.
    pub async fn delete_stream(&self, group: &GroupName, stream: &str) -> Result<(), Error> {
        names::check_stream(stream)?;
        let _turn = self.inner.changes.lock().await;
        self.expect_group(group).await?;
        self.expect_stream(group, stream).await?;
        let name = group.clone();
        let (start, end) = self
            .on_files(move |files| {
                let first =
                    files.filter(&name.account, &name.name, &Query { limit: 1, ..Query::default() })?;
                Ok((first.start, files.end(&name.account, &name.name)?))
            })
            .await?;
        let row = StreamRow { name: stream.to_owned(), created: None, hidden_until: Some(end) };
        self.record(group, move |tx, group| {
            tables::forget_deleted(tx, group, &start)?;
            tables::set_stream(tx, group, &row)
        })
        .await
    }

    /// Streams whose names start so, arranged, without the first `skip`.
    pub async fn streams(
        &self,
        group: &GroupName,
        prefix: &str,
        order: Order,
        descending: bool,
        skip: usize,
        most: usize,
    ) -> Result<StreamsPage, Error> {
        self.expect_group(group).await?;
        let rows = self.look(group, tables::streams).await?;
        let written = self.written(group, &rows).await?;
        let mut streams = merge(rows, written);
        streams.retain(|stream| stream.name.starts_with(prefix));
        arrange(&mut streams, order, descending);
        let more = streams.len() > skip.saturating_add(most);
        Ok(StreamsPage { streams: streams.into_iter().skip(skip).take(most).collect(), more })
    }

    /// Fails where there is no such stream.
    pub(crate) async fn expect_stream(&self, group: &GroupName, stream: &str) -> Result<(), Error> {
        if self.has_stream(group, stream).await? { Ok(()) } else { Err(Error::no_stream()) }
    }

    /// Whether there is such a stream.
    pub(crate) async fn has_stream(&self, group: &GroupName, stream: &str) -> Result<bool, Error> {
        let name = stream.to_owned();
        let row = self.look(group, move |tx, group| tables::stream(tx, group, &name)).await?;
        if row.as_ref().is_some_and(|row| row.created.is_some()) {
            return Ok(true);
        }
        let hidden = row.and_then(|row| Some((row.name, row.hidden_until?)));
        let mut query = Query {
            streams: vec![stream.to_owned()],
            limit: 1,
            hidden: hidden.into_iter().collect::<Vec<_>>().into(),
            ..Query::default()
        };
        let name = group.clone();
        self.on_files(move |files| {
            loop {
                let page = files.before(&name.account, &name.name, &query)?;
                if !page.events.is_empty() || page.next_token.is_none() {
                    return Ok(!page.events.is_empty());
                }
                query.next_token = page.next_token;
            }
        })
        .await
    }

    /// The streams that hold events which are shown.
    async fn written(&self, group: &GroupName, rows: &[StreamRow]) -> Result<Vec<StreamInfo>, Error> {
        let hidden: Vec<_> =
            rows.iter().filter_map(|row| Some((row.name.clone(), row.hidden_until.clone()?))).collect();
        let name = group.clone();
        self.on_files(move |files| -> Result<_, LogsError> {
            files.streams(&name.account, &name.name, &hidden)
        })
        .await
    }
}

fn merge(rows: Vec<StreamRow>, written: Vec<StreamInfo>) -> Vec<Stream> {
    let mut all = BTreeMap::new();
    for row in rows {
        if let Some(created) = row.created {
            all.insert(row.name.clone(), Stream { name: row.name, created, events: None });
        }
    }
    for info in written {
        let created = info.first_ingested.as_millis();
        let stream = all.entry(info.name.clone());
        let stream = stream.or_insert_with(|| Stream { name: info.name.clone(), created, events: None });
        stream.events = Some(info);
    }
    all.into_values().collect()
}

fn arrange(streams: &mut [Stream], order: Order, descending: bool) {
    if order == Order::LastEvent {
        let last = |stream: &Stream| stream.events.as_ref().map(|events| events.last_event);
        streams.sort_by(|a, b| last(a).cmp(&last(b)).then_with(|| a.name.cmp(&b.name)));
    }
    if descending {
        streams.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Timestamp;

    fn stream(name: &str, last: Option<i64>) -> Stream {
        let info = |last| StreamInfo {
            name: name.to_owned(),
            first_event: Timestamp(0),
            last_event: Timestamp(last),
            first_ingested: Timestamp(0),
            last_ingested: Timestamp(last),
        };
        Stream { name: name.to_owned(), created: 0, events: last.map(info) }
    }

    #[test]
    fn streams_are_arranged_as_asked() {
        for (order, descending, expect) in [
            (Order::Name, false, ["a", "b", "c", "d"]),
            (Order::Name, true, ["d", "c", "b", "a"]),
            (Order::LastEvent, false, ["d", "b", "c", "a"]),
            (Order::LastEvent, true, ["a", "c", "b", "d"]),
        ] {
            let mut all =
                vec![stream("a", Some(30)), stream("b", Some(10)), stream("c", Some(20)), stream("d", None)];
            arrange(&mut all, order, descending);
            let names: Vec<&str> = all.iter().map(|stream| stream.name.as_str()).collect();
            assert_eq!(names, expect);
        }
    }
}
