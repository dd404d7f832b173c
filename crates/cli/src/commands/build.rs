//! `virga build FOLDER`: an image of a folder, without a daemon.
//!
//! The folder's files become layers upon a base, packages (`node_modules`, `vendor`) in one of their own, so that a change of
//! the code sends no packages. What starts the image is said or found out, as `virga deploy` does it. `images::build`
//! makes and pushes it; this decides what goes in. `start` knows how each kind is started,
//! `report` shows what came of it, `steps` reads what the folder declares and `running` runs it, and `buildah` builds folders
//! that have a Dockerfile.

mod buildah;
mod folder;
mod report;
mod running;
mod start;
mod steps;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use images::build::{Base, Choice, Ignore, Item, Made, Recipe, Run, Workshop, WorkshopSettings};
use images::{Pushed, Reference};
use server::steps::Confinement;

use super::deploy;
use crate::client::Client;
use crate::detect::{self, Contract, Detected, Known};
use crate::failure::Failure;
use crate::output::Progress;
use crate::package::{self, Files};
use folder::Own;
use start::{Place, Start};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A folder, or one program
    #[arg(value_name = "FOLDER")]
    path: PathBuf,
    /// What the image is called: [REGISTRY/]NAME[:TAG]
    #[arg(short, long, value_name = "NAME[:TAG]")]
    tag: Option<String>,
    /// Where it is written to: oci:FOLDER[:TAG] or docker-archive:FILE; may be repeated
    #[arg(short, long, value_name = "TO")]
    output: Vec<String>,
    /// Push it to the registry that --tag names
    #[arg(long, requires = "tag")]
    push: bool,
    /// What it is built upon: scratch, [REGISTRY/]NAME[:TAG|@DIGEST], oci:FOLDER[:TAG], docker-archive:FILE
    #[arg(long, value_name = "REF")]
    base: Option<String>,
    /// Write the base's large layers anew, with an index: functions start before they are there
    #[arg(long, requires = "base")]
    index_base: bool,
    /// The program that it starts: words, or a JSON list (default: found out)
    #[arg(long, value_name = "WORDS", value_parser = parse_words)]
    entrypoint: Option<Words>,
    /// Arguments of the entry point: words, or a JSON list
    #[arg(long, value_name = "WORDS", value_parser = parse_words)]
    cmd: Option<Words>,
    /// An environment variable; may be repeated. The base's others stay
    #[arg(long, value_name = "KEY=VALUE", value_parser = deploy::parse_pair)]
    env: Vec<(String, String)>,
    /// The port that it listens at; makes it a web server (default: 8080)
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Whom it runs as, USER[:GROUP] (default: the base's)
    #[arg(long)]
    user: Option<String>,
    /// Where in the image the folder goes (default: /app, or /var/task for a handler)
    #[arg(long, value_name = "PATH", value_parser = parse_place)]
    into: Option<String>,
    /// A label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = deploy::parse_pair)]
    label: Vec<(String, String)>,
    /// Where the code starts: module.function, or a web server's file (default: found out)
    #[arg(long)]
    handler: Option<String>,
    /// How it is called (default: found out)
    #[arg(long, value_enum)]
    contract: Option<Contract>,
    #[command(flatten)]
    steps: running::Args,
    /// An argument of the Dockerfile; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = deploy::parse_pair)]
    build_arg: Vec<(String, String)>,
    /// Deploy it: from the registry, or without --push from where it was written to
    #[arg(long)]
    deploy: bool,
    /// The function's name (default: the folder's)
    #[arg(long, requires = "deploy")]
    name: Option<String>,
    /// Credentials of registries, like Docker's config.json (default: $REGISTRY_AUTH_FILE, or Docker's own)
    #[arg(long, value_name = "FILE")]
    registry_auth: Option<PathBuf>,
    /// Certificates (PEM) that vouch for registries besides this machine's own
    #[arg(long, value_name = "FILE")]
    registry_ca: Option<PathBuf>,
    /// A registry without TLS; one on a loopback address need not be named. May be repeated
    #[arg(long, value_name = "HOST[:PORT]")]
    plain_registry: Vec<String>,
}

/// Where web servers listen unless they are told otherwise.
const PORT: u16 = 8080;

/// Folders of packages, which change less often than the code beside them.
const PACKAGES: [&str; 2] = ["node_modules", "vendor"];

