//! The environment that a function is started with.
//!
//! Three layers: what the caller of the back end gives; what only the back end knows, which wins; and
//! defaults for search paths, which a function's own variables of the same name replace (Lambda's
//! "unreserved" variables).

use super::clients;
use super::entry::TASK;
use super::interpreters::Interpreter;
use crate::Runtime;

/// Where programs are looked for in an image that does not say: what Docker gives.
pub(crate) const IMAGE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the environment depends on.
pub(crate) struct Facts<'a> {
    /// The environment as given.
    pub(crate) given: &'a [(String, String)],
    /// For managed runtimes.
    pub(crate) interpreter: Option<&'a Interpreter>,
    /// Whether the program is an image's, which says itself where its things are.
    pub(crate) image: bool,
    /// Port of the Runtime API on the loopback interface, for those who speak it.
    pub(crate) runtime_api: Option<u16>,
    /// Events that a client of it may have at once.
    pub(crate) concurrency: u32,
    /// Port that a web server listens on.
    pub(crate) port: Option<u16>,
    /// Where Virga's own API is.
    pub(crate) endpoint_url: Option<String>,
}

/// Builds it.
pub(crate) fn build(facts: &Facts<'_>) -> Vec<(String, String)> {
    let mut fixed = Vec::new();
    if !facts.image {
        fixed.push(("LAMBDA_RUNTIME_DIR", clients::INSIDE.to_owned()));
    }
    fixed.extend(facts.runtime_api.map(|port| ("AWS_LAMBDA_RUNTIME_API", format!("127.0.0.1:{port}"))));
    let several = facts.runtime_api.is_some() && facts.concurrency > 1;
    fixed.extend(several.then(|| (clients::MAX_CONCURRENCY, facts.concurrency.to_string())));
    fixed.extend(facts.port.map(|port| ("PORT", port.to_string())));
    let mut environment: Vec<(String, String)> =
        facts.given.iter().filter(|(name, _)| !is_fixed(name, facts.image)).cloned().collect();
    environment.extend(fixed.into_iter().map(|(name, value)| (name.to_owned(), value)));
    for (name, value) in defaults(facts) {
        if !environment.iter().any(|(other, _)| other == name) {
            environment.push((name.to_owned(), value));
        }
    }
    environment
}

/// The environment of a runtime that is booted before its function is known: what a function has that sets nothing
/// of its own.
pub(crate) fn before_a_function(interpreter: &Interpreter) -> Vec<(String, String)> {
    // As the platform sets them where a function does not.
    let given = [("TZ", ":UTC"), ("LANG", clients::USUAL_LANG)];
    let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
    build(&Facts {
        given: &given,
        interpreter: Some(interpreter),
        image: false,
        runtime_api: None,
        concurrency: 1,
        port: None,
        endpoint_url: None,
    })
}

fn is_fixed(name: &str, image: bool) -> bool {
    let fixed = matches!(name, "AWS_LAMBDA_RUNTIME_API" | "PORT" | clients::MAX_CONCURRENCY);
    fixed || (name == "LAMBDA_RUNTIME_DIR" && !image)
}

fn defaults(facts: &Facts<'_>) -> Vec<(&'static str, String)> {
    if facts.image {
        // Nothing but `/tmp` can be written, wherever the image's user is at home.
        let mut defaults = vec![("PATH", IMAGE_PATH.to_owned()), ("HOME", "/tmp".to_owned())];
        defaults.extend(facts.endpoint_url.clone().map(|url| ("AWS_ENDPOINT_URL", url)));
        return defaults;
    }
    let mut defaults = vec![
        ("PATH", path(facts.interpreter)),
        ("HOME", "/tmp".to_owned()),
        ("LD_LIBRARY_PATH", library_path(facts.interpreter)),
        ("PYTHONPATH", format!("{TASK}:/opt/python")),
        ("NODE_PATH", node_path(facts.interpreter)),
    ];
    if let Some(Runtime::Ruby { major, minor }) = facts.interpreter.map(|i| &i.runtime) {
        // Those of the package, those of layers, and after the last colon Ruby's own.
        let gems = format!("{TASK}/vendor/bundle/ruby/{major}.{minor}.0:/opt/ruby/gems/{major}.{minor}.0:");
        defaults.extend([("GEM_PATH", gems), ("RUBYLIB", "/opt/ruby/lib".to_owned())]);
    }
    if let Some(Runtime::Java { .. }) = facts.interpreter.map(|i| &i.runtime) {
        let usual = |(name, value): &(String, String)| name != "LANG" || value == clients::USUAL_LANG;
        // Names of files have the locale's encoding, and the host may not have the usual locale. Every host has this.
        if facts.given.iter().all(usual) && !facts.given.iter().any(|(name, _)| name.starts_with("LC_")) {
            defaults.push(("LC_ALL", "C.UTF-8".to_owned()));
        }
    }
    if let Some(Runtime::Php { .. }) = facts.interpreter.map(|i| &i.runtime) {
        // What the interpreter was built with, then the layers' and the package's.
        defaults.push(("PHP_INI_SCAN_DIR", format!(":/opt/php/conf.d:{TASK}/php/conf.d")));
    }
    if facts.port.is_some() {
        // A web server's output is a pipe, which Python would hold back until it has 8 KiB.
        defaults.push(("PYTHONUNBUFFERED", "1".to_owned()));
    }
    defaults.extend(facts.endpoint_url.clone().map(|url| ("AWS_ENDPOINT_URL", url)));
    defaults
}

