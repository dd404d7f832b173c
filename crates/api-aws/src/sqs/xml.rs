//! An answer's JSON shape as the XML of the older protocol: lists and maps without an element around them.

use serde_json::{Map, Value};

use crate::query::Xml;

/// Writes what stands inside `ActionResult`.
pub(super) fn write(out: &mut Xml, action: &str, answer: &Value) {
    if let Value::Object(members) = answer {
        structure(out, action, members);
    }
}

fn structure(out: &mut Xml, action: &str, members: &Map<String, Value>) {
    for (name, value) in members {
        member(out, action, name, value);
    }
}

fn member(out: &mut Xml, action: &str, name: &str, value: &Value) {
    match (name, value) {
        ("Attributes", Value::Object(pairs)) => texts(out, "Attribute", "Name", pairs),
        ("Tags", Value::Object(pairs)) => texts(out, "Tag", "Key", pairs),
        ("MessageAttributes", Value::Object(pairs)) => {
            for (name, value) in pairs {
                out.within("MessageAttribute", |out| {
                    out.text("Name", name).within("Value", |out| write(out, action, value));
                });
            }
        }
        (name, Value::Array(items)) => {
            let element = element(action, name);
            for item in items {
                match item {
                    Value::Object(members) => {
                        out.within(&element, |out| structure(out, action, members));
                    }
                    scalar => drop(out.text(&element, text(scalar))),
                }
            }
        }
        (name, scalar) => drop(out.text(name, text(scalar))),
    }
}

/// What the items of a list are called.
fn element(action: &str, list: &str) -> String {
    match list {
        "QueueUrls" | "queueUrls" => "QueueUrl".to_owned(),
        "Messages" => "Message".to_owned(),
        "Failed" => "BatchResultErrorEntry".to_owned(),
        // Successful, Results
        _ => format!("{action}ResultEntry"),
    }
}

fn texts(out: &mut Xml, element: &str, key: &str, pairs: &Map<String, Value>) {
    for (name, value) in pairs {
        out.within(element, |out| {
            out.text(key, name).text("Value", text(value));
        });
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
