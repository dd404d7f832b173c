//! How an image of a folder is started: what detection found, as a command line.
//!
//! An interpreter is the base's: by its name in `PATH`, or by the base's entry point where that is one and nothing else, as
//! in images without a shell. A handler needs a client of the Runtime API: the base's, or the folder's. From scratch
//! there is nothing but the folder, so its program must be one that runs alone.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, PermissionsExt};

use anyhow::{Context, Result, anyhow, bail};
use images::build::{Base, Ignore};

use crate::detect::{Contract, Detected, Family};
use crate::package::Files;

/// What starts an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Start {
    /// Absent: the base's.
    pub(super) entrypoint: Option<Vec<String>>,
    /// Its arguments.
    pub(super) command: Option<Vec<String>>,
}

/// Where a program looks for its place: what is in the folder, in the image, and around it.
pub(super) struct Place<'a> {
    /// The folder's path in the image, as in `/app`.
    pub(super) at: &'a str,
    /// The port that it is to listen at.
    pub(super) port: u16,
    /// What it is built upon.
    pub(super) base: Option<&'a Base>,
}

/// Clients of the Runtime API that Lambda's base images start.
const CLIENTS: [&str; 3] = ["lambda-entrypoint", "awslambdaric", "aws-lambda-ric"];

/// What to start.
pub(super) fn of(found: &Detected, place: &Place<'_>) -> Result<Start> {
    let words = match (found.family, found.contract) {
        (Family::Wasm, _) | (_, Contract::Wasi) => return Err(no_image(found)),
        (Family::Provided, _) => vec![format!("{}/bootstrap", place.at)],
        (_, Contract::Http) => server(found, place)?,
        _ => return handler(found, place),
    };
    Ok(Start { entrypoint: Some(words), command: None })
}

/// An event handler: the client that the base has, or the folder.
fn handler(found: &Detected, place: &Place<'_>) -> Result<Start> {
    let names = vec![found.handler.clone()];
    let base = place.base.map(|base| [&base.entrypoint[..], &base.command].concat()).unwrap_or_default();
    if place.base.is_some_and(|base| !base.entrypoint.is_empty())
        && base.iter().any(|word| CLIENTS.iter().any(|client| word.contains(client)))
    {
        return Ok(Start { entrypoint: None, command: Some(names) });
    }
    let entrypoint = match found.family {
        Family::Python if has(found, "awslambdaric") => {
            vec![interpreter(place, "python3", "python"), "-m".to_owned(), "awslambdaric".to_owned()]
        }
        Family::Node if has(found, "node_modules/aws-lambda-ric") => {
            let client = first(found, &["bin/index.mjs", "bin/index.js"], "node_modules/aws-lambda-ric")
                .context("node_modules/aws-lambda-ric has no bin/index.mjs")?;
            vec![interpreter(place, "node", "node"), format!("{}/{client}", place.at)]
        }
        family => bail!("{}", no_client(family)),
    };
    Ok(Start { entrypoint: Some(entrypoint), command: Some(names) })
}

/// What runs without a program of its own.
fn no_image(found: &Detected) -> anyhow::Error {
    anyhow!("{} needs no image: virga deploy takes it as it is", found.describe())
}

fn no_client(family: Family) -> String {
    let (base, package) = match family {
        Family::Python => ("python:3.11", "awslambdaric in the folder"),
        Family::Node => ("nodejs:20", "aws-lambda-ric in node_modules"),
        Family::Ruby => ("ruby:3.2", "a client of your own"),
        _ => ("provided:al2023", "a client of your own"),
    };
    format!(
        "an image of a handler needs a client of the Runtime API: build upon one of Lambda's, as in --base \
         public.ecr.aws/lambda/{base}, have {package} and say --entrypoint where that is not enough"
    )
}

fn server(found: &Detected, place: &Place<'_>) -> Result<Vec<String>> {
    let handler = found.handler.as_str();
    let port = place.port;
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    Ok(match found.family {
        Family::Node => match handler.strip_prefix("package.json:") {
            Some(script) => npm_script(found, place.at, script)?,
            None => vec![interpreter(place, "node", "node"), handler.to_owned()],
        },
        Family::Python => match handler.split_once(':') {
            Some(_) => application(found, place, handler)?,
            None => vec![interpreter(place, "python3", "python"), handler.to_owned()],
        },
        Family::Ruby if handler.ends_with(".ru") && has(found, "Gemfile") => {
            words(&["bundle", "exec", "rackup", "-o", "0.0.0.0", "-p", &port.to_string(), handler])
        }
        Family::Ruby if handler.ends_with(".ru") => {
            words(&["rackup", "-o", "0.0.0.0", "-p", &port.to_string(), handler])
        }
        Family::Ruby => vec![interpreter(place, "ruby", "ruby"), handler.to_owned()],
        Family::Php => {
            let (folder, name) = handler.rsplit_once('/').unwrap_or((".", handler));
            let mut line = words(&["php", "-S", &format!("0.0.0.0:{port}"), "-t", folder]);
            // Without a script of its own, PHP's server has index.php answer whatever is no file.
            line.extend((name != "index.php").then(|| handler.to_owned()));
            line
        }
        _ => return Err(no_image(found)),
    })
}

