//! Tags: their rules, and the settings that ride on those with the prefix `virga:`.
//!
//! Pure. A tag that this file does not know is refused rather than ignored: a misspelt `virga:egres` must
//! not leave a function more open or slower than its owner believes.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use base::AccountId;
use sandbox::{Contract, Egress, Isolation, Runtime};

use crate::model::{Configuration, Settings};
use crate::service::Bounds;
use crate::{Error, domains, limits};

/// What tags that Virga reads start with.
pub(crate) const PREFIX: &str = "virga:";

/// How the code is called.
pub(crate) const CONTRACT: &str = "virga:contract";
/// Where a web server listens.
pub(crate) const PORT: &str = "virga:port";

/// How often an event is tried again; read when it is.
pub(crate) const ASYNC_RETRIES: &str = "virga:async-retries";

/// The tags of one function.
pub(crate) type Tags = BTreeMap<String, String>;

/// Whether Virga reads this tag: changing it takes the permission to change the configuration.
pub(crate) fn is_ours(key: &str) -> bool {
    key.starts_with(PREFIX)
}

/// Whether changing this tag changes a version's configuration. Under which names a function is reached does not.
pub(crate) fn is_setting(key: &str) -> bool {
    is_ours(key) && key != domains::TAG
}

/// Those of the tags that change a version's configuration.
pub(crate) fn of_settings(tags: &Tags) -> Tags {
    let settings = tags.iter().filter(|(key, _)| is_setting(key));
    settings.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The rules that hold for every tag (Lambda: Using tags on functions).
pub(crate) fn check_tags(tags: &Tags) -> Result<(), Error> {
    if tags.len() > limits::TAGS {
        return Err(Error::Invalid(format!("A function can have at most {} tags.", limits::TAGS)));
    }
    for (key, value) in tags {
        let legal = |text: &str| text.chars().all(|c| c.is_alphanumeric() || " _.:/=+-@".contains(c));
        if key.is_empty() || key.chars().count() > limits::TAG_KEY_CHARS || !legal(key) {
            return Err(Error::Invalid(format!(
                "The tag key '{key}' must have 1 to {} characters out of letters, digits, spaces and _.:/=+-@.",
                limits::TAG_KEY_CHARS
            )));
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(Error::Invalid(format!("The tag key '{key}' must not start with aws:.")));
        }
        if value.chars().count() > limits::TAG_VALUE_CHARS || !legal(value) {
            return Err(Error::Invalid(format!(
                "The value of tag '{key}' must have at most {} characters out of letters, digits, spaces and _.:/=+-@.",
                limits::TAG_VALUE_CHARS
            )));
        }
    }
    domains::of(tags).map(|_| ())
}

/// Reads Lambda's runtime identifier.
pub(crate) fn parse_runtime(text: &str) -> Result<Runtime, Error> {
    Runtime::parse(text).ok_or_else(|| {
        Error::InvalidRuntime(format!(
            "Value '{text}' at 'runtime' failed to satisfy constraint: use python3.MINOR, nodejsMAJOR.x, \
             phpMAJOR.MINOR, rubyMAJOR.MINOR, javaMAJOR, provided.al2023, provided.al2, provided, wasm or static."
        ))
    })
}

/// What runs the code of a configuration.
pub(crate) fn runtime_of(configuration: &Configuration) -> Result<Runtime, Error> {
    match configuration.image {
        Some(_) => Ok(Runtime::Image),
        None => parse_runtime(&configuration.runtime),
    }
}

/// What runs the code: `provided` with the contract `wasi` is WebAssembly under a name that AWS's tools know.
pub(crate) fn effective_runtime(runtime: Runtime, settings: &Settings) -> Runtime {
    match settings.contract {
        Contract::Wasi => Runtime::Wasm,
        Contract::Lambda | Contract::Http => runtime,
    }
}

/// The settings that these tags make for this runtime, of a function of this account.
pub(crate) fn resolve(
    runtime: &Runtime,
    tags: &Tags,
    bounds: &Bounds,
    account: &AccountId,
) -> Result<Settings, Error> {
    let mut given = Given::default();
    for (key, value) in tags.iter().filter(|(key, _)| is_setting(key)) {
        given.read(key, value, bounds)?;
    }
    let contract = given.contract.unwrap_or(match runtime {
        Runtime::Wasm => Contract::Wasi,
        Runtime::Static => Contract::Http,
        _ => Contract::Lambda,
    });
    let isolation = given.isolation.unwrap_or(match (contract, runtime) {
        (Contract::Http, Runtime::Static) => Isolation::Static,
        (Contract::Wasi, _) => Isolation::Wasm,
        (Contract::Lambda | Contract::Http, _) => Isolation::Process,
    });
    check_combination(runtime, contract, isolation)?;
    let (soft_concurrency, hard_concurrency) = given.concurrency(contract, isolation)?;
    let one_by_one = matches!(runtime, Runtime::Php { .. } | Runtime::Ruby { .. } | Runtime::Java { .. });
    if one_by_one && contract == Contract::Lambda && hard_concurrency > 1 {
        return Err(bad(
            "virga:hard-concurrency",
            "an instance of a PHP, Ruby or Java handler takes one call at a time",
        ));
    }
    if isolation == Isolation::Process && given.memory_mb.is_some_and(|mb| mb < 16) {
        return Err(bad("virga:memory", "a process needs at least 16 MB"));
    }
    Ok(Settings {
        contract,
        isolation,
        // Files take no memory of their own.
        memory_mb: given.memory_mb.or((isolation == Isolation::Static).then_some(1)),
        cpu_hundredths: given.cpu_hundredths,
        soft_concurrency,
        hard_concurrency,
        idle_timeout_s: given
            .idle_timeout_s
            .unwrap_or_else(|| u32::try_from(bounds.idle_timeout.as_secs()).unwrap_or(u32::MAX)),
        fixed_idle: given.idle_timeout_s.is_some(),
        freeze: given.freeze.unwrap_or(true),
        template: given.template.unwrap_or(true),
        egress: given.egress.unwrap_or_else(|| bounds.default_egress(account).clone()),
        port: given.port.unwrap_or(limits::PORT),
        async_timeout_s: given.async_timeout_s,
    })
}

fn check_combination(runtime: &Runtime, contract: Contract, isolation: Isolation) -> Result<(), Error> {
    let problem = match (contract, isolation, runtime) {
        (Contract::Http, Isolation::Static, Runtime::Static) => return Ok(()),
        (_, _, Runtime::Static) => {
            "the runtime static has the contract http and no isolation, since no code runs"
        }
        (_, Isolation::Static, _) => "nothing but the runtime static runs without isolation",
        (Contract::Lambda | Contract::Http, Isolation::Process, Runtime::Wasm) => {
            "the runtime wasm has the contract wasi"
        }
        (Contract::Wasi, Isolation::Wasm, Runtime::Wasm | Runtime::Provided { .. }) => return Ok(()),
        (Contract::Wasi, Isolation::Wasm, _) => "the contract wasi needs the runtime wasm or provided.al2023",
        (Contract::Wasi, Isolation::Process, _) => "the contract wasi runs in the isolation wasm",
        (Contract::Lambda, Isolation::Wasm, _) => "the contract lambda runs in the isolation process",
        (Contract::Http, Isolation::Wasm, _) => {
            "the contract http runs in the isolation process; a component that answers HTTP has the contract wasi"
        }
        (Contract::Lambda | Contract::Http, Isolation::Process, _) => return Ok(()),
    };
    Err(Error::Invalid(format!(
        "This combination of runtime, virga:contract and virga:isolation cannot run: {problem}."
    )))
}

/// The settings as far as tags name them.
#[derive(Default)]
struct Given {
    contract: Option<Contract>,
    isolation: Option<Isolation>,
    memory_mb: Option<u32>,
    cpu_hundredths: Option<u32>,
    soft_concurrency: Option<u32>,
    hard_concurrency: Option<u32>,
    idle_timeout_s: Option<u32>,
    freeze: Option<bool>,
    template: Option<bool>,
    egress: Option<Egress>,
    port: Option<u16>,
    async_timeout_s: Option<u32>,
}

impl Given {
    fn read(&mut self, key: &str, value: &str, bounds: &Bounds) -> Result<(), Error> {
        match key.strip_prefix(PREFIX).unwrap_or(key) {
            "contract" => {
                self.contract = Some(match value {
                    "lambda" => Contract::Lambda,
                    "http" => Contract::Http,
                    "wasi" => Contract::Wasi,
                    _ => return Err(bad(key, "use lambda, http or wasi")),
                });
            }
            "isolation" => {
                self.isolation = Some(match value {
                    "process" => Isolation::Process,
                    "wasm" => Isolation::Wasm,
                    "microvm" => return Err(bad(key, "microvm is not built yet; use process or wasm")),
                    _ => return Err(bad(key, "use process or wasm")),
                });
            }
            "egress" => self.egress = Some(egress(key, value, bounds)?),
            "memory" => self.memory_mb = Some(number(key, value, 1..=*limits::MEMORY_MB.end(), "MB")?),
            "cpu" => {
                self.cpu_hundredths = Some(number(key, value, 1..=most_cpu(), "hundredths of a core")?);
            }
            "soft-concurrency" => self.soft_concurrency = Some(number(key, value, 1..=1000, "calls")?),
            "hard-concurrency" => self.hard_concurrency = Some(number(key, value, 1..=1000, "calls")?),
            "idle-timeout" => self.idle_timeout_s = Some(number(key, value, 1..=86_400, "seconds")?),
            "freeze" => self.freeze = Some(switch(key, value)?),
            "template" => self.template = Some(switch(key, value)?),
            "async-retries" => {
                number(key, value, 0..=limits::MOST_EVENT_RETRIES, "retries")?;
            }
            "async-timeout" => {
                self.async_timeout_s = Some(number(key, value, limits::ASYNC_TIMEOUT_S, "seconds")?);
            }
            "port" => self.port = Some(number(key, value, 1024..=u16::MAX, "as a port")?),
            _ => {
                return Err(Error::Invalid(format!(
                    "The tag '{key}' is unknown. Tags that start with virga: are contract, isolation, memory, cpu, \
                     soft-concurrency, hard-concurrency, idle-timeout, freeze, template, egress, port, \
                     domain, async-retries and async-timeout."
                )));
            }
        }
        Ok(())
    }

    /// Soft and hard: the one that is not given follows the one that is.
    fn concurrency(&self, contract: Contract, isolation: Isolation) -> Result<(u32, u32), Error> {
        let (soft, hard) = match contract {
            _ if isolation == Isolation::Static => (limits::CONCURRENCY_SHARED, limits::CONCURRENCY_SHARED),
            Contract::Lambda => (1, 1),
            Contract::Http => (limits::SOFT_CONCURRENCY_HTTP, limits::HARD_CONCURRENCY_HTTP),
            Contract::Wasi => (limits::CONCURRENCY_SHARED, limits::CONCURRENCY_SHARED),
        };
        let (soft, hard) = match (self.soft_concurrency, self.hard_concurrency) {
            (None, None) => (soft, hard),
            (Some(soft), None) => (soft, hard.max(soft)),
            // Who asks for a handler that multiplexes wants it to.
            (None, Some(hard)) if contract == Contract::Lambda => (hard, hard),
            (None, Some(hard)) => (soft.min(hard), hard),
            (Some(soft), Some(hard)) if soft <= hard => (soft, hard),
            (Some(_), Some(_)) => {
                return Err(bad("virga:soft-concurrency", "it must not be above virga:hard-concurrency"));
            }
        };
        Ok((soft, hard))
    }
}

fn switch(key: &str, value: &str) -> Result<bool, Error> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(bad(key, "use on or off")),
    }
}

