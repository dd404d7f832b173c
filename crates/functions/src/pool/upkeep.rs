//! What the shared tick does for a pool: measure, freeze, warm ahead, and let go of what is idle for too long.
//!
//! Instances beyond the last one go once they have been idle for a stable window and the windows of [`Demand`] ask
//! for fewer; the last one is kept as long as the version's past says ([`crate::keep_alive`]), or for the fixed time
//! that its owner set. Nothing here happens during a call.
//!
//! [`Demand`]: super::demand::Demand

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use observe::FunctionMeter;

use super::Pool;
use super::lease::Slot;
use super::line::Line;
use super::worth::{self, Worth};
use crate::limits;

/// How fast calls go and how dear starts are: written by the tick and by starts, read without a lock.
#[derive(Debug)]
pub(super) struct Pace {
    /// Microseconds that a call runs; 0 while that is not known.
    service_us: AtomicU64,
    /// Microseconds that a start takes.
    start_us: AtomicU64,
    /// Calls of late, the bits of a double.
    frequency: AtomicU64,
    /// What the meter had counted at the last tick: calls, and microseconds that they ran.
    counted: (AtomicU64, AtomicU64),
}

/// A newer measurement counts for a quarter.
fn blend(old: u64, new: u64) -> u64 {
    if old == 0 { new } else { old - old / 4 + new / 4 }
}

impl Pace {
    pub(super) fn new(meter: &FunctionMeter) -> Self {
        let (calls, ran) = meter.ended();
        let ran = u64::try_from(ran.as_micros()).unwrap_or(u64::MAX);
        Self {
            service_us: AtomicU64::new(0),
            start_us: AtomicU64::new(0),
            frequency: AtomicU64::new(1.0_f64.to_bits()),
            counted: (AtomicU64::new(calls), AtomicU64::new(ran)),
        }
    }

    /// An instance took so long to come up.
    pub(super) fn started(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        self.start_us.store(blend(self.start_us.load(Ordering::Relaxed), took), Ordering::Relaxed);
    }

    /// Takes in what has ended since the last second.
    fn measure(&self, meter: &FunctionMeter) {
        let (calls, ran) = meter.ended();
        let ran = u64::try_from(ran.as_micros()).unwrap_or(u64::MAX);
        let new = calls.saturating_sub(self.counted.0.swap(calls, Ordering::Relaxed));
        let ran = ran.saturating_sub(self.counted.1.swap(ran, Ordering::Relaxed));
        let frequency = f64::from_bits(self.frequency.load(Ordering::Relaxed));
        // A count of a second's calls is exact in a double.
        let frequency = frequency * limits::FREQUENCY_KEPT + new as f64;
        self.frequency.store(frequency.to_bits(), Ordering::Relaxed);
        if let Some(each) = ran.checked_div(new) {
            let service = blend(self.service_us.load(Ordering::Relaxed), each.max(1));
            self.service_us.store(service, Ordering::Relaxed);
        }
    }

    /// How long one waits behind so many calls, where so many run at once.
    pub(super) fn wait(&self, waiting: usize, places: usize) -> Option<Duration> {
        let service = self.service_us.load(Ordering::Relaxed);
        if service == 0 || places == 0 {
            return None;
        }
        Some(Duration::from_micros(service.saturating_mul(waiting as u64 + 1) / places as u64))
    }

    /// When a call that runs now will end, at a guess.
    pub(super) fn next_end(&self) -> Option<Duration> {
        self.wait(0, 1)
    }

    /// What an instance is worth when there are so many.
    fn worth(&self, instances: usize, memory: u64) -> Worth {
        Worth {
            restart_ms: Duration::from_micros(self.start_us.load(Ordering::Relaxed)).as_secs_f64() * 1000.0,
            frequency: f64::from_bits(self.frequency.load(Ordering::Relaxed)) / instances.max(1) as f64,
            size_mb: memory as f64 / f64::from(1 << 20),
        }
    }
}

impl Pool {
    /// Everything that is due. `second`: a second has passed since the last time it was said.
    pub(super) fn tick(&self, now: Instant, second: bool) {
        self.streams.lock().retain(|stream| stream.upgrade().is_some_and(|stream| stream.is_under_way(now)));
        self.expire(now);
        if second {
            self.pace.measure(&self.meter);
            self.reap(now);
        }
        self.freeze(now);
    }

    /// Suspends what has been idle for a while. Under the line's lock, so that no call can have taken the instance:
    /// whoever takes it next finds it suspended, and the back end resumes it.
    fn freeze(&self, now: Instant) {
        if !self.plan.configuration.settings.freeze {
            return;
        }
        let line = self.line.lock();
        for slot in &line.ready {
            let idle =
                slot.idle_since().is_some_and(|since| now.duration_since(since) >= limits::FREEZE_AFTER);
            if idle && !slot.frozen.swap(true, Ordering::Relaxed) {
                slot.instance.freeze();
                self.meter.frozen(1);
            }
        }
    }

