//! The nouns: a function, its configuration, its versions, its URL.

use std::collections::BTreeMap;

use base::{AccountId, FunctionArn, LayerArn, Timestamp};
use sandbox::{Contract, Egress, Isolation};
use serde::{Deserialize, Serialize};

use crate::concurrency::Provisioned;
use crate::file_systems::FileSystemConfig;
use crate::layers::AttachedLayer;
use crate::logging::{Logging, LoggingChange};
use crate::objects::ObjectRef;
use crate::signing::Signature;

/// The qualifier of the version that can still change.
pub const LATEST: &str = "$LATEST";

/// Which function, and which version of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FunctionRef {
    /// Whose.
    pub account: AccountId,
    /// Its name.
    pub name: String,
    /// `$LATEST`, a version's number or an alias; `None` means `$LATEST` too, but ARNs are answered as they were asked.
    pub qualifier: Option<String>,
}

/// Lambda's `State`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Being prepared; not yet callable.
    Pending,
    /// Callable.
    Active,
    /// Preparing it failed; the reason is beside it.
    Failed,
}

/// Lambda's `LastUpdateStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateStatus {
    /// The new code or configuration is being prepared; calls still get the old one.
    InProgress,
    /// In force.
    Successful,
    /// Preparing it failed; calls still get the old one.
    Failed,
}

/// A package as it was uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeRef {
    /// SHA-256 of the zip, 64 hexadecimal digits. Lambda's `CodeSha256` is the same in base64.
    pub digest: String,
    /// Bytes of the zip.
    pub size: u64,
}

/// A container image as the code of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageCode {
    /// The reference, as given.
    pub uri: String,
    /// The reference that means the very image that was fetched; `None` before it was.
    pub resolved: Option<String>,
    /// Of its manifest or index, 64 hexadecimal digits; `None` before it was fetched.
    pub digest: Option<String>,
    /// What the function says in place of the image.
    #[serde(default)]
    pub config: ImageConfig,
}

/// Lambda's `ImageConfig`: what is given replaces what the image says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `EntryPoint`
    pub entry_point: Option<Vec<String>>,
    /// `Command`
    pub command: Option<Vec<String>>,
    /// `WorkingDirectory`
    pub working_directory: Option<String>,
}

/// The code that a function is given.
#[derive(Debug, Clone)]
pub enum NewCode {
    /// A zip.
    Zip(bytes::Bytes),
    /// A zip in a store.
    Object(ObjectRef),
    /// A container image, by its reference.
    Image(String),
}

impl<T: Into<bytes::Bytes>> From<T> for NewCode {
    /// A zip.
    fn from(zip: T) -> Self {
        Self::Zip(zip.into())
    }
}

/// When a version's runtime is to change (Lambda API: PutRuntimeManagementConfig). Kept and answered: the interpreter is
/// the host's, and changes when its operator changes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuntimeManagement {
    /// Whenever there is a newer one.
    #[default]
    Auto,
    /// When the function is updated.
    FunctionUpdate,
    /// Never: the ARN of the one that is meant.
    Manual(String),
}

impl RuntimeManagement {
    /// Whether nothing was said.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What AWS's shapes cannot say, set by tags with the prefix `virga:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `virga:contract`
    pub contract: Contract,
    /// `virga:isolation`
    pub isolation: Isolation,
    /// `virga:memory`, MB; overrides `MemorySize` (and may be below its 128).
    pub memory_mb: Option<u32>,
    /// `virga:cpu`, hundredths of a core.
    pub cpu_hundredths: Option<u32>,
    /// `virga:soft-concurrency`: calls in flight per instance that scaling aims at.
    pub soft_concurrency: u32,
    /// `virga:hard-concurrency`: calls in flight per instance never exceeded.
    pub hard_concurrency: u32,
    /// `virga:idle-timeout`, seconds: how long an idle instance is kept, or at most so long while that is predicted.
    pub idle_timeout_s: u32,
    /// Whether `virga:idle-timeout` was given: instances are kept so long, whatever the past says.
    #[serde(default)]
    pub fixed_idle: bool,
    /// `virga:freeze`: whether idle instances are suspended.
    #[serde(default = "yes")]
    pub freeze: bool,
    /// `virga:template`: whether instances may begin as copies of one that has been initialised.
    #[serde(default = "yes")]
    pub template: bool,
    /// `virga:egress`
    pub egress: Egress,
    /// `virga:port`
    pub port: u16,
    /// `virga:async-timeout`: seconds that a call which nobody waits for may take, in place of `Timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub async_timeout_s: Option<u32>,
}

fn yes() -> bool {
    true
}

