//! What is kept in memory so that functions start fast, asked for when metrics are read.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;

/// One pool or template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    /// What it is: the label `name`.
    pub name: String,
    /// How many of it there are.
    pub count: u64,
    /// Bytes that they hold together.
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    name: String,
}

/// Shows what a source lists.
pub(crate) struct Residents(pub(crate) Box<dyn Fn() -> Vec<Resident> + Send + Sync>);

impl fmt::Debug for Residents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Residents").finish()
    }
}

impl Collector for Residents {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let residents = (self.0)();
        let mut gauge = |name, help, unit: Option<Unit>, value: fn(&Resident) -> u64| -> fmt::Result {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            for resident in &residents {
                let gauge = Gauge::<u64, AtomicU64>::default();
                gauge.set(value(resident));
                gauge.encode(family.encode_family(&Labels { name: resident.name.clone() })?)?;
            }
            Ok(())
        };
        gauge("residents", "Sandboxes, runtimes and templates kept ready", None, |each| each.count)?;
        gauge("resident", "Memory of what is kept ready", Some(Unit::Bytes), |each| each.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::Resident;
    use crate::FunctionMetrics;

    #[test]
    fn residents_are_itemised() {
        let metrics = FunctionMetrics::new().with_residents(|| {
            vec![Resident { name: "runtime nodejs20.x".to_owned(), count: 2, bytes: 1 << 20 }]
        });
        let text = metrics.encode();
        assert!(text.contains("faas_residents{name=\"runtime nodejs20.x\"} 2\n"), "{text}");
        assert!(text.contains("faas_resident_bytes{name=\"runtime nodejs20.x\"} 1048576\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
