//! Host names that users bring for their functions' URLs: the tag `virga:domain`.
//!
//! A name belongs to one function of all accounts, from the change that claims it on. Which names there are is what
//! functions' tags say, so a crash cannot leave the two apart. A name is claimed before the change is written, and
//! given back where that fails.

use std::collections::HashMap;
use std::net::IpAddr;

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

/// Whose names are whose.
#[derive(Default)]
pub(crate) struct Owners(Mutex<HashMap<String, Key>>);

impl Owners {
    /// Claims names for a function; of names that are another's, none. Those that were not its own before.
    pub(crate) fn claim(&self, key: &Key, names: &[String]) -> Result<Vec<String>, Error> {
        let mut owners = self.0.lock();
        if let Some(taken) = names.iter().find(|name| owners.get(*name).is_some_and(|owner| owner != key)) {
            return Err(Error::Conflict(format!("The domain {taken} belongs to another function.")));
        }
        let mut new = Vec::new();
        for name in names {
            if owners.insert(name.clone(), key.clone()).is_none() {
                new.push(name.clone());
            }
        }
        Ok(new)
    }

    /// The names are nobody's any more.
    pub(crate) fn give_back<'a>(&self, names: impl IntoIterator<Item = &'a String>) {
        let mut owners = self.0.lock();
        for name in names {
            owners.remove(name);
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

    #[test]
    fn a_name_has_one_owner() {
        let owners = Owners::default();
        let key = |name: &str| (base::AccountId::parse("123456789012").unwrap(), name.to_owned());
        let names = ["a.b".to_owned(), "c.d".to_owned()];
        assert_eq!(owners.claim(&key("f"), &names[..1]).unwrap(), names[..1]);
        assert_eq!(owners.claim(&key("f"), &names).unwrap(), names[1..], "the first was its own");
        assert!(matches!(owners.claim(&key("g"), &names[1..]), Err(Error::Conflict(_))));
        owners.give_back(&names[1..]);
        assert!(owners.claim(&key("g"), &names[1..]).is_ok());
    }
}
