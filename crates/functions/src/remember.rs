//! What is known of callers, from one server to the next.
//!
//! Idle times are learnt in memory and written down every few minutes and at the end: a crash loses what came since,
//! which is a forecast that is a little older. Nothing is written on the way of a call, and nothing is that has not
//! changed. What a row says is a hint: one that makes no sense, or that another version of this program wrote, is as
//! good as none.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::Error;
use crate::keep_alive::Habits;
use crate::pool::Plan;
use crate::registry::Registry;
use crate::service::Inner;
use crate::tables::{self, Row};

/// Versions that one transaction writes: a few hundred kilobytes at most.
const AT_ONCE: usize = 200;

/// Writes down what is new, now and then.
pub(crate) async fn rememberer(service: Weak<Inner>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(service) = service.upgrade() else { return };
        service.remember().await;
    }
}

impl Inner {
    /// Writes down what is new. One at a time: the last one, at the end, comes after one that is under way.
    pub(crate) async fn remember(&self) {
        let _turn = self.remembering.lock().await;
        let row = |(plan, habits): (Arc<Plan>, Habits)| -> Row {
            let version = plan.configuration.version.clone();
            (plan.arn.account.to_string(), plan.arn.name.clone(), version, habits.to_bytes())
        };
        let rows: Vec<Row> = self.host.news.take().into_iter().map(row).collect();
        for rows in rows.chunks(AT_ONCE) {
            let rows = rows.to_vec();
            let write = move |tx: &mut dyn store::Tx| tables::remember(tx, &rows).map_err(Error::from);
            if let Err(error) = self.store.write(write).await {
                // The next call after a pause has it written again.
                tracing::warn!(%error, "what is known of callers could not be written down");
            }
        }
    }

    /// Takes over what an earlier server has written down.
    pub(crate) fn recall(&self, rows: Vec<Row>) {
        let shortest = self.host.bounds.scaling.keep_at_least;
        for (account, name, number, bytes) in rows {
            if recall(&self.registry, (&account, &name, &number), &bytes, shortest).is_none() {
                tracing::debug!(account, name, number, "what was written down of callers is of no use");
            }
        }
    }
}

fn recall(registry: &Registry, of: (&str, &str, &str), bytes: &[u8], shortest: Duration) -> Option<()> {
    let (account, name, number) = of;
    let habits = Habits::from_bytes(bytes, shortest)?;
    let function = registry.get(&(base::AccountId::parse(account)?, name.to_owned()))?;
    function.version(Some(number))?.target.as_ref()?.past().recall(habits);
    Some(())
}
