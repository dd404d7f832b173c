//! Published versions, listings and URLs.

use functions::Error;
use functions::model::*;

use crate::world::World;
use crate::zips;

fn publish() -> PublishVersion {
    PublishVersion::default()
}

#[tokio::test]
async fn numbers_only_grow_and_unchanged_is_not_published_twice() {
    let world = World::new().await;
    world.create("app", "echo").await;
    let function = world.named("app");
    let first = world.functions.publish(&world.caller, &function, publish()).await.unwrap();
    assert_eq!(first.configuration.version, "1");
    assert!(first.arn.to_string().ends_with(":function:app:1"));
    let again = world.functions.publish(&world.caller, &function, publish()).await.unwrap();
    assert_eq!(again, first);

    let code =
        UpdateCode { code: zips::package("two").into(), dry_run: false, publish: true, revision_id: None };
    for what in ["new code", "the same code"] {
        let second = world.functions.update_code(&world.caller, &function, code.clone()).await.unwrap();
        assert_eq!(second.configuration.version, "2", "{what}");
        world.settled(&function).await;
    }
    assert_eq!(world.settled(&world.version("app", "2")).await.configuration.state, State::Active);
    world.functions.delete(&world.caller, &world.version("app", "2")).await.unwrap();
    let world = world.crash().await;
    let third = world.functions.publish(&world.caller, &function, publish()).await.unwrap();
    assert_eq!(third.configuration.version, "3", "a deleted version's number is not used again");
    assert!(matches!(
        world.functions.get(&world.caller, &world.version("app", "2")),
        Err(Error::FunctionNotFound(_))
    ));
}

#[tokio::test]
async fn a_version_is_frozen() {
    let world = World::new().await;
    world.create("app", "echo").await;
    let function = world.named("app");
    world.functions.publish(&world.caller, &function, publish()).await.unwrap();
    let change = UpdateConfiguration { handler: Some("exit-1".into()), ..Default::default() };
    world.functions.update_configuration(&world.caller, &function, change).await.unwrap();
    world.settled(&function).await;
    let mut call = world.call("app", "5");
    call.function = world.version("app", "1");
    let outcome = world.functions.invoke(&world.caller, call).await.unwrap();
    assert_eq!((outcome.executed_version.as_str(), outcome.result.unwrap()), ("1", "5".into()));
    assert!(world.invoke("app", "5").await.unwrap().result.is_err());
    let frozen = world.version("app", "1");
    let change = UpdateConfiguration::default();
    assert!(matches!(
        world.functions.update_configuration(&world.caller, &frozen, change).await,
        Err(Error::Invalid(_))
    ));
    assert!(matches!(
        world.functions.delete(&world.caller, &world.version("app", "$LATEST")).await,
        Err(Error::Invalid(_))
    ));
}

#[tokio::test]
async fn create_can_publish_at_once() {
    let world = World::new().await;
    let mut args = World::args("app", "echo");
    args.publish = true;
    let created = world.functions.create(&world.caller, args).await.unwrap();
    assert_eq!((created.configuration.version.as_str(), created.configuration.state), ("1", State::Pending));
    assert_eq!(world.settled(&world.version("app", "1")).await.configuration.state, State::Active);
    assert_eq!(world.settled(&world.named("app")).await.configuration.state, State::Active);
    let again = world.functions.publish(&world.caller, &world.named("app"), publish()).await.unwrap();
    assert_eq!(again.configuration.version, "1");
}

#[tokio::test]
async fn publishing_keeps_its_conditions() {
    let world = World::new().await;
    world.create("app", "echo").await;
    let function = world.named("app");
    let wrong = PublishVersion { code_sha256: Some("x".into()), ..publish() };
    let error = world.functions.publish(&world.caller, &function, wrong).await.unwrap_err().to_string();
    assert!(error.starts_with("CodeSHA256 (x) is different from current CodeSHA256 in $LATEST"), "{error}");
    let stale = PublishVersion { revision_id: Some("x".into()), ..publish() };
    let error = world.functions.publish(&world.caller, &function, stale).await.unwrap_err();
    assert!(matches!(error, Error::PreconditionFailed(_)));
}

