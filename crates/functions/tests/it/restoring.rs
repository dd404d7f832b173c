//! `$LATEST` as a published version was: all of it.

use std::collections::BTreeMap;

use functions::model::*;
use functions::{Error, PackageSource, PublishLayer};

use crate::world::World;
use crate::zips;

async fn publish(world: &World, name: &str) -> String {
    world.settled(&world.named(name)).await;
    let function = world.named(name);
    let published = world.functions.publish(&world.caller, &function, PublishVersion::default());
    published.await.unwrap().configuration.version
}

async fn restore(world: &World, name: &str, number: Option<&str>) -> Result<Restored, Error> {
    let number = number.map(str::to_owned);
    let restored = world.functions.restore(&world.caller, &world.named(name), number, None).await?;
    world.settled(&world.named(name)).await;
    Ok(restored)
}

/// A function whose second version differs from its first in everything that a version has.
async fn changed_in_everything(world: &World) -> [Configuration; 2] {
    let layer = PublishLayer {
        name: "tools".into(),
        description: String::new(),
        license: String::new(),
        runtimes: Vec::new(),
        architectures: Vec::new(),
        content: PackageSource::Zip(zips::package("layer")),
    };
    let layer = world.functions.publish_layer(&world.caller, layer).await.unwrap();
    let mut args = World::args("f", "echo");
    args.description = "first".into();
    args.layers = vec![layer.arn];
    args.environment.insert("KEY".into(), "one".into());
    args.log_group = Some("/own".into());
    args.traced = true;
    world.create_with(args, &[("virga:freeze", "off"), ("team", "a")]).await;
    assert_eq!(publish(world, "f").await, "1");

    let (functions, caller, f) = (&world.functions, &world.caller, world.named("f"));
    let change = UpdateConfiguration {
        description: Some("second".into()),
        role: Some("arn:aws:iam::123456789012:role/other".into()),
        runtime: Some("python3.12".into()),
        timeout_s: Some(9),
        memory_mb: Some(256),
        ephemeral_mb: Some(600),
        environment: Some(BTreeMap::new()),
        log_group: Some("/aws/lambda/f".into()),
        layers: Some(Vec::new()),
        snap_start: Some(true),
        traced: Some(false),
        ..Default::default()
    };
    functions.update_configuration(caller, &f, change).await.unwrap();
    world.settled(&f).await;
    functions.untag(caller, &f, &["virga:freeze".to_owned()]).await.unwrap();
    let tags = [("virga:soft-concurrency", "1"), ("team", "b")];
    let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    world.settled(&f).await;
    functions.tag(caller, &f, tags).await.unwrap();
    world.settled(&f).await;
    let code = zips::package("y").into();
    let code = UpdateCode { code, dry_run: false, publish: false, revision_id: None };
    functions.update_code(caller, &f, code).await.unwrap();
    assert_eq!(publish(world, "f").await, "2");
    ["1", "2"].map(|number| functions.get(caller, &world.version("f", number)).unwrap().configuration)
}

/// What may differ between a version and `$LATEST` brought back to it.
fn same(latest: &Configuration, version: &Configuration) -> Configuration {
    Configuration {
        version: latest.version.clone(),
        last_modified: latest.last_modified,
        revision_id: latest.revision_id.clone(),
        ..version.clone()
    }
}

#[tokio::test]
async fn everything_that_a_version_has_comes_back() {
    let world = World::new().await;
    let [one, two] = changed_in_everything(&world).await;
    let latest = || world.functions.get(&world.caller, &world.named("f")).unwrap().configuration;
    let tags = || world.functions.tags(&world.caller, &world.named("f")).unwrap();
    assert_ne!(same(&latest(), &one), latest());
    let restored = restore(&world, "f", None).await.unwrap();
    assert_eq!((restored.from.as_deref(), restored.to.as_str()), (Some("2"), "1"));
    assert_eq!(same(&latest(), &one), latest());
    assert!(!latest().settings.freeze);
    // Tags that are no settings are the function's own.
    assert_eq!(
        tags(),
        [("virga:freeze", "off"), ("team", "b")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    );

    let world = world.crash().await;
    let none = restore(&world, "f", None).await;
    assert!(matches!(none, Err(Error::NotFound(_))), "there is none before the first: {none:?}");
    let restored = restore(&world, "f", Some("2")).await.unwrap();
    assert_eq!(restored.from.as_deref(), Some("1"));
    let latest = world.functions.get(&world.caller, &world.named("f")).unwrap().configuration;
    assert_eq!(same(&latest, &two), latest);
}

#[tokio::test]
async fn what_was_not_published_is_given_up() {
    let world = World::new().await;
    world.create("f", "echo").await;
    let none = restore(&world, "f", None).await;
    assert!(matches!(none, Err(Error::NotFound(_))), "{none:?}");
    publish(&world, "f").await;
    let change = UpdateConfiguration { timeout_s: Some(7), ..Default::default() };
    world.functions.update_configuration(&world.caller, &world.named("f"), change).await.unwrap();
    world.settled(&world.named("f")).await;
    let restored = restore(&world, "f", None).await.unwrap();
    assert_eq!((restored.from, restored.to.as_str()), (None, "1"));
    let latest = world.functions.get(&world.caller, &world.named("f")).unwrap();
    assert_eq!(latest.configuration.timeout_s, 3);
    assert!(matches!(restore(&world, "f", Some("9")).await, Err(Error::FunctionNotFound(_))));
    let stale = world.functions.restore(&world.caller, &world.named("f"), None, Some("old".into())).await;
    assert!(matches!(stale, Err(Error::PreconditionFailed(_))));
}
