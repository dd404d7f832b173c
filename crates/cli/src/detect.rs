//! Looks at a file or folder and says what kind of function it is.
//!
//! A reading of names and of a few words in the entry file, nothing more: what it concludes is printed,
//! and every part of it can be said outright with a flag. It runs nothing.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::package::Files;

/// The language family; the version is chosen where the function is deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// `python3.x`
    Python,
    /// `nodejsN.x`
    Node,
    /// `provided.al2023`
    Provided,
    /// `wasm`
    Wasm,
}

/// How it is called (the tag `virga:contract`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Contract {
    /// The Lambda convention: an event in, an answer out.
    Lambda,
    /// A web server on $PORT.
    Http,
    /// A WebAssembly component or command.
    Wasi,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Detected {
    /// The family.
    pub(crate) family: Family,
    /// `Handler`.
    pub(crate) handler: String,
    /// How it is called.
    pub(crate) contract: Contract,
    /// What goes into the package.
    pub(crate) files: Files,
    /// Things that may be missing, each with what to do.
    pub(crate) hints: Vec<String>,
}

/// What flags say already.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// `--runtime`
    pub(crate) family: Option<Family>,
    /// `--handler`
    pub(crate) handler: Option<String>,
    /// `--contract`
    pub(crate) contract: Option<Contract>,
}

impl Family {
    /// The family of a Lambda runtime identifier.
    pub(crate) fn of_runtime(runtime: &str) -> Option<Self> {
        match runtime {
            "wasm" => Some(Self::Wasm),
            _ if runtime.starts_with("python") => Some(Self::Python),
            _ if runtime.starts_with("nodejs") => Some(Self::Node),
            _ if runtime.starts_with("provided") => Some(Self::Provided),
            _ => None,
        }
    }
}

impl Contract {
    /// The tag's value.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Lambda => "lambda",
            Self::Http => "http",
            Self::Wasi => "wasi",
        }
    }
}

impl Detected {
    /// A sentence for people.
    pub(crate) fn describe(&self) -> String {
        let handler = &self.handler;
        match (self.family, self.contract) {
            (Family::Python, Contract::Http) => format!("a Python web server, {handler}"),
            (Family::Node, Contract::Http) => format!("a Node web server, {handler}"),
            (Family::Provided, Contract::Http) => "a web server, bootstrap".to_owned(),
            (Family::Python, _) => format!("a Python handler, {handler}"),
            (Family::Node, _) => format!("a Node handler, {handler}"),
            (Family::Provided, _) => "a custom runtime, bootstrap".to_owned(),
            (Family::Wasm, _) => "WebAssembly".to_owned(),
        }
    }
}

/// Looks at `path`.
pub(crate) fn detect(path: &Path, known: &Known) -> Result<Detected> {
    let about = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut found = if about.is_dir() { folder(path, known)? } else { file(path, known)? };
    if let Some(contract) = known.contract {
        found.contract = contract;
    }
    Ok(found)
}

/// A single file.
fn file(path: &Path, known: &Known) -> Result<Detected> {
    let name =
        path.file_name().and_then(|name| name.to_str()).context("the file's name is not UTF-8")?.to_owned();
    let alone = |name: String, executable| Files::One { path: path.to_owned(), name, executable };
    let family = known.family.or_else(|| family_of_name(&name));
    match family {
        _ if name.ends_with(".zip") => archive(path, known),
        Some(Family::Wasm) => Ok(wasm(name.clone(), alone(name, false))),
        Some(Family::Python) => python(path, &name, alone(name.clone(), false), known),
        Some(Family::Node) => node(path, &name, alone(name.clone(), false), known),
        Some(Family::Provided) => Ok(provided(alone("bootstrap".to_owned(), true))),
        None if is_program(path)? => Ok(provided(alone("bootstrap".to_owned(), true))),
        None => bail!(
            "{} is none of .py, .js, .mjs, .cjs, .wasm, .zip or an executable; say what runs it with --runtime",
            path.display()
        ),
    }
}

/// A zip that was made elsewhere is not looked into.
fn archive(path: &Path, known: &Known) -> Result<Detected> {
    let Some(family) = known.family else {
        bail!("{} is a package already: say what runs it with --runtime and --handler", path.display());
    };
    let contract = if family == Family::Wasm { Contract::Wasi } else { Contract::Lambda };
    let handler = known.handler.clone().unwrap_or_default();
    if handler.is_empty() && matches!(family, Family::Python | Family::Node) {
        bail!("{} is a package already: say which handler with --handler", path.display());
    }
    Ok(Detected { family, handler, contract, files: Files::Ready(path.to_owned()), hints: Vec::new() })
}

