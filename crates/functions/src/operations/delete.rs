//! DeleteFunction.

use std::sync::Arc;

use iam::Caller;

use super::key;
use crate::Error;
use crate::alias::Alias;
use crate::model::{FunctionRef, LATEST};
use crate::service::{Functions, Inner};
use crate::version::Function;

impl Functions {
    /// Lambda API: DeleteFunction; a qualifier deletes that version only; that there is none is no error. Calls under way run to their end.
    /// What was reserved or provisioned goes with it.
    pub async fn delete(&self, caller: &Caller, function: &FunctionRef) -> Result<(), Error> {
        self.inner.permit(caller, "DeleteFunction", function)?;
        let (inner, function) = (Arc::clone(&self.inner), function.clone());
        self.detached(async move { inner.delete(&function).await }).await
    }
}

/// A version that aliases lead to stays.
fn check_unnamed(function: &Function, number: &str) -> Result<(), Error> {
    let leads = |alias: &Alias| alias.versions().any(|version| version == number);
    let named = function.aliases.iter().filter(|(_, alias)| leads(alias));
    let names: Vec<&str> = named.map(|(name, _)| name.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(Error::Conflict(format!(
        "Unable to delete version because the following aliases reference it: [{}]",
        names.join(", ")
    )))
}

impl Inner {
    async fn delete(self: &Arc<Self>, function: &FunctionRef) -> Result<(), Error> {
        let key = key(function);
        let _lock = self.lock(&key).await;
        let old = self.function(function)?;
        let new = match function.qualifier.as_deref() {
            None => None,
            Some(LATEST) => {
                return Err(Error::Invalid(
                    "$LATEST version cannot be deleted without deleting the function.".into(),
                ));
            }
            Some(number) => {
                let parsed: u64 = number
                    .parse()
                    .map_err(|_| Error::Invalid("Deletion of aliases is not currently supported.".into()))?;
                if old.version(Some(number)).is_none() {
                    return Ok(());
                }
                check_unnamed(&old, number)?;
                let mut new = (*old).clone();
                new.published.remove(&parsed);
                new.urls.remove(number);
                new.concurrency.unprovision(parsed);
                new.events.configs.remove(number);
                Some(new)
            }
        };
        self.commit(&key, Some(&old), new).await
    }
}
