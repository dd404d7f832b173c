//! Moving dead letters on (SQS API: StartMessageMoveTask, CancelMessageMoveTask, ListMessageMoveTasks).
//!
//! A task takes what its mailbox has when it starts, message by message: each move is one update, so a task that was broken
//! off by a crash goes on at the next start with what is left. Its count is written when it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use iam::Caller;
use parking_lot::Mutex;
use queues::{Ask, Delivery};
use serde::{Deserialize, Serialize};
use store::Tx;

use crate::error::{invalid, no_queue};
use crate::model::{Address, Mailbox};
use crate::receive::head_in;
use crate::send::head_of;
use crate::service::Mailboxes;
use crate::tables::{self, MoveRow};
use crate::{Error, Fault, limits};

/// How long a message is held while it is moved.
const HELD: Duration = Duration::from_secs(60);

/// What is to be moved.
#[derive(Debug, Clone, Default)]
pub struct StartMove {
    /// From where.
    pub source: String,
    /// To where; to where each message came from if nothing is said.
    pub destination: Option<String>,
    /// Messages a second.
    pub rate: Option<i64>,
}

/// A task as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveTask {
    /// What cancels it, while it runs.
    pub handle: Option<String>,
    /// `RUNNING`, `COMPLETED`, `CANCELLED` or `FAILED`.
    pub status: &'static str,
    /// ARN.
    pub source: String,
    /// ARN.
    pub destination: Option<String>,
    /// Messages a second.
    pub rate: Option<i64>,
    /// Messages moved.
    pub moved: u64,
    /// Messages there were when it started.
    pub to_move: u64,
    /// Milliseconds since the Unix epoch.
    pub started_ms: i64,
    /// Why it failed.
    pub failure: Option<String>,
}

/// A task at rest.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    source: String,
    destination: Option<String>,
    rate: Option<i64>,
    to_move: u64,
    #[serde(default)]
    moved: u64,
    status: Status,
    #[serde(default)]
    failure: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Status {
    Running,
    Completed,
    Cancelled,
    Failed,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Cancelled => "CANCELLED",
            Self::Failed => "FAILED",
        }
    }
}

/// A task in memory.
#[derive(Debug)]
struct Task {
    id: String,
    source: Address,
    started: i64,
    kept: Mutex<Kept>,
    moved: AtomicU64,
    cancelled: AtomicBool,
}

/// The tasks, the latest last.
#[derive(Debug, Default)]
pub(crate) struct Moves(Mutex<Vec<Arc<Task>>>);

impl Moves {
    /// Forgets a mailbox's; what runs ends by itself.
    pub(crate) fn forget(&self, source: &Address) {
        self.0.lock().retain(|task| {
            task.cancelled.fetch_or(task.source == *source, Ordering::Relaxed);
            task.source != *source
        });
    }

    fn add(&self, task: Arc<Task>) {
        let mut all = self.0.lock();
        let of_source = all.iter().filter(|other| other.source == task.source).count();
        if of_source >= limits::MOVES_SHOWN
            && let Some(place) = all.iter().position(|other| other.source == task.source)
        {
            all.remove(place);
        }
        all.push(task);
    }

    fn of(&self, source: &Address) -> Vec<Arc<Task>> {
        self.0.lock().iter().rev().filter(|task| task.source == *source).cloned().collect()
    }
}

impl Task {
    fn status(&self) -> Status {
        self.kept.lock().status
    }

    fn handle(&self) -> String {
        STANDARD.encode(
            serde_json::json!({ "taskId": self.id, "sourceArn": self.kept.lock().source }).to_string(),
        )
    }

    fn row(&self) -> MoveRow {
        let kept = Kept { moved: self.moved.load(Ordering::Relaxed), ..self.kept.lock().clone() };
        MoveRow {
            handle: self.id.clone(),
            account: self.source.account.to_string(),
            source: self.source.name.clone(),
            started: self.started,
            // Texts and numbers always have a JSON form.
            task: serde_json::to_string(&kept).unwrap_or_default(),
        }
    }

    fn show(&self) -> MoveTask {
        let kept = self.kept.lock().clone();
        let running = kept.status == Status::Running;
        MoveTask {
            handle: running.then(|| self.handle()),
            status: match kept.status {
                Status::Running if self.cancelled.load(Ordering::Relaxed) => "CANCELLING",
                status => status.name(),
            },
            source: kept.source,
            destination: kept.destination,
            rate: kept.rate,
            moved: self.moved.load(Ordering::Relaxed),
            to_move: kept.to_move,
            started_ms: self.started,
            failure: kept.failure,
        }
    }
}

