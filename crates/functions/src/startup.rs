//! How an instance came up, and how long the parts of a call took.

use std::time::Duration;

use observe::{FunctionMeter, Phase};
use sandbox::{Origin, Phases};

/// How an instance came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Startup {
    /// From asking the back end for an instance until it could take a call.
    pub total: Duration,
    /// What that was made of, as far as the back end tells.
    pub phases: Phases,
    /// How long of that somebody waited for bytes of its image, where not all of it was there: it is in the other parts
    /// too. Starts of one image at the same time wait for the same.
    pub fetch: Option<Duration>,
}

/// How long the parts of a call took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// Until the call had its place on an instance. Where one was started for it, that is a part of this.
    pub wait: Duration,
    /// How the instance came up, where this is its first call.
    pub startup: Option<Startup>,
    /// On the instance.
    pub call: Duration,
}

impl Startup {
    /// Of a start about which nothing but its length is known.
    pub(crate) fn unknown(total: Duration) -> Self {
        Self { total, phases: Phases::default(), fetch: None }
    }

    /// The parts, if the back end told them.
    pub fn parts(&self) -> Option<[(&'static str, Duration); 3]> {
        let Phases { origin, sandbox, runtime, init } = self.phases;
        let told = origin != Origin::Cold || !(sandbox + runtime + init).is_zero();
        told.then_some([("sandbox", sandbox), ("runtime", runtime), ("init", init)])
    }

    /// Counts it.
    pub(crate) fn count(&self, meter: &FunctionMeter) {
        meter.cold_start(self.total);
        if self.parts().is_none() {
            return;
        }
        let Phases { origin, sandbox, runtime, init } = self.phases;
        for (phase, duration) in [(Phase::Sandbox, sandbox), (Phase::Runtime, runtime), (Phase::Init, init)] {
            meter.phase(phase, origin.as_str(), duration);
        }
        if let Some(fetch) = self.fetch {
            meter.phase(Phase::Fetch, origin.as_str(), fetch);
        }
    }

    /// Counts the first call of the instance that came up so.
    pub(crate) fn count_first_call(&self, meter: &FunctionMeter, duration: Duration) {
        meter.phase(Phase::FirstCall, self.phases.origin.as_str(), duration);
    }
}
