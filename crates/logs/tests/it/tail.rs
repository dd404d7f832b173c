//! Live tails: what comes after they began, of whom, and how many there may be.

use std::sync::Arc;

use base::AccountId;
use logs::{GroupName, Pattern, Tail, Wanted};

use crate::support::{NOW, World, account, group, refused};

async fn shown(tail: &mut Tail) -> Vec<String> {
    tail.next()
        .await
        .unwrap()
        .into_iter()
        .map(|(group, event)| format!("{}: {}", group.name, event.message))
        .collect()
}

#[tokio::test]
async fn a_tail_shows_what_comes_after_it_began() {
    let world = World::new().with_stream().await;
    world.logs.create_group(&group("h"), Default::default()).await.unwrap();
    world.put("s", &[(NOW, "before")]).await.unwrap();
    let mut tail = world.logs.tail(vec![group("g"), group("h")], Wanted::default()).await.unwrap();
    assert!(shown(&mut tail).await.is_empty());
    world.put("s", &[(NOW, "one")]).await.unwrap();
    world.files.stream(&account(), "h", "t").line("two");
    assert_eq!(shown(&mut tail).await, ["g: one", "h: two"]);
    assert!(shown(&mut tail).await.is_empty(), "nothing is shown twice");
    // A group that is deleted and made again goes on from its start.
    world.logs.delete_group(&group("h")).await.unwrap();
    assert!(shown(&mut tail).await.is_empty());
    world.files.stream(&account(), "h", "t").line("anew");
    assert_eq!(shown(&mut tail).await, ["h: anew"]);
    let missing = world.logs.tail(vec![group("i")], Wanted::default()).await;
    assert!(refused(missing).contains("log group does not exist"));
}

#[tokio::test]
async fn a_tail_shows_what_is_wanted() {
    let world = World::new().with_stream().await;
    let pattern = Some(Arc::new(Pattern::parse("ERROR").unwrap()));
    let by_pattern = Wanted { pattern, ..Wanted::default() };
    let by_prefix = Wanted { prefixes: vec!["x".to_owned(), "t".to_owned()], ..Wanted::default() };
    let by_name = Wanted { streams: vec!["s".to_owned()], ..Wanted::default() };
    let mut tails = Vec::new();
    for wanted in [by_pattern, by_prefix, by_name] {
        tails.push(world.logs.tail(vec![group("g")], wanted).await.unwrap());
    }
    world.put("s", &[(NOW, "ERROR a"), (NOW, "b")]).await.unwrap();
    world.files.stream(&account(), "g", "t").line("c");
    assert_eq!(shown(&mut tails[0]).await, ["g: ERROR a"]);
    assert_eq!(shown(&mut tails[1]).await, ["g: c"]);
    assert_eq!(shown(&mut tails[2]).await, ["g: ERROR a", "g: b"]);
}

#[tokio::test]
async fn tails_are_told_that_the_server_stops() {
    let world = World::new().with_stream().await;
    let tail = world.logs.tail(vec![group("g")], Wanted::default()).await.unwrap();
    let mut stopped = std::pin::pin!(tail.stopped());
    let waiting = stopped.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    assert!(waiting.is_pending());
    world.logs.stop_tails();
    stopped.await;
    world.logs.tail(vec![group("g")], Wanted::default()).await.unwrap().stopped().await;
}

#[tokio::test]
async fn an_account_has_fifteen_tails() {
    let world = World::new().with_stream().await;
    let mut tails = Vec::new();
    for _ in 0..15 {
        tails.push(world.logs.tail(vec![group("g")], Wanted::default()).await.unwrap());
    }
    let more = async || world.logs.tail(vec![group("g")], Wanted::default()).await;
    assert!(refused(more().await).contains("Too many"));
    let other = GroupName { account: AccountId::parse("210987654321").unwrap(), name: "g".to_owned() };
    world.logs.create_group(&other, Default::default()).await.unwrap();
    world.logs.tail(vec![other], Wanted::default()).await.unwrap();
    tails.pop();
    more().await.unwrap();
}
