//! Aliases: what they lead to, by weight and by name, and what depends on them.

use std::collections::BTreeMap;

use base::RequestId;
use functions::model::*;
use functions::{AliasView, CreateAlias, Error, ProvisionedStatus, UpdateAlias, Weighted};

use crate::world::{World, until};

/// A function `app` with two published versions of different memory, 128 and 256 MB.
async fn two_versions() -> World {
    let world = World::new().await;
    world.create("app", "echo").await;
    let function = world.named("app");
    world.functions.publish(&world.caller, &function, PublishVersion::default()).await.unwrap();
    let change = UpdateConfiguration { memory_mb: Some(256), ..Default::default() };
    world.functions.update_configuration(&world.caller, &function, change).await.unwrap();
    world.settled(&function).await;
    world.functions.publish(&world.caller, &function, PublishVersion::default()).await.unwrap();
    world
}

fn new(name: &str, version: &str, additional: &[(&str, f64)]) -> CreateAlias {
    CreateAlias {
        name: name.into(),
        version: version.into(),
        description: "for tests".into(),
        additional: weighted(additional),
    }
}

fn weighted(additional: &[(&str, f64)]) -> Vec<Weighted> {
    let one = |(version, weight): &(&str, f64)| Weighted { version: (*version).into(), weight: *weight };
    additional.iter().map(one).collect()
}

impl World {
    async fn alias(&self, args: CreateAlias) -> Result<AliasView, Error> {
        self.functions.create_alias(&self.caller, &self.named("app"), args).await
    }

    async fn realias(&self, name: &str, args: UpdateAlias) -> Result<AliasView, Error> {
        self.functions.update_alias(&self.caller, &self.named("app"), name, args).await
    }

    /// How many of so many calls of a qualifier ran on each version.
    async fn ran(&self, qualifier: &str, calls: usize) -> BTreeMap<String, usize> {
        let mut ran = BTreeMap::new();
        for _ in 0..calls {
            let mut call = self.call("app", "1");
            call.function = self.version("app", qualifier);
            call.tail = false;
            let outcome = self.functions.invoke(&self.caller, call).await.unwrap();
            *ran.entry(outcome.executed_version).or_default() += 1;
        }
        ran
    }

    fn listed(&self, version: Option<&str>, page: usize) -> Vec<String> {
        let (mut found, mut marker) = (Vec::new(), None);
        loop {
            let listing =
                self.functions.aliases(&self.caller, &self.named("app"), version, marker.as_deref(), page);
            let listing = listing.unwrap();
            assert!(listing.items.len() <= page);
            found.extend(listing.items.into_iter().filter_map(|view| view.arn.qualifier));
            marker = listing.next_marker;
            if marker.is_none() {
                return found;
            }
        }
    }
}

#[tokio::test]
async fn calls_of_an_alias_run_on_its_version() {
    let world = two_versions().await;
    let made = world.alias(new("live", "1", &[])).await.unwrap();
    assert!(made.arn.to_string().ends_with(":function:app:live"));
    assert_eq!(world.ran("live", 3).await, BTreeMap::from([("1".to_owned(), 3)]));
    let spec = world.stage.started.borrow().last().cloned().unwrap();
    let told = spec.env.iter().find(|(name, _)| name == "AWS_LAMBDA_FUNCTION_VERSION").unwrap();
    assert_eq!((told.1.as_str(), spec.limits.memory_bytes), ("1", 128 << 20));

    let moved = UpdateAlias { version: Some("2".into()), ..Default::default() };
    let moved = world.realias("live", moved).await.unwrap();
    assert_eq!((moved.alias.description.as_str(), moved.alias.version.as_str()), ("for tests", "2"));
    assert_ne!(moved.alias.revision_id, made.alias.revision_id);
    let world = world.crash().await;
    assert_eq!(world.ran("live", 1).await, BTreeMap::from([("2".to_owned(), 1)]));
    let kept = world.functions.alias(&world.caller, &world.named("app"), "live").unwrap();
    assert_eq!(kept, moved);

    world.functions.delete_alias(&world.caller, &world.named("app"), "live").await.unwrap();
    world.functions.delete_alias(&world.caller, &world.named("app"), "live").await.unwrap();
    let world = world.crash().await;
    let mut call = world.call("app", "1");
    call.function = world.version("app", "live");
    let gone = world.functions.invoke(&world.caller, call).await.unwrap_err();
    assert!(matches!(&gone, Error::FunctionNotFound(arn) if arn.ends_with(":app:live")), "{gone}");
    let gone = world.functions.alias(&world.caller, &world.named("app"), "live").unwrap_err();
    assert!(gone.to_string().starts_with("Cannot find alias arn: "), "{gone}");
}

