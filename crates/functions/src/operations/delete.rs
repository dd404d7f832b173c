//! DeleteFunction.

use std::sync::Arc;

use iam::Caller;

use super::{key, not_found};
use crate::Error;
use crate::model::{FunctionRef, LATEST};
use crate::service::{Functions, Inner};

impl Functions {
    /// Lambda API: DeleteFunction; a qualifier deletes that version only. Calls under way run to their end.
    /// What was reserved or provisioned goes with it.
    pub async fn delete(&self, caller: &Caller, function: &FunctionRef) -> Result<(), Error> {
        self.inner.permit(caller, "DeleteFunction", function)?;
        let (inner, function) = (Arc::clone(&self.inner), function.clone());
        self.detached(async move { inner.delete(&function).await }).await
    }
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
                let mut new = (*old).clone();
                let missing = || not_found(&self.arn(function));
                old.version(Some(number)).ok_or_else(missing)?;
                let number: u64 = number.parse().map_err(|_| missing())?;
                new.published.remove(&number);
                new.concurrency.unprovision(number);
                new.events.configs.remove(&number.to_string());
                Some(new)
            }
        };
        self.commit(&key, Some(&old), new).await
    }
}
