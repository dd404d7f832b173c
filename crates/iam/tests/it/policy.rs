//! The evaluator against a model that does the same the long way, and the rules that every policy user knows.

use base::AccountId;
use iam::policy::{
    Context, Decision, Grants, Kind, Policies, Policy, Question, Resource, Source, Who, decide,
};
use proptest::prelude::*;

fn account(digit: u8) -> AccountId {
    AccountId::parse(&digit.to_string().repeat(12)).unwrap()
}

fn user(digit: u8) -> Who {
    let account = account(digit);
    Who::User { arn: format!("arn:aws:iam::{account}:user/ann"), account }
}

fn session(digit: u8) -> Who {
    let account = account(digit);
    Who::Session {
        role: format!("arn:aws:iam::{account}:role/worker"),
        arn: format!("arn:aws:sts::{account}:assumed-role/worker/one"),
        account,
    }
}

fn identity(statement: &str) -> Policy {
    let text = format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#);
    Policy::parse(&text, Kind::Identity).unwrap()
}

fn resource(statement: &str) -> Policy {
    let text = format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#);
    Policy::parse(&text, Kind::Resource).unwrap()
}

const ALL: &str = r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#;

struct Case<'a> {
    who: Who,
    identity: &'a [&'a Policy],
    boundary: Option<&'a Policy>,
    session: Option<&'a Policy>,
    resource: Option<&'a Policy>,
    required: bool,
}

impl Default for Case<'_> {
    fn default() -> Self {
        Self { who: user(1), identity: &[], boundary: None, session: None, resource: None, required: false }
    }
}

/// What the policies come to for invoking a function of account 1.
fn check(case: Case<'_>, expect: Decision) {
    let (owner, context) = (account(1), Context::default());
    let name = "arn:aws:lambda:us-east-1:111111111111:function:hello";
    let question = Question {
        who: &case.who,
        action: "lambda:InvokeFunction",
        resource: name,
        owner: &owner,
        context: &context,
    };
    let grants = Grants { identity: case.identity, boundary: case.boundary, session: case.session };
    let resource = case.resource.map(|policy| Resource { policy, name, required: case.required });
    assert_eq!(decide(&question, &Policies { grants, resource }), expect);
}

