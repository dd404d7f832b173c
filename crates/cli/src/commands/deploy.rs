//! `virga deploy PATH…`: look, pack, create or update, wait, give it a URL.
//!
//! What did not change is not sent: the package's digest and every setting are compared with what the
//! server has. On an update only what a flag says changes; everything else stays as it is. `change` brings an
//! existing function to what is asked for, `image` deploys container images, `concurrency` sets what is reserved and kept ready.

mod change;
mod concurrency;
pub(super) mod image;
mod release;
pub(crate) mod role;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use http::Method;
use serde_json::{Value, json};

use super::show::{self, Urls};
use super::{function_path, layer, text};
use crate::client::Client;
use crate::dependencies;
use crate::detect::{self, Contract, Detected, Family, Known};
use crate::failure::{Failure, is_not_found};
use crate::output::{self, Progress};
use crate::package::Package;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file or a folder; several deploy one function each
    #[arg(required_unless_present = "image", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// A container image that the server fetches: [REGISTRY/]NAME[:TAG|@DIGEST], oci:FOLDER[:TAG], docker-archive:FILE
    #[arg(long, value_name = "REF", conflicts_with = "paths")]
    image: Option<String>,
    /// The function's name (default: the file's or folder's)
    #[arg(long)]
    name: Option<String>,
    /// An environment variable; may be repeated. Others that the function has stay
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    env: Vec<(String, String)>,
    /// Memory in MB; below 128 it becomes the tag virga:memory
    #[arg(long, value_name = "MB")]
    memory: Option<u32>,
    /// Processor time in cores, as in 0.25; without it there is no limit
    #[arg(long, value_name = "CORES", value_parser = parse_cores)]
    cpu: Option<u32>,
    /// Calls at once per instance: what scaling aims at and what is never exceeded, as in 8/10; one number is both
    #[arg(long, value_name = "SOFT/HARD", value_parser = parse_concurrency)]
    concurrency: Option<(u32, u32)>,
    /// Calls at once that the function has for itself, and no more than those; none takes that back
    #[arg(long, value_name = "CALLS|none", value_parser = parse_reserved)]
    reserved: Option<Reserved>,
    /// Publish a version and keep so many instances of it ready, and of no other version
    #[arg(long, value_name = "INSTANCES")]
    provisioned: Option<u32>,
    /// Seconds after which a call is given up
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    /// What stands between the code and the host
    #[arg(long, value_name = "KIND", value_parser = ["process", "wasm", "microvm"])]
    isolation: Option<String>,
    /// What runs it: python3.11, nodejs20.x, php8.2, ruby3.1, java17, provided.al2023, wasm (default: found out)
    #[arg(long)]
    runtime: Option<String>,
    /// Where it starts: module.function, or a web server's file (default: found out)
    #[arg(long)]
    handler: Option<String>,
    /// How it is called (default: found out)
    #[arg(long, value_enum)]
    contract: Option<Contract>,
    /// A tag, virga: ones included; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    tag: Vec<(String, String)>,
    /// A layer: a version's ARN, or a folder or zip that is published if it changed; may be repeated, later ones lie on
    /// top. They replace those that the function has; none takes them away
    #[arg(long, value_name = "ARN|FOLDER", conflicts_with = "image")]
    layer: Vec<String>,
    /// The role that the function acts in; a new one gets the account's own for functions
    #[arg(long, value_name = "ARN", value_parser = role::parse)]
    role: Option<String>,
    /// Do not make a public URL
    #[arg(long)]
    no_url: bool,
    #[command(flatten)]
    release: release::Args,
    #[command(flatten)]
    dependencies: dependencies::Args,
}

/// How long a deployment may take to become active.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is asked for, found out and said.
struct Plan {
    name: String,
    detected: Detected,
    package: Package,
    /// ARNs, where flags say them.
    layers: Option<Vec<String>>,
}

/// What was done about a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Created,
    Updated,
    Unchanged,
}

