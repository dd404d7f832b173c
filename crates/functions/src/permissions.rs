//! Resource policies: who may do what with a function, a version or an alias, beside what identities may by
//! themselves (Lambda: Using resource-based policies).
//!
//! Each name that a function can be called by has a policy of its own: the function's does not cover its versions,
//! nor a version's the function. A document is kept as it is answered; what it means is read once, when it is made.

use std::collections::BTreeMap;

use base::FunctionArn;
use iam::policy::{Kind, Policy};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::model::{Grant, LATEST, UrlAuth};
use crate::{Error, limits};

/// A function's policies, by qualifier; the function's own by the empty name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Permissions(BTreeMap<String, ResourcePolicy>);

/// One policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Row", into = "Row")]
pub(crate) struct ResourcePolicy {
    pub(crate) revision_id: String,
    document: Value,
    pub(crate) policy: Policy,
}

/// A policy in the database.
#[derive(Serialize, Deserialize)]
struct Row {
    revision_id: String,
    document: Value,
}

impl TryFrom<Row> for ResourcePolicy {
    type Error = Error;
    fn try_from(row: Row) -> Result<Self, Error> {
        Self::new(row.document, row.revision_id)
    }
}

impl From<ResourcePolicy> for Row {
    fn from(policy: ResourcePolicy) -> Self {
        Self { revision_id: policy.revision_id, document: policy.document }
    }
}

/// Which policy a qualifier means. `$LATEST` is what the function's own name calls.
fn slot(qualifier: Option<&str>) -> &str {
    qualifier.filter(|qualifier| *qualifier != LATEST).unwrap_or_default()
}

impl Permissions {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The policy of what is called by this qualifier.
    pub(crate) fn of(&self, qualifier: Option<&str>) -> Option<&ResourcePolicy> {
        self.0.get(slot(qualifier))
    }

    /// Puts a policy in place, or takes it away.
    pub(crate) fn set(&mut self, qualifier: Option<&str>, policy: Option<ResourcePolicy>) {
        match policy {
            Some(policy) => drop(self.0.insert(slot(qualifier).to_owned(), policy)),
            None => drop(self.0.remove(slot(qualifier))),
        }
    }

    /// Forgets the policies of names that are no more.
    pub(crate) fn keep(&mut self, exists: impl Fn(&str) -> bool) {
        self.0.retain(|qualifier, _| qualifier.is_empty() || exists(qualifier));
    }
}

impl ResourcePolicy {
    /// Reads a document.
    pub(crate) fn new(document: Value, revision_id: String) -> Result<Self, Error> {
        let text = document.to_string();
        if text.len() > limits::POLICY_BYTES {
            return Err(Error::PolicyTooLong(format!(
                "The final policy size ({}) is bigger than the limit ({}).",
                text.len(),
                limits::POLICY_BYTES
            )));
        }
        let policy = Policy::parse(&text, Kind::Resource);
        let policy =
            policy.map_err(|problem| Error::Invalid(format!("The policy is malformed: {problem}")))?;
        Ok(Self { revision_id, document, policy })
    }

    /// The document.
    pub(crate) fn text(&self) -> String {
        self.document.to_string()
    }

    /// The same with one statement more; the first makes the policy.
    pub(crate) fn with(before: Option<&Self>, statement: Value, revision_id: String) -> Result<Self, Error> {
        let mut document = before.map_or_else(
            || json!({ "Version": "2012-10-17", "Id": "default", "Statement": [] }),
            |before| before.document.clone(),
        );
        let sid = sid(&statement).unwrap_or_default().to_owned();
        let statements = statements_mut(&mut document);
        if statements.iter().any(|one| self::sid(one) == Some(&sid)) {
            return Err(Error::AlreadyExists(format!(
                "The statement id ({sid}) provided already exists. Please provide a new statement id, or remove the \
                 existing statement."
            )));
        }
        statements.push(statement);
        Self::new(document, revision_id)
    }

    /// The same without a statement; without its last one there is no policy.
    pub(crate) fn without(&self, id: &str, revision_id: String) -> Result<Option<Self>, Error> {
        let mut document = self.document.clone();
        let statements = statements_mut(&mut document);
        let before = statements.len();
        statements.retain(|one| sid(one) != Some(id));
        let left = statements.len();
        if left == before {
            return Err(missing_statement(id));
        }
        (left > 0).then(|| Self::new(document, revision_id)).transpose()
    }
}

pub(crate) fn missing_statement(id: &str) -> Error {
    Error::NotFound(format!("Statement {id} is not found in resource policy."))
}

fn sid(statement: &Value) -> Option<&str> {
    statement.get("Sid").and_then(Value::as_str)
}

/// The statements as a list; one alone need not be written as one.
fn statements_mut(document: &mut Value) -> &mut Vec<Value> {
    let statement = &mut document["Statement"];
    if !statement.is_array() {
        *statement = Value::Array(vec![statement.take()]);
    }
    match statement {
        Value::Array(statements) => statements,
        // It was made one just now.
        _ => unreachable!("a statement that is no list was put into one"),
    }
}

/// The statement that AddPermission adds, member for member as Lambda writes it.
pub(crate) fn statement(grant: &Grant, resource: &FunctionArn) -> Result<Value, Error> {
    let url = grant.action == "lambda:InvokeFunctionUrl";
    if grant.url_auth.is_some() && !url {
        return Err(Error::Invalid(
            "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action".into(),
        ));
    }
    if grant.via_url.is_some() && grant.action != "lambda:InvokeFunction" {
        return Err(Error::Invalid(
            "InvokedViaFunctionUrl is only supported for lambda:InvokeFunction action".into(),
        ));
    }
    let mut statement = json!({
        "Sid": grant.statement_id,
        "Effect": "Allow",
        "Principal": principal(&grant.principal)?,
        "Action": grant.action,
        "Resource": resource.to_string(),
    });
    let conditions = conditions(grant);
    if !conditions.is_empty() {
        statement["Condition"] = Value::Object(conditions);
    }
    Ok(statement)
}

