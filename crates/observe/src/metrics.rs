//! Metrics by OpenTelemetry's FaaS names, in the text format that Prometheus reads.
//!
//! OpenTelemetry semantic conventions, "FaaS metrics": dots become underscores, units and `_total` are
//! appended as Prometheus wants them. Throttles, queue and instances are ours: the conventions have none.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry, Unit};

use crate::backlogs::{Backlog, Backlogs};
use crate::histogram::Histogram;
use crate::image_parts::ImageParts;
use crate::residents::{Resident, Residents};

/// What [`FunctionMetrics::encode`] writes, for the `Content-Type` header.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What every function metric is labelled with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FunctionLabels {
    /// `cloud.account.id`
    pub account: String,
    /// `faas.name`
    pub function: String,
    /// `faas.version`
    pub version: String,
}

/// The labels by the names they are shown with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    cloud_account_id: String,
    faas_name: String,
    faas_version: String,
}

/// The labels of one phase of cold starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    cloud_account_id: String,
    faas_name: String,
    faas_version: String,
    phase: &'static str,
    origin: &'static str,
}

/// A part of a cold start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Namespaces, control groups, mounts.
    Sandbox,
    /// The interpreter, or whatever else stands under the function's own code.
    Runtime,
    /// The function's own initialisation.
    Init,
    /// The first call: what it takes longer than later ones is a part of the cold start too.
    FirstCall,
    /// Waiting for bytes of an image that is not all there; a part of the others.
    Fetch,
}

impl Phase {
    const ALL: [Self; 5] = [Self::Sandbox, Self::Runtime, Self::Init, Self::FirstCall, Self::Fetch];

    fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Runtime => "runtime",
            Self::Init => "init",
            Self::FirstCall => "first_call",
            Self::Fetch => "fetch",
        }
    }
}

/// From what instances are made, by the names that `phase` metrics are labelled with.
const ORIGINS: [&str; 4] = ["cold", "sandbox", "runtime", "template"];

/// The same with why a call was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    cloud_account_id: String,
    faas_name: String,
    faas_version: String,
    reason: &'static str,
}

impl From<&FunctionLabels> for Labels {
    fn from(labels: &FunctionLabels) -> Self {
        Self {
            cloud_account_id: labels.account.clone(),
            faas_name: labels.function.clone(),
            faas_version: labels.version.clone(),
        }
    }
}

impl Labels {
    fn of_phase(&self, phase: Phase, origin: &'static str) -> PhaseLabels {
        PhaseLabels {
            cloud_account_id: self.cloud_account_id.clone(),
            faas_name: self.faas_name.clone(),
            faas_version: self.faas_version.clone(),
            phase: phase.as_str(),
            origin,
        }
    }
}

impl Labels {
    fn refused(&self, reason: &'static str) -> Refused {
        let Self { cloud_account_id, faas_name, faas_version } = self.clone();
        Refused { cloud_account_id, faas_name, faas_version, reason }
    }
}

/// What instances exchange with places outside, and what of it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Egress {
    /// Bytes sent.
    Sent,
    /// Bytes received.
    Received,
    /// Connections made.
    Connections,
    /// Connections and names refused.
    Refused,
}

/// Why calls are refused (Lambda API: TooManyRequestsException, `Reason`).
const THROTTLES: [&str; 2] =
    ["ConcurrentInvocationLimitExceeded", "ReservedFunctionConcurrentInvocationLimitExceeded"];

type Memory = Gauge<u64, AtomicU64>;

/// One family for each metric.
#[derive(Default)]
struct Families {
    invocations: Family<Labels, Counter>,
    errors: Family<Labels, Counter>,
    server_errors: Family<Labels, Counter>,
    timeouts: Family<Labels, Counter>,
    coldstarts: Family<Labels, Counter>,
    init_errors: Family<Labels, Counter>,
    throttles: Family<Refused, Counter>,
    evictions: Family<Labels, Counter>,
    prewarms: Family<Labels, Counter>,
    invoke_duration: Family<Labels, Histogram>,
    init_duration: Family<Labels, Histogram>,
    queue_duration: Family<Labels, Histogram>,
    memory: Family<Labels, Memory>,
    instances: Family<Labels, Gauge>,
    running: Family<Labels, Gauge>,
    queued: Family<Labels, Gauge>,
    phases: Family<PhaseLabels, Histogram>,
    provisioned: Family<Labels, Gauge>,
    frozen: Family<Labels, Gauge>,
    egress: [Family<Labels, Counter>; 4],
    no_template: Family<Refused, Counter>,
}

