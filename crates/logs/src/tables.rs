//! Schema and SQL of log groups; nothing else.

use base::AccountId;
use store::{Error, Migration, Row, Tx, Value};

use crate::service::GroupName;
use crate::subscriptions::Subscription;

/// The schema of this noun.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "logs-0001",
        sql: "
        CREATE TABLE log_groups (
            account TEXT NOT NULL,
            name TEXT NOT NULL,
            retention_days BIGINT,
            tags TEXT NOT NULL,
            PRIMARY KEY (account, name)
        );
        CREATE TABLE log_streams (
            account TEXT NOT NULL,
            log_group TEXT NOT NULL,
            name TEXT NOT NULL,
            created BIGINT,
            hidden_until TEXT,
            PRIMARY KEY (account, log_group, name)
        );
    ",
    },
    Migration {
        name: "logs-0002",
        sql: "
        CREATE TABLE log_subscriptions (
            account TEXT NOT NULL,
            log_group TEXT NOT NULL,
            name TEXT NOT NULL,
            pattern TEXT NOT NULL,
            destination TEXT NOT NULL,
            distribution TEXT NOT NULL,
            created BIGINT NOT NULL,
            place TEXT NOT NULL,
            PRIMARY KEY (account, log_group, name)
        );
    ",
    },
];

/// What is kept of a group besides its events; a group that nobody said anything about has no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupRow {
    pub(crate) retention_days: Option<i64>,
    /// A JSON object.
    pub(crate) tags: String,
}

impl Default for GroupRow {
    fn default() -> Self {
        Self { retention_days: None, tags: "{}".to_owned() }
    }
}

/// A stream that somebody made or deleted by request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamRow {
    pub(crate) name: String,
    /// Milliseconds; `None` for one that was deleted and not made again.
    pub(crate) created: Option<i64>,
    /// Its events before this place are deleted.
    pub(crate) hidden_until: Option<String>,
}

fn key(group: &GroupName) -> [Value; 2] {
    [group.account.as_str().into(), group.name.as_str().into()]
}

/// A group's row.
pub(crate) fn group(tx: &mut dyn Tx, group: &GroupName) -> Result<Option<GroupRow>, Error> {
    let sql = "SELECT retention_days, tags FROM log_groups WHERE account = $1 AND name = $2";
    let rows = tx.query(sql, &key(group))?;
    rows.first()
        .map(|row| Ok(GroupRow { retention_days: optional_int(row, 0)?, tags: row.text(1)?.to_owned() }))
        .transpose()
}

/// Writes a group's row.
pub(crate) fn set_group(tx: &mut dyn Tx, group: &GroupName, row: &GroupRow) -> Result<(), Error> {
    let [account, name] = key(group);
    tx.execute(
        "INSERT INTO log_groups (account, name, retention_days, tags) VALUES ($1, $2, $3, $4)
         ON CONFLICT (account, name) DO UPDATE SET retention_days = $3, tags = $4",
        &[account, name, row.retention_days.into(), row.tags.as_str().into()],
    )?;
    Ok(())
}

/// Forgets all that is kept of a group.
pub(crate) fn delete_group(tx: &mut dyn Tx, group: &GroupName) -> Result<(), Error> {
    tx.execute("DELETE FROM log_groups WHERE account = $1 AND name = $2", &key(group))?;
    tx.execute("DELETE FROM log_streams WHERE account = $1 AND log_group = $2", &key(group))?;
    tx.execute("DELETE FROM log_subscriptions WHERE account = $1 AND log_group = $2", &key(group))?;
    Ok(())
}

/// Groups with a retention: account, name, days.
pub(crate) fn retentions(tx: &mut dyn Tx) -> Result<Vec<(String, String, i64)>, Error> {
    let sql = "SELECT account, name, retention_days FROM log_groups WHERE retention_days IS NOT NULL";
    let rows = tx.query(sql, &[])?;
    rows.iter().map(|row| Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned(), row.int(2)?))).collect()
}

/// One stream's row.
pub(crate) fn stream(tx: &mut dyn Tx, group: &GroupName, name: &str) -> Result<Option<StreamRow>, Error> {
    let [account, group] = key(group);
    let rows = tx.query(
        "SELECT name, created, hidden_until FROM log_streams
         WHERE account = $1 AND log_group = $2 AND name = $3",
        &[account, group, name.into()],
    )?;
    rows.first().map(stream_row).transpose()
}

/// The rows of a group's streams.
pub(crate) fn streams(tx: &mut dyn Tx, group: &GroupName) -> Result<Vec<StreamRow>, Error> {
    let rows = tx.query(
        "SELECT name, created, hidden_until FROM log_streams WHERE account = $1 AND log_group = $2",
        &key(group),
    )?;
    rows.iter().map(stream_row).collect()
}

