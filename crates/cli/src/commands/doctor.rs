//! `virga doctor`: what this host can give to functions. Needs no server.

use anyhow::Result;
use serde_json::json;
use server::host::{Finding, Verdict};

use crate::failure::Failure;
use crate::output;

/// Prints what was found; fails where process functions cannot run at all.
pub(crate) fn run(as_json: bool) -> Result<()> {
    let findings = server::host::examine()?;
    if as_json {
        let list = findings.iter().map(|finding| {
            json!({ "name": finding.name, "verdict": finding.verdict.as_str(), "detail": finding.detail })
        });
        output::json(&list.collect())?;
    } else {
        output::raw(output::table(&findings.iter().map(row).collect::<Vec<_>>()).as_bytes())?;
    }
    let failed: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Missing)
        .map(|finding| finding.name.as_str())
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::Function(format!("this host cannot run every kind of function: {}", failed.join(", ")))
        .into())
}

fn row(finding: &Finding) -> Vec<String> {
    let mark = match finding.verdict {
        Verdict::Good => output::colour(32, "ok      "),
        Verdict::Degraded => output::colour(33, "degraded"),
        Verdict::Missing => output::colour(31, "missing "),
    };
    vec![mark, finding.name.clone(), finding.detail.clone()]
}
