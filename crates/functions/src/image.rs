//! Container images as packages: what this crate needs of whoever fetches them, and what it makes of one.
//!
//! Fetching is another crate's, which speaks TLS and unpacks strangers' archives; the server brings it
//! ([`Images`]), so that this crate is built without it. An image is fetched when its function is prepared, and from then on
//! the function means that very image, by its digest. In the counts of `code` it is called [`key`].

use std::any::Any;
use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use base::AccountId;
use futures_util::future::BoxFuture;
use sandbox::{Artifact, Image, Runtime};

use crate::model::{Configuration, Reason};
use crate::settings::{self, Tags};
use crate::{Error, limits};

/// Fetches and keeps images. Ids are the store's own names: 64 hexadecimal digits.
pub trait Images: Send + Sync + 'static {
    /// Checks a reference without asking anybody.
    fn check(&self, uri: &str) -> Result<(), ImageError>;

    /// Fetches and unpacks an image for an account; with a `digest`, the one of this digest and no other. Accounts do not wait
    /// for each other. Dropping the future leaves nothing that is half done.
    fn pull<'a>(
        &'a self,
        account: &'a AccountId,
        uri: &'a str,
        digest: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Pulled, ImageError>>;

    /// An image that is there.
    fn find(&self, id: &str) -> Option<Unpacked>;

    /// How long instances have waited for bytes of an image that is not all there; `None` of another. Waits at the same
    /// time count once.
    fn waited(&self, id: &str) -> Option<Duration> {
        let _ = id;
        None
    }

    /// Removes an image unless a pull holds it. Blocking.
    fn remove(&self, id: &str);

    /// Removes every image but these. Once, at start, before anything is pulled. Blocking.
    fn sweep(&self, wanted: &HashSet<String>) -> Result<(), ImageError>;
}

/// An image on the disk, and what it says about its program.
#[derive(Debug, Clone, Default)]
pub struct Unpacked {
    /// Its files.
    pub root: PathBuf,
    /// `USER`
    pub user: String,
    /// `ENV`
    pub env: Vec<(String, String)>,
    /// `ENTRYPOINT`
    pub entry_point: Vec<String>,
    /// `CMD`
    pub command: Vec<String>,
    /// `WORKDIR`
    pub working_directory: String,
    /// `EXPOSE`, TCP alone.
    pub ports: Vec<u16>,
}

/// An image that was fetched.
pub struct Pulled {
    /// What the store calls it.
    pub id: String,
    /// Of its manifest or index, 64 hexadecimal digits.
    pub digest: String,
    /// The reference that means this very image.
    pub resolved: String,
    /// Bytes of its layers as they were sent.
    pub bytes: u64,
    /// Where it is.
    pub unpacked: Unpacked,
    /// As long as this is kept, the image is not removed.
    pub hold: Box<dyn Any + Send>,
}

/// Why there is no image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageError {
    /// Whose it is to mend.
    pub problem: ImageProblem,
    /// For the function's owner.
    pub text: String,
}

/// Whose it is to mend that there is no image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageProblem {
    /// The registry gives no access.
    Denied,
    /// There is none of this name.
    Missing,
    /// It is not what it says, or nothing that may run here.
    Invalid,
    /// The registry does not answer, or the host failed. Trying again may help.
    Unavailable,
}

impl ImageError {
    /// The owner's to mend.
    pub(crate) fn invalid(text: String) -> Self {
        Self { problem: ImageProblem::Invalid, text }
    }

    /// Lambda's `StateReasonCode`.
    pub(crate) fn reason(self) -> Reason {
        let code = match self.problem {
            ImageProblem::Denied => "ImageAccessDenied",
            ImageProblem::Missing => "ImageDeleted",
            ImageProblem::Invalid => "InvalidImage",
            ImageProblem::Unavailable => "InternalError",
        };
        // It may quote what a registry says, and is kept with the function.
        let mut text: String = self.text.chars().take(limits::REASON_CHARS).collect();
        // Sentences, as the other reasons are.
        if !text.ends_with('.') {
            text.push('.');
        }
        Reason { code: code.to_owned(), text }
    }
}

/// What an image is called by in the counts of packages.
pub(crate) fn key(id: &str) -> String {
    format!("{KEY}{id}")
}

/// The id of an image that is called so.
pub(crate) fn id_of(key: &str) -> Option<&str> {
    key.strip_prefix(KEY)
}

const KEY: &str = "image:";

/// The value of the tag `virga:contract` for a web server.
const HTTP: &str = "http";