fn path(interpreter: Option<&Interpreter>) -> String {
    let usual = "/usr/local/bin:/usr/bin:/bin";
    let own = interpreter.filter(|interpreter| !interpreter.is_in_usr());
    match own.and_then(|interpreter| interpreter.executable.parent()) {
        Some(folder) => format!("/opt/bin:{}:{usual}", folder.display()),
        None => format!("/opt/bin:{usual}"),
    }
}

/// As Lambda's: a layer may hold packages for one major version and for all.
fn node_path(interpreter: Option<&Interpreter>) -> String {
    let usual = format!("/opt/nodejs/node_modules:{}/node_modules:{TASK}", clients::INSIDE);
    match interpreter.map(|interpreter| &interpreter.runtime) {
        Some(Runtime::Node { major }) => format!("/opt/nodejs/node{major}/node_modules:{usual}"),
        _ => usual,
    }
}

fn library_path(interpreter: Option<&Interpreter>) -> String {
    let usual = format!("{TASK}:{TASK}/lib:/opt/lib");
    match interpreter.and_then(|interpreter| interpreter.library_dir.as_ref()) {
        Some(folder) => format!("{}:{usual}", folder.display()),
        None => usual,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(environment: &'a [(String, String)], name: &str) -> Option<&'a str> {
        let mut found = environment.iter().filter(|(other, _)| other == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} is there twice");
        value
    }

    fn built(given: &[(&str, &str)], interpreter: Option<&Interpreter>) -> Vec<(String, String)> {
        let given: Vec<_> = given.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        build(&Facts {
            given: &given,
            interpreter,
            image: false,
            runtime_api: Some(9001),
            concurrency: 1,
            port: None,
            endpoint_url: Some("http://127.0.0.1:9080".to_owned()),
        })
    }

    #[test]
    fn reserved_names_win_and_search_paths_give_way() {
        let environment = built(
            &[("AWS_LAMBDA_RUNTIME_API", "evil:1"), ("PORT", "1"), ("PATH", "/mine"), ("A", "b")],
            None,
        );
        assert_eq!(value(&environment, "AWS_LAMBDA_RUNTIME_API"), Some("127.0.0.1:9001"));
        assert_eq!(value(&environment, "PORT"), None);
        assert_eq!(value(&environment, "PATH"), Some("/mine"));
        assert_eq!(value(&environment, "A"), Some("b"));
        assert_eq!(value(&environment, "HOME"), Some("/tmp"));
        assert_eq!(value(&environment, "AWS_ENDPOINT_URL"), Some("http://127.0.0.1:9080"));
    }

    #[test]
    fn only_those_that_may_have_several_events_are_told_how_many() {
        let told = |runtime_api, concurrency| {
            let given = [("AWS_LAMBDA_MAX_CONCURRENCY".to_owned(), "77".to_owned())];
            let facts = Facts {
                given: &given,
                interpreter: None,
                image: false,
                runtime_api,
                concurrency,
                port: None,
                endpoint_url: None,
            };
            value(&build(&facts), "AWS_LAMBDA_MAX_CONCURRENCY").map(str::to_owned)
        };
        assert_eq!(told(Some(9001), 10).as_deref(), Some("10"));
        assert_eq!(told(Some(9001), 1), None);
        assert_eq!(told(None, 10), None, "a web server");
    }

    #[test]
    fn java_has_a_locale_that_is_there_unless_a_function_says_which() {
        let java = Interpreter {
            runtime: Runtime::Java { major: 17 },
            version: "17.0.1".to_owned(),
            executable: "/usr/lib/jvm/x/bin/java".into(),
            prefix: "/usr/lib/jvm/x".into(),
            library_dir: None,
        };
        let locale = |given: &[(&str, &str)]| value(&built(given, Some(&java)), "LC_ALL").map(str::to_owned);
        assert_eq!(locale(&[("LANG", "en_US.UTF-8")]).as_deref(), Some("C.UTF-8"));
        assert_eq!(locale(&[("LANG", "de_DE.UTF-8")]), None);
        assert_eq!(locale(&[("LC_NUMERIC", "de_DE.UTF-8")]), None);
        assert_eq!(value(&built(&[], None), "LC_ALL"), None);
    }

    #[test]
    fn an_interpreter_of_its_own_prefix_is_found() {
        let interpreter = Interpreter {
            runtime: Runtime::Python { minor: 12 },
            version: "3.12.1".to_owned(),
            executable: "/x/v/bin/python3.12".into(),
            prefix: "/x/v".into(),
            library_dir: Some("/x/v/lib".into()),
        };
        let environment = built(&[], Some(&interpreter));
        assert_eq!(value(&environment, "PATH"), Some("/opt/bin:/x/v/bin:/usr/local/bin:/usr/bin:/bin"));
        let library_path = Some("/x/v/lib:/var/task:/var/task/lib:/opt/lib");
        assert_eq!(value(&environment, "LD_LIBRARY_PATH"), library_path);
    }
}