/// A folder: its `bootstrap`, then its package.json, then its files' endings decide.
fn folder(path: &Path, known: &Known) -> Result<Detected> {
    let names = names(path)?;
    let has = |name: &str| names.iter().any(|found| found == name);
    let ending =
        |endings: &[&str]| names.iter().any(|name| endings.iter().any(|ending| name.ends_with(ending)));
    let family = known.family.or_else(|| {
        let candidates = [
            (has("bootstrap"), Family::Provided),
            (has("package.json") || ending(&[".js", ".mjs", ".cjs"]), Family::Node),
            (ending(&[".py"]), Family::Python),
            (ending(&[".wasm"]), Family::Wasm),
        ];
        candidates.into_iter().find(|(found, _)| *found).map(|(_, family)| family)
    });
    let whole = Files::Folder(path.to_owned());
    match family {
        Some(Family::Provided) if has("bootstrap") => Ok(provided(whole)),
        Some(Family::Provided) => bail!("{} holds no file called bootstrap", path.display()),
        Some(Family::Node) => {
            let entry = entry_of(path, &names, known, node_entry(path, &names))?;
            node(&path.join(&entry), &entry, whole, known)
        }
        Some(Family::Python) => {
            let entry = entry_of(path, &names, known, python_entry(&names))?;
            python(&path.join(&entry), &entry, whole, known)
        }
        Some(Family::Wasm) => wasm_folder(path, &names, whole, known),
        None => bail!(
            "{} holds nothing that looks like a function: no bootstrap, package.json, .py, .js, .mjs or .wasm",
            path.display()
        ),
    }
}

/// The file that `--handler` names, or the one that was found.
fn entry_of(path: &Path, names: &[String], known: &Known, found: Option<String>) -> Result<String> {
    if let Some(handler) = &known.handler {
        let module = handler.rsplit_once('.').map_or(handler.as_str(), |(module, _)| module);
        let endings = ["", ".py", ".mjs", ".js", ".cjs"];
        let files = endings.iter().map(|ending| format!("{module}{ending}"));
        let named = std::iter::once(handler.clone()).chain(files).find(|name| path.join(name).is_file());
        return named
            .with_context(|| format!("--handler {handler}: there is no such file in {}", path.display()));
    }
    found.with_context(|| {
        format!(
            "cannot tell which of {} to start in {}: say so with --handler",
            names.join(", "),
            path.display()
        )
    })
}

fn python_entry(names: &[String]) -> Option<String> {
    first_of(names, &["handler.py", "lambda_function.py", "app.py", "main.py", "index.py", "server.py"])
        .or_else(|| only(names, &[".py"]))
}