#[tokio::test]
async fn calls_are_divided_by_weight() {
    const CALLS: usize = 10_000;
    let world = two_versions().await;
    world.alias(new("live", "1", &[("2", 0.1)])).await.unwrap();
    let ran = world.ran("live", CALLS).await;
    let second = ran["2"] as f64 / CALLS as f64;
    assert!((second - 0.1).abs() <= 0.02 && ran.values().sum::<usize>() == CALLS, "{ran:?}");
    // Members that are not said stay; an empty list takes the other version away.
    let same = UpdateAlias { description: Some("other".into()), ..Default::default() };
    assert!(world.realias("live", same).await.unwrap().alias.additional.is_some());
    let alone = UpdateAlias { additional: Some(Vec::new()), ..Default::default() };
    world.realias("live", alone).await.unwrap();
    assert_eq!(world.ran("live", 100).await, BTreeMap::from([("1".to_owned(), 100)]));
}

#[tokio::test]
async fn what_an_alias_leads_to_exists() {
    let world = two_versions().await;
    let said = |made: Result<AliasView, Error>| made.unwrap_err().to_string();
    let missing = said(world.alias(new("a", "3", &[])).await);
    assert!(missing.starts_with("Function not found: ") && missing.ends_with(":app:3"), "{missing}");
    assert!(said(world.alias(new("a", "1", &[("3", 0.1)])).await).starts_with("Function not found: "));
    assert_eq!(
        said(world.alias(new("a", "1", &[("1", 0.1)])).await),
        "Invalid function version 1. Function version 1 is already included in routing configuration."
    );
    assert_eq!(
        said(world.alias(new("a", LATEST, &[("1", 0.1)])).await),
        "$LATEST is not supported for an alias pointing to more than 1 version"
    );
    assert_eq!(
        said(world.alias(new("a", "1", &[("1", 0.1), ("2", 0.1)])).await),
        "Number of items in AdditionalVersionWeights cannot be greater than 1"
    );
    world.alias(new("a", LATEST, &[])).await.unwrap();
    assert_eq!(world.ran("a", 1).await, BTreeMap::from([(LATEST.to_owned(), 1)]));
    let twice = world.alias(new("a", "1", &[])).await.unwrap_err();
    assert!(matches!(&twice, Error::AlreadyExists(text) if text.starts_with("Alias already exists: arn:")));
    let nowhere = world.realias("b", UpdateAlias::default()).await.unwrap_err();
    assert!(matches!(nowhere, Error::NotFound(_)));
    let of_a_version =
        world.functions.create_alias(&world.caller, &world.version("app", "1"), new("c", "1", &[])).await;
    assert!(matches!(of_a_version, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn an_alias_is_changed_as_it_was_read() {
    let world = two_versions().await;
    let made = world.alias(new("live", "1", &[])).await.unwrap();
    let at = |revision: &str| UpdateAlias {
        version: Some("2".into()),
        revision_id: Some(revision.into()),
        ..Default::default()
    };
    let stale = world.realias("live", at("other")).await.unwrap_err();
    assert!(matches!(stale, Error::PreconditionFailed(_)));
    world.realias("live", at(&made.alias.revision_id)).await.unwrap();
    let again = world.realias("live", at(&made.alias.revision_id)).await.unwrap_err();
    assert!(matches!(again, Error::PreconditionFailed(_)));
}

#[tokio::test]
async fn aliases_are_listed_by_name_and_by_version() {
    let world = two_versions().await;
    for (name, version, additional) in
        [("c", "1", &[][..]), ("a", "2", &[]), ("b", "1", &[("2", 0.5)]), ("d", LATEST, &[])]
    {
        world.alias(new(name, version, additional)).await.unwrap();
    }
    for page in 1..5 {
        assert_eq!(world.listed(None, page), ["a", "b", "c", "d"]);
        assert_eq!(world.listed(Some("1"), page), ["b", "c"]);
        assert_eq!(world.listed(Some("2"), page), ["a", "b"]);
    }
    let none: [&str; 0] = [];
    assert_eq!(world.listed(Some("9"), 50), none);
    let bad = world.functions.aliases(&world.caller, &world.named("app"), None, Some("?"), 1);
    assert!(matches!(bad, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn a_version_with_an_alias_stays() {
    let world = two_versions().await;
    world.alias(new("live", "1", &[("2", 0.5)])).await.unwrap();
    for version in ["1", "2"] {
        let kept = world.functions.delete(&world.caller, &world.version("app", version)).await.unwrap_err();
        assert!(
            matches!(&kept, Error::Conflict(text)
                if text == "Unable to delete version because the following aliases reference it: [live]"),
            "{kept}"
        );
    }
    let of_alias = world.functions.delete(&world.caller, &world.version("app", "live")).await.unwrap_err();
    assert_eq!(of_alias.to_string(), "Deletion of aliases is not currently supported.");
    world.functions.delete_alias(&world.caller, &world.named("app"), "live").await.unwrap();
    world.functions.delete(&world.caller, &world.version("app", "1")).await.unwrap();
    world.functions.delete(&world.caller, &world.version("app", "1")).await.unwrap();
    let world = world.crash().await;
    assert!(world.functions.get(&world.caller, &world.version("app", "1")).is_err());
    world.alias(new("live", "2", &[])).await.unwrap();
    world.functions.delete(&world.caller, &world.named("app")).await.unwrap();
    world.create("app", "echo").await;
    let none: [&str; 0] = [];
    assert_eq!(world.listed(None, 50), none, "aliases go with their function");
}

#[tokio::test]
async fn qualifiers_are_answered_as_asked() {
    let world = two_versions().await;
    world.alias(new("live", "1", &[("2", 1.0)])).await.unwrap();
    let view = world.functions.get(&world.caller, &world.version("app", "live")).unwrap();
    assert_eq!((view.configuration.version.as_str(), view.arn.qualifier.as_deref()), ("1", Some("live")));
    let details = world.functions.describe(&world.caller, &world.version("app", "live")).unwrap();
    assert_eq!(details.view, view);
}

#[tokio::test]
async fn each_qualifier_has_its_url() {
    let world = two_versions().await;
    world.alias(new("live", "1", &[("2", 0.5)])).await.unwrap();
    let mut ids = Vec::new();
    for function in [world.named("app"), world.version("app", "live"), world.version("app", "2")] {
        let made = world
            .functions
            .create_url(&world.caller, &function, UrlAuth::None, None, InvokeMode::default())
            .await
            .unwrap();
        assert_eq!(made.function.qualifier, function.qualifier);
        let twice = world
            .functions
            .create_url(&world.caller, &function, UrlAuth::None, None, InvokeMode::default())
            .await;
        assert!(matches!(twice, Err(Error::AlreadyExists(_))));
        ids.push(made.url.id);
    }
    let missing = world.version("app", "nobody");
    let missing =
        world.functions.create_url(&world.caller, &missing, UrlAuth::None, None, InvokeMode::default()).await;
    assert!(matches!(missing, Err(Error::FunctionNotFound(_))));

    let world = world.crash().await;
    let mut ran = BTreeMap::<(usize, String), usize>::new();
    for _ in 0..200 {
        for (index, id) in ids.iter().enumerate() {
            let route = world.functions.route_by_id(id).unwrap();
            let outcome = world
                .functions
                .serve_event(&route, RequestId::random(), "1".into(), String::new())
                .await
                .unwrap();
            *ran.entry((index, outcome.executed_version)).or_default() += 1;
        }
    }
    assert_eq!((ran[&(0, LATEST.to_owned())], ran[&(2, "2".to_owned())]), (200, 200));
    let (first, second) = (ran[&(1, "1".to_owned())], ran[&(1, "2".to_owned())]);
    assert!(first > 50 && second > 50 && first + second == 200, "{ran:?}");
    assert_eq!(world.functions.route_by_name("app").unwrap().url.id, ids[0]);
    assert_eq!(world.functions.route_by_name("app:live").unwrap().url.id, ids[1]);

    let mut found = Vec::new();
    let mut marker = None;
    loop {
        let page = world.functions.urls(&world.caller, &world.named("app"), marker.as_deref(), 2).unwrap();
        found.extend(page.items.into_iter().map(|view| view.function.qualifier));
        marker = page.next_marker;
        if marker.is_none() {
            break;
        }
    }
    assert_eq!(found, [None, Some("2".to_owned()), Some("live".to_owned())]);

    // All calls go to one version, then the alias goes.
    let alone = UpdateAlias { version: Some("2".into()), additional: Some(Vec::new()), ..Default::default() };
    world.realias("live", alone).await.unwrap();
    let route = world.functions.route_by_id(&ids[1]).unwrap();
    let outcome =
        world.functions.serve_event(&route, RequestId::random(), "1".into(), String::new()).await.unwrap();
    assert_eq!(outcome.executed_version, "2");
    world.functions.delete_alias(&world.caller, &world.named("app"), "live").await.unwrap();
    assert!(world.functions.route_by_id(&ids[1]).is_none());
    assert!(world.functions.route_by_name("app:live").is_none());
    world.functions.delete(&world.caller, &world.version("app", "2")).await.unwrap();
    assert!(world.functions.route_by_id(&ids[2]).is_none());
    assert!(world.functions.route_by_id(&ids[0]).is_some());
}

#[tokio::test]
async fn a_version_is_warm_before_an_alias_in_use_leads_to_it() {
    let world = two_versions().await;
    world.alias(new("live", "1", &[])).await.unwrap();
    let to = |version: &str| UpdateAlias { version: Some(version.into()), ..Default::default() };
    // Nobody calls it: nothing is started.
    let before = world.started();
    world.realias("live", to("2")).await.unwrap();
    assert_eq!(world.started(), before);
    world.realias("live", to("1")).await.unwrap();
    world.ran("live", 1).await;
    let before = world.started();
    world.realias("live", to("2")).await.unwrap();
    assert_eq!(world.started(), before + 1);
    assert_eq!(world.ran("live", 1).await, BTreeMap::from([("2".to_owned(), 1)]));
    assert_eq!(world.started(), before + 1, "the call found the instance");
}

#[tokio::test]
async fn aliases_keep_instances_ready() {
    let world = two_versions().await;
    world.alias(new("live", "1", &[])).await.unwrap();
    let provision = async |name: &str, instances| {
        world.functions.provision(&world.caller, &world.version("app", name), instances).await
    };
    let made = provision("live", 3).await.unwrap();
    assert_eq!(made.arn.qualifier.as_deref(), Some("live"));
    let ready = |requested: u32| {
        let view = world.functions.provisioned(&world.caller, &world.version("app", "live")).unwrap();
        let told = view.provisioned;
        (told.status == ProvisionedStatus::Ready && told.available == requested).then_some(told.requested)
    };
    assert_eq!(until("three are ready", || ready(3)).await, 3);
    let versions = || -> Vec<String> {
        world.stage.started.borrow().iter().filter_map(|spec| spec.function.qualifier.clone()).collect()
    };
    assert_eq!(versions(), ["1"; 3]);

    let conflict = provision("1", 1).await.unwrap_err();
    assert_eq!(conflict.to_string(), "Version is pointed by a Provisioned Concurrency alias");
    provision("2", 1).await.unwrap();
    let moved = UpdateAlias { version: Some("2".into()), ..Default::default() };
    let taken = world.realias("live", moved.clone()).await.unwrap_err();
    assert!(
        matches!(&taken, Error::Conflict(text) if text.contains("already Provisioned version")),
        "{taken}"
    );
    world.alias(new("other", "2", &[])).await.unwrap();
    assert!(matches!(provision("other", 1).await, Err(Error::Conflict(_))));
    let listed = || {
        let page = world.functions.all_provisioned(&world.caller, &world.named("app"), None, 50).unwrap();
        page.items.into_iter().filter_map(|view| view.arn.qualifier).collect::<Vec<_>>()
    };
    assert_eq!(listed(), ["2", "live"]);
    world.functions.unprovision(&world.caller, &world.version("app", "2")).await.unwrap();

    // What is kept ready follows the alias, and is divided as its calls are.
    world.realias("live", moved).await.unwrap();
    until("three of the other version", || ready(3)).await;
    assert_eq!(
        versions().iter().filter(|version| *version == "2").count(),
        3,
        "the one that was there and two"
    );
    let divided = UpdateAlias { additional: Some(weighted(&[("1", 0.34)])), ..Default::default() };
    world.realias("live", divided).await.unwrap();
    until("two and one", || ready(3)).await;
    let refused = provision("live", 2).await.unwrap_err();
    assert!(refused.to_string().contains("routing configuration"), "{refused}");
    world.functions.delete_alias(&world.caller, &world.named("app"), "live").await.unwrap();
    assert!(listed().is_empty());
}

#[tokio::test]
async fn unpublished_code_is_not_kept_ready_by_an_alias() {
    let world = two_versions().await;
    world.alias(new("dev", LATEST, &[])).await.unwrap();
    let refused =
        world.functions.provision(&world.caller, &world.version("app", "dev"), 1).await.unwrap_err();
    assert!(refused.to_string().contains("unpublished function versions"), "{refused}");
}
