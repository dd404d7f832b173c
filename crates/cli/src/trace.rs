//! What a call was made of: the `Server-Timing` header of Invoke, read and drawn.
//!
//! Draws on standard error, since standard output is the function's answer.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::output;

/// Milliseconds of each part, as the server measured them, and of the whole, as this side did.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trace {
    total: f64,
    wait: f64,
    start: Option<Start>,
    call: f64,
}

/// The instance came up for this call, or this was its first.
#[derive(Debug, Clone, PartialEq)]
struct Start {
    origin: String,
    total: f64,
    /// Sandbox, runtime, init; `None` where the server does not know them.
    parts: Option<[f64; 3]>,
    /// Waiting for bytes of its image, where not all of it was there; within the parts.
    fetch: Option<f64>,
}

impl Trace {
    /// Reads the header (W3C: Server Timing).
    pub(crate) fn read(header: &str, total: Duration) -> Result<Self> {
        let duration = |name: &str| parameter(header, name, "dur").and_then(|text| text.parse().ok());
        let needed = |name: &str| {
            let found: Option<f64> = duration(name);
            found.with_context(|| format!("the server's trace has no {name}: {header}"))
        };
        let start = parameter(header, "start", "desc").zip(duration("start")).map(|(origin, total)| {
            let parts = match (duration("sandbox"), duration("runtime"), duration("init")) {
                (Some(sandbox), Some(runtime), Some(init)) => Some([sandbox, runtime, init]),
                _ => None,
            };
            Start { origin: origin.to_owned(), total, parts, fetch: duration("fetch") }
        });
        let total = total.as_secs_f64() * 1000.0;
        Ok(Self { total, wait: needed("wait")?, start, call: needed("call")? })
    }

    /// For scripts.
    pub(crate) fn json(&self) -> Value {
        let start = self.start.as_ref().map(|start| {
            let part = |index: usize| start.parts.map(|parts| parts[index]);
            json!({
                "Origin": start.origin,
                "TotalMs": start.total,
                "SandboxMs": part(0),
                "RuntimeMs": part(1),
                "InitMs": part(2),
                "FetchMs": start.fetch,
            })
        });
        json!({ "TotalMs": self.total, "WaitMs": self.wait, "Start": start, "CallMs": self.call })
    }

    /// For people: one row a part, with its place in the whole.
    pub(crate) fn draw(&self) -> String {
        let mut rows = Vec::new();
        let mut row = |name: &str, whose: &str, begin: Option<f64>, length: f64| {
            let bar = begin.map(|begin| bar(begin / self.total, length / self.total)).unwrap_or_default();
            rows.push(vec![name.to_owned(), format!("{length:>8.2} ms"), whose.to_owned(), bar]);
        };
        row("wait", "Virga", Some(0.0), self.wait);
        if let Some(start) = &self.start {
            // An instance that was there before the call came took no part of its time.
            let begin = Some(self.wait - start.total).filter(|begin| *begin >= 0.0);
            let title = format!("  start ({})", start.origin);
            row(&title, begin.map_or("before the call", |_| ""), begin, start.total);
            if let Some([sandbox, runtime, init]) = start.parts {
                row("    sandbox", "Virga", begin, sandbox);
                row("    runtime", "Virga", begin.map(|begin| begin + sandbox), runtime);
                row("    init", "the function", begin.map(|begin| begin + sandbox + runtime), init);
            }
            if let Some(fetch) = start.fetch {
                row("    of that fetch", "the registry", None, fetch);
            }
        }
        row("call", "the function", Some(self.wait), self.call);
        let rest = (self.total - self.wait - self.call).max(0.0);
        row("rest", "API and network", Some(self.wait + self.call), rest);
        rows.push(vec!["total".to_owned(), format!("{:>8.2} ms", self.total)]);
        output::table(&rows)
    }
}

/// A parameter of one metric of the header.
fn parameter<'a>(header: &'a str, metric: &str, name: &str) -> Option<&'a str> {
    let mut parts = header.split(',').map(|entry| entry.trim().split(';'));
    let mut found = parts.find_map(|mut parts| (parts.next() == Some(metric)).then_some(parts))?;
    found.find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
}

/// Columns of the whole.
const WIDTH: f64 = 40.0;

/// A stretch of the whole, both as fractions of it; never nothing at all.
fn bar(begin: f64, length: f64) -> String {
    let column = |at: f64| (at.clamp(0.0, 1.0) * WIDTH).round() as usize;
    let begin = column(begin).min(WIDTH as usize - 1);
    let end = column(begin as f64 / WIDTH + length).max(begin + 1);
    format!("{}{}", " ".repeat(begin), "█".repeat(end - begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLD: &str = "wait;dur=80.0, start;desc=sandbox;dur=60.0, sandbox;dur=0.0, runtime;dur=20.0, init;dur=40.0, \
                        call;dur=10.0";

    fn read(header: &str) -> Trace {
        Trace::read(header, Duration::from_millis(100)).unwrap()
    }

    #[test]
    fn every_part_has_its_row() {
        let expect = "\
wait                  80.00 ms  Virga            ████████████████████████████████
  start (sandbox)     60.00 ms                           ████████████████████████
    sandbox            0.00 ms  Virga                    █
    runtime           20.00 ms  Virga                    ████████
    init              40.00 ms  the function                     ████████████████
call                  10.00 ms  the function                                     ████
rest                  10.00 ms  API and network                                      ████
total                100.00 ms
";
        assert_eq!(read(COLD).draw(), expect);
    }

    #[test]
    fn a_warm_call_has_no_start() {
        let warm = read("wait;dur=0.010, call;dur=2.500");
        assert_eq!(warm.start, None);
        assert!(!warm.draw().contains("start"));
        assert_eq!(warm.json(), json!({ "TotalMs": 100.0, "WaitMs": 0.01, "Start": null, "CallMs": 2.5 }));
    }

    #[test]
    fn a_start_may_be_known_as_a_whole_only_or_lie_before_the_call() {
        let whole = read("wait;dur=31.0, start;desc=cold;dur=30.0, call;dur=1.0");
        assert_eq!(whole.json()["Start"]["SandboxMs"], Value::Null);
        assert!(whole.draw().contains("start (cold)") && !whole.draw().contains("runtime"));
        let before = read("wait;dur=0.1, start;desc=cold;dur=500.0, call;dur=1.0");
        let drawn = before.draw();
        let row = drawn.lines().find(|line| line.contains("start")).unwrap();
        assert!(row.ends_with("before the call"), "{drawn}");
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for bad in ["", "call;dur=1", "wait;dur=x, call;dur=1", "wait, call"] {
            assert!(Trace::read(bad, Duration::ZERO).is_err(), "{bad}");
        }
        assert_eq!(read(COLD).json()["Start"]["Origin"], "sandbox");
    }
}
