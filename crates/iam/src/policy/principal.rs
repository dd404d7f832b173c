//! Who is asking, and whether a `Principal` element means them.

use base::AccountId;

/// Who is asking, as policies name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Nobody that was authenticated.
    Anonymous,
    /// The account itself.
    Root {
        /// Which.
        account: AccountId,
    },
    /// A user.
    User {
        /// Whose.
        account: AccountId,
        /// `arn:aws:iam::…:user/…`
        arn: String,
    },
    /// A session of a role.
    Session {
        /// Whose.
        account: AccountId,
        /// `arn:aws:iam::…:role/…`
        role: String,
        /// `arn:aws:sts::…:assumed-role/…/…`
        arn: String,
    },
    /// A service: `events.amazonaws.com`.
    Service {
        /// Its name.
        name: String,
    },
}

impl Who {
    /// The account that this identity belongs to, if to any.
    pub fn account(&self) -> Option<&AccountId> {
        match self {
            Self::Root { account } | Self::User { account, .. } | Self::Session { account, .. } => {
                Some(account)
            }
            Self::Anonymous | Self::Service { .. } => None,
        }
    }
}

/// How closely an element names somebody. What is closer needs less beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Named {
    /// Not at all.
    No,
    /// By the account: it is up to the account's own policies.
    ByAccount,
    /// By the role, or everybody: permission boundaries and session policies still take away.
    ByRole,
    /// By itself.
    Itself,
}

/// A `Principal` or `NotPrincipal` element.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Principals {
    pub(super) negated: bool,
    pub(super) everybody: bool,
    /// Account ids, `…:root` ARNs and ARNs of users, roles and sessions.
    pub(super) aws: Vec<String>,
    pub(super) services: Vec<String>,
    /// Identity providers: kept so that documents that name them are documents; nobody is one yet.
    pub(super) federated: Vec<String>,
}

impl Principals {
    /// How the element means `who`. `NotPrincipal` means all whom it does not name themselves.
    pub(super) fn names(&self, who: &Who) -> Named {
        let named = self.listed(who);
        match self.negated {
            false => named,
            true if named >= Named::ByRole => Named::No,
            true => Named::ByRole,
        }
    }

    fn listed(&self, who: &Who) -> Named {
        let everybody = if self.everybody { everybodys(who) } else { Named::No };
        let by_name = match who {
            Who::Anonymous => Named::No,
            Who::Service { name } if self.services.contains(name) => Named::Itself,
            Who::Service { .. } => Named::No,
            _ => self.aws.iter().map(|listed| means(listed, who)).max().unwrap_or(Named::No),
        };
        everybody.max(by_name)
    }
}

fn everybodys(who: &Who) -> Named {
    if matches!(who, Who::Session { .. }) { Named::ByRole } else { Named::Itself }
}

fn means(listed: &str, who: &Who) -> Named {
    let own = match who {
        Who::User { arn, .. } | Who::Session { arn, .. } => arn == listed,
        _ => false,
    };
    if own {
        return Named::Itself;
    }
    if matches!(who, Who::Session { role, .. } if role == listed) {
        return Named::ByRole;
    }
    match who.account() {
        Some(account) if is_account(listed, account) => match who {
            Who::Root { .. } => Named::Itself,
            _ => Named::ByAccount,
        },
        _ => Named::No,
    }
}

/// `123456789012` or `arn:aws:iam::123456789012:root`.
fn is_account(listed: &str, account: &AccountId) -> bool {
    let inner = listed.strip_prefix("arn:aws:iam::").and_then(|rest| rest.strip_suffix(":root"));
    inner.unwrap_or(listed) == account.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> AccountId {
        AccountId::parse("111111111111").unwrap()
    }

    fn aws(listed: &str) -> Principals {
        Principals { aws: vec![listed.to_owned()], ..Principals::default() }
    }

    #[test]
    fn a_session_is_named_in_three_ways() {
        let session = Who::Session {
            account: account(),
            role: "arn:aws:iam::111111111111:role/worker".into(),
            arn: "arn:aws:sts::111111111111:assumed-role/worker/one".into(),
        };
        for (listed, expect) in [
            ("arn:aws:sts::111111111111:assumed-role/worker/one", Named::Itself),
            ("arn:aws:iam::111111111111:role/worker", Named::ByRole),
            ("111111111111", Named::ByAccount),
            ("arn:aws:iam::111111111111:root", Named::ByAccount),
            ("arn:aws:iam::222222222222:root", Named::No),
            ("arn:aws:iam::111111111111:role/work", Named::No),
            ("arn:aws:iam::111111111111:role/*", Named::No),
        ] {
            assert_eq!(aws(listed).names(&session), expect, "{listed}");
        }
    }

    #[test]
    fn everybody_is_everybody_and_services_are_services() {
        let all = Principals { everybody: true, ..Principals::default() };
        assert_eq!(all.names(&Who::Anonymous), Named::Itself);
        let service = Who::Service { name: "events.amazonaws.com".into() };
        assert_eq!(all.names(&service), Named::Itself);
        assert_eq!(aws("events.amazonaws.com").names(&service), Named::No);
        let listed = Principals { services: vec!["events.amazonaws.com".into()], ..Principals::default() };
        assert_eq!(listed.names(&service), Named::Itself);
        assert_eq!(listed.names(&Who::Anonymous), Named::No);
    }

    #[test]
    fn not_principal_spares_only_whom_it_names() {
        let user = |name: &str| Who::User {
            account: account(),
            arn: format!("arn:aws:iam::111111111111:user/{name}"),
        };
        let but_ann = Principals { negated: true, ..aws("arn:aws:iam::111111111111:user/ann") };
        assert_eq!(but_ann.names(&user("ann")), Named::No);
        assert_ne!(but_ann.names(&user("bob")), Named::No);
        let but_root = Principals { negated: true, ..aws("111111111111") };
        assert_eq!(but_root.names(&Who::Root { account: account() }), Named::No);
        assert_ne!(but_root.names(&user("ann")), Named::No, "the account's name spares the account only");
    }
}
