//! Host names that users bring, across restarts.

use std::collections::BTreeMap;

use functions::model::{UpdateConfiguration, UrlAuth};
use functions::{Bounds, Domains, Error};

use crate::world::{World, bounds};

#[tokio::test]
async fn names_outlive_a_crash() {
    let world = World::new().await;
    for name in ["f", "g"] {
        world.create(name, "echo").await;
    }
    let tags = || BTreeMap::from([("virga:domain".to_owned(), "a.example.com".to_owned())]);
    let (functions, caller) = (&world.functions, &world.caller);
    functions.create_url(caller, &world.named("f"), UrlAuth::None, None, Default::default()).await.unwrap();
    functions.tag(caller, &world.named("f"), tags()).await.unwrap();
    let world = world.crash().await;
    let route = world.functions.route_by_domain("A.example.com:80").unwrap();
    assert_eq!(route.function.name, "f");
    let taken = world.functions.tag(&world.caller, &world.named("g"), tags()).await;
    assert!(matches!(taken, Err(Error::Conflict(_))), "{taken:?}");
    let mut third = World::args("h", "echo");
    third.tags = tags();
    assert!(matches!(world.functions.create(&world.caller, third).await, Err(Error::Conflict(_))));
    assert!(world.functions.get(&world.caller, &world.named("h")).is_err(), "nothing of it is there");
}

#[tokio::test]
async fn names_that_nobody_opened_are_nobodys() {
    let bounds = Bounds { domains: Domains::default(), ..bounds() };
    let world = World::with(bounds).await;
    world.create("f", "echo").await;
    let tags = || BTreeMap::from([("virga:domain".to_owned(), "a.example.com".to_owned())]);
    let refused = world.functions.tag(&world.caller, &world.named("f"), tags()).await;
    assert!(matches!(refused, Err(Error::Denied(_))), "{refused:?}");
    let mut args = World::args("g", "echo");
    args.tags = tags();
    assert!(matches!(world.functions.create(&world.caller, args).await, Err(Error::Denied(_))));
    assert!(world.functions.route_by_domain("a.example.com").is_none());
}

#[tokio::test]
async fn a_name_that_was_closed_leads_nowhere() {
    let world = World::new().await;
    let mut args = World::args("f", "echo");
    args.tags = BTreeMap::from([("virga:domain".to_owned(), "a.example.com".to_owned())]);
    world.create_with(args, &[]).await;
    let f = world.named("f");
    world.functions.create_url(&world.caller, &f, UrlAuth::None, None, Default::default()).await.unwrap();
    assert!(world.functions.route_by_domain("a.example.com").is_some());
    let world = world.crash_into(Bounds { domains: Domains::default(), ..bounds() }).await;
    assert!(world.functions.route_by_domain("a.example.com").is_none());
    let change = UpdateConfiguration { timeout_s: Some(9), ..Default::default() };
    world.functions.update_configuration(&world.caller, &f, change).await.expect("nothing else is stopped");
    assert!(world.functions.route_by_domain("a.example.com").is_none());
    world.functions.untag(&world.caller, &f, &["virga:domain".to_owned()]).await.unwrap();
}
