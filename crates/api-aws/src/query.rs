//! The query protocol's two sides: a form of named members, and an answer in XML.

use std::collections::{BTreeMap, HashMap};

use base::{RequestId, Timestamp};
use http::{Response, StatusCode};
use sandbox::Body;

use crate::constraint::Violations;
use crate::failure::Failure;
use crate::protocol::{self, escape};
use crate::request::Request;

/// A request's members, from its body and its query.
pub(crate) struct Form(HashMap<String, String>);

impl Form {
    /// Reads them; of a member that came twice the first counts.
    pub(crate) fn of(request: &Request<'_>) -> Self {
        let query = request.head.uri.query().unwrap_or_default();
        let mut all = HashMap::new();
        for text in [query.as_bytes(), &request.body] {
            for (name, value) in form_urlencoded::parse(text) {
                all.entry(name.into_owned()).or_insert_with(|| value.into_owned());
            }
        }
        Self(all)
    }

    /// A member, which may be empty.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    /// A member that the model requires.
    pub(crate) fn required(&self, name: &str) -> Result<String, Failure> {
        self.text(name).ok_or_else(|| {
            let mut violations = Violations::default();
            violations.required(&camel(name), false);
            validation(violations.message().unwrap_or_default())
        })
    }

    /// A whole number.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        let number = text.parse().map(Some);
        number.map_err(|_| Failure::bad("MalformedInput", format!("{name} is not a whole number.")))
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }

    /// A list of texts: `Name.member.1`, ….
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        let item = |number: usize| self.0.get(&format!("{name}.member.{number}")).cloned();
        (1..).map_while(item).collect()
    }

    /// Tags: `Tags.member.1.Key` and its `Value`.
    pub(crate) fn tags(&self) -> BTreeMap<String, String> {
        let item = |number: usize| {
            let part = |part: &str| self.0.get(&format!("Tags.member.{number}.{part}")).cloned();
            Some((part("Key")?, part("Value").unwrap_or_default()))
        };
        (1..).map_while(item).collect()
    }
}

/// A value that the model does not allow.
pub(crate) fn validation(message: impl Into<String>) -> Failure {
    Failure::bad("ValidationError", message)
}

/// Members begin with a small letter in the words of AWS's validation.
fn camel(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|first| first.to_ascii_lowercase().to_string() + chars.as_str()).unwrap_or_default()
}

/// Elements, one after the other.
#[derive(Default)]
pub(crate) struct Xml(String);

impl Xml {
    /// An element that holds text.
    pub(crate) fn text(&mut self, name: &str, value: impl AsRef<str>) -> &mut Self {
        let value = escape(value.as_ref());
        self.0.push_str(&format!("<{name}>{value}</{name}>"));
        self
    }

    /// An element that holds text, where there is one.
    pub(crate) fn maybe(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        if let Some(value) = value {
            self.text(name, value);
        }
        self
    }

    /// An instant, to the second.
    pub(crate) fn time(&mut self, name: &str, time: Timestamp) -> &mut Self {
        let text = Timestamp(time.as_millis() / 1000 * 1000).to_rfc3339().replace(".000Z", "Z");
        self.text(name, text)
    }

    /// An element that holds others.
    pub(crate) fn within(&mut self, name: &str, inner: impl FnOnce(&mut Self)) -> &mut Self {
        self.0.push_str(&format!("<{name}>"));
        inner(self);
        self.0.push_str(&format!("</{name}>"));
        self
    }

    /// A list: each item is a `member`.
    pub(crate) fn list<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        mut each: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        self.within(name, |list| {
            for item in items {
                list.within("member", |member| each(member, item));
            }
        })
    }

    /// A list of texts.
    pub(crate) fn texts<'a>(&mut self, name: &str, items: impl IntoIterator<Item = &'a str>) -> &mut Self {
        self.within(name, |list| {
            for item in items {
                list.text("member", item);
            }
        })
    }
}

/// 200: `ActionResponse` around what `result` writes into `ActionResult`.
pub(crate) fn answer(
    action: &str,
    namespace: &str,
    id: RequestId,
    result: impl FnOnce(&mut Xml),
) -> Response<Body> {
    let mut inner = Xml::default();
    inner.within(&format!("{action}Result"), result);
    inner.within("ResponseMetadata", |meta| {
        meta.text("RequestId", id.to_string());
    });
    let text = format!("<{action}Response xmlns=\"{namespace}\">{}</{action}Response>\n", inner.0);
    protocol::answer(StatusCode::OK, "text/xml", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_nested_and_escaped() {
        let mut xml = Xml::default();
        xml.text("A", "<&>").list("L", ["x", "y"], |member, text| {
            member.text("N", text);
        });
        xml.time("T", Timestamp(1_795_160_258_123));
        assert_eq!(
            xml.0,
            "<A>&lt;&amp;&gt;</A><L><member><N>x</N></member><member><N>y</N></member></L><T>2026-11-20T07:37:38Z</T>"
        );
    }

    #[test]
    fn lists_are_numbered_from_one() {
        let form = |pairs: &[(&str, &str)]| {
            Form(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        let given = form(&[
            ("Tags.member.1.Key", "a"),
            ("Tags.member.1.Value", "1"),
            ("Tags.member.2.Key", "b"),
            ("Tags.member.4.Key", "d"),
            ("TagKeys.member.1", "x"),
            ("N", "7"),
            ("B", "True"),
        ]);
        assert_eq!(given.tags(), [("a".into(), "1".into()), ("b".into(), String::new())].into());
        assert_eq!(given.texts("TagKeys"), ["x"]);
        assert_eq!((given.integer("N").unwrap(), given.boolean("B")), (Some(7), true));
        assert!(given.integer("B").is_err());
        let missing = given.required("RoleName").unwrap_err();
        assert!(missing.code == "ValidationError" && missing.message.contains("'roleName'"), "{missing:?}");
    }
}
