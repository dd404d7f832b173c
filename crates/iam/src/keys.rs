//! The keys in memory: what every request is checked against.

use std::path::Path;

use base::{AccountId, Timestamp};
use papaya::HashMap;
use store::Store;

use crate::caller::ADMIN;
use crate::seal::{MasterKey, Sealer, Use};
use crate::tables::KeyRow;
use crate::{Bootstrap, Caller, Credentials, Error, Principal, tables};

/// A key that lasts, opened.
pub(crate) struct Key {
    pub(crate) caller: Caller,
    pub(crate) secret: String,
}

/// All keys, and the first account's.
pub(crate) struct Keys {
    pub(crate) by_id: HashMap<String, Key>,
    pub(crate) first: Credentials,
    pub(crate) account: AccountId,
    /// When the first account was made.
    pub(crate) created: Timestamp,
}

/// Reads the keys; makes the first account when there is none.
pub(crate) async fn open(
    store: &Store,
    key_file: &Path,
    bootstrap: Bootstrap,
    now: Timestamp,
) -> Result<(MasterKey, Keys), Error> {
    let stored = read(store).await?;
    let master = MasterKey::open(key_file, stored.is_none())?;
    let sealer = Sealer::new(&master, Use::Secrets);
    let (account, rows) = match stored {
        Some(found) => found,
        None => {
            make_first(store, &sealer, bootstrap, now).await?;
            read(store).await?.ok_or_else(|| Error::Corrupt("the first account is not there".into()))?
        }
    };
    let keys = unseal(account, rows, &sealer, key_file)?;
    Ok((master, keys))
}

async fn read(store: &Store) -> Result<Option<(String, Vec<KeyRow>)>, Error> {
    store
        .read(|tx| match tables::first_account(tx)? {
            Some(account) => Ok(Some((account, tables::keys(tx)?))),
            None => Ok(None),
        })
        .await
}

async fn make_first(
    store: &Store,
    sealer: &Sealer,
    bootstrap: Bootstrap,
    now: Timestamp,
) -> Result<(), Error> {
    let (account, credentials) = bootstrap.complete()?;
    let row = KeyRow {
        sealed_secret: sealer.seal(&credentials.access_key_id, credentials.secret_access_key.as_bytes()),
        id: credentials.access_key_id,
        account: account.to_string(),
        user: ADMIN.to_owned(),
        created: now.as_millis(),
    };
    store.write(move |tx| Ok(tables::insert_first(tx, &row)?)).await
}

fn unseal(account: String, rows: Vec<KeyRow>, sealer: &Sealer, key_file: &Path) -> Result<Keys, Error> {
    let corrupt = |what: &str| Error::Corrupt(what.to_owned());
    let by_id = HashMap::new();
    let mut first = None;
    let created = Timestamp(rows.iter().map(|row| row.created).min().unwrap_or_default());
    for row in rows {
        let secret = sealer.open(&row.id, &row.sealed_secret).ok_or_else(|| {
            Error::Key(format!(
                "the key file {} is not the one that this database's secrets were sealed with",
                key_file.display()
            ))
        })?;
        let secret = String::from_utf8(secret).map_err(|_| corrupt("a secret is not text"))?;
        if first.is_none() && row.account == account {
            first = Some(Credentials {
                access_key_id: row.id.clone(),
                secret_access_key: secret.clone(),
                session_token: None,
                expires: None,
            });
        }
        let account = AccountId::parse(&row.account).ok_or_else(|| corrupt("an account id is malformed"))?;
        let caller = Caller::new(account, Principal::User { name: row.user });
        by_id.pin().insert(row.id, Key { caller, secret });
    }
    Ok(Keys {
        by_id,
        first: first.ok_or_else(|| corrupt("the first account has no key"))?,
        account: AccountId::parse(&account).ok_or_else(|| corrupt("an account id is malformed"))?,
        created,
    })
}