/// Deploys each path.
pub(crate) async fn run(client: &Client, args: &Args, as_json: bool) -> Result<()> {
    if args.paths.len() > 1 && args.name.is_some() {
        bail!("--name is for one function; {} paths were given", args.paths.len());
    }
    if let Some(image) = &args.image {
        return image::run(client, image, args, as_json).await;
    }
    for path in &args.paths {
        let progress = Progress::start(format!("deploying {}", path.display()));
        let plan = plan(client, path, args, &progress).await?;
        progress.step(format!("deploying {}", plan.name));
        let (action, configuration) = deploy(client, &plan, args, &progress).await?;
        let kept = concurrency::set(client, &plan.name, args, &progress).await?;
        let released = release::release(client, &plan.name, &args.release, &progress).await?;
        let urls =
            if args.no_url { None } else { Some(url(client, &plan.name, args.release.alias()).await?) };
        drop(progress);
        let done = Done { action, configuration, urls, kept, released };
        report(path, &plan, &done, as_json)?;
    }
    Ok(())
}

async fn plan(client: &Client, path: &Path, args: &Args, progress: &Progress) -> Result<Plan> {
    let family = match &args.runtime {
        Some(runtime) => Some(Family::of_runtime(runtime).with_context(|| unknown_runtime(runtime))?),
        None => None,
    };
    let known = Known { family, handler: args.handler.clone(), contract: args.contract };
    let mut detected = detect::detect(path, &known)?;
    let name = args.name.clone().map_or_else(|| detect::name_of(path), Ok)?;
    let package = if args.dependencies.wanted() {
        // What they warn of is what is done now.
        detected.hints.clear();
        let now = existing(client, &name).await?.unwrap_or_default();
        let now = text(&now["Configuration"], "Runtime");
        let runtime = runtime(detected.family, args, Some(now)).await?;
        let of = (detected.family, runtime.as_str());
        let resolved = dependencies::resolve(client, path, of, &args.dependencies, progress).await?;
        Package::with(&detected.files, Some(&resolved))?
    } else {
        // What is missing or too much may be why.
        let hints = detected.hints.iter().map(|hint| format!("; {hint}")).collect::<String>();
        Package::build(&detected.files).map_err(|error| anyhow!("{error:#}{hints}"))?
    };
    let layers = layers(client, &args.layer).await?;
    Ok(Plan { name, detected, package, layers })
}

/// What flags say of layers.
async fn layers(client: &Client, given: &[String]) -> Result<Option<Vec<String>>> {
    if given.is_empty() {
        return Ok(None);
    }
    let mut arns = Vec::new();
    for layer in given.iter().filter(|layer| *layer != "none") {
        arns.push(layer::arn_of(client, layer).await?);
    }
    if arns.len() < given.len() && given.len() > 1 {
        bail!("--layer none takes all layers away: it is not for use with others");
    }
    Ok(Some(arns))
}

fn unknown_runtime(runtime: &str) -> String {
    format!(
        "{runtime} is not a runtime: python3.MINOR, nodejsMAJOR.x, phpMAJOR.MINOR, rubyMAJOR.MINOR, javaMAJOR, \
         provided.al2023 and wasm are"
    )
}

