//! `virga deploy --build`: dependencies are resolved where the function will run.
//!
//! A package manager runs code of strangers. Here it runs as a function of the server, made for the purpose and deleted
//! after it: the same interpreter, so that native packages fit; the sandbox of every function, so that it sees the
//! files that list the packages and nothing else; an egress rule of its own. What it made comes back by Invoke, piece by
//! piece, and is kept by the digest of what it was made from.
//!
//! Left out: packages that lie in the folder itself (`-e .`, `file:`), since only the lists go there; a package manager's own
//! cache, since each sandbox is new.

mod cache;
mod recipe;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine;
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::client::Client;
use crate::commands::{function_path, text};
use crate::detect::Family;
use crate::failure::Failure;
use crate::output::Progress;
use crate::package::Package;
use cache::Cache;
use recipe::Recipe;

/// MB: a package manager, and all that it unpacks.
const MEMORY_MB: u32 = 2048;
/// Seconds: Lambda's longest.
const TIMEOUT_S: u32 = 900;
/// Bytes of a piece: as base64 below an answer's limit.
const PIECE: u64 = 4 << 20;
/// Bytes of what is made: four times what a function's code may be, since much of it may be left out of the package.
const MOST: u64 = 1 << 30;

/// Exit code of what SIGINT ended (bash: EXIT STATUS).
const INTERRUPTED: i32 = 130;

/// Arguments of `virga deploy` about dependencies.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Resolve dependencies from lock files, on the server in a sandbox: pip, npm, composer or bundler
    #[arg(long, conflicts_with = "image")]
    build: bool,
    /// What the package manager may connect to, as in virga:egress
    #[arg(long, value_name = "PLACES", default_value = "public", requires = "build")]
    build_egress: String,
    /// An environment variable of the package manager; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::commands::deploy::parse_pair, requires = "build")]
    build_env: Vec<(String, String)>,
}

/// What was resolved.
pub(crate) struct Resolved {
    /// A folder whose content goes into the package.
    pub(crate) folder: PathBuf,
    /// The folder of the package that it replaces; empty: only files of the same name.
    pub(crate) replaces: &'static str,
}

impl Args {
    /// Whether dependencies are to be resolved.
    pub(crate) fn wanted(&self) -> bool {
        self.build
    }
}

/// Resolves the dependencies of a folder for a runtime.
pub(crate) async fn resolve(
    client: &Client,
    folder: &Path,
    (family, runtime): (Family, &str),
    args: &Args,
    progress: &Progress,
) -> Result<Resolved> {
    if !folder.is_dir() {
        bail!("--build: {} is no folder, so nothing in it lists packages", folder.display());
    }
    let recipe = recipe::of(folder, family)?;
    let lists = read_lists(folder, &recipe)?;
    let (cache, key) = (Cache::open()?, key((client.endpoint(), runtime), &recipe, &lists, args));
    let replaces = recipe.replaces;
    if recipe.locked
        && let Some(folder) = cache.get(&key)
    {
        return Ok(Resolved { folder, replaces });
    }
    progress.step(format!("resolving dependencies with {}", name(&recipe)));
    let builder = Builder { client, recipe: &recipe, name: format!("virga-build-{}", &nonce()[..12]) };
    let made = tokio::select! {
        made = builder.run(runtime, &lists, args) => made,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    // tokio keeps the signal from now on: who interrupts what follows is to be heard as well.
    tokio::spawn(async {
        let _ = tokio::signal::ctrl_c().await;
        std::process::exit(INTERRUPTED)
    });
    builder.delete().await;
    let archive = made?;
    let folder = cache.put(&key, |place| unpack(&archive, place))?;
    Ok(Resolved { folder, replaces })
}

/// The package manager's name.
fn name(recipe: &Recipe) -> String {
    let words = recipe.steps[0].iter().filter(|word| !matches!(**word, "{interpreter}" | "-m"));
    words.take(2).copied().collect::<Vec<_>>().join(" ")
}

fn nonce() -> String {
    base::RequestId::random().to_string().replace('-', "")
}

fn read_lists(folder: &Path, recipe: &Recipe) -> Result<BTreeMap<&'static str, Vec<u8>>> {
    let read = |name: &&'static str| {
        let path = folder.join(name);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok((*name, bytes))
    };
    recipe.files.iter().map(read).collect()
}

