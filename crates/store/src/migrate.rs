//! Migrations: which steps a database has had, and that they are the ones this build knows.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, TransactionBehavior};
use sha2::{Digest, Sha256};

use crate::{Error, Migration};

const TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    name TEXT PRIMARY KEY NOT NULL,
    checksum TEXT NOT NULL
) STRICT";

/// Applies what is missing, all of it in one transaction.
pub(crate) fn apply(connection: &mut Connection, nouns: &[&[Migration]]) -> Result<(), Error> {
    check_names(nouns)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLE)?;
    let mut applied = applied(&transaction)?;
    for noun in nouns {
        let mut missing = None;
        for migration in *noun {
            let checksum = checksum(migration.sql);
            match applied.remove(migration.name) {
                Some(known) if known != checksum => {
                    return Err(schema(migration.name, "was altered after it had been applied"));
                }
                Some(_) if missing.is_some() => {
                    return Err(schema(migration.name, "is applied, but one before it is not"));
                }
                Some(_) => {}
                None => {
                    missing = Some(migration.name);
                    transaction.execute_batch(migration.sql)?;
                    transaction.execute(
                        "INSERT INTO schema_migrations (name, checksum) VALUES (?, ?)",
                        (migration.name, &checksum),
                    )?;
                }
            }
        }
    }
    if let Some(name) = applied.keys().next() {
        return Err(schema(name, "is not known here: the database was written by a newer version"));
    }
    transaction.commit()?;
    Ok(())
}

fn check_names(nouns: &[&[Migration]]) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    match nouns.iter().copied().flatten().find(|migration| !seen.insert(migration.name)) {
        Some(twice) => Err(schema(twice.name, "is there twice")),
        None => Ok(()),
    }
}

fn applied(connection: &Connection) -> Result<BTreeMap<String, String>, Error> {
    let mut statement = connection.prepare("SELECT name, checksum FROM schema_migrations")?;
    let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn checksum(sql: &str) -> String {
    hex::encode(Sha256::digest(sql))
}

fn schema(name: &str, problem: &str) -> Error {
    Error::Schema(format!("migration {name} {problem}"))
}
