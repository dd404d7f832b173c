//! The handle that the rest of Virga holds: mailboxes made, found, changed and deleted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::{AccountId, Clock, Region, RequestId};
use iam::policy::{Context, Resource};
use iam::{Caller, Iam};
use papaya::HashMap;
use queues::{ByName, Queues};
use store::{Store, Tx};
use tokio::task::AbortHandle;

use crate::attributes::{self, Given, Settings};
use crate::error::{invalid, no_queue};
use crate::limits;
use crate::model::{Address, Live, Mailbox, check_name, is_ordered};
use crate::moves::Moves;
use crate::tables::{self, MailboxRow};
use crate::{Error, Fault};

/// The kind of queue behind a mailbox.
const PLAIN: &str = "sqs";
/// The same, in order.
const ORDERED: &str = "sqs-fifo";

/// What the queues have to be opened with.
pub fn kinds() -> [ByName; 2] {
    [(PLAIN, false), (ORDERED, true)].map(|(kind, in_order)| ByName {
        kind,
        leases: limits::IN_FLIGHT,
        in_order,
    })
}

/// What mailboxes are built on.
pub struct Deps {
    /// Truth.
    pub store: Store,
    /// The messages.
    pub queues: Queues,
    /// Who may, and what seals.
    pub iam: Iam,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// The region that ARNs name.
    pub region: Region,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Mailboxes {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) queues: Queues,
    pub(crate) iam: Iam,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) region: Region,
    /// By account and name.
    all: HashMap<String, Arc<Mailbox>>,
    /// Changes take turns.
    pub(crate) changes: tokio::sync::Mutex<()>,
    pub(crate) moves: Moves,
    /// Whether the server stops, and nobody waits any more.
    pub(crate) stopping: tokio::sync::watch::Sender<bool>,
    tasks: parking_lot::Mutex<Vec<AbortHandle>>,
}

/// Which part of a list.
#[derive(Debug, Clone, Default)]
pub struct Paging {
    /// At most so many; all, up to a bound, where nothing is said.
    pub most: Option<i64>,
    /// Where the page before ended.
    pub token: Option<String>,
}

/// A part of a list of mailboxes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// They.
    pub addresses: Vec<Address>,
    /// Where the next page begins, if there may be one.
    pub token: Option<String>,
}

impl Mailboxes {
    /// Reads which mailboxes there are, and goes on with what a crash broke off. Needs a tokio runtime.
    pub async fn open(deps: Deps) -> Result<Self, Error> {
        let rows: Result<Vec<MailboxRow>, store::Error> = deps.store.read(tables::mailboxes).await;
        let all = HashMap::new();
        for row in rows? {
            let mailbox = read(row, &deps.region)?;
            all.pin().insert(mailbox.address.key(), Arc::new(mailbox));
        }
        let inner = Inner {
            store: deps.store,
            queues: deps.queues,
            iam: deps.iam,
            clock: deps.clock,
            region: deps.region,
            all,
            changes: tokio::sync::Mutex::default(),
            moves: Moves::default(),
            stopping: tokio::sync::watch::Sender::new(false),
            tasks: parking_lot::Mutex::default(),
        };
        let me = Self { inner: Arc::new(inner) };
        me.forget_orphans().await?;
        me.resume_moves().await?;
        let weak = Arc::downgrade(&me.inner);
        me.keep(tokio::spawn(async move {
            loop {
                tokio::time::sleep(limits::SWEEP).await;
                let Some(inner) = weak.upgrade() else { return };
                Self { inner }.sweep().await;
            }
        }));
        Ok(me)
    }

    /// Has those answered who wait for messages; from now on nobody waits.
    pub fn stop(&self) {
        self.inner.stopping.send_replace(true);
    }

    /// Ends a task with the service.
    fn keep(&self, task: tokio::task::JoinHandle<()>) {
        self.inner.tasks.lock().push(task.abort_handle());
    }

    /// Queues whose mailbox was deleted while the server went down.
    async fn forget_orphans(&self) -> Result<(), Error> {
        let ours: Vec<_> = self.inner.all.pin().values().map(|mailbox| mailbox.queue.clone()).collect();
        for kind in [PLAIN, ORDERED] {
            for name in self.inner.queues.names(kind).into_iter().filter(|name| !ours.contains(name)) {
                self.inner.queues.forget(&name).await?;
            }
        }
        Ok(())
    }

