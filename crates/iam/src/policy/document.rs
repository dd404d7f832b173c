//! Reading a policy document: strictly, so that a slip of the pen never allows more than was meant.

use std::collections::BTreeMap;
use std::fmt::Formatter;
use std::marker::PhantomData;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Context;
use super::condition::Condition;
use super::pattern::Pattern;
use super::principal::{Named, Principals, Who};

/// Where a document stands, which decides what it must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// With an identity: whom it is about is given.
    Identity,
    /// With a resource: it says who.
    Resource,
    /// With a role, about who may take it on: the resource is given.
    Trust,
}

/// Why a text is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// A policy document, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub(super) statements: Vec<Statement>,
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) sid: Option<String>,
    pub(super) allow: bool,
    principals: Option<Principals>,
    actions: Scope,
    resources: Option<Scope>,
    conditions: Vec<Condition>,
}

/// What an `Action`, `NotAction`, `Resource` or `NotResource` element covers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Scope {
    negated: bool,
    patterns: Vec<Pattern>,
}

impl Statement {
    /// How it names whoever asks; a policy of an identity is about that identity.
    pub(super) fn names(&self, who: &Who) -> Named {
        self.principals.as_ref().map_or(Named::Itself, |principals| principals.names(who))
    }

    /// Whether it speaks of this action on this resource in these circumstances.
    pub(super) fn covers(&self, action: &str, resource: &str, context: &Context) -> bool {
        let acts = self.actions.patterns.iter().any(|p| p.matches_any_case(action, context));
        let on = self
            .resources
            .as_ref()
            .is_none_or(|scope| scope.patterns.iter().any(|p| p.matches(resource, context)) != scope.negated);
        acts != self.actions.negated && on && self.conditions.iter().all(|c| c.holds(context))
    }
}

impl Policy {
    /// Reads a document.
    pub fn parse(text: &str, kind: Kind) -> Result<Self, Malformed> {
        let document: Document =
            serde_json::from_str(text).map_err(|_| Malformed("Syntax errors in policy.".into()))?;
        let variables = match document.version.as_deref() {
            Some("2012-10-17") => true,
            None | Some("2008-10-17") => false,
            Some(_) => return Err(Malformed("The policy must contain a valid version string.".into())),
        };
        let statements = document.statements.into_vec();
        if statements.is_empty() {
            return Err(Malformed("Syntax errors in policy.".into()));
        }
        let statements: Vec<Statement> =
            statements.into_iter().map(|raw| raw.read(kind, variables)).collect::<Result<_, _>>()?;
        let mut sids: Vec<&str> = statements.iter().filter_map(|one| one.sid.as_deref()).collect();
        sids.sort_unstable();
        if sids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Malformed("Statement IDs (SID) in a single policy must be unique.".into()));
        }
        Ok(Self { statements })
    }

    /// What an administrator has: everything, on everything.
    pub fn everything() -> Self {
        let all = || Scope { negated: false, patterns: vec![Pattern::glob("*", false)] };
        let statement = Statement {
            sid: None,
            allow: true,
            principals: None,
            actions: all(),
            resources: Some(all()),
            conditions: Vec::new(),
        };
        Self { statements: vec![statement] }
    }

    /// Allows nothing: stands for a policy that is gone.
    pub fn nothing() -> Self {
        Self { statements: Vec::new() }
    }

    /// Whether a statement allows a service this action, whatever its conditions: those are about a request, and
    /// this is asked where there is none yet.
    pub fn names_service(&self, action: &str, service: &str) -> bool {
        let who = Who::Service { name: service.to_owned() };
        let covers = |one: &&Statement| {
            one.actions.patterns.iter().any(|p| p.matches_any_case(action, &Context::default()))
                != one.actions.negated
                && one.names(&who) != Named::No
        };
        self.statements.iter().filter(covers).any(|one| one.allow)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "Version")]
    version: Option<String>,
    #[serde(rename = "Id")]
    _id: Option<String>,
    #[serde(rename = "Statement")]
    statements: OneOrMany<RawStatement>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RawStatement {
    sid: Option<String>,
    effect: String,
    principal: Option<RawPrincipal>,
    not_principal: Option<RawPrincipal>,
    action: Option<OneOrMany<String>>,
    not_action: Option<OneOrMany<String>>,
    resource: Option<OneOrMany<String>>,
    not_resource: Option<OneOrMany<String>>,
    condition: Option<Unique<Unique<OneOrMany<Scalar>>>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawPrincipal {
    Everybody(String),
    Listed(Unique<OneOrMany<String>>),
}

/// An object without a name twice: the first would be lost, and with it what it demands.
struct Unique<T>(BTreeMap<String, T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Unique<T>;

            fn expecting(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let mut all = BTreeMap::new();
                while let Some((name, value)) = members.next_entry::<String, T>()? {
                    if all.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name is there twice"));
                    }
                }
                Ok(Unique(all))
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

impl<T> IntoIterator for Unique<T> {
    type Item = (String, T);
    type IntoIter = std::collections::btree_map::IntoIter<String, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<T> Default for Unique<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// Condition values are texts; numbers and booleans are as good.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Boolean(bool),
    Number(serde_json::Number),
}

impl Scalar {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Boolean(value) => value.to_string(),
            Self::Number(number) => number.to_string(),
        }
    }
}

