//! A function and its versions as memory holds them: immutable snapshots, replaced whole.
//!
//! A version has a *visible* configuration (what the API shows) and a *target* (what calls get). They differ while
//! a change is being prepared, and after one that failed: calls then still get what worked before. Both
//! are in the version's document, so that a restart changes nothing about it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use base::{FunctionArn, RequestId};
use sandbox::{Artifact, Isolation, Prepared, Speaks};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::alias::Alias;
use crate::asynchronous::Events;
use crate::concurrency::Concurrency;
use crate::layers::tree;
use crate::model::{Configuration, FunctionView, LATEST, Reason, State, UpdateStatus, UrlConfig};
use crate::permissions::Permissions;
use crate::pool::{Plan, Target};
use crate::settings::{self, Tags};
use crate::tables::Change;
use crate::vault::Vault;
use crate::{Error, domains};

/// A function.
#[derive(Clone)]
pub(crate) struct Function {
    /// Unqualified.
    pub(crate) arn: FunctionArn,
    /// All tags.
    pub(crate) tags: Tags,
    /// What the next published version is called. Only ever grows.
    pub(crate) next_version: u64,
    /// `$LATEST`.
    pub(crate) latest: Arc<Version>,
    /// Published versions.
    pub(crate) published: BTreeMap<u64, Arc<Version>>,
    /// Aliases, by name.
    pub(crate) aliases: BTreeMap<String, Arc<Alias>>,
    /// URLs, by the qualifier that calls get: `$LATEST`, a number or an alias.
    pub(crate) urls: BTreeMap<String, Arc<UrlConfig>>,
    /// Reserved and provisioned concurrency.
    pub(crate) concurrency: Concurrency,
    /// Its resource policies.
    pub(crate) permissions: Permissions,
    /// Asynchronous invokes.
    pub(crate) events: Events,
    /// The ARN of the configuration that says whose packages it takes.
    pub(crate) code_signing: Option<String>,
}

impl Function {
    /// The host names that its URL answers under besides its own.
    pub(crate) fn domains(&self) -> Vec<String> {
        // They were checked when the tag was set.
        domains::of(&self.tags).unwrap_or_default()
    }
}

/// One version.
#[derive(Clone)]
pub(crate) struct Version {
    /// What the API shows.
    pub(crate) configuration: Arc<Configuration>,
    /// What calls get where that is not the visible configuration.
    pub(crate) serving: Option<Arc<Configuration>>,
    /// What preparing the configuration that calls get came to.
    pub(crate) prepared: Option<Prepared>,
    /// The description that `$LATEST` had when this was published from it.
    pub(crate) source_description: Option<String>,
    /// What calls get; `None` while the version cannot be called.
    pub(crate) target: Option<Arc<Target>>,
}

/// The row of a function.
#[derive(Serialize, Deserialize)]
struct FunctionDocument {
    tags: Tags,
    next_version: u64,
    #[serde(default)]
    concurrency: Concurrency,
    #[serde(default, skip_serializing_if = "Permissions::is_empty")]
    permissions: Permissions,
    #[serde(default)]
    events: Events,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code_signing: Option<String>,
}

/// The row of a version.
#[derive(Serialize, Deserialize)]
struct VersionDocument {
    configuration: Configuration,
    /// The configuration's environment variables, which are not in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    serving: Option<Configuration>,
    /// As `environment`, of what is serving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    serving_environment: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prepared: Option<PreparedDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source_description: Option<String>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct PreparedDocument {
    http: bool,
    one_at_a_time: bool,
}

impl From<Prepared> for PreparedDocument {
    fn from(prepared: Prepared) -> Self {
        Self { http: prepared.speaks == Speaks::Http, one_at_a_time: prepared.one_at_a_time }
    }
}

impl From<PreparedDocument> for Prepared {
    fn from(document: PreparedDocument) -> Self {
        let speaks = if document.http { Speaks::Http } else { Speaks::Events };
        Self { speaks, one_at_a_time: document.one_at_a_time }
    }
}

/// What preparing a version came to.
pub(crate) struct Settled {
    /// With what was found out about its image.
    pub(crate) configuration: Configuration,
    pub(crate) prepared: Prepared,
    pub(crate) artifact: Artifact,
}

/// The artifact that a configuration names, unpacked in `folder`.
pub(crate) fn artifact(configuration: &Configuration, folder: PathBuf) -> Result<Artifact, Error> {
    let runtime = settings::parse_runtime(&configuration.runtime)?;
    Ok(Artifact {
        dir: folder,
        digest: configuration.code.digest.clone(),
        runtime: settings::effective_runtime(runtime, &configuration.settings),
        contract: configuration.settings.contract,
        handler: configuration.handler.clone(),
        layers: None,
        image: None,
    })
}

