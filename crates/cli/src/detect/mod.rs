//! Looks at a file or folder and says what kind of function it is.
//!
//! A reading of names and of a few words in the entry file, nothing more: what it concludes is printed,
//! and every part of it can be said outright with a flag. It runs nothing.

mod java;
mod node;
mod php;
mod python;
mod ruby;
mod site;
#[cfg(test)]
mod tests;

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
    /// `phpX.Y`
    Php,
    /// `rubyX.Y`
    Ruby,
    /// `javaN`
    Java,
    /// `provided.al2023`
    Provided,
    /// `wasm`
    Wasm,
    /// `static`
    Static,
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
            "static" => Some(Self::Static),
            _ if runtime.starts_with("python") => Some(Self::Python),
            _ if runtime.starts_with("nodejs") => Some(Self::Node),
            _ if runtime.starts_with("php") => Some(Self::Php),
            _ if runtime.starts_with("ruby") => Some(Self::Ruby),
            _ if runtime.starts_with("java") => Some(Self::Java),
            _ if runtime.starts_with("provided") => Some(Self::Provided),
            _ => None,
        }
    }

    /// Whether its handler cannot be left out.
    fn wants_handler(self) -> bool {
        !matches!(self, Self::Provided | Self::Wasm | Self::Static)
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
            (Family::Python, Contract::Http) if handler.contains(':') => {
                format!("a Python web application, {handler}")
            }
            (Family::Python, Contract::Http) => format!("a Python web server, {handler}"),
            (Family::Node, Contract::Http) => format!("a Node web server, {handler}"),
            (Family::Php, Contract::Http) => {
                format!("a PHP front controller, {handler}, under PHP's own web server")
            }
            (Family::Ruby, Contract::Http) if handler.ends_with(".ru") => {
                format!("a Rack application, {handler}, under puma or rackup")
            }
            (Family::Ruby, Contract::Http) => format!("a Ruby web server, {handler}"),
            (Family::Java, Contract::Http) if handler.ends_with(".jar") => {
                format!("a Java web server, java -jar {handler}")
            }
            (Family::Java, Contract::Http) => format!("a Java web server, main class {handler}"),
            (Family::Provided, Contract::Http) => "a web server, bootstrap".to_owned(),
            (Family::Python, _) => format!("a Python handler, {handler}"),
            (Family::Node, _) => format!("a Node handler, {handler}"),
            (Family::Php, _) => format!("a PHP handler, {handler}"),
            (Family::Ruby, _) => format!("a Ruby handler, {handler}"),
            (Family::Java, _) => format!("a Java handler, {handler}"),
            (Family::Provided, _) => "a custom runtime, bootstrap".to_owned(),
            (Family::Wasm, _) => "WebAssembly".to_owned(),
            (Family::Static, _) => "a static site".to_owned(),
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
        _ if name.ends_with(".java") => {
            bail!("{} is Java source, which is not compiled here: {}", path.display(), java::HOW)
        }
        Some(Family::Java) => java::jar(path, &name, known),
        Some(Family::Wasm) => Ok(wasm(name.clone(), alone(name, false))),
        Some(Family::Python) => python::detect(path, &name, alone(name.clone(), false), known),
        Some(Family::Node) => node::detect(path, &name, alone(name.clone(), false), known),
        Some(Family::Php) => php::detect(path, &name, alone(name.clone(), false), known),
        Some(Family::Ruby) => ruby::detect(path, &name, alone(name.clone(), false), known),
        Some(Family::Provided) => Ok(provided(alone("bootstrap".to_owned(), true))),
        Some(Family::Static) => bail!("{} is a file: a static site is a folder", path.display()),
        None if is_program(path)? => Ok(provided(alone("bootstrap".to_owned(), true))),
        None => bail!(
            "{} is none of .py, .js, .mjs, .cjs, .php, .rb, .jar, .wasm, .zip or an executable; say what runs it with --runtime",
            path.display()
        ),
    }
}

/// A zip that was made elsewhere is not looked into.
fn archive(path: &Path, known: &Known) -> Result<Detected> {
    let Some(family) = known.family else {
        bail!("{} is a package already: say what runs it with --runtime and --handler", path.display());
    };
    let contract = match family {
        Family::Wasm => Contract::Wasi,
        Family::Static => Contract::Http,
        _ => Contract::Lambda,
    };
    let handler = known.handler.clone().unwrap_or_default();
    if handler.is_empty() && family.wants_handler() {
        bail!("{} is a package already: say which handler with --handler", path.display());
    }
    Ok(Detected { family, handler, contract, files: Files::Ready(path.to_owned()), hints: Vec::new() })
}

