//! What a transaction is, whatever the engine.

use std::path::Path;
use std::sync::mpsc;

use store::{Error, Migration, Row, Store, Tx, Value};

pub(crate) const TABLE: &[Migration] = &[Migration {
    name: "test-0001",
    sql: "CREATE TABLE items (name TEXT PRIMARY KEY NOT NULL, number BIGINT, bytes BLOB);
          CREATE TABLE parts (item TEXT NOT NULL REFERENCES items (name) DEFERRABLE INITIALLY DEFERRED);",
}];

pub(crate) fn open(dir: &Path) -> Store {
    Store::open(&dir.join("db"), &[TABLE]).unwrap()
}

pub(crate) fn insert(tx: &mut dyn Tx, name: &str, number: i64) -> Result<u64, Error> {
    tx.execute("INSERT INTO items (name, number) VALUES ($1, $2)", &[name.into(), number.into()])
}

pub(crate) async fn names(store: &Store) -> Vec<String> {
    let rows: Result<Vec<Row>, Error> =
        store.read(|tx| tx.query("SELECT name FROM items ORDER BY name", &[])).await;
    rows.unwrap().iter().map(|row| row.text(0).unwrap().to_owned()).collect()
}

fn fresh() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    (dir, store)
}

#[tokio::test]
async fn parameters_are_bound_by_name() {
    let (_dir, store) = fresh();
    let rows: Result<_, Error> = store
        .write(|tx| {
            tx.execute("INSERT INTO items (number, name) VALUES ($2, $1)", &["a".into(), 1.into()])?;
            tx.query(
                "SELECT $3, $1, $2, $1 FROM items WHERE number = $2 AND name = $1",
                &["a".into(), 1.into(), "c".into()],
            )
        })
        .await;
    let expected: Vec<Value> = vec!["c".into(), "a".into(), 1.into(), "a".into()];
    assert_eq!(rows.unwrap(), [Row(expected)]);
}

#[tokio::test]
async fn parameters_must_fit() {
    let (_dir, store) = fresh();
    for (sql, params) in [
        ("SELECT $1, $2", vec![Value::Int(1)]),
        ("SELECT $1", vec![1.into(), 2.into()]),
        ("SELECT $1, $3", vec![1.into(), 2.into()]),
        ("SELECT ?", vec![1.into()]),
        ("SELECT :a", vec![1.into()]),
    ] {
        let result: Result<_, Error> = store.read(move |tx| tx.query(sql, &params)).await;
        assert!(matches!(result, Err(Error::Statement(_))), "{sql}: {result:?}");
    }
}

#[tokio::test]
async fn every_value_comes_back() {
    let (_dir, store) = fresh();
    let values = vec![
        Value::Null,
        i64::MIN.into(),
        "".into(),
        "ünï\0x".into(),
        Value::Blob(Vec::new()),
        vec![0, 255].into(),
        Option::<i64>::None.into(),
    ];
    let given = values.clone();
    let rows: Result<_, Error> =
        store.read(move |tx| tx.query("SELECT $1, $2, $3, $4, $5, $6, $7", &given)).await;
    assert_eq!(rows.unwrap(), [Row(values)]);
    let real: Result<_, Error> = store.read(|tx| tx.query("SELECT 1.5", &[])).await;
    assert!(matches!(real, Err(Error::Column { column: 0, .. })));
}

