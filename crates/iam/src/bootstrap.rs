//! What the first account is made from when the database is new.

use std::fmt;

use base::AccountId;

use crate::{Credentials, Error, credentials};

/// What the first account is made from when the database is new; ignored afterwards.
#[derive(Clone, Default)]
pub struct Bootstrap {
    /// Generated where absent.
    pub access_key_id: Option<String>,
    /// Generated where absent.
    pub secret_access_key: Option<String>,
    /// Generated where absent.
    pub account: Option<AccountId>,
}

impl Bootstrap {
    /// The account and its first keys, with what is absent generated.
    pub(crate) fn complete(self) -> Result<(AccountId, Credentials), Error> {
        let id = self.access_key_id.unwrap_or_else(credentials::new_permanent_id);
        let secret = self.secret_access_key.unwrap_or_else(credentials::new_secret);
        check_id(&id)?;
        check_secret(&secret)?;
        let account = self.account.unwrap_or_else(AccountId::random);
        let credentials =
            Credentials { access_key_id: id, secret_access_key: secret, session_token: None, expires: None };
        Ok((account, credentials))
    }
}

impl fmt::Debug for Bootstrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bootstrap")
            .field("access_key_id", &self.access_key_id)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

/// IAM API: AccessKey, `AccessKeyId`: 16 to 128 of `[\w]`.
fn check_id(id: &str) -> Result<(), Error> {
    let legal = (16..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !legal {
        return Err(Error::Bootstrap(
            "the first access key id must be 16 to 128 letters, digits or underscores".into(),
        ));
    }
    if id.starts_with("ASIA") {
        return Err(Error::Bootstrap("an access key id that begins with ASIA is a session's".into()));
    }
    Ok(())
}

fn check_secret(secret: &str) -> Result<(), Error> {
    let legal = (8..=128).contains(&secret.len()) && secret.bytes().all(|b| b.is_ascii_graphic());
    if !legal {
        return Err(Error::Bootstrap(
            "the first secret access key must be 8 to 128 visible ASCII characters without spaces".into(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Bootstrap;

    fn refused(id: Option<&str>, secret: Option<&str>) -> bool {
        let bootstrap = Bootstrap {
            access_key_id: id.map(str::to_owned),
            secret_access_key: secret.map(str::to_owned),
            account: None,
        };
        bootstrap.complete().is_err()
    }

    #[test]
    fn takes_only_keys_that_clients_can_send() {
        assert!(!refused(None, None));
        assert!(!refused(Some("AKIAIOSFODNN7EXAMPLE"), Some("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")));
        for id in ["", "AKIASHORT", "AKIA/IOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7 EXAMPLE"]
        {
            assert!(refused(Some(id), None), "{id}");
        }
        for secret in ["", "seven77", "with a space", "line\nbreak", "ümlaut-secret"] {
            assert!(refused(None, Some(secret)), "{secret}");
        }
    }

    #[test]
    fn debug_hides_the_secret() {
        let bootstrap = Bootstrap { secret_access_key: Some("very-secret".into()), ..Bootstrap::default() };
        assert!(!format!("{bootstrap:?}").contains("very-secret"));
        let (_, credentials) = bootstrap.complete().unwrap();
        assert!(!format!("{credentials:?}").contains("very-secret"));
    }
}