fn node_entry(path: &Path, names: &[String]) -> Option<String> {
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

/// Python: a web framework makes a web server, a function called handler or lambda_handler an event handler.
fn python(path: &Path, name: &str, files: Files, known: &Known) -> Result<Detected> {
    let text = read(path)?;
    let serves =
        ["Flask(", "FastAPI(", "HTTPServer(", "uvicorn.run(", "waitress", "make_server(", "web.run_app("];
    let function = ["lambda_handler", "handler"].into_iter().find(|function| {
        [format!("def {function}("), format!("{function} =")].iter().any(|start| begins_a_line(&text, start))
    });
    let module = name.trim_end_matches(".py").replace('/', ".");
    let (handler, contract) =
        entry(&text, &serves, known, name, function.map(|function| format!("{module}.{function}")))?;
    let hints = python_hints(&files);
    Ok(Detected { family: Family::Python, handler, contract, files, hints })
}

/// Node: an exported handler makes an event handler, a server that listens a web server.
fn node(path: &Path, name: &str, files: Files, known: &Known) -> Result<Detected> {
    let text = read(path)?;
    let serves = ["createServer(", ".listen(", "process.env.PORT"];
    let exports = [
        "exports.handler",
        "export const handler",
        "export function handler",
        "export async function handler",
        "export let handler",
        "export { handler",
        "export {handler",
        "exports = { handler",
    ];
    let exported = exports.iter().any(|export| text.contains(export));
    let module = name.rsplit_once('.').map_or(name, |(module, _)| module);
    let (handler, contract) =
        entry(&text, &serves, known, name, exported.then(|| format!("{module}.handler")))?;
    let hints = node_hints(&files);
    Ok(Detected { family: Family::Node, handler, contract, files, hints })
}

/// Decides between handler and server, and what `Handler` becomes.
fn entry(
    text: &str,
    serves: &[&str],
    known: &Known,
    name: &str,
    function: Option<String>,
) -> Result<(String, Contract)> {
    let serves = serves.iter().any(|word| text.contains(word));
    let contract = known.contract.unwrap_or(match function {
        None if serves => Contract::Http,
        _ => Contract::Lambda,
    });
    let handler = match (&known.handler, contract) {
        (Some(handler), _) => handler.clone(),
        (None, Contract::Http) => name.to_owned(),
        (None, _) => function.with_context(|| {
            format!("{name} has no function called handler: name yours with --handler, as in module.function")
        })?,
    };
    Ok((handler, contract))
}

fn provided(files: Files) -> Detected {
    let handler = "bootstrap".to_owned();
    Detected { family: Family::Provided, handler, contract: Contract::Lambda, files, hints: Vec::new() }
}

fn wasm(handler: String, files: Files) -> Detected {
    Detected { family: Family::Wasm, handler, contract: Contract::Wasi, files, hints: Vec::new() }
}

fn wasm_folder(path: &Path, names: &[String], files: Files, known: &Known) -> Result<Detected> {
    let handler = known.handler.clone().or_else(|| only(names, &[".wasm"]));
    let handler = handler
        .with_context(|| format!("{} holds more than one .wasm: name one with --handler", path.display()))?;
    Ok(wasm(handler, files))
}

fn python_hints(files: &Files) -> Vec<String> {
    let Files::Folder(root) = files else { return Vec::new() };
    let required = fs::read_to_string(root.join("requirements.txt")).unwrap_or_default();
    let wanted = required.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    let installed = names(root).unwrap_or_default().iter().any(|name| name.ends_with(".dist-info"));
    if !wanted || installed {
        return Vec::new();
    }
    let root = root.display();
    vec![format!("requirements.txt is not installed here: pip install -t {root} -r {root}/requirements.txt")]
}

fn node_hints(files: &Files) -> Vec<String> {
    let Files::Folder(root) = files else { return Vec::new() };
    let package = fs::read(root.join("package.json")).unwrap_or_default();
    let package: serde_json::Value = serde_json::from_slice(&package).unwrap_or_default();
    let wanted = package["dependencies"].as_object().is_some_and(|wanted| !wanted.is_empty());
    if !wanted || root.join("node_modules").is_dir() {
        return Vec::new();
    }
    vec![format!(
        "the packages that package.json asks for are not here: npm --prefix {} install",
        root.display()
    )]
}

fn family_of_name(name: &str) -> Option<Family> {
    let (_, ending) = name.rsplit_once('.')?;
    match ending {
        "py" => Some(Family::Python),
        "js" | "mjs" | "cjs" => Some(Family::Node),
        "wasm" => Some(Family::Wasm),
        _ => None,
    }
}

/// Whether the file starts like an ELF program or a script.
fn is_program(path: &Path) -> Result<bool> {
    let start = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(start.starts_with(b"\x7fELF") || start.starts_with(b"#!"))
}

fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn begins_a_line(text: &str, start: &str) -> bool {
    text.lines().any(|line| line.strip_prefix("async ").unwrap_or(line).starts_with(start))
}

/// Names in a folder, in order.
fn names(path: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names)
}

fn first_of(names: &[String], wanted: &[&str]) -> Option<String> {
    wanted.iter().find(|name| names.iter().any(|found| found == *name)).map(|name| (*name).to_owned())
}

fn only(names: &[String], endings: &[&str]) -> Option<String> {
    let mut found = names.iter().filter(|name| endings.iter().any(|ending| name.ends_with(ending)));
    let first = found.next()?;
    found.next().is_none().then(|| first.clone())
}