/// A version's configuration: mutable for `$LATEST`, frozen once published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// `$LATEST` or a number.
    pub version: String,
    /// Free text.
    pub description: String,
    /// The role's ARN, as given.
    pub role: String,
    /// Lambda's runtime identifier.
    pub runtime: String,
    /// The handler, as given.
    pub handler: String,
    /// Seconds.
    pub timeout_s: u32,
    /// `MemorySize`, MB.
    pub memory_mb: u32,
    /// MB of `/tmp`.
    pub ephemeral_mb: u32,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// How it logs.
    #[serde(default)]
    pub logging: Logging,
    /// Where it logs, if that is not its own group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_group: Option<String>,
    /// The code. Of an image, how it is kept here; nothing before it was fetched.
    pub code: CodeRef,
    /// Whose signature the code has, where that was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// The image, where the code is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageCode>,
    /// What it has of layers, the lowest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<AttachedLayer>,
    /// `SnapStart`: whether published versions begin as copies, whatever `virga:template` says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub snap_start: bool,
    /// `TracingConfig` `Active`: whether calls that bring no trace are sampled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub traced: bool,
    /// When its runtime is to change.
    #[serde(default, skip_serializing_if = "RuntimeManagement::is_default")]
    pub runtime_management: RuntimeManagement,
    /// Folders that it shares with other functions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file_systems: Vec<FileSystemConfig>,
    /// The `virga:` tags that its settings were made of, so that they can be brought back with it; `None` where an earlier
    /// server made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting_tags: Option<BTreeMap<String, String>>,
    /// From the `virga:` tags.
    pub settings: Settings,
    /// When it was last changed.
    pub last_modified: Timestamp,
    /// Changes with every change.
    pub revision_id: String,
    /// Whether it can be called.
    pub state: State,
    /// Why not, with Lambda's code (`Creating`, `InvalidRuntime`, …).
    pub state_reason: Option<Reason>,
    /// How the last change went.
    pub update_status: UpdateStatus,
    /// Why it failed.
    pub update_reason: Option<Reason>,
}

/// A code from Lambda's list and a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// For example `Creating`.
    pub code: String,
    /// For people.
    pub text: String,
}

impl Configuration {
    /// Whether its instances may begin as copies of an initialised one.
    pub fn has_template(&self) -> bool {
        self.settings.template || (self.snap_start && self.version != LATEST)
    }

    /// Seconds that a call may take: one that somebody waits for, or one that nobody does.
    pub fn timeout_of(&self, waited_for: bool) -> u32 {
        let own = self.settings.async_timeout_s.filter(|_| !waited_for);
        own.unwrap_or(self.timeout_s)
    }

    /// Bytes of memory an instance may hold.
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.settings.memory_mb.unwrap_or(self.memory_mb)) << 20
    }
}

/// One version of a function as callers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionView {
    /// Region, account and name; qualified the way the caller asked.
    pub arn: FunctionArn,
    /// The configuration.
    pub configuration: Configuration,
}

/// Whom AddPermission lets in, and to what (Lambda API: AddPermissionRequest).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    /// Its name in the policy.
    pub statement_id: String,
    /// `lambda:InvokeFunction`, …
    pub action: String,
    /// An account, an ARN, a service or `*`.
    pub principal: String,
    /// Only on behalf of this resource.
    pub source_arn: Option<String>,
    /// Only on behalf of this account's resources.
    pub source_account: Option<String>,
    /// Alexa's token.
    pub event_source_token: Option<String>,
    /// Only by URLs of this kind.
    pub url_auth: Option<UrlAuth>,
    /// Only by a URL, or only otherwise.
    pub via_url: Option<bool>,
    /// Only members of this organisation.
    pub principal_org: Option<String>,
    /// The policy must still be this one.
    pub revision_id: Option<String>,
}

/// A resource policy as callers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyView {
    /// JSON.
    pub document: String,
    /// Changes with every change.
    pub revision_id: String,
}

/// `AuthType` of a function URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UrlAuth {
    /// Public.
    #[serde(rename = "NONE")]
    None,
    /// Signed requests of those who may.
    #[serde(rename = "AWS_IAM")]
    AwsIam,
}

/// `InvokeMode` of a function URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum InvokeMode {
    /// The response is sent once the function has made the whole of it.
    #[default]
    #[serde(rename = "BUFFERED")]
    Buffered,
    /// Each piece is sent as the function makes it.
    #[serde(rename = "RESPONSE_STREAM")]
    ResponseStream,
}

/// CORS of a function URL (Lambda API: Cors).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Cors {
    /// Whether cookies may be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_credentials: Option<bool>,
    /// Request headers allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_headers: Vec<String>,
    /// Methods allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_methods: Vec<String>,
    /// Origins allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_origins: Vec<String>,
    /// Response headers a script may read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expose_headers: Vec<String>,
    /// Seconds a preflight answer may be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u32>,
}

/// A function's URL configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlConfig {
    /// The host label: 32 characters of a-z and 0-9, random.
    pub id: String,
    /// Who may call.
    pub auth: UrlAuth,
    /// CORS, where configured.
    pub cors: Option<Cors>,
    /// Whether responses stream.
    #[serde(default)]
    pub mode: InvokeMode,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub modified: Timestamp,
}

/// A URL configuration with the function it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlView {
    /// What it calls: the function, qualified but for `$LATEST`.
    pub function: FunctionArn,
    /// Its URL.
    pub url: UrlConfig,
}

