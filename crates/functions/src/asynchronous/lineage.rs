//! Functions that call each other in circles are found by a trace's lineage.
//!
//! `X-Amzn-Trace-Id` has a member `Lineage` that counts how often each function was passed in the chain of calls:
//! `Lineage=a87bd80c:1|68fd508a:5` (AWS X-Ray: tracing header). A function finds its own in its environment, and SDKs
//! pass it on with what they call. Pure.

use std::fmt::{Display, Formatter, Write};

use base::{AccountId, Region};

/// How often a function may be passed in one chain (Lambda: recursive loop detection).
pub(crate) const PASSES: u32 = 16;

/// Functions that a lineage remembers; of a longer chain the oldest are forgotten.
const MEMBERS: usize = 32;

/// Bytes of a trace that are taken over; a longer one is nobody's.
pub(crate) const TRACE_BYTES: usize = 2048;

/// What a function is called in lineages: its ARN, whichever version runs.
pub(crate) struct Name<'a> {
    pub(crate) region: &'a Region,
    pub(crate) account: &'a AccountId,
    pub(crate) function: &'a str,
}

impl Display for Name<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "arn:aws:lambda:{}:{}:function:{}", self.region, self.account, self.function)
    }
}

/// The trace with one pass more of a function, and how often it was passed before.
pub(crate) fn pass(trace: &str, function: &impl Display) -> (String, u32) {
    let hash = hash(function);
    let mut out = String::with_capacity(trace.len() + 24);
    let mut members: Vec<(u32, u32)> = Vec::new();
    for part in trace.split(';').filter(|part| !part.is_empty()) {
        match part.strip_prefix("Lineage=") {
            Some(lineage) => members = read(lineage),
            None => {
                out.push_str(part);
                out.push(';');
            }
        }
    }
    let before = match members.iter_mut().find(|(member, _)| *member == hash) {
        Some((_, count)) => {
            *count += 1;
            *count - 1
        }
        None => {
            members.push((hash, 1));
            0
        }
    };
    out.push_str("Lineage=");
    for (index, (member, count)) in members.iter().skip(members.len().saturating_sub(MEMBERS)).enumerate() {
        let bar = if index == 0 { "" } else { "|" };
        // Writing to a string does not fail.
        let _ = write!(out, "{bar}{member:08x}:{count}");
    }
    (out, before)
}

/// The trace without its lineage: a chain that an operator begins anew.
pub(crate) fn forget(trace: &str) -> String {
    trace.split(';').filter(|part| !part.starts_with("Lineage=")).collect::<Vec<_>>().join(";")
}

fn read(lineage: &str) -> Vec<(u32, u32)> {
    let member = |text: &str| {
        let (hash, count) = text.split_once(':')?;
        let count: u32 = count.parse().ok().filter(|count| *count < 1 << 15)?;
        Some((u32::from_str_radix(hash, 16).ok()?, count))
    };
    lineage.split('|').filter_map(member).take(MEMBERS).collect()
}

/// FNV-1a, without a string in between: every call pays for it.
struct Fnv(u32);

impl Write for Fnv {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let more = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        self.0 = text.bytes().fold(self.0, more);
        Ok(())
    }
}

fn hash(name: &impl Display) -> u32 {
    let mut hash = Fnv(0x811c_9dc5);
    // It takes whatever comes.
    let _ = write!(hash, "{name}");
    hash.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_are_counted_by_function() {
        let (trace, before) = pass("Root=1-2-3;Sampled=0", &"f");
        assert_eq!((trace.as_str(), before), ("Root=1-2-3;Sampled=0;Lineage=e30c2799:1", 0));
        let (trace, before) = pass(&trace, &"g");
        assert_eq!((trace.as_str(), before), ("Root=1-2-3;Sampled=0;Lineage=e30c2799:1|e20c2606:1", 0));
        let (trace, before) = pass(&trace, &"f");
        assert_eq!((trace.as_str(), before), ("Root=1-2-3;Sampled=0;Lineage=e30c2799:2|e20c2606:1", 1));
        assert_eq!(forget(&trace), "Root=1-2-3;Sampled=0");
    }

    #[test]
    fn a_function_is_the_same_by_either_name() {
        let arn = base::FunctionArn::parse("arn:aws:lambda:eu-west-3:123456789012:function:hello").unwrap();
        let name = Name { region: &arn.region, account: &arn.account, function: &arn.name };
        assert_eq!(pass("", &name), pass("", &arn));
    }

    #[test]
    fn a_circle_is_seen_after_as_many_passes_as_are_allowed() {
        let mut trace = "Root=1-2-3".to_owned();
        let mut ran = 0;
        loop {
            let (longer, before) = pass(&trace, &"f");
            if before >= PASSES {
                break;
            }
            (trace, ran) = (pass(&longer, &"between").0, ran + 1);
        }
        assert_eq!(ran, 16);
    }

    #[test]
    fn what_callers_make_up_does_no_harm() {
        for bad in ["Lineage=", "Lineage=x:y|:|1:99999999999", ";;;", "", "Lineage=1:32768"] {
            assert_eq!(pass(bad, &"f").1, 0, "{bad}");
        }
        let many: Vec<String> = (0..100).map(|index| format!("{index:x}:1")).collect();
        let (long, _) = pass(&format!("Lineage={}", many.join("|")), &"f");
        assert_eq!(long.matches('|').count(), MEMBERS - 1);
        assert!(long.ends_with("e30c2799:1"));
    }
}
