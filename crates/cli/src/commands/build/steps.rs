//! Steps that a folder declares in `virga-build.json`: commands that are run in order in a copy of the folder, before it is packed.
//!
//! ```json
//! { "steps": [{ "name": "compile", "run": ["npx", "tsc"], "env": { "NODE_ENV": "production" } }] }
//! ```
//!
//! The shape is that of Tekton's tasks. `run` is a line for `/bin/sh`, or a list of words. How they are run is `running`'s.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// The file's name.
pub(super) const FILE: &str = "virga-build.json";

/// One command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) name: String,
    /// Program and arguments.
    pub(super) words: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
}

/// The steps of a folder; none where it declares none.
pub(super) fn of(folder: &Path) -> Result<Vec<Step>> {
    let path = folder.join(FILE);
    let text = match std::fs::read(&path) {
        // A single program has no steps.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        other => other.with_context(|| format!("cannot read {}", path.display()))?,
    };
    parse(&text).with_context(|| format!("{} cannot be used", path.display()))
}

fn parse(text: &[u8]) -> Result<Vec<Step>> {
    let mut file: Map<String, Value> = serde_json::from_slice(text).context("it is not a JSON object")?;
    let steps = file.remove("steps").context("it has no member steps")?;
    nothing_else(&file)?;
    let Value::Array(steps) = steps else { bail!("steps is not a list") };
    let mut all: Vec<Step> = Vec::new();
    for (number, step) in steps.into_iter().enumerate() {
        let step = one(step).with_context(|| format!("step {}", number + 1))?;
        if all.iter().any(|other| other.name == step.name) {
            bail!("two steps are called {}", step.name);
        }
        all.push(step);
    }
    Ok(all)
}

fn one(step: Value) -> Result<Step> {
    let Value::Object(mut step) = step else { bail!("it is not an object") };
    let name = step.remove("name").context("it has no name")?;
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name = name.as_str().filter(|name| !name.is_empty() && name.len() <= 63 && name.chars().all(legal));
    let name = name.context("its name is not of 1 to 63 letters, digits, - _ and .")?.to_owned();
    let run = step.remove("run").context("it has no member run")?;
    let words = match run {
        Value::String(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line],
        list => serde_json::from_value(list).context("run is neither a line nor a list of words")?,
    };
    if words.first().is_none_or(String::is_empty) {
        bail!("run names no program");
    }
    let env = step.remove("env").unwrap_or_else(|| Value::Object(Map::new()));
    let env: BTreeMap<String, String> =
        serde_json::from_value(env).context("env is not an object of strings")?;
    if env.keys().any(|key| key.is_empty() || key.contains(['=', '\0'])) {
        bail!("a variable in env has no name that one can have");
    }
    if words.iter().chain(env.values()).any(|text| text.contains('\0')) {
        bail!("a word holds a zero byte");
    }
    nothing_else(&step)?;
    Ok(Step { name, words, env })
}

fn nothing_else(rest: &Map<String, Value>) -> Result<()> {
    match rest.keys().next() {
        Some(key) => bail!("{key} is no member of it"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_declared() {
        let text = br#"{"steps": [{"name": "a", "run": "x y"}, {"name": "b.1", "run": ["p", "q r"], "env": {"K": "v"}}]}"#;
        let steps = parse(text).unwrap();
        assert_eq!(steps[0].words, ["/bin/sh", "-c", "x y"]);
        assert_eq!((&*steps[1].words[1], &*steps[1].env["K"]), ("q r", "v"));
        assert!(parse(br#"{"steps": []}"#).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_step_is_refused() {
        let check = |text: &str, said: &str| {
            let error = format!("{:#}", parse(text.as_bytes()).unwrap_err());
            assert!(error.contains(said), "{text}: {error}");
        };
        check("[]", "not a JSON object");
        check("{}", "no member steps");
        check(r#"{"steps": {}}"#, "steps is not a list");
        check(r#"{"steps": [], "step": []}"#, "step is no member");
        check(r#"{"steps": [1]}"#, "step 1: it is not an object");
        check(r#"{"steps": [{"run": "x"}]}"#, "step 1: it has no name");
        check(r#"{"steps": [{"name": "a b", "run": "x"}]}"#, "its name is not of");
        check(r#"{"steps": [{"name": "a"}]}"#, "no member run");
        check(r#"{"steps": [{"name": "a", "run": 1}]}"#, "neither a line nor a list");
        check(r#"{"steps": [{"name": "a", "run": []}]}"#, "names no program");
        check(
            r#"{"steps": [{"name": "a", "run": "x", "env": {"A": 1}}]}"#,
            "env is not an object of strings",
        );
        check(r#"{"steps": [{"name": "a", "run": "x", "env": {"A=": "1"}}]}"#, "no name that one can have");
        check(r#"{"steps": [{"name": "a", "run": "x", "image": "y"}]}"#, "image is no member");
        check(
            r#"{"steps": [{"name": "a", "run": "x"}, {"name": "a", "run": "y"}]}"#,
            "two steps are called a",
        );
    }
}
