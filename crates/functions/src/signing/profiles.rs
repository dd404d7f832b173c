//! Signing profiles (AWS Signer API: PutSigningProfile, GetSigningProfile, ListSigningProfiles, CancelSigningProfile,
//! RevokeSigningProfile, RevokeSignature). A profile is never forgotten: what it signed is to be explained later too.

use std::sync::Arc;

use ::signing::PublicKey;
use base::{InstanceId, Timestamp};
use iam::Caller;
use iam::policy::Context;

use super::configs::{cut, read_marker};
use super::model::{
    Profile, ProfileVersion, ProfileView, PutProfile, Revocation, Validity, job_arn, profile_arn,
};
use crate::model::Page;
use crate::service::{Functions, Inner};
use crate::{Error, limits};

/// Characters of a version.
const VERSION_CHARS: usize = 10;

impl Functions {
    /// AWS Signer API: PutSigningProfile. Under a name that is there already this is its next version; what the ones before
    /// have signed stays signed.
    pub async fn put_profile(&self, caller: &Caller, args: PutProfile) -> Result<ProfileView, Error> {
        let arn = self.inner.permit_profile(caller, "PutSigningProfile", &args.name)?;
        let public = PublicKey::parse(&args.public_key).map_err(|error| Error::Invalid(error.to_string()))?;
        let key = (caller.account.clone(), args.name.clone());
        let inner = Arc::clone(&self.inner);
        self.detached(async move {
            let _changing = inner.signing.changing.lock().await;
            let profiles = &inner.signing.profiles;
            let before = profiles.get(&key);
            if before.is_none() && profiles.count(&key.0) >= limits::SIGNING_PROFILES {
                return Err(too_many("signing profiles", limits::SIGNING_PROFILES));
            }
            let mut profile = before.unwrap_or(Profile { versions: Vec::new(), canceled: None });
            if profile.versions.len() >= limits::PROFILE_VERSIONS {
                return Err(too_many("versions of a signing profile", limits::PROFILE_VERSIONS));
            }
            profile.canceled = None;
            let version = ProfileVersion {
                version: InstanceId::random().as_str()[..VERSION_CHARS].to_owned(),
                public_key: public.to_line(),
                validity: args.validity.unwrap_or(Validity::DEFAULT),
                parameters: args.parameters,
                created: inner.host.clock.now(),
                revoked: None,
            };
            profile.versions.push(version.clone());
            profiles.put(&inner.store, &key, Some(profile)).await?;
            Ok(ProfileView { name: args.name, arn, current: version, canceled: None })
        })
        .await
    }

    /// AWS Signer API: GetSigningProfile.
    pub fn profile(&self, caller: &Caller, name: &str) -> Result<ProfileView, Error> {
        let arn = self.inner.permit_profile(caller, "GetSigningProfile", name)?;
        let found = self.inner.signing.profiles.get(&(caller.account.clone(), name.to_owned()));
        found.and_then(|profile| view(name, arn, &profile)).ok_or_else(|| missing(name))
    }

    /// AWS Signer API: ListSigningProfiles; `takes` filters.
    pub fn profiles(
        &self,
        caller: &Caller,
        marker: Option<&str>,
        max_items: usize,
        takes: impl Fn(&ProfileView) -> bool,
    ) -> Result<Page<ProfileView>, Error> {
        caller.check("signer:ListSigningProfiles", "*", None, &Context::default()).map_err(Error::Denied)?;
        let after = marker.map(read_marker).transpose()?;
        let account = &caller.account;
        let seen = |name: &str, profile: &Profile| {
            view(name, profile_arn(&self.inner.host.region, account, name), profile)
                .filter(|view| takes(view))
        };
        Ok(cut(self.inner.signing.profiles.page(account, after.as_deref(), max_items + 1, seen), max_items))
    }