/// What the server has of this name.
async fn existing(client: &Client, name: &str) -> Result<Option<Value>> {
    match client.lambda(Method::GET, &function_path(name, ""), None).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn deploy(client: &Client, plan: &Plan, args: &Args, progress: &Progress) -> Result<(Action, Value)> {
    let action = match existing(client, &plan.name).await? {
        None => {
            progress.step(format!("uploading {}", plan.name));
            let mut body = creation(plan, args).await?;
            body["Role"] = json!(role::of(client, args.role.as_deref()).await?);
            client.lambda(Method::POST, "/2015-03-31/functions", Some(&body)).await?;
            Action::Created
        }
        Some(existing) => change::update(client, plan, args, &existing, progress).await?,
    };
    progress.step(format!("waiting for {} to be ready", plan.name));
    Ok((action, wait(client, &plan.name).await?))
}

/// CreateFunction's body.
async fn creation(plan: &Plan, args: &Args) -> Result<Value> {
    let mut body = json!({
        "FunctionName": plan.name,
        "Runtime": runtime(plan.detected.family, args, None).await?,
        "Handler": plan.detected.handler,
        "Code": { "ZipFile": base64(&plan.package.zip) },
    });
    if let Some(layers) = &plan.layers {
        body["Layers"] = json!(layers);
    }
    add_given(&mut body, &tags(plan, args), args);
    Ok(body)
}

/// What flags say of a function that is to be created, whatever its code is.
fn add_given(body: &mut Value, tags: &BTreeMap<String, String>, args: &Args) {
    if !tags.is_empty() {
        body["Tags"] = json!(tags);
    }
    if let Some(memory) = args.memory {
        body["MemorySize"] = json!(memory.max(128));
    }
    if let Some(timeout) = args.timeout {
        body["Timeout"] = json!(timeout);
    }
    if !args.env.is_empty() {
        body["Environment"] = json!({ "Variables": args.env.iter().cloned().collect::<BTreeMap<_, _>>() });
    }
}

/// Tags that a new function gets. What is the default for its runtime is not said.
fn tags(plan: &Plan, args: &Args) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    if plan.detected.contract != default_contract(plan.detected.family) {
        tags.insert("virga:contract".to_owned(), plan.detected.contract.as_str().to_owned());
    }
    tags.extend(given_tags(args));
    tags
}

/// Tags that flags ask for.
fn given_tags(args: &Args) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    if let Some(isolation) = &args.isolation {
        tags.insert("virga:isolation".to_owned(), isolation.clone());
    }
    if let Some(memory) = args.memory.filter(|memory| *memory < 128) {
        tags.insert("virga:memory".to_owned(), memory.to_string());
    }
    if let Some(hundredths) = args.cpu {
        tags.insert("virga:cpu".to_owned(), hundredths.to_string());
    }
    if let Some((soft, hard)) = args.concurrency {
        tags.insert("virga:soft-concurrency".to_owned(), soft.to_string());
        tags.insert("virga:hard-concurrency".to_owned(), hard.to_string());
    }
    tags.extend(args.tag.iter().cloned());
    tags
}

fn default_contract(family: Family) -> Contract {
    match family {
        Family::Wasm => Contract::Wasi,
        Family::Static => Contract::Http,
        _ => Contract::Lambda,
    }
}

/// The runtime's full name: what was said, what the function has already, the newest found here.
async fn runtime(family: Family, args: &Args, now: Option<&str>) -> Result<String> {
    if let Some(runtime) = &args.runtime {
        return Ok(runtime.clone());
    }
    if let Some(now) = now.filter(|now| Family::of_runtime(now) == Some(family)) {
        return Ok(now.to_owned());
    }
    let (prefix, what, example) = match family {
        Family::Wasm => return Ok("wasm".to_owned()),
        Family::Static => return Ok("static".to_owned()),
        Family::Provided => return Ok("provided.al2023".to_owned()),
        Family::Python => ("python", "Python 3", "python3.11"),
        Family::Node => ("nodejs", "Node", "nodejs20.x"),
        Family::Php => ("php", "PHP", "php8.2"),
        Family::Ruby => ("ruby", "Ruby", "ruby3.1"),
        Family::Java => ("java", "Java", "java17"),
    };
    let newest = server::host::runtimes().await.into_iter().rfind(|name| name.starts_with(prefix));
    newest.ok_or_else(|| anyhow!(no_interpreter(what, example)))
}

fn no_interpreter(what: &str, example: &str) -> String {
    format!(
        "no {what} was found on this machine: install it, or name the server's with --runtime, as in {example}"
    )
}

