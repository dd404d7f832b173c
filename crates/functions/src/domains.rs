//! Host names that users bring for their functions' URLs: the tag `virga:domain`.
//!
//! The operator says which names are whose to give ([`Domains`]): without a word of his there are none, since a name could
//! be one that others use this server by.
//!
//! A name belongs to one function of all accounts, from the change that claims it on. Which names there are is what
//! functions' tags say, so a crash cannot leave the two apart. A name is claimed before the change is written, and
//! given back where that fails.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use base::AccountId;
use parking_lot::Mutex;

use crate::registry::Key;
use crate::settings::Tags;
use crate::{Error, limits};

/// Host names, separated by spaces.
pub(crate) const TAG: &str = "virga:domain";

/// The names that the tag lists, in lower case; what cannot be one is refused.
pub(crate) fn of(tags: &Tags) -> Result<Vec<String>, Error> {
    let names = tags.get(TAG).map(String::as_str).unwrap_or_default().split_whitespace();
    let mut found: Vec<String> = Vec::new();
    for name in names {
        let name = name.to_ascii_lowercase();
        if let Some(problem) = problem(&name) {
            return Err(Error::Invalid(format!(
                "The value of tag '{TAG}' cannot be used: '{name}' {problem}."
            )));
        }
        if !found.contains(&name) {
            found.push(name);
        }
    }
    Ok(found)
}

/// Why a host name cannot be a function's (RFC 1123 §2.1). Names that mean this server itself are nobody's.
fn problem(name: &str) -> Option<&'static str> {
    let labels: Vec<&str> = name.split('.').collect();
    let legal = |label: &&str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if name.len() > limits::DOMAIN_CHARS || !labels.iter().all(legal) {
        return Some("is no host name");
    }
    if labels.len() < 2 {
        return Some("needs a dot in it");
    }
    // A last label of digits would be read as an address (WHATWG URL: ends in a number).
    if name.parse::<IpAddr>().is_ok() || labels.last()?.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some("is an address");
    }
    let own = [".localhost", ".amazonaws.com"].iter().any(|end| name.ends_with(end));
    own.then_some("is not to be had: names below localhost and amazonaws.com are the server's")
}

