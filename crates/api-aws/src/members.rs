//! Members of a JSON request, read one by one.
//!
//! Nothing is converted silently: a member of another JSON type than the model's is a
//! `SerializationException`, as with AWS. `null` is the same as absent. Members nobody asks for are ignored.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::failure::Failure;

/// The members of one JSON object, unread.
pub(crate) struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Members<'a> {
    /// Reads an object; no bytes at all are an empty one.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Failure> {
        if body.is_empty() {
            return Ok(Self(BTreeMap::new()));
        }
        let text = std::str::from_utf8(body).map_err(|_| Failure::serialization("The body is not UTF-8."))?;
        Self::object_of(text)
    }

    fn object_of(text: &'a str) -> Result<Self, Failure> {
        serde_json::from_str(text).map(Self).map_err(|error| {
            if error.is_data() {
                Failure::serialization("Expected a JSON object.")
            } else {
                // serde_json's text says where, and shows none of the body.
                Failure::serialization(format!("The body is not JSON: {error}"))
            }
        })
    }

    fn raw(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(|raw| raw.get()).filter(|text| *text != "null")
    }

    fn typed<T: Deserialize<'a>>(&self, name: &str, kind: &str) -> Result<Option<T>, Failure> {
        let Some(text) = self.raw(name) else { return Ok(None) };
        serde_json::from_str(text).map(Some).map_err(|_| wrong_type(name, text, kind))
    }

    /// A string.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        self.typed(name, "a String")
    }

    /// A string that is a condition: SDKs send what a variable holds, and the empty string means that nothing was
    /// asked for.
    pub(crate) fn condition(&self, name: &str) -> Result<Option<String>, Failure> {
        Ok(self.text(name)?.filter(|text| !text.is_empty()))
    }

    /// An integer.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, Failure> {
        self.typed(name, "an Integer")
    }

    /// A boolean.
    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, Failure> {
        self.typed(name, "a Boolean")
    }

    /// A list of strings.
    pub(crate) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, Failure> {
        self.typed(name, "a list of Strings")
    }

    /// A map from string to string.
    pub(crate) fn map(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, Failure> {
        self.typed(name, "a map of Strings")
    }

    /// A map from string to number.
    pub(crate) fn numbers(&self, name: &str) -> Result<Option<BTreeMap<String, f64>>, Failure> {
        self.typed(name, "a map of Doubles")
    }

    /// A structure.
    pub(crate) fn object(&self, name: &str) -> Result<Option<Members<'a>>, Failure> {
        let Some(text) = self.raw(name) else { return Ok(None) };
        Self::object_of(text).map(Some).map_err(|_| wrong_type(name, text, "a structure"))
    }

    /// A list of structures.
    pub(crate) fn objects(&self, name: &str) -> Result<Option<Vec<Members<'a>>>, Failure> {
        let Some(text) = self.raw(name) else { return Ok(None) };
        let kind = "a list of structures";
        let items: Vec<&'a RawValue> =
            serde_json::from_str(text).map_err(|_| wrong_type(name, text, kind))?;
        let object = |item: &&'a RawValue| {
            Self::object_of(item.get()).map_err(|_| wrong_type(name, item.get(), "a structure"))
        };
        items.iter().map(object).collect::<Result<_, _>>().map(Some)
    }

    /// A map from string to structure.
    pub(crate) fn structures(&self, name: &str) -> Result<Option<Vec<(String, Members<'a>)>>, Failure> {
        let Some(map) = self.object(name)? else { return Ok(None) };
        let structure = |(key, raw): (String, &'a RawValue)| {
            let members = Self::object_of(raw.get()).map_err(|_| wrong_type(&key, raw.get(), "a structure"));
            members.map(|members| (key, members))
        };
        map.0.into_iter().map(structure).collect::<Result<_, _>>().map(Some)
    }

    /// Bytes, base64 on the wire.
    pub(crate) fn blob(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        #[derive(Deserialize)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
        let Some(Text(text)) = self.typed(name, "a Blob")? else { return Ok(None) };
        let decoded = STANDARD.decode(text.as_bytes());
        decoded.map(Some).map_err(|_| Failure::serialization(format!("{name} is not base64.")))
    }

    /// Whatever is there.
    pub(crate) fn value(&self, name: &str) -> Result<Option<Value>, Failure> {
        self.typed(name, "a JSON value")
    }
}

