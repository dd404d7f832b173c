//! The server's own settings that must not change after the first start. SQL lives here and nowhere else.

use store::{Error, Migration, Tx};

/// The schema.
pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    name: "server-0001",
    sql: "CREATE TABLE server_settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
}];

/// A setting's value.
pub(crate) fn setting(tx: &mut dyn Tx, name: &str) -> Result<Option<String>, Error> {
    let rows = tx.query("SELECT value FROM server_settings WHERE name = $1", &[name.into()])?;
    rows.first().map(|row| row.text(0).map(str::to_owned)).transpose()
}

/// Sets what was not set before.
pub(crate) fn set(tx: &mut dyn Tx, name: &str, value: &str) -> Result<(), Error> {
    tx.execute("INSERT INTO server_settings (name, value) VALUES ($1, $2)", &[name.into(), value.into()])?;
    Ok(())
}