/// At the folder's top, what is about building and not about running.
const ABOUT_BUILDING: [&[u8]; 4] =
    [b".dockerignore", b"Dockerfile", b"Containerfile", steps::FILE.as_bytes()];

type Words = Vec<String>;

/// Where an image is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Output {
    Layout { folder: PathBuf, tag: Option<String> },
    Archive(PathBuf),
}

/// What is asked for, and what the folder says about it.
struct Plan {
    files: Files,
    found: Option<Detected>,
    contract: Contract,
    at: String,
    run: Run,
}

/// What came of it.
struct Summary {
    what: String,
    hints: Vec<String>,
    files: Option<usize>,
    contract: Option<Contract>,
    run: Run,
    made: Made,
    pushed: Option<Pushed>,
}

impl Args {
    /// Whether a server is needed.
    pub(crate) fn deploys(&self) -> bool {
        self.deploy
    }

    /// What its steps are confined by, if anything. The process must have one thread.
    pub(crate) fn confinement(&self) -> Result<Option<Confinement>> {
        self.steps.confinement(&self.path)
    }

    fn port(&self, contract: Contract) -> Option<u16> {
        self.port.or((contract == Contract::Http).then_some(PORT))
    }
}

/// Builds one image.
pub(crate) async fn run(
    client: Option<&Client>,
    args: &Args,
    confinement: Option<&Confinement>,
    as_json: bool,
) -> Result<()> {
    let outputs = outputs(args)?;
    let workshop = workshop(args)?;
    let summary = match buildah::file(args)? {
        Some(file) => by_buildah(&workshop, args, &file, &outputs).await?,
        None if args.build_arg.is_empty() => by_hand(&workshop, args, confinement, &outputs).await?,
        None => bail!("--build-arg is for a Dockerfile, and none is built"),
    };
    report::show(args, &summary, &outputs, as_json)?;
    if let Some(client) = client {
        let name = args.name.clone().map_or_else(|| detect::name_of(&args.path), Ok)?;
        let image = deployed(args, &outputs)?;
        return deploy::image::built(client, &image, &name, summary.contract, as_json).await;
    }
    Ok(())
}

/// The folder's files upon a base.
async fn by_hand(
    workshop: &Workshop,
    args: &Args,
    confinement: Option<&Confinement>,
    outputs: &[Output],
) -> Result<Summary> {
    let copy = after_steps(args, confinement, outputs).await?;
    let root = copy.as_ref().map_or(args.path.as_path(), Own::path);
    let progress = Progress::start(format!("building {}", args.path.display()));
    let base = base(workshop, args, &progress).await?;
    // The copy goes; the folder is what people know.
    let named = |text: String| text.replace(&root.display().to_string(), &args.path.display().to_string());
    let plan = plan(args, root, base.as_ref()).map_err(|error| anyhow!(named(format!("{error:#}"))))?;
    progress.step(format!("packing {}", args.path.display()));
    let layers = layers(&plan, outputs)?;
    let count = layers.iter().flatten().filter(|item| !item.is_folder()).count();
    let into = plan.at.trim_start_matches('/').to_owned();
    let recipe = Recipe { base, layers, into, run: plan.run.clone() };
    let made = workshop.make(recipe).await.map_err(failed)?;
    let pushed = take_there(workshop, &made, args, outputs, &progress).await?;
    Ok(Summary {
        what: plan.found.as_ref().map_or_else(|| "a folder".to_owned(), Detected::describe),
        hints: plan.found.into_iter().flat_map(|found| found.hints).map(named).collect(),
        files: Some(count),
        contract: Some(plan.contract),
        run: plan.run,
        made,
        pushed,
    })
}

/// A copy of the folder in which its steps have run, where that was asked for. In it is whatever a step may need;
/// `.dockerignore` is about what becomes of it.
async fn after_steps(
    args: &Args,
    confinement: Option<&Confinement>,
    outputs: &[Output],
) -> Result<Option<Own>> {
    let steps = steps::of(&args.path)?;
    if !args.steps.wanted() {
        if let Some(first) = steps.first() {
            eprintln!(
                "warning: {} and what follows in {} runs only with --run-steps",
                first.name,
                steps::FILE
            );
        }
        return Ok(None);
    }
    if steps.is_empty() {
        bail!("--run-steps: {} declares no steps in {}", args.path.display(), steps::FILE);
    }
    let copy = Own::new(&std::env::temp_dir())?;
    let all = listed(&args.path, outputs, &Ignore::default(), &[])?;
    images::build::copy(&all, copy.path())?;
    running::run(&steps, copy.path(), &args.steps, confinement).await?;
    Ok(Some(copy))
}