    /// Removes what is too old, once.
    pub async fn sweep(&self) {
        let all: Vec<Arc<Mailbox>> = self.inner.all.pin().values().cloned().collect();
        for mailbox in all {
            let before = mailbox.kept_from(self.now());
            if let Err(error) = self.inner.queues.expire(&mailbox.queue, before).await {
                tracing::warn!(mailbox = mailbox.arn, %error, "old messages were not removed");
            }
        }
        if let Err(error) = self.inner.queues.forget_claims().await {
            tracing::warn!(%error, "old deduplication ids were not removed");
        }
    }

    pub(crate) fn now(&self) -> i64 {
        self.inner.clock.now().as_millis()
    }

    pub(crate) fn get(&self, address: &Address) -> Option<Arc<Mailbox>> {
        self.inner.all.pin().get(&address.key()).cloned()
    }

    /// The mailbox, if there is one and the caller may do that with it. Whoever may not is not told whether there is one.
    pub(crate) fn find(
        &self,
        caller: &Caller,
        address: &Address,
        action: &str,
    ) -> Result<Arc<Mailbox>, Error> {
        let found = self.get(address);
        let policy = found.as_ref().and_then(|mailbox| {
            let policy = mailbox.settings.policy.as_ref()?;
            Some(Resource { policy, name: &mailbox.arn, required: false })
        });
        let arn = address.arn(&self.inner.region);
        caller.check(action, &arn, policy, &Context::default()).map_err(denied)?;
        found.ok_or_else(no_queue)
    }

    /// The same for what only the owner's account may do, whatever a policy says (SQS Developer Guide: "Limitations of
    /// cross-account permissions").
    pub(crate) fn find_own(
        &self,
        caller: &Caller,
        address: &Address,
        action: &str,
    ) -> Result<Arc<Mailbox>, Error> {
        if caller.account != address.account {
            let arn = address.arn(&self.inner.region);
            let who = caller.arn();
            return Err(denied(format!(
                "User: {who} is not authorized to perform: {action} on resource: {arn} because no identity-based policy \
                 allows the {action} action"
            )));
        }
        self.find(caller, address, action)
    }

    /// Makes a mailbox; or finds one that has the same attributes.
    pub async fn create(
        &self,
        caller: &Caller,
        name: &str,
        given: Given,
        tags: BTreeMap<String, String>,
    ) -> Result<Address, Error> {
        let address = Address { account: caller.account.clone(), name: name.to_owned() };
        let arn = address.arn(&self.inner.region);
        caller.check("sqs:CreateQueue", &arn, None, &Context::default()).map_err(denied)?;
        if !tags.is_empty() {
            caller.check("sqs:TagQueue", &arn, None, &Context::default()).map_err(denied)?;
        }
        let fifo = given.get("FifoQueue").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        check_name(name, fifo)?;
        crate::tags::check(&tags)?;
        let given = attributes::merge(&Given::new(), &given);
        let settings = Settings::read(&address, &self.inner.region, given)?;
        let _turn = self.inner.changes.lock().await;
        if let Some(there) = self.get(&address) {
            return same(&there, &settings).map(|()| address);
        }
        self.check_redrive(&address, &settings)?;
        let now = self.now() / 1000;
        let incarnation = RequestId::random().to_string();
        let mailbox = new(address.clone(), &self.inner.region, &incarnation, settings);
        let mailbox = Mailbox { created_s: now, modified_s: now, tags, ..mailbox };
        self.put(mailbox).await?;
        Ok(address)
    }

    /// Writes a mailbox down, then shows it.
    pub(crate) async fn put(&self, mailbox: Mailbox) -> Result<(), Error> {
        let json = |map: &BTreeMap<String, String>| serde_json::to_string(map).unwrap_or_default();
        let row = MailboxRow {
            account: mailbox.address.account.to_string(),
            name: mailbox.address.name.clone(),
            incarnation: mailbox.queue.name.rsplit('/').next().unwrap_or_default().to_owned(),
            created: mailbox.created_s,
            modified: mailbox.modified_s,
            attributes: json(&mailbox.settings.given),
            tags: json(&mailbox.tags),
        };
        let write = move |tx: &mut dyn Tx| tables::put(tx, &row);
        let written: Result<(), store::Error> = self.inner.store.write(write).await;
        written?;
        self.inner.all.pin().insert(mailbox.address.key(), Arc::new(mailbox));
        Ok(())
    }