impl RawStatement {
    fn read(self, kind: Kind, variables: bool) -> Result<Statement, Malformed> {
        let allow = match self.effect.as_str() {
            "Allow" => true,
            "Deny" => false,
            other => return Err(Malformed(format!("Invalid effect: {other}."))),
        };
        let actions = scope(self.action, self.not_action, "Action", |text| action(text, variables))?;
        let resources = scope(self.resource, self.not_resource, "Resource", |text| {
            resource(text)
                .then(|| Pattern::glob(text, variables))
                .ok_or_else(|| Malformed(format!("Resource {text} must be in ARN format or \"*\".")))
        })?;
        let principals = principals(self.principal, self.not_principal)?;
        match (kind, principals.is_some(), resources.is_some()) {
            (Kind::Identity, true, _) => {
                return Err(Malformed("Policy document should not specify a principal.".into()));
            }
            (Kind::Resource | Kind::Trust, false, _) => {
                return Err(Malformed("Missing required field Principal".into()));
            }
            (Kind::Trust, _, true) => return Err(Malformed("Has prohibited field Resource".into())),
            (Kind::Identity | Kind::Resource, _, false) => {
                return Err(Malformed("Policy statement must contain resources.".into()));
            }
            _ => {}
        }
        let mut conditions = Vec::new();
        for (operator, keys) in self.condition.unwrap_or_default() {
            for (key, values) in keys {
                let values: Vec<String> = values.into_vec().into_iter().map(Scalar::into_text).collect();
                conditions.push(Condition::read(&operator, &key, &values, variables).map_err(Malformed)?);
            }
        }
        let actions = actions.ok_or_else(|| Malformed("Policy statement must contain actions.".into()))?;
        // An empty Sid is none.
        let sid = self.sid.filter(|sid| !sid.is_empty());
        Ok(Statement { sid, allow, principals, actions, resources, conditions })
    }
}

/// One of an element and its negation at most.
fn scope(
    plain: Option<OneOrMany<String>>,
    negated: Option<OneOrMany<String>>,
    name: &str,
    read: impl Fn(&str) -> Result<Pattern, Malformed>,
) -> Result<Option<Scope>, Malformed> {
    let (texts, negated) = match (plain, negated) {
        (None, None) => return Ok(None),
        (Some(texts), None) => (texts, false),
        (None, Some(texts)) => (texts, true),
        (Some(_), Some(_)) => {
            return Err(Malformed(format!("Statement has both {name} and Not{name}.")));
        }
    };
    let texts = texts.into_vec();
    if texts.is_empty() {
        return Err(Malformed(format!("{name} must not be empty.")));
    }
    let patterns = texts.iter().map(|text| read(text)).collect::<Result<_, _>>()?;
    Ok(Some(Scope { negated, patterns }))
}

/// `*` or `vendor:Name`, both with wildcards.
fn action(text: &str, variables: bool) -> Result<Pattern, Malformed> {
    let legal = text == "*"
        || text.split_once(':').is_some_and(|(vendor, name)| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '*' | '?' | '_');
            !vendor.is_empty() && !name.is_empty() && vendor.chars().all(plain) && name.chars().all(plain)
        });
    if !legal {
        return Err(Malformed(
            "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.".into(),
        ));
    }
    Ok(Pattern::glob(text, variables))
}

fn resource(text: &str) -> bool {
    text == "*" || text.starts_with("arn:") || text.starts_with("${")
}

fn principals(
    plain: Option<RawPrincipal>,
    negated: Option<RawPrincipal>,
) -> Result<Option<Principals>, Malformed> {
    let (raw, negated) = match (plain, negated) {
        (None, None) => return Ok(None),
        (Some(raw), None) => (raw, false),
        (None, Some(raw)) => (raw, true),
        (Some(_), Some(_)) => {
            return Err(Malformed("Statement has both Principal and NotPrincipal.".into()));
        }
    };
    let invalid = || Malformed("Invalid principal in policy.".into());
    let mut found = Principals { negated, ..Principals::default() };
    let listed = match raw {
        RawPrincipal::Everybody(text) if text == "*" => {
            found.everybody = true;
            return Ok(Some(found));
        }
        RawPrincipal::Everybody(_) => return Err(invalid()),
        RawPrincipal::Listed(listed) => listed,
    };
    for (kind, texts) in listed {
        let texts = texts.into_vec();
        match kind.as_str() {
            "AWS" => {
                found.everybody |= texts.iter().any(|text| text == "*");
                let named: Vec<String> = texts.into_iter().filter(|text| text != "*").collect();
                if !named.iter().all(|text| is_principal(text)) {
                    return Err(invalid());
                }
                found.aws.extend(named);
            }
            "Service" => found.services.extend(texts),
            "Federated" | "CanonicalUser" => found.federated.extend(texts),
            _ => return Err(invalid()),
        }
    }
    Ok(Some(found))
}

