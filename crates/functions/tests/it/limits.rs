//! Each documented limit of a function: what is at it is taken, what is one past it is refused.

use std::collections::BTreeMap;

use functions::model::*;
use functions::{Bounds, CreateAlias, Error, PackageSource, PublishLayer, Scaling};

use crate::world::{World, bounds};
use crate::zips;

/// One member at its limit and one past it, and what the refusal says.
struct Limit {
    what: &'static str,
    at: fn(&mut CreateFunction),
    past: fn(&mut CreateFunction),
    said: &'static str,
}

const LIMITS: &[Limit] = &[
    Limit {
        what: "name",
        at: |args| args.name = "n".repeat(64),
        past: |args| args.name = "n".repeat(65),
        said: "functionName",
    },
    Limit {
        what: "description",
        at: |args| args.description = "d".repeat(256),
        past: |args| args.description = "d".repeat(257),
        said: "less than or equal to 256",
    },
    Limit {
        what: "handler",
        at: |args| args.handler = "h".repeat(128),
        past: |args| args.handler = "h".repeat(129),
        said: "less than or equal to 128",
    },
    Limit {
        what: "least time-out",
        at: |args| args.timeout_s = 1,
        past: |args| args.timeout_s = 0,
        said: "Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1",
    },
    Limit {
        what: "time-out",
        at: |args| args.timeout_s = 900,
        past: |args| args.timeout_s = 901,
        said: "Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900",
    },
    Limit {
        what: "least memory",
        at: |args| args.memory_mb = 128,
        past: |args| args.memory_mb = 127,
        said: "'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128",
    },
    Limit {
        what: "memory",
        at: |args| args.memory_mb = 10_240,
        past: |args| args.memory_mb = 10_241,
        said: "'memorySize' failed to satisfy constraint: Member must have value less than or equal to 10240",
    },
    Limit {
        what: "least /tmp",
        at: |args| args.ephemeral_mb = 512,
        past: |args| args.ephemeral_mb = 511,
        said: "'ephemeralStorage.size' failed to satisfy constraint: Member must have value greater than or equal to 512",
    },
    Limit {
        what: "/tmp",
        at: |args| args.ephemeral_mb = 10_240,
        past: |args| args.ephemeral_mb = 10_241,
        said: "'ephemeralStorage.size' failed to satisfy constraint: Member must have value less than or equal to 10240",
    },
    Limit {
        what: "environment",
        at: |args| args.environment = BTreeMap::from([("AB".into(), "v".repeat(4094))]),
        past: |args| args.environment = BTreeMap::from([("AB".into(), "v".repeat(4095))]),
        said: "exceeded the 4KB limit",
    },
    Limit {
        what: "tags",
        at: |args| args.tags = (0..50).map(|number| (number.to_string(), String::new())).collect(),
        past: |args| args.tags = (0..51).map(|number| (number.to_string(), String::new())).collect(),
        said: "at most 50 tags",
    },
    Limit {
        what: "a tag's key",
        at: |args| args.tags = BTreeMap::from([("k".repeat(128), String::new())]),
        past: |args| args.tags = BTreeMap::from([("k".repeat(129), String::new())]),
        said: "1 to 128 characters",
    },
    Limit {
        what: "a tag's value",
        at: |args| args.tags = BTreeMap::from([("k".into(), "v".repeat(256))]),
        past: |args| args.tags = BTreeMap::from([("k".into(), "v".repeat(257))]),
        said: "at most 256 characters",
    },
];

#[tokio::test]
async fn what_is_at_a_limit_is_taken_and_what_is_past_it_refused() {
    let world = World::new().await;
    for (number, limit) in LIMITS.iter().enumerate() {
        let args = |change: fn(&mut CreateFunction)| {
            let mut args = World::args(&format!("at-{number}"), "echo");
            change(&mut args);
            args
        };
        let past = world.functions.create(&world.caller, args(limit.past)).await;
        let said = past.map(drop).expect_err(limit.what).to_string();
        assert!(said.contains(limit.said), "{}: {said}", limit.what);
        let at = args(limit.at);
        let name = at.name.clone();
        world
            .functions
            .create(&world.caller, at)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", limit.what));
        world.settled(&world.named(&name)).await;
    }
}