    /// Changes attributes.
    pub async fn set_attributes(
        &self,
        caller: &Caller,
        address: &Address,
        given: Given,
    ) -> Result<(), Error> {
        self.find_own(caller, address, "sqs:SetQueueAttributes")?;
        if given.contains_key("FifoQueue") {
            return Err(Fault::InvalidAttributeName
                .because("You can specify the FifoQueue attribute only during queue creation."));
        }
        self.change_settings(address, |settings| Ok(attributes::merge(&settings.given, &given))).await
    }

    /// Gives a mailbox other attributes.
    pub(crate) async fn change_settings(
        &self,
        address: &Address,
        change: impl FnOnce(&Settings) -> Result<Given, Error>,
    ) -> Result<(), Error> {
        let _turn = self.inner.changes.lock().await;
        let there = self.get(address).ok_or_else(no_queue)?;
        let settings = Settings::read(address, &self.inner.region, change(&there.settings)?)?;
        if settings.redrive != there.settings.redrive {
            self.check_redrive(address, &settings)?;
        }
        let tags = there.tags.clone();
        self.put(Mailbox { settings, tags, modified_s: self.now() / 1000, ..copy(&there) }).await
    }

    /// Attributes, those that are named.
    pub fn attributes(&self, caller: &Caller, address: &Address, names: &[String]) -> Result<Given, Error> {
        let mailbox = self.find(caller, address, "sqs:GetQueueAttributes")?;
        if let Some(name) = names.iter().find(|name| !attributes::is_known(name)) {
            return Err(attributes::unknown(name));
        }
        let counts = self.inner.queues.counts(&mailbox.queue);
        let mut all = mailbox.settings.shown(mailbox.is_ordered());
        for (name, value) in [
            ("ApproximateNumberOfMessages", counts.ready.to_string()),
            ("ApproximateNumberOfMessagesNotVisible", counts.leased.to_string()),
            ("ApproximateNumberOfMessagesDelayed", counts.delayed.to_string()),
            ("CreatedTimestamp", mailbox.created_s.to_string()),
            ("LastModifiedTimestamp", mailbox.modified_s.to_string()),
            ("QueueArn", mailbox.arn.clone()),
        ] {
            all.insert(name.to_owned(), value);
        }
        if !names.iter().any(|name| name == "All") {
            all.retain(|name, _| names.contains(name));
        }
        Ok(all)
    }

    /// Deletes a mailbox with all its messages.
    pub async fn delete(&self, caller: &Caller, address: &Address) -> Result<(), Error> {
        self.find_own(caller, address, "sqs:DeleteQueue")?;
        let _turn = self.inner.changes.lock().await;
        let Some(there) = self.get(address) else { return Err(no_queue()) };
        let (account, name) = (address.account.to_string(), address.name.clone());
        let delete = move |tx: &mut dyn Tx| tables::delete(tx, &account, &name);
        let deleted: Result<(), store::Error> = self.inner.store.write(delete).await;
        deleted?;
        self.inner.all.pin().remove(&address.key());
        self.inner.moves.forget(address);
        // What is left of it after a crash goes at the next start.
        let queues = self.inner.queues.clone();
        self.keep_small(tokio::spawn(async move {
            if let Err(error) = queues.forget(&there.queue).await {
                tracing::warn!(mailbox = there.arn, %error, "the messages of a deleted mailbox were not removed");
            }
        }));
        Ok(())
    }

