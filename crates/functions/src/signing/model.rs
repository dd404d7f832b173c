//! The nouns of code signing.

use std::collections::BTreeMap;

use base::{AccountId, Region, Timestamp};
use serde::{Deserialize, Serialize};

/// Whose packages functions take (Lambda API: CodeSigningConfig).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeSigningConfig {
    /// Free text.
    pub description: String,
    /// ARNs of signing profiles, or of versions of them.
    pub publishers: Vec<String>,
    /// Whether what they did not sign is refused, rather than warned of.
    pub enforce: bool,
    /// When it was last changed.
    pub modified: Timestamp,
}

/// A configuration with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeSigningConfigView {
    /// `csc-…`
    pub id: String,
    /// Its ARN.
    pub arn: String,
    /// What it says.
    pub config: CodeSigningConfig,
}

/// Arguments of CreateCodeSigningConfig and UpdateCodeSigningConfig: `None` leaves a member as it is.
#[derive(Debug, Clone, Default)]
pub struct CodeSigningConfigChange {
    /// Free text.
    pub description: Option<String>,
    /// ARNs, 1 to 20.
    pub publishers: Option<Vec<String>>,
    /// Whether what they did not sign is refused.
    pub enforce: Option<bool>,
}

/// Whose signature a package has (Lambda API: FunctionConfiguration, `SigningProfileVersionArn` and `SigningJobArn`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The version of a profile whose key signed.
    pub profile_version_arn: String,
    /// Names the one signature.
    pub job_arn: String,
}

/// The unit of a validity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ValidityUnit {
    /// 24 hours.
    Days,
    /// 30 days.
    Months,
    /// 365 days.
    Years,
}

/// How long a signature is to be trusted (AWS Signer API: SignatureValidityPeriod).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validity {
    /// So many.
    pub value: u32,
    /// Of these.
    pub unit: ValidityUnit,
}

impl Validity {
    /// What AWS Signer has where nothing is said.
    pub const DEFAULT: Self = Self { value: 135, unit: ValidityUnit::Months };

    /// Milliseconds.
    pub fn as_millis(self) -> i64 {
        let days: i64 = match self.unit {
            ValidityUnit::Days => 1,
            ValidityUnit::Months => 30,
            ValidityUnit::Years => 365,
        };
        i64::from(self.value) * days * 86_400_000
    }
}

/// Signatures that are not to be trusted any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Those made from then on.
    pub effective: Timestamp,
    /// When that was said.
    pub at: Timestamp,
    /// By whom: an ARN.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// One key under a profile's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileVersion {
    /// Ten letters and digits.
    pub version: String,
    /// Who checks: the key in one line.
    pub public_key: String,
    /// How long its signatures are trusted.
    pub validity: Validity,
    /// Whatever else its owner noted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// When it was registered.
    pub created: Timestamp,
    /// Whether its signatures count no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revocation>,
}

/// A name with the keys that it has had, the last one last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Profile {
    pub(crate) versions: Vec<ProfileVersion>,
    /// Since when nothing is signed in its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) canceled: Option<Timestamp>,
}

/// A profile as callers see it: with its current version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileView {
    /// Its name.
    pub name: String,
    /// Its ARN, of no version.
    pub arn: String,
    /// The current version.
    pub current: ProfileVersion,
    /// Since when nothing is signed in its name.
    pub canceled: Option<Timestamp>,
}

impl ProfileView {
    /// The ARN of the current version.
    pub fn version_arn(&self) -> String {
        format!("{}/{}", self.arn, self.current.version)
    }
}

/// Arguments of PutSigningProfile, checked for shape by the API layer.
#[derive(Debug, Clone)]
pub struct PutProfile {
    /// Letters, digits and `_`.
    pub name: String,
    /// PEM, or what is in it.
    pub public_key: String,
    /// How long signatures are trusted.
    pub validity: Option<Validity>,
    /// Whatever else.
    pub parameters: BTreeMap<String, String>,
}

/// `arn:aws:signer:REGION:ACCOUNT:/signing-profiles/NAME`
pub(super) fn profile_arn(region: &Region, account: &AccountId, name: &str) -> String {
    format!("arn:aws:signer:{region}:{account}:/signing-profiles/{name}")
}

/// `arn:aws:signer:REGION:ACCOUNT:/signing-jobs/ID`
pub(super) fn job_arn(region: &Region, account: &AccountId, id: &str) -> String {
    format!("arn:aws:signer:{region}:{account}:/signing-jobs/{id}")
}

/// `arn:aws:lambda:REGION:ACCOUNT:code-signing-config:ID`
pub(super) fn config_arn(region: &Region, account: &AccountId, id: &str) -> String {
    format!("arn:aws:lambda:{region}:{account}:code-signing-config:{id}")
}

/// Account and id of a configuration, by its ARN.
pub(super) fn parse_config(arn: &str) -> Option<(AccountId, String)> {
    let mut parts = arn.split(':');
    let fixed = [parts.next()?, parts.next()?, parts.next()?];
    let (_region, account) = (parts.next()?, AccountId::parse(parts.next()?)?);
    let kind = parts.next()?;
    let id = parts.next()?.to_owned();
    (fixed == ["arn", "aws", "lambda"] && kind == "code-signing-config" && parts.next().is_none())
        .then_some((account, id))
}

/// Account, name and version of a profile, by the ARN of one of its versions.
pub(super) fn parse_profile_version(arn: &str) -> Option<(AccountId, String, String)> {
    let mut parts = arn.splitn(6, ':');
    let fixed = [parts.next()?, parts.next()?, parts.next()?];
    let (_region, account) = (parts.next()?, AccountId::parse(parts.next()?)?);
    let (name, version) = parts.next()?.strip_prefix("/signing-profiles/")?.split_once('/')?;
    (fixed == ["arn", "aws", "signer"] && !name.is_empty() && !version.is_empty() && !version.contains('/'))
        .then(|| (account, name.to_owned(), version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_are_read_as_they_are_written() {
        let (region, account) = (Region::default(), AccountId::parse("123456789012").unwrap());
        let version = format!("{}/abcdefghij", profile_arn(&region, &account, "us"));
        let read = parse_profile_version(&version);
        assert_eq!(read, Some((account.clone(), "us".to_owned(), "abcdefghij".to_owned())));
        assert_eq!(parse_profile_version(&profile_arn(&region, &account, "us")), None);
        assert_eq!(parse_profile_version(&format!("{version}/more")), None);
        let config = config_arn(&region, &account, "csc-1");
        assert_eq!(parse_config(&config), Some((account, "csc-1".to_owned())));
        assert_eq!(parse_config(&format!("{config}:2")), None);
    }

    #[test]
    fn a_validity_is_a_time() {
        assert_eq!(Validity { value: 2, unit: ValidityUnit::Days }.as_millis(), 172_800_000);
        assert_eq!(Validity::DEFAULT.as_millis(), 135 * 30 * 86_400_000);
    }
}