#[tokio::test]
async fn an_error_rolls_back_that_closure_only() {
    let (_dir, store) = fresh();
    #[derive(Debug)]
    enum Own {
        Refused,
        Store(#[expect(dead_code, reason = "shown when the test fails")] Error),
    }
    impl From<Error> for Own {
        fn from(error: Error) -> Self {
            Self::Store(error)
        }
    }
    let refused = store.write(|tx| {
        insert(tx, "refused", 1)?;
        Err::<(), _>(Own::Refused)
    });
    let kept = store.write(|tx| insert(tx, "kept", 2));
    let (refused, kept): (_, Result<_, Error>) = tokio::join!(refused, kept);
    assert!(matches!(refused, Err(Own::Refused)));
    assert_eq!(kept.unwrap(), 1);
    assert_eq!(names(&store).await, ["kept"]);
}

#[tokio::test]
async fn a_transaction_is_dead_after_its_first_error() {
    let (_dir, store) = fresh();
    let result: Result<(), Error> = store
        .write(|tx| {
            insert(tx, "a", 1)?;
            assert!(matches!(insert(tx, "a", 2), Err(Error::Database(_))));
            assert!(matches!(insert(tx, "b", 2), Err(Error::Dead)));
            assert!(matches!(tx.query("SELECT 1", &[]), Err(Error::Dead)));
            Ok(())
        })
        .await;
    assert!(matches!(result, Err(Error::Dead)), "an Ok after an error keeps nothing");
    assert!(names(&store).await.is_empty());
}

#[tokio::test]
async fn a_panic_is_that_closures_error() {
    let (_dir, store) = fresh();
    let panicked = store.write(|tx| {
        insert(tx, "lost", 1)?;
        panic!("on purpose");
    });
    let kept = store.write(|tx| insert(tx, "kept", 1));
    let (panicked, kept): (Result<(), Error>, Result<_, Error>) = tokio::join!(panicked, kept);
    assert!(matches!(panicked, Err(Error::Panicked(text)) if text == "on purpose"));
    kept.unwrap();
    let panicked: Result<(), Error> = store.read(|_| panic!("{}", "in a reader")).await;
    assert!(matches!(panicked, Err(Error::Panicked(text)) if text == "in a reader"));
    assert_eq!(names(&store).await, ["kept"]);
}

/// The first closure holds the writer until the others wait behind it, so that they share a batch: its own if
/// that is not over yet, else the next.
#[tokio::test]
async fn a_broken_deferred_constraint_fails_its_own_closure() {
    let (_dir, store) = fresh();
    let part = |item: &'static str| {
        store.write(move |tx| tx.execute("INSERT INTO parts (item) VALUES ($1)", &[item.into()]))
    };
    let (release, held) = mpsc::channel();
    let before = store.commits();
    let (hold, first, broken, last, ()): (_, _, Result<_, Error>, _, _) = tokio::join!(
        hold_writer(&store, held),
        store.write(|tx| insert(tx, "first", 1)),
        part("nothing"),
        store.write(|tx| insert(tx, "last", 1)),
        async move { release.send(()).unwrap() },
    );
    hold.unwrap();
    first.unwrap();
    last.unwrap();
    assert!(matches!(broken, Err(Error::Database(_))), "{broken:?}");
    assert!(store.commits() - before >= 2, "those that are not at fault were run again, each for itself");
    let good: Result<_, Error> = part("last").await;
    assert_eq!(good.unwrap(), 1);
    assert_eq!(names(&store).await, ["first", "last"]);
}

/// Keeps the writer busy until something is sent; what came meanwhile is in the same batch or the next.
async fn hold_writer(store: &Store, held: mpsc::Receiver<()>) -> Result<(), Error> {
    store
        .write(move |_| {
            // On a second run the sender may be gone; then there is nothing to wait for.
            let _ = held.recv();
            Ok(())
        })
        .await
}

#[tokio::test]
async fn the_transaction_is_the_stores() {
    let (_dir, store) = fresh();
    for sql in
        ["COMMIT", " rollback", "SAVEPOINT x", "pragma synchronous=OFF", "ATTACH 'x' AS y", "", "-- x\nEND"]
    {
        let result: Result<_, Error> = store
            .write(move |tx| {
                insert(tx, "a", 1)?;
                tx.execute(sql, &[])
            })
            .await;
        assert!(matches!(result, Err(Error::Statement(_))), "{sql}: {result:?}");
    }
    let two: Result<_, Error> =
        store.write(|tx| tx.execute("DELETE FROM parts; DELETE FROM items", &[])).await;
    assert!(two.is_err());
    assert!(names(&store).await.is_empty());
}

#[tokio::test]
async fn transactions_have_a_bound() {
    let (_dir, store) = fresh();
    let result: Result<(), Error> = store
        .write(|tx| {
            for number in 0..20 {
                let params = [number.to_string().into(), vec![0; 1 << 20].into()];
                tx.execute("INSERT INTO items (name, bytes) VALUES ($1, $2)", &params)?;
            }
            Ok(())
        })
        .await;
    assert!(matches!(result, Err(Error::TooLarge(store::MAX_TRANSACTION_BYTES))), "{result:?}");
    assert!(names(&store).await.is_empty());
}