/// An account, or something of an account's: no part of it is a pattern.
fn is_principal(text: &str) -> bool {
    let account = |text: &str| base::AccountId::parse(text).is_some();
    let of_account =
        |rest: &str| rest.split_once(':').is_some_and(|(id, name)| account(id) && !name.is_empty());
    let arn = text.strip_prefix("arn:aws:iam::").or_else(|| text.strip_prefix("arn:aws:sts::"));
    (account(text) || arn.is_some_and(of_account)) && !text.contains(['*', '?'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str, kind: Kind, said: &str) {
        let error = Policy::parse(text, kind).unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }

    #[test]
    fn documents_are_read_strictly() {
        let statement = r#""Effect":"Allow","Action":"s3:GetObject","Resource":"*""#;
        for (text, said) in [
            ("", "Syntax"),
            ("[]", "Syntax"),
            (r#"{"Version":"2012-10-17"}"#, "Syntax"),
            (r#"{"Version":"2012-10-17","Statement":[]}"#, "Syntax"),
            (&format!(r#"{{"Version":"2020-01-01","Statement":{{{statement}}}}}"#), "version"),
            (&format!(r#"{{"Statement":{{{statement},"Effect":"Deny"}}}}"#), "Syntax"),
            (&format!(r#"{{"Statement":{{{statement},"Efect":"Deny"}}}}"#), "Syntax"),
            (&format!(r#"{{"Statement":{{{statement},"NotAction":"a:B"}}}}"#), "both Action"),
            (&format!(r#"{{"Statement":{{{statement},"Principal":"*"}}}}"#), "should not specify"),
            (
                &format!(
                    r#"{{"Statement":{{{statement},"Condition":{{"Bool":{{"a":true}},"Bool":{{"b":true}}}}}}}}"#
                ),
                "Syntax",
            ),
            (
                &format!(r#"{{"Statement":{{{statement},"Condition":{{"Bool":{{"a":true,"a":false}}}}}}}}"#),
                "Syntax",
            ),
            (r#"{"Statement":{"Effect":"allow","Action":"a:B","Resource":"*"}}"#, "effect"),
            (r#"{"Statement":{"Effect":"Allow","Action":"GetObject","Resource":"*"}}"#, "vendor"),
            (r#"{"Statement":{"Effect":"Allow","Action":"a:B","Resource":"bucket"}}"#, "ARN"),
            (r#"{"Statement":{"Effect":"Allow","Resource":"*"}}"#, "actions"),
            (r#"{"Statement":{"Effect":"Allow","Action":[],"Resource":"*"}}"#, "empty"),
            (r#"{"Statement":{"Effect":"Allow","Action":"a:B"}}"#, "resources"),
        ] {
            refused(text, Kind::Identity, said);
        }
        let twice = format!(r#"{{"Statement":[{{"Sid":"x",{statement}}},{{"Sid":"x",{statement}}}]}}"#);
        refused(&twice, Kind::Identity, "unique");
    }

    #[test]
    fn trust_names_principals_and_no_resources() {
        let trust = |principal: &str| {
            format!(
                r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{principal},"Action":"sts:AssumeRole"}}]}}"#
            )
        };
        let policy = Policy::parse(&trust(r#"{"Service":"lambda.amazonaws.com"}"#), Kind::Trust).unwrap();
        assert!(policy.names_service("sts:AssumeRole", "lambda.amazonaws.com"));
        assert!(!policy.names_service("sts:AssumeRole", "ec2.amazonaws.com"));
        assert!(!policy.names_service("sts:TagSession", "lambda.amazonaws.com"));
        for bad in [
            r#""me""#,
            r#"{"AWS":"arn:aws:iam::1:root"}"#,
            r#"{"AWS":"arn:aws:iam::111111111111:user/*"}"#,
            r#"{"Us":"x"}"#,
        ] {
            refused(&trust(bad), Kind::Trust, "Invalid principal");
        }
        refused(r#"{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole"}}"#, Kind::Trust, "Principal");
        let with =
            r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole","Resource":"*"}}"#;
        refused(with, Kind::Trust, "prohibited");
    }
}
