//! Host names that users bring, across restarts.

use std::collections::BTreeMap;

use functions::Error;
use functions::model::UrlAuth;

use crate::world::World;

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
