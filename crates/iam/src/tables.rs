//! Schema and SQL of accounts, users and keys; nothing else.

use store::{Migration, Row, Tx, Value};

/// The schema of this noun.
pub const MIGRATIONS: &[Migration] =
    &[Migration { name: "iam-0001", sql: KEYS }, Migration { name: "iam-0002", sql: ROLES }];

const KEYS: &str = "
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
    ";

/// Roles and policies as documents. The chore is to make the first account's role for functions, once.
const ROLES: &str = "
        CREATE TABLE iam_roles (
            account TEXT NOT NULL,
            name TEXT NOT NULL,
            document TEXT NOT NULL,
            PRIMARY KEY (account, name)
        );
        CREATE TABLE iam_policies (
            account TEXT NOT NULL,
            arn TEXT NOT NULL,
            document TEXT NOT NULL,
            PRIMARY KEY (account, arn)
        );
        CREATE TABLE iam_chores (name TEXT PRIMARY KEY NOT NULL);
        INSERT INTO iam_chores (name) VALUES ('default-role');
    ";

/// Rows of documents: account, name or ARN, document.
pub(crate) type Documents = Vec<(String, String, String)>;

/// All roles.
pub(crate) fn roles(tx: &mut dyn Tx) -> Result<Documents, store::Error> {
    documents(tx, "SELECT account, name, document FROM iam_roles")
}

/// All managed policies.
pub(crate) fn policies(tx: &mut dyn Tx) -> Result<Documents, store::Error> {
    documents(tx, "SELECT account, arn, document FROM iam_policies")
}

fn documents(tx: &mut dyn Tx, sql: &str) -> Result<Documents, store::Error> {
    let rows = tx.query(sql, &[])?;
    rows.iter().map(|row| Ok((row.text(0)?.into(), row.text(1)?.into(), row.text(2)?.into()))).collect()
}

/// Writes a role, or removes it.
pub(crate) fn put_role(
    tx: &mut dyn Tx,
    account: &str,
    name: &str,
    document: Option<&str>,
) -> Result<(), store::Error> {
    match document {
        Some(document) => tx.execute(
            "INSERT INTO iam_roles (account, name, document) VALUES ($1, $2, $3)
             ON CONFLICT (account, name) DO UPDATE SET document = excluded.document",
            &[account.into(), name.into(), document.into()],
        ),
        None => tx.execute(
            "DELETE FROM iam_roles WHERE account = $1 AND name = $2",
            &[account.into(), name.into()],
        ),
    }
    .map(drop)
}

/// Writes a managed policy, or removes it.
pub(crate) fn put_policy(
    tx: &mut dyn Tx,
    account: &str,
    arn: &str,
    document: Option<&str>,
) -> Result<(), store::Error> {
    match document {
        Some(document) => tx.execute(
            "INSERT INTO iam_policies (account, arn, document) VALUES ($1, $2, $3)
             ON CONFLICT (account, arn) DO UPDATE SET document = excluded.document",
            &[account.into(), arn.into(), document.into()],
        ),
        None => tx.execute(
            "DELETE FROM iam_policies WHERE account = $1 AND arn = $2",
            &[account.into(), arn.into()],
        ),
    }
    .map(drop)
}

/// Whether the first account's role for functions is still to be made.
pub(crate) fn wants_default_role(tx: &mut dyn Tx) -> Result<bool, store::Error> {
    Ok(!tx.query("SELECT 1 FROM iam_chores WHERE name = 'default-role'", &[])?.is_empty())
}

/// It was made; if its owner deletes it, it stays away.
pub(crate) fn made_default_role(tx: &mut dyn Tx) -> Result<(), store::Error> {
    tx.execute("DELETE FROM iam_chores WHERE name = 'default-role'", &[]).map(drop)
}

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
