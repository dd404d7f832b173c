//! `virga serve`: flags become the server's configuration.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base::AccountId;
use clap::ValueEnum;
use server::{
    Config, Domains, Egress, FirstStart, ImageParts, Images, LogFormat, MissingLimits, MissingRoles,
    PackageStore, Separation,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where functions and AWS-style APIs are answered
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9080", value_parser = parse_address)]
    listen: SocketAddr,
    /// Where /metrics, /healthz and /readyz are answered
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9081", value_parser = parse_address)]
    admin: SocketAddr,
    /// Instances of all functions together
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    max_instances: u32,
    /// Memory limits of all instances together, MB (default: three quarters of the host's memory)
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u64).range(16..=1 << 30))]
    max_memory_mb: Option<u64>,
    /// Calls of one function that may wait for an instance; more are answered 429
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    max_queue: u32,
    /// Seconds that a call may wait for an instance
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    queue_timeout_s: u32,
    /// Seconds that initialisation may take
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    init_timeout_s: u32,
    /// Seconds that an idle instance is kept at most, where the function does not say; how it was called may say less
    #[arg(long, value_name = "SECONDS", default_value_t = 500)]
    idle_timeout_s: u32,
    /// KB a second that one instance may print in the long run; one that prints more is made to wait
    #[arg(long, value_name = "KB", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    max_log_kb_s: u32,
    /// Calls in flight of all functions of an account, those that wait included; more are answered 429
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(100..))]
    account_concurrency: u32,
    /// MB of packages that the functions of an account may have, every version's counted
    #[arg(long, value_name = "MB", default_value_t = 76_800, value_parser = clap::value_parser!(u32).range(1..))]
    account_code_mb: u32,
    /// Seconds over which calls in flight decide how many instances there should be
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    stable_window_s: u32,
    /// Seconds over which a burst is seen; at most the stable window
    #[arg(long, value_name = "SECONDS", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=3600))]
    panic_window_s: u32,
    /// Calls of all functions that may wait for an instance
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    max_waiting: u32,
    /// Memory that the events of these may take, MB
    #[arg(long, value_name = "MB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(8..))]
    max_waiting_mb: u32,
    /// Events of asynchronous invokes that run or wait for an instance at once
    #[arg(long, value_name = "COUNT", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    async_at_once: u32,
    /// Those of one function
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    async_per_function: u32,
    /// Seconds after which an event is tried again whose function failed; later tries wait twice that
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(..=3600))]
    async_retry_s: u32,
    /// Hours that failed events are kept which have no other destination
    #[arg(long, value_name = "HOURS", default_value_t = 336, value_parser = clap::value_parser!(u32).range(1..=87_600))]
    keep_failed_h: u32,
    /// Seconds that calls under way get to end when the server is told to stop
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    drain_s: u32,
    /// Sandboxes kept ready for functions that are started from zero, less than 1 MB each (0: none)
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u32).range(..=256))]
    pool_sandboxes: u32,
    /// Booted instances kept of each Node version that functions used within ten minutes (0: none)
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=64))]
    pool_runtimes: u32,
    /// MiB of memory for templates, images of initialised Python processes that instances begin as (0: none)
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    template_mb: u32,
    /// Whether WebAssembly functions run in a confined process for each account, instead of the server's own
    #[arg(long, value_enum, default_value_t = WasmWorkers::Auto)]
    wasm_workers: WasmWorkers,
    /// What to do where the host cannot enforce a limit (`virga doctor` lists them)
    #[arg(long, value_enum, default_value_t = Missing::Degrade)]
    missing_limits: Missing,
    /// Whether functions may be given roles that are not there; what has one may do nothing itself
    #[arg(long, value_enum, default_value_t = Roles::Allow)]
    missing_roles: Roles,
    /// What functions may connect to that do not say: none, public, open, or a list as in virga:egress
    #[arg(long, value_name = "EGRESS", default_value = "public", value_parser = parse_egress)]
    egress: Egress,
    /// The same for one account's functions; may be given several times
    #[arg(long, value_name = "ACCOUNT=EGRESS", value_parser = parse_egress_of)]
    egress_of: Vec<(AccountId, Egress)>,
    /// The most that a function may ask for with virga:egress; networks that are not public need to be listed
    #[arg(long, value_name = "EGRESS", default_value = "public", value_parser = parse_egress)]
    max_egress: Egress,
    /// A domain that functions of all accounts may have host names in (virga:domain): that name, and those below it; may
    /// be repeated
    #[arg(long = "domains", value_name = "DOMAIN", value_parser = parse_domain)]
    domains: Vec<String>,
    /// The same for one account's functions; may be repeated
    #[arg(long, value_name = "ACCOUNT=DOMAIN", value_parser = parse_domain_of)]
    domains_of: Vec<(AccountId, String)>,
    /// Where names are looked up for functions; may be given several times (default: the host's resolvers)
    #[arg(long = "resolver", value_name = "HOST:PORT", value_parser = parse_address)]
    resolvers: Vec<SocketAddr>,
    /// Certificates (PEM) that vouch for servers that WebAssembly functions speak https to, besides the host's own
    #[arg(long, value_name = "FILE")]
    egress_ca: Option<PathBuf>,
    /// A file like Docker's config.json with credentials of registries; read anew at each pull
    #[arg(long, value_name = "FILE")]
    registry_auth: Option<PathBuf>,
    /// Certificates (PEM) that vouch for registries, besides the host's own
    #[arg(long, value_name = "FILE")]
    registry_ca: Option<PathBuf>,
    /// A registry that is spoken to without TLS; may be given several times (those on loopback need not be)
    #[arg(long = "plain-registry", value_name = "HOST[:PORT]")]
    plain_registries: Vec<String>,
    /// A folder of this machine that images may be deployed from by path (oci:, docker-archive:); may be repeated
    #[arg(long, value_name = "FOLDER")]
    local_images: Vec<PathBuf>,
    /// When functions start of images that `virga build` (or another tool that writes eStargz) has made
    #[arg(long, value_enum, default_value_t = Parts::Background)]
    image_parts: Parts,
    /// GiB that container images may take, unpacked and all together; one for which there is no room is refused
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    images_gb: u32,
    /// A folder that functions may share by FileSystemConfigs: the name or ARN of its access point; may be repeated
    #[arg(long = "file-system", value_name = "NAME=FOLDER", value_parser = parse_folder)]
    file_systems: Vec<(String, PathBuf)>,
    /// An S3-compatible store, http[s]://HOST[:PORT], that packages given as S3Bucket and S3Key are read from
    #[arg(long, value_name = "URL", requires = "package_store_credentials")]
    package_store: Option<String>,
    /// The region that its signatures name
    #[arg(long, value_name = "NAME", default_value = "us-east-1", requires = "package_store")]
    package_store_region: String,
    /// A file like AWS's shared credentials, with the keys in its section [default]; read anew at each package
    #[arg(long, value_name = "FILE", requires = "package_store")]
    package_store_credentials: Option<PathBuf>,
    /// Certificates (PEM) that vouch for it, besides the host's own
    #[arg(long, value_name = "FILE", requires = "package_store")]
    package_store_ca: Option<PathBuf>,
    /// Whether its buckets are parts of the host's name (BUCKET.HOST) rather than of the path
    #[arg(long, requires = "package_store")]
    package_store_virtual_hosts: bool,
    /// How the server's own log is written to standard error (what is in it: VIRGA_LOG, as in info,functions=debug)
    #[arg(long, value_enum, default_value_t = Format::Text)]
    log_format: Format,
}

