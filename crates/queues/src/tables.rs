//! The schema of the queues and the only SQL about them.
//!
//! A message's key is its queue's id and its number in one integer: the table is one tree that grows at the end of each
//! queue's range, sending writes one row and no index, and a queue's messages are read in order by a range of keys.
//! Only delayed messages and large bodies are in an index, a partial one.

use store::{Error, Migration, Row, Tx, Value};

use crate::core::window::Millis;

/// The schema.
pub const MIGRATIONS: &[Migration] =
    &[Migration { name: "queues-0001", sql: MESSAGES }, Migration { name: "queues-0002", sql: ONCE }];

const MESSAGES: &str = "
        CREATE TABLE queue_names (
            id INTEGER PRIMARY KEY,
            kind TEXT NOT NULL,
            account TEXT NOT NULL,
            name TEXT NOT NULL,
            UNIQUE (kind, account, name)
        );
        CREATE TABLE queue_messages (
            id INTEGER PRIMARY KEY,
            sent INTEGER NOT NULL,
            due INTEGER NOT NULL,
            attempts INTEGER NOT NULL,
            head BLOB NOT NULL,
            body BLOB,
            file TEXT
        );
        CREATE INDEX queue_messages_delayed ON queue_messages (id >> 40, due, id) WHERE due > 0;
        CREATE INDEX queue_messages_files ON queue_messages (file) WHERE file IS NOT NULL;
    ";

/// What may be sent once in a while only.
const ONCE: &str = "
        CREATE TABLE queue_once (
            queue INTEGER NOT NULL,
            key BLOB NOT NULL,
            until INTEGER NOT NULL,
            answer BLOB NOT NULL,
            PRIMARY KEY (queue, key)
        ) WITHOUT ROWID;
        CREATE INDEX queue_once_until ON queue_once (until);
    ";

/// Bits of a key that are the message's number: a trillion messages a queue, eight million queues.
const NUMBER_BITS: u32 = 40;

/// The highest id of a queue: the key behind its last message is one too.
pub(crate) const LAST_ID: u32 = (1 << (63 - NUMBER_BITS)) - 2;

/// A message of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) queue: u32,
    pub(crate) number: u64,
}

impl Key {
    fn value(self) -> i64 {
        // No queue's id is beyond `LAST_ID`, and numbers count from 1.
        (i64::from(self.queue) << NUMBER_BITS) | (self.number & ((1 << NUMBER_BITS) - 1)) as i64
    }

    /// Beyond all messages of a queue.
    pub(crate) fn last_of(queue: u32) -> Self {
        Self { queue, number: (1 << NUMBER_BITS) - 1 }
    }

    fn read(value: i64) -> Self {
        Self {
            queue: u32::try_from(value >> NUMBER_BITS).unwrap_or_default(),
            number: value as u64 & ((1 << NUMBER_BITS) - 1),
        }
    }
}

/// A row of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) number: u64,
    pub(crate) sent: Millis,
    pub(crate) due: Millis,
    pub(crate) attempts: u32,
    pub(crate) head: Vec<u8>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) file: Option<String>,
}

/// A queue as it is found at start.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) id: u32,
    pub(crate) kind: String,
    pub(crate) account: String,
    pub(crate) name: String,
    pub(crate) messages: u64,
    /// Those of them that were sent with a delay.
    pub(crate) delayed: u64,
    pub(crate) last: u64,
}

/// Names a queue; its id, which is another where it was named already: who did so may have gone away before memory knew.
pub(crate) fn name(tx: &mut dyn Tx, id: u32, kind: &str, account: &str, name: &str) -> Result<u32, Error> {
    let named: [Value; 3] = [kind.into(), account.into(), name.into()];
    let found =
        tx.query("SELECT id FROM queue_names WHERE kind = $1 AND account = $2 AND name = $3", &named)?;
    if let Some(row) = found.first() {
        return Ok(u32::try_from(row.int(0)?).unwrap_or_default());
    }
    let [kind, account, name] = named;
    tx.execute(
        "INSERT INTO queue_names (id, kind, account, name) VALUES ($1, $2, $3, $4)",
        &[i64::from(id).into(), kind, account, name],
    )?;
    Ok(id)
}

