//! Bringing an existing function to what is asked for.
//!
//! Tags, configuration and code are three operations, and each leaves something that can run. A web server's
//! handler must name a file of its package, so the contract `http` is the last to come and the first to go;
//! otherwise settings come first, and new code starts with them. Where one is refused, what came before it is taken
//! back: tags and configuration, but not code, which only the contract `http` has anything follow.

use std::collections::BTreeMap;

use anyhow::Result;
use http::Method;
use serde_json::{Map, Value, json};

use super::{Action, Args, Plan, base64, default_contract, runtime, settle, tags};
use crate::client::Client;
use crate::commands::{function_path, segment, text};
use crate::failure::Failure;
use crate::output::Progress;

/// Makes the changes that are needed.
pub(super) async fn update(
    client: &Client,
    plan: &Plan,
    args: &Args,
    existing: &Value,
    progress: &Progress,
) -> Result<Action> {
    let now = &existing["Configuration"];
    let failed = text(now, "State") == "Failed" || text(now, "LastUpdateStatus") == "Failed";
    let new_code = failed || text(now, "CodeSha256") != plan.package.sha256();
    let tags = TagChange::between(&existing["Tags"], text(now, "Handler"), plan, args);
    let settings = changes(plan, args, now).await?;
    if !new_code && tags.is_empty() && settings.is_empty() {
        return Ok(Action::Unchanged);
    }
    progress.step(format!("updating {}", plan.name));
    let mut change = Change { client, plan, existing, undo: Vec::new() };
    match change.make(&tags, settings, new_code).await {
        Ok(()) => Ok(Action::Updated),
        Err(error) => {
            if matches!(error.downcast_ref(), Some(Failure::Refused { .. })) {
                change.take_back().await;
            }
            Err(error)
        }
    }
}

/// One function's changes, each begun once the one before has settled.
struct Change<'a> {
    client: &'a Client,
    plan: &'a Plan,
    existing: &'a Value,
    /// What takes back what was done, in the order in which it was done.
    undo: Vec<Step>,
}

/// A request.
struct Step {
    method: Method,
    path: String,
    body: Option<Value>,
}

impl Change<'_> {
    async fn make(&mut self, tags: &TagChange, settings: Map<String, Value>, new_code: bool) -> Result<()> {
        self.untag(&tags.gone).await?;
        let http_comes = tags.wanted.get("virga:contract").is_some_and(|contract| contract == "http");
        if http_comes {
            self.code(new_code).await?;
            self.configure(settings).await?;
            self.tag(&tags.wanted).await?;
        } else {
            self.tag(&tags.wanted).await?;
            self.configure(settings).await?;
            self.code(new_code).await?;
        }
        self.untag(&tags.replaced).await
    }

    async fn send(&self, step: &Step) -> Result<()> {
        settle(self.client, &self.plan.name).await?;
        self.client.lambda(step.method.clone(), &step.path, step.body.as_ref()).await?;
        Ok(())
    }

    async fn tag(&mut self, wanted: &BTreeMap<String, String>) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        self.send(&self.setting_tags(json!(wanted))).await?;
        let (before, new): (Vec<&String>, Vec<&String>) =
            wanted.keys().partition(|key| self.existing["Tags"][key.as_str()].is_string());
        if !new.is_empty() {
            self.undo.push(self.removing_tags(new.into_iter().map(String::as_str)));
        }
        if !before.is_empty() {
            self.undo.push(self.setting_tags(self.old_tags(before.into_iter().map(String::as_str))));
        }
        Ok(())
    }

    async fn untag(&mut self, gone: &[&str]) -> Result<()> {
        if gone.is_empty() {
            return Ok(());
        }
        self.send(&self.removing_tags(gone.iter().copied())).await?;
        self.undo.push(self.setting_tags(self.old_tags(gone.iter().copied())));
        Ok(())
    }

    async fn configure(&mut self, settings: Map<String, Value>) -> Result<()> {
        if settings.is_empty() {
            return Ok(());
        }
        let before = previous(&settings, &self.existing["Configuration"]);
        let path = function_path(&self.plan.name, "/configuration");
        let step = |body: Map<String, Value>| Step {
            method: Method::PUT,
            path: path.clone(),
            body: Some(Value::Object(body)),
        };
        self.send(&step(settings)).await?;
        self.undo.push(step(before));
        Ok(())
    }

    async fn code(&self, changed: bool) -> Result<()> {
        if !changed {
            return Ok(());
        }
        let body = Some(json!({ "ZipFile": base64(&self.plan.package.zip) }));
        self.send(&Step { method: Method::PUT, path: function_path(&self.plan.name, "/code"), body }).await
    }

    /// Undoes what was done, the last first. The refusal is what the user hears of; this only says what it could
    /// not undo.
    async fn take_back(self) {
        for step in self.undo.iter().rev() {
            if let Err(error) = self.send(step).await {
                eprintln!("warning: an earlier part of the change could not be taken back: {error:#}");
            }
        }
    }

    fn setting_tags(&self, tags: Value) -> Step {
        Step { method: Method::POST, path: self.tags_path(), body: Some(json!({ "Tags": tags })) }
    }

    fn removing_tags<'k>(&self, keys: impl Iterator<Item = &'k str>) -> Step {
        let keys: Vec<String> = keys.map(|key| format!("tagKeys={}", segment(key))).collect();
        Step { method: Method::DELETE, path: format!("{}?{}", self.tags_path(), keys.join("&")), body: None }
    }

    /// These tags as they were.
    fn old_tags<'k>(&self, keys: impl Iterator<Item = &'k str>) -> Value {
        let tags = &self.existing["Tags"];
        let old: BTreeMap<&str, &Value> =
            keys.map(|key| (key, &tags[key])).filter(|(_, value)| value.is_string()).collect();
        json!(old)
    }

    fn tags_path(&self) -> String {
        format!("/2017-03-31/tags/{}", segment(text(&self.existing["Configuration"], "FunctionArn")))
    }
}

