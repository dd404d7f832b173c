//! Reading: filters, pages, tokens.

use base::Timestamp;
use observe::{LogsError, Query};

use crate::support::{GROUP, Home, account};

fn from(token: &str) -> Query {
    Query { next_token: Some(token.to_owned()), ..Query::default() }
}

#[test]
fn filters_by_stream_prefix_and_time() {
    let home = Home::new();
    for (time, stream, text) in [(10, "a/1", "1"), (20, "a/2", "2"), (30, "b/1", "3"), (40, "a/1", "4")] {
        home.set_time(time);
        home.log(stream, text);
    }
    let query = Query::default;
    let streams = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(home.messages(&query()), ["1", "2", "3", "4"]);
    assert_eq!(home.messages(&Query { streams: streams(&["a/1"]), ..query() }), ["1", "4"]);
    assert_eq!(home.messages(&Query { streams: streams(&["a/2", "b/1"]), ..query() }), ["2", "3"]);
    assert_eq!(home.messages(&Query { stream_prefix: Some("a/".into()), ..query() }), ["1", "2", "4"]);
    let between = Query { start: Some(Timestamp(20)), end: Some(Timestamp(30)), ..query() };
    assert_eq!(home.messages(&between), ["2", "3"], "both ends included");
    assert!(home.messages(&Query { streams: streams(&["a"]), ..query() }).is_empty());

    let event = &home.page(&query()).events[3];
    assert_eq!((event.stream.as_str(), event.timestamp), ("a/1", Timestamp(40)));
}

#[test]
fn pages_join_without_gap_or_overlap() {
    let home = Home::new();
    for number in 0..25 {
        home.log(if number % 2 == 0 { "even" } else { "odd" }, &number.to_string());
    }
    let mut query = Query { limit: 4, streams: vec!["even".into()], ..Query::default() };
    let mut seen = Vec::new();
    let mut ids = Vec::new();
    loop {
        let page = home.page(&query);
        assert!(page.events.len() <= 4);
        ids.extend(page.events.iter().map(|event| event.id.clone()));
        seen.extend(page.events.into_iter().map(|event| event.message));
        match page.next_token {
            Some(token) => query.next_token = Some(token),
            None => break,
        }
    }
    let expected: Vec<_> = (0..25).step_by(2).map(|number| number.to_string()).collect();
    assert_eq!(seen, expected);
    assert!(ids.is_sorted_by(|a, b| a < b), "ids are unique and in order");
}

#[test]
fn a_page_that_ends_with_the_log_has_no_next() {
    let home = Home::new();
    home.log("s", "1");
    home.log("s", "2");
    assert_eq!(home.page(&Query { limit: 2, ..Query::default() }).next_token, None);
    assert!(home.page(&Query { limit: 1, ..Query::default() }).next_token.is_some());
}

#[test]
fn resume_finds_what_comes_later() {
    let home = Home::new();
    home.log("s", "first");
    let page = home.page(&Query::default());
    assert_eq!(page.next_token, None);
    let nothing = home.page(&from(&page.resume));
    assert!(nothing.events.is_empty());
    assert_eq!(nothing.resume, page.resume);
    home.log("s", "second");
    let page = home.page(&from(&nothing.resume));
    assert_eq!(page.events.len(), 1);
    assert_eq!(page.events[0].message, "second");
    assert!(home.page(&from(&page.resume)).events.is_empty());
}

#[test]
fn tokens_that_are_not_ours_are_refused() {
    let home = Home::new();
    home.log("s", "line");
    let resume = home.page(&Query::default()).resume;
    let within = format!("{}{}", &resume[..resume.len() - 1], 3);
    let behind = format!("{}9{}", &resume[..resume.len() - 3], &resume[resume.len() - 2..]);
    let later = "p00000000990000000000".to_owned();
    for token in ["", "x", "p1", "p-0000000010000000000", "pa0000000010000000000", &within, &behind, &later] {
        let result = home.logs.filter(&account(), GROUP, &from(token));
        assert!(matches!(result, Err(LogsError::InvalidToken)), "{token}");
    }
}

#[test]
fn pages_are_bounded_in_bytes() {
    let home = Home::new();
    let stream = home.logs.stream(&account(), GROUP, "s");
    for _ in 0..30 {
        stream.line(&"x".repeat(100_000));
    }
    let page = home.page(&Query::default());
    assert_eq!(page.events.len(), 11, "1 MiB, and the line that crosses it");
    assert!(page.next_token.is_some());
}

/// What is looked through for one page is bounded too: it may be empty and still have a next.
#[test]
fn looking_for_a_rare_line_goes_on_page_by_page() {
    let home = Home::new();
    let noise = home.logs.stream(&account(), GROUP, "noise");
    for _ in 0..200 {
        noise.line(&"x".repeat(200_000));
    }
    home.log("rare", "found");
    let mut query = Query { streams: vec!["rare".into()], ..Query::default() };
    let mut pages = 0;
    let found = loop {
        let page = home.page(&query);
        pages += 1;
        match page.next_token {
            Some(token) => {
                assert!(page.events.is_empty());
                query.next_token = Some(token);
            }
            None => break page.events,
        }
    };
    assert_eq!(found[0].message, "found");
    assert!(pages >= 3, "40 MB in {pages} pages");
}
