//! StartLiveTail: what is written to groups from now on.

use std::collections::HashMap;
use std::sync::Arc;

use base::AccountId;
use observe::Event;
use parking_lot::Mutex;

use crate::events::{Direction, Search};
use crate::pattern::Pattern;
use crate::service::{GroupName, Logs};
use crate::{Error, limits};

/// What a tail shows.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Only these streams (empty: all).
    pub streams: Vec<String>,
    /// Only streams whose names start like one of these (empty: all).
    pub prefixes: Vec<String>,
    /// Only messages that it takes.
    pub pattern: Option<Arc<Pattern>>,
}

/// Groups that are followed.
#[derive(Debug)]
pub struct Tail {
    logs: Logs,
    wanted: Wanted,
    groups: Vec<Followed>,
    _session: Session,
}

#[derive(Debug)]
struct Followed {
    group: GroupName,
    /// Up to where it was shown; `None` where the group was deleted and begins anew.
    place: Option<String>,
}

impl Logs {
    /// Begins to follow groups, which must be there. An account has a bounded number of tails at a time.
    pub async fn tail(&self, groups: Vec<GroupName>, wanted: Wanted) -> Result<Tail, Error> {
        let mut followed = Vec::with_capacity(groups.len());
        for group in groups {
            self.expect_group(&group).await?;
            let name = group.clone();
            let end = self.on_files(move |files| files.end(&name.account, &name.name)).await?;
            followed.push(Followed { group, place: Some(end) });
        }
        let account = followed.first().map(|first| first.group.account.clone());
        let account = account.ok_or_else(|| Error::Invalid("No log group was named.".to_owned()))?;
        let session = Session::begin(&self.inner.sessions, account)?;
        Ok(Tail { logs: self.clone(), wanted, groups: followed, _session: session })
    }
}

impl Tail {
    /// Waits until tails are to end.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopping = self.logs.inner.stopping.subscribe();
        async move {
            // An error means that the service is gone.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        }
    }

    /// What has come since the last look: a bounded number of events, and which group each was written to.
    pub async fn next(&mut self) -> Result<Vec<(GroupName, Event)>, Error> {
        let mut found = Vec::new();
        for followed in &mut self.groups {
            let events = read(&self.logs, &self.wanted, followed).await?;
            found.extend(events.into_iter().map(|event| (followed.group.clone(), event)));
        }
        found.sort_by_key(|(_, event)| event.timestamp);
        Ok(found)
    }
}

async fn read(logs: &Logs, wanted: &Wanted, followed: &mut Followed) -> Result<Vec<Event>, Error> {
    let search = Search {
        streams: wanted.streams.clone(),
        pattern: wanted.pattern.clone(),
        token: followed.place.clone(),
        most: limits::TAIL_EVENTS,
        ..Search::default()
    };
    let query = logs.query(&followed.group, search).await?;
    match logs.read(&followed.group, Direction::Forward, query).await {
        Ok(page) => {
            followed.place = Some(page.end);
            let shown = |event: &Event| {
                wanted.prefixes.is_empty()
                    || wanted.prefixes.iter().any(|prefix| event.stream.starts_with(prefix))
            };
            Ok(page.events.into_iter().filter(shown).collect())
        }
        // Deleted, or deleted and made anew: the place says nothing any more.
        Err(Error::NotFound(_) | Error::Invalid(_)) => {
            followed.place = None;
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// Tails under way, by account.
pub(crate) type Sessions = Arc<Mutex<HashMap<AccountId, usize>>>;

/// One of an account's tails, until it is dropped.
#[derive(Debug)]
struct Session {
    all: Sessions,
    account: AccountId,
}

impl Session {
    fn begin(all: &Sessions, account: AccountId) -> Result<Self, Error> {
        let mut counts = all.lock();
        let count = counts.entry(account.clone()).or_default();
        if *count >= limits::TAILS {
            return Err(Error::LimitExceeded("Too many Live Tail sessions are under way.".to_owned()));
        }
        *count += 1;
        Ok(Self { all: Arc::clone(all), account })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut counts = self.all.lock();
        if let Some(count) = counts.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.account);
            }
        }
    }
}
