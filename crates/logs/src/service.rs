//! The handle that the rest of Virga holds.

use std::sync::Arc;
use std::time::Duration;

use base::{AccountId, Clock};
use observe::LogsError;
use store::{Store, Tx};
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::{AbortHandle, JoinHandle};

use crate::subscriptions::Subscriptions;
use crate::tail::Sessions;
use crate::{Error, limits, names, retention};

/// Cheap to clone.
#[derive(Clone)]
pub struct Logs {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) files: observe::Logs,
    pub(crate) clock: Arc<dyn Clock>,
    /// Changes of groups and streams take turns: they concern the database and files at once. Held before it is looked
    /// whether the group is there.
    pub(crate) changes: Mutex<()>,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) sessions: Sessions,
    /// Whether tails are to end.
    pub(crate) stopping: watch::Sender<bool>,
    readers: Arc<Semaphore>,
    tasks: parking_lot::Mutex<Vec<AbortHandle>>,
}

/// Whose group it is, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName {
    /// The account.
    pub account: AccountId,
    /// For example `/aws/lambda/hello`.
    pub name: String,
}

/// How often old events are looked for. They are not shown any more from the moment that they are too old.
const RETENTION_EVERY: Duration = Duration::from_secs(300);

impl Logs {
    /// Puts groups in front of the files. Needs an async runtime: retention is kept by a task of it.
    pub fn open(store: Store, files: observe::Logs, clock: Arc<dyn Clock>) -> Self {
        let inner = Inner {
            store,
            files,
            clock,
            changes: Mutex::default(),
            subscriptions: Subscriptions::default(),
            sessions: Sessions::default(),
            stopping: watch::Sender::new(false),
            readers: Arc::new(Semaphore::new(limits::READERS)),
            tasks: parking_lot::Mutex::default(),
        };
        let me = Self { inner: Arc::new(inner) };
        me.keep(tokio::spawn(retention::keeper(Arc::downgrade(&me.inner), RETENTION_EVERY)));
        me
    }

    /// Has tails end, which nobody else would: the server stops. New ones end at once.
    pub fn stop_tails(&self) {
        self.inner.stopping.send_replace(true);
    }

    /// Ends a task with the service.
    pub(crate) fn keep(&self, task: JoinHandle<()>) {
        self.inner.tasks.lock().push(task.abort_handle());
    }

    /// Works on files off the async threads; a few at a time do.
    pub(crate) async fn on_files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&observe::Logs) -> Result<T, LogsError> + Send + 'static,
    ) -> Result<T, Error> {
        let turn = Arc::clone(&self.inner.readers).acquire_owned().await;
        let turn = turn.map_err(|_| Error::Internal("the readers are closed".to_owned()))?;
        let files = self.inner.files.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&files)
        });
        Ok(done.await.map_err(|panic| Error::Internal(format!("work on files: {panic}")))??)
    }

    /// Reads the database.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        group: &GroupName,
        work: impl Fn(&mut dyn Tx, &GroupName) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let group = group.clone();
        Ok(self.inner.store.read(move |tx| work(tx, &group)).await?)
    }

    /// Writes the database.
    pub(crate) async fn record<T: Send + 'static>(
        &self,
        group: &GroupName,
        work: impl Fn(&mut dyn Tx, &GroupName) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let group = group.clone();
        Ok(self.inner.store.write(move |tx| work(tx, &group)).await?)
    }

    /// Fails where there is no such group.
    pub(crate) async fn expect_group(&self, group: &GroupName) -> Result<(), Error> {
        names::check_group(&group.name)?;
        let name = group.clone();
        let there = self.on_files(move |files| Ok(files.has_group(&name.account, &name.name))).await?;
        if there { Ok(()) } else { Err(Error::no_group()) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in self.tasks.lock().iter() {
            task.abort();
        }
    }
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logs").field("files", &self.inner.files).finish_non_exhaustive()
    }
}