#[tokio::test]
async fn an_update_is_held_to_the_same_limits() {
    let world = World::new().await;
    world.create("app", "echo").await;
    for (change, said) in [
        (UpdateConfiguration { timeout_s: Some(901), ..Default::default() }, "'timeout'"),
        (UpdateConfiguration { memory_mb: Some(10_241), ..Default::default() }, "'memorySize'"),
        (UpdateConfiguration { ephemeral_mb: Some(511), ..Default::default() }, "'ephemeralStorage.size'"),
        (UpdateConfiguration { description: Some("d".repeat(257)), ..Default::default() }, "'description'"),
        (UpdateConfiguration { handler: Some("h".repeat(129)), ..Default::default() }, "'handler'"),
        (
            UpdateConfiguration {
                environment: Some(BTreeMap::from([("AB".into(), "v".repeat(4095))])),
                ..Default::default()
            },
            "4KB",
        ),
    ] {
        let refused = world.functions.update_configuration(&world.caller, &world.named("app"), change).await;
        let text = refused.map(drop).expect_err(said).to_string();
        assert!(text.contains(said), "{text}");
    }
    let many = (0..51).map(|number| (number.to_string(), String::new())).collect();
    assert!(world.functions.tag(&world.caller, &world.named("app"), many).await.is_err());
}

/// A world in which packages may take so many bytes.
async fn keeping(account_code_bytes: u64) -> World {
    let scaling = Scaling { account_code_bytes, ..Scaling::default() };
    World::with(Bounds { scaling, ..bounds() }).await
}

#[tokio::test]
async fn packages_of_all_versions_count() {
    let size = zips::package("x").len() as u64;
    let refused = |outcome: Result<FunctionView, Error>| {
        let error = outcome.map(drop).expect_err("there is no room");
        assert!(
            matches!(&error, Error::CodeStorageExceeded(text) if text.starts_with("Code storage limit exceeded"))
        );
    };
    let world = keeping(size - 1).await;
    refused(world.functions.create(&world.caller, World::args("app", "echo")).await);

    let world = keeping(2 * size).await;
    world.create("app", "echo").await;
    world.functions.publish(&world.caller, &world.named("app"), PublishVersion::default()).await.unwrap();
    let settings = world.functions.account_settings(&world.caller).unwrap();
    assert_eq!((settings.code_bytes, settings.code_bytes_limit), (2 * size, 2 * size));
    refused(world.functions.create(&world.caller, World::args("other", "echo")).await);
    let change = UpdateConfiguration { memory_mb: Some(256), ..Default::default() };
    world.functions.update_configuration(&world.caller, &world.named("app"), change).await.unwrap();
    world.settled(&world.named("app")).await;
    refused(world.functions.publish(&world.caller, &world.named("app"), PublishVersion::default()).await);
    let code = UpdateCode {
        code: zips::package("a longer one").into(),
        dry_run: false,
        publish: false,
        revision_id: None,
    };
    refused(world.functions.update_code(&world.caller, &world.named("app"), code).await);
    world.functions.delete(&world.caller, &world.version("app", "1")).await.unwrap();
    world.create("other", "echo").await;
}

#[tokio::test]
async fn packages_of_layers_count_with_the_others() {
    let size = zips::package("x").len() as u64;
    let world = keeping(3 * size).await;
    world.create("app", "echo").await;
    let publish = || {
        let args = PublishLayer {
            name: "tools".into(),
            description: String::new(),
            license: String::new(),
            runtimes: Vec::new(),
            architectures: Vec::new(),
            content: PackageSource::Zip(zips::package("x")),
        };
        world.functions.publish_layer(&world.caller, args)
    };
    let bytes = || world.functions.account_settings(&world.caller).unwrap().code_bytes;
    let first = publish().await.unwrap();
    publish().await.unwrap();
    assert_eq!(bytes(), 3 * size);
    assert!(matches!(publish().await, Err(Error::CodeStorageExceeded(_))));
    let more = world.functions.create(&world.caller, World::args("more", "echo")).await;
    assert!(matches!(more, Err(Error::CodeStorageExceeded(_))), "{more:?}");
    world.functions.delete_layer_version(&world.caller, &first.arn).await.unwrap();
    assert_eq!(bytes(), 2 * size);
    world.create("more", "echo").await;
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_may_take_a_day() {
    let world = World::new().await;
    let tagged = |seconds: &str| {
        let mut args = World::args("app", "echo");
        args.tags.insert("virga:async-timeout".into(), seconds.into());
        world.functions.create(&world.caller, args)
    };
    for bad in ["0", "86401", "a day"] {
        let refused = tagged(bad).await.map(drop).expect_err(bad).to_string();
        assert!(refused.contains("from 1 to 86400 (seconds)"), "{refused}");
    }
    let made = tagged("86400").await.unwrap().configuration;
    assert_eq!((made.timeout_of(false), made.timeout_of(true)), (86_400, 3));
}

#[tokio::test]
async fn a_function_has_a_thousand_aliases_at_most() {
    let world = World::new().await;
    world.create("app", "echo").await;
    for number in 0..=1000 {
        let args = CreateAlias {
            name: format!("a{number}"),
            version: LATEST.into(),
            description: String::new(),
            additional: Vec::new(),
        };
        let made = world.functions.create_alias(&world.caller, &world.named("app"), args).await;
        match number {
            1000 => assert!(matches!(made, Err(Error::TooManyAliases(_)))),
            _ => drop(made.unwrap()),
        }
    }
}