#[tokio::test]
async fn listings_are_paged_in_name_order() {
    let world = World::new().await;
    for name in ["c", "a", "b"] {
        world.create(name, "echo").await;
    }
    world.functions.publish(&world.caller, &world.named("b"), publish()).await.unwrap();
    let pages = |all: bool, size: usize| {
        let (mut found, mut marker) = (Vec::new(), None);
        loop {
            let page = world.functions.list(&world.caller, all, marker.as_deref(), size).unwrap();
            assert!(page.items.len() <= size);
            found.extend(
                page.items.iter().map(|view| format!("{}:{}", view.arn.name, view.configuration.version)),
            );
            marker = page.next_marker;
            if marker.is_none() {
                return found;
            }
        }
    };
    assert_eq!(pages(false, 2), ["a:$LATEST", "b:$LATEST", "c:$LATEST"]);
    for size in 1..5 {
        assert_eq!(pages(true, size), ["a:$LATEST", "b:$LATEST", "b:1", "c:$LATEST"]);
    }
    let versions = world.functions.versions(&world.caller, &world.named("b"), None, 1).unwrap();
    let rest = world
        .functions
        .versions(&world.caller, &world.named("b"), versions.next_marker.as_deref(), 1)
        .unwrap();
    assert_eq!((rest.items[0].configuration.version.as_str(), rest.next_marker), ("1", None));
    assert!(matches!(world.functions.list(&world.caller, false, Some("?"), 1), Err(Error::Invalid(_))));
}

#[tokio::test]
async fn urls_route_while_they_exist() {
    let world = World::new().await;
    world.create("app", "echo").await;
    let function = world.named("app");
    assert!(world.functions.route_by_name("app").is_none());
    assert!(matches!(world.functions.url(&world.caller, &function), Err(Error::NotFound(_))));
    let made = world
        .functions
        .create_url(&world.caller, &function, UrlAuth::None, None, Default::default())
        .await
        .unwrap();
    assert!(
        made.url.id.len() == 32 && made.url.id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    );
    let twice =
        world.functions.create_url(&world.caller, &function, UrlAuth::None, None, Default::default()).await;
    assert!(matches!(twice, Err(Error::AlreadyExists(_))));
    let cors = Cors { allow_origins: vec!["*".into()], ..Cors::default() };
    world.functions.update_url(&world.caller, &function, None, Some(cors.clone()), None).await.unwrap();

    let world = world.crash().await;
    let route = world.functions.route_by_id(&made.url.id).unwrap();
    assert_eq!(route.url.cors.as_ref(), Some(&cors));
    let outcome = world
        .functions
        .serve_event(&route, base::RequestId::random(), "1".into(), String::new())
        .await
        .unwrap();
    assert_eq!(outcome.result.unwrap(), "1");
    // A route from before a change still leads to the function.
    let change = UpdateConfiguration { memory_mb: Some(256), ..Default::default() };
    world.functions.update_configuration(&world.caller, &function, change).await.unwrap();
    world.settled(&function).await;
    world.functions.serve_event(&route, base::RequestId::random(), "2".into(), String::new()).await.unwrap();
    assert_eq!(world.stage.started.borrow().last().unwrap().limits.memory_bytes, 256 << 20);

    world.functions.delete_url(&world.caller, &function).await.unwrap();
    assert!(
        world.functions.route_by_id(&made.url.id).is_none() && world.functions.route_by_name("app").is_none()
    );
    world
        .functions
        .create_url(&world.caller, &function, UrlAuth::None, None, Default::default())
        .await
        .unwrap();
    world.functions.delete(&world.caller, &function).await.unwrap();
    assert!(world.functions.route_by_name("app").is_none());
}