/// What became of a version's calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// Those that ended, however they did.
    pub ended: u64,
    /// Of them: errors, time-outs, and answers of web servers with a status of 500 or above.
    pub failed: u64,
}

/// All metrics of functions.
pub struct FunctionMetrics {
    registry: Registry,
    families: Families,
    image_parts: ImageParts,
    /// Why a version may have no template.
    no_template: &'static [&'static str],
}

impl FunctionMetrics {
    /// A fresh set.
    pub fn new() -> Self {
        let families = Families::default();
        let mut registry = Registry::with_prefix("faas");
        families.register(&mut registry);
        let image_parts = ImageParts::default();
        image_parts.register(&mut registry);
        Self { registry, families, image_parts, no_template: &[] }
    }

    /// What counts parts of container images.
    pub fn image_parts(&self) -> ImageParts {
        self.image_parts.clone()
    }

    /// Versions may have no template for these reasons and no other.
    #[must_use]
    pub fn with_template_refusals(mut self, reasons: &'static [&'static str]) -> Self {
        self.no_template = reasons;
        self
    }

    /// Shows beside them what `source` lists at each reading. It must not block.
    #[must_use]
    pub fn with_residents(mut self, source: impl Fn() -> Vec<Resident> + Send + Sync + 'static) -> Self {
        self.registry.register_collector(Box::new(Residents(Box::new(source))));
        self
    }

    /// Shows beside them what waits for functions, as `source` lists it at each reading. It must not block.
    #[must_use]
    pub fn with_backlogs(mut self, source: impl Fn() -> Vec<Backlog> + Send + Sync + 'static) -> Self {
        self.registry.register_collector(Box::new(Backlogs(Box::new(source))));
        self
    }

    /// The handle through which one version counts: looked up once, then atomics only.
    pub fn meter(&self, labels: &FunctionLabels) -> FunctionMeter {
        let labels = Labels::from(labels);
        let all = &self.families;
        FunctionMeter {
            invocations: all.invocations.get_or_create_owned(&labels),
            errors: all.errors.get_or_create_owned(&labels),
            server_errors: all.server_errors.get_or_create_owned(&labels),
            timeouts: all.timeouts.get_or_create_owned(&labels),
            coldstarts: all.coldstarts.get_or_create_owned(&labels),
            init_errors: all.init_errors.get_or_create_owned(&labels),
            evictions: all.evictions.get_or_create_owned(&labels),
            prewarms: all.prewarms.get_or_create_owned(&labels),
            invoke_duration: all.invoke_duration.get_or_create_owned(&labels),
            init_duration: all.init_duration.get_or_create_owned(&labels),
            queue_duration: all.queue_duration.get_or_create_owned(&labels),
            memory: all.memory.get_or_create_owned(&labels),
            instances: all.instances.get_or_create_owned(&labels),
            running: all.running.get_or_create_owned(&labels),
            queued: all.queued.get_or_create_owned(&labels),
            phases: all.phases.clone(),
            provisioned: all.provisioned.get_or_create_owned(&labels),
            frozen: all.frozen.get_or_create_owned(&labels),
            throttles: all.throttles.clone(),
            egress: all.egress.each_ref().map(|family| family.get_or_create_owned(&labels)),
            no_template: all.no_template.clone(),
            labels,
        }
    }

    /// Drops a deleted version's metrics, so that label sets stay bounded. Meters that are still held count
    /// unseen.
    pub fn forget(&self, labels: &FunctionLabels) {
        let labels = Labels::from(labels);
        let all = &self.families;
        let ends = [&all.invocations, &all.errors, &all.server_errors, &all.timeouts];
        for counter in ends.into_iter().chain(&all.egress) {
            counter.remove(&labels);
        }
        for reason in self.no_template {
            all.no_template.remove(&labels.refused(reason));
        }
        for counter in [&all.coldstarts, &all.init_errors, &all.evictions, &all.prewarms] {
            counter.remove(&labels);
        }
        for reason in THROTTLES {
            all.throttles.remove(&labels.refused(reason));
        }
        for histogram in [&all.invoke_duration, &all.init_duration, &all.queue_duration] {
            histogram.remove(&labels);
        }
        for gauge in [&all.instances, &all.running, &all.queued, &all.provisioned, &all.frozen] {
            gauge.remove(&labels);
        }
        all.memory.remove(&labels);
        for (phase, origin) in Phase::ALL.into_iter().flat_map(|phase| ORIGINS.map(|origin| (phase, origin)))
        {
            all.phases.remove(&labels.of_phase(phase, origin));
        }
    }

    /// What became of a version's calls since the server started. Of one that was never called: nothing.
    pub fn calls(&self, labels: &FunctionLabels) -> Calls {
        let labels = Labels::from(labels);
        let all = &self.families;
        let count = |family: &Family<Labels, Counter>| family.get(&labels).map_or(0, |counter| counter.get());
        let failed = [&all.errors, &all.timeouts, &all.server_errors].map(count);
        Calls { ended: count(&all.invocations), failed: failed.iter().sum() }
    }

    /// The OpenMetrics text format; its media type is [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string fails only if a metric refuses to be written, and none of ours does.
        match text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be written");
                "# EOF\n".to_owned()
            }
        }
    }
}