#[tokio::test]
async fn text_is_compared_bytewise() {
    let (_dir, store) = fresh();
    let sorted: Result<(), Error> = store
        .write(|tx| {
            for name in ["b", "a", "B", "ä", "a ", "_"] {
                insert(tx, name, 0)?;
            }
            Ok(())
        })
        .await;
    sorted.unwrap();
    assert_eq!(names(&store).await, ["B", "_", "a", "a ", "b", "ä"]);
    let rows: Result<_, Error> =
        store.read(|tx| tx.query("SELECT name FROM items WHERE name = $1", &["A".into()])).await;
    assert!(rows.unwrap().is_empty());
}

#[tokio::test]
async fn readers_cannot_write() {
    let (_dir, store) = fresh();
    let result: Result<_, Error> = store.read(|tx| insert(tx, "a", 1)).await;
    assert!(result.is_err());
    assert!(names(&store).await.is_empty());
}

#[tokio::test]
async fn statements_may_return_what_they_changed() {
    let (_dir, store) = fresh();
    let rows: Result<_, Error> = store
        .write(|tx| {
            insert(tx, "a", 1)?;
            tx.query("UPDATE items SET number = number + $1 RETURNING number", &[41.into()])
        })
        .await;
    assert_eq!(rows.unwrap()[0].int(0).unwrap(), 42);
}

/// The reader holds its snapshot while a write that began later is committed and answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_one_snapshot() {
    let (_dir, store) = fresh();
    let (started, has_started) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let reader = {
        let store = store.clone();
        tokio::spawn(async move {
            let counts: Result<_, Error> = store
                .read(move |tx| {
                    let count = |tx: &mut dyn Tx| tx.query("SELECT count(*) FROM items", &[])?[0].int(0);
                    let before = count(tx)?;
                    started.send(()).unwrap();
                    may_go_on.recv().unwrap();
                    Ok((before, count(tx)?))
                })
                .await;
            counts.unwrap()
        })
    };
    tokio::task::spawn_blocking(move || has_started.recv().unwrap()).await.unwrap();
    let written: Result<_, Error> = store.write(|tx| insert(tx, "later", 1)).await;
    written.unwrap();
    go_on.send(()).unwrap();
    assert_eq!(reader.await.unwrap(), (0, 0));
    assert_eq!(names(&store).await, ["later"], "a new reader sees what was answered");
}

/// While the writer is held up, a thousand callers come; they share a few commits. The runtime has one thread
/// and takes tasks in order, so all of them wait when the last task lets the writer go on.
#[tokio::test]
async fn writers_share_commits() {
    let (_dir, store) = fresh();
    let before = store.commits();
    let (release, held) = mpsc::channel();
    let holding = tokio::spawn({
        let store = store.clone();
        async move { hold_writer(&store, held).await }
    });
    let write = |number: i64| {
        let store = store.clone();
        tokio::spawn(async move {
            let written: Result<_, Error> =
                store.write(move |tx| insert(tx, &format!("{number:04}"), number)).await;
            written.unwrap();
        })
    };
    let writes: Vec<_> = (0..1000).map(write).collect();
    tokio::spawn(async move { release.send(()).unwrap() });
    for write in writes {
        write.await.unwrap();
    }
    holding.await.unwrap().unwrap();
    let commits = store.commits() - before;
    assert_eq!(names(&store).await.len(), 1000);
    assert!(commits <= 100, "1,000 writes took {commits} commits");
}

#[tokio::test]
async fn a_caller_that_goes_away_harms_nobody() {
    let (_dir, store) = fresh();
    let mut gone = Box::pin(store.write(|tx| insert(tx, "gone", 1)));
    let polled = poll_once(&mut gone).await;
    assert!(polled.is_none() || polled.is_some_and(|result: Result<u64, Error>| result.is_ok()));
    drop(gone);
    let kept: Result<_, Error> = store.write(|tx| insert(tx, "kept", 1)).await;
    kept.unwrap();
    assert_eq!(names(&store).await, ["gone", "kept"]);
}

async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