    fn reap(&self, now: Instant) {
        let mut line = self.line.lock();
        if line.closed {
            return;
        }
        let for_long = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        for old in line.members.clone().iter().filter(|slot| for_long(slot.born, limits::INSTANCE_AGE)) {
            line.retire(old);
        }
        if line.is_quiet() && line.idle_from.is_none() && line.starting == 0 {
            line.idle_from = Some(now);
        }
        let gone = |slot: &&Arc<Slot>| slot.retired.load(Ordering::Relaxed) && slot.idle_since().is_some();
        let gone: Vec<Arc<Slot>> = line.members.iter().filter(gone).map(Arc::clone).collect();
        let mut removed: Vec<Arc<Slot>> = gone.into_iter().filter(|slot| line.remove(slot)).collect();
        let scaling = &self.host.bounds.scaling;
        let serving = u32::try_from(line.serving()).unwrap_or(u32::MAX);
        let busy = line.busy.saturating_add(u32::try_from(line.waiters.len()).unwrap_or(u32::MAX));
        let wanted = line.demand.sample(busy, self.shape.soft, serving, scaling);
        removed.extend(self.idle_for_too_long(&mut line, wanted.floor as usize, now));
        let more = if busy > 0 { self.more(&line, wanted.instances as usize) } else { 0 };
        self.pump(line);
        if more > 0 {
            self.begin(self.line.lock(), more);
        }
        for slot in removed {
            self.stop(slot);
        }
    }

    /// Starts that the windows ask for beyond what calls have started themselves: at most as many again as there are,
    /// and only into room that is free.
    fn more(&self, line: &Line, wanted: usize) -> usize {
        if self.shape.single
            || line.hungry
            || !self.host.caps.fits(self.plan.configuration.memory_bytes(), &self.share)
        {
            return 0;
        }
        let there = line.serving() + line.starting;
        wanted.saturating_sub(there).min(there.max(1))
    }

    /// Takes out what has been idle for too long, the longest idle first.
    fn idle_for_too_long(&self, line: &mut Line, floor: usize, now: Instant) -> Vec<Arc<Slot>> {
        let settings = &self.plan.configuration.settings;
        let fixed = Duration::from_secs(settings.idle_timeout_s.into());
        let mut idle: Vec<(Instant, Arc<Slot>)> =
            line.ready.iter().filter_map(|slot| Some((slot.idle_since()?, Arc::clone(slot)))).collect();
        idle.sort_by_key(|(since, _)| *since);
        let floor = line.standing_by(self.shape).max(if settings.fixed_idle { 0 } else { floor });
        let mut removed = Vec::new();
        for (since, slot) in idle {
            let serving = line.serving();
            let keep = if settings.fixed_idle {
                fixed
            } else if serving > 1 || !line.is_quiet() {
                fixed.min(self.host.bounds.scaling.stable_window)
            } else {
                self.keep_last(line, fixed, now)
            };
            if serving <= floor || now.saturating_duration_since(since) < keep {
                break;
            }
            if line.remove(&slot) {
                removed.push(slot);
            }
        }
        if !settings.fixed_idle && !removed.is_empty() && line.members.is_empty() {
            self.plan_ahead(line, now);
        }
        removed
    }

    /// How long the last instance is kept in this idle time.
    fn keep_last(&self, line: &mut Line, fixed: Duration, now: Instant) -> Duration {
        let shortest = self.host.bounds.scaling.keep_at_least;
        if line.warm_until.is_some_and(|until| now < until) {
            return Duration::MAX;
        }
        let idle = line.idle_from.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if idle < shortest {
            return shortest.min(fixed);
        }
        line.forecast.get_or_insert_with(|| self.past.forecast(fixed)).keep
    }

    /// Has the host start an instance ahead of the call that is likely to come later.
    fn plan_ahead(&self, line: &Line, now: Instant) {
        let window = line.forecast.and_then(|plan| plan.window);
        if let (Some(since), Some((from, _))) = (line.idle_from, window)
            && now < since + from
        {
            self.host.remind(since + from, &self.me, since);
        }
    }

    /// It is the time that was planned for: starts an instance unless somebody has called since.
    pub(super) fn warm_ahead(&self, idle_from: Instant) {
        let mut line = self.line.lock();
        let window = line.forecast.and_then(|plan| plan.window);
        let (Some((_, until)), true) = (window, line.idle_from == Some(idle_from)) else { return };
        if line.closed || !line.members.is_empty() || line.starting > 0 {
            return;
        }
        line.warm_until = Some(idle_from + until);
        self.meter.prewarmed();
        self.begin(line, 1);
    }

    /// The instance that is worth least of those that `free` allows by since when they are idle, with its priority and
    /// that moment.
    pub(super) fn cheapest(&self, free: impl Fn(Instant) -> bool) -> Option<(f64, Instant, Arc<Slot>)> {
        let line = self.line.lock();
        let worth = self.pace.worth(line.serving(), self.plan.configuration.memory_bytes());
        let judged = line.ready.iter().filter_map(|slot| {
            let since = slot.idle_since().filter(|since| free(*since))?;
            let clock = f64::from_bits(slot.valued.load(Ordering::Relaxed));
            Some((worth::priority(clock, worth), since, Arc::clone(slot)))
        });
        judged.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))
    }

    /// Takes that instance out, to be stopped by the caller, if it is still idle.
    pub(super) fn take_idle(&self, slot: &Arc<Slot>) -> bool {
        let mut line = self.line.lock();
        slot.idle_since().is_some() && line.can_spare(self.shape) && line.remove(slot)
    }

    /// Whether the pool has nothing left; it is then off the host's list.
    pub(super) fn unlist_if_empty(&self) -> bool {
        let mut line = self.line.lock();
        let empty = line.is_empty() && line.waiters.is_empty() && line.standby.requested == 0;
        line.listed &= !empty;
        empty
    }
}
