//! `virga new KIND [FOLDER]`: a function to begin with, which is one of the samples.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::output;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What it is written in, or what it is
    #[arg(value_enum)]
    kind: Kind,
    /// Where it goes; files that are there stay (default: named like the sample)
    folder: Option<PathBuf>,
}

/// A sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// A Python handler
    Python,
    /// A Node handler
    Node,
    /// A PHP handler
    Php,
    /// A Ruby handler
    Ruby,
    /// A Java handler, made into a jar by javac
    Java,
    /// A program in Rust, a custom runtime
    Rust,
    /// A program in Go, a custom runtime
    Go,
    /// A shell script, a custom runtime
    Shell,
    /// A WebAssembly component, with the C that it was made of
    Wasm,
    /// A web server of Express
    Express,
    /// Pages without code
    Static,
}

/// A file of a sample: its path, what is in it, and whether it is a program.
type File = (&'static str, &'static [u8], bool);

/// Files of a sample's folder.
macro_rules! files {
    ($folder:literal: $($name:literal $($program:ident)?),*) => {
        &[$((
            $name,
            include_bytes!(concat!("../../../../examples/", $folder, "/", $name)),
            files!(@ $($program)?),
        )),*]
    };
    (@ program) => { true };
    (@) => { false };
}

impl Kind {
    /// The sample's name, its files, and what is to be done before it can be deployed.
    fn sample(self) -> (&'static str, &'static [File], Option<&'static str>) {
        match self {
            Self::Python => ("hello-python", files!("hello-python": "handler.py"), None),
            Self::Node => ("hello-node", files!("hello-node": "index.mjs"), None),
            Self::Php => ("hello-php", files!("hello-php": "index.php"), None),
            Self::Ruby => ("hello-ruby", files!("hello-ruby": "handler.rb"), None),
            Self::Java => ("hello-java", JAVA, Some("./build.sh")),
            Self::Rust => {
                ("hello-rust", files!("hello-rust": "main.rs", "build.sh" program), Some("./build.sh"))
            }
            Self::Go => ("hello-go", files!("hello-go": "main.go", "build.sh" program), Some("./build.sh")),
            Self::Shell => ("shell", files!("shell": "bootstrap" program), None),
            Self::Wasm => ("hello-wasm", WASM, None),
            Self::Express => (
                "web-express",
                files!("web-express": "server.js", "package.json", "package-lock.json"),
                Some("npm ci"),
            ),
            Self::Static => (
                "static-site",
                files!("static-site": "index.html", "about.html", "404.html", "css/site.css"),
                None,
            ),
        }
    }
}

const JAVA: &[File] = files!(
    "hello-java":
    "Hello.java",
    "build.sh" program,
    "interfaces/com/amazonaws/services/lambda/runtime/Context.java",
    "interfaces/com/amazonaws/services/lambda/runtime/LambdaLogger.java",
    "interfaces/com/amazonaws/services/lambda/runtime/RequestHandler.java"
);

const WASM: &[File] = files!("hello-wasm": "hello.wasm", "main.c", "arena.h", "wasi_http.h", "wasi-http.wit");

/// Writes one.
pub(crate) fn run(args: &Args, as_json: bool) -> Result<()> {
    let (name, files, before) = args.kind.sample();
    let folder = args.folder.clone().unwrap_or_else(|| PathBuf::from(name));
    write(&folder, files)?;
    if as_json {
        let files: Vec<_> = files.iter().map(|(name, ..)| name).collect();
        return output::json(&json!({ "Folder": folder.display().to_string(), "Files": files }));
    }
    let shown = folder.display();
    let names: Vec<_> = files.iter().map(|(name, ..)| *name).collect();
    output::line(format!("{shown}: {}", names.join(", ")))?;
    if let Some(before) = before {
        output::line(format!("  (cd {shown} && {before})"))?;
    }
    output::line(format!("  virga deploy {shown}"))
}

/// Writes files, none of which may be there.
fn write(folder: &Path, files: &[File]) -> Result<()> {
    if let Some((name, ..)) = files.iter().find(|(name, ..)| folder.join(name).symlink_metadata().is_ok()) {
        bail!("{} is there already", folder.join(name).display());
    }
    for (name, content, program) in files {
        let path = folder.join(name);
        let told = || format!("cannot write {}", path.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(told)?;
        }
        let mode = if *program { 0o777 } else { 0o666 };
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
        file.and_then(|mut file| file.write_all(content)).with_context(told)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;
    use crate::detect::{Contract, Family, Known, detect};

    #[test]
    fn each_is_what_it_says() {
        for kind in Kind::value_variants() {
            let dir = tempfile::tempdir().unwrap();
            let (name, files, before) = kind.sample();
            let folder = dir.path().join(name);
            write(&folder, files).unwrap();
            let again = write(&folder, files).unwrap_err().to_string();
            assert!(again.ends_with("is there already"), "{again}");
            if before == Some("./build.sh") {
                let program = fs::metadata(folder.join("build.sh")).unwrap();
                assert_ne!(std::os::unix::fs::PermissionsExt::mode(&program.permissions()) & 0o100, 0);
                continue;
            }
            let found = detect(&folder, &Known::default()).unwrap();
            let expect = match kind {
                Kind::Python => (Family::Python, Contract::Lambda),
                Kind::Node => (Family::Node, Contract::Lambda),
                Kind::Php => (Family::Php, Contract::Lambda),
                Kind::Ruby => (Family::Ruby, Contract::Lambda),
                Kind::Wasm => (Family::Wasm, Contract::Wasi),
                Kind::Express => (Family::Node, Contract::Http),
                Kind::Static => (Family::Static, Contract::Http),
                Kind::Shell | Kind::Java | Kind::Rust | Kind::Go => (Family::Provided, Contract::Lambda),
            };
            assert_eq!((found.family, found.contract), expect, "{name}");
        }
    }

    #[test]
    fn no_sample_is_forgotten() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
        let mut there: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        let mut samples: Vec<_> = Kind::value_variants().iter().map(|kind| kind.sample().0).collect();
        there.sort();
        samples.sort_unstable();
        assert_eq!(there, samples);
    }
}