/// Waits until no change is under way, whatever came of it: the next change may mend it.
async fn settle(client: &Client, name: &str) -> Result<Value> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(10);
    loop {
        let now = client.lambda(Method::GET, &function_path(name, "/configuration"), None).await?;
        if text(&now, "State") != "Pending" && text(&now, "LastUpdateStatus") != "InProgress" {
            return Ok(now);
        }
        if started.elapsed() > PATIENCE {
            return Err(
                Failure::Function(format!("{name} is not ready after {} s", PATIENCE.as_secs())).into()
            );
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

/// Waits until the function is active and its last update successful; says why if it will not be.
pub(crate) async fn wait(client: &Client, name: &str) -> Result<Value> {
    let now = settle(client, name).await?;
    let reason = match (text(&now, "State"), text(&now, "LastUpdateStatus")) {
        ("Failed", _) => text(&now, "StateReason"),
        (_, "Failed") => text(&now, "LastUpdateStatusReason"),
        _ => return Ok(now),
    };
    Err(Failure::Function(format!("{name} was not deployed: {reason}")).into())
}

/// The URLs of the function, or of an alias of it; makes the URL configuration if there is none, and leaves one that exists as it is.
async fn url(client: &Client, name: &str, alias: Option<&str>) -> Result<Urls> {
    if let Some(urls) = show::urls(client, name, alias).await? {
        return Ok(urls);
    }
    let path = show::url_path(name, alias);
    let answer = client.lambda(Method::POST, &path, Some(&json!({ "AuthType": "NONE" }))).await?;
    Ok(Urls::new(&answer))
}

/// What came of a deployment.
struct Done {
    action: Action,
    configuration: Value,
    urls: Option<Urls>,
    kept: Option<concurrency::Kept>,
    released: Option<release::Released>,
}

fn report(path: &Path, plan: &Plan, done: &Done, as_json: bool) -> Result<()> {
    let Done { action, configuration, urls, kept, released } = done;
    for hint in &plan.detected.hints {
        eprintln!("warning: {hint}");
    }
    if as_json {
        return output::line(
            json!({
                "FunctionName": plan.name,
                "FunctionArn": configuration["FunctionArn"],
                "Runtime": configuration["Runtime"],
                "Handler": configuration["Handler"],
                "Contract": plan.detected.contract.as_str(),
                "CodeSha256": configuration["CodeSha256"],
                "Action": format!("{action:?}"),
                "FunctionUrl": urls.as_ref().map(|urls| urls.host.clone()),
                "PathUrl": urls.as_ref().and_then(|urls| urls.path.clone()),
                "ProvisionedVersion": kept.as_ref().map(|kept| kept.version.clone()),
                "Version": released.as_ref().map(|released| released.version.clone()),
                "Alias": released.as_ref().and_then(|released| released.alias.clone()),
            })
            .to_string(),
        );
    }
    let (what, runtime) = (plan.detected.describe(), text(configuration, "Runtime"));
    let size = plan.package.zip.len().div_ceil(1024);
    let count = plan.package.count.map_or_else(String::new, |count| match count {
        1 => ", 1 file".to_owned(),
        _ => format!(", {count} files"),
    });
    output::line(format!("{}: {what}{count}, {size} KB", path.display()))?;
    outcome(&plan.name, runtime, *action, (kept.as_ref(), released.as_ref()), urls.as_ref())
}

/// What came of it, for people.
fn outcome(
    name: &str,
    runtime: &str,
    action: Action,
    (kept, released): (Option<&concurrency::Kept>, Option<&release::Released>),
    urls: Option<&Urls>,
) -> Result<()> {
    let done = match action {
        Action::Created => "created",
        Action::Updated => "updated",
        Action::Unchanged => "unchanged",
    };
    output::line(format!("{} {} ({runtime})", output::colour(32, done), name))?;
    if let Some(release::Released { version, alias }) = released {
        let led = alias.as_ref().map(|alias| format!(", which {name}:{alias} leads to")).unwrap_or_default();
        output::line(format!("  published {name}:{version}{led}"))?;
    }
    if let Some(kept) = kept {
        output::line(format!("  {}:{} has {} ready", name, kept.version, kept.instances))?;
    }
    if let Some(urls) = urls {
        output::line(format!("  {}", urls.host))?;
        if let Some(path) = &urls.path {
            output::line(format!("  {path}"))?;
        }
    }
    Ok(())
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Cores with two decimals at most, as hundredths.
fn parse_cores(text: &str) -> Result<u32> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 2 || whole.len() + decimals.len() == 0 {
        bail!("{text} is not a number of cores with two decimals at most, as in 0.25");
    }
    let hundredths: u32 = format!("{whole}{decimals:0<2}").parse()?;
    if hundredths == 0 { bail!("a function needs at least 0.01 of a core") } else { Ok(hundredths) }
}

fn parse_concurrency(text: &str) -> Result<(u32, u32)> {
    let (soft, hard) = text.split_once('/').unwrap_or((text, text));
    let number = |text: &str| text.parse().with_context(|| format!("{text} is not a number of calls"));
    Ok((number(soft)?, number(hard)?))
}

/// `--reserved`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reserved {
    Calls(u32),
    Nothing,
}

fn parse_reserved(text: &str) -> Result<Reserved> {
    if text == "none" {
        return Ok(Reserved::Nothing);
    }
    text.parse().map(Reserved::Calls).with_context(|| format!("{text} is neither a number of calls nor none"))
}

pub(crate) fn parse_pair(text: &str) -> Result<(String, String)> {
    let (key, value) = text.split_once('=').ok_or_else(|| anyhow!("{text} is not of the form KEY=VALUE"))?;
    if key.is_empty() {
        bail!("{text} has no name before the =");
    }
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::package::Files;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    pub(super) fn args(line: &str) -> Args {
        Line::parse_from(std::iter::once("deploy").chain(line.split_whitespace())).args
    }

    pub(super) fn plan(family: Family, contract: Contract) -> Plan {
        let detected = Detected {
            family,
            handler: "app.handler".to_owned(),
            contract,
            files: Files::Folder(PathBuf::new()),
            hints: Vec::new(),
        };
        let package = Package { zip: b"zip".to_vec(), count: Some(1) };
        Plan { name: "app".to_owned(), detected, package, layers: None }
    }

    #[tokio::test]
    async fn creation_says_what_is_not_the_default() {
        let args = args("x --env A=1 --env B=x=y --memory 64 --timeout 5 --runtime python3.11");
        let body = creation(&plan(Family::Python, Contract::Http), &args).await.unwrap();
        assert_eq!(body["MemorySize"], 128);
        assert_eq!(body["Timeout"], 5);
        assert_eq!(body["Environment"]["Variables"], json!({ "A": "1", "B": "x=y" }));
        assert_eq!(body["Tags"], json!({ "virga:contract": "http", "virga:memory": "64" }));
        assert_eq!(body["Code"]["ZipFile"], "emlw");
        let plain = creation(&plan(Family::Wasm, Contract::Wasi), &self::args("x")).await.unwrap();
        assert!(plain.get("Tags").is_none() && plain.get("MemorySize").is_none());
        assert_eq!(plain["Runtime"], "wasm");
    }

    #[test]
    fn pairs() {
        assert_eq!(parse_pair("A=b=c").unwrap(), ("A".to_owned(), "b=c".to_owned()));
        assert!(parse_pair("A").is_err() && parse_pair("=x").is_err());
    }

    #[test]
    fn processor_time_is_in_cores() {
        for (text, hundredths) in [("1", 100), ("0.25", 25), (".5", 50), ("2.", 200), ("0.01", 1)] {
            assert_eq!(parse_cores(text).ok(), Some(hundredths), "{text}");
        }
        for bad in ["", ".", "0", "0.001", "-1", "1,5", "half", "99999999999"] {
            assert!(parse_cores(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn concurrency_is_one_number_or_two() {
        assert_eq!(parse_concurrency("8/10").ok(), Some((8, 10)));
        assert_eq!(parse_concurrency("5").ok(), Some((5, 5)));
        assert!(parse_concurrency("8/").is_err() && parse_concurrency("x").is_err());
        assert_eq!(parse_reserved("0").ok(), Some(Reserved::Calls(0)));
        assert_eq!(parse_reserved("none").ok(), Some(Reserved::Nothing));
        assert!(parse_reserved("all").is_err());
    }
}