/// What a configuration needs to be kept: packages, and a tree of layers.
pub(crate) fn digests(configuration: &Configuration) -> impl Iterator<Item = String> {
    // An image that was not fetched yet has none.
    let own = Some(configuration.code.digest.clone()).filter(|digest| !digest.is_empty());
    own.into_iter().chain(tree::keys(&configuration.layers))
}

/// The rows of a function.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// Its own document.
    pub(crate) function: String,
    /// Its versions: number and document.
    pub(crate) versions: Vec<(String, String)>,
    /// Its aliases: name and document.
    pub(crate) aliases: Vec<(String, String)>,
    /// Its URLs: qualifier and document.
    pub(crate) urls: Vec<(String, String)>,
}

/// What reading a function from its rows needs.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    /// What a configuration runs.
    pub(crate) artifact: &'a dyn Fn(&Configuration) -> Result<Artifact, Error>,
    /// Opens its environment variables.
    pub(crate) vault: &'a Vault<'a>,
}

impl Version {
    /// A version that waits to be prepared, while calls get what they got before (`before`).
    pub(crate) fn pending(configuration: Configuration, before: Option<&Version>) -> Self {
        let before = before.filter(|version| version.target.is_some());
        Self {
            configuration: Arc::new(configuration),
            serving: before.map(|version| Arc::clone(version.served())),
            prepared: before.and_then(|version| version.prepared),
            source_description: None,
            target: before.and_then(|version| version.target.clone()),
        }
    }

    /// What calls get, if it can be called at all.
    pub(crate) fn served(&self) -> &Arc<Configuration> {
        self.serving.as_ref().unwrap_or(&self.configuration)
    }

    /// Whether the reconciler has work with it.
    pub(crate) fn unsettled(&self) -> bool {
        self.configuration.state == State::Pending
            || self.configuration.update_status == UpdateStatus::InProgress
    }

    /// Has the reconciler begin anew.
    fn fetch_again(&mut self) {
        let configuration = Arc::make_mut(&mut self.configuration);
        configuration.state = State::Pending;
        configuration.update_status = UpdateStatus::InProgress;
        (self.serving, self.prepared, self.target) = (None, None, None);
    }

    /// The version once preparing it has come to an end.
    pub(crate) fn settled(&self, arn: &FunctionArn, outcome: Result<Settled, Reason>) -> Self {
        let mut configuration = (*self.configuration).clone();
        match outcome {
            Ok(Settled { configuration: found, prepared, artifact }) => {
                configuration = found;
                configuration.state = State::Active;
                configuration.state_reason = None;
                configuration.update_status = UpdateStatus::Successful;
                configuration.update_reason = None;
                let configuration = Arc::new(configuration);
                let target = Target::new(arn, Arc::clone(&configuration), artifact, prepared);
                let target = target.after(self.target.as_deref());
                Self {
                    configuration,
                    serving: None,
                    prepared: Some(prepared),
                    source_description: self.source_description.clone(),
                    target: Some(Arc::new(target)),
                }
            }
            Err(reason) => {
                if self.target.is_none() {
                    configuration.state = State::Failed;
                    configuration.state_reason = Some(reason.clone());
                }
                configuration.update_status = UpdateStatus::Failed;
                configuration.update_reason = Some(reason);
                Self { configuration: Arc::new(configuration), ..self.clone() }
            }
        }
    }

    /// Digests of the packages that this version needs, its layers' and their tree's key among them.
    pub(crate) fn digests(&self) -> Vec<String> {
        [Some(&self.configuration), self.serving.as_ref()]
            .into_iter()
            .flatten()
            .flat_map(|it| digests(it))
            .collect()
    }

    fn to_document(&self, vault: &Vault<'_>) -> Result<String, Error> {
        let mut configuration = (*self.configuration).clone();
        let mut serving = self.serving.as_deref().cloned();
        let number = self.configuration.version.clone();
        let served = serving.as_mut().map(|serving| vault.seal(&number, &mut serving.environment));
        let document = VersionDocument {
            environment: vault.seal(&number, &mut configuration.environment)?,
            serving_environment: served.transpose()?.flatten(),
            configuration,
            serving,
            prepared: self.prepared.map(Into::into),
            source_description: self.source_description.clone(),
        };
        serde_json::to_string(&document).map_err(Error::internal)
    }