/// What the folder's Dockerfile says.
async fn by_buildah(workshop: &Workshop, args: &Args, file: &Path, outputs: &[Output]) -> Result<Summary> {
    // No spinner: buildah shows what it does.
    let built = buildah::run(args, file, &std::env::temp_dir()).await?;
    let progress = Progress::start(format!("reading what {} became", file.display()));
    let made = built.take(workshop).await.map_err(failed)?;
    let pushed = take_there(workshop, &made, args, outputs, &progress).await?;
    let what = format!("built by buildah from {}", file.display());
    let contract = args.contract;
    Ok(Summary { what, hints: Vec::new(), files: None, contract, run: Run::default(), made, pushed })
}

/// Writes and pushes it.
async fn take_there(
    workshop: &Workshop,
    made: &Made,
    args: &Args,
    outputs: &[Output],
    progress: &Progress,
) -> Result<Option<Pushed>> {
    write(workshop, made, args, outputs, progress).await?;
    push(workshop, made, args, progress).await
}

/// Where it goes; nowhere is an error before anything is made.
fn outputs(args: &Args) -> Result<Vec<Output>> {
    if args.output.is_empty() && !args.push {
        bail!(
            "say where the image goes: -o oci:FOLDER, -o docker-archive:FILE, or --push with -t REGISTRY/NAME"
        );
    }
    if let Some(tag) = &args.tag {
        match Reference::parse(tag)? {
            Reference::Registry(name) if name.digest.is_none() => {}
            _ => bail!("--tag {tag} is not of the form [REGISTRY/]NAME[:TAG]"),
        }
    }
    args.output.iter().map(|text| Output::parse(text)).collect()
}

impl Output {
    /// Paths may hold whatever a file's name does but a colon, which begins a name in the layout.
    fn parse(text: &str) -> Result<Self> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag.to_owned())),
            None => (rest, None),
        };
        let path = std::path::absolute(path);
        match (kind, path, tag) {
            ("oci" | "docker-archive", Err(_), _) => bail!("{text} names no path"),
            ("oci", _, Some(tag)) if tag.is_empty() => bail!("{text} names no tag behind its last colon"),
            ("oci", Ok(folder), tag) => Ok(Self::Layout { folder, tag }),
            ("docker-archive", Ok(file), None) => Ok(Self::Archive(file)),
            ("docker-archive", ..) => bail!("{text}: say the image's name with --tag"),
            _ => bail!("{text} is neither oci:FOLDER nor docker-archive:FILE; --push is for registries"),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Layout { folder, .. } => folder,
            Self::Archive(file) => file,
        }
    }
}

fn workshop(args: &Args) -> Result<Workshop> {
    let settings = WorkshopSettings {
        credentials: args.registry_auth.clone().or_else(credentials),
        certificates: args.registry_ca.clone(),
        plain_http: args.plain_registry.clone(),
        scratch: std::env::temp_dir(),
    };
    Ok(Workshop::new(settings)?)
}

/// Where other tools keep them.
fn credentials() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let docker = || folder("DOCKER_CONFIG").or_else(|| Some(folder("HOME")?.join(".docker")));
    let files = [folder("REGISTRY_AUTH_FILE"), docker().map(|docker| docker.join("config.json"))];
    files.into_iter().flatten().find(|file| file.is_file())
}

async fn base(workshop: &Workshop, args: &Args, progress: &Progress) -> Result<Option<Base>> {
    match args.base.as_deref() {
        None | Some("scratch") => Ok(None),
        Some(base) => {
            progress.step(format!("looking at {base}"));
            let base = deploy::image::absolute(base)?;
            let found = workshop.base(&base).await.map_err(failed)?;
            if !args.index_base {
                return Ok(Some(found));
            }
            progress.step("writing the base's layers anew".to_owned());
            Ok(Some(workshop.with_index(found).await.map_err(failed)?))
        }
    }
}

