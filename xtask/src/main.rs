//! Chores of the repository: `cargo xtask tidy`.
//!
//! `tidy` holds the workspace to layers.toml: which crate may see which, what may be linked, where
//! `unsafe`, SQL and process spawning may be, how long a file may get, and that the documents point at
//! things that exist. It reads files and `cargo metadata`, compiles nothing and changes nothing.

mod dependencies;
mod documents;
mod licence;
mod metadata;
mod rules;
mod scan;
mod sources;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => match tidy(&workspace_root()) {
            Ok(problems) if problems.is_empty() => ExitCode::SUCCESS,
            Ok(problems) => {
                for problem in &problems {
                    eprintln!("tidy: {problem}");
                }
                eprintln!("tidy: {} problem(s); the rules are in layers.toml", problems.len());
                ExitCode::FAILURE
            }
            Err(error) => {
                eprintln!("tidy: {error:#}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("usage: cargo xtask tidy");
            ExitCode::from(2)
        }
    }
}

/// The folder above this package's.
fn workspace_root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

/// Every problem found, one line each.
fn tidy(root: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(root.join("layers.toml")).context("layers.toml")?;
    let rules = rules::Rules::parse(&text)?;
    let metadata = metadata::Metadata::load(root)?;
    let mut problems = dependencies::check(&rules, &metadata);
    problems.extend(sources::check(&rules, root, &metadata)?);
    problems.extend(documents::check(root, &metadata)?);
    Ok(problems)
}