/// All queues that have messages, or claims that hold; others are forgotten. At start only.
pub(crate) fn open(tx: &mut dyn Tx) -> Result<Vec<Found>, Error> {
    let mut all = Vec::new();
    for row in tx.query("SELECT id, kind, account, name FROM queue_names", &[])? {
        let id = u32::try_from(row.int(0)?).unwrap_or_default();
        let range = [Key { queue: id, number: 0 }, Key { queue: id + 1, number: 0 }];
        let counted = tx.query(
            "SELECT count(*), coalesce(max(id), 0) FROM queue_messages WHERE id > $1 AND id < $2",
            &range.map(|key| Value::Int(key.value())),
        )?;
        let Some(counted) = counted.first() else { continue };
        let messages = u64::try_from(counted.int(0)?).unwrap_or_default();
        if messages == 0 && !has_claims(tx, id)? {
            tx.execute("DELETE FROM queue_names WHERE id = $1", &[i64::from(id).into()])?;
            continue;
        }
        all.push(Found {
            id,
            kind: row.text(1)?.to_owned(),
            account: row.text(2)?.to_owned(),
            name: row.text(3)?.to_owned(),
            messages,
            delayed: delayed_count(tx, id)?,
            last: Key::read(counted.int(1)?).number,
        });
    }
    Ok(all)
}

fn has_claims(tx: &mut dyn Tx, queue: u32) -> Result<bool, Error> {
    let rows = tx.query("SELECT 1 FROM queue_once WHERE queue = $1 LIMIT 1", &[i64::from(queue).into()])?;
    Ok(!rows.is_empty())
}

fn delayed_count(tx: &mut dyn Tx, queue: u32) -> Result<u64, Error> {
    let sql = "SELECT count(*) FROM queue_messages WHERE id >> 40 = $1 AND due > 0";
    let rows = tx.query(sql, &[i64::from(queue).into()])?;
    rows.first().map_or(Ok(0), |row| row.int(0).map(|count| u64::try_from(count).unwrap_or_default()))
}

/// Every file that a message's body is in.
pub(crate) fn files(tx: &mut dyn Tx) -> Result<Vec<String>, Error> {
    let rows = tx.query("SELECT file FROM queue_messages WHERE file IS NOT NULL", &[])?;
    rows.iter().map(|row| row.text(0).map(str::to_owned)).collect()
}

/// A new message.
pub(crate) fn insert(tx: &mut dyn Tx, queue: u32, message: &Stored) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO queue_messages (id, sent, due, attempts, head, body, file) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &[
            Key { queue, number: message.number }.value().into(),
            message.sent.into(),
            message.due.into(),
            i64::from(message.attempts).into(),
            Value::Blob(message.head.clone()),
            message.body.clone().into(),
            message.file.clone().into(),
        ],
    )
    .map(drop)
}

/// A message is done with.
pub(crate) fn delete(tx: &mut dyn Tx, key: Key) -> Result<bool, Error> {
    tx.execute("DELETE FROM queue_messages WHERE id = $1", &[key.value().into()]).map(|count| count > 0)
}

/// A message is to be received again, later.
pub(crate) fn delay(tx: &mut dyn Tx, key: Key, due: Millis, attempts: u32) -> Result<(), Error> {
    tx.execute(
        "UPDATE queue_messages SET due = $2, attempts = $3 WHERE id = $1",
        &[key.value().into(), due.into(), i64::from(attempts).into()],
    )
    .map(drop)
}

/// Notes how often a message was received.
pub(crate) fn count_attempts(tx: &mut dyn Tx, key: Key, attempts: u32) -> Result<bool, Error> {
    tx.execute(
        "UPDATE queue_messages SET attempts = $2 WHERE id = $1",
        &[key.value().into(), i64::from(attempts).into()],
    )
    .map(|count| count > 0)
}

