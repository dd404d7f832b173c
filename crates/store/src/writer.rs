//! The one thread that writes: group commit.
//!
//! It takes every closure that waits, runs each in a savepoint of one transaction, commits once and then
//! answers all of them. While it waits for the disk the next batch gathers by itself, so that no delay needs
//! to be added to make batches large.
//!
//! SQLite writes a commit to its log and leaves it to the writer to have the disk take it (`synchronous` = NORMAL).
//! What it would call itself is `fsync`, which has the file system write the file's times as well, through its own
//! journal and thread; the log's bytes need neither. SQLite still syncs by itself around checkpoints and where the log
//! begins anew, which is all that keeping the file whole rests on (<https://www.sqlite.org/pragma.html#pragma_synchronous>).

use std::fs::File;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::mpsc;

use crate::Error;
use crate::job::Job;
use crate::limits::{MAX_BATCH, MAX_BATCH_TIME, MAX_TRANSACTION_BYTES};
use crate::statement::{ConnectionTx, is_disk_full};

/// What callers can see of the writer.
#[derive(Default)]
pub(crate) struct Status {
    /// Transactions committed.
    pub(crate) commits: AtomicU64,
    /// Why the writer stopped.
    pub(crate) stopped: OnceLock<String>,
}

/// The writing connection.
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) status: Arc<Status>,
    /// SQLite's log, which has every commit first. A database in memory has none.
    pub(crate) log: Option<File>,
}

/// Why a whole batch was lost.
enum Lost {
    /// It was rolled back cleanly and may be tried again.
    Again(String),
    /// A constraint that is only checked at the end of a transaction (a deferred foreign key) does not hold:
    /// one closure's fault, but which?
    Constraint(rusqlite::Error),
    /// What is on the disk is not known.
    Fatal(String),
}

type Batch = Vec<Box<dyn Job>>;

impl Writer {
    /// Works until every handle of the store is gone, or a commit fails.
    pub(crate) fn run(mut self, mut waiting: mpsc::Receiver<Box<dyn Job>>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut batch = Vec::new();
            let outcome = self.transact(first, &mut waiting, &mut batch);
            if let Err(reason) = self.settle(batch, outcome) {
                return self.stop(reason, waiting);
            }
        }
    }

    fn transact(
        &mut self,
        first: Box<dyn Job>,
        waiting: &mut mpsc::Receiver<Box<dyn Job>>,
        batch: &mut Batch,
    ) -> Result<(), Lost> {
        let started = Instant::now();
        let mut next = Some(first);
        let mut bytes = 0;
        let mut kept = false;
        let begun = self.statement("BEGIN IMMEDIATE").map_err(again);
        while let Some(mut job) = next.take() {
            let outcome = begun.is_ok().then(|| self.run_in_savepoint(job.as_mut()));
            batch.push(job);
            if let Some(outcome) = outcome {
                let (keep, size) = outcome?;
                kept |= keep;
                bytes += size;
                let room = batch.len() < MAX_BATCH && bytes < MAX_TRANSACTION_BYTES;
                if room && started.elapsed() < MAX_BATCH_TIME {
                    next = waiting.try_recv().ok();
                }
            }
        }
        begun?;
        if kept { self.commit() } else { self.rollback() }
    }

    /// Whether the closure's changes were kept, and the bytes it wrote.
    fn run_in_savepoint(&mut self, job: &mut dyn Job) -> Result<(bool, usize), Lost> {
        self.statement("SAVEPOINT closure").map_err(fatal)?;
        let mut tx = ConnectionTx::new(&self.connection);
        let kept = job.run(&mut tx);
        let (bytes, disk_full) = (tx.bytes(), tx.disk_full());
        if self.connection.is_autocommit() {
            // SQLite ends the transaction by itself on some errors (https://www.sqlite.org/lang_transaction.html).
            let reason = "the database ended the transaction".to_owned();
            return Err(if disk_full { Lost::Again("the disk is full".into()) } else { Lost::Fatal(reason) });
        }
        if !kept {
            self.statement("ROLLBACK TO closure").map_err(fatal)?;
        }
        self.statement("RELEASE closure").map_err(fatal)?;
        Ok((kept, bytes))
    }

    fn commit(&mut self) -> Result<(), Lost> {
        let Err(error) = self.statement("COMMIT") else {
            self.sync()?;
            self.status.commits.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        };
        // A failed write for want of space comes before the fsync, and so do broken constraints: after a
        // clean rollback nothing is in doubt. Whatever else fails may have been the fsync itself.
        let constraint = error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation);
        if !constraint && !is_disk_full(&error) {
            return Err(fatal(error));
        }
        self.rollback()?;
        Err(if constraint { Lost::Constraint(error) } else { again(error) })
    }

    /// Has the disk take what was committed. Nobody knows what it has after a failure.
    fn sync(&self) -> Result<(), Lost> {
        let synced = self.log.as_ref().map_or(Ok(()), File::sync_data);
        synced.map_err(|error| Lost::Fatal(format!("cannot sync the log: {error}")))
    }

    fn rollback(&mut self) -> Result<(), Lost> {
        if self.connection.is_autocommit() {
            return Ok(());
        }
        self.statement("ROLLBACK").map_err(fatal)
    }

    /// Answers a batch. An error is the reason to stop.
    fn settle(&mut self, mut batch: Batch, outcome: Result<(), Lost>) -> Result<(), String> {
        match outcome {
            Ok(()) => batch.into_iter().for_each(Job::answer),
            Err(Lost::Again(reason)) => fail(batch, || Error::RolledBack(reason.clone())),
            Err(Lost::Constraint(error)) if batch.len() == 1 => {
                if let Some(job) = batch.pop() {
                    job.fail(Error::Database(error));
                }
            }
            Err(Lost::Constraint(_)) => return self.one_by_one(batch),
            Err(Lost::Fatal(reason)) => {
                fail(batch, || Error::Stopped(reason.clone()));
                return Err(reason);
            }
        }
        Ok(())
    }

    /// Runs each closure of a batch again, in a transaction of its own, so that the one at fault fails alone.
    fn one_by_one(&mut self, batch: Batch) -> Result<(), String> {
        let (_, mut nobody) = mpsc::channel(1);
        let mut batch = batch.into_iter();
        while let Some(job) = batch.next() {
            let mut single = Vec::new();
            let outcome = self.transact(job, &mut nobody, &mut single);
            if let Err(reason) = self.settle(single, outcome) {
                fail(batch.collect(), || Error::Stopped(reason.clone()));
                return Err(reason);
            }
        }
        Ok(())
    }

    fn stop(self, reason: String, mut waiting: mpsc::Receiver<Box<dyn Job>>) {
        tracing::error!(%reason, "the store has stopped: a commit failed");
        let reason = self.status.stopped.get_or_init(|| reason);
        waiting.close();
        while let Some(job) = waiting.blocking_recv() {
            job.fail(Error::Stopped(reason.clone()));
        }
    }

    fn statement(&self, sql: &str) -> Result<(), rusqlite::Error> {
        self.connection.prepare_cached(sql)?.raw_execute().map(drop)
    }
}