/// A function's name from its path: what Lambda allows of the file's or folder's name, a link's own included.
pub(crate) fn name_of(path: &Path) -> Result<String> {
    // `.` and `..` have no name of their own.
    let named = if path.file_name().is_some() { path.to_owned() } else { fs::canonicalize(path)? };
    let base = if named.is_dir() { named.file_name() } else { named.file_stem() };
    let base = base.and_then(|name| name.to_str()).unwrap_or("");
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let name: String = base.chars().map(legal).take(64).collect();
    let name = name.trim_matches('-').to_owned();
    if name.is_empty() {
        bail!("cannot make a function's name from {}: give one with --name", path.display());
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(runtime family, contract, handler)` of a folder with these files.
    fn folder(files: &[(&str, &str)]) -> Result<Detected> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        detect(dir.path(), &Known::default())
    }

    fn check(files: &[(&str, &str)], family: Family, contract: Contract, handler: &str) {
        let found = folder(files).unwrap();
        assert_eq!(
            (found.family, found.contract, found.handler.as_str()),
            (family, contract, handler),
            "{files:?}"
        );
    }

    #[test]
    fn folders() {
        use Contract::{Http, Lambda, Wasi};
        use Family::{Node, Provided, Python, Wasm};
        check(&[("handler.py", "def handler(event, context):\n")], Python, Lambda, "handler.handler");
        check(&[("x.py", "import y\ndef lambda_handler(e, c):\n")], Python, Lambda, "x.lambda_handler");
        check(&[("app.py", "app = Flask(__name__)\n"), ("util.py", "")], Python, Http, "app.py");
        check(&[("index.mjs", "export async function handler(e) {}")], Node, Lambda, "index.handler");
        check(&[("index.js", "exports.handler = async () => 1")], Node, Lambda, "index.handler");
        check(&[("server.js", "http.createServer(f).listen(process.env.PORT)")], Node, Http, "server.js");
        let package = ("package.json", r#"{"scripts": {"start": "node ./src.js"}, "main": "other.js"}"#);
        check(&[package, ("src.js", "app.listen(1)"), ("other.js", "")], Node, Http, "src.js");
        check(
            &[("package.json", r#"{"main": "f.js"}"#), ("f.js", "exports.handler = 1")],
            Node,
            Lambda,
            "f.handler",
        );
        check(&[("bootstrap", "#!/bin/sh"), ("x.py", "")], Provided, Lambda, "bootstrap");
        check(&[("hello.wasm", "\0asm")], Wasm, Wasi, "hello.wasm");
    }

    #[test]
    fn what_cannot_be_told_asks() {
        let error = |files: &[(&str, &str)]| format!("{:#}", folder(files).unwrap_err());
        assert!(error(&[("a.txt", "")]).contains("nothing that looks like a function"));
        assert!(error(&[("a.py", ""), ("b.py", "")]).contains("--handler"));
        assert!(error(&[("a.py", "x = 1")]).contains("no function called handler"));
        assert!(error(&[("a.wasm", ""), ("b.wasm", "")]).contains("more than one .wasm"));
    }

    #[test]
    fn single_files() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| {
            fs::write(dir.path().join(name), text).unwrap();
            detect(&dir.path().join(name), &Known::default())
        };
        let elf = write("tool", b"\x7fELF\x02").unwrap();
        assert_eq!(elf.family, Family::Provided);
        assert!(matches!(elf.files, Files::One { ref name, executable: true, .. } if name == "bootstrap"));
        assert_eq!(write("run.sh", b"#!/bin/sh\n").unwrap().family, Family::Provided);
        assert_eq!(write("m.wasm", b"\0asm").unwrap().handler, "m.wasm");
        assert!(write("notes.txt", b"hello").is_err());
        assert!(write("code.zip", b"PK").unwrap_err().to_string().contains("--runtime"));
    }

    #[test]
    fn flags_decide() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.py"), "def run(e, c): pass").unwrap();
        fs::write(dir.path().join("b.js"), "exports.handler = 1").unwrap();
        let known = Known { family: Some(Family::Python), handler: Some("a.run".to_owned()), contract: None };
        let found = detect(dir.path(), &known).unwrap();
        assert_eq!((found.family, found.handler.as_str()), (Family::Python, "a.run"));
        let known = Known { handler: Some("nowhere.run".to_owned()), ..known };
        assert!(detect(dir.path(), &known).unwrap_err().to_string().contains("no such file"));
        let known = Known { contract: Some(Contract::Http), ..Known::default() };
        assert_eq!(detect(&dir.path().join("a.py"), &known).unwrap().handler, "a.py");
    }

    #[test]
    fn missing_packages_are_hinted_at() {
        let found = folder(&[
            ("package.json", r#"{"dependencies": {"x": "1"}}"#),
            ("index.js", "exports.handler = 1"),
        ]);
        assert!(found.unwrap().hints[0].contains("npm --prefix"));
        let found = folder(&[("requirements.txt", "flask\n"), ("app.py", "Flask(")]).unwrap();
        assert!(found.hints[0].contains("pip install -t"));
        let found = folder(&[("requirements.txt", "# none\n"), ("app.py", "Flask(")]).unwrap();
        assert!(found.hints.is_empty());
    }

    #[test]
    fn names_are_what_lambda_allows() {
        let dir = tempfile::tempdir().unwrap();
        let name = |path: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(&path).unwrap();
            name_of(&path).ok()
        };
        assert_eq!(name("hello-python").as_deref(), Some("hello-python"));
        assert_eq!(name("my.app v2").as_deref(), Some("my-app-v2"));
        assert_eq!(name("日本"), None);
        std::os::unix::fs::symlink("hello-python", dir.path().join("other")).unwrap();
        assert_eq!(name_of(&dir.path().join("other")).unwrap(), "other");
        assert_eq!(name_of(&dir.path().join("other/..")).ok(), name_of(dir.path()).ok());
    }
}
