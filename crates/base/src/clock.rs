//! Time as a parameter.
//!
//! Domain code takes a [`Clock`] so that a test decides what time it is; the direct calls are banned by
//! clippy outside this file. Monotonic time (deadlines, durations) stays with `std::time::Instant`.

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Milliseconds since the Unix epoch.
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// Lambda's form of `LastModified`: `2026-11-20T07:37:38.123+0000`.
    pub fn to_lambda(self) -> String {
        self.zoned().strftime("%Y-%m-%dT%H:%M:%S.%3f+0000").to_string()
    }

    /// RFC 3339 with milliseconds and `Z`: `2026-11-20T07:37:38.123Z`.
    pub fn to_rfc3339(self) -> String {
        self.zoned().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
    }

    /// `20261120T073738Z`, the basic form that SigV4 signs.
    pub fn to_basic(self) -> String {
        self.zoned().strftime("%Y%m%dT%H%M%SZ").to_string()
    }

    /// Reads the basic form `20261120T073738Z`. Every signed request has one, so it is taken apart by hand.
    pub fn from_basic(text: &str) -> Option<Self> {
        let bytes: &[u8; 16] = text.as_bytes().try_into().ok()?;
        if bytes[8] != b'T' || bytes[15] != b'Z' {
            return None;
        }
        let pair = |at: usize| match (bytes[at], bytes[at + 1]) {
            // Two digits make at most 99.
            (tens @ b'0'..=b'9', ones @ b'0'..=b'9') => Some(((tens - b'0') * 10 + ones - b'0') as i8),
            _ => None,
        };
        let year = i16::from(pair(0)?) * 100 + i16::from(pair(2)?);
        let (month, day) = (pair(4)?, pair(6)?);
        let (hour, minute, second) = (pair(9)?, pair(11)?, pair(13)?);
        let time = jiff::civil::DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
        let instant = jiff::tz::Offset::UTC.to_timestamp(time).ok()?;
        Some(Self(instant.as_millisecond()))
    }

    /// Year, month, day as `2026/11/20`, the prefix of a log stream's name.
    pub fn to_date_path(self) -> String {
        self.zoned().strftime("%Y/%m/%d").to_string()
    }

    fn zoned(self) -> jiff::Zoned {
        jiff::Timestamp::from_millisecond(self.0)
            .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
            .to_zoned(jiff::tz::TimeZone::UTC)
    }
}

/// Where a component gets the wall-clock time from.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The host's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_millisecond())
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    #[test]
    fn forms_of_one_instant() {
        let time = Timestamp(1_795_160_258_123);
        assert_eq!(time.to_rfc3339(), "2026-11-20T07:37:38.123Z");
        assert_eq!(time.to_lambda(), "2026-11-20T07:37:38.123+0000");
        assert_eq!(time.to_basic(), "20261120T073738Z");
        assert_eq!(time.to_date_path(), "2026/11/20");
        assert_eq!(Timestamp::from_basic("20261120T073738Z"), Some(Timestamp(1_795_160_258_000)));
        for time in [Timestamp(0), Timestamp(951_782_399_000), Timestamp(1_709_164_800_000)] {
            assert_eq!(Timestamp::from_basic(&time.to_basic()), Some(time));
        }
    }

    #[test]
    fn what_is_no_instant_in_the_basic_form() {
        for text in [
            "",
            "2026-11-20",
            "20261120T073738",
            "20261120T073738Z ",
            "20261120 073738Z",
            "20261120T073738z",
            "2026112 T073738Z",
            "20261320T073738Z",
            "20260229T073738Z",
            "20261120T243738Z",
            "20261120T073760Z",
            "+0261120T073738Z",
            "202611\u{661}T073738Z",
        ] {
            assert_eq!(Timestamp::from_basic(text), None, "{text}");
        }
    }
}
