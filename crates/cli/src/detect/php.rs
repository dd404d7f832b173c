//! PHP: files that return a handler, and front controllers.

use std::path::Path;

use anyhow::Result;

use super::{Contract, Detected, Family, Known, first_of, installed_hint, only, read};
use crate::package::Files;

/// The controller of a site that keeps it in a folder of its own.
pub(super) fn public_php(path: &Path) -> Option<&'static str> {
    ["public/index.php", "web/index.php"].into_iter().find(|name| path.join(name).is_file())
}

pub(super) fn entry_file(path: &Path, names: &[String]) -> Option<String> {
    first_of(names, &["handler.php"])
        .or_else(|| public_php(path).map(str::to_owned))
        .or_else(|| first_of(names, &["index.php", "app.php", "main.php", "server.php"]))
        .or_else(|| only(names, &[".php"]))
}

/// PHP: a file that returns something to call makes an event handler, every other one a front controller.
pub(super) fn detect(path: &Path, name: &str, files: Files, known: &Known) -> Result<Detected> {
    let text = read(path)?;
    let returns =
        ["return function", "return static function", "return fn", "return static fn", "return new "];
    let handles = returns.iter().any(|start| text.lines().any(|line| line.starts_with(start)));
    let contract = known.contract.unwrap_or(if handles { Contract::Lambda } else { Contract::Http });
    let handler = known.handler.clone().unwrap_or_else(|| name.to_owned());
    let hints =
        installed_hint(&files, "composer.json", "\"require\"", "vendor/autoload.php", "composer install -d");
    Ok(Detected { family: Family::Php, handler, contract, files, hints })
}