/// A folder: its `bootstrap`, a page with no program beside it, then a language's own files (package.json, composer.json, config.ru, Gemfile), then its
/// files' endings decide. Node's manifest comes after PHP's and Ruby's: web applications in those have it for their
/// browsers' side.
fn folder(path: &Path, known: &Known) -> Result<Detected> {
    let names = names(path)?;
    let has = |name: &str| names.iter().any(|found| found == name);
    let ending =
        |endings: &[&str]| names.iter().any(|name| endings.iter().any(|ending| name.ends_with(ending)));
    let family = known.family.or_else(|| {
        let candidates = [
            (has("bootstrap"), Family::Provided),
            (site::is_one(path, &names), Family::Static),
            (has("composer.json") || has("index.php") || php::public_php(path).is_some(), Family::Php),
            (has("config.ru") || has("Gemfile"), Family::Ruby),
            (has("package.json") || ending(&[".js", ".mjs", ".cjs"]), Family::Node),
            (ending(&[".py"]) || has("requirements.txt") || has("pyproject.toml"), Family::Python),
            (ending(&[".php"]), Family::Php),
            (ending(&[".rb"]), Family::Ruby),
            (ending(&[".wasm"]), Family::Wasm),
        ];
        let found = candidates.into_iter().find(|(found, _)| *found).map(|(_, family)| family);
        found.or_else(|| java::is_package(path, &names).then_some(Family::Java))
    });
    let whole = Files::Folder(path.to_owned());
    match family {
        Some(Family::Provided) if has("bootstrap") => Ok(provided(whole)),
        Some(Family::Provided) => bail!("{} holds no file called bootstrap", path.display()),
        Some(Family::Node) => {
            let entry = node::entry_file(path, &names);
            let named = known.handler.as_ref().filter(|handler| handler.starts_with("package.json:"));
            if known.handler.is_none()
                && known.contract != Some(Contract::Lambda)
                && let Some(next) = node::next_standalone(path)
            {
                return Ok(next);
            }
            let start = || known.handler.is_none().then(|| node::npm_start(path, entry.as_ref())).flatten();
            if let Some(handler) = named.cloned().or_else(start) {
                let hints = node::hints(&whole);
                return Ok(Detected {
                    family: Family::Node,
                    handler,
                    contract: Contract::Http,
                    files: whole,
                    hints,
                });
            }
            let entry = entry_of(path, &names, known, entry)?;
            node::detect(&path.join(&entry), &entry, whole, known)
        }
        Some(Family::Python) => {
            let entry = entry_of(path, &names, known, python::entry_file(path, &names))?;
            python::detect(&path.join(&entry), &entry, whole, known)
        }
        Some(Family::Php) => {
            let entry = entry_of(path, &names, known, php::entry_file(path, &names))?;
            php::detect(&path.join(&entry), &entry, whole, known)
        }
        Some(Family::Ruby) => {
            let entry = entry_of(path, &names, known, ruby::entry_file(&names))?;
            ruby::detect(&path.join(&entry), &entry, whole, known)
        }
        Some(Family::Java) => java::folder(path, known),
        Some(Family::Wasm) => wasm_folder(path, &names, whole, known),
        Some(Family::Static) => site::folder(path, whole, known),
        None => bail!(
            "{} holds nothing that looks like a function: no bootstrap, package.json, .py, .js, .mjs, \
             .php, .rb, .jar, .class, .wasm or index.html of a folder of pages",
            path.display()
        ),
    }
}

/// The file that `--handler` names, or the one that was found.
fn entry_of(path: &Path, names: &[String], known: &Known, found: Option<String>) -> Result<String> {
    if let Some(handler) = &known.handler {
        // One colon: a Ruby class has two.
        if let Some((module, _)) = handler.split_once(':').filter(|(_, name)| !name.starts_with(':')) {
            return named_application(path, module);
        }
        let module = handler.rsplit_once('.').map_or(handler.as_str(), |(module, _)| module);
        // Ruby has a class between its file and its method.
        let first = handler.split('.').next().unwrap_or_default();
        let endings = ["", ".py", ".mjs", ".js", ".cjs", ".rb"];
        let files = endings.iter().map(|ending| format!("{module}{ending}"));
        let files = files.chain([format!("{first}.rb")]);
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

/// The file that `--handler MODULE:NAME` or `package.json:SCRIPT` is about.
fn named_application(path: &Path, module: &str) -> Result<String> {
    let module = if module == "package.json" { module.to_owned() } else { module.replace('.', "/") };
    let files = [module.clone(), format!("{module}.py"), format!("{module}/__init__.py")];
    let found = files.into_iter().find(|name| path.join(name).is_file());
    found.with_context(|| format!("--handler names {module}, which is not in {}", path.display()))
}

/// What to do where a folder's list of packages (`listed` in `list`) is there and the packages (`place`) are not.
fn installed_hint(files: &Files, list: &str, listed: &str, place: &str, command: &str) -> Vec<String> {
    let Files::Folder(root) = files else { return Vec::new() };
    let wanted = fs::read_to_string(root.join(list)).unwrap_or_default().contains(listed);
    if !wanted || root.join(place).exists() {
        return Vec::new();
    }
    let target = if list == "Gemfile" { root.join(list) } else { root.clone() };
    vec![format!("the packages that {list} asks for are not here: {command} {}", target.display())]
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

fn family_of_name(name: &str) -> Option<Family> {
    let (_, ending) = name.rsplit_once('.')?;
    match ending {
        "py" => Some(Family::Python),
        "js" | "mjs" | "cjs" => Some(Family::Node),
        "php" => Some(Family::Php),
        "rb" | "ru" => Some(Family::Ruby),
        "jar" => Some(Family::Java),
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