impl Mailboxes {
    /// Begins to move all that is in a mailbox of dead letters; the task's handle.
    pub async fn start_move(&self, caller: &Caller, args: StartMove) -> Result<String, Error> {
        let source = self.address(&args.source, "SourceArn")?;
        let mailbox = self.find_own(caller, &source, "sqs:StartMessageMoveTask")?;
        for action in ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"] {
            self.find_own(caller, &source, action)?;
        }
        if let Some(rate) = args.rate.filter(|rate| !limits::MOVES_PER_S.contains(rate)) {
            return Err(invalid(rate, "MaxNumberOfMessagesPerSecond", "It must be between 1 and 500."));
        }
        if !self.is_target(&source) {
            return Err(Fault::InvalidParameterValue
                .because("Source queue must be configured as a Dead Letter Queue."));
        }
        if let Some(destination) = &args.destination {
            let to = self.address(destination, "DestinationArn")?;
            let to = self.find_own(caller, &to, "sqs:SendMessage")?;
            if to.address == source || to.is_ordered() != mailbox.is_ordered() {
                return Err(invalid(
                    destination,
                    "DestinationArn",
                    "It must be another queue of the same type.",
                ));
            }
        } else {
            // Each message says where it came from, which the caller has to be allowed to send to.
            let sources = self.page(&crate::Paging::default(), |each| {
                each.settings.redrive.as_ref().is_some_and(|redrive| redrive.target == source)
            })?;
            for address in sources.addresses {
                self.find_own(caller, &address, "sqs:SendMessage")?;
            }
        }
        let _turn = self.inner.changes.lock().await;
        if self.inner.moves.of(&source).iter().any(|task| task.status() == Status::Running) {
            return Err(Fault::InvalidParameterValue.because(
                "There is already a task running. Only one active task is allowed for a source queue arn at a given time.",
            ));
        }
        let kept = Kept {
            source: args.source,
            destination: args.destination,
            rate: args.rate,
            to_move: self.inner.queues.counts(&mailbox.queue).ready,
            moved: 0,
            status: Status::Running,
            failure: None,
        };
        let task = Arc::new(Task {
            id: base::RequestId::random().to_string(),
            source,
            started: self.now(),
            kept: Mutex::new(kept),
            moved: AtomicU64::new(0),
            cancelled: AtomicBool::new(false),
        });
        self.write_move(&task).await?;
        self.inner.moves.add(Arc::clone(&task));
        let handle = task.handle();
        self.run_beside(task);
        Ok(handle)
    }

    /// Stops a task; how many messages it had moved.
    pub fn cancel_move(&self, caller: &Caller, handle: &str) -> Result<u64, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Handle {
            task_id: String,
            source_arn: String,
        }
        let bytes = STANDARD.decode(handle).ok();
        let read: Option<Handle> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let Some(Handle { task_id, source_arn }) = read else {
            let handle = &handle[..handle.floor_char_boundary(200)];
            return Err(invalid(handle, "TaskHandle", "It is not a task handle."));
        };
        let source = self.address(&source_arn, "TaskHandle")?;
        self.find_own(caller, &source, "sqs:CancelMessageMoveTask")?;
        let task = self.inner.moves.of(&source).into_iter().find(|task| task.id == task_id);
        let task = task.ok_or_else(|| Fault::ResourceNotFound.because("Task does not exist."))?;
        if task.status() != Status::Running {
            return Err(Fault::InvalidParameterValue.because("Only active tasks can be cancelled."));
        }
        task.cancelled.store(true, Ordering::Relaxed);
        Ok(task.moved.load(Ordering::Relaxed))
    }

    /// The latest tasks of a mailbox.
    pub fn moves(&self, caller: &Caller, source: &str, most: Option<i64>) -> Result<Vec<MoveTask>, Error> {
        let address = self.address(source, "SourceArn")?;
        self.find_own(caller, &address, "sqs:ListMessageMoveTasks")?;
        let most = most.unwrap_or(1);
        let most = usize::try_from(most).ok().filter(|most| (1..=limits::MOVES_SHOWN).contains(most));
        let most = most.ok_or_else(|| {
            Fault::InvalidParameterValue.because("MaxResults must be between 1 and 10, if provided.")
        })?;
        Ok(self.inner.moves.of(&address).iter().take(most).map(|task| task.show()).collect())
    }

    fn address(&self, arn: &str, parameter: &str) -> Result<Address, Error> {
        let shown = &arn[..arn.floor_char_boundary(200)];
        Address::of_arn(arn, &self.inner.region)
            .ok_or_else(|| invalid(shown, parameter, "It is not the ARN of a queue of this region."))
    }

    /// Tasks that were running when the server went down go on.
    pub(crate) async fn resume_moves(&self) -> Result<(), Error> {
        let rows: Result<Vec<MoveRow>, store::Error> = self.inner.store.read(tables::moves).await;
        for row in rows?.into_iter().rev() {
            let kept: Result<Kept, _> = serde_json::from_str(&row.task);
            let kept = kept.map_err(|error| Error::Damaged(format!("a task: {error}")))?;
            let account = base::AccountId::parse(&row.account);
            let account = account.ok_or_else(|| Error::Damaged(format!("{} is no account", row.account)))?;
            let running = kept.status == Status::Running;
            let task = Arc::new(Task {
                id: row.handle,
                source: Address { account, name: row.source },
                started: row.started,
                moved: AtomicU64::new(kept.moved),
                kept: Mutex::new(kept),
                cancelled: AtomicBool::new(false),
            });
            self.inner.moves.add(Arc::clone(&task));
            if running {
                self.run_beside(task);
            }
        }
        Ok(())
    }

    async fn write_move(&self, task: &Task) -> Result<(), Error> {
        let row = task.row();
        let keep = limits::MOVES_SHOWN as i64;
        let write = move |tx: &mut dyn Tx| tables::put_move(tx, &row, keep);
        let written: Result<(), store::Error> = self.inner.store.write(write).await;
        Ok(written?)
    }

    /// Runs it to its end, a step at a time: a service that nobody holds any more ends between them.
    fn run_beside(&self, task: Arc<Task>) {
        let weak = Arc::downgrade(&self.inner);
        let rate = task.kept.lock().rate.and_then(|rate| u32::try_from(rate).ok());
        self.beside(async move {
            let outcome = loop {
                let Some(inner) = weak.upgrade() else { return };
                match (Self { inner }).step(&task).await {
                    Ok(true) => {}
                    Ok(false) => break Ok(()),
                    Err(error) => break Err(error),
                }
                if let Some(rate) = rate {
                    tokio::time::sleep(Duration::from_secs(1) / rate).await;
                }
            };
            if let Some(inner) = weak.upgrade() {
                (Self { inner }).end_move(&task, outcome).await;
            }
        });
    }

    async fn end_move(&self, task: &Task, outcome: Result<(), Error>) {
        let (status, failure) = match outcome {
            Ok(()) if task.cancelled.load(Ordering::Relaxed) => (Status::Cancelled, None),
            Ok(()) => (Status::Completed, None),
            Err(error) => (Status::Failed, Some(error.to_string())),
        };
        {
            let mut kept = task.kept.lock();
            (kept.status, kept.failure) = (status, failure);
        }
        // Of a mailbox that was deleted meanwhile nothing is kept.
        if self.get(&task.source).is_some()
            && let Err(error) = self.write_move(task).await
        {
            tracing::warn!(%error, "the end of a task was not written");
        }
    }

    /// Moves the next messages; whether there may be more.
    async fn step(&self, task: &Task) -> Result<bool, Error> {
        let (destination, slow, to_move) = {
            let kept = task.kept.lock();
            (kept.destination.clone(), kept.rate.is_some(), kept.to_move)
        };
        if task.moved.load(Ordering::Relaxed) >= to_move || task.cancelled.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let destination = destination.map(|arn| self.address(&arn, "DestinationArn")).transpose()?;
        let source = self.get(&task.source).ok_or_else(no_queue)?;
        let ask = Ask {
            most: if slow { 1 } else { limits::MOVED_AT_ONCE },
            visibility: HELD,
            wait: Duration::ZERO,
            sent_from_ms: source.kept_from(self.now()),
        };
        let received = self.inner.queues.receive(&source.queue, ask).await?;
        let some = !received.is_empty();
        let moves =
            received.into_iter().map(|delivery| self.move_on(&source, destination.as_ref(), delivery));
        let outcomes = futures_util::future::join_all(moves).await;
        let moved = outcomes.iter().filter(|outcome| matches!(outcome, Ok(true))).count();
        task.moved.fetch_add(moved as u64, Ordering::Relaxed);
        outcomes.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(some)
    }

    /// One message; whether it was still there.
    async fn move_on(
        &self,
        source: &Mailbox,
        destination: Option<&Address>,
        delivery: Delivery,
    ) -> Result<bool, Error> {
        let mut head = head_in(source, &delivery)?;
        let from = head.dead_of.take();
        let to = match destination {
            Some(address) => self.get(address).ok_or_else(no_queue)?,
            None => self.origin(from.as_deref())?,
        };
        let head = head_of(&to, &head);
        Ok(delivery.transfer(&to.queue, head, Vec::new()).await?)
    }
}