/// The streams of a group whose events before some place are deleted, with the place.
pub(crate) fn hidden(tx: &mut dyn Tx, group: &GroupName) -> Result<Vec<(String, String)>, Error> {
    let rows = tx.query(
        "SELECT name, hidden_until FROM log_streams
         WHERE account = $1 AND log_group = $2 AND hidden_until IS NOT NULL",
        &key(group),
    )?;
    rows.iter().map(|row| Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned()))).collect()
}

/// How many streams of a group have a row.
pub(crate) fn count_streams(tx: &mut dyn Tx, group: &GroupName) -> Result<i64, Error> {
    let sql = "SELECT count(*) FROM log_streams WHERE account = $1 AND log_group = $2";
    tx.query(sql, &key(group))?.first().map_or(Ok(0), |row| row.int(0))
}

/// Writes a stream's row.
pub(crate) fn set_stream(tx: &mut dyn Tx, group: &GroupName, row: &StreamRow) -> Result<(), Error> {
    let [account, group] = key(group);
    tx.execute(
        "INSERT INTO log_streams (account, log_group, name, created, hidden_until) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (account, log_group, name) DO UPDATE SET created = $4, hidden_until = $5",
        &[account, group, row.name.as_str().into(), row.created.into(), row.hidden_until.clone().into()],
    )?;
    Ok(())
}

/// Forgets deletions of streams that lie before a place: nothing of them is left to hide.
pub(crate) fn forget_deleted(tx: &mut dyn Tx, group: &GroupName, before: &str) -> Result<(), Error> {
    let [account, name] = key(group);
    tx.execute(
        "DELETE FROM log_streams
         WHERE account = $1 AND log_group = $2 AND created IS NULL AND hidden_until < $3",
        &[account, name, before.into()],
    )?;
    Ok(())
}

/// All subscriptions, by group and name.
pub(crate) fn subscriptions(tx: &mut dyn Tx) -> Result<Vec<Subscription>, Error> {
    let rows = tx.query(
        "SELECT account, log_group, name, pattern, destination, distribution, created, place
         FROM log_subscriptions ORDER BY account, log_group, name",
        &[],
    )?;
    rows.iter().filter_map(|row| subscription_row(row).transpose()).collect()
}

/// Writes a subscription; the place of one that is there does not go back. Places have the order of their texts.
pub(crate) fn set_subscription(tx: &mut dyn Tx, row: &Subscription) -> Result<(), Error> {
    let [account, group] = key(&row.group);
    let text = |text: &str| Value::from(text);
    tx.execute(
        "INSERT INTO log_subscriptions
         (account, log_group, name, pattern, destination, distribution, created, place)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (account, log_group, name)
         DO UPDATE SET pattern = $4, destination = $5, distribution = $6,
         place = CASE WHEN log_subscriptions.place < $8 THEN $8 ELSE log_subscriptions.place END",
        &[
            account,
            group,
            text(&row.name),
            text(&row.pattern),
            text(&row.destination),
            text(&row.distribution),
            row.created.into(),
            text(&row.place),
        ],
    )?;
    Ok(())
}

/// Notes up to where a subscription's events were handed over.
pub(crate) fn move_subscription(
    tx: &mut dyn Tx,
    group: &GroupName,
    name: &str,
    place: &str,
) -> Result<(), Error> {
    let [account, group] = key(group);
    tx.execute(
        "UPDATE log_subscriptions SET place = $4 WHERE account = $1 AND log_group = $2 AND name = $3",
        &[account, group, name.into(), place.into()],
    )?;
    Ok(())
}

/// Removes a subscription; whether it was there.
pub(crate) fn delete_subscription(tx: &mut dyn Tx, group: &GroupName, name: &str) -> Result<bool, Error> {
    let [account, group] = key(group);
    let removed = tx.execute(
        "DELETE FROM log_subscriptions WHERE account = $1 AND log_group = $2 AND name = $3",
        &[account, group, name.into()],
    )?;
    Ok(removed > 0)
}

/// `None` where the account's id is none.
fn subscription_row(row: &Row) -> Result<Option<Subscription>, Error> {
    let Some(account) = AccountId::parse(row.text(0)?) else { return Ok(None) };
    let text = |column| row.text(column).map(str::to_owned);
    Ok(Some(Subscription {
        group: GroupName { account, name: text(1)? },
        name: text(2)?,
        pattern: text(3)?,
        destination: text(4)?,
        distribution: text(5)?,
        created: row.int(6)?,
        place: text(7)?,
    }))
}

fn stream_row(row: &Row) -> Result<StreamRow, Error> {
    let hidden_until = match row.0.get(2) {
        Some(Value::Null) => None,
        _ => Some(row.text(2)?.to_owned()),
    };
    Ok(StreamRow { name: row.text(0)?.to_owned(), created: optional_int(row, 1)?, hidden_until })
}

fn optional_int(row: &Row, column: usize) -> Result<Option<i64>, Error> {
    match row.0.get(column) {
        Some(Value::Null) => Ok(None),
        _ => row.int(column).map(Some),
    }
}
