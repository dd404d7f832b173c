//! Events that wait for functions, asked for when metrics are read.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Unit;

/// The events of one function.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Whose function.
    pub account: String,
    /// Its name.
    pub function: String,
    /// Events that wait or run.
    pub queued: u64,
    /// Those that run or wait for an instance.
    pub running: u64,
    /// Since the oldest of them that is known was accepted.
    pub oldest: Duration,
    /// Failed events that are kept.
    pub failed_kept: u64,
    /// Events accepted.
    pub accepted: u64,
    /// Tries after a function's error.
    pub retries: u64,
    /// Refusals for want of capacity.
    pub throttles: u64,
    /// Events given up.
    pub failed: u64,
    /// Failed events removed by an operator.
    pub dropped: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    cloud_account_id: String,
    faas_name: String,
}

/// Shows what a source lists.
pub(crate) struct Backlogs(pub(crate) Box<dyn Fn() -> Vec<Backlog> + Send + Sync>);

impl fmt::Debug for Backlogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Backlogs").finish()
    }
}

/// A metric: its name, what it says, and its value of one function.
type Metric = (&'static str, &'static str, fn(&Backlog) -> u64);

const GAUGES: [Metric; 3] = [
    ("async_queued", "Events that wait or run now", |each| each.queued),
    ("async_running", "Events that run or wait for an instance now", |each| each.running),
    ("async_failed_kept", "Events in the list of failed ones now", |each| each.failed_kept),
];

const COUNTERS: [Metric; 5] = [
    ("async_accepted", "Events accepted", |each| each.accepted),
    ("async_retries", "Tries after a function's error", |each| each.retries),
    ("async_throttles", "Refusals of events for want of capacity", |each| each.throttles),
    ("async_failed", "Events given up", |each| each.failed),
    ("async_failed_dropped", "Failed events removed by an operator", |each| each.dropped),
];

impl Collector for Backlogs {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let backlogs: Vec<_> = (self.0)().into_iter().map(|each| (labels(&each), each)).collect();
        for (name, help, value) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, each) in &backlogs {
                let gauge = Gauge::<u64, AtomicU64>::default();
                gauge.set(value(each));
                gauge.encode(family.encode_family(labels)?)?;
            }
        }
        for (name, help, value) in COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, each) in &backlogs {
                ConstCounter::new(value(each)).encode(family.encode_family(labels)?)?;
            }
        }
        let (name, help) = ("async_oldest", "Age of the oldest event that is known");
        let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for (labels, each) in &backlogs {
            ConstGauge::new(each.oldest.as_secs_f64()).encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }
}

fn labels(backlog: &Backlog) -> Labels {
    Labels { cloud_account_id: backlog.account.clone(), faas_name: backlog.function.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FunctionMetrics;

    #[test]
    fn backlogs_are_itemised() {
        let metrics = FunctionMetrics::new().with_backlogs(|| {
            vec![Backlog {
                account: "123456789012".into(),
                function: "f".into(),
                queued: 7,
                oldest: Duration::from_millis(1500),
                accepted: 9,
                ..Backlog::default()
            }]
        });
        let text = metrics.encode();
        let labels = "{cloud_account_id=\"123456789012\",faas_name=\"f\"}";
        for line in [
            format!("faas_async_queued{labels} 7\n"),
            format!("faas_async_accepted_total{labels} 9\n"),
            format!("faas_async_oldest_seconds{labels} 1.5\n"),
        ] {
            assert!(text.contains(&line), "{line}{text}");
        }
    }
}