/// A script of package.json, as `virga deploy` has it: by the shell, without npm.
fn npm_script(found: &Detected, at: &str, script: &str) -> Result<Vec<String>> {
    let Files::Folder(root) = &found.files else { bail!("there is no package.json") };
    let text = std::fs::read(root.join("package.json")).context("cannot read package.json")?;
    let package: serde_json::Value = serde_json::from_slice(&text).context("package.json is not JSON")?;
    let line = package["scripts"][script].as_str();
    let line = line.with_context(|| format!("package.json has no script called {script}"))?;
    let shell = format!("PATH={at}/node_modules/.bin:$PATH; export PATH; {line}");
    Ok(vec!["/bin/sh".to_owned(), "-c".to_owned(), shell])
}

/// An application of a web framework, under the server that the folder has or asks for.
fn application(found: &Detected, place: &Place<'_>, handler: &str) -> Result<Vec<String>> {
    let asked = match &found.files {
        Files::Folder(root) => std::fs::read_to_string(root.join("requirements.txt")).unwrap_or_default(),
        _ => String::new(),
    };
    let asks = |name: &str| {
        asked.lines().any(|line| {
            let line = line.trim_start().to_ascii_lowercase();
            let end = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
            line[..end.unwrap_or(line.len())] == *name
        })
    };
    let server = ["uvicorn", "hypercorn", "gunicorn", "waitress"].into_iter();
    let server = server.map(|name| (name, has(found, name) || asks(name))).find(|(_, there)| *there);
    let port = place.port;
    let (module, arguments) = match server.map(|(name, _)| name) {
        Some("uvicorn") => (
            "uvicorn",
            vec!["--host".to_owned(), "0.0.0.0".to_owned(), "--port".to_owned(), port.to_string()],
        ),
        Some("waitress") => ("waitress", vec![format!("--listen=0.0.0.0:{port}")]),
        Some(name) => (name, vec!["--bind".to_owned(), format!("0.0.0.0:{port}")]),
        None => bail!(
            "{handler} is an application that a server has to serve: have uvicorn, hypercorn, gunicorn or waitress in \
             the folder or in requirements.txt, or say --entrypoint"
        ),
    };
    let python = interpreter(place, "python3", "python");
    let line = [python, "-m".to_owned(), module.to_owned()].into_iter().chain(arguments);
    Ok(line.chain([handler.to_owned()]).collect())
}