/// A message is done with, if it is the one that was sent then: numbers are given again after a restart.
pub(crate) fn delete_sent(tx: &mut dyn Tx, key: Key, sent: Millis) -> Result<bool, Error> {
    tx.execute("DELETE FROM queue_messages WHERE id = $1 AND sent = $2", &[key.value().into(), sent.into()])
        .map(|count| count > 0)
}

/// Claims a key of a queue until then; whether nobody had it.
pub(crate) fn claim(
    tx: &mut dyn Tx,
    (queue, key): (u32, &[u8]),
    (now, until): (Millis, Millis),
    answer: &[u8],
) -> Result<bool, Error> {
    tx.execute(
        "INSERT INTO queue_once (queue, key, until, answer) VALUES ($1, $2, $3, $4)
         ON CONFLICT (queue, key) DO UPDATE SET until = $3, answer = $4 WHERE until <= $5",
        &[
            i64::from(queue).into(),
            Value::Blob(key.to_vec()),
            until.into(),
            Value::Blob(answer.to_vec()),
            now.into(),
        ],
    )
    .map(|count| count > 0)
}

/// What was said when a key was claimed.
pub(crate) fn claimed(tx: &mut dyn Tx, queue: u32, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    let sql = "SELECT answer FROM queue_once WHERE queue = $1 AND key = $2";
    let rows = tx.query(sql, &[i64::from(queue).into(), Value::Blob(key.to_vec())])?;
    rows.first().map(|row| row.blob(0).map(<[u8]>::to_vec)).transpose()
}

/// Forgets claims that are over.
pub(crate) fn forget_claims(tx: &mut dyn Tx, now: Millis) -> Result<(), Error> {
    tx.execute("DELETE FROM queue_once WHERE until <= $1", &[now.into()]).map(drop)
}

/// Forgets all claims of a queue, whose id is given to another after the next start.
pub(crate) fn forget_claims_of(tx: &mut dyn Tx, queue: u32) -> Result<(), Error> {
    tx.execute("DELETE FROM queue_once WHERE queue = $1", &[i64::from(queue).into()]).map(drop)
}

/// Removes the first of a queue's messages up to a number, and of those only what was sent before; the keys of what went, and
/// the files of their bodies.
pub(crate) fn remove_first(
    tx: &mut dyn Tx,
    upto: Key,
    before: Millis,
    limit: usize,
) -> Result<(Vec<Key>, Vec<String>), Error> {
    let rows = tx.query(
        "SELECT id, sent, file FROM queue_messages WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3",
        &[Key { number: 0, ..upto }.value().into(), upto.value().into(), count(limit)],
    )?;
    let (mut gone, mut files) = (Vec::new(), Vec::new());
    for row in &rows {
        if row.int(1)? >= before {
            continue;
        }
        tx.execute("DELETE FROM queue_messages WHERE id = $1", &[row.int(0)?.into()])?;
        gone.push(Key::read(row.int(0)?));
        files.extend(row.text(2).ok().map(str::to_owned));
    }
    Ok((gone, files))
}

/// A message becomes one of another queue, with another head; its body is not touched. Whether it was there.
pub(crate) fn transfer(
    tx: &mut dyn Tx,
    from: Key,
    to: Key,
    sent: Millis,
    head: &[u8],
) -> Result<bool, Error> {
    tx.execute(
        "UPDATE queue_messages SET id = $2, sent = $3, due = 0, attempts = 0, head = $4 WHERE id = $1",
        &[from.value().into(), to.value().into(), sent.into(), Value::Blob(head.to_vec())],
    )
    .map(|count| count > 0)
}

/// Messages without a delay whose numbers are above, in order.
pub(crate) fn ready(tx: &mut dyn Tx, queue: u32, above: u64, limit: usize) -> Result<Vec<Stored>, Error> {
    page(
        tx,
        "SELECT id, sent, due, attempts, head, body, file FROM queue_messages
         WHERE id > $1 AND id < $2 AND due = 0 ORDER BY id LIMIT $3",
        &[
            Key { queue, number: above }.value().into(),
            Key { queue: queue + 1, number: 0 }.value().into(),
            count(limit),
        ],
    )
}

