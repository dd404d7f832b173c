//! Invoke with `Event`, what an owner says about such invokes, recursion, and what there is to be seen of events.

use std::collections::HashMap;
use std::sync::Arc;

use base::{AccountId, FunctionArn, Timestamp};
use iam::Caller;

use super::{key, not_found};
use crate::asynchronous::{
    self, Backlog, Destination, EVENTS, EventConfig, EventConfigChange, FAILED_EVENTS, check_destination,
    lineage,
};
use crate::model::{FunctionRef, LATEST, Page};
use crate::registry::Key;
use crate::service::{Functions, Inner, Invoke};
use crate::version::Function;
use crate::{Error, invoke};

impl Functions {
    /// Lambda API: Invoke, `Event`. `Ok` means that the event is on the disk: it will run at least once, or be found at a
    /// destination or in the list of failed events.
    pub async fn invoke_later(&self, caller: &Caller, call: Invoke) -> Result<(), Error> {
        let Invoke { id, function, payload, client_context, trace_id, .. } = call;
        self.inner.permit(caller, "InvokeFunction", &function)?;
        let (found, version) = self.inner.version(&function)?;
        asynchronous::check_size(&payload)?;
        let payload = invoke::check_event(payload)?;
        let trace = invoke::trace(trace_id, version.configuration.traced);
        let accepted = asynchronous::Accepted { id, function, payload, context: client_context, trace };
        self.inner.accept(&found, accepted).await
    }

    /// Lambda API: PutFunctionEventInvokeConfig (`keep` is false: what is not given is as if never said) and
    /// UpdateFunctionEventInvokeConfig.
    pub async fn configure_events(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        change: EventConfigChange,
        keep: bool,
    ) -> Result<(FunctionArn, EventConfig), Error> {
        let action = if keep { "UpdateFunctionEventInvokeConfig" } else { "PutFunctionEventInvokeConfig" };
        self.inner.permit(caller, action, function)?;
        let named = function.clone();
        let config = self
            .change_events(function, move |inner, old, new| {
                for arn in [&change.on_success, &change.on_failure].into_iter().flatten() {
                    inner.check_exists(arn, old, named.qualifier.as_deref())?;
                }
                let now = inner.host.clock.now();
                let qualifier = qualifier(&named);
                let before = match (keep, old.events.configs.get(qualifier)) {
                    (false, _) => EventConfig::default(),
                    (true, Some(config)) => config.clone(),
                    (true, None) => return Err(no_config(&old.arn.qualified(qualifier))),
                };
                let config = change.apply(before, now);
                new.events.configs.insert(qualifier.to_owned(), config.clone());
                Ok(config)
            })
            .await?;
        Ok((self.qualified(function), config))
    }

    /// Lambda API: GetFunctionEventInvokeConfig.
    pub fn event_config(
        &self,
        caller: &Caller,
        function: &FunctionRef,
    ) -> Result<(FunctionArn, EventConfig), Error> {
        self.inner.permit(caller, "GetFunctionEventInvokeConfig", function)?;
        let (found, _) = self.inner.version(function)?;
        let arn = self.qualified(function);
        let config = found.events.configs.get(qualifier(function)).cloned();
        config.map(|config| (arn.clone(), config)).ok_or_else(|| no_config(&arn))
    }

    /// Lambda API: DeleteFunctionEventInvokeConfig.
    pub async fn forget_event_config(&self, caller: &Caller, function: &FunctionRef) -> Result<(), Error> {
        self.inner.permit(caller, "DeleteFunctionEventInvokeConfig", function)?;
        let named = function.clone();
        self.change_events(function, move |_, old, new| {
            let qualifier = qualifier(&named);
            let gone = new.events.configs.remove(qualifier);
            gone.map(drop).ok_or_else(|| no_config(&old.arn.qualified(qualifier)))
        })
        .await
    }

    /// Lambda API: ListFunctionEventInvokeConfigs, in the order of qualifiers.
    pub fn event_configs(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        marker: Option<&str>,
        max_items: usize,
    ) -> Result<Page<(FunctionArn, EventConfig)>, Error> {
        let function = self.inner.permit_change(caller, "ListFunctionEventInvokeConfigs", function)?;
        let found = self.inner.function(&function)?;
        let after = marker.unwrap_or_default();
        let mut rest = found.events.configs.iter().filter(|(qualifier, _)| qualifier.as_str() > after);
        let items: Vec<_> = rest.by_ref().take(max_items).collect();
        let more = rest.next().is_some();
        let next_marker = items.last().filter(|_| more).map(|(qualifier, _)| (*qualifier).clone());
        let item =
            |(qualifier, config): (&String, &EventConfig)| (found.arn.qualified(qualifier), config.clone());
        Ok(Page { items: items.into_iter().map(item).collect(), next_marker })
    }

    /// Lambda API: PutFunctionRecursionConfig; whether circles are let run.
    pub async fn allow_recursion(
        &self,
        caller: &Caller,
        function: &FunctionRef,
        allow: bool,
    ) -> Result<(), Error> {
        let function = self.inner.permit_change(caller, "PutFunctionRecursionConfig", function)?;
        self.change_events(&function, move |_, _, new| {
            new.events.allow_loops = allow;
            Ok(())
        })
        .await
    }