fn again(error: rusqlite::Error) -> Lost {
    Lost::Again(error.to_string())
}

fn fatal(error: rusqlite::Error) -> Lost {
    Lost::Fatal(error.to_string())
}

fn fail(batch: Batch, error: impl Fn() -> Error) {
    for job in batch {
        job.fail(error());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Work;
    use crate::{Tx, Value};
    use tokio::sync::oneshot;

    type Answer = oneshot::Receiver<Result<u64, Error>>;

    fn insert(bytes: usize) -> (Box<dyn Job>, Answer) {
        let (work, answer) = Work::new(move |tx: &mut dyn Tx| {
            tx.execute("INSERT INTO t (bytes) VALUES ($1)", &[Value::Blob(vec![1; bytes])])
        });
        (Box::new(work), answer)
    }

    /// A database that may have 16 pages only: SQLite says "full" as it does when the disk is.
    #[test]
    fn a_full_disk_is_no_reason_to_stop() {
        let connection = Connection::open_in_memory().expect("a database in memory");
        connection.execute_batch("CREATE TABLE t (bytes BLOB); PRAGMA max_page_count = 16").expect("a table");
        let writer = Writer { connection, status: Arc::default(), log: None };
        let (queue, waiting) = mpsc::channel(3);
        let answers = [100, 1 << 20, 100].map(|bytes| {
            let (job, answer) = insert(bytes);
            queue.try_send(job).expect("room in the queue");
            answer
        });
        drop(queue);
        writer.run(waiting);
        let [before, full, after] = answers.map(|answer| answer.blocking_recv().expect("an answer"));
        assert!(before.is_ok() || matches!(before, Err(Error::RolledBack(_))), "{before:?}");
        assert!(matches!(full, Err(Error::Database(_) | Error::RolledBack(_))), "{full:?}");
        assert!(after.is_ok(), "{after:?}");
    }

    /// A descriptor that cannot be synced stands for a disk that cannot.
    #[test]
    fn what_was_not_synced_is_not_acknowledged_and_nothing_is_after_it() {
        let connection = Connection::open_in_memory().expect("a database in memory");
        connection.execute_batch("CREATE TABLE t (bytes BLOB)").expect("a table");
        let (_, pipe) = std::io::pipe().expect("a pipe");
        let log = Some(File::from(std::os::fd::OwnedFd::from(pipe)));
        let status = Arc::new(Status::default());
        let writer = Writer { connection, status: status.clone(), log };
        let (queue, waiting) = mpsc::channel(2);
        let answers = [1, 1].map(|bytes| {
            let (job, answer) = insert(bytes);
            queue.try_send(job).expect("room in the queue");
            answer
        });
        drop(queue);
        writer.run(waiting);
        for answer in answers {
            let answer = answer.blocking_recv().expect("an answer");
            assert!(matches!(answer, Err(Error::Stopped(_))), "{answer:?}");
        }
        assert_eq!(status.commits.load(Ordering::Relaxed), 0);
    }
}
