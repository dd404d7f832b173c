//! What all pools share: the back ends, the caps on the whole, who wants room, the tick, and the end.
//!
//! Nothing here is touched by a call that finds an instance free, but for loads of words that hardly ever change.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use base::{AccountId, Clock, FunctionArn, Region};
use observe::{FunctionMetrics, Logs};
use parking_lot::Mutex;
use sandbox::{Artifact, Backend, Isolation};
use tokio::sync::{Notify, watch};

use super::caps::Caps;
use super::lease::Slot;
use super::past::News;
use super::share::{Account, Share};
use super::version::Waiting;
use super::worth;
use super::{Pool, Target};
use crate::concurrency::Asked;
use crate::file_systems::FileSystems;
use crate::image::Images;
use crate::limits;
use crate::model::LATEST;
use crate::service::{Bounds, Deps};

/// Shared by every pool.
pub(crate) struct Host {
    pub(crate) backends: Vec<Arc<dyn Backend>>,
    pub(crate) logs: Logs,
    pub(crate) metrics: Arc<FunctionMetrics>,
    pub(crate) iam: iam::Iam,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) region: Region,
    pub(crate) bounds: Bounds,
    images: Option<Arc<dyn Images>>,
    pub(crate) file_systems: FileSystems,
    pub(super) caps: Arc<Caps>,
    pub(super) waiting: Waiting,
    pub(super) clock_of_evictions: worth::Clock,
    /// Concurrency of functions that were called or have something reserved.
    shares: Mutex<Shares>,
    /// Pools with instances or starts.
    live: Mutex<Vec<Weak<Pool>>>,
    /// Pools whose calls wait for room on the host.
    hungry: Mutex<Vec<Weak<Pool>>>,
    hungry_count: AtomicUsize,
    /// What there is to be written down of callers.
    pub(crate) news: News,
    /// Starts that are planned ahead of calls, by when they are.
    reminders: Mutex<BTreeMap<(Instant, u64), Reminder>>,
    next_reminder: AtomicU64,
    /// Turns that pools have had: instances they got room for or gave up.
    pub(super) turns: AtomicU64,
    /// Bytes that back ends keep in memory for fast starts, when last asked.
    residents: AtomicU64,
    stopping: AtomicBool,
    pub(super) stopped: watch::Sender<bool>,
    left: Notify,
}

#[derive(Default)]
struct Shares {
    accounts: HashMap<AccountId, Arc<Account>>,
    functions: HashMap<(AccountId, String), Arc<Share>>,
}

impl Shares {
    fn of(&mut self, arn: &FunctionArn, limit: u32) -> &Arc<Share> {
        let account = self.accounts.entry(arn.account.clone());
        let account = account.or_insert_with(|| Account::new(limit));
        let key = (arn.account.clone(), arn.name.clone());
        self.functions.entry(key).or_insert_with(|| account.share())
    }
}

/// A start that is planned ahead of a call.
struct Reminder {
    pool: Weak<Pool>,
    /// The beginning of the idle time in which that call is likely.
    idle_from: Instant,
}

impl Host {
    /// Takes what pools need of the service's parts.
    pub(crate) fn new(deps: Deps) -> Arc<Self> {
        let Deps { backends, logs, metrics, iam, clock, region, bounds, images, file_systems, .. } = deps;
        Arc::new(Self {
            backends,
            logs,
            metrics,
            iam,
            clock,
            region,
            images,
            file_systems,
            caps: Caps::new(bounds.max_instances, bounds.max_memory_bytes),
            waiting: Waiting::new(bounds.scaling.max_waiting, bounds.scaling.max_waiting_bytes),
            bounds,
            clock_of_evictions: worth::Clock::default(),
            shares: Mutex::default(),
            live: Mutex::default(),
            hungry: Mutex::default(),
            hungry_count: AtomicUsize::new(0),
            news: News::default(),
            reminders: Mutex::default(),
            next_reminder: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            residents: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            stopped: watch::Sender::new(false),
            left: Notify::new(),
        })
    }

