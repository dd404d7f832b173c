//! Statements of a mailbox's policy by their labels (SQS API: AddPermission, RemovePermission). Whole policies are an
//! attribute.

use base::AccountId;
use iam::Caller;
use serde_json::{Value, json};

use crate::attributes::{Given, Settings};
use crate::error::{invalid, missing};
use crate::model::Address;
use crate::service::Mailboxes;
use crate::{Error, Fault, limits};

const POLICY: &str = "Policy";

/// The operations that may be given to others (SQS API: AddPermission, ActionName).
const ACTIONS: &[&str] = &[
    "*",
    "ChangeMessageVisibility",
    "DeleteMessage",
    "GetQueueAttributes",
    "GetQueueUrl",
    "ListDeadLetterSourceQueues",
    "PurgeQueue",
    "ReceiveMessage",
    "SendMessage",
];

impl Mailboxes {
    /// Lets accounts do something with a mailbox.
    pub async fn add_permission(
        &self,
        caller: &Caller,
        address: &Address,
        label: &str,
        accounts: &[String],
        actions: &[String],
    ) -> Result<(), Error> {
        self.find_own(caller, address, "sqs:AddPermission")?;
        check(label, accounts, actions)?;
        let arn = address.arn(&self.inner.region);
        let principals: Vec<String> = accounts.iter().map(|id| format!("arn:aws:iam::{id}:root")).collect();
        let actions: Vec<String> = actions.iter().map(|action| format!("SQS:{action}")).collect();
        let statement = json!({
            "Sid": label,
            "Effect": "Allow",
            "Principal": { "AWS": principals },
            "Action": actions,
            "Resource": arn,
        });
        self.change_settings(address, |settings| {
            let mut document = document(settings, &arn);
            let statements = statements(&mut document);
            if statements.iter().any(|one| one["Sid"] == label) {
                return Err(invalid(label, "Label", "Already exists."));
            }
            statements.push(statement);
            Ok(with(settings, Some(document)))
        })
        .await
    }

    /// Takes a statement away; without its last one there is no policy.
    pub async fn remove_permission(
        &self,
        caller: &Caller,
        address: &Address,
        label: &str,
    ) -> Result<(), Error> {
        self.find_own(caller, address, "sqs:RemovePermission")?;
        let arn = address.arn(&self.inner.region);
        self.change_settings(address, |settings| {
            let mut document = document(settings, &arn);
            let statements = statements(&mut document);
            let before = statements.len();
            statements.retain(|one| one["Sid"] != label);
            if statements.len() == before {
                return Err(invalid(label, "Label", "can't find label on existing policy."));
            }
            let left = (!statements.is_empty()).then_some(document);
            Ok(with(settings, left))
        })
        .await
    }
}

fn check(label: &str, accounts: &[String], actions: &[String]) -> Result<(), Error> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if label.is_empty() || label.len() > limits::NAME || !label.bytes().all(plain) {
        let label = &label[..label.floor_char_boundary(100)];
        return Err(invalid(label, "Label", "It can have 1 to 80 letters, digits, hyphens and underscores."));
    }
    if accounts.is_empty() {
        return Err(missing("AWSAccountIds"));
    }
    if actions.is_empty() {
        return Err(missing("Actions"));
    }
    if actions.len() > limits::ACTIONS {
        return Err(Fault::OverLimit.because(format!(
            "{} Actions were found, maximum allowed is {}.",
            actions.len(),
            limits::ACTIONS
        )));
    }
    if let Some(id) = accounts.iter().find(|id| AccountId::parse(id).is_none()) {
        let id = &id[..id.floor_char_boundary(100)];
        return Err(invalid(id, "PrincipalId", "Unable to verify."));
    }
    match actions.iter().find(|action| !ACTIONS.contains(&action.as_str())) {
        Some(action) => {
            let action = &action[..action.floor_char_boundary(100)];
            Err(invalid(
                format!("SQS:{action}"),
                "ActionName",
                "Only the queue owner is allowed to invoke this action, or there is none of that name.",
            ))
        }
        None => Ok(()),
    }
}

fn document(settings: &Settings, arn: &str) -> Value {
    // What is kept was read before.
    let kept = settings.given.get(POLICY).and_then(|text| serde_json::from_str(text).ok());
    kept.unwrap_or_else(
        || json!({ "Version": "2012-10-17", "Id": format!("{arn}/SQSDefaultPolicy"), "Statement": [] }),
    )
}

/// The statements as a list; one alone need not be written as one.
fn statements(document: &mut Value) -> &mut Vec<Value> {
    let statement = &mut document["Statement"];
    if !statement.is_array() {
        *statement = Value::Array(vec![statement.take()]);
    }
    match statement {
        Value::Array(statements) => statements,
        _ => unreachable!("it was made a list just now"),
    }
}

fn with(settings: &Settings, document: Option<Value>) -> Given {
    let mut given = settings.given.clone();
    match document {
        Some(document) => drop(given.insert(POLICY.to_owned(), document.to_string())),
        None => drop(given.remove(POLICY)),
    }
    given
}
