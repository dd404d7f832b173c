//! How long to keep an idle instance, and when to start one ahead of the next call, from a version's own past.
//!
//! After "Serverless in the Wild" (USENIX ATC 2020): a small histogram of idle times a version; its head says when
//! to warm up, its tail how long to keep; too little history, or one without a shape, falls back to a fixed
//! time. Two things differ. Bins are spaced logarithmically, since gaps here run from seconds to a day, and a bin
//! is a forty-sixth of its place: a timer's window is narrow wherever it lies. And where head and tail lie is a
//! matter of price, not of a percentile: waiting is worth while for as long as the calls it would meet
//! outweigh the seconds it holds. A percentile keeps a function that is called in bursts through the whole
//! gap between them.
//!
//! Pure: no clock, no lock, some 450 bytes a version. What is idle is the pool's to know.

use std::time::Duration;

/// Bins to an octave.
const PER_OCTAVE: usize = 32;
/// Octaves, from [`SHORTEST`] on: 8 seconds to 36 hours.
const OCTAVES: usize = 14;
const BINS: usize = PER_OCTAVE * OCTAVES;

/// Gaps below this say nothing: an instance is always kept for so long.
pub const SHORTEST: Duration = Duration::from_secs(8);

/// Gaps before there is a forecast.
const ENOUGH: u32 = 3;

/// Gaps that a window which is warmed for must have seen, so that one coincidence is no habit.
const SUPPORT: u32 = 3;

/// Idle time that one cold start is worth, as a multiple of the shortest: ten minutes.
const PRICE: f64 = 75.0;

/// Idle time that starting another instance ahead costs, as a multiple of the shortest: a quarter of a minute.
const RESTART: f64 = 2.0;

/// Below this coefficient of variation of the octaves' counts, the gaps have no shape to go by.
const SHAPE: f64 = 1.0;

/// What the first byte is of habits that are written down.
const FORMAT: u8 = 1;

/// Idle times of one version.
#[derive(Debug, Clone)]
pub struct Habits {
    bins: Box<[u8; BINS]>,
    /// Gaps shorter than the first bin, or longer than the last, are not in it.
    total: u32,
    /// Where the first bin begins.
    shortest: Duration,
}

/// What the past says about the idle period that has just begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// How long to keep an instance from the end of the last call on.
    pub keep: Duration,
    /// Later window in which a call is likely: an instance is worth having from the first moment to the second.
    pub window: Option<(Duration, Duration)>,
}

/// In bins: how many to keep through from the first on, and the first and last of a later window.
struct Plan {
    keep: usize,
    window: Option<(usize, usize)>,
}

impl Default for Habits {
    fn default() -> Self {
        Self::new(SHORTEST)
    }
}

impl Habits {
    /// Of gaps that are at least so long; an instance is always kept for that time.
    pub fn new(shortest: Duration) -> Self {
        Self { bins: Box::new([0; BINS]), total: 0, shortest }
    }