impl Default for FunctionMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for FunctionMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FunctionMetrics").finish_non_exhaustive()
    }
}

impl Families {
    fn register(&self, registry: &mut Registry) {
        let mut plain = |name, help, metric: &dyn Registered| metric.register(registry, name, help, None);
        plain("invocations", "Calls that ended, however they ended", &self.invocations);
        plain("errors", "Calls that ended with an error, time-outs not among them", &self.errors);
        plain(
            "server_errors",
            "Answers of web servers with a status of 500 or above; they are no errors of the calls",
            &self.server_errors,
        );
        plain("timeouts", "Calls that were stopped at their deadline", &self.timeouts);
        plain("coldstarts", "Instances that came up", &self.coldstarts);
        plain("init_errors", "Instances that did not come up", &self.init_errors);
        plain("throttles", "Calls refused for want of capacity, by Lambda's reason", &self.throttles);
        plain("template_refusals", "Templates that could not be made, by reason", &self.no_template);
        let [sent, received, connections, refused] = &self.egress;
        plain("egress_connections", "Connections that instances made to places outside", connections);
        plain("egress_refusals", "Connections and names that egress rules refused", refused);
        plain("evictions", "Idle instances stopped to make room for others", &self.evictions);
        plain("prewarms", "Instances started ahead of a call", &self.prewarms);
        plain(
            "provisioned",
            "Provisioned instances that are ready now, among the instances",
            &self.provisioned,
        );
        plain("frozen", "Idle instances that are suspended now, among the instances", &self.frozen);
        plain("instances", "Instances now", &self.instances);
        plain("running", "Calls running now", &self.running);
        plain("queued", "Calls waiting for an instance now", &self.queued);
        let mut seconds =
            |name, help, metric: &dyn Registered| metric.register(registry, name, help, Some(Unit::Seconds));
        seconds("invoke_duration", "How long calls ran", &self.invoke_duration);
        seconds("init_duration", "How long instances took to come up", &self.init_duration);
        seconds("queue_duration", "How long calls waited for an instance", &self.queue_duration);
        seconds("coldstart_phase_duration", "How long the parts of cold starts took", &self.phases);
        let mut bytes =
            |name, help, metric: &dyn Registered| metric.register(registry, name, help, Some(Unit::Bytes));
        bytes("egress_sent", "Sent by instances to places outside", sent);
        bytes("egress_received", "Received by instances from places outside", received);
        self.memory.register(registry, "mem_usage", "Most memory an instance held", Some(Unit::Bytes));
    }
}

/// A family that can be registered, whatever its metric.
trait Registered {
    fn register(&self, registry: &mut Registry, name: &str, help: &str, unit: Option<Unit>);
}

