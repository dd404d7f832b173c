//! Static sites: a folder of pages.

use std::path::Path;

use anyhow::{Result, bail};

use super::{Contract, Detected, Family, Known, node};
use crate::package::Files;

/// Files that say that a folder's pages belong to a program.
const PROGRAMS: &[&str] = &[
    "package.json",
    "composer.json",
    "index.php",
    "config.ru",
    "Gemfile",
    "requirements.txt",
    "pyproject.toml",
    "Dockerfile",
    // Sources of languages that nothing here runs: not to be shown to everybody for that.
    "go.mod",
    "Cargo.toml",
    "deno.json",
    "mix.exs",
];
/// Endings of files that no browser runs.
const SERVERS: [&str; 5] = [".py", ".php", ".rb", ".mjs", ".cjs"];

/// Whether the folder is nothing but pages: there is an `index.html`, and what JavaScript there is is a browser's.
pub(super) fn is_one(path: &Path, names: &[String]) -> bool {
    let has = |name: &str| names.iter().any(|found| found == name);
    let serves = |name: &String| SERVERS.iter().any(|ending| name.ends_with(ending));
    has("index.html")
        && !PROGRAMS.iter().any(|program| has(program))
        && !names.iter().any(serves)
        && !names.iter().filter(|name| name.ends_with(".js")).any(|name| node::is_program(&path.join(name)))
}

/// The folder as a site. `--handler` names the folder in it that is served.
pub(super) fn folder(path: &Path, files: Files, known: &Known) -> Result<Detected> {
    let handler = known.handler.clone().unwrap_or_else(|| ".".to_owned());
    if !path.join(&handler).is_dir() {
        bail!("--handler {handler}: there is no such folder in {}", path.display());
    }
    let hints = if path.join(&handler).join("index.html").is_file() {
        Vec::new()
    } else {
        vec!["there is no index.html: the site's root will answer 404".to_owned()]
    };
    Ok(Detected { family: Family::Static, handler, contract: Contract::Http, files, hints })
}
