//! Writing and reading events: limits, order, both directions, patterns.

use base::Timestamp;
use logs::{Direction, NewEvent, Rejected, Search};

use crate::support::{DAY, NOW, World, account, events, group, messages, pattern, refused};

#[tokio::test]
async fn what_is_put_is_read_and_survives() {
    let world = World::new().with_stream().await;
    let rejected =
        world.put("s", &[(NOW - 5, "first\n\twith\\all"), (NOW - 5, "ünï"), (NOW, "last")]).await.unwrap();
    assert_eq!(rejected, Rejected::default());
    let world = world.reopened();
    let page = world.search(Search::default()).await.unwrap();
    assert_eq!(messages(&page), ["first\n\twith\\all", "ünï", "last"]);
    let times: Vec<_> =
        page.events.iter().map(|e| (e.timestamp.as_millis(), e.ingested.as_millis())).collect();
    assert_eq!(times, [(NOW - 5, NOW), (NOW - 5, NOW), (NOW, NOW)]);
    assert!(refused(world.put("t", &[(NOW, "x")]).await).contains("log stream does not exist"));
    let nowhere = world.logs.put_events(&group("h"), "s", events(&[(NOW, "x")])).await;
    assert!(refused(nowhere).contains("log group does not exist"));
}

#[tokio::test]
async fn events_too_old_and_too_new_are_left_out() {
    let world = World::new().with_stream().await;
    let two_hours = 2 * DAY / 24;
    let check = async |texts: &[(i64, &str)], too_old_until, expired_until, too_new_from| {
        let expect = Rejected { too_new_from, too_old_until, expired_until };
        assert_eq!(world.put("s", texts).await.unwrap(), expect, "{texts:?}");
    };
    check(&[(NOW - 14 * DAY - 1, "no"), (NOW - 14 * DAY, "oldest")], Some(1), None, None).await;
    check(&[(NOW + two_hours, "newest"), (NOW + two_hours + 1, "no")], None, None, Some(1)).await;
    world.logs.set_retention(&group("g"), Some(3)).await.unwrap();
    check(&[(NOW - 3 * DAY - 1, "no"), (NOW - 3 * DAY, "kept")], None, Some(1), None).await;
    check(&[(NOW - 15 * DAY, "no")], Some(1), Some(1), None).await;
    check(&[(NOW + two_hours + 1, "no")], None, None, Some(0)).await;
    world.logs.set_retention(&group("g"), None).await.unwrap();
    assert_eq!(world.all().await, ["oldest", "kept", "newest"], "a page is in the order of time");
}