#[test]
fn what_nothing_allows_is_denied_and_a_deny_wins() {
    let all = identity(ALL);
    let deny = identity(r#"{"Effect":"Deny","Action":"lambda:Invoke*","Resource":"*"}"#);
    let other = identity(r#"{"Effect":"Deny","NotAction":"lambda:*","Resource":"*"}"#);
    let not_here = identity(
        r#"{"Effect":"Deny","Action":"*","NotResource":"arn:aws:lambda:us-east-1:111111111111:function:*"}"#,
    );
    check(Case::default(), Decision::NotAllowed(Source::Identity));
    check(Case { identity: &[&all], ..Case::default() }, Decision::Allowed);
    check(Case { identity: &[&all, &deny], ..Case::default() }, Decision::Denied(Source::Identity));
    check(Case { identity: &[&all, &other, &not_here], ..Case::default() }, Decision::Allowed);
}

#[test]
fn boundaries_and_session_policies_only_take_away() {
    let (all, none) = (identity(ALL), identity(r#"{"Effect":"Allow","Action":"s3:*","Resource":"*"}"#));
    let given = [&all];
    let case = |identity| Case { who: session(1), identity, ..Case::default() };
    check(Case { boundary: Some(&all), ..case(&[]) }, Decision::NotAllowed(Source::Identity));
    check(Case { boundary: Some(&none), ..case(&given) }, Decision::NotAllowed(Source::Boundary));
    check(Case { session: Some(&none), ..case(&given) }, Decision::NotAllowed(Source::Session));
    check(Case { session: Some(&all), boundary: Some(&all), ..case(&given) }, Decision::Allowed);
}

#[test]
fn a_resource_lets_in_whom_it_names() {
    let to = |principal: &str| {
        resource(&format!(
            r#"{{"Effect":"Allow","Principal":{principal},"Action":"lambda:InvokeFunction","Resource":"arn:aws:lambda:us-east-1:111111111111:function:hello"}}"#
        ))
    };
    let all = identity(ALL);
    let none = identity(r#"{"Effect":"Allow","Action":"s3:*","Resource":"*"}"#);
    let not = Decision::NotAllowed;
    let ann = to(r#"{"AWS":"arn:aws:iam::111111111111:user/ann"}"#);
    check(Case { resource: Some(&ann), ..Case::default() }, Decision::Allowed);
    check(Case { who: session(1), resource: Some(&ann), ..Case::default() }, not(Source::Identity));
    // By its own account a principal is not let in, only its account is: that has its own policies.
    let root = to(r#"{"AWS":"111111111111"}"#);
    check(Case { resource: Some(&root), ..Case::default() }, not(Source::Identity));
    check(Case { resource: Some(&root), identity: &[&all], ..Case::default() }, Decision::Allowed);
    // Another account's needs both.
    let other = to(r#"{"AWS":"arn:aws:iam::222222222222:root"}"#);
    let given = [&all];
    let foreign = |identity, resource| Case { who: user(2), identity, resource, ..Case::default() };
    check(foreign(&given, None), not(Source::Resource));
    check(foreign(&[], Some(&other)), not(Source::Identity));
    check(foreign(&given, Some(&other)), Decision::Allowed);
    check(foreign(&given, Some(&ann)), not(Source::Resource));
    // Of a session that is named by its role the session's policy still takes away.
    let role = to(r#"{"AWS":"arn:aws:iam::111111111111:role/worker"}"#);
    let case = Case { who: session(1), resource: Some(&role), ..Case::default() };
    check(case, Decision::Allowed);
    let case = Case { who: session(1), resource: Some(&role), session: Some(&none), ..Case::default() };
    check(case, not(Source::Session));
    let itself = to(r#"{"AWS":"arn:aws:sts::111111111111:assumed-role/worker/one"}"#);
    let case = Case { who: session(1), resource: Some(&itself), session: Some(&none), ..Case::default() };
    check(case, Decision::Allowed);
    // Services and strangers have nothing but the resource's policy.
    let service = Who::Service { name: "events.amazonaws.com".into() };
    let events = to(r#"{"Service":"events.amazonaws.com"}"#);
    check(Case { who: service.clone(), resource: Some(&events), ..Case::default() }, Decision::Allowed);
    check(Case { who: service, resource: Some(&ann), ..Case::default() }, not(Source::Resource));
    check(Case { who: Who::Anonymous, resource: Some(&to("\"*\"")), ..Case::default() }, Decision::Allowed);
    check(Case { who: Who::Anonymous, resource: Some(&root), ..Case::default() }, not(Source::Resource));
}

#[test]
fn trust_is_needed_whatever_an_identity_may() {
    let all = identity(ALL);
    let names = |principal: &str| {
        let text = format!(
            r#"{{"Statement":{{"Effect":"Allow","Principal":{principal},"Action":"lambda:InvokeFunction"}}}}"#
        );
        Policy::parse(&text, Kind::Trust).unwrap()
    };
    let service = names(r#"{"Service":"lambda.amazonaws.com"}"#);
    let given = [&all];
    let case = |resource, identity| Case { resource, identity, required: true, ..Case::default() };
    check(case(Some(&service), &given), Decision::NotAllowed(Source::Resource));
    let ann = names(r#"{"AWS":"arn:aws:iam::111111111111:user/ann"}"#);
    check(case(Some(&ann), &[]), Decision::Allowed);
    let root = names(r#"{"AWS":"arn:aws:iam::111111111111:root"}"#);
    check(case(Some(&root), &[]), Decision::NotAllowed(Source::Identity));
    check(case(Some(&root), &given), Decision::Allowed);
}

/// A statement of the model: everything in it is a text of a small alphabet.
#[derive(Debug, Clone)]
struct Said {
    allow: bool,
    not_action: bool,
    actions: Vec<String>,
    not_resource: bool,
    resources: Vec<String>,
    /// Operator, and values for the key `k`.
    condition: Option<(usize, Vec<String>)>,
}

const OPERATORS: [&str; 10] = [
    "StringEquals",
    "StringNotEquals",
    "StringLike",
    "StringNotLike",
    "StringEqualsIfExists",
    "StringNotLikeIfExists",
    "ForAnyValue:StringLike",
    "ForAllValues:StringLike",
    "ForAnyValue:StringNotEquals",
    "ForAllValues:StringNotEquals",
];

impl Said {
    fn json(&self) -> serde_json::Value {
        let mut out = serde_json::json!({ "Effect": if self.allow { "Allow" } else { "Deny" } });
        let actions: Vec<String> = self.actions.iter().map(|text| format!("s:{text}")).collect();
        out[if self.not_action { "NotAction" } else { "Action" }] = actions.into();
        let resources: Vec<String> = self.resources.iter().map(|text| format!("arn:{text}")).collect();
        out[if self.not_resource { "NotResource" } else { "Resource" }] = resources.into();
        if let Some((operator, values)) = &self.condition {
            out["Condition"] = serde_json::json!({ OPERATORS[*operator]: { "k": values } });
        }
        out
    }

    /// The long way: each rule written out by itself.
    fn covers(&self, action: &str, resource: &str, values: &[String]) -> bool {
        let action = self.actions.iter().any(|p| model_glob(p.as_bytes(), action.as_bytes()));
        let resource = self.resources.iter().any(|p| model_glob(p.as_bytes(), resource.as_bytes()));
        (action != self.not_action)
            && (resource != self.not_resource)
            && self
                .condition
                .as_ref()
                .is_none_or(|(operator, wanted)| model_condition(OPERATORS[*operator], wanted, values))
    }
}

/// By trying every way to match.
fn model_glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|at| model_glob(rest, &text[at..])),
        ([b'?', rest @ ..], [_, text @ ..]) => model_glob(rest, text),
        ([p, rest @ ..], [t, text @ ..]) if p == t => model_glob(rest, text),
        _ => false,
    }
}

fn model_condition(operator: &str, wanted: &[String], values: &[String]) -> bool {
    let equals = |value: &String| wanted.contains(value);
    let like = |value: &String| wanted.iter().any(|p| model_glob(p.as_bytes(), value.as_bytes()));
    match (operator, values.is_empty()) {
        ("StringEquals" | "StringLike", true) => false,
        ("StringNotEquals" | "StringNotLike", true) => true,
        ("StringEqualsIfExists" | "StringNotLikeIfExists", true) => true,
        ("ForAnyValue:StringLike" | "ForAnyValue:StringNotEquals", true) => false,
        ("ForAllValues:StringLike" | "ForAllValues:StringNotEquals", true) => true,
        ("StringEquals" | "StringEqualsIfExists", _) => values.iter().any(equals),
        ("StringNotEquals", _) => !values.iter().any(equals),
        ("StringLike" | "ForAnyValue:StringLike", _) => values.iter().any(like),
        ("StringNotLike" | "StringNotLikeIfExists", _) => !values.iter().any(like),
        ("ForAllValues:StringLike", _) => values.iter().all(like),
        ("ForAnyValue:StringNotEquals", _) => values.iter().any(|value| !equals(value)),
        ("ForAllValues:StringNotEquals", _) => !values.iter().any(equals),
        (other, _) => panic!("{other} is not in the model"),
    }
}

fn model(said: &[Said], action: &str, resource: &str, values: &[String]) -> bool {
    let speaking: Vec<&Said> = said.iter().filter(|one| one.covers(action, resource, values)).collect();
    speaking.iter().any(|one| one.allow) && speaking.iter().all(|one| one.allow)
}

fn pattern() -> impl Strategy<Value = String> {
    "[ab*?]{1,4}"
}

fn said() -> impl Strategy<Value = Said> {
    (
        any::<bool>(),
        prop::bool::weighted(0.2),
        prop::collection::vec(pattern(), 1..3),
        prop::bool::weighted(0.2),
        prop::collection::vec(pattern(), 1..3),
        prop::option::of((0..OPERATORS.len(), prop::collection::vec(pattern(), 1..3))),
    )
        .prop_map(|(allow, not_action, actions, not_resource, resources, condition)| Said {
            allow,
            not_action,
            actions,
            not_resource,
            resources,
            condition,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_evaluator_and_the_model_agree(
        said in prop::collection::vec(said(), 1..5),
        action in "[ab]{0,4}",
        resource in "[ab]{0,4}",
        values in prop::collection::vec("[ab*?]{1,3}", 0..3),
    ) {
        let statements: Vec<serde_json::Value> = said.iter().map(Said::json).collect();
        let text = serde_json::json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
        let policy = Policy::parse(&text, Kind::Identity).unwrap();
        let mut context = Context::default();
        context.set_all("K", values.clone());
        let (who, owner) = (user(1), account(1));
        let (asked, on) = (format!("S:{}", action.to_uppercase()), format!("arn:{resource}"));
        let question =
            Question { who: &who, action: &asked, resource: &on, owner: &owner, context: &context };
        let grants = Grants { identity: &[&policy], ..Grants::default() };
        let decision = decide(&question, &Policies { grants, resource: None });
        prop_assert_eq!(decision.is_allowed(), model(&said, &action, &resource, &values), "{}", text);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        let _ = Policy::parse(&text, Kind::Identity);
        let _ = Policy::parse(&format!(r#"{{"Statement":{{"Effect":"Allow","Action":"a:{text}","Resource":"*"}}}}"#), Kind::Identity);
    }
}
