//! SQLite: one writer thread with group commit, a few reader threads.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot};

use crate::error::io_error;
use crate::job::{Job, Work};
use crate::limits::{BUSY_TIMEOUT, READ_QUEUE, READERS, STATEMENT_CACHE, WRITE_QUEUE};
use crate::statement::ConnectionTx;
use crate::writer::{Status, Writer};
use crate::{Error, Migration, Tx, migrate};

/// Cheap to clone. The threads end when the last clone is dropped.
#[derive(Clone)]
pub struct Store {
    writer: mpsc::Sender<Box<dyn Job>>,
    readers: mpsc::Sender<Box<dyn Job>>,
    status: Arc<Status>,
    file: Arc<Path>,
}

impl Store {
    /// Opens or makes the database file (mode 0600) and applies the migrations that it lacks.
    pub fn open(file: &Path, migrations: &[&[Migration]]) -> Result<Self, Error> {
        make_private(file)?;
        let mut connection = connect(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        migrate::apply(&mut connection, migrations)?;
        // From here on the writer syncs what is committed.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        let log = Some(open_log(&connection, file)?);

        let status = Arc::new(Status::default());
        let (writer, waiting) = mpsc::channel(WRITE_QUEUE);
        let writing = Writer { connection, status: status.clone(), log };
        spawn("store-writer", move || writing.run(waiting))?;

        let (readers, waiting) = mpsc::channel(READ_QUEUE);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..READERS {
            let connection = connect(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            let waiting = waiting.clone();
            spawn(&format!("store-reader-{number}"), move || read_loop(&connection, &waiting))?;
        }
        Ok(Self { writer, readers, status, file: file.into() })
    }

    /// Runs the closure in a write transaction; `Ok` is durable. The closure may run more than once and
    /// must have no effect but through `tx`. An `Err` from it rolls its changes back and is returned.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnMut(&mut dyn Tx) -> Result<T, E> + Send + 'static,
    {
        self.submit(&self.writer, work).await
    }

    /// Runs the closure in a read transaction: one consistent snapshot, which has every write that was
    /// answered before this began. It may have one that is about to be answered, and that a crash of the host
    /// could still take back.
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnMut(&mut dyn Tx) -> Result<T, E> + Send + 'static,
    {
        self.submit(&self.readers, work).await
    }

    /// Rewrites the whole file, so that nothing of what was changed or deleted is left in it or in its log: SQLite
    /// keeps old content in free space otherwise. Takes as long as the file is large, and writers wait meanwhile;
    /// fails where something else reads or writes for longer than a few seconds.
    pub async fn erase_remains(&self) -> Result<(), Error> {
        let (sender, answer) = oneshot::channel();
        let file = Arc::clone(&self.file);
        spawn("store-eraser", move || {
            // A caller that has gone away no longer wants to know.
            let _ = sender.send(erase_remains(&file));
        })?;
        answer.await.unwrap_or_else(|_| Err(Error::Stopped("rewriting the file ended early".to_owned())))
    }

    /// Commits since the start. Fewer than writes, since a commit is shared.
    pub fn commits(&self) -> u64 {
        self.status.commits.load(Ordering::Relaxed)
    }

    async fn submit<T, E, F>(&self, queue: &mpsc::Sender<Box<dyn Job>>, closure: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnMut(&mut dyn Tx) -> Result<T, E> + Send + 'static,
    {
        let (work, answer) = Work::new(closure);
        if queue.send(Box::new(work)).await.is_err() {
            return Err(self.stopped().into());
        }
        answer.await.unwrap_or_else(|_| Err(self.stopped().into()))
    }

    fn stopped(&self) -> Error {
        let reason = self.status.stopped.get().map_or("its thread has ended", String::as_str);
        Error::Stopped(reason.to_owned())
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("commits", &self.commits()).finish_non_exhaustive()
    }
}

/// Makes the file before SQLite does, since SQLite would use the umask; its side files copy the mode.
fn make_private(file: &Path) -> Result<(), Error> {
    let opened = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(file);
    opened.map(drop).map_err(io_error(|| format!("cannot open the database file {}", file.display())))?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(io_error(|| format!("cannot sync the folder {}", folder.display())))
}

/// Opens SQLite's log beside the database. It is the same file for as long as a connection is open.
fn open_log(connection: &Connection, file: &Path) -> Result<File, Error> {
    // Whoever reads first has the log made.
    connection.query_row("SELECT count(*) FROM sqlite_schema", (), |_| Ok(()))?;
    let mut name = file.as_os_str().to_owned();
    name.push("-wal");
    let opened = File::options().write(true).open(&name);
    opened.map_err(io_error(|| format!("cannot open the database's log {}", name.display())))
}

fn connect(file: &Path, mode: OpenFlags) -> Result<Connection, Error> {
    // One thread a connection: SQLite's own mutex would guard nothing.
    let connection = Connection::open_with_flags(file, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(connection)
}

fn erase_remains(file: &Path) -> Result<(), Error> {
    let connection = connect(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.execute_batch("VACUUM")?;
    // The new file is in the log until here, and the old one in its place.
    let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))?;
    match busy {
        0 => Ok(()),
        _ => Err(Error::RolledBack("the database was in use for too long".to_owned())),
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    spawned.map(drop).map_err(io_error(|| format!("cannot start the thread {name}")))
}

fn read_loop(connection: &Connection, waiting: &Mutex<mpsc::Receiver<Box<dyn Job>>>) {
    loop {
        // One reader at a time waits at the queue, the others wait for its place.
        let Some(mut job) = waiting.lock().blocking_recv() else { return };
        match read_one(connection, job.as_mut()) {
            Ok(()) => job.answer(),
            Err(error) => job.fail(Error::Database(error)),
        }
    }
}

fn read_one(connection: &Connection, job: &mut dyn Job) -> Result<(), rusqlite::Error> {
    connection.prepare_cached("BEGIN DEFERRED")?.raw_execute()?;
    job.run(&mut ConnectionTx::new(connection));
    if !connection.is_autocommit() {
        connection.prepare_cached("ROLLBACK")?.raw_execute()?;
    }
    Ok(())
}