/// `--image-parts`
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Parts {
    /// Before all of it is there; the rest is fetched in the background
    Background,
    /// Before all of it is there; only what is used is fetched
    Used,
    /// When all of it is there
    Off,
}

/// Whether functions may have roles that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Roles {
    /// They may
    Allow,
    /// They are refused, as with AWS
    Refuse,
}

/// `--missing-limits`
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Missing {
    /// Run without that limit and say so
    Degrade,
    /// Do not run processes at all
    Refuse,
}

/// `--wasm-workers`
#[derive(Debug, Clone, Copy, ValueEnum)]
enum WasmWorkers {
    /// From the second account on
    Auto,
    /// Always
    Always,
    /// Never: an escape from the runtime would reach the server and every account
    Never,
}

/// `--log-format`
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One object a line
    Json,
}

/// Serves until told to stop.
pub(crate) fn run(args: &Args, data: &Path) -> Result<()> {
    server::serve(config(args, data)?)
}

fn config(args: &Args, data: &Path) -> Result<Config> {
    if args.panic_window_s > args.stable_window_s {
        bail!("--panic-window-s is above --stable-window-s: a burst is seen over a shorter time");
    }
    let env = |name: &str| match std::env::var(name) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(error) => Err(error).context(name.to_owned()),
    };
    if let Err(beyond) = args.max_egress.permits(&args.egress) {
        bail!("--egress {} is more than --max-egress allows ({beyond})", args.egress);
    }
    let egress_of = egress_of(args)?;
    Ok(Config {
        data_dir: PathBuf::from(data),
        listen: args.listen,
        admin: args.admin,
        first_start: FirstStart {
            access_key_id: env("VIRGA_ACCESS_KEY_ID")?,
            secret_access_key: env("VIRGA_SECRET_ACCESS_KEY")?,
            account_id: env("VIRGA_ACCOUNT_ID")?,
            region: env("VIRGA_REGION")?,
        },
        max_instances: args.max_instances,
        max_memory_mb: args.max_memory_mb,
        max_queue: args.max_queue,
        queue_timeout_s: args.queue_timeout_s,
        init_timeout_s: args.init_timeout_s,
        idle_timeout_s: args.idle_timeout_s,
        max_log_kb_s: args.max_log_kb_s,
        account_concurrency: args.account_concurrency,
        account_code_mb: args.account_code_mb,
        stable_window_s: args.stable_window_s,
        panic_window_s: args.panic_window_s,
        max_waiting: args.max_waiting,
        max_waiting_mb: args.max_waiting_mb,
        async_at_once: args.async_at_once,
        async_per_function: args.async_per_function,
        async_retry_s: args.async_retry_s,
        keep_failed_h: args.keep_failed_h,
        drain_s: args.drain_s,
        pool_sandboxes: args.pool_sandboxes,
        pool_runtimes: args.pool_runtimes,
        template_mb: args.template_mb,
        wasm_workers: match args.wasm_workers {
            WasmWorkers::Auto => Separation::Auto,
            WasmWorkers::Always => Separation::Always,
            WasmWorkers::Never => Separation::Never,
        },
        missing_limits: match args.missing_limits {
            Missing::Degrade => MissingLimits::Degrade,
            Missing::Refuse => MissingLimits::Refuse,
        },
        missing_roles: match args.missing_roles {
            Roles::Allow => MissingRoles::Allow,
            Roles::Refuse => MissingRoles::Refuse,
        },
        egress: args.egress.clone(),
        egress_of,
        max_egress: args.max_egress.clone(),
        domains: domains(args)?,
        resolvers: args.resolvers.clone(),
        egress_certificates: args.egress_ca.clone(),
        images: Images {
            plain_registries: args.plain_registries.clone(),
            credentials: args.registry_auth.clone(),
            certificates: args.registry_ca.clone(),
            local: args.local_images.clone(),
            parts: match args.image_parts {
                Parts::Background => ImageParts::Background,
                Parts::Used => ImageParts::Used,
                Parts::Off => ImageParts::Off,
            },
            most_gb: args.images_gb,
        },
        file_systems: args.file_systems.clone(),
        package_store: package_store(args),
        log_format: match args.log_format {
            Format::Text => LogFormat::Text,
            Format::Json => LogFormat::Json,
        },
        log_filter: env("VIRGA_LOG")?,
    })
}