    /// AWS Signer API: CancelSigningProfile: what is signed from now on counts no more.
    pub async fn cancel_profile(&self, caller: &Caller, name: &str) -> Result<(), Error> {
        self.inner.permit_profile(caller, "CancelSigningProfile", name)?;
        self.change_profile(caller, name, |profile, now| {
            profile.canceled.get_or_insert(now);
            Ok(())
        })
        .await
    }

    /// AWS Signer API: RevokeSigningProfile: what a version signed from `effective` on counts no more. A revocation can be
    /// made to reach further back, and is never taken back.
    pub async fn revoke_profile(
        &self,
        caller: &Caller,
        name: &str,
        version: &str,
        effective: Timestamp,
        reason: &str,
    ) -> Result<(), Error> {
        self.inner.permit_profile(caller, "RevokeSigningProfile", name)?;
        let (by, reason, number) = (caller.arn(), reason.to_owned(), version.to_owned());
        self.change_profile(caller, name, move |profile, now| {
            let found = profile.versions.iter_mut().find(|version| version.version == number);
            let version =
                found.ok_or_else(|| Error::NotFound(format!("There is no version {number} of it.")))?;
            let before = version.revoked.as_ref().map_or(effective, |revoked| revoked.effective);
            let effective = Timestamp(effective.as_millis().min(before.as_millis()));
            version.revoked = Some(Revocation { effective, at: now, by, reason });
            Ok(())
        })
        .await
    }

    /// AWS Signer API: RevokeSignature, by its job's id. Signatures are made elsewhere, so whether there is such a job is
    /// not asked.
    pub async fn revoke_signature(&self, caller: &Caller, job: &str, reason: &str) -> Result<(), Error> {
        let arn = job_arn(&self.inner.host.region, &caller.account, job);
        caller.check("signer:RevokeSignature", &arn, None, &Context::default()).map_err(Error::Denied)?;
        let key = (caller.account.clone(), job.to_owned());
        let (inner, by, reason) = (Arc::clone(&self.inner), caller.arn(), reason.to_owned());
        self.detached(async move {
            let _changing = inner.signing.changing.lock().await;
            let revocations = &inner.signing.revocations;
            if revocations.get(&key).is_some() {
                return Ok(());
            }
            if revocations.count(&key.0) >= limits::SIGNING_REVOCATIONS {
                return Err(too_many("revoked signatures", limits::SIGNING_REVOCATIONS));
            }
            let at = inner.host.clock.now();
            let revoked = Revocation { effective: at, at, by, reason };
            revocations.put(&inner.store, &key, Some(revoked)).await
        })
        .await
    }

    async fn change_profile(
        &self,
        caller: &Caller,
        name: &str,
        change: impl FnOnce(&mut Profile, Timestamp) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let key = (caller.account.clone(), name.to_owned());
        let inner = Arc::clone(&self.inner);
        self.detached(async move {
            let _changing = inner.signing.changing.lock().await;
            let mut profile = inner.signing.profiles.get(&key).ok_or_else(|| missing(&key.1))?;
            change(&mut profile, inner.host.clock.now())?;
            inner.signing.profiles.put(&inner.store, &key, Some(profile)).await
        })
        .await
    }
}

impl Inner {
    /// The ARN of a profile of the caller's account, if the caller may do this with it.
    fn permit_profile(&self, caller: &Caller, action: &str, name: &str) -> Result<String, Error> {
        let arn = profile_arn(&self.host.region, &caller.account, name);
        let action = ["signer:", action].concat();
        caller.check(&action, &arn, None, &Context::default()).map_err(Error::Denied)?;
        Ok(arn)
    }
}

fn view(name: &str, arn: String, profile: &Profile) -> Option<ProfileView> {
    // One without versions is never written.
    let current = profile.versions.last()?.clone();
    Some(ProfileView { name: name.to_owned(), arn, current, canceled: profile.canceled })
}

fn missing(name: &str) -> Error {
    Error::NotFound(format!("There is no signing profile {name}."))
}

fn too_many(what: &str, most: usize) -> Error {
    Error::Invalid(format!("There are {most} {what}, which is the most."))
}