/// What brings these members back to what they are now.
fn previous(settings: &Map<String, Value>, now: &Value) -> Map<String, Value> {
    let old = |member: &String| {
        let value = match (member.as_str(), &now[member.as_str()]) {
            ("Environment", Value::Null) => json!({ "Variables": {} }),
            ("Layers", _) => layers_of(now),
            (_, Value::Null) => json!(""),
            (_, value) => value.clone(),
        };
        (member.clone(), value)
    };
    settings.keys().map(old).collect()
}

/// Members of UpdateFunctionConfiguration that differ from what the server has.
async fn changes(plan: &Plan, args: &Args, now: &Value) -> Result<Map<String, Value>> {
    let mut wanted = Map::new();
    wanted.insert(
        "Runtime".to_owned(),
        json!(runtime(plan.detected.family, args, Some(text(now, "Runtime"))).await?),
    );
    wanted.insert("Handler".to_owned(), json!(plan.detected.handler));
    let mut wanted = differing(wanted, args, now);
    if let Some(layers) = plan.layers.as_ref().filter(|layers| json!(layers) != layers_of(now)) {
        wanted.insert("Layers".to_owned(), json!(layers));
    }
    Ok(wanted)
}

/// The ARNs of what a configuration has.
fn layers_of(now: &Value) -> Value {
    now["Layers"].as_array().into_iter().flatten().map(|layer| layer["Arn"].clone()).collect()
}

/// Of these members and of what flags say beside them: what differs from what the server has.
pub(super) fn differing(mut wanted: Map<String, Value>, args: &Args, now: &Value) -> Map<String, Value> {
    if let Some(memory) = args.memory {
        wanted.insert("MemorySize".to_owned(), json!(memory.max(128)));
    }
    if let Some(role) = &args.role {
        wanted.insert("Role".to_owned(), json!(role));
    }
    if let Some(timeout) = args.timeout {
        wanted.insert("Timeout".to_owned(), json!(timeout));
    }
    wanted.retain(|member, value| now[member.as_str()] != *value);
    let mut environment = now["Environment"]["Variables"].as_object().cloned().unwrap_or_default();
    let before = environment.clone();
    environment.extend(args.env.iter().map(|(key, value)| (key.clone(), json!(value))));
    if environment != before {
        wanted.insert("Environment".to_owned(), json!({ "Variables": environment }));
    }
    wanted
}

/// Tags to set, tags to take away first, and tags to take away once the rest stands.
#[derive(Debug, PartialEq, Eq)]
struct TagChange {
    wanted: BTreeMap<String, String>,
    gone: Vec<&'static str>,
    /// Until then it is in force, and what replaces it may still be refused.
    replaced: Vec<&'static str>,
}