/// The provisioned concurrency of one version or alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvisionedView {
    /// The version or alias (qualified).
    pub arn: FunctionArn,
    /// What was asked for, and how far it is.
    pub provisioned: Provisioned,
    /// When it was last asked for.
    pub modified: Timestamp,
}

/// A function as GetFunction answers it.
#[derive(Debug, Clone)]
pub struct FunctionDetails {
    /// The version that was asked for.
    pub view: FunctionView,
    /// All tags; `None` where the caller may not list them.
    pub tags: Option<BTreeMap<String, String>>,
    /// Calls that the function has for itself, and no more than those.
    pub reserved: Option<u32>,
}

/// What an account has and may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountSettings {
    /// Functions.
    pub functions: u64,
    /// Bytes of their packages, of every version, and of layers.
    pub code_bytes: u64,
    /// The most that these may be.
    pub code_bytes_limit: u64,
    /// The most bytes of a zip.
    pub zipped_limit: u64,
    /// The most bytes of a package unpacked.
    pub unzipped_limit: u64,
    /// Calls at once in all, of functions whose instances take one at a time.
    pub concurrency: u64,
    /// Those of them that no function has for itself.
    pub unreserved: u64,
}

/// Arguments of CreateFunction, checked for shape by the API layer.
#[derive(Debug, Clone)]
pub struct CreateFunction {
    /// Name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Role ARN.
    pub role: String,
    /// Runtime identifier.
    pub runtime: String,
    /// Handler.
    pub handler: String,
    /// Seconds.
    pub timeout_s: u32,
    /// MB.
    pub memory_mb: u32,
    /// MB of `/tmp`.
    pub ephemeral_mb: u32,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// How it logs, where that is not the default.
    pub logging: LoggingChange,
    /// Where it logs, if that is not its own group.
    pub log_group: Option<String>,
    /// Its code.
    pub code: NewCode,
    /// Layer versions, the lowest first.
    pub layers: Vec<LayerArn>,
    /// `SnapStart`
    pub snap_start: bool,
    /// `TracingConfig` `Active`
    pub traced: bool,
    /// Folders that it shares with other functions.
    pub file_systems: Vec<FileSystemConfig>,
    /// What it says in place of its image.
    pub image_config: ImageConfig,
    /// The ARN of the code signing configuration that says whose packages it takes.
    pub code_signing: Option<String>,
    /// All tags, `virga:` ones included.
    pub tags: BTreeMap<String, String>,
    /// Whether to publish version 1 too; the answer is then that version's.
    pub publish: bool,
}

/// Arguments of UpdateFunctionConfiguration: `None` leaves a member as it is.
#[derive(Debug, Clone, Default)]
pub struct UpdateConfiguration {
    /// Free text.
    pub description: Option<String>,
    /// Role ARN.
    pub role: Option<String>,
    /// Runtime identifier.
    pub runtime: Option<String>,
    /// Handler.
    pub handler: Option<String>,
    /// Seconds.
    pub timeout_s: Option<u32>,
    /// MB.
    pub memory_mb: Option<u32>,
    /// MB of `/tmp`.
    pub ephemeral_mb: Option<u32>,
    /// Environment variables, replaced as a whole.
    pub environment: Option<BTreeMap<String, String>>,
    /// How it logs.
    pub logging: LoggingChange,
    /// Where it logs.
    pub log_group: Option<String>,
    /// Layer versions, replaced as a whole.
    pub layers: Option<Vec<LayerArn>>,
    /// `SnapStart`
    pub snap_start: Option<bool>,
    /// `TracingConfig` `Active`
    pub traced: Option<bool>,
    /// Folders that it shares with others, replaced as a whole.
    pub file_systems: Option<Vec<FileSystemConfig>>,
    /// What an image function says in place of its image, replaced as a whole.
    pub image_config: Option<ImageConfig>,
    /// The change is made only if this is the current revision.
    pub revision_id: Option<String>,
}

/// Arguments of UpdateFunctionCode.
#[derive(Debug, Clone)]
pub struct UpdateCode {
    /// The new code, of the same kind as the old.
    pub code: NewCode,
    /// Check only.
    pub dry_run: bool,
    /// Whether to publish a version too.
    pub publish: bool,
    /// The change is made only if this is the current revision.
    pub revision_id: Option<String>,
}

/// What `$LATEST` was given back, and by what it got there.
#[derive(Debug, Clone)]
pub struct Restored {
    /// `$LATEST` as it is now.
    pub view: FunctionView,
    /// The version that it was like before, if one.
    pub from: Option<String>,
    /// The version that it is like now.
    pub to: String,
}

/// Arguments of PublishVersion.
#[derive(Debug, Clone, Default)]
pub struct PublishVersion {
    /// Published only if the code's digest (base64 SHA-256) is this.
    pub code_sha256: Option<String>,
    /// Replaces the description.
    pub description: Option<String>,
    /// Published only if this is the current revision.
    pub revision_id: Option<String>,
}

/// A page of a listing, in name order.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Give this back as `marker` for the next page; opaque.
    pub next_marker: Option<String>,
}