#[tokio::test]
async fn batches_are_bounded() {
    let world = World::new().with_stream().await;
    let event =
        |time: i64, length: usize| NewEvent { timestamp: Timestamp(time), message: "x".repeat(length) };
    let put = async |events: Vec<NewEvent>| world.logs.put_events(&group("g"), "s", events).await;
    let many = |count: usize| vec![event(NOW, 1); count];
    put(many(10_000)).await.unwrap();
    assert!(refused(put(many(10_001)).await).contains("between 1 and 10000"));
    assert!(refused(put(Vec::new()).await).contains("between 1 and 10000"));
    put(vec![event(NOW, 1_048_550)]).await.unwrap();
    assert_eq!(
        refused(put(vec![event(NOW, 1_048_551)]).await),
        "Log event too large: 1048577 bytes exceeds limit of 1048576"
    );
    put(vec![event(NOW, 524_262), event(NOW, 524_262)]).await.unwrap();
    assert_eq!(
        refused(put(vec![event(NOW, 524_262), event(NOW, 524_263)]).await),
        "Upload too large: 1048577 bytes exceeds limit of 1048576"
    );
    put(vec![event(NOW - DAY, 1), event(NOW, 1)]).await.unwrap();
    assert!(
        refused(put(vec![event(NOW - DAY - 1, 1), event(NOW, 1)]).await).contains("span more than 24 hours")
    );
    assert!(refused(put(vec![event(NOW, 1), event(NOW - 1, 1)]).await).contains("chronological order"));
    assert!(refused(put(vec![event(-1, 1)]).await).contains("negative"));
    assert!(refused(put(vec![event(NOW, 0)]).await).contains("empty"));
    // Whole pages, each of about 1 MB: nothing is missing.
    let (mut found, mut token) = (0, None);
    loop {
        let page = world.search(Search { token, ..Search::default() }).await.unwrap();
        found += page.events.len();
        token = page.next;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(found, 10_000 + 1 + 2 + 2);
}

#[tokio::test]
async fn a_stream_is_read_in_both_directions() {
    let world = World::new().with_stream().await;
    for number in 0..10 {
        world.put("s", &[(NOW + number, &format!("{number}"))]).await.unwrap();
        world.files.stream(&account(), "g", "other").line("not this one");
    }
    let last = world.page(Direction::Backward, None, 4).await;
    assert_eq!(messages(&last), ["6", "7", "8", "9"]);
    let middle = world.page(Direction::Backward, Some(&last.start), 4).await;
    assert_eq!(messages(&middle), ["2", "3", "4", "5"]);
    let first = world.page(Direction::Backward, Some(&middle.start), 4).await;
    assert_eq!(messages(&first), ["0", "1"]);
    let none = world.page(Direction::Backward, Some(&first.start), 4).await;
    assert!(none.events.is_empty() && none.next.is_none());
    // And forward again, from each page's end.
    assert_eq!(messages(&world.page(Direction::Forward, Some(&first.end), 4).await), ["2", "3", "4", "5"]);
    assert_eq!(messages(&world.page(Direction::Forward, Some(&middle.end), 2).await), ["6", "7"]);
    let head = world.page(Direction::Forward, None, 3).await;
    assert_eq!(messages(&head), ["0", "1", "2"]);
    assert_eq!(messages(&world.page(Direction::Backward, Some(&head.end), 2).await), ["1", "2"]);
    let end = world.page(Direction::Forward, Some(&last.end), 3).await;
    assert!(end.events.is_empty() && end.next.is_none());
    world.put("s", &[(NOW + 10, "10")]).await.unwrap();
    assert_eq!(messages(&world.page(Direction::Forward, Some(&end.end), 3).await), ["10"]);
    let missing = world
        .logs
        .read_stream(&group("g"), "t", Direction::Forward, Search { most: 1, ..Search::default() })
        .await;
    assert!(refused(missing).contains("log stream does not exist"));
    let bad = Search { most: 1, token: Some("p1".to_owned()), ..Search::default() };
    assert!(refused(world.search(bad).await).contains("nextToken"));
}

/// 20 MB in three segments: going backward crosses them, and finds what is rare.
#[tokio::test]
async fn reading_backward_crosses_segments() {
    let world = World::new().with_stream().await;
    world.put("s", &[(NOW, "rare 0")]).await.unwrap();
    let other = world.files.stream(&account(), "g", "other");
    for number in 1..3 {
        for _ in 0..50 {
            other.line(&"x".repeat(200_000));
        }
        world.put("s", &[(NOW, &format!("rare {number}"))]).await.unwrap();
    }
    let (mut found, mut token) = (Vec::new(), None::<String>);
    loop {
        let page = world.page(Direction::Backward, token.as_deref(), 1).await;
        found.extend(messages(&page));
        token = Some(page.start);
        if page.next.is_none() {
            break;
        }
    }
    assert_eq!(found, ["rare 2", "rare 1", "rare 0"]);
}

#[tokio::test]
async fn patterns_choose_events() {
    let world = World::new().with_stream().await;
    world.logs.create_stream(&group("g"), "t").await.unwrap();
    world.put("s", &[(NOW, "ERROR one"), (NOW + 1, r#"{"level":"ERROR","ms":7}"#)]).await.unwrap();
    world.put("t", &[(NOW + 2, "GET /x 404"), (NOW + 3, "fine")]).await.unwrap();
    assert_eq!(world.found(pattern("ERROR")).await.len(), 2);
    assert_eq!(world.found(pattern("ERROR -one")).await, [r#"{"level":"ERROR","ms":7}"#]);
    assert_eq!(world.found(pattern("{ $.ms > 6 }")).await, [r#"{"level":"ERROR","ms":7}"#]);
    assert_eq!(world.found(pattern("[..., status = 4*]")).await, ["GET /x 404"]);
    assert_eq!(world.found(pattern("")).await.len(), 4);
    let one = Search { most: 1, ..pattern("ERROR") };
    let page = world.search(one).await.unwrap();
    assert_eq!(messages(&page), ["ERROR one"]);
    let rest = Search { token: page.next, ..pattern("ERROR") };
    assert_eq!(world.found(rest).await, [r#"{"level":"ERROR","ms":7}"#]);
    let in_t = Search { stream_prefix: Some("t".to_owned()), ..pattern("ERROR") };
    assert!(world.found(in_t).await.is_empty());
    let missing = Search { streams: vec!["u".to_owned()], ..Search::default() };
    assert!(refused(world.search(missing).await).contains("log stream does not exist"));
}
