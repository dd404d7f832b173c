//! Checks on every source file: head, length, words that belong elsewhere, SQL, blanket allowances.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use crate::metadata::Metadata;
use crate::rules::Rules;
use crate::scan::{self, Scan};

/// One source file.
struct Source<'a> {
    /// Relative to the workspace, with slashes.
    path: &'a str,
    /// The package it belongs to.
    package: &'a str,
    text: &'a str,
    scan: Scan,
}

impl Source<'_> {
    /// Whether the whole file is for tests and trials only.
    fn is_test(&self) -> bool {
        ["/tests/", "/examples/", "/benches/"].iter().any(|folder| self.path.contains(folder))
            || self.path.ends_with("/tests.rs")
            || self.path.ends_with("_tests.rs")
    }

    fn lines(&self) -> usize {
        self.text.lines().count()
    }
}

/// Every problem in the workspace's sources.
pub(crate) fn check(rules: &Rules, root: &Path, metadata: &Metadata) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut seen = Vec::new();
    for package in metadata.members() {
        let folder = Path::new(&package.manifest_path).parent().unwrap_or(root);
        let mut lines = 0;
        for file in files(folder, "rs")? {
            let path = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&file).with_context(|| path.clone())?;
            lines += text.lines().count();
            problems.extend(check_file(rules, &path, &package.name, &text));
            seen.push(path);
        }
        if let Some(budget) = rules.budgets.crate_lines.get(&package.name)
            && lines > *budget
        {
            problems.push(format!("{}: {lines} lines, the budget is {budget}", package.name));
        }
    }
    for path in rules.exceptions.file_lines.keys().filter(|path| !seen.contains(path)) {
        problems.push(format!("{path}: in the exceptions, but gone: take it out"));
    }
    Ok(problems)
}

/// Every problem of one file.
fn check_file(rules: &Rules, path: &str, package: &str, text: &str) -> Vec<String> {
    let source = Source { path, package, text, scan: scan::scan(text) };
    let mut problems = Vec::new();
    if !text.starts_with("//! ") {
        problems.push(format!("{path}:1: starts without `//!` saying what the file is for"));
    }
    length(rules, &source, &mut problems);
    confined(rules, &source, &mut problems);
    sql(&source, &mut problems);
    allowances(rules, &source, &mut problems);
    problems
}

fn length(rules: &Rules, source: &Source<'_>, problems: &mut Vec<String>) {
    let (path, lines) = (source.path, source.lines());
    match rules.exceptions.file_lines.get(path) {
        Some(noted) if lines > *noted => {
            problems
                .push(format!("{path}: grew from {noted} to {lines} lines; an exception may only shrink"));
        }
        Some(noted) if lines <= rules.budgets.file_lines => {
            problems.push(format!("{path}: {lines} lines now: take its exception ({noted}) out"));
        }
        Some(noted) if lines < *noted => {
            problems.push(format!("{path}: {lines} lines now: lower its exception from {noted}"));
        }
        None if lines > rules.budgets.file_lines => {
            problems.push(format!("{path}: {lines} lines, the budget is {}", rules.budgets.file_lines));
        }
        _ => {}
    }
}

fn confined(rules: &Rules, source: &Source<'_>, problems: &mut Vec<String>) {
    let shipped = scan::without_test_modules(&source.scan.code);
    for rule in rules.confined.iter().filter(|rule| !rule.crates.iter().any(|name| name == source.package)) {
        if source.is_test() && !rule.tests_too {
            continue;
        }
        let code = if rule.tests_too { &source.scan.code } else { &shipped };
        for word in &rule.words {
            for line in scan::lines_with(code, word) {
                let homes =
                    if rule.crates.is_empty() { "nowhere".to_owned() } else { rule.crates.join(", ") };
                problems.push(format!("{}:{line}: `{word}`: {} belongs in {homes}", source.path, rule.what));
            }
        }
    }
}

/// SQL text belongs in the store and in each noun's `tables.rs`.
fn sql(source: &Source<'_>, problems: &mut Vec<String>) {
    let home = source.package == "store" || source.path.ends_with("/tables.rs") || source.package == "xtask";
    if home || source.is_test() {
        return;
    }
    for (line, _) in source.scan.strings.iter().filter(|(_, text)| is_sql(text)) {
        problems.push(format!("{}:{line}: SQL belongs in store or in a tables.rs", source.path));
    }
}

/// Whether a string starts like a statement that takes an object.
fn is_sql(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().take(40).collect();
    match words[..] {
        ["SELECT", ref rest @ ..] => rest.contains(&"FROM"),
        ["UPDATE", ref rest @ ..] => rest.contains(&"SET"),
        ["INSERT", "INTO" | "OR", ..] | ["DELETE", "FROM", ..] | ["REPLACE", "INTO", ..] => true,
        ["CREATE" | "DROP" | "ALTER", "TABLE" | "INDEX" | "UNIQUE" | "VIEW" | "TRIGGER", ..] => true,
        ["PRAGMA", ..] | ["WITH", _, "AS", ..] => true,
        _ => false,
    }
}