    /// The version, and whether its environment variables were not sealed.
    fn from_document(
        arn: &FunctionArn,
        number: &str,
        document: &str,
        from: Source<'_>,
    ) -> Result<(Self, bool), Error> {
        let mut document: VersionDocument = serde_json::from_str(document).map_err(Error::internal)?;
        let environment = &mut document.configuration.environment;
        let mut plain = from.vault.open(number, document.environment.as_deref(), environment)?;
        if let Some(serving) = &mut document.serving {
            let sealed = document.serving_environment.as_deref();
            plain |= from.vault.open(number, sealed, &mut serving.environment)?;
        }
        let mut version = Self {
            configuration: Arc::new(document.configuration),
            serving: document.serving.map(Arc::new),
            prepared: document.prepared.map(Into::into),
            source_description: document.source_description,
            target: None,
        };
        let callable = version.serving.is_some() || version.configuration.state == State::Active;
        if let (true, Some(prepared)) = (callable, version.prepared) {
            let served = Arc::clone(version.served());
            match (from.artifact)(&served) {
                Ok(artifact) => {
                    version.target = Some(Arc::new(Target::new(arn, served, artifact, prepared)));
                }
                // It is fetched again, and the version cannot be called before.
                Err(error) if served.image.is_some() => {
                    tracing::warn!(%arn, number, ?error, "the image of a version is not in the store any more");
                    version.fetch_again();
                }
                Err(error) => return Err(error),
            }
        }
        Ok((version, plain))
    }
}

impl Function {
    /// The version that a qualifier names; of an alias with two, the one that it has in its own name.
    pub(crate) fn version(&self, qualifier: Option<&str>) -> Option<&Arc<Version>> {
        match qualifier.and_then(|name| self.aliases.get(name)) {
            Some(alias) => self.numbered(Some(&alias.version)),
            None => self.numbered(qualifier),
        }
    }

    /// The version that a call of this id gets.
    pub(crate) fn drawn(&self, qualifier: Option<&str>, id: RequestId) -> Option<&Arc<Version>> {
        match qualifier.and_then(|name| self.aliases.get(name)) {
            Some(alias) => self.numbered(Some(alias.drawn(id))),
            None => self.numbered(qualifier),
        }
    }

    /// `$LATEST` or a published version.
    fn numbered(&self, number: Option<&str>) -> Option<&Arc<Version>> {
        match number {
            None | Some(LATEST) => Some(&self.latest),
            Some(number) => {
                let parsed: u64 = number.parse().ok().filter(|parsed: &u64| parsed.to_string() == number)?;
                self.published.get(&parsed)
            }
        }
    }

    /// Lets go of the policies of versions that are no more: a later one of the same name begins without.
    pub(crate) fn forget_policies(&mut self) {
        if !self.permissions.is_empty() {
            let mut permissions = std::mem::take(&mut self.permissions);
            permissions.keep(|qualifier| self.version(Some(qualifier)).is_some());
            self.permissions = permissions;
        }
    }

    /// `$LATEST` and the published versions in order.
    pub(crate) fn versions(&self) -> impl Iterator<Item = &Arc<Version>> {
        std::iter::once(&self.latest).chain(self.published.values())
    }

    /// One version as callers see it.
    pub(crate) fn view(&self, version: &Version, qualifier: Option<&str>) -> FunctionView {
        FunctionView {
            arn: FunctionArn { qualifier: qualifier.map(str::to_owned), ..self.arn.clone() },
            configuration: (*version.configuration).clone(),
        }
    }