    /// What [`Habits::from_bytes`] reads: where the first bin begins, and the number and count of each that is not empty.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        // Seconds, or a test's milliseconds.
        bytes.extend((self.shortest.as_millis() as u64).to_le_bytes());
        for (bin, count) in (0_u16..).zip(self.bins.iter()).filter(|(_, count)| **count > 0) {
            bytes.extend(bin.to_le_bytes());
            bytes.push(*count);
        }
        bytes
    }

    /// What [`Habits::to_bytes`] made; `None` where it did not, or for gaps of another length.
    pub fn from_bytes(bytes: &[u8], shortest: Duration) -> Option<Self> {
        let mut habits = Self::new(shortest);
        let (head, bins) = bytes.split_first_chunk::<9>()?;
        let (bins, rest) = bins.as_chunks::<3>();
        if *head != habits.to_bytes()[..] || !rest.is_empty() {
            return None;
        }
        let mut least = 0;
        for [low, high, count] in bins {
            let bin = usize::from(u16::from_le_bytes([*low, *high]));
            if bin < least || *count == 0 {
                return None;
            }
            *habits.bins.get_mut(bin)? = *count;
            habits.total += u32::from(*count);
            least = bin + 1;
        }
        Some(habits)
    }

    /// A call came after this long without any.
    pub fn record(&mut self, idle: Duration) {
        let Some(bin) = self.bin(idle) else { return };
        if self.bins[bin] == u8::MAX {
            self.age();
        }
        self.bins[bin] += 1;
        self.total += 1;
    }

    /// Halves every count: what was long ago counts less.
    fn age(&mut self) {
        self.bins.iter_mut().for_each(|count| *count /= 2);
        self.total = self.bins.iter().map(|count| u32::from(*count)).sum();
    }

    /// What to do in an idle period. `fixed` is the time to fall back to, and the most that is ever held at a
    /// stretch.
    pub fn forecast(&self, fixed: Duration) -> Forecast {
        if self.total < ENOUGH || self.variation() < SHAPE {
            return Forecast { keep: fixed, window: None };
        }
        let Plan { keep, window } = self.plan();
        let keep = self.edge(keep);
        // A bin's width of margin on both sides.
        let margins =
            |(first, last): (usize, usize)| (self.edge(first.saturating_sub(1)), self.edge(last + 2));
        let window = window.map(margins).filter(|(from, _)| *from > keep);
        Forecast {
            keep: keep.min(fixed.max(self.shortest)),
            window: window.map(|(from, until)| (from, until.min(from + fixed))),
        }
    }

    /// The first so many bins, and possibly a later window of bins, that gain most together.
    fn plan(&self) -> Plan {
        let mut best = (0.0, Plan { keep: 0, window: None });
        // Holding on so far; the best point to have let go at; the best window that is open.
        let (mut held, mut let_go, mut open) = (0.0, (0.0, 0), None::<(f64, usize, usize)>);
        let mut left = f64::from(self.total);
        for (bin, gain) in self.gains().into_iter().enumerate() {
            let opened = (let_go.0 - RESTART * self.shortest.as_secs_f64() * left, let_go.1, bin);
            let (sum, keep, first) = open.filter(|open| open.0 >= opened.0).unwrap_or(opened);
            open = Some((sum + gain, keep, first));
            held += gain;
            left -= f64::from(self.bins[bin]);
            if held > let_go.0 {
                let_go = (held, bin + 1);
            }
            if held > best.0 {
                best = (held, Plan { keep: bin + 1, window: None });
            }
            if sum + gain > best.0 && self.seen(first, bin) >= SUPPORT {
                best = (sum + gain, Plan { keep, window: Some((first, bin)) });
            }
        }
        best.1
    }

    fn seen(&self, first: usize, last: usize) -> u32 {
        self.bins[first..=last].iter().map(|count| u32::from(*count)).sum()
    }

    /// What holding an instance through each bin is worth, in seconds: calls met at their price, less what every
    /// gap that has not ended by then would hold.
    fn gains(&self) -> Vec<f64> {
        let mut left = f64::from(self.total);
        let gain = |(bin, count): (usize, &u8)| {
            let count = f64::from(*count);
            let width = (self.edge(bin + 1) - self.edge(bin)).as_secs_f64();
            left -= count;
            count * (PRICE * self.shortest.as_secs_f64() - width / 2.0) - left * width
        };
        self.bins.iter().enumerate().map(gain).collect()
    }

    /// Where a gap is counted; what is shorter or longer than all bins is not.
    fn bin(&self, idle: Duration) -> Option<usize> {
        let octaves = (idle.as_secs_f64() / self.shortest.as_secs_f64()).log2();
        let bin = (octaves * PER_OCTAVE as f64).floor();
        // Between 0 and BINS, so neither sign nor size is lost.
        (bin >= 0.0 && bin < BINS as f64).then_some(bin as usize)
    }

    /// Where a bin begins.
    fn edge(&self, bin: usize) -> Duration {
        self.shortest.mul_f64((bin as f64 / PER_OCTAVE as f64).exp2())
    }

    /// The coefficient of variation of the octaves' counts.
    fn variation(&self) -> f64 {
        let octaves = self.bins.chunks(PER_OCTAVE);
        let counts: Vec<f64> = octaves.map(|bins| bins.iter().map(|count| f64::from(*count)).sum()).collect();
        let mean = counts.iter().sum::<f64>() / OCTAVES as f64;
        let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / OCTAVES as f64;
        if mean > 0.0 { variance.sqrt() / mean } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXED: Duration = Duration::from_secs(600);

    fn after(gaps: impl IntoIterator<Item = f64>) -> Forecast {
        let mut habits = Habits::default();
        gaps.into_iter().for_each(|gap| habits.record(Duration::from_secs_f64(gap)));
        habits.forecast(FIXED)
    }

    #[test]
    fn little_or_shapeless_history_falls_back() {
        let fixed = Forecast { keep: FIXED, window: None };
        assert_eq!(after([]), fixed);
        assert_eq!(after([1800.0; 2]), fixed);
        assert_eq!(after([0.5; 50]), fixed, "too short to say anything");
        let flat = (0..OCTAVES * 4).map(|n| 8.0 * f64::from(n as u32).mul_add(0.25, 0.1).exp2());
        assert_eq!(after(flat), fixed);
    }

    #[test]
    fn a_timer_is_warmed_for_and_not_kept() {
        let forecast = after((0..20).map(|n| 1800.0 + f64::from(n % 3)));
        assert_eq!(forecast.keep, SHORTEST);
        let (from, until) = forecast.window.unwrap();
        assert!(from.as_secs() < 1800 && until.as_secs() > 1803, "{forecast:?}");
        assert!((until - from).as_secs() < 300, "{forecast:?}");
    }

    #[test]
    fn a_busy_function_is_kept_between_its_calls() {
        let forecast = after((0..40).map(|n| 10.0 + f64::from(n)));
        assert!((48..100).contains(&forecast.keep.as_secs()), "{forecast:?}");
        assert_eq!(forecast.window, None);
    }

    #[test]
    fn a_burst_is_not_followed_by_a_long_wait() {
        // Nine calls some seconds apart, then an hour or several.
        let gaps = (0..100_u32).map(|n| if n % 10 == 9 { 3600.0 * f64::from(1 + n % 7) } else { 12.0 });
        let forecast = after(gaps);
        assert!(forecast.keep.as_secs() < 60, "{forecast:?}");
    }

    #[test]
    fn nothing_is_held_longer_than_the_fixed_time() {
        let forecast = after((0..50).map(|n| 60.0 + 20.0 * f64::from(n)));
        assert!(forecast.keep <= FIXED, "{forecast:?}");
        let late = after((0..200).map(|n| 80_000.0 + 10.0 * f64::from(n)));
        if let Some((from, until)) = late.window {
            assert!(until - from <= FIXED, "{late:?}");
        }
    }

    #[test]
    fn counts_age_and_new_habits_win() {
        let mut habits = Habits::default();
        for _ in 0..10_000 {
            habits.record(Duration::from_secs(30));
        }
        assert!(habits.total <= 255);
        for _ in 0..600 {
            habits.record(Duration::from_secs(7200));
        }
        let (from, until) = habits.forecast(FIXED).window.unwrap();
        assert!(from.as_secs() < 7200 && until.as_secs() > 7200);
    }

    #[test]
    fn bytes_are_read_as_written_and_nothing_else_is() {
        let mut habits = Habits::default();
        for gap in [9, 1800, 1800, 1801, 40_000] {
            habits.record(Duration::from_secs(gap));
        }
        let bytes = habits.to_bytes();
        assert!(bytes.len() < 30, "{}", bytes.len());
        let read = Habits::from_bytes(&bytes, SHORTEST).unwrap();
        assert_eq!((read.bins, read.total), (habits.bins.clone(), habits.total));
        assert_eq!(Habits::from_bytes(&bytes, SHORTEST * 2).map(|read| read.total), None);
        for length in (0..bytes.len()).filter(|length| (length - length.min(&9)) % 3 != 0 || *length < 9) {
            assert!(Habits::from_bytes(&bytes[..length], SHORTEST).is_none(), "{length}");
        }
        let changed = |at: usize, to: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = to;
            Habits::from_bytes(&bytes, SHORTEST)
        };
        assert!(changed(0, 2).is_none(), "another format");
        assert!(changed(10, 0xff).is_none(), "no such bin");
        assert!(changed(11, 0).is_none(), "a count of none");
        let twice = [&bytes[..], &bytes[9..12]].concat();
        assert!(Habits::from_bytes(&twice, SHORTEST).is_none(), "a bin that was there");
    }

    #[test]
    fn edges_and_bins_agree() {
        let habits = Habits::default();
        for index in 0..BINS {
            assert_eq!(habits.bin(habits.edge(index).mul_f64(1.001)), Some(index));
        }
        assert_eq!(habits.bin(Duration::from_secs(7)), None);
        assert_eq!(habits.bin(Duration::from_secs(1 << 20)), None);
    }
}