/// An interpreter's program: the base's entry point where it is just that, or its name, to be looked for in PATH.
fn interpreter(place: &Place<'_>, name: &str, stem: &str) -> String {
    let own = place.base.and_then(|base| match &base.entrypoint[..] {
        [only] => Some(only),
        _ => None,
    });
    let is_it = |path: &&String| {
        let file = path.rsplit('/').next().unwrap_or_default();
        let version = file.strip_prefix(stem);
        version.is_some_and(|version| version.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
    };
    own.filter(is_it).cloned().unwrap_or_else(|| name.to_owned())
}

fn has(found: &Detected, name: &str) -> bool {
    matches!(&found.files, Files::Folder(root) if root.join(name).exists())
}

fn first(found: &Detected, names: &[&str], folder: &str) -> Option<String> {
    names.iter().map(|name| format!("{folder}/{name}")).find(|path| has(found, path))
}

/// From scratch, the program has to be in the folder and to run alone: what would fail later is said now.
pub(super) fn check_alone(program: &str, at: &str, files: &Files) -> Result<()> {
    let inside = program.strip_prefix(at).and_then(|rest| rest.strip_prefix('/'));
    let found = match (files, inside) {
        (Files::Folder(root), Some(inside)) => Some(root.join(inside)),
        (Files::One { path, name, .. }, Some(inside)) if inside == name => Some(path.clone()),
        _ => None,
    };
    let Some(path) = found.filter(|path| path.is_file()) else {
        bail!(
            "{program} is not in the folder, and from scratch there is nothing else: name an image that has it, as in \
             --base node:20-slim, or a program of the folder by its path, as in --entrypoint {at}/NAME"
        );
    };
    let shown = path.display();
    if let (Files::Folder(root), Some(inside)) = (files, inside)
        && Ignore::read(root)?.leaves_out(inside.as_bytes())
    {
        bail!("{shown} is what starts, and .dockerignore leaves it out");
    }
    let file = File::open(&path).with_context(|| format!("cannot read {shown}"))?;
    let made = matches!(files, Files::One { executable: true, .. });
    if !made && file.metadata()?.permissions().mode() & 0o111 == 0 {
        bail!("{shown} is not executable: chmod +x it");
    }
    let mut start = [0; 2];
    if file.read_at(&mut start, 0)? == 2 && &start == b"#!" {
        let mut line = String::new();
        let _ = (&file).take(200).read_to_string(&mut line);
        let interpreter = line.lines().next().unwrap_or_default().trim_start_matches("#!").trim().to_owned();
        bail!(
            "{shown} is a script of {interpreter}, which is not there from scratch: name an image that has it with --base"
        );
    }
    match loader(&file) {
        Some(loader) => bail!(
            "{shown} is not static: it needs {loader} and libraries, which are not there from scratch. Build it static, or \
             name an image that has them with --base"
        ),
        None => Ok(()),
    }
}

/// The program that loads this one's libraries (ELF: PT_INTERP), where it has any.
fn loader(file: &File) -> Option<String> {
    let mut head = [0; 64];
    file.read_exact_at(&mut head, 0).ok()?;
    // 64 bits, the lower byte first: the machines that Virga runs on.
    if head[..6] != *b"\x7fELF\x02\x01" {
        return None;
    }
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    let (at, size, count) = (number(&head[32..40]), number(&head[54..56]), number(&head[56..58]));
    for index in 0..count {
        let mut entry = [0; 56];
        file.read_exact_at(&mut entry, at.checked_add(index * size)?).ok()?;
        if number(&entry[..4]) == 3 {
            let length = usize::try_from(number(&entry[32..40])).ok()?.min(256);
            let mut path = vec![0; length];
            file.read_exact_at(&mut path, number(&entry[8..16])).ok()?;
            return Some(String::from_utf8_lossy(&path).trim_end_matches('\0').to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::detect::{Known, detect};

    fn started(files: &[(&str, &str)], contract: Option<Contract>) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            fs::write(dir.path().join(name), text).unwrap();
        }
        let found = detect(dir.path(), &Known { contract, ..Known::default() }).unwrap();
        let start = of(&found, &Place { at: "/app", port: 8080, base: None });
        start.map_err(|error| error.to_string()).map(|start| {
            let words = [start.entrypoint.unwrap_or_default(), start.command.unwrap_or_default()].concat();
            words.join(" ")
        })
    }

    fn check(files: &[(&str, &str)], expect: &str) {
        assert_eq!(started(files, None).unwrap(), expect);
    }

    #[test]
    fn what_detection_finds_is_started() {
        check(&[("server.js", "createServer(")], "node server.js");
        check(
            &[("package.json", r#"{"scripts":{"start":"next start"}}"#)],
            "/bin/sh -c PATH=/app/node_modules/.bin:$PATH; export PATH; next start",
        );
        check(&[("app.py", "HTTPServer(")], "python3 app.py");
        check(
            &[("app.py", "app = FastAPI()\n"), ("requirements.txt", "fastapi\nUvicorn[standard]==1\n")],
            "python3 -m uvicorn --host 0.0.0.0 --port 8080 app:app",
        );
        check(
            &[("app.py", "app = Flask(1)\n"), ("gunicorn/__init__.py", "")],
            "python3 -m gunicorn --bind 0.0.0.0:8080 app:app",
        );
        check(
            &[("app.py", "def handler(e, c): pass"), ("awslambdaric/__main__.py", "")],
            "python3 -m awslambdaric app.handler",
        );
        check(
            &[("index.js", "exports.handler = 1"), ("node_modules/aws-lambda-ric/bin/index.mjs", "")],
            "node /app/node_modules/aws-lambda-ric/bin/index.mjs index.handler",
        );
        check(&[("public/index.php", "<?php echo 1;")], "php -S 0.0.0.0:8080 -t public");
        check(
            &[("config.ru", "run App"), ("Gemfile", "")],
            "bundle exec rackup -o 0.0.0.0 -p 8080 config.ru",
        );
        check(&[("bootstrap", "x")], "/app/bootstrap");
    }

    #[test]
    fn what_cannot_be_started_is_said() {
        let error = |files: &[(&str, &str)]| started(files, None).unwrap_err();
        assert!(
            error(&[("app.py", "def handler(e, c): pass")]).contains("--base public.ecr.aws/lambda/python")
        );
        assert!(
            error(&[("app.py", "app = Flask(1)\n"), ("requirements.txt", "gunicorn-x\n")])
                .contains("have uvicorn")
        );
        assert!(error(&[("a.wasm", "")]).contains("virga deploy"));
    }

    #[test]
    fn from_scratch_a_program_has_to_run_alone() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::Folder(dir.path().to_owned());
        let error = |program: &str| check_alone(program, "/app", &files).unwrap_err().to_string();
        assert!(error("node").contains("--base node:20-slim"));
        assert!(error("/app/none").contains("/app/none is not in the folder"));
        fs::write(dir.path().join("run"), "#!/bin/sh -e\nexit\n").unwrap();
        assert!(error("/app/run").contains("is not executable"));
        fs::set_permissions(dir.path().join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(error("/app/run").contains("is a script of /bin/sh -e,"));
        fs::write(dir.path().join(".dockerignore"), "r*").unwrap();
        assert!(error("/app/run").contains("run is what starts, and .dockerignore leaves it out"));
        // This test itself is linked to the C library.
        fs::copy(std::env::current_exe().unwrap(), dir.path().join("dynamic")).unwrap();
        assert!(error("/app/dynamic").contains("is not static: it needs /lib"));
    }
}