impl<L, M> Registered for Family<L, M>
where
    Self: Metric + Clone,
{
    fn register(&self, registry: &mut Registry, name: &str, help: &str, unit: Option<Unit>) {
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, self.clone()),
            None => registry.register(name, help, self.clone()),
        }
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With an answer.
    Success,
    /// With the function's error, an exit, a trap, too large an answer.
    Error,
    /// At its deadline.
    Timeout,
}

/// One version's metrics. No lock, no look-up.
#[derive(Debug, Clone)]
pub struct FunctionMeter {
    invocations: Counter,
    errors: Counter,
    server_errors: Counter,
    timeouts: Counter,
    coldstarts: Counter,
    init_errors: Counter,
    evictions: Counter,
    prewarms: Counter,
    invoke_duration: Histogram,
    init_duration: Histogram,
    queue_duration: Histogram,
    memory: Memory,
    instances: Gauge,
    running: Gauge,
    queued: Gauge,
    phases: Family<PhaseLabels, Histogram>,
    provisioned: Gauge,
    frozen: Gauge,
    throttles: Family<Refused, Counter>,
    egress: [Counter; 4],
    no_template: Family<Refused, Counter>,
    labels: Labels,
}

impl FunctionMeter {
    /// A part of a cold start took this long; `origin` is what the instance was made from. Looks its labels up, so
    /// not for every call.
    pub fn phase(&self, phase: Phase, origin: &'static str, duration: Duration) {
        self.phases.get_or_create_owned(&self.labels.of_phase(phase, origin)).observe(duration);
    }

    /// A call came to nothing because no instance came up for it. It did not run, so it has no duration.
    pub fn not_started(&self) {
        self.invocations.inc();
        self.errors.inc();
    }

    /// A web server answered with a status of 500 or above.
    pub fn server_error(&self) {
        self.server_errors.inc();
    }

    /// A call ended after running this long.
    pub fn invoked(&self, ending: Ending, duration: Duration) {
        self.invocations.inc();
        match ending {
            Ending::Success => {}
            Ending::Error => drop(self.errors.inc()),
            Ending::Timeout => drop(self.timeouts.inc()),
        }
        self.invoke_duration.observe(duration);
    }

    /// An instance came up.
    pub fn cold_start(&self, init: Duration) {
        self.coldstarts.inc();
        self.init_duration.observe(init);
    }

    /// An instance did not come up.
    pub fn init_error(&self) {
        self.init_errors.inc();
    }

    /// A call was refused; Lambda's reason is the label, `ConcurrentInvocationLimitExceeded` or that of reserved concurrency.
    pub fn throttled(&self, reason: &'static str) {
        self.throttles.get_or_create(&self.labels.refused(reason)).inc();
    }

    /// So much more went out, came in, or was refused.
    pub fn egress(&self, what: Egress, by: u64) {
        self.egress[what as usize].inc_by(by);
    }

    /// A template could not be made; the reason is one of those that the metrics were made with.
    pub fn no_template(&self, reason: &'static str) {
        self.no_template.get_or_create(&self.labels.refused(reason)).inc();
    }

    /// An idle instance was stopped to make room for others.
    pub fn evicted(&self) {
        self.evictions.inc();
    }

    /// An instance is started ahead of a call.
    pub fn prewarmed(&self) {
        self.prewarms.inc();
    }

    /// So many provisioned instances are ready.
    pub fn provisioned(&self, ready: usize) {
        self.provisioned.set(i64::try_from(ready).unwrap_or(i64::MAX));
    }

    /// Suspended instances, changed by this.
    pub fn frozen(&self, change: i64) {
        self.frozen.inc_by(change);
    }

    /// Calls that have ended, and how long they ran together.
    pub fn ended(&self) -> (u64, Duration) {
        (self.invocations.get(), self.invoke_duration.sum())
    }

    /// A call waited this long for an instance.
    pub fn waited(&self, duration: Duration) {
        self.queue_duration.observe(duration);
    }

    /// Calls running, changed by this.
    pub fn running(&self, change: i64) {
        self.running.inc_by(change);
    }

