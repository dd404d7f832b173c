//! TagResource, UntagResource and ListTags. A `virga:` tag is a member of `$LATEST`'s configuration in other words:
//! changing one needs the same permission, changes the revision and is prepared like any update.

use std::collections::BTreeMap;
use std::sync::Arc;

use iam::Caller;

use super::{Asked, check_changeable, key, whole};
use crate::Error;
use crate::model::FunctionRef;
use crate::service::{Functions, Inner};
use crate::settings::{self, Tags};

impl Functions {
    /// Lambda API: TagResource.
    pub async fn tag(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        tags: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        self.inner.permit_tagging(caller, "TagResource", function, Some(&Asked::Set(&tags)))?;
        let function = whole(function)?;
        permit_settings(&self.inner, caller, &function, tags.keys())?;
        let inner = Arc::clone(&self.inner);
        self.detached(async move { inner.change_tags(&function, |all| all.extend(tags)).await }).await
    }

    /// Lambda API: UntagResource.
    pub async fn untag(&self, caller: &Caller, function: &FunctionRef, keys: &[String]) -> Result<(), Error> {
        self.inner.permit_tagging(caller, "UntagResource", function, Some(&Asked::Gone(keys)))?;
        let function = whole(function)?;
        permit_settings(&self.inner, caller, &function, keys.iter())?;
        let (inner, keys) = (Arc::clone(&self.inner), keys.to_vec());
        self.detached(async move {
            inner.change_tags(&function, |all| all.retain(|key, _| !keys.contains(key))).await
        })
        .await
    }

    /// Lambda API: ListTags.
    pub fn tags(&self, caller: &Caller, function: &FunctionRef) -> Result<BTreeMap<String, String>, Error> {
        let function = self.inner.permit_change(caller, "ListTags", function)?;
        Ok(self.inner.function(&function)?.tags.clone())
    }
}

fn permit_settings<'a>(
    inner: &Inner,
    caller: &Caller,
    function: &FunctionRef,
    mut keys: impl Iterator<Item = &'a String>,
) -> Result<(), Error> {
    if keys.any(|key| settings::is_ours(key)) {
        inner.permit(caller, "UpdateFunctionConfiguration", function)?;
    }
    Ok(())
}

impl Inner {
    async fn change_tags(
        self: &Arc<Self>,
        function: &FunctionRef,
        change: impl FnOnce(&mut Tags) + Send,
    ) -> Result<(), Error> {
        let key = key(function);
        let _lock = self.lock(&key).await;
        let old = self.function(function)?;
        let mut new = (*old).clone();
        change(&mut new.tags);
        settings::check_tags(&new.tags)?;
        let changes_latest = settings::of_settings(&old.tags) != settings::of_settings(&new.tags);
        if changes_latest {
            check_changeable(&old)?;
            self.change_latest(&mut new, |_| ()).await?;
        }
        self.commit(&key, Some(&old), Some(new)).await?;
        if changes_latest {
            self.queue.push(key);
        }
        Ok(())
    }
}
