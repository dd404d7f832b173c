//! What is kept: groups, streams, segments, and lines after a crash.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use base::{AccountId, Timestamp};
use observe::{LogsError, Query};

use crate::support::{GROUP, Home, account};

#[test]
fn groups_and_streams_are_listed() {
    let home = Home::new();
    assert!(home.logs.group_names(&account(), "").unwrap().is_empty());
    let idle = home.logs.stream(&account(), "/aws/lambda/idle", "s");
    for (time, group, stream) in
        [(5, "b", "1"), (6, "a/x", "1"), (7, "a/y", "1"), (8, "b", "2"), (9, "b", "1")]
    {
        home.set_time(time);
        home.logs.stream(&account(), group, stream).line("line");
    }
    let names = |prefix: &str| home.logs.group_names(&account(), prefix).unwrap();
    assert_eq!(names(""), ["a/x", "a/y", "b"], "a group is made with its first line");
    assert_eq!(names("a/"), ["a/x", "a/y"]);
    let group = home.logs.group_info(&account(), "b").unwrap();
    assert_eq!(group.created, Timestamp(5));
    assert_eq!(group.stored_bytes, 3 * "5\t1\tline\n".len() as u64);

    let streams = home.logs.streams(&account(), "b", &[]).unwrap();
    let streams: Vec<_> = streams.iter().map(|s| (s.name.as_str(), s.first_event, s.last_event)).collect();
    assert_eq!(streams, [("1", Timestamp(5), Timestamp(9)), ("2", Timestamp(8), Timestamp(8))]);
    drop(idle);
}

#[test]
fn accounts_and_groups_are_apart() {
    let home = Home::new();
    home.log("s", "mine");
    let other = AccountId::parse("210987654321").unwrap();
    assert!(home.logs.group_names(&other, "").unwrap().is_empty());
    for (account, group) in
        [(&other, GROUP), (&account(), "/aws/lambda/hell"), (&account(), ".."), (&account(), "")]
    {
        let result = home.logs.filter(account, group, &Query::default());
        assert!(matches!(result, Err(LogsError::GroupNotFound)), "{group}: {result:?}");
        assert!(matches!(home.logs.streams(account, group, &[]), Err(LogsError::GroupNotFound)));
    }
}

#[test]
fn files_are_their_owners_alone() {
    let home = Home::new();
    home.log("s", "secret");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home.segments()[0]), 0o600);
    assert_eq!(mode(&home.folder()), 0o700);
}

#[test]
fn a_restart_goes_on_where_the_log_ended() {
    let home = Home::new();
    home.log("s", "before");
    let resume = home.page(&Query::default()).resume;
    home.reopened().stream(&account(), GROUP, "s").line("after");
    assert_eq!(home.all(), ["before", "after"]);
    assert_eq!(home.messages(&Query { next_token: Some(resume), ..Query::default() }), ["after"]);
}

#[test]
fn a_line_that_a_crash_has_torn_harms_no_other() {
    let home = Home::new();
    home.log("s", "whole");
    for torn in ["17\ts\thalf a li", "17\ts", "1"] {
        let mut file = std::fs::OpenOptions::new().append(true).open(&home.segments()[0]).unwrap();
        file.write_all(torn.as_bytes()).unwrap();
        let page = home.page(&Query::default());
        assert_eq!(page.events.last().unwrap().message.len(), 5, "it waits for the line's end");
        home.reopened().stream(&account(), GROUP, "s").line("later");
        let found = home.messages(&Query { next_token: Some(page.resume), ..Query::default() });
        assert_eq!(found.last().unwrap(), "later");
        assert!(found.len() <= 2, "the torn line at most comes before");
    }
    assert_eq!(home.all(), ["whole", "half a li", "later", "later", "later"]);
}

/// 80 MB into one group: eight segments of 8 MiB remain, the newest lines among them.
#[test]
fn a_groups_bytes_are_bounded() {
    let home = Home::new();
    home.log("s", "the very first");
    let first = home.page(&Query::default()).resume;
    let stream = home.logs.stream(&account(), GROUP, "s");
    let filling = "x".repeat(200_000);
    for number in 0..400 {
        home.set_time(1_000_000 * number);
        stream.line(&format!("{number} {filling}"));
    }
    let segments = home.segments();
    assert_eq!(segments.len(), 8);
    assert!(segments.iter().all(|path| std::fs::metadata(path).unwrap().len() <= 8 << 20));
    assert!(home.logs.group_info(&account(), GROUP).unwrap().stored_bytes <= 64 << 20);

    // A token into a segment that is gone leads to the oldest that is there.
    let next = home.messages(&Query { next_token: Some(first), limit: 1, ..Query::default() });
    assert_eq!(next, home.messages(&Query { limit: 1, ..Query::default() }));
    assert_ne!(next, ["the very first"]);

    // Looking for the newest does not page through all that is older.
    let late = Query { start: Some(Timestamp(1_000_000 * 399)), ..Query::default() };
    let newest = home.page(&late);
    assert_eq!(newest.events.len(), 1);
    assert!(newest.events[0].message.starts_with("399 "));
}

#[test]
fn logging_goes_on_when_the_group_was_removed_by_hand() {
    let home = Home::new();
    home.log("s", "before");
    std::fs::remove_dir_all(home.folder()).unwrap();
    home.log("s", "after");
    assert_eq!(home.all(), ["after"]);
}
