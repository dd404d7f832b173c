//! What is known of callers, after the server: written now and then and at the end, read at the start, gone with the
//! function.

use std::time::Duration;

use functions::keep_alive::Habits;
use functions::model::*;
use functions::{Bounds, Scaling};
use store::{Tx, Value};

use crate::world::{World, bounds, until};

const SHORTEST: Duration = Duration::from_millis(100);
/// What instances are kept for of callers that nothing is known of: longer than any test waits.
const FIXED: Duration = Duration::from_secs(300);
/// So often that a test need not wait for it; or never, so that it is the end that writes.
const OFTEN: Duration = Duration::from_millis(50);
const NEVER: Duration = Duration::from_secs(86_400);

async fn world(remember_every: Duration) -> World {
    let scaling = Scaling { keep_at_least: SHORTEST, remember_every, ..Scaling::default() };
    let world = World::with(Bounds { idle_timeout: FIXED, scaling, ..bounds() }).await;
    world.create("f", "echo").await;
    world
}

/// Calls with pauses between them, as often as makes a habit.
async fn call_regularly(world: &World, function: &FunctionRef) {
    for pause in [true, true, true, true, false] {
        let mut call = world.call("f", "1");
        call.function = function.clone();
        world.functions.invoke(&world.caller, call).await.unwrap();
        if pause {
            tokio::time::timeout(SHORTEST * 3 / 2, std::future::pending::<()>()).await.unwrap_err();
        }
    }
}

/// What is written down: version and bytes.
async fn rows(world: &World) -> Vec<(String, Vec<u8>)> {
    let read = |tx: &mut dyn Tx| -> Result<Vec<(String, Vec<u8>)>, store::Error> {
        let rows = tx.query("SELECT version, habits FROM function_habits ORDER BY version", &[])?;
        rows.iter().map(|row| Ok((row.text(0)?.to_owned(), row.blob(1)?.to_owned()))).collect()
    };
    world.store.read(read).await.unwrap()
}

/// Whether these bytes say more than that nothing is known.
fn say_something(bytes: &[u8]) -> bool {
    let habits = Habits::from_bytes(bytes, SHORTEST).expect("habits");
    habits.forecast(FIXED).keep < FIXED / 10
}

/// One call from nothing, after which the instance goes as its caller's habits say, long before the fixed time.
async fn is_remembered(world: &World) {
    world.invoke("f", "1").await.unwrap();
    world.live(1).await;
    world.live(0).await;
}

#[tokio::test]
async fn a_server_that_stops_tells_the_next() {
    let world = world(NEVER).await;
    call_regularly(&world, &world.named("f")).await;
    assert_eq!(rows(&world).await, [], "calls write nothing");
    world.functions.shutdown(Duration::ZERO).await;
    let written = rows(&world).await;
    assert!(written.len() == 1 && say_something(&written[0].1), "{written:?}");
    let world = world.crash().await;
    is_remembered(&world).await;
    // It adds to what it was told.
    call_regularly(&world, &world.named("f")).await;
    world.functions.shutdown(Duration::ZERO).await;
    assert!(say_something(&rows(&world).await[0].1));
    assert_ne!(rows(&world).await, written);
}

#[tokio::test]
async fn a_server_that_crashes_has_told_the_next() {
    let world = world(OFTEN).await;
    call_regularly(&world, &world.named("f")).await;
    let written = async { while !rows(&world).await.first().is_some_and(|row| say_something(&row.1)) {} };
    tokio::time::timeout(crate::world::WAIT, written).await.expect("written in time");
    is_remembered(&world.crash().await).await;
}

#[tokio::test]
async fn what_makes_no_sense_is_as_good_as_nothing() {
    let world = world(NEVER).await;
    let garble = |tx: &mut dyn Tx| -> Result<(), store::Error> {
        let garbage = Value::Blob(vec![0xff; 40]);
        let mut put = |name: &str, version: &str, habits: Value| {
            let account = "SELECT account FROM functions LIMIT 1";
            let sql = format!("INSERT INTO function_habits VALUES (({account}), $1, $2, $3)");
            tx.execute(&sql, &[name.into(), version.into(), habits]).map(drop)
        };
        put("f", "$LATEST", garbage.clone())?;
        put("f", "7", garbage.clone())?;
        put("f", "no number", Value::from("text"))?;
        put("nobody", "$LATEST", Value::Blob(Habits::new(SHORTEST).to_bytes()))?;
        tx.execute("INSERT INTO function_habits VALUES ('no account', 'f', '$LATEST', $1)", &[garbage])
            .map(drop)
    };
    world.store.write(garble).await.unwrap();
    let world = world.crash().await;
    call_regularly(&world, &world.named("f")).await;
    world.functions.shutdown(Duration::ZERO).await;
    // And what is learnt then takes its place.
    is_remembered(&world.crash().await).await;
}

#[tokio::test]
async fn nothing_is_known_of_what_is_gone() {
    let world = world(OFTEN).await;
    let latest = world.named("f");
    world.functions.publish(&world.caller, &latest, PublishVersion::default()).await.unwrap();
    let version = world.version("f", "1");
    call_regularly(&world, &version).await;
    call_regularly(&world, &latest).await;
    let all = async { while rows(&world).await.len() < 2 {} };
    tokio::time::timeout(crate::world::WAIT, all).await.expect("written in time");
    world.functions.delete(&world.caller, &version).await.unwrap();
    let left: Vec<String> = rows(&world).await.into_iter().map(|(version, _)| version).collect();
    assert_eq!(left, ["$LATEST"]);
    // News of it that come later find nothing to belong to.
    call_regularly(&world, &latest).await;
    world.functions.delete(&world.caller, &latest).await.unwrap();
    assert_eq!(rows(&world).await, []);
    world.functions.shutdown(Duration::ZERO).await;
    assert_eq!(rows(&world).await, []);
    // One of the same name is somebody else.
    let world = world.crash().await;
    world.create("f", "echo").await;
    world.invoke("f", "1").await.unwrap();
    until("up", || (*world.stage.live.borrow() == 1).then_some(())).await;
    assert_eq!(rows(&world).await, []);
}
