//! Aliases: names that lead calls to a version, or to two of them by weight.
//!
//! Which of two a call gets is decided by its own id: there is no counter that calls share, and a call that has to
//! look again finds the same version.

use base::{FunctionArn, RequestId};
use serde::{Deserialize, Serialize};

/// A name for a version (Lambda API: AliasConfiguration).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alias {
    /// `$LATEST` or a number.
    pub version: String,
    /// Free text.
    pub description: String,
    /// The other version that some of the calls get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional: Option<Weighted>,
    /// Changes with every change.
    pub revision_id: String,
    /// The versions that it led to before, the last one last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<String>,
}

/// How many versions an alias remembers: what a roll back may go back through.
const REMEMBERED: usize = 20;

/// A version and its part of the calls (Lambda API: AliasRoutingConfiguration).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Weighted {
    /// A published version's number.
    pub version: String,
    /// From 0 to 1.
    pub weight: f64,
}

impl Alias {
    /// The version that this call gets.
    pub(crate) fn drawn(&self, id: RequestId) -> &str {
        match &self.additional {
            Some(other) if id.fraction() < other.weight => &other.version,
            _ => &self.version,
        }
    }

    /// Leads to another version. Going back to the one before forgets the one that it leads to now, so that going back
    /// again goes further.
    pub(crate) fn lead_to(&mut self, version: String) {
        if version == self.version {
            return;
        }
        let now = std::mem::replace(&mut self.version, version);
        if self.before.last() == Some(&self.version) {
            self.before.pop();
            return;
        }
        self.before.push(now);
        if self.before.len() > REMEMBERED {
            self.before.remove(0);
        }
    }

    /// The versions that it leads to.
    pub(crate) fn versions(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.version.as_str())
            .chain(self.additional.iter().map(|other| other.version.as_str()))
    }

    /// How many of so many instances that are kept ready for the alias each of its versions gets, as its calls are
    /// divided.
    pub(crate) fn divided(&self, instances: u32) -> impl Iterator<Item = (&str, u32)> {
        // Within what there is: a weight is at most 1.
        let others = self.additional.iter().map(move |other| {
            let part = (f64::from(instances) * other.weight).round() as u32;
            (other.version.as_str(), part.min(instances))
        });
        let given: u32 = others.clone().map(|(_, part)| part).sum();
        std::iter::once((self.version.as_str(), instances - given)).chain(others)
    }
}

/// An alias with the function it belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct AliasView {
    /// The alias's ARN: its qualifier is the alias's name.
    pub arn: FunctionArn,
    /// The alias.
    pub alias: Alias,
}

/// Arguments of CreateAlias, checked for shape by the API layer.
#[derive(Debug, Clone)]
pub struct CreateAlias {
    /// Letters, digits, `-` and `_`; not digits alone.
    pub name: String,
    /// `$LATEST` or a number.
    pub version: String,
    /// Free text.
    pub description: String,
    /// Other versions with their part of the calls; one at most.
    pub additional: Vec<Weighted>,
}

/// Arguments of UpdateAlias: `None` leaves a member as it is.
#[derive(Debug, Clone, Default)]
pub struct UpdateAlias {
    /// `$LATEST` or a number.
    pub version: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Replaced as a whole; empty has all calls go to the alias's version.
    pub additional: Option<Vec<Weighted>>,
    /// The change is made only if this is the current revision.
    pub revision_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alias(weight: f64) -> Alias {
        let additional = Some(Weighted { version: "2".into(), weight });
        Alias {
            version: "1".into(),
            description: String::new(),
            additional,
            revision_id: String::new(),
            before: Vec::new(),
        }
    }

    #[test]
    fn calls_are_divided_by_weight() {
        const CALLS: u32 = 10_000;
        for weight in [0.0, 0.1, 0.5, 0.93, 1.0] {
            let alias = alias(weight);
            let second = (0..CALLS).filter(|_| alias.drawn(RequestId::random()) == "2").count();
            let part = second as f64 / f64::from(CALLS);
            assert!((part - weight).abs() <= 0.02, "{weight}: {part}");
        }
        assert_eq!(alias(0.0).drawn(RequestId::random()), "1");
        assert_eq!(alias(1.0).drawn(RequestId::random()), "2");
    }

    #[test]
    fn what_it_led_to_is_remembered() {
        let mut alias = alias(0.0);
        for version in ["2", "2", "5", "7"] {
            alias.lead_to(version.into());
        }
        assert_eq!(alias.before, ["1", "2", "5"]);
        alias.lead_to("5".into());
        alias.lead_to("2".into());
        assert_eq!((alias.version.as_str(), &alias.before[..]), ("2", &["1".to_owned()][..]));
        alias.lead_to("8".into());
        assert_eq!(alias.before, ["1", "2"]);
        (10..100).for_each(|version| alias.lead_to(version.to_string()));
        assert_eq!((alias.before.len(), alias.before.last().unwrap().as_str()), (REMEMBERED, "98"));
    }

    #[test]
    fn a_call_keeps_its_version() {
        let alias = alias(0.5);
        for id in (0..100).map(|_| RequestId::random()) {
            assert_eq!(alias.drawn(id), alias.drawn(id));
        }
    }

    #[test]
    fn instances_are_divided_as_calls_are() {
        for (weight, instances, expect) in
            [(0.1, 10, [9, 1]), (0.5, 3, [1, 2]), (0.0, 4, [4, 0]), (1.0, 4, [0, 4]), (0.1, 1, [1, 0])]
        {
            let alias = alias(weight);
            let parts: Vec<(&str, u32)> = alias.divided(instances).collect();
            assert_eq!(parts, [("1", expect[0]), ("2", expect[1])], "{weight} of {instances}");
        }
        let alone = Alias { additional: None, ..alias(0.0) };
        assert_eq!(alone.divided(7).collect::<Vec<_>>(), [("1", 7)]);
    }
}
