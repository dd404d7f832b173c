//! Environment variables on their way to and from the database: sealed, since they hold people's secrets.
//!
//! What is sealed opens only for the same version of the same function. Rows of before there was sealing are read as
//! they are; [`Vault::open`] tells, and whoever loads them writes them again.

use std::collections::BTreeMap;

use base::FunctionArn;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use iam::Iam;

use crate::Error;

/// Environment variables.
pub(crate) type Variables = BTreeMap<String, String>;

/// Seals and opens.
pub(crate) struct Vault<'a> {
    iam: &'a Iam,
    arn: &'a FunctionArn,
}

impl<'a> Vault<'a> {
    /// For one function, whatever its ARN's qualifier.
    pub(crate) fn new(iam: &'a Iam, arn: &'a FunctionArn) -> Self {
        Self { iam, arn }
    }

    /// Moves the variables out of what is about to be written; what is to be written in their place.
    pub(crate) fn seal(&self, version: &str, variables: &mut Variables) -> Result<Option<String>, Error> {
        if variables.is_empty() {
            return Ok(None);
        }
        let plain = serde_json::to_vec(&std::mem::take(variables)).map_err(Error::internal)?;
        Ok(Some(STANDARD.encode(self.iam.seal_environment(&self.context(version), &plain))))
    }

    /// Moves them back. `true`: they were not sealed.
    pub(crate) fn open(
        &self,
        version: &str,
        sealed: Option<&str>,
        variables: &mut Variables,
    ) -> Result<bool, Error> {
        let Some(sealed) = sealed else { return Ok(!variables.is_empty()) };
        let bytes = STANDARD.decode(sealed).map_err(Error::internal)?;
        let opened = self.iam.open_environment(&self.context(version), &bytes);
        let opened = opened.ok_or_else(|| {
            Error::internal(format!(
                "the environment variables of {}:{version} were sealed with another key",
                self.arn.name
            ))
        })?;
        *variables = serde_json::from_slice(&opened).map_err(Error::internal)?;
        Ok(false)
    }

    /// Neither names nor numbers have a slash.
    fn context(&self, version: &str) -> String {
        format!("{}/{}/{version}", self.arn.account, self.arn.name)
    }
}