/// `#![allow(…)]` switches a lint off for everything below it.
fn allowances(rules: &Rules, source: &Source<'_>, problems: &mut Vec<String>) {
    if source.is_test() {
        return;
    }
    let code = scan::without_test_modules(&source.scan.code);
    for (at, found) in code.match_indices("#![allow(") {
        let lints = code[at + found.len()..].split(')').next().unwrap_or("").trim();
        let name = format!("{}: {lints}", source.path);
        if !rules.exceptions.allow.contains(&name) {
            problems.push(format!("{name}: a blanket #![allow]; put it on the item that needs it"));
        }
    }
}

/// Files below a folder with this extension, in order, without what is built or installed.
pub(crate) fn files(folder: &Path, extension: &str) -> Result<Vec<std::path::PathBuf>> {
    const SKIPPED: [&str; 5] = ["target", "node_modules", "__pycache__", "guests-build", "fuzz-corpus"];
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type()?;
            if kind.is_dir() && !name.starts_with('.') && !SKIPPED.contains(&name.as_str()) {
                folders.push(entry.path());
            } else if kind.is_file() && entry.path().extension().is_some_and(|found| found == extension) {
                found.insert(entry.path(), ());
            }
        }
    }
    Ok(found.into_keys().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        let mut rules = Rules::parse(include_str!("../../layers.toml")).unwrap();
        rules.budgets.file_lines = 5;
        rules.exceptions.file_lines = [("crates/a/src/long.rs".to_owned(), 7)].into();
        rules.exceptions.allow = vec!["crates/a/src/lib.rs: dead_code".to_owned()];
        rules
    }

    fn check(path: &str, text: &str, expect: &[&str]) {
        let package = path.split('/').nth(1).unwrap();
        let found = check_file(&rules(), path, package, text);
        assert_eq!(found.len(), expect.len(), "{found:#?}");
        for (found, expect) in found.iter().zip(expect) {
            assert!(found.contains(expect), "{found} lacks {expect}");
        }
    }

    #[test]
    fn heads() {
        check("crates/a/src/x.rs", "//! What.\n", &[]);
        check("crates/a/src/x.rs", "use a;\n", &["x.rs:1: starts without"]);
        check("crates/a/src/x.rs", "", &["starts without"]);
    }

    #[test]
    fn lengths() {
        let lines = |count: usize| format!("//! X\n{}", "x\n".repeat(count - 1));
        check("crates/a/src/x.rs", &lines(5), &[]);
        check("crates/a/src/x.rs", &lines(6), &["6 lines, the budget is 5"]);
        check("crates/a/src/long.rs", &lines(7), &[]);
        check("crates/a/src/long.rs", &lines(8), &["grew from 7 to 8"]);
        check("crates/a/src/long.rs", &lines(6), &["lower its exception"]);
        check("crates/a/src/long.rs", &lines(5), &["take its exception (7) out"]);
    }

    #[test]
    fn words_in_their_place() {
        check("crates/sandbox/src/x.rs", "//! X\nunsafe {}\n", &[]);
        check("crates/a/src/x.rs", "//! X\nunsafe {}\n", &["x.rs:2: `unsafe`"]);
        check("crates/a/tests/it/x.rs", "//! X\nunsafe {}\n", &["`unsafe`"]);
        check("crates/a/src/x.rs", "//! X unsafe\n// unsafe\n", &[]);
        check("crates/a/src/x.rs", "//! X\nstd::process::Command::new(x)\n", &["process spawning"]);
        check("crates/a/tests/it/x.rs", "//! X\nstd::process::Command::new(x)\n", &[]);
        check("crates/a/src/x.rs", "//! X\n#[cfg(test)]\nmod tests { use std::process::Command; }\n", &[]);
        check("crates/a/src/x.rs", "//! X\ntodo!()\n", &["belongs in nowhere"]);
        check("crates/a/src/x.rs", "//! X\n#[ignore]\nfn x() {}\n", &["#[ignore"]);
    }

    #[test]
    fn sql_in_its_place() {
        let text = "//! X\nlet a = \"SELECT x\n FROM y\";\n";
        check("crates/a/src/x.rs", text, &["x.rs:2: SQL"]);
        check("crates/a/src/tables.rs", text, &[]);
        check("crates/store/src/x.rs", text, &[]);
        check("crates/a/src/x.rs", "//! X\nlet a = \"UPDATE the function\";\n", &[]);
        check("crates/a/src/x.rs", "//! X\nlet a = \"CREATE TABLE t (x)\";\n", &["SQL"]);
    }

    #[test]
    fn blanket_allowances() {
        check("crates/a/src/x.rs", "//! X\n#![allow(dead_code)]\n", &["blanket"]);
        check("crates/a/src/lib.rs", "//! X\n#![allow(dead_code)]\n", &[]);
        check("crates/a/tests/it/main.rs", "//! X\n#![allow(clippy::unwrap_used)]\n", &[]);
        check("crates/a/src/x.rs", "//! X\n#[allow(dead_code)]\nfn x() {}\n", &[]);
    }
}