/// What is run of an image, with what the function says itself in place of what the image says.
pub(crate) fn artifact(configuration: &Configuration, unpacked: Unpacked) -> Artifact {
    let given = configuration.image.as_ref().map(|image| image.config.clone()).unwrap_or_default();
    let command = match (&given.entry_point, given.command) {
        (_, Some(command)) => command,
        // As Docker does it: the image's command was for the image's entry point.
        (Some(_), None) => Vec::new(),
        (None, None) => unpacked.command,
    };
    // What Lambda's base images give their client.
    let handler = command.first().cloned().unwrap_or_default();
    let argv = given.entry_point.unwrap_or(unpacked.entry_point).into_iter().chain(command);
    let image = Image {
        argv: argv.collect(),
        working_directory: given.working_directory.unwrap_or(unpacked.working_directory),
        user: unpacked.user,
        env: unpacked.env,
    };
    Artifact {
        dir: unpacked.root,
        digest: id_of(&configuration.code.digest).unwrap_or_default().to_owned(),
        runtime: Runtime::Image,
        contract: configuration.settings.contract,
        handler,
        layers: None,
        image: Some(image.into()),
    }
}

/// The tags with what the image lets us guess where they do not say it: an image whose program is one of Lambda's
/// runtime clients asks for events, another that exposes a port is a web server.
pub(crate) fn guessed(tags: &Tags, artifact: &Artifact, ports: &[u16]) -> Tags {
    let mut tags = tags.clone();
    let argv = artifact.image.iter().flat_map(|image| &image.argv);
    let has_client = argv.clone().any(|argument| CLIENTS.iter().any(|client| argument.contains(client)));
    let is_server = match tags.get(settings::CONTRACT) {
        Some(contract) => contract == HTTP,
        None => !has_client && !ports.is_empty(),
    };
    if is_server {
        tags.insert(settings::CONTRACT.to_owned(), HTTP.to_owned());
        // One that takes `$PORT` takes this one too.
        let usual = ports.contains(&limits::PORT);
        if let Some(port) = ports.iter().find(|port| **port >= 1024).filter(|_| !usual) {
            tags.entry(settings::PORT.to_owned()).or_insert_with(|| port.to_string());
        }
    }
    tags
}

/// In the command line of an image that has a runtime interface client.
const CLIENTS: [&str; 5] =
    ["lambda-entrypoint", "awslambdaric", "aws-lambda-ric", "aws-lambda-rie", "lambda.runtime.api"];

/// What a zip function is told that is given what only images have, and the other way round.
pub(crate) fn check_kinds(is_image: bool, uri: bool, config: bool, runtime: bool) -> Result<(), Error> {
    let problem = match (is_image, uri, config, runtime) {
        (true, _, _, true) => {
            "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."
        }
        (false, true, ..) => "Please don't provide ImageUri when updating a function with packageType Zip.",
        (false, _, true, _) => {
            "Please don't provide ImageConfig when the intended function PackageType is Zip."
        }
        _ => return Ok(()),
    };
    Err(Error::Invalid(problem.to_owned()))
}

#[cfg(test)]
mod tests {
    use sandbox::Contract;

    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn guess(argv: &str, ports: &[u16], tags: &[(&str, &str)]) -> (Option<String>, Option<String>) {
        let image = Image {
            argv: words(argv),
            working_directory: String::new(),
            user: String::new(),
            env: Vec::new(),
        };
        let artifact = Artifact {
            dir: PathBuf::new(),
            digest: String::new(),
            runtime: Runtime::Image,
            contract: Contract::Lambda,
            handler: String::new(),
            layers: None,
            image: Some(image.into()),
        };
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let tags = guessed(&tags, &artifact, ports);
        (tags.get(settings::CONTRACT).cloned(), tags.get(settings::PORT).cloned())
    }

    #[test]
    fn reasons_are_bounded() {
        let text = ImageError::invalid("\u{e9}".repeat(1 << 20)).reason().text;
        assert_eq!(text.chars().count(), limits::REASON_CHARS + 1);
        assert!(text.ends_with("\u{e9}."));
    }

    #[test]
    fn what_an_image_is_shows() {
        let http = || Some("http".to_owned());
        assert_eq!(guess("/lambda-entrypoint.sh app.handler", &[8080], &[]), (None, None));
        assert_eq!(guess("python3 -m awslambdaric app.handler", &[], &[]), (None, None));
        assert_eq!(guess("/bootstrap", &[], &[]), (None, None), "a client of its own");
        assert_eq!(guess("node server.js", &[3000], &[]), (http(), Some("3000".to_owned())));
        assert_eq!(guess("server", &[3000, 8080], &[]), (http(), None));
        assert_eq!(guess("nginx", &[80], &[]), (http(), None));
        assert_eq!(guess("server", &[3000], &[("virga:contract", "lambda")]).0.as_deref(), Some("lambda"));
        assert_eq!(
            guess("server", &[3000], &[("virga:contract", "http"), ("virga:port", "5000")]),
            (http(), Some("5000".to_owned()))
        );
    }
}
