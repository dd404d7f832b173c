//! Whether calling a function writes to the very group whose events it is called with.

use std::collections::HashSet;

use super::Subscription;
use crate::service::GroupName;

/// Follows what the function writes to, and what is called for that, and so on. `log_group` knows where a function of
/// the account writes.
pub(super) fn leads_back(
    group: &GroupName,
    function: &str,
    all: &[Subscription],
    log_group: &dyn Fn(&str) -> Option<String>,
) -> bool {
    let mut seen = HashSet::new();
    let mut called = vec![function];
    while let Some(function) = called.pop() {
        let Some(written) = log_group(function) else { continue };
        if written == group.name {
            return true;
        }
        let name = GroupName { account: group.account.clone(), name: written };
        if !seen.contains(&name) {
            called.extend(all.iter().filter(|each| each.group == name).map(|each| each.destination.as_str()));
            seen.insert(name);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::AccountId;

    fn group(name: &str) -> GroupName {
        GroupName { account: AccountId::parse("123456789012").unwrap(), name: name.to_owned() }
    }

    fn subscription(from: &str, to: &str) -> Subscription {
        Subscription {
            group: group(from),
            name: "f".to_owned(),
            pattern: String::new(),
            destination: to.to_owned(),
            distribution: "ByLogStream".to_owned(),
            created: 0,
            place: String::new(),
        }
    }

    #[test]
    fn circles_are_found() {
        // A function `x` writes to the group `g-x`.
        let writes = |function: &str| (function != "none").then(|| format!("g-{function}"));
        let all = [
            subscription("g-a", "b"),
            subscription("g-b", "c"),
            subscription("g-x", "y"),
            subscription("g-y", "x"),
            subscription("other", "a"),
        ];
        for (from, to, expect) in [
            ("g-a", "a", true),
            ("g-c", "a", true),
            ("g-c", "b", true),
            ("other", "a", false),
            ("g-d", "a", false),
            ("g-a", "none", false),
            // A circle that this one is not part of, as there was none when its parts were made.
            ("g-z", "x", false),
        ] {
            assert_eq!(leads_back(&group(from), to, &all, &writes), expect, "{from} → {to}");
        }
    }
}