    /// The back end of an isolation.
    pub(crate) fn backend(&self, isolation: Isolation) -> Option<&Arc<dyn Backend>> {
        self.backends.iter().find(|backend| backend.isolation() == isolation)
    }

    /// How long instances have waited for bytes of their image; `None` where all of it is there, or there is none.
    pub(super) fn waited_for_image(&self, artifact: &Artifact) -> Option<Duration> {
        let images = self.images.as_ref().filter(|_| artifact.image.is_some())?;
        images.waited(&artifact.digest)
    }

    /// Whether the server is going down.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The function's part of its account's concurrency.
    pub(super) fn share(&self, arn: &FunctionArn) -> Arc<Share> {
        Arc::clone(self.shares.lock().of(arn, self.bounds.scaling.account_concurrency))
    }

    /// Puts in force what is asked of a function's concurrency; `claimed` is how many instances are reserved by that,
    /// `targets` are what calls of it reach. Idempotent: called after every change of a function, and for every function when the service opens.
    pub(crate) fn apply<'a>(
        self: &Arc<Self>,
        arn: &FunctionArn,
        asked: Asked,
        claimed: u64,
        targets: impl Iterator<Item = &'a Arc<Target>>,
    ) {
        let known = (arn.account.clone(), arn.name.clone());
        let mut shares = self.shares.lock();
        // A function that was never called and has nothing reserved has no part yet, and needs none.
        if asked.reserved.is_some() || shares.functions.contains_key(&known) {
            let share = shares.of(arn, self.bounds.scaling.account_concurrency);
            share.reserve(asked.reserved);
            self.claim(share, usize::try_from(claimed).unwrap_or(usize::MAX));
        }
        drop(shares);
        for target in targets {
            let version = target.plan().configuration.version.as_str();
            let number = (version != LATEST).then(|| version.parse().ok()).flatten();
            let instances = number.and_then(|number: u64| asked.provisioned.get(&number));
            target.provision(self, instances.copied().unwrap_or(0));
        }
    }

    fn claim(&self, share: &Share, claimed: usize) {
        self.caps.reserve(share.claimed.swap(claimed, Ordering::Relaxed), claimed);
    }

    /// A function is no more: nothing is reserved for it. Its last calls keep their places.
    pub(crate) fn forget(&self, arn: &FunctionArn) {
        let gone = self.shares.lock().functions.remove(&(arn.account.clone(), arn.name.clone()));
        if let Some(share) = gone {
            share.reserve(None);
            self.claim(&share, 0);
        }
    }

    pub(super) fn list(&self, pool: &Arc<Pool>) {
        self.live.lock().push(Arc::downgrade(pool));
    }

    pub(super) fn queue_for_room(&self, pool: &Arc<Pool>) {
        self.hungry.lock().push(Arc::downgrade(pool));
        self.hungry_count.fetch_add(1, Ordering::SeqCst);
    }

    /// Room may have come up: lets the pool that holds least, of those that want some, try again.
    pub(super) fn feed(&self) {
        while self.hungry_count.load(Ordering::SeqCst) > 0 {
            let Some(next) = self.poorest() else { return };
            if next.upgrade().is_some_and(|pool| pool.try_again()) {
                return;
            }
        }
    }

    /// Takes that pool out of those that want room; among equals, the one whose last turn is longest ago.
    fn poorest(&self) -> Option<Weak<Pool>> {
        let mut hungry = self.hungry.lock();
        let order = |pool: &Weak<Pool>| {
            pool.upgrade().map_or((0.0, 0.0, 0), |pool| {
                let standing = pool.standing();
                (standing.account, standing.function, pool.last_turn.load(Ordering::Relaxed))
            })
        };
        let all = hungry.iter().map(order).enumerate();
        let (index, _) =
            all.min_by(|(_, a), (_, b)| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)))?;
        self.hungry_count.fetch_sub(1, Ordering::SeqCst);
        Some(hungry.remove(index))
    }

    /// Whether a start of this pool must not take room now, since somebody who holds less waits for it.
    pub(super) fn must_wait(&self, pool: &Pool) -> bool {
        if self.hungry_count.load(Ordering::SeqCst) == 0 {
            return false;
        }
        if pool.share().is_owed() {
            return false;
        }
        let waiting: Vec<_> = self.hungry.lock().iter().filter_map(Weak::upgrade).collect();
        let mine = pool.standing();
        let poorer = |other: &Arc<Pool>| {
            let same = Arc::ptr_eq(&other.share().account, &pool.share().account);
            other.standing().is_poorer(&mine, same) && other.is_wanted()
        };
        waiting.iter().any(poorer)
    }

    /// Has whoever holds most give up an instance for a pool that waits. `in_turn`: even one who holds no more than
    /// what the waiting one would get.
    pub(super) fn collect_for(&self, taker: &Arc<Pool>, in_turn: bool) {
        let (mine, account) = (taker.standing(), &taker.share().account);
        let full = self.caps.rest_is_full(taker.share());
        let gives = |pool: Arc<Pool>| {
            let (standing, same) = (pool.standing(), Arc::ptr_eq(&pool.share().account, account));
            // What is reserved for others is of no use where the rest is full.
            let other = !(Arc::ptr_eq(&pool, taker) || full && pool.share().is_reserved());
            let owed = taker.share().is_owed() && !pool.share().is_owed();
            let due = owed || standing.gives_to(&mine, same) || (in_turn && mine.is_poorer(&standing, true));
            (other && due).then_some((standing, pool))
        };
        let mut givers: Vec<_> = self.pools().into_iter().filter_map(gives).collect();
        givers.sort_by(|(a, _), (b, _)| {
            b.account.total_cmp(&a.account).then(b.function.total_cmp(&a.function))
        });
        for (_, pool) in givers {
            if pool.give_up_one() {
                pool.has_had_a_turn();
                return;
            }
        }
    }

    /// Asks again for those who have waited for a while; who holds nothing then takes turns with the others.
    fn relieve(&self, now: Instant) {
        if self.hungry_count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let waiting: Vec<_> = self.hungry.lock().iter().filter_map(Weak::upgrade).collect();
        for pool in waiting.iter().filter(|pool| pool.has_starved(now)) {
            self.collect_for(pool, !pool.is_in_use());
        }
    }

    /// Takes the idle instance that is worth least out of another pool than `asking`, to be stopped.
    pub(super) fn pick_victim(&self, asking: &Pool) -> Option<(Arc<Pool>, Arc<Slot>)> {
        let (mine, now) = (asking.standing(), Instant::now());
        let (full, owed) = (self.caps.rest_is_full(asking.share()), asking.share().is_owed());
        let mut idle: Vec<_> = self
            .pools()
            .into_iter()
            .filter(|pool| !std::ptr::eq(Arc::as_ptr(pool), asking))
            .filter(|pool| !(full && pool.share().is_reserved()))
            .filter_map(|pool| {
                let same = Arc::ptr_eq(&pool.share().account, &asking.share().account);
                let richer = mine.is_poorer(&pool.standing(), same);
                // A burst must not take from a trickle what the next call of that needs.
                let free =
                    |since| richer || owed || now.saturating_duration_since(since) >= limits::LEFT_ALONE;
                Some((pool.cheapest(free)?, pool))
            })
            .collect();
        idle.sort_by(|((a, since, _), _), ((b, other, _), _)| a.total_cmp(b).then(since.cmp(other)));
        let mut taken = idle.into_iter().filter(|((_, _, slot), pool)| pool.take_idle(slot));
        let ((priority, _, slot), pool) = taken.next()?;
        self.clock_of_evictions.evicted(priority);
        pool.meter().evicted();
        Some((pool, slot))
    }

    /// Has back ends give up memory that another instance needs.
    pub(super) fn make_way(&self, memory: u64) {
        let residents = self.residents.load(Ordering::Relaxed);
        let mut over = self.caps.excess(residents.saturating_add(memory)).min(residents);
        for backend in &self.backends {
            if over > 0 {
                let given = backend.shrink(over);
                over = over.saturating_sub(given);
                let less = |held: u64| Some(held.saturating_sub(given));
                let _ = self.residents.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            }
        }
    }

    /// Has the tick start an instance at that moment, unless a call has come since the idle time began.
    pub(super) fn remind(&self, at: Instant, pool: &Weak<Pool>, idle_from: Instant) {
        let number = self.next_reminder.fetch_add(1, Ordering::Relaxed);
        self.reminders.lock().insert((at, number), Reminder { pool: Weak::clone(pool), idle_from });
    }

    /// What is due, every [`limits::TICK`]; `count` says how many have been.
    pub(crate) fn tick(&self, now: Instant, count: u64) {
        let second = count.is_multiple_of(limits::TICKS_A_SECOND);
        for pool in self.pools() {
            pool.tick(now, second);
        }
        self.warm_ahead(now);
        if !second {
            return;
        }
        self.shares.lock().accounts.values().for_each(|account| account.settle());
        // In one go, so that no pool is listed anew in between.
        self.live.lock().retain(|pool| pool.upgrade().is_some_and(|pool| !pool.unlist_if_empty()));
        if count.is_multiple_of(limits::TICKS_A_SECOND * limits::RESIDENTS_EVERY_S) {
            let bytes =
                self.backends.iter().flat_map(|backend| backend.residents()).map(|one| one.bytes).sum();
            self.residents.store(bytes, Ordering::Relaxed);
        }
        // First, since who is fed is not among the hungry for a moment.
        self.relieve(now);
        self.feed();
    }

    fn warm_ahead(&self, now: Instant) {
        let due = {
            let mut reminders = self.reminders.lock();
            let later = reminders.split_off(&(now, u64::MAX));
            std::mem::replace(&mut *reminders, later)
        };
        for Reminder { pool, idle_from } in due.into_values() {
            if let Some(pool) = pool.upgrade() {
                pool.warm_ahead(idle_from);
            }
        }
    }

    /// Refuses new calls, serves those that were let in, whether they run or wait, at most `grace`, and stops every
    /// instance.
    pub(crate) async fn shut_down(&self, grace: Duration) {
        self.stopping.store(true, Ordering::Release);
        let _ = tokio::time::timeout(grace, self.quiet()).await;
        self.close_all();
        self.stopped.send_replace(true);
        // Again, for a pool whose first call got in while the first look was taken.
        let pools = self.close_all();
        futures_util::future::join_all(pools.iter().map(|pool| pool.stop_all())).await;
    }

    fn close_all(&self) -> Vec<Arc<Pool>> {
        let pools = self.pools();
        pools.iter().for_each(|pool| pool.close());
        pools
    }

    fn pools(&self) -> Vec<Arc<Pool>> {
        self.live.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// A call ended or went away: the end may be near.
    pub(super) fn somebody_left(&self) {
        if self.is_stopping() {
            self.left.notify_waiters();
        }
    }

    async fn quiet(&self) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.pools().iter().all(|pool| pool.is_quiet()) {
                return;
            }
            left.await;
        }
    }
}

/// The one clock of all pools, until the host is gone or stopped.
pub(crate) async fn ticker(host: Weak<Host>) {
    let mut ticks = tokio::time::interval(limits::TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for count in 0.. {
        ticks.tick().await;
        match host.upgrade() {
            Some(host) if !*host.stopped.borrow() => host.tick(Instant::now(), count),
            _ => return,
        }
    }
}
