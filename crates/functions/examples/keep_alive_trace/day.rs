//! A synthetic day of 200 functions, and what a keep-alive policy makes of it.
//!
//! The mix follows what "Serverless in the Wild" found of a public cloud: rates spread over eight orders of
//! magnitude, almost half of the functions called once an hour or less, four in five once a minute or less; a
//! part of them called by timers, a part in bursts by people, the rest at random; ten times as many calls at the
//! peak of the day as at its trough. The numbers are pseudo-random from a fixed seed: every run is the same.

use std::time::Duration;

use functions::keep_alive::{Forecast, Habits, SHORTEST};

/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// One function's calls: when each begins and how long it runs, in seconds.
pub(crate) struct Calls(Vec<(f64, f64)>);

/// What a policy cost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// Calls.
    pub(crate) calls: u64,
    /// Calls that found no instance.
    pub(crate) cold: u64,
    /// Starts ahead of a call.
    pub(crate) warmed: u64,
    /// Seconds that instances existed.
    pub(crate) held_s: f64,
    /// Seconds that calls ran.
    pub(crate) used_s: f64,
}

/// What decides how long to keep an instance.
pub(crate) enum Policy {
    /// So many seconds, always.
    Fixed(f64),
    /// From the past, falling back to so many seconds.
    Predictive(f64),
}

/// A multiply-with-carry generator's worth of randomness: splitmix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    /// Between 0 and 1, neither included.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        ((mixed >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.unit().ln()
    }

    /// Log-uniform between two bounds.
    fn spread(&mut self, low: f64, high: f64) -> f64 {
        (low.ln() + self.unit() * (high / low).ln()).exp()
    }
}

/// How busy this time of the day is, against the peak: 1 at noon, 0.1 at midnight.
fn swing(at: f64) -> f64 {
    0.55 - 0.45 * (at / DAY * std::f64::consts::TAU).cos()
}

/// The day.
pub(crate) fn day() -> Vec<Calls> {
    let mut random = Random(20);
    (0..200).map(|function| calls(function, &mut random)).collect()
}

fn calls(function: usize, random: &mut Random) -> Calls {
    // Mean seconds between calls at the peak.
    let gap = match function % 20 {
        0..14 => random.spread(1800.0, 28_800.0),
        14..18 => random.spread(60.0, 3600.0),
        _ => random.spread(0.5, 60.0),
    };
    let runs = random.spread(0.05, 3.0);
    let mut moments = match function / 20 {
        // Timers and machines that poll: a period out of the usual ones, and a second of jitter.
        0..3 => timer(gap, random),
        // People: a session of calls some seconds apart.
        3..6 => sessions(gap, random),
        _ => at_random(gap, random),
    };
    moments.sort_by(f64::total_cmp);
    Calls(moments.into_iter().map(|at| (at, runs)).collect())
}

fn timer(gap: f64, random: &mut Random) -> Vec<f64> {
    const PERIODS: [f64; 9] = [60.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 10_800.0, 21_600.0];
    let period = PERIODS.into_iter().find(|period| *period >= gap).unwrap_or(21_600.0);
    let first = random.unit() * period;
    let count = ((DAY - first) / period) as u32;
    (0..=count).map(|n| first + f64::from(n) * period + random.unit()).collect()
}

fn sessions(gap: f64, random: &mut Random) -> Vec<f64> {
    let mut all = Vec::new();
    for start in at_random(gap * 10.0, random) {
        let mut at = start;
        for _ in 0..10 {
            all.push(at);
            at += random.exponential(15.0);
        }
    }
    all
}

/// A Poisson process whose rate follows the day, by thinning.
fn at_random(gap: f64, random: &mut Random) -> Vec<f64> {
    let (mut at, mut all) = (0.0, Vec::new());
    loop {
        at += random.exponential(gap);
        if at >= DAY {
            return all;
        }
        if random.unit() < swing(at) {
            all.push(at);
        }
    }
}

/// Runs every function's day through a policy. One instance serves a function's calls, however many at once.
pub(crate) fn simulate(day: &[Calls], policy: &Policy) -> Cost {
    let mut cost = Cost::default();
    for Calls(calls) in day {
        let mut habits = Habits::default();
        // Until when calls run, and what is planned for the idle time from then on.
        let mut busy_until: Option<f64> = None;
        for &(at, runs) in calls {
            cost.calls += 1;
            cost.used_s += runs;
            match busy_until {
                Some(until) if at < until => {
                    cost.held_s += (at + runs - until).max(0.0);
                    busy_until = Some(until.max(at + runs));
                    continue;
                }
                Some(until) => {
                    let gap = at - until;
                    // Any plan keeps for so long: no need to make one.
                    if gap <= SHORTEST.as_secs_f64() {
                        cost.held_s += gap;
                    } else {
                        cost.idle(&plan(policy, &habits), gap);
                    }
                    habits.record(Duration::from_secs_f64(gap));
                }
                None => cost.cold += 1,
            }
            cost.held_s += runs;
            busy_until = Some(at + runs);
        }
        if let Some(until) = busy_until {
            cost.rest(&plan(policy, &habits), (DAY - until).max(0.0));
        }
    }
    cost
}

fn plan(policy: &Policy, habits: &Habits) -> Forecast {
    match policy {
        Policy::Fixed(seconds) => Forecast { keep: Duration::from_secs_f64(*seconds), window: None },
        Policy::Predictive(fixed) => habits.forecast(Duration::from_secs_f64(*fixed)),
    }
}

impl Cost {
    /// A gap between two calls, under a plan.
    fn idle(&mut self, plan: &Forecast, gap: f64) {
        if !self.rest(plan, gap) {
            self.cold += 1;
        }
    }

    /// What is held in an idle time; whether there is an instance at its end.
    fn rest(&mut self, plan: &Forecast, gap: f64) -> bool {
        let keep = plan.keep.as_secs_f64();
        self.held_s += gap.min(keep);
        if gap <= keep {
            return true;
        }
        let Some((from, until)) = plan.window else { return false };
        let (from, until) = (from.as_secs_f64(), until.as_secs_f64());
        if gap < from {
            return false;
        }
        self.warmed += 1;
        self.held_s += gap.min(until) - from;
        gap <= until
    }

    /// Calls that found no instance, of all.
    pub(crate) fn cold_share(&self) -> f64 {
        self.cold as f64 / self.calls as f64
    }

    /// Machine-seconds held for each one used.
    pub(crate) fn held_to_used(&self) -> f64 {
        self.held_s / self.used_s
    }
}