/// An account, an ARN of IAM's, a service's host name, or everybody.
fn principal(text: &str) -> Result<Value, Error> {
    let account = |text: &str| base::AccountId::parse(text).is_some();
    if text == "*" {
        return Ok(json!("*"));
    }
    if account(text) {
        return Ok(json!({ "AWS": format!("arn:aws:iam::{text}:root") }));
    }
    if text.starts_with("arn:") {
        return Ok(json!({ "AWS": text }));
    }
    let host = text.contains('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
        && !text.starts_with('.')
        && !text.ends_with('.');
    if host { Ok(json!({ "Service": text })) } else { Err(invalid_principal()) }
}

/// Lambda's refusal of a principal that names nobody.
pub(crate) fn invalid_principal() -> Error {
    Error::Invalid("The provided principal was invalid. Please check the principal and try again.".into())
}

fn conditions(grant: &Grant) -> Map<String, Value> {
    let auth = grant.url_auth.map(|auth| match auth {
        UrlAuth::None => "NONE".to_owned(),
        UrlAuth::AwsIam => "AWS_IAM".to_owned(),
    });
    let equal = [
        ("AWS:SourceAccount", &grant.source_account),
        ("lambda:EventSourceToken", &grant.event_source_token),
        ("lambda:FunctionUrlAuthType", &auth),
        ("aws:PrincipalOrgID", &grant.principal_org),
    ];
    let equal: Map<String, Value> =
        equal.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value.as_ref()?)))).collect();
    let mut out = Map::new();
    if !equal.is_empty() {
        out.insert("StringEquals".into(), Value::Object(equal));
    }
    if let Some(via_url) = grant.via_url {
        out.insert("Bool".into(), json!({ "lambda:InvokedViaFunctionUrl": via_url.to_string() }));
    }
    if let Some(source) = &grant.source_arn {
        out.insert("ArnLike".into(), json!({ "AWS:SourceArn": source }));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arn() -> FunctionArn {
        FunctionArn::parse("arn:aws:lambda:us-east-1:123456789012:function:hello").unwrap()
    }

    fn grant(principal: &str) -> Grant {
        Grant {
            statement_id: "one".into(),
            action: "lambda:InvokeFunction".into(),
            principal: principal.into(),
            ..Grant::default()
        }
    }

    #[test]
    fn a_statement_is_written_as_lambda_writes_it() {
        let full = Grant {
            source_arn: Some("arn:aws:s3:::bucket".into()),
            source_account: Some("123456789012".into()),
            ..grant("s3.amazonaws.com")
        };
        assert_eq!(
            statement(&full, &arn()).unwrap().to_string(),
            r#"{"Sid":"one","Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},"Action":"lambda:InvokeFunction","Resource":"arn:aws:lambda:us-east-1:123456789012:function:hello","Condition":{"StringEquals":{"AWS:SourceAccount":"123456789012"},"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::bucket"}}}"#
        );
    }

    #[test]
    fn principals_are_accounts_arns_services_or_everybody() {
        let root = json!({ "AWS": "arn:aws:iam::123456789012:root" });
        for (text, expect) in [
            ("123456789012", Some(root)),
            ("*", Some(json!("*"))),
            ("arn:aws:iam::123456789012:role/x", Some(json!({ "AWS": "arn:aws:iam::123456789012:role/x" }))),
            ("events.amazonaws.com", Some(json!({ "Service": "events.amazonaws.com" }))),
            ("12345", None),
            ("nobody", None),
            (".com", None),
        ] {
            assert_eq!(principal(text).ok(), expect, "{text}");
        }
    }

    #[test]
    fn each_name_has_its_own_policy() {
        let one = ResourcePolicy::with(None, statement(&grant("*"), &arn()).unwrap(), "r1".into()).unwrap();
        let mut all = Permissions::default();
        all.set(Some("7"), Some(one.clone()));
        assert!(all.of(None).is_none() && all.of(Some("8")).is_none());
        assert_eq!(all.of(Some("7")).unwrap().revision_id, "r1");
        all.set(None, Some(one));
        assert!(all.of(Some(LATEST)).is_some());
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Permissions>(&text).unwrap(), all);
        all.keep(|_| false);
        assert!(all.of(Some("7")).is_none() && all.of(None).is_some());
    }

    #[test]
    fn statements_come_and_go_by_their_id() {
        let added = statement(&grant("*"), &arn()).unwrap();
        let one = ResourcePolicy::with(None, added.clone(), "r1".into()).unwrap();
        assert!(matches!(ResourcePolicy::with(Some(&one), added, "r2".into()), Err(Error::AlreadyExists(_))));
        assert!(matches!(one.without("two", "r2".into()), Err(Error::NotFound(_))));
        assert_eq!(one.without("one", "r2".into()).unwrap(), None);
    }

    #[test]
    fn a_policy_has_a_longest_length() {
        let mut last = None;
        let error = (0..200).find_map(|number| {
            let grant = Grant { statement_id: format!("s{number}"), ..grant("s3.amazonaws.com") };
            match ResourcePolicy::with(last.as_ref(), statement(&grant, &arn()).unwrap(), "r".into()) {
                Ok(policy) => {
                    last = Some(policy);
                    None
                }
                Err(error) => Some(error),
            }
        });
        assert!(matches!(error, Some(Error::PolicyTooLong(_))), "{error:?}");
        assert!(last.unwrap().text().len() > 20_000);
    }
}