/// What the folder is, and how the image starts.
fn plan(args: &Args, root: &Path, base: Option<&Base>) -> Result<Plan> {
    let known = Known { family: None, handler: args.handler.clone(), contract: wanted_contract(args) };
    let found = match detect::detect(root, &known) {
        Ok(found) => Some(found),
        // What is said outright need not be found out.
        Err(_) if args.entrypoint.is_some() && root.is_dir() => None,
        Err(error) if root.exists() => bail!("{error:#}; or say what it starts with --entrypoint"),
        Err(error) => return Err(error),
    };
    let contract = known.contract.or(found.as_ref().map(|found| found.contract)).unwrap_or(Contract::Http);
    if contract == Contract::Wasi && args.entrypoint.is_some() {
        bail!("a component has no entry point: virga deploy takes it as it is");
    }
    let at = args.into.clone().unwrap_or_else(|| place_of(contract).to_owned());
    let port = args.port(contract);
    let place = Place { at: &at, port: port.unwrap_or(PORT), base };
    let start = match (&args.entrypoint, &found) {
        (Some(entrypoint), _) => Start { entrypoint: Some(entrypoint.clone()), command: args.cmd.clone() },
        (None, Some(found)) => {
            let start = start::of(found, &place)?;
            Start { command: args.cmd.clone().or(start.command), ..start }
        }
        (None, None) => bail!("{} has no entry point: say --entrypoint", args.path.display()),
    };
    let files = match &found {
        Some(found) => found.files.clone(),
        None => Files::Folder(root.to_owned()),
    };
    if base.is_none() {
        let program = start.entrypoint.iter().flatten().next().map_or("", String::as_str);
        start::check_alone(program, &at, &files)?;
    }
    let run = Run {
        env: args.env.clone(),
        entrypoint: start.entrypoint,
        command: start.command,
        folder: Some(at.clone()),
        user: args.user.clone(),
        ports: port.into_iter().collect(),
        labels: args.label.clone(),
    };
    Ok(Plan { files, found, contract, at, run })
}

/// A port is a web server's.
fn wanted_contract(args: &Args) -> Option<Contract> {
    args.contract.or(args.port.map(|_| Contract::Http))
}

/// Where code is: in Lambda's place for what follows its convention.
fn place_of(contract: Contract) -> &'static str {
    if contract == Contract::Lambda { "/var/task" } else { "/app" }
}

/// The files of each layer, packages below the code.
fn layers(plan: &Plan, outputs: &[Output]) -> Result<Vec<Vec<Item>>> {
    let root = match &plan.files {
        Files::Folder(root) => root,
        Files::One { path, name, executable } => {
            return Ok(vec![images::build::single(path, name, *executable)?]);
        }
        Files::Ready(path) => bail!("{} is a package already: unpack it first", path.display()),
    };
    let items = listed(root, outputs, &Ignore::read(root)?, &ABOUT_BUILDING)?;
    if items.is_empty() {
        bail!("{} holds no files that would go into an image", root.display());
    }
    let is_package = |item: &Item| PACKAGES.iter().any(|name| item.top() == name.as_bytes());
    let (packages, code): (Vec<Item>, Vec<Item>) = items.into_iter().partition(is_package);
    Ok([packages, code].into_iter().filter(|layer| !layer.is_empty()).collect())
}

/// What is in a folder, without what no image has, what is `ignored`, what is at its top and `left`, and what is written
/// there.
fn listed(root: &Path, outputs: &[Output], ignored: &Ignore, left: &[&[u8]]) -> Result<Vec<Item>> {
    let root = root.canonicalize().with_context(|| format!("cannot read {}", root.display()))?;
    let written: Vec<PathBuf> = outputs.iter().filter_map(|output| real(output.path())).collect();
    let choose = |path: &[u8], from: &Path| {
        if package::is_left_out(from) || left.contains(&path) || written.iter().any(|written| written == from)
        {
            Choice::Leave
        } else if !ignored.leaves_out(path) {
            Choice::Keep
        } else if ignored.brings_back() {
            Choice::LookInside
        } else {
            Choice::Leave
        }
    };
    Ok(images::build::list(&root, &choose)?)
}

/// A path as the listing shows it, whether or not something is there yet.
fn real(path: &Path) -> Option<PathBuf> {
    Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?))
}

