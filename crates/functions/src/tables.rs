//! The schema of functions and the only SQL about them.
//!
//! Rows are JSON documents with key columns: what a function is lives in `registry`, and memory answers every
//! query, so the database needs no other column. A change of one function is one transaction.

use store::{Error, Migration, Tx, Value};

/// The schema of this noun.
pub const MIGRATIONS: &[Migration] = &[
    Migration { name: "functions-0001", sql: TABLES },
    Migration { name: "functions-0002", sql: CHORES },
    Migration { name: "functions-0003", sql: HABITS },
    Migration { name: "layers-0001", sql: crate::layers::tables::TABLES },
    Migration { name: "functions-aliases", sql: ALIASES },
    Migration { name: "code-signing", sql: crate::signing::tables::TABLES },
];

const TABLES: &str = "
        CREATE TABLE functions (
            account TEXT NOT NULL,
            name TEXT NOT NULL,
            document TEXT NOT NULL,
            PRIMARY KEY (account, name)
        );
        CREATE TABLE function_versions (
            account TEXT NOT NULL,
            name TEXT NOT NULL,
            version TEXT NOT NULL,
            document TEXT NOT NULL,
            PRIMARY KEY (account, name, version)
        );
        CREATE TABLE function_urls (
            account TEXT NOT NULL,
            name TEXT NOT NULL,
            id TEXT NOT NULL UNIQUE,
            document TEXT NOT NULL,
            PRIMARY KEY (account, name)
        );
    ";

/// What is still to be done about a database that an earlier server wrote: seal the environment variables in it.
const CHORES: &str = "
        CREATE TABLE function_chores (name TEXT PRIMARY KEY NOT NULL);
        INSERT INTO function_chores (name) SELECT 'seal' WHERE EXISTS (SELECT 1 FROM function_versions);
    ";

/// What is known of a version's callers. Not in its document: it changes by itself, and is worth no more than a hint.
const HABITS: &str = "
        CREATE TABLE function_habits (
            account TEXT NOT NULL,
            name TEXT NOT NULL,
            version TEXT NOT NULL,
            habits BLOB NOT NULL,
            PRIMARY KEY (account, name, version)
        );
    ";

/// Aliases; and URLs of more than `$LATEST`.
const ALIASES: &str = "
        CREATE TABLE function_aliases (
            account TEXT NOT NULL,
            name TEXT NOT NULL,
            alias TEXT NOT NULL,
            document TEXT NOT NULL,
            PRIMARY KEY (account, name, alias)
        );
        CREATE TABLE function_urls_qualified (
            account TEXT NOT NULL,
            name TEXT NOT NULL,
            qualifier TEXT NOT NULL,
            id TEXT NOT NULL UNIQUE,
            document TEXT NOT NULL,
            PRIMARY KEY (account, name, qualifier)
        );
        INSERT INTO function_urls_qualified (account, name, qualifier, id, document)
            SELECT account, name, '$LATEST', id, document FROM function_urls;
        DROP TABLE function_urls;
        ALTER TABLE function_urls_qualified RENAME TO function_urls;
    ";

/// A row of habits: account, name, version, bytes.
pub(crate) type Row = (String, String, String, Vec<u8>);

/// What a transaction changes about one function.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// Whose.
    pub(crate) account: String,
    /// Its name.
    pub(crate) name: String,
    /// Every row of the function goes.
    pub(crate) remove_all: bool,
    /// The function's own document.
    pub(crate) function: Option<String>,
    /// Versions written: number and document.
    pub(crate) versions: Vec<(String, String)>,
    /// Versions removed.
    pub(crate) removed_versions: Vec<String>,
    /// Aliases written: name and document.
    pub(crate) aliases: Vec<(String, String)>,
    /// Aliases removed.
    pub(crate) removed_aliases: Vec<String>,
    /// URLs written: qualifier, id and document.
    pub(crate) urls: Vec<(String, String, String)>,
    /// URLs removed, by qualifier.
    pub(crate) removed_urls: Vec<String>,
}

/// Everything in the tables, each as key columns and document.
#[derive(Debug, Default)]
pub(crate) struct Everything {
    /// Account, name, document.
    pub(crate) functions: Vec<(String, String, String)>,
    /// Account, name, version, document.
    pub(crate) versions: Vec<(String, String, String, String)>,
    /// Account, name, alias, document.
    pub(crate) aliases: Vec<(String, String, String, String)>,
    /// Account, name, qualifier, document.
    pub(crate) urls: Vec<(String, String, String, String)>,
    /// Whether environment variables may be there, or have been there, that are not sealed.
    pub(crate) unsealed: bool,
    /// What is known of callers.
    pub(crate) habits: Vec<Row>,
}

