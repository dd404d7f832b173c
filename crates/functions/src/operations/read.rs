//! What is there: single versions and listings.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use iam::Caller;
use observe::{Calls, FunctionLabels};

use super::permit;
use crate::model::{FunctionDetails, FunctionRef, FunctionView, LATEST, Page};
use crate::service::Functions;
use crate::version::Function;
use crate::{Error, limits};

/// Where a page ended: a function's name and the number of a version of it, 0 for `$LATEST`.
type Cursor = (String, u64);

impl Functions {
    /// Lambda API: GetFunctionConfiguration.
    pub fn get(&self, caller: &Caller, function: &FunctionRef) -> Result<FunctionView, Error> {
        self.inner.permit(caller, "GetFunctionConfiguration", function)?;
        let (found, version) = self.inner.version(function)?;
        Ok(found.view(&version, function.qualifier.as_deref()))
    }

    /// What became of the calls of a version since the server started; of an alias, of the version in its own name.
    pub fn calls(&self, caller: &Caller, function: &FunctionRef) -> Result<Calls, Error> {
        self.inner.permit(caller, "GetFunctionConfiguration", function)?;
        let (found, version) = self.inner.version(function)?;
        Ok(self.inner.host.metrics.calls(&FunctionLabels {
            account: found.arn.account.to_string(),
            function: found.arn.name.clone(),
            version: version.configuration.version.clone(),
        }))
    }

    /// Lambda API: GetFunction. Tags need the permission to list them.
    pub fn describe(&self, caller: &Caller, function: &FunctionRef) -> Result<FunctionDetails, Error> {
        self.inner.permit(caller, "GetFunction", function)?;
        let (found, version) = self.inner.version(function)?;
        let lists_tags = permit(caller, "ListTags", &found.arn.to_string()).is_ok();
        Ok(FunctionDetails {
            view: found.view(&version, function.qualifier.as_deref()),
            tags: lists_tags.then(|| found.tags.clone()),
            reserved: found.concurrency.reserved,
        })
    }

    /// The package of a version, as it was uploaded.
    pub async fn package(&self, caller: &Caller, function: &FunctionRef) -> Result<Bytes, Error> {
        self.inner.permit(caller, "GetFunction", function)?;
        let (_, version) = self.inner.version(function)?;
        if version.configuration.image.is_some() {
            return Err(Error::NotFound("The code of this function is an image, not a package.".into()));
        }
        self.inner.code.package(&version.configuration.code.digest).await
    }

    /// Lambda API: ListFunctions, `$LATEST` of each; with `all_versions`, every version.
    pub fn list(
        &self,
        caller: &Caller,
        all_versions: bool,
        marker: Option<&str>,
        max_items: usize,
    ) -> Result<Page<FunctionView>, Error> {
        permit(caller, "ListFunctions", "*")?;
        let limit = page_size(max_items);
        let cursor = marker.map(read_marker).transpose()?;
        let mut found: Vec<(Cursor, FunctionView)> = Vec::new();
        if let (true, Some((name, number))) = (all_versions, &cursor) {
            let rest = self.inner.registry.get(&(caller.account.clone(), name.clone()));
            found.extend(rest.iter().flat_map(all).filter(|((_, at), _)| at > number));
        }
        let after = cursor.as_ref().map(|(name, _)| name.as_str());
        for function in self.inner.registry.page(&caller.account, after, limit + 1) {
            if found.len() > limit {
                break;
            }
            if all_versions {
                found.extend(all(&function));
            } else {
                found.push(((function.arn.name.clone(), 0), function.view(&function.latest, None)));
            }
        }
        Ok(cut(found, limit))
    }

    /// Lambda API: ListVersionsByFunction, `$LATEST` first.
    pub fn versions(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        marker: Option<&str>,
        max_items: usize,
    ) -> Result<Page<FunctionView>, Error> {
        self.inner.permit(caller, "ListVersionsByFunction", function)?;
        let found = self.inner.function(function)?;
        let cursor = marker.map(read_marker).transpose()?;
        let rest = all(&found).filter(|((_, at), _)| cursor.as_ref().is_none_or(|(_, number)| at > number));
        let limit = page_size(max_items);
        Ok(cut(rest.take(limit + 1).collect(), limit))
    }
}

/// Every version of a function with its place in listings, qualified.
fn all(function: &Arc<Function>) -> impl Iterator<Item = (Cursor, FunctionView)> {
    let name = &function.arn.name;
    let latest = ((name.clone(), 0), function.view(&function.latest, Some(LATEST)));
    let published = function.published.iter().map(move |(number, version)| {
        ((name.clone(), *number), function.view(version, Some(&number.to_string())))
    });
    std::iter::once(latest).chain(published)
}

fn page_size(max_items: usize) -> usize {
    if max_items == 0 { limits::PAGE_ITEMS } else { max_items.min(limits::PAGE_ITEMS) }
}

fn cut(mut found: Vec<(Cursor, FunctionView)>, limit: usize) -> Page<FunctionView> {
    let more = found.len() > limit;
    found.truncate(limit);
    let next_marker = found
        .last()
        .filter(|_| more)
        .map(|((name, number), _)| URL_SAFE_NO_PAD.encode(format!("{number}/{name}")));
    Page { items: found.into_iter().map(|(_, view)| view).collect(), next_marker }
}

fn read_marker(marker: &str) -> Result<Cursor, Error> {
    let text = URL_SAFE_NO_PAD.decode(marker).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let cursor = text.as_deref().and_then(|text| {
        let (number, name) = text.split_once('/')?;
        Some((name.to_owned(), number.parse().ok()?))
    });
    cursor.ok_or_else(|| Error::Invalid("The marker was not made by this listing.".into()))
}
