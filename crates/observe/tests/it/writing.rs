//! From chunks to lines, and that lines are in the file before the writer goes on.

use std::sync::{Arc, Barrier};

use observe::Query;

use crate::support::{GROUP, Home, account};

#[test]
fn chunks_become_lines_at_line_feeds() {
    let home = Home::new();
    let stream = home.logs.stream(&account(), GROUP, "s");
    for chunk in ["one\ntwo", "", " and a half\r\n", "lone \r stays\n\n", "tab\tback\\slash\\n\nunfinished"] {
        stream.write(chunk.as_bytes());
    }
    assert_eq!(home.all(), ["one", "two and a half", "lone \r stays", "", "tab\tback\\slash\\n"]);
    stream.line("REPORT\nof two lines");
    assert_eq!(home.all()[5..], ["unfinished", "REPORT\nof two lines"]);
    stream.flush();
    stream.write(b"the end");
    drop(stream);
    assert_eq!(home.all()[7..], ["the end"], "a flush without a line writes none");
}

#[test]
fn bytes_that_are_no_text_are_replaced_when_read() {
    let home = Home::new();
    let stream = home.logs.stream(&account(), GROUP, "s");
    stream.write(b"a\xffb\n");
    stream.write("split \u{fc}".as_bytes().split_at(7).0);
    stream.write("split \u{fc}\n".as_bytes().split_at(7).1);
    assert_eq!(home.all(), ["a\u{fffd}b", "split \u{fc}"]);
}

#[test]
fn long_lines_are_cut_between_characters_and_nothing_is_lost() {
    let home = Home::new();
    let stream = home.logs.stream(&account(), GROUP, "s");
    let line = format!("x{}", "\u{fc}".repeat(300_000));
    for chunk in line.as_bytes().chunks(100_001) {
        stream.write(chunk);
    }
    stream.write(b"\nshort\n");
    let lines = home.all();
    assert_eq!(lines.len(), 4);
    assert!(lines.iter().all(|line| line.len() <= 256 << 10));
    assert_eq!(lines[0].len(), (256 << 10) - 1, "the cut is before the character that does not fit");
    assert_eq!(lines[..3].concat(), line);
    assert_eq!(lines[3], "short");
}

#[test]
fn a_line_is_in_the_file_when_the_call_returns() {
    let home = Home::new();
    let stream = home.logs.stream(&account(), GROUP, "s");
    stream.write(b"written\nnot yet");
    let file = std::fs::read_to_string(&home.segments()[0]).unwrap();
    assert_eq!(file, "1000\ts\twritten\n");
}

#[test]
fn streams_of_a_group_write_at_once_without_mixing_lines() {
    let home = Home::new();
    let start = Arc::new(Barrier::new(8));
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            // Half of them through a handle of their own.
            let stream = home.logs.clone().stream(&account(), GROUP, &format!("s{writer}"));
            let start = start.clone();
            std::thread::spawn(move || {
                start.wait();
                for number in 0..500 {
                    stream.write(format!("{writer}:{number}:").as_bytes());
                    stream.write(format!("{}\n", "x".repeat(number % 50)).as_bytes());
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    for writer in 0..8 {
        let query = Query { streams: vec![format!("s{writer}")], ..Query::default() };
        let expected: Vec<_> = (0..500).map(|n| format!("{writer}:{n}:{}", "x".repeat(n % 50))).collect();
        assert_eq!(home.messages(&query), expected);
    }
    assert_eq!(home.all().len(), 4000);
}

#[test]
fn a_tail_is_one_calls_end() {
    let home = Home::new();
    let stream = home.logs.stream(&account(), GROUP, "s");
    stream.line("before any tail");
    assert_eq!(stream.tail(), b"");
    stream.begin_tail();
    stream.line("START");
    stream.write(b"printed\nunfinished");
    stream.line("END");
    assert_eq!(stream.end_tail(), b"START\nprinted\nunfinished\nEND\n");
    stream.begin_tail();
    assert_eq!(stream.tail(), b"", "the next call begins");
    for number in 0..1000 {
        stream.line(&format!("line {number}"));
    }
    let tail = String::from_utf8(stream.tail()).unwrap();
    assert!(
        tail.len() <= 4096 && tail.len() > 4000 && tail.starts_with("line ") && tail.ends_with("line 999\n")
    );
    stream.end_tail();
    stream.line("after");
    assert_eq!(stream.tail(), b"");
    // Calls at once: what the first has written is not lost to it when the second begins or ends.
    stream.begin_tail();
    stream.line("first");
    stream.begin_tail();
    assert_eq!(stream.end_tail(), b"first\n");
    stream.line("last");
    assert_eq!(stream.end_tail(), b"first\nlast\n");
    assert_eq!(stream.tail(), b"");
}

/// More groups than files may be open: all are written, and few stay open.
#[test]
fn open_files_are_bounded() {
    let home = Home::new();
    let groups: Vec<_> = (0..300).map(|number| format!("/aws/lambda/f{number}")).collect();
    let streams: Vec<_> = groups.iter().map(|group| home.logs.stream(&account(), group, "s")).collect();
    for round in 0..3 {
        for stream in &streams {
            stream.line(&format!("round {round}"));
        }
    }
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let ours = open
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|file| file.starts_with(home.dir.path()));
    assert!(ours.count() <= 130);
    for group in &groups {
        let page = home.logs.filter(&account(), group, &Query::default()).unwrap();
        let messages: Vec<_> = page.events.iter().map(|event| event.message.as_str()).collect();
        assert_eq!(messages, ["round 0", "round 1", "round 2"]);
    }
}
