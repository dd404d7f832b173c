//! The schema on disk is the one this build knows, or opening fails.

use store::{Error, Migration, Store};

const FIRST: Migration = Migration { name: "a-0001", sql: "CREATE TABLE a (x BIGINT)" };
const SECOND: Migration =
    Migration { name: "a-0002", sql: "ALTER TABLE a ADD COLUMN y BIGINT; INSERT INTO a VALUES (1, 2)" };
const OTHER: Migration = Migration { name: "b-0001", sql: "CREATE TABLE b (x BIGINT)" };

fn open(dir: &tempfile::TempDir, nouns: &[&[Migration]]) -> Result<Store, Error> {
    Store::open(&dir.path().join("db"), nouns)
}

fn refused(dir: &tempfile::TempDir, nouns: &[&[Migration]], text: &str) {
    match open(dir, nouns) {
        Err(Error::Schema(problem)) => assert!(problem.contains(text), "{problem}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_is_applied_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir, &[&[FIRST]]).unwrap();
    for _ in 0..2 {
        let store = open(&dir, &[&[FIRST, SECOND], &[OTHER]]).unwrap();
        let rows: Result<_, Error> = store.read(|tx| tx.query("SELECT x + y FROM a", &[])).await;
        let rows = rows.unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].int(0).unwrap(), 3);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir, &[&[FIRST, SECOND], &[OTHER]]).unwrap();
    let altered = Migration { sql: "CREATE TABLE a (x TEXT)", ..FIRST };
    refused(&dir, &[&[altered, SECOND], &[OTHER]], "a-0001 was altered");
    refused(&dir, &[&[FIRST, SECOND]], "b-0001 is not known here");
    let inserted = Migration { name: "a-0001b", sql: "SELECT 1" };
    refused(&dir, &[&[FIRST, inserted, SECOND], &[OTHER]], "a-0002 is applied, but one before it is not");
    refused(&dir, &[&[FIRST, FIRST]], "a-0001 is there twice");
    open(&dir, &[&[FIRST, SECOND], &[OTHER]]).unwrap();
}

#[tokio::test]
async fn a_failed_one_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let broken = Migration { name: "b-0001", sql: "CREATE TABLE c (x BIGINT); nonsense" };
    assert!(matches!(open(&dir, &[&[FIRST], &[broken]]), Err(Error::Database(_))));
    let store = open(&dir, &[&[OTHER]]).unwrap();
    let tables: Result<_, Error> =
        store.read(|tx| tx.query("SELECT name FROM sqlite_master WHERE name IN ('a', 'b', 'c')", &[])).await;
    assert_eq!(tables.unwrap().len(), 1);
}