fn wrong_type(name: &str, text: &str, wanted: &str) -> Failure {
    let found = match text.as_bytes().first() {
        Some(b'"') => "STRING_VALUE",
        Some(b'{') => "START_OBJECT",
        Some(b'[') => "START_ARRAY",
        Some(b't') => "TRUE_VALUE",
        Some(b'f') => "FALSE_VALUE",
        _ if text.contains(['.', 'e', 'E']) => "DECIMAL_VALUE",
        _ => "NUMBER_VALUE",
    };
    Failure::serialization(format!("{found} can not be converted to {wanted} ({name})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: std::fmt::Debug>(
        body: &str,
        read: impl Fn(&Members<'_>) -> Result<T, Failure>,
        expect: &str,
    ) {
        let outcome = Members::parse(body.as_bytes()).and_then(|members| read(&members));
        let shown = match outcome {
            Ok(value) => format!("{value:?}"),
            Err(failure) => format!("{}: {}", failure.code, failure.message),
        };
        assert_eq!(shown, expect, "{body}");
    }

    #[test]
    fn members_have_their_types() {
        check(r#"{"A":"x"}"#, |m| m.text("A"), r#"Some("x")"#);
        check(r#"{"A":null}"#, |m| m.text("A"), "None");
        check("", |m| m.text("A"), "None");
        check(r#"{"A":""}"#, |m| m.condition("A"), "None");
        check(r#"{"A":"x"}"#, |m| m.condition("A"), r#"Some("x")"#);
        check(
            r#"{"A":3}"#,
            |m| m.text("A"),
            "SerializationException: NUMBER_VALUE can not be converted to a String (A)",
        );
        check(
            r#"{"A":"3"}"#,
            |m| m.integer("A"),
            "SerializationException: STRING_VALUE can not be converted to an Integer (A)",
        );
        check(
            r#"{"A":1.5}"#,
            |m| m.integer("A"),
            "SerializationException: DECIMAL_VALUE can not be converted to an Integer (A)",
        );
        check(
            r#"{"A":[1]}"#,
            |m| m.map("A"),
            "SerializationException: START_ARRAY can not be converted to a map of Strings (A)",
        );
        check(
            r#"{"A":{"b":1}}"#,
            |m| m.map("A"),
            "SerializationException: START_OBJECT can not be converted to a map of Strings (A)",
        );
        check(
            r#"{"A":[{"B":1},{"B":2}]}"#,
            |m| m.objects("A")?.unwrap().iter().map(|each| each.integer("B")).collect::<Result<Vec<_>, _>>(),
            "[Some(1), Some(2)]",
        );
        check(
            r#"{"A":[1]}"#,
            |m| m.objects("A").map(|_| ()),
            "SerializationException: NUMBER_VALUE can not be converted to a structure (A)",
        );
        check(r#"{"A":"YWI="}"#, |m| m.blob("A"), "Some([97, 98])");
        check(r#"{"A":"%"}"#, |m| m.blob("A"), "SerializationException: A is not base64.");
        check(r#"{"A":{"B":true}}"#, |m| m.object("A").and_then(|o| o.unwrap().boolean("B")), "Some(true)");
        check(
            r#"{"A":7}"#,
            |m| m.object("A").map(|_| ()),
            "SerializationException: NUMBER_VALUE can not be converted to a structure (A)",
        );
    }

    #[test]
    fn bodies_that_are_no_object() {
        check("[]", |m| m.text("A"), "SerializationException: Expected a JSON object.");
        check(
            "{",
            |m| m.text("A"),
            "SerializationException: The body is not JSON: EOF while parsing an object at line 1 column 1",
        );
        let deep = format!("{{\"A\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        check(
            &deep,
            |m| m.value("A").map(|_| ()),
            "SerializationException: START_ARRAY can not be converted to a JSON value (A)",
        );
    }
}
