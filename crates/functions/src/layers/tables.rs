//! The schema of layers and the only SQL about them.

use store::{Error, Tx, Value};

/// A layer's row stays when its last version goes, so that no number is given twice.
pub(crate) const TABLES: &str = "
        CREATE TABLE layers (
            account TEXT NOT NULL,
            name TEXT NOT NULL,
            next_version INTEGER NOT NULL,
            PRIMARY KEY (account, name)
        );
        CREATE TABLE layer_versions (
            account TEXT NOT NULL,
            name TEXT NOT NULL,
            version INTEGER NOT NULL,
            document TEXT NOT NULL,
            PRIMARY KEY (account, name, version)
        );
    ";

/// Which version of which layer.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) account: String,
    pub(crate) name: String,
    pub(crate) version: i64,
}

/// Everything in the tables.
#[derive(Debug, Default)]
pub(crate) struct Everything {
    /// Account, name, number of the next version.
    pub(crate) layers: Vec<(String, String, i64)>,
    /// Where, and the document.
    pub(crate) versions: Vec<(Place, String)>,
}

/// Writes a version, new or changed.
pub(crate) fn put(tx: &mut dyn Tx, place: &Place, document: &str) -> Result<(), Error> {
    let [account, name, version] = key(place);
    tx.execute(
        "INSERT INTO layers (account, name, next_version) VALUES ($1, $2, $3 + 1)
         ON CONFLICT (account, name) DO UPDATE SET next_version = max(next_version, excluded.next_version)",
        &[account.clone(), name.clone(), version.clone()],
    )?;
    tx.execute(
        "INSERT INTO layer_versions (account, name, version, document) VALUES ($1, $2, $3, $4)
         ON CONFLICT (account, name, version) DO UPDATE SET document = excluded.document",
        &[account, name, version, document.into()],
    )?;
    Ok(())
}

/// Removes a version.
pub(crate) fn remove(tx: &mut dyn Tx, place: &Place) -> Result<(), Error> {
    tx.execute("DELETE FROM layer_versions WHERE account = $1 AND name = $2 AND version = $3", &key(place))
        .map(drop)
}

/// Reads all of it, at start.
pub(crate) fn load(tx: &mut dyn Tx) -> Result<Everything, Error> {
    let mut all = Everything::default();
    for row in tx.query("SELECT account, name, next_version FROM layers", &[])? {
        all.layers.push((row.text(0)?.into(), row.text(1)?.into(), row.int(2)?));
    }
    for row in tx.query("SELECT account, name, version, document FROM layer_versions", &[])? {
        let place = Place { account: row.text(0)?.into(), name: row.text(1)?.into(), version: row.int(2)? };
        all.versions.push((place, row.text(3)?.into()));
    }
    Ok(all)
}

fn key(place: &Place) -> [Value; 3] {
    [place.account.as_str().into(), place.name.as_str().into(), place.version.into()]
}
