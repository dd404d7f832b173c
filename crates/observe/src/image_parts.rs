//! What comes of container images that functions start from before they are there.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use crate::histogram::Histogram;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    reason: &'static str,
}

/// Counts, for all images together. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct ImageParts {
    parts: Counter,
    bytes: Counter,
    duration: Histogram,
    failures: Family<Labels, Counter>,
}

impl ImageParts {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("image_parts", "Parts of images that came and were checked", self.parts.clone());
        registry.register_with_unit(
            "image_fetched",
            "Bytes of images that came from registries in parts",
            Unit::Bytes,
            self.bytes.clone(),
        );
        registry.register_with_unit(
            "image_fetch_duration",
            "From when parts of an image were wanted until they had come or could not be had",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register(
            "image_fetch_failures",
            "Parts of images, those asked for together once, that could not be had, by reason",
            self.failures.clone(),
        );
    }

    /// A part came.
    pub fn part(&self) {
        self.parts.inc();
    }

    /// Bytes came.
    pub fn received(&self, bytes: u64) {
        self.bytes.inc_by(bytes);
    }

    /// Parts that were asked for together came after this time, or for some reason did not.
    pub fn run(&self, took: Duration, failure: Option<&'static str>) {
        self.duration.observe(took);
        if let Some(reason) = failure {
            self.failures.get_or_create(&Labels { reason }).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FunctionMetrics;

    #[test]
    fn parts_are_counted() {
        let metrics = FunctionMetrics::new();
        let parts = metrics.image_parts();
        parts.part();
        parts.received(7);
        parts.run(Duration::from_millis(3), None);
        parts.run(Duration::from_millis(3), Some("unreachable"));
        let text = metrics.encode();
        for line in [
            "faas_image_parts_total 1",
            "faas_image_fetched_bytes_total 7",
            "faas_image_fetch_duration_seconds_count 2",
            "faas_image_fetch_failures_total{reason=\"unreachable\"} 1",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}: {text}");
        }
    }
}