/// Delayed messages whose time and number are above, in order of these.
pub(crate) fn delayed(
    tx: &mut dyn Tx,
    queue: u32,
    (due, number): (Millis, u64),
    limit: usize,
) -> Result<Vec<Stored>, Error> {
    page(
        tx,
        "SELECT id, sent, due, attempts, head, body, file FROM queue_messages
         WHERE id >> 40 = $1 AND due > 0 AND (due, id) > ($2, $3) ORDER BY due, id LIMIT $4",
        &[i64::from(queue).into(), due.into(), Key { queue, number }.value().into(), count(limit)],
    )
}

/// All messages of a queue whose numbers are above, in order.
pub(crate) fn browse(tx: &mut dyn Tx, queue: u32, above: u64, limit: usize) -> Result<Vec<Stored>, Error> {
    page(
        tx,
        "SELECT id, sent, due, attempts, head, body, file FROM queue_messages
         WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3",
        &[
            Key { queue, number: above }.value().into(),
            Key { queue: queue + 1, number: 0 }.value().into(),
            count(limit),
        ],
    )
}

/// Removes those of the first messages of a queue, at most `limit`, that were sent before; how many, and the files of
/// their bodies. Messages are about in the order of their times: no more are looked at, since everybody's writes wait.
pub(crate) fn remove_old(
    tx: &mut dyn Tx,
    queue: u32,
    before: Millis,
    limit: i64,
) -> Result<(u64, Vec<String>), Error> {
    let first = Key { queue, number: 0 }.value();
    let end = Key { queue: queue + 1, number: 0 }.value();
    let rows = tx.query(
        "SELECT id, file, sent FROM queue_messages WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3",
        &[first.into(), end.into(), limit.into()],
    )?;
    let (mut count, mut files) = (0, Vec::new());
    for row in &rows {
        if row.int(2)? < before {
            count += 1;
            files.extend(row.text(1).ok().map(str::to_owned));
            tx.execute("DELETE FROM queue_messages WHERE id = $1", &[row.int(0)?.into()])?;
        }
    }
    Ok((count, files))
}

/// One message.
pub(crate) fn one(tx: &mut dyn Tx, key: Key) -> Result<Option<Stored>, Error> {
    let rows = page(
        tx,
        "SELECT id, sent, due, attempts, head, body, file FROM queue_messages WHERE id = $1",
        &[key.value().into()],
    )?;
    Ok(rows.into_iter().next())
}

fn count(limit: usize) -> Value {
    Value::Int(i64::try_from(limit).unwrap_or(i64::MAX))
}

fn page(tx: &mut dyn Tx, sql: &str, params: &[Value]) -> Result<Vec<Stored>, Error> {
    tx.query(sql, params)?.iter().map(stored).collect()
}

fn stored(row: &Row) -> Result<Stored, Error> {
    Ok(Stored {
        number: Key::read(row.int(0)?).number,
        sent: row.int(1)?,
        due: row.int(2)?,
        attempts: u32::try_from(row.int(3)?).unwrap_or(u32::MAX),
        head: row.blob(4)?.to_vec(),
        body: row.blob(5).ok().map(<[u8]>::to_vec),
        file: row.text(6).ok().map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::{Key, LAST_ID};

    #[test]
    fn keys_keep_queues_apart_and_numbers_in_order() {
        let key = |queue, number| Key { queue, number }.value();
        assert!(key(1, (1 << 40) - 1) < key(2, 0) && key(2, 1) < key(2, 2));
        for (queue, number) in [(0, 1), (7, 1 << 39), (LAST_ID, (1 << 40) - 1), (LAST_ID + 1, 0)] {
            let there = Key { queue, number };
            assert!(there.value() >= 0);
            assert_eq!(Key::read(there.value()), there);
        }
    }
}
