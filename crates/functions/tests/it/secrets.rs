//! Environment variables in the database: sealed, whoever wrote them there.

use std::collections::BTreeMap;
use std::path::Path;

use functions::model::*;

use crate::world::World;

const CANARY: &str = "canary-5f2d81c0-in-an-environment";

/// Whether a word is anywhere in the database's files.
pub(crate) fn holds(dir: &Path, word: &str) -> bool {
    ["db", "db-wal", "db-shm"].iter().any(|name| {
        let bytes = std::fs::read(dir.join(name)).unwrap_or_default();
        bytes.windows(word.len()).any(|window| window == word.as_bytes())
    })
}

async fn create(world: &World) {
    let mut args = World::args("hello", "echo");
    args.environment.insert("TOKEN".into(), CANARY.into());
    args.publish = true;
    world.create_with(args, &[]).await;
}

/// What the function's instances and the API see.
async fn check_seen(world: &World) {
    let view = world.functions.get(&world.caller, &world.version("hello", "1")).unwrap();
    assert_eq!(view.configuration.environment["TOKEN"], CANARY);
    world.invoke("hello", "{}").await.unwrap().result.unwrap();
    let started = world.stage.started.borrow().last().unwrap().clone();
    assert!(started.env.contains(&("TOKEN".to_owned(), CANARY.to_owned())));
}

#[tokio::test]
async fn variables_are_not_on_disk_in_plain() {
    let world = World::new().await;
    create(&world).await;
    let mut environment = BTreeMap::from([("TOKEN".to_owned(), CANARY.to_owned())]);
    environment.insert("MORE".into(), format!("{CANARY}-too"));
    let update = UpdateConfiguration { environment: Some(environment), ..UpdateConfiguration::default() };
    let hello = world.named("hello");
    world.functions.update_configuration(&world.caller, &hello, update).await.unwrap();
    world.settled(&hello).await;
    assert!(holds(world.dir.path(), "hello"), "the files are looked at");
    assert!(!holds(world.dir.path(), CANARY));
    let world = world.crash().await;
    check_seen(&world).await;
    assert!(!holds(world.dir.path(), CANARY));
}

/// What a server of before there was sealing wrote.
async fn write_plain(world: &World) {
    let rows = |tx: &mut dyn store::Tx| -> Result<(), store::Error> {
        let rows = tx.query("SELECT version, document FROM function_versions", &[])?;
        for row in rows {
            let mut document: serde_json::Value = serde_json::from_str(row.text(1)?).expect("a document");
            let sealed = document.as_object_mut().and_then(|document| document.remove("environment"));
            assert!(sealed.is_some(), "it was sealed");
            document["configuration"]["environment"] = serde_json::json!({ "TOKEN": CANARY });
            let values = [row.0[0].clone(), document.to_string().into()];
            tx.execute("UPDATE function_versions SET document = $2 WHERE version = $1", &values)?;
        }
        tx.execute("INSERT INTO function_chores (name) VALUES ('seal')", &[]).map(drop)
    };
    world.store.write(rows).await.unwrap();
}

#[tokio::test]
async fn what_an_earlier_server_wrote_in_plain_is_sealed_and_erased() {
    let world = World::new().await;
    create(&world).await;
    write_plain(&world).await;
    assert!(holds(world.dir.path(), CANARY), "the test writes what it looks for");
    let world = world.crash().await;
    assert!(!holds(world.dir.path(), CANARY));
    check_seen(&world).await;
    let world = world.crash().await;
    check_seen(&world).await;
    assert!(!holds(world.dir.path(), CANARY));
}

#[tokio::test]
async fn variables_open_for_their_own_function_only() {
    let world = World::new().await;
    create(&world).await;
    let other = world.create("other", "echo").await;
    assert!(other.configuration.environment.is_empty());
    let steal = |tx: &mut dyn store::Tx| {
        let sql = "UPDATE function_versions SET document = (SELECT document FROM function_versions WHERE name = 'hello' \
                   AND version = '$LATEST') WHERE name = 'other'";
        tx.execute(sql, &[]).map(drop)
    };
    world.store.write::<_, store::Error, _>(steal).await.unwrap();
    let error = world.reopen().await.err().expect("the rows do not fit");
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert_eq!(cause, "the environment variables of other:$LATEST were sealed with another key");
}
