//! Function URLs at host names that users bring.

use std::collections::BTreeMap;

use bytes::Bytes;
use functions::Error;

use crate::world::{Answer, World};

async fn name_it(world: &World, function: &str, domains: &str) -> Result<(), Error> {
    let tags = BTreeMap::from([("virga:domain".to_owned(), domains.to_owned())]);
    world.functions.tag(&world.caller, &world.named(function), tags).await
}

async fn get(world: &World, host: &str, path: &str) -> Answer {
    world.send(http::Request::get(path).header("host", host).body(Bytes::new()).unwrap()).await
}

#[tokio::test]
async fn a_name_leads_to_its_function() {
    let world = World::new().await;
    world.function("shop", "http", None).await;
    world.function("other", "lambda", None).await;
    assert_eq!(get(&world, "shop.example.com", "/").await.status, 403, "the API's");
    let before = world.functions.get(&world.caller, &world.named("shop")).unwrap().configuration;
    name_it(&world, "shop", "shop.example.com www.example.com").await.unwrap();
    let after = world.functions.get(&world.caller, &world.named("shop")).unwrap().configuration;
    assert_eq!(before.revision_id, after.revision_id, "nothing is prepared for it");
    for host in ["shop.example.com", "WWW.example.com:9080"] {
        assert_eq!(get(&world, host, "/a?b").await.json()["target"], "/a?b");
    }
    let path = get(&world, "shop.example.com", "/_fn/other/x").await;
    assert_eq!(path.json()["target"], "/_fn/other/x", "paths there are the function's");

    name_it(&world, "other", "other.example.com").await.unwrap();
    let event = get(&world, "other.example.com:1", "/x").await.json();
    let context = &event["requestContext"];
    assert_eq!(
        (&context["domainName"], &context["domainPrefix"]),
        (&"other.example.com".into(), &"other".into())
    );

    name_it(&world, "shop", "shop.example.com").await.unwrap();
    assert_eq!(get(&world, "www.example.com", "/").await.status, 403, "it was taken back");
    world.functions.delete_url(&world.caller, &world.named("shop")).await.unwrap();
    assert_eq!(get(&world, "shop.example.com", "/").await.status, 403, "there is nothing at it");
}

#[tokio::test]
async fn a_name_is_one_functions() {
    let world = World::new().await;
    world.function("f", "http", None).await;
    world.function("g", "http", None).await;
    name_it(&world, "f", "a.example.com").await.unwrap();
    let taken = name_it(&world, "g", "b.example.com a.example.com").await;
    assert!(matches!(taken, Err(Error::Conflict(_))), "{taken:?}");
    assert_eq!(get(&world, "b.example.com", "/").await.status, 403, "none of what was asked for together");
    for bad in ["127.0.0.1", "localhost", "a.localhost", "a_b.example.com"] {
        assert!(matches!(name_it(&world, "g", bad).await, Err(Error::Invalid(_))), "{bad}");
    }
    world.functions.delete(&world.caller, &world.named("f")).await.unwrap();
    name_it(&world, "g", "a.example.com").await.unwrap();
    assert_eq!(get(&world, "a.example.com", "/y").await.json()["target"], "/y");
}