/// A request's host as names are kept: without a port and a final dot, in lower case.
pub(crate) fn asked(host: &str) -> String {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Which names accounts may give their functions: domains with all that is below them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Domains {
    any: Vec<String>,
    of: BTreeMap<AccountId, Vec<String>>,
}

impl Domains {
    /// Opens a domain, and all names below it, to an account, or to all; `*` is any domain. The error says why it is none.
    pub fn open(&mut self, account: Option<AccountId>, domain: &str) -> Result<(), String> {
        let domain = domain.to_ascii_lowercase();
        // A whole top-level domain may be opened: `internal` is one of an operator's own.
        let sound = domain == "*" || problem(&format!("x.{domain}")).is_none();
        if !sound {
            return Err(format!("{domain} is no domain that functions could have names in"));
        }
        match account {
            Some(account) => self.of.entry(account).or_default().push(domain),
            None => self.any.push(domain),
        }
        Ok(())
    }

    fn permits(&self, account: &AccountId, name: &str) -> bool {
        let within = |domain: &String| {
            domain == "*"
                || name == domain
                || name.strip_suffix(domain.as_str()).is_some_and(|below| below.ends_with('.'))
        };
        self.any.iter().chain(self.of.get(account).into_iter().flatten()).any(within)
    }
}

/// Whose names are whose.
#[derive(Default)]
pub(crate) struct Owners {
    open: Domains,
    names: Mutex<HashMap<String, Key>>,
}

impl Owners {
    pub(crate) fn new(open: Domains) -> Self {
        Self { open, names: Mutex::default() }
    }

    /// Claims names for a function; of names that are another's, or that its account may not have, none. The answer is those
    /// that were not its own before. A name that it had `before` and may not have any more does no harm: it is not claimed.
    pub(crate) fn claim(&self, key: &Key, before: &[String], names: &[String]) -> Result<Vec<String>, Error> {
        let mut owners = self.names.lock();
        let mut wanted = Vec::new();
        for name in names {
            let kept = before.contains(name);
            let taken = owners.get(name).is_some_and(|owner| owner != key);
            match (self.open.permits(&key.0, name), taken) {
                (false, _) if !kept => {
                    return Err(Error::Denied(format!(
                        "The domain {name} is not open to the account {}: its names are the operator's to give \
                         (virga serve --domains-of).",
                        key.0
                    )));
                }
                (true, true) if !kept => {
                    return Err(Error::Conflict(format!("The domain {name} belongs to another function.")));
                }
                (true, false) => wanted.push(name.clone()),
                _ => {}
            }
        }
        wanted.retain(|name| owners.insert(name.clone(), key.clone()).is_none());
        Ok(wanted)
    }

    /// Whether the name is this function's.
    pub(crate) fn owns(&self, key: &Key, name: &str) -> bool {
        self.names.lock().get(name) == Some(key)
    }

    /// Those of the names that are this function's are nobody's any more.
    pub(crate) fn give_back<'a>(&self, key: &Key, names: impl IntoIterator<Item = &'a String>) {
        let mut owners = self.names.lock();
        for name in names {
            if owners.get(name) == Some(key) {
                owners.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str) -> Result<Vec<String>, String> {
        of(&[(TAG.to_owned(), value.to_owned())].into()).map_err(|error| error.to_string())
    }

    #[test]
    fn names_are_host_names() {
        assert_eq!(of(&Tags::new()).unwrap(), Vec::<String>::new());
        let two = check("Shop.example.com  www.shop.example.com shop.example.com").unwrap();
        assert_eq!(two, ["shop.example.com", "www.shop.example.com"]);
        let long = format!("{}.example.com", "a".repeat(64));
        for (bad, said) in [
            ("shop", "needs a dot"),
            ("a..b", "is no host name"),
            ("-a.example", "is no host name"),
            ("a_b.example", "is no host name"),
            ("shop.example.com:80", "is no host name"),
            (long.as_str(), "is no host name"),
            ("10.0.0.1", "is an address"),
            ("a.1", "is an address"),
            ("api.localhost", "the server's"),
            ("lambda.us-east-1.amazonaws.com", "the server's"),
        ] {
            let refused = check(bad).unwrap_err();
            assert!(refused.contains(said), "{bad}: {refused}");
        }
        let most = vec!["a".repeat(61); 4].join(".");
        assert_eq!(most.len(), 247);
        assert!(check(&format!("{most}.abcde")).is_ok());
        assert!(check(&format!("{most}.abcdef")).is_err());
    }

    #[test]
    fn hosts_as_they_are_asked_for() {
        for host in ["shop.example.com", "Shop.Example.com:9080", "shop.example.com."] {
            assert_eq!(asked(host), "shop.example.com");
        }
        assert_eq!(asked("[::1]:80"), "[::1]");
    }

    fn account(id: &str) -> AccountId {
        AccountId::parse(id).unwrap()
    }

    fn key(name: &str) -> Key {
        (account("123456789012"), name.to_owned())
    }

    #[test]
    fn a_name_has_one_owner() {
        let mut open = Domains::default();
        open.open(None, "*").unwrap();
        let owners = Owners::new(open);
        let names = ["a.b".to_owned(), "c.d".to_owned()];
        assert_eq!(owners.claim(&key("f"), &[], &names[..1]).unwrap(), names[..1]);
        assert_eq!(
            owners.claim(&key("f"), &names[..1], &names).unwrap(),
            names[1..],
            "the first was its own"
        );
        assert!(matches!(owners.claim(&key("g"), &[], &names[1..]), Err(Error::Conflict(_))));
        owners.give_back(&key("g"), &names[1..]);
        assert!(owners.owns(&key("f"), "c.d"), "what is another's is not given back");
        owners.give_back(&key("f"), &names[1..]);
        assert!(owners.claim(&key("g"), &[], &names[1..]).is_ok());
    }

    #[test]
    fn names_are_the_operator_s_to_give() {
        let mut open = Domains::default();
        open.open(None, "apps.example.com").unwrap();
        open.open(Some(account("123456789012")), "Shop.example").unwrap();
        open.open(Some(account("123456789012")), "internal").unwrap();
        for (name, own, other) in [
            ("apps.example.com", true, true),
            ("a.b.apps.example.com", true, true),
            ("shop.example", true, false),
            ("www.shop.example", true, false),
            ("a.internal", true, false),
            ("xapps.example.com", false, false),
            ("example.com", false, false),
            ("apps.example.com.evil.net", false, false),
            ("lambda.example.org", false, false),
        ] {
            assert_eq!(open.permits(&account("123456789012"), name), own, "{name}");
            assert_eq!(open.permits(&account("210987654321"), name), other, "{name}");
        }
        for bad in ["", "a b", ".example.com", "localhost", "amazonaws.com", "10.0.0.1"] {
            assert!(open.open(None, bad).is_err(), "{bad}");
        }
        assert!(!Domains::default().permits(&account("123456789012"), "a.example"));
    }

    #[test]
    fn a_name_that_was_closed_stops_nothing_else() {
        let owners = Owners::default();
        let names = ["a.b".to_owned(), "c.d".to_owned()];
        assert!(matches!(owners.claim(&key("f"), &[], &names[..1]), Err(Error::Denied(_))));
        assert_eq!(owners.claim(&key("f"), &names[..1], &names[..1]).unwrap(), Vec::<String>::new());
        assert!(!owners.owns(&key("f"), "a.b"));
        assert!(matches!(owners.claim(&key("f"), &names[..1], &names), Err(Error::Denied(_))));
    }
}
