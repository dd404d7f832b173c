//! Checks on the documents: links lead somewhere, and the map shows the crates that exist.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

use crate::metadata::Metadata;
use crate::sources::files;

/// Every problem of the documents.
pub(crate) fn check(root: &Path, metadata: &Metadata) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for file in files(root, "md")? {
        let path = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        let text = std::fs::read_to_string(&file).with_context(|| path.clone())?;
        let folder = file.parent().unwrap_or(root);
        problems.extend(links(&text).into_iter().filter_map(|link| broken(folder, &text, &link, &path)));
    }
    let map = std::fs::read_to_string(root.join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    let crates = metadata.members().map(|package| package.name.clone()).collect();
    problems.extend(map_problems(&map, &crates));
    Ok(problems)
}

/// Targets of `[text](target)` outside code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("x");
            let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            found.extend(targets.map(str::to_owned));
        }
    }
    found
}

/// What is wrong with a link, if it is relative and leads nowhere.
fn broken(folder: &Path, text: &str, link: &str, path: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = folder.join(file);
    if !file.is_empty() && !target.exists() {
        return Some(format!("{path}: the link to {link} leads nowhere"));
    }
    let other = (!file.is_empty()).then(|| std::fs::read_to_string(&target).unwrap_or_default());
    let known = anchor.is_empty() || anchors(other.as_deref().unwrap_or(text)).contains(anchor);
    (!known).then(|| format!("{path}: {link} names a heading that is not there"))
}

/// Names that a document's headings can be linked by.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let slug = |line: &str| -> String {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        title.chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(slug).collect()
}

/// The code map is the table whose rows begin with a crate's name in backquotes.
fn map_problems(map: &str, crates: &BTreeSet<String>) -> Vec<String> {
    let section = map.split("\n## Code map").nth(1).unwrap_or("");
    let section = section.split("\n## ").next().unwrap_or("");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let shown: BTreeSet<String> = rows.map(str::to_owned).collect();
    let missing = crates.difference(&shown).map(|name| format!("ARCHITECTURE.md: the code map lacks {name}"));
    let gone = shown.difference(crates).map(|name| format!("ARCHITECTURE.md: there is no crate {name}"));
    missing.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_outside_code() {
        let text = "a [b](c.md) `[x](y)` [d](e.md#f)\n```\n[no](no.md)\n```\n[g](https://h)";
        assert_eq!(links(text), ["c.md", "e.md#f", "https://h"]);
    }

    #[test]
    fn a_link_leads_somewhere() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = "# A title, with `code`\n";
        let check =
            |link, expect: bool| assert_eq!(broken(folder, text, link, "x.md").is_none(), expect, "{link}");
        check("Cargo.toml", true);
        check("src/main.rs", true);
        check("gone.md", false);
        check("https://example.com/gone", true);
        check("#a-title-with-code", true);
        check("#another", false);
    }

    #[test]
    fn the_map_shows_what_exists() {
        let map = "# X\n| `not` | here |\n\n## Code map\n\n| crate | what |\n|---|---|\n| `a` | x |\n| `b` | y |\n\n## Next\n| `c` |\n";
        let crates = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(map_problems(map, &crates(&["a", "b"])), Vec::<String>::new());
        assert_eq!(map_problems(map, &crates(&["a"])), ["ARCHITECTURE.md: there is no crate b"]);
        assert_eq!(map_problems(map, &crates(&["a", "b", "c"])), ["ARCHITECTURE.md: the code map lacks c"]);
    }
}