    fn keep_small(&self, task: tokio::task::JoinHandle<()>) {
        let mut tasks = self.inner.tasks.lock();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task.abort_handle());
    }

    /// Runs something beside, and ends it with the service.
    pub(crate) fn beside(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.keep_small(tokio::spawn(work));
    }

    /// Whether there is a mailbox, for one who may know.
    pub fn look_up(&self, caller: &Caller, address: &Address) -> Result<(), Error> {
        self.find(caller, address, "sqs:GetQueueUrl").map(drop)
    }

    /// The caller's mailboxes whose names begin so, by name.
    pub fn list(&self, caller: &Caller, prefix: &str, paging: &Paging) -> Result<Page, Error> {
        let arn = Address { account: caller.account.clone(), name: "*".into() }.arn(&self.inner.region);
        caller.check("sqs:ListQueues", &arn, None, &Context::default()).map_err(denied)?;
        let ours = |address: &Address| address.account == caller.account && address.name.starts_with(prefix);
        self.page(paging, |mailbox| ours(&mailbox.address))
    }

    pub(crate) fn page(&self, paging: &Paging, wanted: impl Fn(&Mailbox) -> bool) -> Result<Page, Error> {
        let most = match paging.most {
            None => limits::PAGE,
            Some(most) => {
                usize::try_from(most).ok().filter(|most| (1..=limits::PAGE).contains(most)).ok_or_else(
                    || invalid(most, "MaxResults", "MaxResults must be an integer between 1 and 1000."),
                )?
            }
        };
        let after = paging.token.as_deref().map(token_name).transpose()?;
        let all = self.inner.all.pin();
        let mut found: Vec<Address> =
            all.values().filter(|each| wanted(each)).map(|each| each.address.clone()).collect();
        found.sort();
        found.retain(|address| after.as_ref().is_none_or(|after| address.name > *after));
        let more = found.len() > most;
        found.truncate(most);
        // Who did not ask for pages does not expect to be told of more.
        let last = found.last().filter(|_| more && paging.most.is_some());
        let token = last.map(|last| hex::encode(&last.name));
        Ok(Page { addresses: found, token })
    }

    /// Removes all messages.
    pub async fn purge(&self, caller: &Caller, address: &Address) -> Result<(), Error> {
        let mailbox = self.find(caller, address, "sqs:PurgeQueue")?;
        let now = self.now();
        let purge = |last: i64| (now - last >= limits::BETWEEN_PURGES_MS).then_some(now);
        if mailbox.live.purged.fetch_update(Ordering::Relaxed, Ordering::Relaxed, purge).is_err() {
            return Err(Fault::PurgeQueueInProgress.because(format!(
                "Only one PurgeQueue operation on {} is allowed every 60 seconds.",
                address.name
            )));
        }
        Ok(self.inner.queues.purge(&mailbox.queue).await?)
    }
}

fn token_name(token: &str) -> Result<String, Error> {
    let bytes = hex::decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    bytes.ok_or_else(|| Fault::InvalidParameterValue.because("Invalid or expired next token."))
}

pub(crate) fn denied(message: String) -> Error {
    Fault::AccessDenied.because(message)
}

/// Whether a mailbox is what would be made.
fn same(there: &Mailbox, wanted: &Settings) -> Result<(), Error> {
    let ordered = there.is_ordered();
    let shown = there.settings.shown(ordered);
    let differs = wanted.given.keys().find(|name| shown.get(*name) != wanted.shown(ordered).get(*name));
    differs.map_or(Ok(()), |name| {
        Err(Fault::QueueNameExists.because(format!(
            "A queue already exists with the same name and a different value for attribute {name}"
        )))
    })
}

fn new(address: Address, region: &Region, incarnation: &str, settings: Settings) -> Mailbox {
    let kind = if is_ordered(&address.name) { ORDERED } else { PLAIN };
    let name = format!("{}/{incarnation}", address.name);
    Mailbox {
        arn: address.arn(region),
        queue: queues::QueueName { kind, account: address.account.clone(), name },
        created_s: 0,
        modified_s: 0,
        settings,
        tags: BTreeMap::new(),
        live: Arc::new(Live::default()),
        address,
    }
}

/// The same mailbox, to be changed.
pub(crate) fn copy(mailbox: &Mailbox) -> Mailbox {
    Mailbox {
        address: mailbox.address.clone(),
        arn: mailbox.arn.clone(),
        queue: mailbox.queue.clone(),
        created_s: mailbox.created_s,
        modified_s: mailbox.modified_s,
        settings: mailbox.settings.clone(),
        tags: mailbox.tags.clone(),
        live: Arc::clone(&mailbox.live),
    }
}

fn read(row: MailboxRow, region: &Region) -> Result<Mailbox, Error> {
    let account = AccountId::parse(&row.account);
    let account = account.ok_or_else(|| Error::Damaged(format!("{} is no account", row.account)))?;
    let map = |text: &str| {
        let map: Result<BTreeMap<String, String>, _> = serde_json::from_str(text);
        map.map_err(|error| Error::Damaged(format!("a mailbox: {error}")))
    };
    let address = Address { account, name: row.name };
    let settings = Settings::read(&address, region, map(&row.attributes)?)?;
    let mailbox = new(address, region, &row.incarnation, settings);
    Ok(Mailbox { created_s: row.created, modified_s: row.modified, tags: map(&row.tags)?, ..mailbox })
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in self.tasks.lock().iter() {
            task.abort();
        }
    }
}

impl std::fmt::Debug for Mailboxes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailboxes").field("region", &self.inner.region).finish_non_exhaustive()
    }
}