impl TagChange {
    fn between(now: &Value, handler: &str, plan: &Plan, args: &Args) -> Self {
        let mut wanted = tags(plan, args);
        let mut gone = Vec::new();
        let has = |key: &str| now[key].is_string();
        let was_http = now["virga:contract"] == "http";
        if was_http && handler != plan.detected.handler {
            // It comes back once the code holds the new file.
            gone.push("virga:contract");
        } else {
            wanted.retain(|key, value| key != "virga:contract" || now[key.as_str()] != value.as_str());
            if has("virga:contract") && plan.detected.contract == default_contract(plan.detected.family) {
                gone.push("virga:contract");
            }
        }
        let mut replaced = Vec::new();
        if args.memory.is_some() && has("virga:memory") && !wanted.contains_key("virga:memory") {
            replaced.push("virga:memory");
        }
        wanted.retain(|key, value| gone.contains(&key.as_str()) || now[key.as_str()] != value.as_str());
        Self { wanted, gone, replaced }
    }

    fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.gone.is_empty() && self.replaced.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{args, plan};
    use super::*;
    use crate::detect::{Contract, Family};

    #[test]
    fn what_was_configured_is_known() {
        let now = json!({ "Timeout": 3, "Handler": "app.handler" });
        let settings = json!({ "Timeout": 9, "Environment": { "Variables": { "A": "1" } } });
        let before = previous(settings.as_object().unwrap(), &now);
        assert_eq!(Value::Object(before), json!({ "Timeout": 3, "Environment": { "Variables": {} } }));
        let now = json!({ "Layers": [{ "Arn": "a", "CodeSize": 1 }, { "Arn": "b", "CodeSize": 1 }] });
        let settings = json!({ "Layers": ["c"] });
        assert_eq!(
            Value::Object(previous(settings.as_object().unwrap(), &now)),
            json!({ "Layers": ["a", "b"] })
        );
    }

    #[tokio::test]
    async fn an_update_changes_what_was_said_and_keeps_the_rest() {
        let now = json!({
            "Runtime": "provided.al2", "Handler": "app.handler", "MemorySize": 256, "Timeout": 3,
            "Environment": { "Variables": { "A": "1" } },
        });
        let plan = plan(Family::Provided, Contract::Lambda);
        for (line, expect) in [
            ("x", json!({})),
            ("x --memory 256 --env A=1", json!({})),
            ("x --timeout 9", json!({ "Timeout": 9 })),
            ("x --env B=2", json!({ "Environment": { "Variables": { "A": "1", "B": "2" } } })),
            ("x --runtime provided.al2023", json!({ "Runtime": "provided.al2023" })),
        ] {
            assert_eq!(Value::Object(changes(&plan, &args(line), &now).await.unwrap()), expect, "{line}");
        }
    }

    #[tokio::test]
    async fn layers_are_replaced_where_flags_say_so() {
        let now =
            json!({ "Runtime": "provided.al2023", "Handler": "app.handler", "Layers": [{ "Arn": "a" }] });
        let mut plan = plan(Family::Provided, Contract::Lambda);
        for (layers, expect) in [
            (None, json!({})),
            (Some(vec!["a"]), json!({})),
            (Some(vec!["b", "a"]), json!({ "Layers": ["b", "a"] })),
            (Some(vec![]), json!({ "Layers": [] })),
        ] {
            plan.layers = layers.map(|layers| layers.into_iter().map(str::to_owned).collect());
            assert_eq!(Value::Object(changes(&plan, &args("x"), &now).await.unwrap()), expect);
        }
    }

    #[test]
    fn tags_come_and_go() {
        let check = |now: Value, handler: &str, contract, wanted: &[(&str, &str)], gone: &[&str]| {
            let plan = plan(Family::Node, contract);
            let found = TagChange::between(&now, handler, &plan, &args("x --memory 256"));
            let wanted = wanted.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let TagChange { wanted: found_wanted, gone: found_gone, replaced } = found;
            let all: Vec<_> = found_gone.into_iter().chain(replaced).collect();
            assert_eq!((found_wanted, &all[..]), (wanted, gone), "{now}");
        };
        let http = || json!({ "virga:contract": "http", "team": "a" });
        let contract = ("virga:contract", "http");
        check(json!({}), "app.handler", Contract::Lambda, &[], &[]);
        check(json!({}), "app.handler", Contract::Http, &[contract], &[]);
        check(http(), "app.handler", Contract::Http, &[], &[]);
        check(http(), "old.js", Contract::Http, &[contract], &["virga:contract"]);
        check(http(), "app.handler", Contract::Lambda, &[], &["virga:contract"]);
        check(json!({ "virga:memory": "64" }), "app.handler", Contract::Lambda, &[], &["virga:memory"]);
        let plan = plan(Family::Node, Contract::Lambda);
        let memory = TagChange::between(&json!({ "virga:memory": "64" }), "", &plan, &args("x --memory 256"));
        assert_eq!((memory.gone.len(), memory.replaced), (0, vec!["virga:memory"]), "last");
    }
}
