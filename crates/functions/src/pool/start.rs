//! Bringing an instance up: room, a specification, the back end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

use base::{FunctionArn, InstanceId, RequestId};
use observe::{Egress, FunctionMeter, LogStream};
use parking_lot::Mutex;
use sandbox::{Count, Instance, Limits, LogSink, Spec, StartError};

use super::Pool;
use super::caps::Room;
use super::lease::Slot;
use crate::failure::Failure;
use crate::report::Lines;
use crate::startup::Startup;
use crate::{environment, limits};

/// How an instance came not to be, with what its call's report needs.
pub(crate) struct FailedStart {
    pub(crate) error: StartError,
    pub(crate) log: Arc<LogStream>,
    pub(crate) init: Duration,
}

/// Takes what an instance says and what is counted of it.
struct Sink(Arc<LogStream>, FunctionMeter);

impl LogSink for Sink {
    fn write(&self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    fn count(&self, what: Count, by: u64) {
        match what {
            Count::Sent => self.1.egress(Egress::Sent, by),
            Count::Received => self.1.egress(Egress::Received, by),
            Count::Connections => self.1.egress(Egress::Connections, by),
            Count::Refused => self.1.egress(Egress::Refused, by),
            Count::NoTemplate(reason) => self.1.no_template(reason),
        }
    }
}

/// Finds room, if need be by stopping an idle instance of another version, and starts an instance.
pub(super) async fn bring_up(pool: Arc<Pool>) {
    let mut guard = Counted { pool: Some(Arc::clone(&pool)) };
    let memory = pool.plan().configuration.memory_bytes();
    let host = Arc::clone(pool.host());
    if !host.caps.possible(memory) {
        guard.pool = None;
        pool.cannot_start(
            "The function's memory limit is above what this server has for all instances together.",
        );
        return;
    }
    // Stored when the server allowed more than now.
    if let Err(beyond) = host.bounds.max_egress.permits(&pool.plan().configuration.settings.egress) {
        guard.pool = None;
        pool.cannot_start(&format!(
            "The function's virga:egress is more than this server allows: {beyond}. Change the tag or --max-egress."
        ));
        return;
    }
    if let Err(problem) = host.file_systems.of(&pool.plan().configuration) {
        guard.pool = None;
        pool.cannot_start(&problem);
        return;
    }
    host.make_way(memory);
    let room = loop {
        if host.must_wait(&pool) {
            guard.pool = None;
            pool.starve();
            return;
        }
        if let Some(room) = host.caps.take(memory, pool.share()) {
            break room;
        }
        // Where nobody waits and nothing was promised, this start is a luxury that nobody else pays for.
        let victim = if pool.is_wanted() || pool.is_short() { host.pick_victim(&pool) } else { None };
        match victim {
            Some((other, slot)) => other.stop_now(&slot).await,
            None => {
                guard.pool = None;
                pool.starve();
                return;
            }
        }
    };
    guard.pool = None;
    pool.has_had_a_turn();
    start(pool, room).await;
}

/// Keeps the count of starts right if the task ends early.
struct Counted {
    pool: Option<Arc<Pool>>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.cannot_start("The instance could not be started.");
        }
    }
}

async fn start(pool: Arc<Pool>, room: Room) {
    let mut guard = Counted { pool: Some(Arc::clone(&pool)) };
    let (host, plan) = (Arc::clone(pool.host()), Arc::clone(pool.plan()));
    let instance = InstanceId::random();
    let (name, date) = (&plan.arn.name, host.clock.now().to_date_path());
    let stream = environment::log_stream(&date, name, &plan.configuration, &instance);
    let group = environment::log_group(name, &plan.configuration);
    let log = Arc::new(host.logs.stream(&plan.arn.account, &group, &stream));
    log.begin_tail();
    if let Some(line) = Lines::of(&plan.configuration, &*host.clock).init_start(&plan.artifact.runtime) {
        log.line(&line);
    }
    let spec = Arc::new(specification(&pool, instance, &stream, &log));
    let Some(backend) = host.backend(plan.configuration.settings.isolation) else { return };
    let began = Instant::now();
    let before = host.waited_for_image(&plan.artifact);
    let mut stopped = host.stopped.subscribe();
    let started = tokio::select! {
        started = backend.start(spec) => started,
        _ = stopped.wait_for(|stopped| *stopped) => return,
    };
    let init = began.elapsed();
    guard.pool = None;
    match started {
        Ok(instance) => {
            // It was for the answer to a call whose start fails.
            log.end_tail();
            let after = before.and_then(|_| host.waited_for_image(&plan.artifact));
            let fetch = before.zip(after).map(|(before, after)| after.saturating_sub(before).min(init));
            let startup = Startup { total: init, phases: instance.phases(), fetch };
            startup.count(pool.meter());
            pool.pace.started(init);
            let clock = host.clock_of_evictions.now();
            pool.arrived(Arc::new(slot(instance, log, startup, room, clock)));
        }
        Err(error) => {
            drop(room);
            pool.meter().init_error();
            log.flush();
            failed(&pool, FailedStart { error, log, init });
            host.feed();
        }
    }
}

