//! Packages that are unpacked, against what their functions take.

use std::path::{Path, PathBuf};

use ::signing::Tree;

use super::decide::{Found, Known, Problem, decide, proved};
use super::model::{CodeSigningConfig, Signature, job_arn, parse_profile_version};
use crate::Error;
use crate::layers::AttachedLayer;
use crate::model::Configuration;
use crate::service::Inner;

/// The words of Lambda's two refusals (Lambda API: UpdateFunctionCode).
const INVALID: &str =
    "The code signature failed the integrity check, so the deployment is blocked whatever the policy says";
const FAILED: &str = "The code signature failed one or more of the validation checks for signature mismatch or expiry, and \
                      the code signing policy is set to ENFORCE, so the deployment is blocked";

impl Inner {
    /// Whether a function of this configuration takes a package, and whose signature that has. Without a configuration
    /// everything is taken, and nothing is read. `what` names the package in refusals.
    pub(crate) async fn check_signature(
        &self,
        config: Option<&str>,
        folder: PathBuf,
        what: &str,
    ) -> Result<Option<Signature>, Error> {
        let Some(arn) = config else { return Ok(None) };
        let config = self.code_signing_config_of(arn)?;
        let found = read(folder).await?;
        let (signature, problem) = decide(&found, &self.known(&found), &config, self.host.clock.now());
        match problem {
            None => {}
            Some(Problem::Broken(why)) => {
                return Err(Error::InvalidSignature(format!("{INVALID} ({what}: {why}).")));
            }
            Some(Problem::Untrusted(why)) if config.enforce => {
                return Err(Error::CodeVerificationFailed(format!("{FAILED} ({what}: {why}).")));
            }
            Some(Problem::Untrusted(why)) => {
                tracing::warn!(
                    config = arn,
                    package = what,
                    why,
                    "a package is deployed that is not trusted"
                );
            }
        }
        Ok(signature)
    }

    /// Whether a function takes its own package and its layers; notes whose signature the package has.
    pub(crate) async fn check_signatures(
        &self,
        config: Option<&str>,
        configuration: &mut Configuration,
    ) -> Result<(), Error> {
        configuration.signature = None;
        if configuration.image.is_none() {
            let folder = self.code.folder(&configuration.code.digest);
            configuration.signature = self.check_signature(config, folder, "the function's package").await?;
        }
        self.check_layer_signatures(config, &configuration.layers).await
    }

    /// Whether a function of this configuration takes its layers. Theirs is checked as its own package is.
    pub(crate) async fn check_layer_signatures(
        &self,
        config: Option<&str>,
        layers: &[AttachedLayer],
    ) -> Result<(), Error> {
        for layer in layers.iter().filter(|_| config.is_some()) {
            let folder = self.code.folder(&layer.code.digest);
            self.check_signature(config, folder, &layer.arn).await?;
        }
        Ok(())
    }

    /// Whose signature a package has, if it is one that holds by itself, whoever trusts it.
    pub(crate) async fn signature_of(&self, folder: &Path) -> Result<Option<Signature>, Error> {
        // Most have none, and then nothing is hashed.
        if !folder.join(::signing::FILE).exists() {
            return Ok(None);
        }
        let found = read(folder.to_owned()).await?;
        Ok(proved(&found, &self.known(&found)).ok())
    }

    /// The configuration that a function has. It cannot be removed while a function has it.
    fn code_signing_config_of(&self, arn: &str) -> Result<CodeSigningConfig, Error> {
        let found = super::model::parse_config(arn).and_then(|key| self.signing.configs.get(&key));
        found.ok_or_else(|| super::configs::missing(arn))
    }

    fn known(&self, found: &Found) -> Known {
        let Found::Signed { envelope, .. } = found else { return Known::default() };
        let statement = envelope.statement();
        let Some((account, name, number)) = parse_profile_version(&statement.profile_version_arn) else {
            return Known::default();
        };
        let job = statement.job_arn.rsplit('/').next().unwrap_or_default();
        // A job is its profile's account's.
        let named = statement.job_arn == job_arn(&self.host.region, &account, job);
        let revoked = !named || self.signing.revocations.get(&(account.clone(), job.to_owned())).is_some();
        // Whose ARN names another region was registered elsewhere.
        let arn = super::model::profile_arn(&self.host.region, &account, &name);
        let profile = self.signing.profiles.get(&(account, name));
        let Some(profile) = profile.filter(|_| statement.profile_version_arn == format!("{arn}/{number}"))
        else {
            return Known::default();
        };
        let version = profile.versions.into_iter().find(|version| version.version == number);
        Known { version, canceled: profile.canceled, revoked }
    }
}

/// Reads what lies in a package; hashes it only where there is something to compare.
async fn read(folder: PathBuf) -> Result<Found, Error> {
    let read = tokio::task::spawn_blocking(move || match Tree::signature_in(&folder) {
        Ok(None) => Ok(Found::Nothing),
        Ok(Some(envelope)) => {
            let tree = Tree::of_folder(&folder).map_err(Error::internal)?.digest();
            Ok(Found::Signed { envelope, tree })
        }
        Err(error @ ::signing::Error::Io(_)) => Err(Error::internal(error)),
        Err(error) => Ok(Found::Unreadable(error.to_string())),
    });
    read.await.map_err(Error::internal)?
}