    /// Calls waiting, changed by this.
    pub fn queued(&self, change: i64) {
        self.queued.inc_by(change);
    }

    /// Instances, changed by this.
    pub fn instances(&self, change: i64) {
        self.instances.inc_by(change);
    }

    /// Most bytes an instance held.
    pub fn memory(&self, bytes: u64) {
        self.memory.inner().fetch_max(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(version: &str) -> FunctionLabels {
        FunctionLabels { account: "1".into(), function: "hello".into(), version: version.into() }
    }

    fn line(metrics: &FunctionMetrics, start: &str) -> Option<String> {
        metrics.encode().lines().find(|line| line.starts_with(start)).map(str::to_owned)
    }

    #[test]
    fn counts_under_the_conventions_names() {
        let metrics = FunctionMetrics::new();
        let meter = metrics.meter(&labels("$LATEST"));
        meter.invoked(Ending::Success, Duration::from_millis(3));
        meter.invoked(Ending::Error, Duration::from_secs(20));
        meter.invoked(Ending::Timeout, Duration::from_secs(2000));
        metrics.meter(&labels("$LATEST")).cold_start(Duration::from_millis(100));
        meter.waited(Duration::from_millis(1));
        meter.memory(100);
        meter.memory(70);
        meter.egress(Egress::Sent, 10);
        meter.egress(Egress::Received, 20);
        meter.egress(Egress::Connections, 1);
        meter.egress(Egress::Refused, 2);
        meter.running(2);
        meter.running(-1);
        let set = r#"{cloud_account_id="1",faas_name="hello",faas_version="$LATEST"}"#;
        let bucket = |le: &str| {
            format!(
                r#"faas_invoke_duration_seconds_bucket{{le="{le}",cloud_account_id="1",faas_name="hello",faas_version="$LATEST"}}"#
            )
        };
        for (start, value) in [
            (format!("faas_invocations_total{set}"), "3"),
            (format!("faas_errors_total{set}"), "1"),
            (format!("faas_timeouts_total{set}"), "1"),
            (format!("faas_coldstarts_total{set}"), "1"),
            (format!("faas_mem_usage_bytes{set}"), "100"),
            (format!("faas_running{set}"), "1"),
            (format!("faas_egress_sent_bytes_total{set}"), "10"),
            (format!("faas_egress_received_bytes_total{set}"), "20"),
            (format!("faas_egress_connections_total{set}"), "1"),
            (format!("faas_egress_refusals_total{set}"), "2"),
            (format!("faas_init_duration_seconds_sum{set}"), "0.1"),
            (format!("faas_queue_duration_seconds_count{set}"), "1"),
            (bucket("0.0025"), "0"),
            (bucket("0.005"), "1"),
            (bucket("60.0"), "2"),
            (bucket("900.0"), "2"),
            (bucket("+Inf"), "3"),
        ] {
            assert_eq!(line(&metrics, &start), Some(format!("{start} {value}")), "{}", metrics.encode());
        }
        assert!(metrics.encode().ends_with("# EOF\n"));
    }

    #[test]
    fn forgets_a_version_whole() {
        let metrics = FunctionMetrics::new().with_template_refusals(&["threads"]);
        for origin in ORIGINS {
            metrics.meter(&labels("1")).phase(Phase::Runtime, origin, Duration::from_millis(20));
        }
        let line = r#"faas_coldstart_phase_duration_seconds_count{cloud_account_id="1",faas_name="hello",faas_version="1",phase="runtime",origin="template"} 1"#;
        assert!(metrics.encode().contains(line), "{}", metrics.encode());
        metrics.meter(&labels("1")).throttled(THROTTLES[1]);
        metrics.meter(&labels("1")).no_template("threads");
        let line = r#"faas_template_refusals_total{cloud_account_id="1",faas_name="hello",faas_version="1",reason="threads"} 1"#;
        assert!(metrics.encode().contains(line), "{}", metrics.encode());
        metrics.meter(&labels("2")).init_error();
        metrics.forget(&labels("1"));
        assert!(!metrics.encode().contains(r#"faas_version="1""#));
        assert!(metrics.encode().contains(r#"faas_version="2""#));
    }
}