fn failed(pool: &Arc<Pool>, failure: FailedStart) {
    match &failure.error {
        StartError::Sandbox(error) if !matches!(error, sandbox::Error::Invalid(_)) => {
            let detail = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            tracing::error!(function = %pool.plan().arn, %error, detail, "an instance could not be started");
            pool.cannot_start("The host could not start an instance of the function.");
        }
        // The owner's to mend: the log says so even if no call waits for this start any more.
        error => {
            let lines = Lines::of(&pool.plan().configuration, &*pool.host().clock);
            if let Some(line) = lines.init_failed(failure.init, error_type(error).as_deref()) {
                failure.log.line(&line);
            }
            pool.start_failed(failure);
        }
    }
}

/// Lambda's error type; `None` for a time-out.
fn error_type(error: &StartError) -> Option<String> {
    let failure = Failure::start(RequestId::random(), error, 0.0);
    failure.filter(|_| !matches!(error, StartError::TimedOut)).map(|failure| failure.error_type)
}

fn slot(instance: Arc<dyn Instance>, log: Arc<LogStream>, startup: Startup, room: Room, clock: f64) -> Slot {
    let now = Instant::now();
    let valued = AtomicU64::new(clock.to_bits());
    Slot {
        instance,
        log,
        in_flight: AtomicU32::new(0),
        retired: AtomicBool::new(false),
        born: now,
        last_used: Mutex::new(now),
        frozen: AtomicBool::new(false),
        valued,
        init: Mutex::new(Some(startup)),
        room: Mutex::new(Some(room)),
        watcher: Mutex::default(),
    }
}

/// How long an instance's credentials last: through the last call that it may be given ([`limits::INSTANCE_AGE`]), however
/// long that takes.
fn session(longest_s: u32) -> Duration {
    limits::SESSION.max(limits::INSTANCE_AGE + Duration::from_secs(longest_s.into()) + limits::SESSION_SPARE)
}

fn specification(pool: &Pool, instance: InstanceId, stream: &str, log: &Arc<LogStream>) -> Spec {
    let (plan, host) = (pool.plan(), pool.host());
    let configuration = &*plan.configuration;
    let function: FunctionArn = plan.arn.clone();
    let longest_s = configuration.timeout_s.max(configuration.timeout_of(false));
    let credentials = host.iam.function_session(&function, &configuration.role, session(longest_s));
    let env = environment::of_instance(&function, configuration, &plan.artifact, stream, credentials);
    Spec {
        instance,
        function,
        revision: configuration.revision_id.clone(),
        concurrency: configuration.settings.hard_concurrency,
        template: configuration.has_template(),
        artifact: plan.artifact.clone(),
        env,
        limits: Limits {
            memory_bytes: configuration.memory_bytes(),
            cpu_hundredths: configuration.settings.cpu_hundredths,
            tmp_bytes: u64::from(configuration.ephemeral_mb) << 20,
            pids: limits::PIDS,
            answer_bytes: limits::PAYLOAD_BYTES,
        },
        port: configuration.settings.port,
        // Looked at before there was room for it.
        file_systems: host.file_systems.of(configuration).unwrap_or_default(),
        egress: configuration.settings.egress.clone(),
        init_timeout: host.bounds.init_timeout,
        output: Arc::new(Sink(Arc::clone(log), pool.meter().clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_outlive_the_last_call() {
        assert_eq!(session(900), limits::SESSION);
        let day = *limits::ASYNC_TIMEOUT_S.end();
        assert!(session(day) > limits::INSTANCE_AGE + Duration::from_secs(day.into()));
    }
}