/// clap sees to it that one comes with the other.
fn package_store(args: &Args) -> Option<PackageStore> {
    let (url, credentials) = args.package_store.clone().zip(args.package_store_credentials.clone())?;
    Some(PackageStore {
        url,
        region: args.package_store_region.clone(),
        credentials,
        certificates: args.package_store_ca.clone(),
        virtual_hosts: args.package_store_virtual_hosts,
    })
}

/// `NAME=FOLDER`
fn parse_folder(text: &str) -> Result<(String, PathBuf)> {
    let (name, folder) = super::deploy::parse_pair(text)?;
    if folder.is_empty() {
        bail!("{text} names no folder");
    }
    Ok((name, folder.into()))
}

fn parse_egress(text: &str) -> Result<Egress> {
    text.parse().map_err(anyhow::Error::msg)
}

/// `ACCOUNT=EGRESS`.
fn parse_egress_of(text: &str) -> Result<(AccountId, Egress)> {
    let (account, egress) = text.split_once('=').context("use ACCOUNT=EGRESS")?;
    let account =
        AccountId::parse(account).with_context(|| format!("{account} is no account's 12 digits"))?;
    Ok((account, parse_egress(egress)?))
}

/// Each account once, and within what functions may ask for.
fn egress_of(args: &Args) -> Result<BTreeMap<AccountId, Egress>> {
    let mut all = BTreeMap::new();
    for (account, egress) in &args.egress_of {
        if let Err(beyond) = args.max_egress.permits(egress) {
            bail!("--egress-of {account}={egress} is more than --max-egress allows ({beyond})");
        }
        if all.insert(account.clone(), egress.clone()).is_some() {
            bail!("--egress-of names {account} twice");
        }
    }
    Ok(all)
}

fn parse_domain(text: &str) -> Result<String> {
    Domains::default().open(None, text).map_err(anyhow::Error::msg)?;
    Ok(text.to_owned())
}

/// `ACCOUNT=DOMAIN`.
fn parse_domain_of(text: &str) -> Result<(AccountId, String)> {
    let (account, domain) = text.split_once('=').context("use ACCOUNT=DOMAIN")?;
    let account =
        AccountId::parse(account).with_context(|| format!("{account} is no account's 12 digits"))?;
    Ok((account, parse_domain(domain)?))
}

