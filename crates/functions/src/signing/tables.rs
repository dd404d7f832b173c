//! The schema of code signing and the only SQL about it.

use store::{Error, Tx};

/// Documents by account and name; and signatures that were revoked one by one.
pub(crate) const TABLES: &str = "
        CREATE TABLE code_signing_configs (
            account TEXT NOT NULL,
            name TEXT NOT NULL,
            document TEXT NOT NULL,
            PRIMARY KEY (account, name)
        );
        CREATE TABLE signing_profiles (
            account TEXT NOT NULL,
            name TEXT NOT NULL,
            document TEXT NOT NULL,
            PRIMARY KEY (account, name)
        );
        CREATE TABLE signing_revocations (
            account TEXT NOT NULL,
            name TEXT NOT NULL,
            document TEXT NOT NULL,
            PRIMARY KEY (account, name)
        );
    ";

/// Which kind of document.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Config,
    Profile,
    Revocation,
}

impl Kind {
    fn table(self) -> &'static str {
        match self {
            Self::Config => "code_signing_configs",
            Self::Profile => "signing_profiles",
            Self::Revocation => "signing_revocations",
        }
    }
}

/// Account, name, document.
pub(crate) type Row = (String, String, String);

/// Writes a document, or removes it.
pub(crate) fn put(
    tx: &mut dyn Tx,
    kind: Kind,
    account: &str,
    name: &str,
    document: Option<&str>,
) -> Result<(), Error> {
    let table = kind.table();
    match document {
        Some(document) => tx.execute(
            &format!(
                "INSERT INTO {table} (account, name, document) VALUES ($1, $2, $3)
                 ON CONFLICT (account, name) DO UPDATE SET document = excluded.document"
            ),
            &[account.into(), name.into(), document.into()],
        ),
        None => tx.execute(
            &format!("DELETE FROM {table} WHERE account = $1 AND name = $2"),
            &[account.into(), name.into()],
        ),
    }
    .map(drop)
}

/// All documents of a kind, at start.
pub(crate) fn load(tx: &mut dyn Tx, kind: Kind) -> Result<Vec<Row>, Error> {
    let rows = tx.query(&format!("SELECT account, name, document FROM {}", kind.table()), &[])?;
    rows.iter().map(|row| Ok((row.text(0)?.into(), row.text(1)?.into(), row.text(2)?.into()))).collect()
}