fn egress(key: &str, value: &str, bounds: &Bounds) -> Result<Egress, Error> {
    let wanted: Egress = value.parse().map_err(|problem: String| bad(key, &problem))?;
    match bounds.max_egress.permits(&wanted) {
        Ok(()) => Ok(wanted),
        Err(beyond) => Err(bad(key, &format!("this server does not allow {beyond}"))),
    }
}

/// All of the host's cores, or six: as much as Lambda's largest memory size brings.
fn most_cpu() -> u32 {
    let cores =
        std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
    cores.saturating_mul(100).max(600)
}

fn number<T>(key: &str, value: &str, range: RangeInclusive<T>, unit: &str) -> Result<T, Error>
where
    T: FromStr + PartialOrd + Display,
{
    let plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| value.parse().ok()).flatten().filter(|number| range.contains(number)).ok_or_else(|| {
        bad(key, &format!("it takes a whole number from {} to {} ({unit})", range.start(), range.end()))
    })
}

fn bad(key: &str, problem: &str) -> Error {
    Error::Invalid(format!("The value of tag '{key}' cannot be used: {problem}."))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Accounts: without a default of its own, and with one.
    const USUAL: &str = "111111111111";
    const STRICT: &str = "222222222222";

    fn account(id: &str) -> AccountId {
        AccountId::parse(id).unwrap()
    }

    #[test]
    fn an_account_s_default_egress_goes_before_the_server_s() {
        let egress = |id: &str, pairs: &[(&str, &str)]| {
            let settings = resolve(&Runtime::Wasm, &tags(pairs), &bounds(), &account(id)).unwrap();
            settings.egress.to_string()
        };
        assert_eq!(egress(USUAL, &[]), "public");
        assert_eq!(egress(STRICT, &[]), "none");
        // A default, not a bound.
        assert_eq!(egress(STRICT, &[("virga:egress", "example.com:443")]), "example.com:443");
    }

    fn bounds() -> Bounds {
        Bounds {
            max_instances: 10,
            max_memory_bytes: 1 << 30,
            max_queue: 10,
            queue_timeout: Duration::from_secs(1),
            init_timeout: Duration::from_secs(1),
            egress: Egress::Public,
            egress_of: BTreeMap::from([(account(STRICT), Egress::None)]),
            max_egress: Egress::Public,
            domains: Default::default(),
            idle_timeout: Duration::from_secs(300),
            scaling: Default::default(),
            pace: Default::default(),
        }
    }

    fn tags(pairs: &[(&str, &str)]) -> Tags {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn check(runtime: &str, pairs: &[(&str, &str)]) -> Result<Settings, String> {
        let runtime = parse_runtime(runtime).unwrap();
        resolve(&runtime, &tags(pairs), &bounds(), &account(USUAL)).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_follow_the_contract() {
        let lambda = check("python3.11", &[]).unwrap();
        assert_eq!((lambda.contract, lambda.isolation), (Contract::Lambda, Isolation::Process));
        assert_eq!((lambda.soft_concurrency, lambda.hard_concurrency), (1, 1));
        assert_eq!((lambda.idle_timeout_s, lambda.port, lambda.egress), (300, 8080, Egress::Public));
        let http = check("nodejs20.x", &[("virga:contract", "http")]).unwrap();
        assert_eq!((http.soft_concurrency, http.hard_concurrency), (80, 100));
        let wasm = check("wasm", &[]).unwrap();
        assert_eq!((wasm.contract, wasm.isolation), (Contract::Wasi, Isolation::Wasm));
        assert_eq!(check("provided.al2023", &[("virga:contract", "wasi")]).unwrap(), wasm);
    }

    #[test]
    fn one_concurrency_follows_the_other() {
        let hard =
            check("nodejs20.x", &[("virga:contract", "http"), ("virga:hard-concurrency", "5")]).unwrap();
        assert_eq!((hard.soft_concurrency, hard.hard_concurrency), (5, 5));
        let soft =
            check("nodejs20.x", &[("virga:contract", "http"), ("virga:soft-concurrency", "500")]).unwrap();
        assert_eq!((soft.soft_concurrency, soft.hard_concurrency), (500, 500));
    }

    #[test]
    fn nonsense_is_refused() {
        for (runtime, pairs, said) in [
            ("python3.11", &[("virga:contract", "wasi")][..], "needs the runtime wasm"),
            ("wasm", &[("virga:contract", "lambda")], "the runtime wasm has the contract wasi"),
            ("wasm", &[("virga:isolation", "process")], "runs in the isolation wasm"),
            ("php8.2", &[("virga:hard-concurrency", "2")], "takes one call at a time"),
            ("java17", &[("virga:hard-concurrency", "2")], "takes one call at a time"),
            ("python3.11", &[("virga:isolation", "wasm")], "runs in the isolation process"),
            ("python3.11", &[("virga:isolation", "microvm")], "not built yet"),
            ("python3.11", &[("virga:colour", "red")], "'virga:colour' is unknown"),
            ("python3.11", &[("virga:memory", "15")], "at least 16 MB"),
            ("python3.11", &[("virga:memory", "0")], "from 1 to 10240"),
            ("python3.11", &[("virga:memory", "+64")], "whole number"),
            ("python3.11", &[("virga:freeze", "true")], "use on or off"),
            ("python3.11", &[("virga:template", "")], "use on or off"),
            ("python3.11", &[("virga:egress", "open")], "does not allow open"),
            ("python3.11", &[("virga:egress", "a.b:1 10.0.0.0/8:1")], "does not allow 10.0.0.0/8:1"),
            ("python3.11", &[("virga:egress", "moon")], "host:port"),
            ("python3.11", &[("virga:port", "80")], "from 1024 to 65535"),
            ("python3.11", &[("virga:idle-timeout", "86401")], "from 1 to 86400"),
            (
                "nodejs20.x",
                &[
                    ("virga:contract", "http"),
                    ("virga:soft-concurrency", "9"),
                    ("virga:hard-concurrency", "8"),
                ],
                "must not be above",
            ),
        ] {
            let error = check(runtime, pairs).unwrap_err();
            assert!(error.contains(said), "{pairs:?}: {error}");
        }
        assert!(check("wasm", &[("virga:memory", "1")]).is_ok());
        assert!(check("python3.11", &[("virga:memory", "16"), ("virga:cpu", "1")]).is_ok());
    }

    #[test]
    fn event_handlers_multiplex_when_they_ask_for_it() {
        for runtime in ["python3.11", "nodejs20.x", "provided.al2023"] {
            let both = check(runtime, &[("virga:soft-concurrency", "4"), ("virga:hard-concurrency", "10")]);
            let both = both.unwrap();
            assert_eq!((both.soft_concurrency, both.hard_concurrency), (4, 10), "{runtime}");
            let soft = check(runtime, &[("virga:soft-concurrency", "4")]).unwrap();
            assert_eq!((soft.soft_concurrency, soft.hard_concurrency), (4, 4), "{runtime}");
            let hard = check(runtime, &[("virga:hard-concurrency", "10")]).unwrap();
            assert_eq!((hard.soft_concurrency, hard.hard_concurrency), (10, 10), "{runtime}");
        }
    }

    #[test]
    fn instances_are_frozen_and_copied_unless_the_function_says_no() {
        let plain = check("python3.11", &[]).unwrap();
        assert!(plain.freeze && plain.template);
        let tags = &[("virga:freeze", "off"), ("virga:template", "off")];
        let off = check("python3.11", tags).unwrap();
        assert!(!off.freeze && !off.template);
    }

    #[test]
    fn egress_is_none_public_or_a_list() {
        for value in ["none", "public", ".example.com:443 db.example.com:5432 8.8.0.0/16:53"] {
            let tags = tags(&[("virga:egress", value)]);
            assert!(check_tags(&tags).is_ok());
            let settings = resolve(&Runtime::Wasm, &tags, &bounds(), &account(USUAL)).unwrap();
            assert_eq!(settings.egress.to_string(), value);
        }
    }

    #[test]
    fn tags_keep_lambdas_rules() {
        assert!(check_tags(&tags(&[("team", "a b@c"), ("virga:memory", "64")])).is_ok());
        for pairs in [[("aws:x", "1")], [("AWS:x", "1")], [("", "1")], [("a", "1,2")], [("a*", "1")]] {
            assert!(check_tags(&tags(&pairs)).is_err(), "{pairs:?}");
        }
        assert!(check_tags(&tags(&[(&"k".repeat(129), "")])).is_err());
        assert!(check_tags(&tags(&[("k", &"v".repeat(257))])).is_err());
        let many: Tags = (0..51).map(|n| (n.to_string(), String::new())).collect();
        assert!(check_tags(&many).is_err());
    }
}
