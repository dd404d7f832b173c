//! Schema and SQL of mailboxes; nothing else. Messages are the queues'.

use store::{Error, Migration, Row, Tx, Value};

/// The schema of this noun.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "mailboxes-0001",
    sql: "
        CREATE TABLE mailboxes (
            account TEXT NOT NULL,
            name TEXT NOT NULL,
            incarnation TEXT NOT NULL,
            created BIGINT NOT NULL,
            modified BIGINT NOT NULL,
            attributes TEXT NOT NULL,
            tags TEXT NOT NULL,
            PRIMARY KEY (account, name)
        );
        CREATE TABLE mailbox_moves (
            handle TEXT PRIMARY KEY,
            account TEXT NOT NULL,
            source TEXT NOT NULL,
            started BIGINT NOT NULL,
            task TEXT NOT NULL
        );
    ",
}];

/// A mailbox.
#[derive(Debug, Clone)]
pub(crate) struct MailboxRow {
    pub(crate) account: String,
    pub(crate) name: String,
    pub(crate) incarnation: String,
    pub(crate) created: i64,
    pub(crate) modified: i64,
    /// A JSON object of texts.
    pub(crate) attributes: String,
    /// A JSON object of texts.
    pub(crate) tags: String,
}

/// A task that moves messages.
#[derive(Debug, Clone)]
pub(crate) struct MoveRow {
    pub(crate) handle: String,
    pub(crate) account: String,
    pub(crate) source: String,
    pub(crate) started: i64,
    /// JSON.
    pub(crate) task: String,
}

/// All mailboxes.
pub(crate) fn mailboxes(tx: &mut dyn Tx) -> Result<Vec<MailboxRow>, Error> {
    let sql = "SELECT account, name, incarnation, created, modified, attributes, tags FROM mailboxes";
    tx.query(sql, &[])?.iter().map(mailbox).collect()
}

fn mailbox(row: &Row) -> Result<MailboxRow, Error> {
    let text = |column| row.text(column).map(str::to_owned);
    Ok(MailboxRow {
        account: text(0)?,
        name: text(1)?,
        incarnation: text(2)?,
        created: row.int(3)?,
        modified: row.int(4)?,
        attributes: text(5)?,
        tags: text(6)?,
    })
}

/// Writes a mailbox.
pub(crate) fn put(tx: &mut dyn Tx, row: &MailboxRow) -> Result<(), Error> {
    let text = |text: &str| Value::from(text);
    tx.execute(
        "INSERT INTO mailboxes (account, name, incarnation, created, modified, attributes, tags)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (account, name)
         DO UPDATE SET incarnation = $3, created = $4, modified = $5, attributes = $6, tags = $7",
        &[
            text(&row.account),
            text(&row.name),
            text(&row.incarnation),
            row.created.into(),
            row.modified.into(),
            text(&row.attributes),
            text(&row.tags),
        ],
    )
    .map(drop)
}

/// Forgets a mailbox, and what was moved out of it.
pub(crate) fn delete(tx: &mut dyn Tx, account: &str, name: &str) -> Result<(), Error> {
    tx.execute("DELETE FROM mailboxes WHERE account = $1 AND name = $2", &[account.into(), name.into()])?;
    tx.execute("DELETE FROM mailbox_moves WHERE account = $1 AND source = $2", &[account.into(), name.into()])
        .map(drop)
}

/// All tasks, the latest first.
pub(crate) fn moves(tx: &mut dyn Tx) -> Result<Vec<MoveRow>, Error> {
    let sql =
        "SELECT handle, account, source, started, task FROM mailbox_moves ORDER BY started DESC, handle";
    let read = |row: &Row| {
        let text = |column| row.text(column).map(str::to_owned);
        Ok(MoveRow {
            handle: text(0)?,
            account: text(1)?,
            source: text(2)?,
            started: row.int(3)?,
            task: text(4)?,
        })
    };
    tx.query(sql, &[])?.iter().map(read).collect()
}

/// Writes a task; of one source only so many stay.
pub(crate) fn put_move(tx: &mut dyn Tx, row: &MoveRow, keep: i64) -> Result<(), Error> {
    let text = |text: &str| Value::from(text);
    let source = [text(&row.account), text(&row.source)];
    tx.execute(
        "INSERT INTO mailbox_moves (handle, account, source, started, task) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (handle) DO UPDATE SET task = $5",
        &[text(&row.handle), source[0].clone(), source[1].clone(), row.started.into(), text(&row.task)],
    )?;
    tx.execute(
        "DELETE FROM mailbox_moves WHERE account = $1 AND source = $2 AND handle NOT IN
         (SELECT handle FROM mailbox_moves WHERE account = $1 AND source = $2 ORDER BY started DESC, handle LIMIT $3)",
        &[source[0].clone(), source[1].clone(), keep.into()],
    )
    .map(drop)
}
