//! Schema and SQL of accounts, users and keys; nothing else.

use store::{Migration, Row, Tx, Value};

/// The schema of this noun.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "iam-0001",
    sql: "
        CREATE TABLE accounts (
            id TEXT PRIMARY KEY NOT NULL,
            created BIGINT NOT NULL
        );
        CREATE TABLE users (
            account TEXT NOT NULL REFERENCES accounts (id),
            name TEXT NOT NULL,
            created BIGINT NOT NULL,
            PRIMARY KEY (account, name)
        );
        CREATE TABLE access_keys (
            id TEXT PRIMARY KEY NOT NULL,
            account TEXT NOT NULL,
            user_name TEXT NOT NULL,
            sealed_secret BLOB NOT NULL,
            created BIGINT NOT NULL,
            FOREIGN KEY (account, user_name) REFERENCES users (account, name)
        );
    ",
}];

/// A key as it is stored.
pub(crate) struct KeyRow {
    pub(crate) id: String,
    pub(crate) account: String,
    pub(crate) user: String,
    pub(crate) sealed_secret: Vec<u8>,
    pub(crate) created: i64,
}

/// The first account's id, if there is one.
pub(crate) fn first_account(tx: &mut dyn Tx) -> Result<Option<String>, store::Error> {
    let rows = tx.query("SELECT id FROM accounts ORDER BY created, id LIMIT 1", &[])?;
    rows.first().map(|row| Ok(row.text(0)?.to_owned())).transpose()
}

/// All keys, the oldest of each account first.
pub(crate) fn keys(tx: &mut dyn Tx) -> Result<Vec<KeyRow>, store::Error> {
    let rows = tx.query(
        "SELECT id, account, user_name, sealed_secret, created FROM access_keys ORDER BY created, id",
        &[],
    )?;
    rows.iter().map(key).collect()
}

/// Adds an account, its first user and that user's first key.
pub(crate) fn insert_first(tx: &mut dyn Tx, key: &KeyRow) -> Result<(), store::Error> {
    let account = || Value::from(key.account.as_str());
    let user = || Value::from(key.user.as_str());
    let created = || Value::from(key.created);
    tx.execute("INSERT INTO accounts (id, created) VALUES ($1, $2)", &[account(), created()])?;
    tx.execute(
        "INSERT INTO users (account, name, created) VALUES ($1, $2, $3)",
        &[account(), user(), created()],
    )?;
    tx.execute(
        "INSERT INTO access_keys (id, account, user_name, sealed_secret, created) VALUES ($1, $2, $3, $4, $5)",
        &[key.id.as_str().into(), account(), user(), key.sealed_secret.clone().into(), created()],
    )?;
    Ok(())
}

fn key(row: &Row) -> Result<KeyRow, store::Error> {
    Ok(KeyRow {
        id: row.text(0)?.to_owned(),
        account: row.text(1)?.to_owned(),
        user: row.text(2)?.to_owned(),
        sealed_secret: row.blob(3)?.to_vec(),
        created: row.int(4)?,
    })
}