/// Makes the change.
pub(crate) fn apply(tx: &mut dyn Tx, change: &Change) -> Result<(), Error> {
    let account = || Value::from(change.account.as_str());
    let name = || Value::from(change.name.as_str());
    if change.remove_all {
        for sql in [
            "DELETE FROM function_urls WHERE account = $1 AND name = $2",
            "DELETE FROM function_aliases WHERE account = $1 AND name = $2",
            "DELETE FROM function_versions WHERE account = $1 AND name = $2",
            "DELETE FROM function_habits WHERE account = $1 AND name = $2",
            "DELETE FROM functions WHERE account = $1 AND name = $2",
        ] {
            tx.execute(sql, &[account(), name()])?;
        }
        return Ok(());
    }
    if let Some(document) = &change.function {
        tx.execute(
            "INSERT INTO functions (account, name, document) VALUES ($1, $2, $3)
             ON CONFLICT (account, name) DO UPDATE SET document = excluded.document",
            &[account(), name(), document.as_str().into()],
        )?;
    }
    for (version, document) in &change.versions {
        tx.execute(
            "INSERT INTO function_versions (account, name, version, document) VALUES ($1, $2, $3, $4)
             ON CONFLICT (account, name, version) DO UPDATE SET document = excluded.document",
            &[account(), name(), version.as_str().into(), document.as_str().into()],
        )?;
    }
    for version in &change.removed_versions {
        for sql in [
            "DELETE FROM function_versions WHERE account = $1 AND name = $2 AND version = $3",
            "DELETE FROM function_habits WHERE account = $1 AND name = $2 AND version = $3",
        ] {
            tx.execute(sql, &[account(), name(), version.as_str().into()])?;
        }
    }
    apply_aliases(tx, change)?;
    apply_urls(tx, change)
}

fn apply_aliases(tx: &mut dyn Tx, change: &Change) -> Result<(), Error> {
    let key = || [Value::from(change.account.as_str()), Value::from(change.name.as_str())];
    for (alias, document) in &change.aliases {
        let [account, name] = key();
        tx.execute(
            "INSERT INTO function_aliases (account, name, alias, document) VALUES ($1, $2, $3, $4)
             ON CONFLICT (account, name, alias) DO UPDATE SET document = excluded.document",
            &[account, name, alias.as_str().into(), document.as_str().into()],
        )?;
    }
    for alias in &change.removed_aliases {
        let [account, name] = key();
        let sql = "DELETE FROM function_aliases WHERE account = $1 AND name = $2 AND alias = $3";
        tx.execute(sql, &[account, name, alias.as_str().into()])?;
    }
    Ok(())
}

fn apply_urls(tx: &mut dyn Tx, change: &Change) -> Result<(), Error> {
    let key = || [Value::from(change.account.as_str()), Value::from(change.name.as_str())];
    for qualifier in &change.removed_urls {
        let [account, name] = key();
        let sql = "DELETE FROM function_urls WHERE account = $1 AND name = $2 AND qualifier = $3";
        tx.execute(sql, &[account, name, qualifier.as_str().into()])?;
    }
    for (qualifier, id, document) in &change.urls {
        let [account, name] = key();
        tx.execute(
            "INSERT INTO function_urls (account, name, qualifier, id, document) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (account, name, qualifier) DO UPDATE SET id = excluded.id, document = excluded.document",
            &[account, name, qualifier.as_str().into(), id.as_str().into(), document.as_str().into()],
        )?;
    }
    Ok(())
}

/// Reads all of it, at start.
pub(crate) fn load(tx: &mut dyn Tx) -> Result<Everything, Error> {
    let mut all = Everything::default();
    for row in tx.query("SELECT account, name, document FROM functions", &[])? {
        all.functions.push((row.text(0)?.into(), row.text(1)?.into(), row.text(2)?.into()));
    }
    for row in tx.query("SELECT account, name, version, document FROM function_versions", &[])? {
        let text = |column| row.text(column).map(str::to_owned);
        all.versions.push((text(0)?, text(1)?, text(2)?, text(3)?));
    }
    for row in tx.query("SELECT account, name, alias, document FROM function_aliases", &[])? {
        let text = |column| row.text(column).map(str::to_owned);
        all.aliases.push((text(0)?, text(1)?, text(2)?, text(3)?));
    }
    for row in tx.query("SELECT account, name, qualifier, document FROM function_urls", &[])? {
        let text = |column| row.text(column).map(str::to_owned);
        all.urls.push((text(0)?, text(1)?, text(2)?, text(3)?));
    }
    for row in tx.query("SELECT account, name, version, habits FROM function_habits", &[])? {
        // One that is damaged is as good as none.
        if let Ok(bytes) = row.blob(3) {
            all.habits.push((row.text(0)?.into(), row.text(1)?.into(), row.text(2)?.into(), bytes.into()));
        }
    }
    all.unsealed = !tx.query("SELECT 1 FROM function_chores WHERE name = 'seal'", &[])?.is_empty();
    Ok(all)
}

/// Writes down what is known of callers, but of versions that have gone meanwhile.
pub(crate) fn remember(tx: &mut dyn Tx, rows: &[Row]) -> Result<(), Error> {
    for (account, name, version, habits) in rows {
        tx.execute(
            "INSERT INTO function_habits (account, name, version, habits) SELECT $1, $2, $3, $4
             WHERE EXISTS (SELECT 1 FROM function_versions WHERE account = $1 AND name = $2 AND version = $3)
             ON CONFLICT (account, name, version) DO UPDATE SET habits = excluded.habits",
            &[
                account.as_str().into(),
                name.as_str().into(),
                version.as_str().into(),
                Value::Blob(habits.clone()),
            ],
        )?;
    }
    Ok(())
}

/// Every row is sealed, and nothing of what they were is left.
pub(crate) fn sealed(tx: &mut dyn Tx) -> Result<(), Error> {
    tx.execute("DELETE FROM function_chores WHERE name = 'seal'", &[]).map(drop)
}