    /// Every target that calls can reach.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.versions().filter_map(|version| version.target.as_ref())
    }

    /// What the database must change so that `new` follows `old`.
    pub(crate) fn change(old: Option<&Self>, new: &Self, vault: &Vault<'_>) -> Result<Change, Error> {
        let mut change =
            Change { account: new.arn.account.to_string(), name: new.arn.name.clone(), ..Change::default() };
        let same = |old: &Self| {
            (&old.tags, old.next_version, &old.concurrency, &old.permissions, &old.events, &old.code_signing)
                == (
                    &new.tags,
                    new.next_version,
                    &new.concurrency,
                    &new.permissions,
                    &new.events,
                    &new.code_signing,
                )
        };
        if !old.is_some_and(same) {
            let document = FunctionDocument {
                tags: new.tags.clone(),
                next_version: new.next_version,
                concurrency: new.concurrency.clone(),
                permissions: new.permissions.clone(),
                events: new.events.clone(),
                code_signing: new.code_signing.clone(),
            };
            change.function = Some(serde_json::to_string(&document).map_err(Error::internal)?);
        }
        for version in new.versions() {
            let number = &version.configuration.version;
            let before = old.and_then(|old| old.version(Some(number)));
            if before.is_none_or(|before| !Arc::ptr_eq(before, version)) {
                change.versions.push((number.clone(), version.to_document(vault)?));
            }
        }
        let gone = old
            .into_iter()
            .flat_map(|old| old.published.keys())
            .filter(|number| !new.published.contains_key(number));
        change.removed_versions = gone.map(u64::to_string).collect();
        let aliases = difference(old.map(|old| &old.aliases), &new.aliases)?;
        (change.aliases, change.removed_aliases) = (aliases.written, aliases.gone);
        let urls = difference(old.map(|old| &old.urls), &new.urls)?;
        let with_id = |(qualifier, row): (String, String)| {
            let id = new.urls.get(&qualifier).map(|url| url.id.clone()).unwrap_or_default();
            (qualifier, id, row)
        };
        change.urls = urls.written.into_iter().map(with_id).collect();
        change.removed_urls = urls.gone;
        Ok(change)
    }

    /// The rows of these versions, to be written again.
    pub(crate) fn rewritten(&self, numbers: &[String], vault: &Vault<'_>) -> Result<Change, Error> {
        let row = |number: &String| {
            let version = self.version(Some(number));
            version.map(|version| Ok((number.clone(), version.to_document(vault)?)))
        };
        let versions: Result<Vec<_>, Error> = numbers.iter().filter_map(row).collect();
        Ok(Change {
            account: self.arn.account.to_string(),
            name: self.arn.name.clone(),
            versions: versions?,
            ..Change::default()
        })
    }

    /// Reads a function from its rows. With it come the numbers of versions whose environment variables were not
    /// sealed.
    pub(crate) fn from_rows(
        arn: FunctionArn,
        rows: &Rows,
        from: Source<'_>,
    ) -> Result<(Self, Vec<String>), Error> {
        let FunctionDocument { tags, next_version, concurrency, permissions, events, code_signing } =
            serde_json::from_str(&rows.function).map_err(Error::internal)?;
        let (mut latest, mut published, mut unsealed) = (None, BTreeMap::new(), Vec::new());
        for (number, document) in &rows.versions {
            let (version, plain) = Version::from_document(&arn, number, document, from)?;
            let version = Arc::new(version);
            unsealed.extend(plain.then(|| number.clone()));
            if number == LATEST {
                latest = Some(version);
            } else {
                published.insert(number.parse().map_err(Error::internal)?, version);
            }
        }
        let latest = latest.ok_or_else(|| Error::internal(format!("{arn} has no {LATEST}")))?;
        let (aliases, urls) = (read(&rows.aliases)?, read(&rows.urls)?);
        let function = Self {
            arn,
            tags,
            next_version,
            latest,
            published,
            aliases,
            urls,
            concurrency,
            permissions,
            events,
            code_signing,
        };
        Ok((function, unsealed))
    }
}

/// What must change of rows that hold things by name.
struct Difference {
    /// Names and documents.
    written: Vec<(String, String)>,
    /// Names.
    gone: Vec<String>,
}

/// What brings the rows of the old things to the new ones.
fn difference<T: Serialize + PartialEq>(
    old: Option<&BTreeMap<String, Arc<T>>>,
    new: &BTreeMap<String, Arc<T>>,
) -> Result<Difference, Error> {
    let before = |name: &String| old.and_then(|old| old.get(name));
    let changed = new.iter().filter(|(name, thing)| before(name) != Some(thing));
    let row = |(name, thing): (&String, &Arc<T>)| Ok((name.clone(), serde_json::to_string(&**thing)?));
    let written: Result<_, serde_json::Error> = changed.map(row).collect();
    let gone = old.into_iter().flat_map(BTreeMap::keys).filter(|name| !new.contains_key(*name));
    Ok(Difference { written: written.map_err(Error::internal)?, gone: gone.cloned().collect() })
}

/// Things by name, read from their documents.
fn read<T: DeserializeOwned>(rows: &[(String, String)]) -> Result<BTreeMap<String, Arc<T>>, Error> {
    let thing = |(name, document): &(String, String)| {
        let read = serde_json::from_str(document).map_err(Error::internal);
        read.map(|thing| (name.clone(), Arc::new(thing)))
    };
    rows.iter().map(thing).collect()
}

impl Target {
    /// What calls of this version get.
    pub(crate) fn new(
        arn: &FunctionArn,
        configuration: Arc<Configuration>,
        artifact: Artifact,
        prepared: Prepared,
    ) -> Self {
        let arn = arn.qualified(&configuration.version);
        let shared = configuration.settings.isolation != Isolation::Process;
        Self::from_plan(Plan { arn, configuration, artifact, prepared, shared })
    }
}