/// Everything that decides what is made, but for what the registries hold. The server too: another one has another
/// machine under the same runtime, and its answer is not to be taken for this one's.
fn key(
    (endpoint, runtime): (&str, &str),
    recipe: &Recipe,
    lists: &BTreeMap<&str, Vec<u8>>,
    args: &Args,
) -> String {
    let mut digest = Sha256::new();
    let mut add = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    add(endpoint.as_bytes());
    add(runtime.as_bytes());
    add(format!("{recipe:?} {:?}", args.build_env).as_bytes());
    for (name, bytes) in lists {
        add(name.as_bytes());
        add(bytes);
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The function that runs the package manager.
struct Builder<'a> {
    client: &'a Client,
    recipe: &'a Recipe,
    name: String,
}

impl Builder<'_> {
    /// Bytes of the archive of what was made.
    async fn run(&self, runtime: &str, lists: &BTreeMap<&str, Vec<u8>>, args: &Args) -> Result<Vec<u8>> {
        self.create(runtime, lists, args).await?;
        let env: BTreeMap<_, _> = self
            .recipe
            .env
            .iter()
            .copied()
            .chain(args.build_env.iter().map(|(key, value)| (key.as_str(), value.as_str())))
            .collect();
        let run =
            json!({ "op": "run", "steps": self.recipe.steps, "env": env, "collect": self.recipe.collect });
        let done = self.invoke(&run).await?;
        let size = size(&done, &name(self.recipe))?;
        let mut archive = Vec::new();
        while (archive.len() as u64) < size {
            let read = json!({ "op": "read", "offset": archive.len(), "size": PIECE });
            let answer = self.invoke(&read).await?;
            let piece = base64::engine::general_purpose::STANDARD.decode(text(&answer, "data"));
            let piece = piece.context("a piece of what was made cannot be read")?;
            if piece.is_empty() {
                bail!("what was made broke off at {} of {size} bytes", archive.len());
            }
            archive.extend(piece);
        }
        Ok(archive)
    }

    async fn create(&self, runtime: &str, lists: &BTreeMap<&str, Vec<u8>>, args: &Args) -> Result<()> {
        let (name, program) = self.recipe.builder;
        let mut files = vec![(name.to_owned(), program.as_bytes())];
        files.extend(lists.iter().map(|(name, bytes)| (format!("project/{name}"), &bytes[..])));
        let zip = Package::of(&files)?.zip;
        let body = json!({
            "FunctionName": self.name,
            "Description": "Resolves dependencies of a deployment",
            "Runtime": runtime,
            "Role": crate::commands::deploy::role::of(self.client, None).await?,
            "Handler": self.recipe.handler,
            "Code": { "ZipFile": base64::engine::general_purpose::STANDARD.encode(zip) },
            "MemorySize": MEMORY_MB,
            "EphemeralStorage": { "Size": MEMORY_MB },
            "Timeout": TIMEOUT_S,
            "Tags": { "virga:egress": args.build_egress, "virga:template": "off" },
        });
        self.client.lambda(Method::POST, "/2015-03-31/functions", Some(&body)).await?;
        crate::commands::deploy::wait(self.client, &self.name).await?;
        Ok(())
    }

    async fn invoke(&self, event: &Value) -> Result<Value> {
        let path = function_path(&self.name, "/invocations");
        let event = Bytes::from(event.to_string());
        let answer = self.client.send("lambda", Method::POST, &path, HeaderMap::new(), event).await?;
        let value: Value = serde_json::from_slice(&answer.body).context("the answer is no JSON")?;
        if answer.headers.contains_key("x-amz-function-error") {
            let why = text(&value, "errorMessage");
            return Err(Failure::Function(format!("resolving dependencies broke off: {why}")).into());
        }
        Ok(value)
    }

    async fn delete(&self) {
        let deleted = self.client.lambda(Method::DELETE, &function_path(&self.name, ""), None).await;
        if let Err(error) = deleted
            && !crate::failure::is_not_found(&error)
        {
            eprintln!("warning: {} could not be deleted: {error:#}", self.name);
        }
    }
}

