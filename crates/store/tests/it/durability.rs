//! What was answered stays, and the files are private.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use store::{Error, Migration, Store, Value};

use crate::transactions::{TABLE, insert, names, open};

const CHILD: &str = "STORE_TEST_CHILD_DIR";
const LIMITED_CHILD: &str = "STORE_TEST_LIMITED_CHILD_DIR";

#[tokio::test]
async fn a_reopened_store_has_everything() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let written: Result<_, Error> = store.write(|tx| insert(tx, "kept", 1)).await;
    written.unwrap();
    drop(store);
    assert_eq!(names(&open(dir.path())).await, ["kept"]);
}

#[tokio::test]
async fn files_are_their_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let written: Result<_, Error> = store.write(|tx| insert(tx, "x", 1)).await;
    written.unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        seen += 1;
    }
    assert_eq!(seen, 3, "the database, its log and the log's index");
}

#[test]
fn what_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("db"),
        "this is a text, and long enough to be taken for a page ".repeat(50),
    )
    .unwrap();
    assert!(matches!(Store::open(&dir.path().join("db"), &[TABLE]), Err(Error::Database(_))));
    assert!(matches!(Store::open(&dir.path().join("no/such/db"), &[TABLE]), Err(Error::Io { .. })));
}

/// Not a test of its own: what the child of the next one does. It prints every name once it was answered.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let store = open(Path::new(&dir));
    for number in 0.. {
        let tasks: Vec<_> = (0..8)
            .map(|writer| {
                let store = store.clone();
                let name = format!("{number:06}-{writer}");
                runtime.spawn(async move {
                    let row = name.clone();
                    let written: Result<_, Error> = store.write(move |tx| insert(tx, &row, 1)).await;
                    written.map(|_| name)
                })
            })
            .collect();
        for task in tasks {
            let name = runtime.block_on(task).unwrap().unwrap();
            let mut out = std::io::stdout().lock();
            writeln!(out, "answered {name}").unwrap();
            out.flush().unwrap();
        }
    }
}

#[tokio::test]
async fn what_was_answered_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "durability::child_that_writes_until_it_is_killed", "--nocapture"])
        .env(CHILD, dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let name = |line: String| line.split_once("answered ").map(|(_, name)| name.to_owned());
    let mut answered: Vec<String> = lines.by_ref().map_while(Result::ok).filter_map(name).take(200).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had still managed to say, but for a torn last line.
    answered.extend(lines.map_while(Result::ok).filter_map(name).filter(|name| name.len() == 8));
    assert!(answered.len() >= 200);
    let kept = names(&open(dir.path())).await;
    for name in answered {
        assert!(kept.binary_search(&name).is_ok(), "{name} was answered and is gone");
    }
}

/// Not a test of its own: what the child of the next one does. Its files cannot grow beyond a limit, so that
/// the write before some commit's fsync fails with an error that is not a full disk.
#[test]
fn child_whose_commits_fail() {
    let Some(dir) = std::env::var_os(LIMITED_CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = open(Path::new(&dir));
        let mut kept = Vec::new();
        let error = loop {
            let name = format!("{:04}", kept.len());
            let row = name.clone();
            let written: Result<_, Error> = store.write(move |tx| insert(tx, &row, 1)).await;
            match written {
                Ok(_) => kept.push(name),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Stopped(_)), "{error:?}");
        let again: Result<_, Error> = store.write(|tx| insert(tx, "again", 1)).await;
        assert!(matches!(again, Err(Error::Stopped(_))), "{again:?}");
        assert_eq!(names(&store).await, kept, "what was answered can still be read");
    });
    println!("stopped as it should");
}

#[tokio::test]
async fn a_failed_commit_stops_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let run =
        "trap '' XFSZ; ulimit -f 400; exec \"$0\" --exact durability::child_whose_commits_fail --nocapture";
    let output = Command::new("sh")
        .args(["-c", run])
        .arg(std::env::current_exe().unwrap())
        .env(LIMITED_CHILD, dir.path())
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("stopped as it should"), "{said}");
}

#[tokio::test]
async fn nothing_of_old_content_is_left_once_it_is_erased() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.db");
    let migration =
        Migration { name: "t-0001", sql: "CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT NOT NULL)" };
    let store = Store::open(&file, &[&[migration]]).unwrap();
    let execute = |sql: &'static str, value: Value| {
        store.write::<_, Error, _>(move |tx| tx.execute(sql, std::slice::from_ref(&value)))
    };
    let holds = |word: &str| {
        ["x.db", "x.db-wal"].iter().any(|name| {
            let bytes = std::fs::read(dir.path().join(name)).unwrap();
            bytes.windows(word.len()).any(|window| window == word.as_bytes())
        })
    };
    execute("INSERT INTO t (id, text) VALUES (1, $1)", "an-old-secret".into()).await.unwrap();
    execute("UPDATE t SET text = $1", "what-is-now".into()).await.unwrap();
    assert!(holds("an-old-secret") && holds("what-is-now"));
    store.erase_remains().await.unwrap();
    assert!(!holds("an-old-secret") && holds("what-is-now"));
    execute("UPDATE t SET text = $1", "later".into()).await.unwrap();
}
