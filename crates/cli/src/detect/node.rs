//! Node: event handlers, servers, and what package.json starts.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::{Contract, Detected, Family, Known, entry, first_of, only, read};
use crate::package::Files;

/// What a web server says.
const SERVES: [&str; 3] = ["createServer(", ".listen(", "process.env.PORT"];
/// Where `next build` leaves an application that runs without the folder around it (Next: `output: 'standalone'`).
const STANDALONE: &str = ".next/standalone";
/// What the server that it leaves there says, and no other.
const NEXT_SERVER: &str = "__NEXT_PRIVATE_STANDALONE_CONFIG";

/// What an event handler says.
const EXPORTS: [&str; 8] = [
    "exports.handler",
    "export const handler",
    "export function handler",
    "export async function handler",
    "export let handler",
    "export { handler",
    "export {handler",
    "exports = { handler",
];

pub(super) fn entry_file(path: &Path, names: &[String]) -> Option<String> {
    let package = fs::read(path.join("package.json")).ok();
    let package: Option<serde_json::Value> = package.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let text = |pointer: &str| package.as_ref()?.pointer(pointer)?.as_str().map(str::to_owned);
    let start = text("/scripts/start").and_then(|start| {
        let file = start.strip_prefix("node ")?.split_whitespace().next()?;
        Some(file.trim_start_matches("./").to_owned())
    });
    let main = text("/main").map(|main| main.trim_start_matches("./").to_owned());
    let exists = |name: &String| path.join(name).is_file();
    start
        .filter(exists)
        .or_else(|| main.filter(exists))
        .or_else(|| first_of(names, &["index.mjs", "index.js", "index.cjs", "handler.mjs", "handler.js"]))
        .or_else(|| first_of(names, &["server.mjs", "server.js", "app.mjs", "app.js", "main.mjs", "main.js"]))
        .or_else(|| only(names, &[".mjs", ".js", ".cjs"]))
}

/// Whether a file is Node's and not a browser's, going by what browsers do not have.
pub(super) fn is_program(path: &Path) -> bool {
    let text = read(path).unwrap_or_default();
    SERVES
        .iter()
        .chain(&EXPORTS)
        .chain(&["require(", "module.exports", "from 'node:", "from \"node:"])
        .any(|word| text.contains(word))
}

/// Node: an exported handler makes an event handler, a server that listens a web server.
pub(super) fn detect(path: &Path, name: &str, files: Files, known: &Known) -> Result<Detected> {
    let text = read(path)?;
    let exported = EXPORTS.iter().any(|export| text.contains(export));
    let module = name.rsplit_once('.').map_or(name, |(module, _)| module);
    let (handler, contract) =
        entry(&text, &SERVES, known, name, exported.then(|| format!("{module}.handler")))?;
    let hints = hints(&files);
    Ok(Detected { family: Family::Node, handler, contract, files, hints })
}

/// What Next has built to run alone, in its project's folder or by itself.
pub(super) fn next_standalone(path: &Path) -> Option<Detected> {
    let is_one = |root: &Path| {
        let server = root.join("server.js");
        server.is_file() && read(&server).is_ok_and(|text| text.contains(NEXT_SERVER))
    };
    let root = [path.join(STANDALONE), path.to_owned()].into_iter().find(|root| is_one(root))?;
    // Next leaves it to whoever deploys to add what is served as it is.
    let parts = ["public", ".next/static"];
    let left = parts
        .into_iter()
        .filter(|part| root != path && path.join(part).is_dir() && !root.join(part).exists());
    let hints = left.map(|part| {
        let (from, to) = (path.join(part), root.join(part));
        format!(
            "{part} is not in what Next has built to run alone: cp -r {} {}",
            from.display(),
            to.display()
        )
    });
    Some(Detected {
        family: Family::Node,
        handler: "server.js".to_owned(),
        contract: Contract::Http,
        hints: hints.collect(),
        files: Files::Folder(root),
    })
}

/// What package.json starts by another program than node, as Next does: `package.json:start`. A folder with an
/// event handler, or a file that serves, is not taken for one.
pub(super) fn npm_start(path: &Path, entry: Option<&String>) -> Option<String> {
    let package = fs::read(path.join("package.json")).ok()?;
    let package: serde_json::Value = serde_json::from_slice(&package).ok()?;
    let start = package["scripts"]["start"].as_str()?;
    let text = entry.and_then(|entry| read(&path.join(entry)).ok()).unwrap_or_default();
    let other = text.contains("handler") || text.contains("listen(");
    let node = start.starts_with("node ") && entry.is_some();
    (!node && !other).then(|| "package.json:start".to_owned())
}

pub(super) fn hints(files: &Files) -> Vec<String> {
    let Files::Folder(root) = files else { return Vec::new() };
    let package = fs::read(root.join("package.json")).unwrap_or_default();
    let package: serde_json::Value = serde_json::from_slice(&package).unwrap_or_default();
    let wanted = package["dependencies"].as_object().is_some_and(|wanted| !wanted.is_empty());
    if package["scripts"]["start"].as_str().is_some_and(|start| start.starts_with("next start")) {
        return vec![
            "Next is large: with output: 'standalone' in next.config, next build leaves what runs alone, and that is deployed"
                .to_owned(),
        ];
    }
    if !wanted || root.join("node_modules").is_dir() {
        return Vec::new();
    }
    vec![format!(
        "the packages that package.json asks for are not here: npm --prefix {} install",
        root.display()
    )]
}