/// Bytes that were made, or what went wrong, with what the package manager said.
fn size(done: &Value, name: &str) -> Result<u64> {
    let said = text(done, "said").trim_end();
    if let Some(program) = done["missing"].as_str() {
        let failure =
            format!("{program} is not where the server's functions find it: install it on its host");
        return Err(Failure::Function(failure).into());
    }
    match (done["code"].as_u64(), done["size"].as_u64()) {
        (Some(0), Some(size)) if size <= MOST => Ok(size),
        (Some(0), Some(size)) => bail!("the dependencies are {} MB; 1,024 MB are the most", size >> 20),
        _ => {
            let ended = done["signal"].as_str().map_or_else(|| done["code"].to_string(), str::to_owned);
            Err(Failure::Function(format!("{name} ended with {ended}:\n{said}")).into())
        }
    }
}

/// Unpacks below `place`; entries that lead elsewhere are refused.
fn unpack(archive: &[u8], place: &Path) -> Result<()> {
    let mut archive = tar::Archive::new(archive);
    archive.set_preserve_mtime(false);
    for entry in archive.entries().context("what was made is no archive")? {
        let mut entry = entry.context("what was made is no archive")?;
        let name = entry.path()?.into_owned();
        let kind = entry.header().entry_type();
        if !(kind.is_file() || kind.is_dir() || kind.is_symlink() || kind.is_hard_link()) {
            bail!("{}: neither a file nor a folder nor a link", name.display());
        }
        if !entry.unpack_in(place).with_context(|| format!("cannot unpack {}", name.display()))? {
            bail!("{} leads out of the package", name.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_is_said() {
        let check = |done: Value| size(&done, "npm ci").map_err(|error| error.to_string());
        assert_eq!(check(json!({ "code": 0, "size": 7, "said": "" })), Ok(7));
        assert_eq!(
            check(json!({ "code": 1, "said": "no such\n" })),
            Err("npm ci ended with 1:\nno such".into())
        );
        let killed = json!({ "code": null, "signal": "SIGKILL", "said": "" });
        assert_eq!(check(killed), Err("npm ci ended with SIGKILL:\n".into()));
        assert!(check(json!({ "missing": "npm" })).unwrap_err().contains("npm is not where"));
        assert!(check(json!({ "code": 0, "size": MOST + 1 })).unwrap_err().contains("the most"));
    }

    #[test]
    fn what_was_made_elsewhere_or_otherwise_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("requirements.txt"), "six==1.16.0").unwrap();
        let recipe = recipe::of(dir.path(), Family::Python).unwrap();
        let lists = read_lists(dir.path(), &recipe).unwrap();
        let with = |value: &str| Args { build_env: vec![("A".into(), value.into())], ..Args::default() };
        let here = ("http://one", "python3.11");
        let first = key(here, &recipe, &lists, &with("1"));
        assert_eq!(first, key(here, &recipe, &lists, &with("1")));
        let mut newer = recipe.clone();
        newer.builder.1 = "another program";
        let mut longer = lists.clone();
        longer.insert("more.txt", Vec::new());
        for other in [
            key(("http://two", "python3.11"), &recipe, &lists, &with("1")),
            key(("http://one", "python3.12"), &recipe, &lists, &with("1")),
            key(here, &newer, &lists, &with("1")),
            key(here, &recipe, &longer, &with("1")),
            key(here, &recipe, &lists, &with("2")),
        ] {
            assert_ne!(other, first);
        }
    }

    #[test]
    fn nothing_is_unpacked_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("place");
        fs::create_dir(&place).unwrap();
        for name in ["../out", "a/../../out"] {
            let mut header = tar::Header::new_gnu();
            header.set_size(1);
            header.set_mode(0o644);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            let mut archive = tar::Builder::new(Vec::new());
            archive.append(&header, &b"x"[..]).unwrap();
            let error = unpack(&archive.into_inner().unwrap(), &place).unwrap_err().to_string();
            assert!(error.contains("leads out"), "{error}");
        }
        assert!(!dir.path().join("out").exists());
        assert!(unpack(b"no archive at all, but long enough to be looked at", &place).is_err());
    }
}
