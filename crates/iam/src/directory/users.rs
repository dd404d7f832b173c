//! Users, as far as there are any: each account's `admin`.

use base::{AccountId, Timestamp};
use sha2::{Digest, Sha256};

use super::Error;
use super::roles::permit;
use crate::caller::ADMIN;
use crate::{Caller, Iam, Principal};

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// `AIDA…`
    pub id: String,
    /// `arn:aws:iam::…:user/…`
    pub arn: String,
    /// When it was made.
    pub created: Timestamp,
}

impl Iam {
    /// IAM API: GetUser; without a name the caller.
    pub fn get_user(&self, caller: &Caller, name: Option<&str>) -> Result<User, Error> {
        let name = match (name, &caller.principal) {
            (Some(name), _) => name,
            (None, Principal::User { name }) => name,
            (None, Principal::Session(_)) => {
                return Err(Error::Invalid(
                    "Must specify userName when calling with non-User credentials".into(),
                ));
            }
        };
        permit(caller, "iam:GetUser", &arn(&caller.account, name))?;
        if name != ADMIN {
            return Err(Error::NoSuchEntity(format!("The user with name {name} cannot be found.")));
        }
        Ok(self.admin(&caller.account))
    }

    /// IAM API: ListUsers.
    pub fn list_users(&self, caller: &Caller) -> Result<Vec<User>, Error> {
        permit(caller, "iam:ListUsers", &arn(&caller.account, ""))?;
        Ok(vec![self.admin(&caller.account)])
    }

    /// Whether the caller may do what is on nothing in particular.
    pub fn check(&self, caller: &Caller, action: &str) -> Result<(), Error> {
        permit(caller, action, "*")
    }

    fn admin(&self, account: &AccountId) -> User {
        let created = self.verifier.keys.created;
        User { name: ADMIN.to_owned(), id: user_id(account, ADMIN), arn: arn(account, ADMIN), created }
    }
}

fn arn(account: &AccountId, name: &str) -> String {
    format!("arn:aws:iam::{account}:user/{name}")
}

/// A user's unique id: the same each time, since a name is not used twice yet.
pub(crate) fn user_id(account: &AccountId, name: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest = Sha256::digest(format!("{account}/{name}"));
    let letters = digest.iter().take(17).map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
    "AIDA".chars().chain(letters).collect()
}
