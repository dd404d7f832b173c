//! What came of a build, for people and for scripts.

use anyhow::Result;
use images::Pushed;
use serde_json::{Value, json};

use super::{Args, Output, Summary};
use crate::output;

/// Shows it.
pub(super) fn show(args: &Args, summary: &Summary, outputs: &[Output], as_json: bool) -> Result<()> {
    for hint in &summary.hints {
        eprintln!("warning: {hint}");
    }
    let written: Vec<String> = outputs.iter().map(|output| output.path().display().to_string()).collect();
    if as_json {
        return output::line(told(args, summary, &written).to_string());
    }
    let files = match summary.files {
        None => String::new(),
        Some(1) => ", 1 file".to_owned(),
        Some(count) => format!(", {count} files"),
    };
    output::line(format!("{}: {}{files}", args.path.display(), summary.what))?;
    let name = args.tag.as_deref().map(|tag| format!("{tag} ")).unwrap_or_default();
    let made = &summary.made;
    let (layers, size) = (many(made.layers(), "layer"), made.bytes.div_ceil(1024));
    output::line(format!("{} {name}{} ({layers}, {size} KB)", output::colour(32, "built"), made.digest))?;
    for path in written {
        output::line(format!("  {path}"))?;
    }
    match &summary.pushed {
        Some(pushed) if pushed.unchanged => output::line(format!("  {} is there already", pushed.resolved)),
        Some(pushed) => {
            let (sent, size) = (many(pushed.sent, "blob"), pushed.bytes.div_ceil(1024));
            output::line(format!("  {} ({sent} sent, {size} KB)", pushed.resolved))
        }
        None => Ok(()),
    }
}

fn told(args: &Args, summary: &Summary, written: &[String]) -> Value {
    let pushed = |pushed: &Pushed| {
        json!({
            "ResolvedImageUri": pushed.resolved,
            "Unchanged": pushed.unchanged,
            "Blobs": pushed.sent,
            "Bytes": pushed.bytes,
        })
    };
    json!({
        "Image": args.tag,
        "Digest": summary.made.digest.to_string(),
        "Layers": summary.made.layers(),
        "Bytes": summary.made.bytes,
        "Files": summary.files,
        "Contract": summary.contract.map(|contract| contract.as_str()),
        "EntryPoint": summary.run.entrypoint,
        "Command": summary.run.command,
        "Written": written,
        "Pushed": summary.pushed.as_ref().map(pushed),
    })
}

fn many(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
