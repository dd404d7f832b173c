//! Mailboxes on a real store, with a clock that is set by hand: what only time or a crash brings about.

#![cfg(test)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use base::{Clock, Region, Timestamp};
use iam::{Bootstrap, Caller, Iam, Principal};
use mailboxes::{Address, Deps, Mailboxes, Outgoing, Receive, Received, StartMove, kinds};
use queues::Queues;
use store::{Blobs, Store};

const MINUTE: i64 = 60_000;

#[derive(Debug)]
struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

struct World {
    dir: Arc<tempfile::TempDir>,
    clock: Arc<HandClock>,
    queues: Queues,
    mailboxes: Mailboxes,
    caller: Caller,
}

impl World {
    async fn new() -> Self {
        let clock = HandClock(AtomicI64::new(1_795_000_000_000));
        Self::open(Arc::new(tempfile::tempdir().unwrap()), Arc::new(clock)).await
    }

    async fn open(dir: Arc<tempfile::TempDir>, clock: Arc<HandClock>) -> Self {
        let at = |name: &str| dir.path().join(name);
        let time = || Arc::clone(&clock) as Arc<dyn Clock>;
        let schema = [iam::MIGRATIONS, queues::MIGRATIONS, mailboxes::MIGRATIONS];
        let store = Store::open(&at("db"), &schema).unwrap();
        let iam = Iam::open(store.clone(), &at("key"), Bootstrap::default(), time()).await.unwrap();
        let deps =
            queues::Deps { store: store.clone(), files: Blobs::open(&at("files")).unwrap(), clock: time() };
        let queues = Queues::open_with(deps, &[], &[], &kinds()).await.unwrap();
        let account = iam.first_account().clone();
        let deps = Deps { store, queues: queues.clone(), iam, clock: time(), region: Region::default() };
        let mailboxes = Mailboxes::open(deps).await.unwrap();
        let caller = Caller::new(account, Principal::User { name: "admin".into() });
        Self { dir, clock, queues, mailboxes, caller }
    }

    /// As after kill -9.
    async fn crash(self) -> Self {
        self.queues.flush().await.unwrap();
        let Self { dir, clock, .. } = self;
        Self::open(dir, clock).await
    }

    fn pass(&self, ms: i64) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    async fn make(&self, name: &str, attributes: &[(&str, &str)]) -> Address {
        let given = attributes.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        self.mailboxes.create(&self.caller, name, given, Default::default()).await.unwrap()
    }

    async fn send(&self, to: &Address, body: &str) -> String {
        let group = to.name.ends_with(".fifo").then(|| "g".to_owned());
        let message = Outgoing { body: body.into(), group, ..Outgoing::default() };
        self.mailboxes.send(&self.caller, to, message).await.unwrap().id
    }

    async fn receive(&self, from: &Address) -> Vec<Received> {
        let args = Receive { most: Some(10), system: vec!["All".into()], ..Receive::default() };
        self.mailboxes.receive(&self.caller, from, &args).await.unwrap()
    }

    async fn bodies(&self, from: &Address) -> Vec<String> {
        self.receive(from).await.into_iter().map(|message| message.body).collect()
    }

    fn shown(&self, of: &Address, attribute: &str) -> String {
        let all = self.mailboxes.attributes(&self.caller, of, &[attribute.to_owned()]).unwrap();
        all[attribute].clone()
    }

    fn arn(&self, of: &Address) -> String {
        self.shown(of, "QueueArn")
    }
}

#[tokio::test]
async fn what_is_too_old_is_gone() {
    let world = World::new().await;
    let mailbox = world.make("q", &[("MessageRetentionPeriod", "60")]).await;
    world.send(&mailbox, "old").await;
    world.pass(MINUTE);
    world.send(&mailbox, "new").await;
    world.pass(1);
    assert_eq!(world.bodies(&mailbox).await, ["new"]);
    world.mailboxes.sweep().await;
    world.pass(31_000);
    assert_eq!(world.shown(&mailbox, "ApproximateNumberOfMessages"), "1");
}

#[tokio::test]
async fn a_deduplication_id_counts_for_five_minutes() {
    let world = World::new().await;
    let mailbox = world.make("q.fifo", &[("FifoQueue", "true"), ("ContentBasedDeduplication", "true")]).await;
    let first = world.send(&mailbox, "x").await;
    world.pass(5 * MINUTE - 1);
    let world = world.crash().await;
    assert_eq!(world.send(&mailbox, "x").await, first);
    world.pass(1);
    assert_ne!(world.send(&mailbox, "x").await, first);
    assert_eq!(world.bodies(&mailbox).await, ["x", "x"]);
}

#[tokio::test]
async fn a_name_that_is_used_again_is_another_queue() {
    let world = World::new().await;
    let mailbox = world.make("q", &[]).await;
    world.send(&mailbox, "x").await;
    let handle = world.receive(&mailbox).await.remove(0).receipt_handle;
    world.mailboxes.delete(&world.caller, &mailbox).await.unwrap();
    world.make("q", &[]).await;
    assert!(world.bodies(&mailbox).await.is_empty());
    assert!(world.mailboxes.delete_message(&world.caller, &mailbox, &handle).await.is_err());
    let world = world.crash().await;
    world.pass(MINUTE);
    assert!(world.bodies(&mailbox).await.is_empty());
}

#[tokio::test]
async fn a_move_that_a_crash_broke_off_goes_on() {
    let world = World::new().await;
    let dead = world.make("dead", &[]).await;
    let policy = format!(r#"{{"deadLetterTargetArn":"{}","maxReceiveCount":1}}"#, world.arn(&dead));
    world.make("q", &[("RedrivePolicy", &policy)]).await;
    let to = world.make("to", &[]).await;
    for _ in 0..20 {
        world.send(&dead, "x").await;
    }
    // One now, and the next in a second.
    let args = StartMove { source: world.arn(&dead), destination: Some(world.arn(&to)), rate: Some(1) };
    world.mailboxes.start_move(&world.caller, args).await.unwrap();
    let arn = world.arn(&dead);
    let world = world.crash().await;
    let shown = world.mailboxes.moves(&world.caller, &arn, Some(10)).unwrap();
    assert_eq!((shown.len(), shown[0].status, shown[0].to_move), (1, "RUNNING", 20));
    let handle = shown[0].handle.clone().unwrap();
    while world.shown(&to, "ApproximateNumberOfMessages") == "0" {
        tokio::task::yield_now().await;
    }
    world.mailboxes.cancel_move(&world.caller, &handle).unwrap();
}

#[tokio::test]
async fn who_waits_is_answered_when_the_server_stops() {
    let world = World::new().await;
    let mailbox = world.make("q", &[("ReceiveMessageWaitTimeSeconds", "20")]).await;
    let (mailboxes, caller) = (world.mailboxes.clone(), world.caller.clone());
    let waiting =
        tokio::spawn(async move { mailboxes.receive(&caller, &mailbox, &Receive::default()).await });
    tokio::task::yield_now().await;
    world.mailboxes.stop();
    let answered = tokio::time::timeout(std::time::Duration::from_secs(10), waiting).await;
    assert!(answered.expect("at once").unwrap().unwrap().is_empty());
}
