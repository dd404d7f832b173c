//! What is known of a request besides who, what and on which resource: keys with one or more values.

use std::collections::BTreeMap;

/// Condition keys, in lower case as they compare, with their values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context(BTreeMap<String, Vec<String>>);

impl Context {
    /// A context of keys with one value each.
    pub fn new<K: AsRef<str>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut context = Self::default();
        for (key, value) in pairs {
            context.set(key.as_ref(), value);
        }
        context
    }

    /// Gives a key its one value.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        self.0.insert(key.to_ascii_lowercase(), vec![value.into()]);
    }

    /// Gives a key that may have several values all of them.
    pub fn set_all(&mut self, key: &str, values: Vec<String>) {
        self.0.insert(key.to_ascii_lowercase(), values);
    }

    /// All that both know; where both know a key, `more` is right.
    #[must_use]
    pub fn with(mut self, more: &Context) -> Self {
        self.0.extend(more.0.iter().map(|(key, values)| (key.clone(), values.clone())));
        self
    }

    /// The values of a key, which is in lower case.
    pub(super) fn values(&self, key: &str) -> Option<&[String]> {
        self.0.get(key).map(Vec::as_slice).filter(|values| !values.is_empty())
    }

    /// The value of a key that has one: policy variables take no lists.
    pub(super) fn single(&self, key: &str) -> Option<&str> {
        match self.values(key) {
            Some([value]) => Some(value),
            _ => None,
        }
    }
}
