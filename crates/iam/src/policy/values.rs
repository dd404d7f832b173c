//! How two values compare: by each operator's own kind of value.
//!
//! A value that is not of the operator's kind compares to nothing.

use std::net::IpAddr;

use super::Context;
use super::pattern::Pattern;

/// What an operator does, without `Not…`, `…IfExists` and `For…Values:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equals,
    EqualsIgnoreCase,
    Like,
    Arn,
    Numeric(Order),
    Date(Order),
    Bool,
    IpAddress,
}

/// How the request's value lies to the policy's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    fn holds(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

impl Test {
    /// Reads a policy's value for this test; `None` if it can never be one.
    pub(super) fn read(self, text: &str, variables: bool) -> Option<Pattern> {
        let legal = match self {
            Self::Numeric(_) => number(text).is_some(),
            Self::Date(_) => date(text).is_some(),
            Self::Bool => boolean(text).is_some(),
            Self::IpAddress => range(text).is_some(),
            _ => true,
        };
        let variable = variables && text.contains("${");
        (legal || variable).then(|| match self {
            Self::Like | Self::Arn => Pattern::glob(text, variables),
            _ => Pattern::literal(text, variables),
        })
    }

    /// Whether the request's value meets the policy's.
    pub(super) fn meets(self, actual: &str, wanted: &Pattern, context: &Context) -> bool {
        match self {
            Self::Equals | Self::Like => wanted.matches(actual, context),
            Self::EqualsIgnoreCase => wanted.matches_any_case(actual, context),
            Self::Arn => arns(actual, wanted, context),
            Self::Numeric(order) => {
                compare(number(actual), wanted, context, number).is_some_and(|o| order.holds(o))
            }
            Self::Date(order) => compare(date(actual), wanted, context, date).is_some_and(|o| order.holds(o)),
            Self::Bool => compare(boolean(actual), wanted, context, boolean).is_some_and(|o| o.is_eq()),
            Self::IpAddress => address_in(actual, wanted, context).unwrap_or(false),
        }
    }
}

fn compare<T: PartialOrd>(
    actual: Option<T>,
    wanted: &Pattern,
    context: &Context,
    read: fn(&str) -> Option<T>,
) -> Option<std::cmp::Ordering> {
    actual?.partial_cmp(&read(&wanted.text(context)?)?)
}

fn number(text: &str) -> Option<f64> {
    let plain =
        text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E'));
    plain.then(|| text.parse().ok()).flatten().filter(|number: &f64| number.is_finite())
}

/// Milliseconds: seconds since the epoch, or ISO 8601 down to a day.
fn date(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<i64>() {
        return seconds.checked_mul(1000);
    }
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Some(instant.as_millisecond());
    }
    let day: jiff::civil::Date = text.parse().ok()?;
    let instant = jiff::tz::Offset::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok()?;
    Some(instant.as_millisecond())
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn address_in(actual: &str, wanted: &Pattern, context: &Context) -> Option<bool> {
    let actual: IpAddr = actual.parse().ok()?;
    let (network, bits) = range(&wanted.text(context)?)?;
    Some(match (actual.to_canonical(), network) {
        (IpAddr::V4(actual), IpAddr::V4(network)) => {
            same_prefix(u128::from(actual.to_bits()), u128::from(network.to_bits()), 32, bits)
        }
        (IpAddr::V6(actual), IpAddr::V6(network)) => {
            same_prefix(actual.to_bits(), network.to_bits(), 128, bits)
        }
        _ => false,
    })
}

fn same_prefix(a: u128, b: u128, width: u32, bits: u32) -> bool {
    // A shift by the whole width of a u128 is no shift at all, so nothing is compared by itself.
    bits == 0 || (a ^ b) >> (width - bits) == 0
}

/// `ADDRESS` or `ADDRESS/BITS`.
fn range(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(most);
    (bits <= most).then_some((address, bits))
}

/// Each of the six parts by itself: an asterisk does not reach over a colon.
fn arns(actual: &str, wanted: &Pattern, context: &Context) -> bool {
    let actual: Vec<&str> = actual.splitn(6, ':').collect();
    let wanted = wanted.arn_parts();
    if wanted.len() == 1 && wanted[0].matches("*", context) && wanted[0] == Pattern::glob("*", false) {
        return true;
    }
    actual.len() == 6
        && wanted.len() == 6
        && actual.iter().zip(&wanted).all(|(actual, wanted)| wanted.matches(actual, context))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(test: Test, actual: &str, wanted: &str, expect: bool) {
        let pattern = test.read(wanted, true).unwrap();
        assert_eq!(test.meets(actual, &pattern, &Context::default()), expect, "{test:?} {actual} {wanted}");
    }

    #[test]
    fn texts() {
        check(Test::Equals, "a*", "a*", true);
        check(Test::Equals, "ab", "a*", false);
        check(Test::EqualsIgnoreCase, "ÄB", "äb", true);
        check(Test::Like, "ab", "a*", true);
    }

    #[test]
    fn numbers_dates_and_booleans() {
        check(Test::Numeric(Order::Equal), "10.0", "10", true);
        check(Test::Numeric(Order::Less), "9", "10", true);
        check(Test::Numeric(Order::Less), "10", "10", false);
        check(Test::Numeric(Order::GreaterOrEqual), "10", "10", true);
        check(Test::Numeric(Order::Equal), "ten", "10", false);
        check(Test::Date(Order::Less), "2026-11-20T07:37:38Z", "2026-11-21", true);
        check(Test::Date(Order::Greater), "2026-11-20T07:37:38Z", "1795160257", true);
        check(Test::Bool, "TRUE", "true", true);
        check(Test::Bool, "false", "true", false);
        assert_eq!(Test::Bool.read("yes", true), None);
        assert_eq!(Test::Numeric(Order::Equal).read("inf", true), None);
    }

    #[test]
    fn addresses() {
        check(Test::IpAddress, "10.1.2.3", "10.0.0.0/8", true);
        check(Test::IpAddress, "11.1.2.3", "10.0.0.0/8", false);
        check(Test::IpAddress, "10.1.2.3", "10.1.2.3", true);
        check(Test::IpAddress, "::ffff:10.1.2.3", "10.0.0.0/8", true);
        check(Test::IpAddress, "2001:db8::1", "2001:db8::/32", true);
        check(Test::IpAddress, "2001:db9::1", "2001:db8::/32", false);
        check(Test::IpAddress, "10.1.2.3", "0.0.0.0/0", true);
        check(Test::IpAddress, "::1", "::/0", true);
        assert_eq!(Test::IpAddress.read("10.0.0.0/33", true), None);
    }

    #[test]
    fn arns_compare_part_by_part() {
        check(Test::Arn, "arn:aws:s3:::bucket", "arn:aws:s3:::b*", true);
        check(Test::Arn, "arn:aws:s3:::bucket", "arn:*:bucket", false);
        check(Test::Arn, "arn:aws:sns:us-east-1:1:topic:sub", "arn:aws:sns:*:1:*", true);
        check(Test::Arn, "arn:aws:s3:::bucket", "*", true);
        check(Test::Arn, "bucket", "arn:aws:s3:::*", false);
    }
}