async fn write(
    workshop: &Workshop,
    made: &Made,
    args: &Args,
    outputs: &[Output],
    progress: &Progress,
) -> Result<()> {
    for output in outputs {
        progress.step(format!("writing {}", output.path().display()));
        match output {
            Output::Layout { folder, tag } => {
                let tag = layout_tag(tag.as_deref(), args.tag.as_deref());
                workshop.write_layout(made, folder, &tag).await.map_err(failed)?;
            }
            Output::Archive(file) => {
                let tags: Vec<String> = args.tag.iter().map(|tag| tagged(tag)).collect();
                workshop.write_archive(made, file, &tags).await.map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// The name in a layout: what the output says, the image's tag, or `latest`.
fn layout_tag(said: Option<&str>, tag: Option<&str>) -> String {
    let of_image =
        tag.and_then(|tag| tag.rsplit_once(':')).map(|(_, tag)| tag).filter(|tag| !tag.contains('/'));
    said.or(of_image).unwrap_or("latest").to_owned()
}

/// A name with its tag.
fn tagged(name: &str) -> String {
    let has_tag = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if has_tag { name.to_owned() } else { format!("{name}:latest") }
}

async fn push(workshop: &Workshop, made: &Made, args: &Args, progress: &Progress) -> Result<Option<Pushed>> {
    match &args.tag {
        Some(tag) if args.push => {
            progress.step(format!("pushing {tag}"));
            Ok(Some(workshop.push(made, tag).await.map_err(failed)?))
        }
        _ => Ok(None),
    }
}

/// The reference that the server fetches the image by.
fn deployed(args: &Args, outputs: &[Output]) -> Result<String> {
    match (&args.tag, outputs.first()) {
        (Some(tag), _) if args.push => Ok(tag.clone()),
        (_, Some(Output::Layout { folder, tag })) => {
            let tag = layout_tag(tag.as_deref(), args.tag.as_deref());
            Ok(format!("oci:{}:{tag}", folder.display()))
        }
        (_, Some(Output::Archive(file))) => Ok(format!("docker-archive:{}", file.display())),
        _ => bail!("there is nothing to deploy from"),
    }
}

/// What a registry did not give or take is not this side's to mend.
fn failed(error: images::Error) -> anyhow::Error {
    match error {
        images::Error::Denied(_) | images::Error::Unreachable(_) => {
            Failure::Unreachable(error.to_string()).into()
        }
        images::Error::Full(doing) => anyhow!("no room is left on the disk while {doing}"),
        error => error.into(),
    }
}

/// A JSON list, or words with blanks between them; nothing is a quotation mark.
fn parse_words(text: &str) -> Result<Words> {
    let words: Words = if text.trim_start().starts_with('[') {
        serde_json::from_str(text).with_context(|| format!("{text} is not a JSON list of strings"))?
    } else {
        text.split_whitespace().map(str::to_owned).collect()
    };
    if words.first().is_none_or(String::is_empty) { bail!("it names no program") } else { Ok(words) }
}

fn parse_place(text: &str) -> Result<String> {
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if !text.starts_with('/') || parts.is_empty() || parts.contains(&"..") {
        bail!("{text} is not an absolute path of a folder, as in /app");
    }
    Ok(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_words_or_json() {
        let words = |text: &str| parse_words(text).ok();
        let expect = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Words>());
        assert_eq!(words("node  server.js"), expect(&["node", "server.js"]));
        assert_eq!(words(r#"["sh", "-c", "a b"]"#), expect(&["sh", "-c", "a b"]));
        for bad in ["", " ", "[", "[1]", "[]", r#"[""]"#] {
            assert!(words(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn places_and_outputs() {
        assert_eq!(parse_place("/srv//x/").ok().as_deref(), Some("/srv/x"));
        for bad in ["", "/", "app", "/a/../b"] {
            assert!(parse_place(bad).is_err(), "{bad}");
        }
        let layout = Output::parse("oci:/x:v1").unwrap();
        assert_eq!(layout, Output::Layout { folder: "/x".into(), tag: Some("v1".to_owned()) });
        assert_eq!(Output::parse("docker-archive:/x.tar").unwrap(), Output::Archive("/x.tar".into()));
        for bad in ["x", "registry/x", "docker-archive:/x.tar:a:b", "oci:", "oci:/x:"] {
            assert!(Output::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_in_layouts_and_archives() {
        assert_eq!(layout_tag(None, Some("127.0.0.1:5000/a/b")), "latest");
        assert_eq!(layout_tag(None, Some("127.0.0.1:5000/a/b:v2")), "v2");
        assert_eq!(layout_tag(Some("mine"), Some("a:v2")), "mine");
        assert_eq!((tagged("r:5000/a").as_str(), tagged("r/a:v1").as_str()), ("r:5000/a:latest", "r/a:v1"));
    }
}
