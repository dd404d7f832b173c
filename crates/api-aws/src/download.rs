//! `/_code/…`: the link that GetFunction gives for a function's package, and GetLayerVersion for a layer's.
//!
//! The link works for ten minutes and with the rights of the user who asked for it: whoever holds it can do
//! what that user could, with this one package. Its errors are S3's, because that is what clients expect
//! behind such a link.

use base::{AccountId, LayerArn, RequestId, Timestamp};
use functions::model::FunctionRef;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use iam::{Caller, Principal};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sandbox::Body;

use crate::failure::Failure;
use crate::protocol::{self, Protocol};
use crate::{Api, limits};

/// Where links begin.
pub(crate) const PREFIX: &str = "/_code/";

/// Whose package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noun {
    /// A version of a function.
    Function,
    /// A version of a layer.
    Layer,
}

/// What the paths of layers begin with: no account.
const LAYER: &str = "layer/";

/// Which package, and by whose right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    /// The account of the user.
    pub(crate) account: AccountId,
    /// The user who asked for the link.
    pub(crate) user: String,
    /// What it is of.
    pub(crate) noun: Noun,
    /// The account of the function or layer.
    pub(crate) owner: AccountId,
    /// Its name.
    pub(crate) name: String,
    /// `$LATEST` or a number.
    pub(crate) version: String,
}

impl Package {
    fn path(&self) -> String {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let Self { account, user, noun, owner, name, version } = self;
        let kind = if *noun == Noun::Layer { LAYER } else { "" };
        format!("{kind}{account}/{}/{owner}/{}/{}", encode(user), encode(name), encode(version))
    }

    fn parse(path: &str) -> Option<Self> {
        let (noun, path) = match path.strip_prefix(LAYER) {
            Some(path) => (Noun::Layer, path),
            None => (Noun::Function, path),
        };
        let mut pieces = path.split('/').map(|piece| percent_decode_str(piece).decode_utf8().ok());
        let mut next = || pieces.next().flatten().map(String::from).filter(|piece| !piece.is_empty());
        let package = Self {
            account: AccountId::parse(&next()?)?,
            user: next()?,
            noun,
            owner: AccountId::parse(&next()?)?,
            name: next()?,
            version: next()?,
        };
        pieces.next().is_none().then_some(package)
    }

    /// What the token is bound to.
    fn purpose(&self) -> String {
        format!("code/{}", self.path())
    }
}

/// A link that begins to run out now.
pub(crate) fn link(api: &Api, package: &Package, base_url: &str) -> String {
    let expires = Timestamp(api.clock.now().as_millis() + limits::LINK_LIFETIME_MS);
    let token = api.iam.sign_link(&package.purpose(), expires);
    let token = utf8_percent_encode(&token, NON_ALPHANUMERIC);
    format!("{base_url}{PREFIX}{}?Expires={}&Signature={token}", package.path(), expires.as_millis())
}

/// Answers a request for such a link.
pub(crate) async fn serve(api: &Api, head: &Parts, id: RequestId) -> Response<Body> {
    match package(api, head).await {
        Ok(zip) => protocol::answer(StatusCode::OK, "application/zip", zip),
        Err(failure) => Protocol::S3.refuse(&failure, id),
    }
}

async fn package(api: &Api, head: &Parts) -> Result<bytes::Bytes, Failure> {
    if head.method != Method::GET {
        return Err(Failure::new(
            "MethodNotAllowed",
            StatusCode::METHOD_NOT_ALLOWED,
            "The link is for GET only.",
        ));
    }
    let package = granted(api, head).ok_or_else(|| {
        Failure::new("AccessDenied", StatusCode::FORBIDDEN, "The link is not valid or has expired.")
    })?;
    let caller = Caller::new(package.account, Principal::User { name: package.user });
    let (account, name) = (package.owner, package.name);
    let found = match package.noun {
        Noun::Function => {
            let function = FunctionRef { account, name, qualifier: Some(package.version) };
            api.functions.package(&caller, &function).await
        }
        Noun::Layer => {
            let version = package.version.parse().ok();
            let layer = LayerArn { region: api.region.clone(), account, name, version };
            api.functions.layer_package(&caller, &layer).await
        }
    };
    found.map_err(|error| match error.kind() {
        base::Kind::NotFound => {
            Failure::new("NoSuchKey", StatusCode::NOT_FOUND, "The package is not there any more.")
        }
        base::Kind::Denied => Failure::new("AccessDenied", StatusCode::FORBIDDEN, "Access Denied"),
        _ => Failure::new("InternalError", StatusCode::INTERNAL_SERVER_ERROR, "The package cannot be read."),
    })
}

/// The package, if the token is for it.
fn granted(api: &Api, head: &Parts) -> Option<Package> {
    let package = Package::parse(head.uri.path().strip_prefix(PREFIX)?)?;
    let (mut expires, mut token) = (None, None);
    for (name, value) in form_urlencoded::parse(head.uri.query()?.as_bytes()) {
        match &*name {
            "Expires" => expires = value.parse().ok(),
            "Signature" => token = Some(value.into_owned()),
            _ => {}
        }
    }
    api.iam.check_link(&package.purpose(), Timestamp(expires?), &token?).then_some(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_which_package() {
        for noun in [Noun::Function, Noun::Layer] {
            let package = Package {
                account: AccountId::parse("111111111111").unwrap(),
                user: "a/b c".into(),
                noun,
                owner: AccountId::parse("222222222222").unwrap(),
                name: "hello".into(),
                version: "$LATEST".into(),
            };
            assert_eq!(Package::parse(&package.path()), Some(package));
        }
        for bad in
            ["", "x", "111111111111/u/222222222222/f", "111111111111/u/222222222222/f/1/2", "1/u/2/f/1"]
        {
            assert_eq!(Package::parse(bad), None, "{bad}");
        }
    }
}