/// What all the flags open together.
fn domains(args: &Args) -> Result<Domains> {
    let mut all = Domains::default();
    let any = args.domains.iter().map(|domain| (None, domain));
    let own = args.domains_of.iter().map(|(account, domain)| (Some(account.clone()), domain));
    for (account, domain) in any.chain(own) {
        all.open(account, domain).map_err(anyhow::Error::msg)?;
    }
    Ok(all)
}

/// `HOST:PORT`; a name is looked up.
fn parse_address(text: &str) -> Result<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let mut found = match text.to_socket_addrs() {
        Ok(found) => found,
        Err(error) => bail!("{text} is not HOST:PORT: {error}"),
    };
    found.next().with_context(|| format!("{text} has no address"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Args, parse_address};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn memory_is_a_host_s() {
        let parse = |mb: &str| Line::try_parse_from(["serve", "--max-memory-mb", mb]);
        assert_eq!(parse("512").ok().unwrap().args.max_memory_mb, Some(512));
        for bad in ["15", "17592186044416", "-1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_burst_is_seen_over_a_shorter_time() {
        let parse =
            |line: &str| Line::parse_from(std::iter::once("serve").chain(line.split_whitespace())).args;
        let config = |line: &str| super::config(&parse(line), std::path::Path::new("x"));
        let fine = config("--panic-window-s 3 --stable-window-s 30").ok().unwrap();
        assert_eq!((fine.panic_window_s, fine.stable_window_s), (3, 30));
        assert!(config("--panic-window-s 61").is_err());
    }

    #[test]
    fn egress_is_within_its_bound() {
        let parse = |flags: &[&str]| {
            let args =
                Line::try_parse_from(["serve"].iter().chain(flags)).map_err(|error| error.to_string())?.args;
            super::config(&args, std::path::Path::new("data")).map_err(|error| error.to_string())
        };
        let config = parse(&[]).unwrap();
        assert_eq!(
            (config.egress.to_string(), config.max_egress.to_string()),
            ("public".into(), "public".into())
        );
        assert!(parse(&["--egress", "none", "--max-egress", "public 10.0.0.0/8:5432"]).is_ok());
        assert!(parse(&["--egress", "open"]).unwrap_err().contains("more than --max-egress allows"));
        assert!(parse(&["--max-egress", "none"]).unwrap_err().contains("--egress public"));
        let of = |text: &'static str| parse(&["--egress-of", text]);
        let config = of("111111111111=a.example:443 b.example:443").unwrap();
        let all: Vec<_> = config.egress_of.iter().map(|(id, egress)| format!("{id} {egress}")).collect();
        assert_eq!(all, ["111111111111 a.example:443 b.example:443"]);
        for (bad, why) in [
            ("111111111111=open", "more than --max-egress allows"),
            ("admin=none", "12 digits"),
            ("111111111111", "ACCOUNT=EGRESS"),
            ("111111111111=moon", "host:port"),
        ] {
            assert!(of(bad).unwrap_err().contains(why), "{bad}");
        }
        let twice = ["--egress-of", "111111111111=none", "--egress-of", "111111111111=public"];
        assert!(parse(&twice).unwrap_err().contains("twice"));
        assert!(parse(&["--egress", "moon"]).unwrap_err().contains("host:port"));
    }

    #[test]
    fn domains_are_opened_one_by_one() {
        let parse = |flags: &[&str]| {
            let args =
                Line::try_parse_from(["serve"].iter().chain(flags)).map_err(|error| error.to_string())?.args;
            super::domains(&args).map_err(|error| error.to_string())
        };
        assert_eq!(parse(&[]), Ok(super::Domains::default()));
        assert!(parse(&["--domains", "apps.example", "--domains-of", "111111111111=shop.example"]).is_ok());
        for (flag, bad, why) in [
            ("--domains", "a b", "no domain"),
            ("--domains", "localhost", "no domain"),
            ("--domains-of", "shop.example", "ACCOUNT=DOMAIN"),
            ("--domains-of", "admin=shop.example", "12 digits"),
        ] {
            assert!(parse(&[flag, bad]).unwrap_err().contains(why), "{bad}");
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(parse_address("127.0.0.1:0").unwrap().to_string(), "127.0.0.1:0");
        assert_eq!(parse_address("[::1]:80").unwrap().to_string(), "[::1]:80");
        assert_eq!(parse_address("localhost:81").unwrap().port(), 81);
        for bad in ["", "9080", "127.0.0.1", "127.0.0.1:70000", "a b:1"] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
    }
}