    /// Lambda API: GetFunctionRecursionConfig.
    pub fn recursion(&self, caller: &Caller, function: &FunctionRef) -> Result<bool, Error> {
        let function = self.inner.permit_change(caller, "GetFunctionRecursionConfig", function)?;
        Ok(self.inner.function(&function)?.events.allow_loops)
    }

    /// What there is to be seen of events, by function.
    pub fn backlogs(&self) -> Vec<Backlog> {
        self.inner.backlogs()
    }

    async fn change_events<T: Send + 'static>(
        &self,
        function: &FunctionRef,
        change: impl FnOnce(&Inner, &Function, &mut Function) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (inner, function) = (Arc::clone(&self.inner), function.clone());
        self.detached(async move {
            let key = key(&function);
            let _lock = inner.lock(&key).await;
            let (old, _) = inner.version(&function)?;
            let mut new = (*old).clone();
            let answer = change(&inner, &old, &mut new)?;
            inner.commit(&key, Some(&old), Some(new)).await?;
            Ok(answer)
        })
        .await
    }

    fn qualified(&self, function: &FunctionRef) -> FunctionArn {
        self.inner.arn(function).qualified(qualifier(function))
    }
}

fn qualifier(function: &FunctionRef) -> &str {
    function.qualifier.as_deref().unwrap_or(LATEST)
}

fn no_config(arn: &FunctionArn) -> Error {
    Error::NotFound(format!("The function {arn} doesn't have an EventInvokeConfig"))
}

impl Inner {
    /// Refuses a destination that nothing could reach.
    fn check_exists(&self, arn: &str, of: &Function, qualifier: Option<&str>) -> Result<(), Error> {
        if arn.is_empty() {
            return Ok(());
        }
        let to = match check_destination(arn, &of.arn)? {
            Destination::Function(to) => to,
            Destination::Queue(queue) => return self.check_queue(&queue, of, qualifier),
        };
        let to = FunctionRef { account: to.account, name: to.name, qualifier: to.qualifier };
        self.version(&to).map(drop).map_err(|_| {
            Error::Invalid(format!("The destination {arn} cannot be used: {}", not_found(&self.arn(&to))))
        })
    }

    /// The function's role must be let send there.
    fn check_queue(&self, queue: &str, of: &Function, qualifier: Option<&str>) -> Result<(), Error> {
        let version = of.version(qualifier).ok_or_else(|| not_found(&of.arn))?;
        let caller = self.host.iam.function_caller(&of.arn, &version.configuration.role);
        let checked = match &self.outbox {
            Some(outbox) => outbox.check(&caller, queue),
            None => Err("there are no queues here.".to_owned()),
        };
        checked.map_err(|reason| {
            Error::Invalid(format!("The destination {queue} cannot be used by the function's role: {reason}"))
        })
    }

    /// The trace that a call carries on, or the refusal of one that has come round too often (Lambda: recursive loop
    /// detection).
    pub(crate) fn pass(
        &self,
        trace: Option<String>,
        account: &AccountId,
        function: &str,
        sampled: bool,
    ) -> Result<String, Error> {
        let name = lineage::Name { region: &self.host.region, account, function };
        let (trace, before) = lineage::pass(&invoke::trace(trace, sampled), &name);
        let found = || self.registry.get(&(account.clone(), function.to_owned()));
        if before < lineage::PASSES || found().is_some_and(|function| function.events.allow_loops) {
            return Ok(trace);
        }
        Err(Error::Recursive(format!(
            "Lambda has detected your function being invoked in a recursive loop with other Amazon Web Services \
             resources and stopped your function's invocation: {name}"
        )))
    }

    fn backlogs(&self) -> Vec<Backlog> {
        let now = self.host.clock.now();
        let mut all: HashMap<Key, Backlog> = HashMap::new();
        for stats in self.asynchronous.queues.stats() {
            let name = stats.name.name.split(':').next().unwrap_or_default().to_owned();
            let backlog = entry(&mut all, (stats.name.account.clone(), name));
            if stats.name.kind == EVENTS {
                backlog.queued += stats.messages;
                backlog.running += stats.leased as u64;
                backlog.accepted += stats.sent;
                let age = stats.oldest_ms.map_or(0, |sent| age(now, sent));
                backlog.oldest_ms = backlog.oldest_ms.max(age);
            } else if stats.name.kind == FAILED_EVENTS {
                backlog.failed_kept += stats.messages;
            }
        }
        self.asynchronous.add_counts(|key, add| add(entry(&mut all, key.clone())));
        all.into_values().collect()
    }
}

fn age(now: Timestamp, sent: i64) -> u64 {
    u64::try_from(now.as_millis().saturating_sub(sent)).unwrap_or(0)
}

fn entry(all: &mut HashMap<Key, Backlog>, key: Key) -> &mut Backlog {
    let (account, function) = (key.0.to_string(), key.1.clone());
    all.entry(key).or_insert_with(|| Backlog { account, function, ..Backlog::default() })
}
