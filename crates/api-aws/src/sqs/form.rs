//! A form as the JSON that the other protocol would have sent: `Attribute.1.Name` and `Attribute.1.Value` become a member of
//! `Attributes`, and so on.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::request::Request;

/// Members of a form; the largest that there is, ten messages with ten attributes, has some four hundred.
const MEMBERS: usize = 1000;

/// Members that are numbers.
const NUMBERS: &[&str] = &[
    "DelaySeconds",
    "MaxNumberOfMessages",
    "MaxNumberOfMessagesPerSecond",
    "MaxResults",
    "VisibilityTimeout",
    "WaitTimeSeconds",
];

/// Lists of texts, and what they are called in JSON.
const LISTS: &[(&str, &str)] = &[
    ("AWSAccountId", "AWSAccountIds"),
    ("ActionName", "Actions"),
    ("AttributeName", "AttributeNames"),
    ("MessageAttributeName", "MessageAttributeNames"),
    ("MessageSystemAttributeName", "MessageSystemAttributeNames"),
    ("TagKey", "TagKeys"),
];

/// A member, which may have others below it.
#[derive(Default)]
struct Node {
    text: Option<String>,
    below: BTreeMap<String, Node>,
}

/// The request's form and query, as JSON.
pub(super) fn read(request: &Request<'_>) -> Result<Bytes, Failure> {
    let query = request.head.uri.query().unwrap_or_default();
    let pairs = form_urlencoded::parse(query.as_bytes()).chain(form_urlencoded::parse(&request.body));
    let object = object(&tree(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())))?)?;
    Ok(Value::Object(object).to_string().into())
}

fn tree(pairs: impl Iterator<Item = (String, String)>) -> Result<Node, Failure> {
    let mut root = Node::default();
    for (count, (name, value)) in pairs.enumerate() {
        if count >= MEMBERS {
            return Err(malformed(format!("A form has at most {MEMBERS} members.")));
        }
        // The deepest that there is: Entry.1.MessageAttribute.1.Value.StringValue
        let place =
            name.splitn(6, '.').fold(&mut root, |node, part| node.below.entry(part.to_owned()).or_default());
        place.text.get_or_insert(value);
    }
    Ok(root)
}

fn malformed(message: String) -> Failure {
    Failure::bad("MalformedInput", message)
}

impl Node {
    /// What stands under 1, 2, …, in this order.
    fn items(&self) -> impl Iterator<Item = &Node> {
        let mut items: Vec<(u32, &Node)> =
            self.below.iter().filter_map(|(name, node)| Some((name.parse().ok()?, node))).collect();
        items.sort_by_key(|(number, _)| *number);
        items.into_iter().map(|(_, node)| node)
    }

    fn text_of(&self, name: &str) -> Option<&str> {
        self.below.get(name)?.text.as_deref()
    }
}

fn object(node: &Node) -> Result<Map<String, Value>, Failure> {
    let mut out = Map::new();
    for (name, member) in &node.below {
        match name.as_str() {
            "Attribute" => drop(out.insert("Attributes".into(), texts_by(member, "Name", "Value"))),
            "Tag" => {
                // CreateQueue calls them `tags`.
                out.insert("tags".into(), texts_by(member, "Key", "Value"));
                out.insert("Tags".into(), texts_by(member, "Key", "Value"));
            }
            "MessageAttribute" | "MessageSystemAttribute" => {
                out.insert(format!("{name}s"), attributes(member));
            }
            entry if entry.ends_with("RequestEntry") => {
                let entries = member.items().map(|item| object(item).map(Value::Object));
                out.insert("Entries".into(), Value::Array(entries.collect::<Result<_, _>>()?));
            }
            name => {
                if let Some((_, list)) = LISTS.iter().find(|(form, _)| *form == name) {
                    let texts = member.items().filter_map(|item| item.text.clone()).map(Value::String);
                    out.insert((*list).to_owned(), Value::Array(texts.collect()));
                } else if let Some(text) = &member.text {
                    out.insert(name.to_owned(), scalar(name, text)?);
                }
            }
        }
    }
    Ok(out)
}

fn scalar(name: &str, text: &str) -> Result<Value, Failure> {
    if !NUMBERS.contains(&name) {
        return Ok(Value::String(text.to_owned()));
    }
    let number: Result<i64, _> = text.parse();
    number.map(Value::from).map_err(|_| malformed(format!("{name} is not a whole number.")))
}

/// A map of texts that is written as a list of pairs.
fn texts_by(node: &Node, key: &str, value: &str) -> Value {
    let pair = |item: &Node| {
        let value = item.text_of(value).unwrap_or_default();
        Some((item.text_of(key)?.to_owned(), Value::String(value.to_owned())))
    };
    Value::Object(node.items().filter_map(pair).collect())
}

/// Attributes of messages: a name, and a structure of texts.
fn attributes(node: &Node) -> Value {
    let pair = |item: &Node| {
        let value = item.below.get("Value")?;
        let parts =
            value.below.iter().filter_map(|(name, part)| Some((name.clone(), part.text.clone()?.into())));
        Some((item.text_of("Name")?.to_owned(), Value::Object(parts.collect())))
    };
    Value::Object(node.items().filter_map(pair).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(form: &str, expect: &str) {
        let pairs = form_urlencoded::parse(form.as_bytes());
        let node = tree(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())));
        let text = match node.and_then(|node| object(&node)) {
            Ok(object) => Value::Object(object).to_string(),
            Err(failure) => failure.code.into_owned(),
        };
        assert_eq!(text, expect, "{form}");
    }

    #[test]
    fn forms_become_what_json_would_have_said() {
        check("QueueName=q&DelaySeconds=5", r#"{"DelaySeconds":5,"QueueName":"q"}"#);
        check("DelaySeconds=x", "MalformedInput");
        check(
            "Attribute.1.Name=a&Attribute.1.Value=1&Attribute.2.Name=b",
            r#"{"Attributes":{"a":"1","b":""}}"#,
        );
        check(
            "AttributeName.2=b&AttributeName.10=c&AttributeName.1=a",
            r#"{"AttributeNames":["a","b","c"]}"#,
        );
        check("Tag.1.Key=k&Tag.1.Value=v", r#"{"tags":{"k":"v"},"Tags":{"k":"v"}}"#);
        check(
            "MessageAttribute.1.Name=n&MessageAttribute.1.Value.DataType=String&MessageAttribute.1.Value.StringValue=x",
            r#"{"MessageAttributes":{"n":{"DataType":"String","StringValue":"x"}}}"#,
        );
        check(
            "SendMessageBatchRequestEntry.1.Id=i&SendMessageBatchRequestEntry.1.MessageAttribute.1.Name=n\
             &SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.DataType=Number",
            r#"{"Entries":[{"Id":"i","MessageAttributes":{"n":{"DataType":"Number"}}}]}"#,
        );
        check(&"a=b&".repeat(1001), "MalformedInput");
    }
}
