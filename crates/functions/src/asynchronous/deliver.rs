//! One delivery of one event: from the queue through the pool to what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use base::{FunctionArn, RequestId};
use bytes::Bytes;
use queues::{Delivery, QueueName};
use sandbox::FunctionError;

use super::accept::Accepted;
use super::backoff::Temper;
use super::decide::{Condition, Next, admit, after_error};
use super::envelope::{Envelope, Unreadable};
use super::head::{self, FailedHead, Head};
use super::policy::Policy;
use super::record::{self, Happened};
use super::{Destination, check_destination, failed_of, owner};
use crate::invoke::{self, Request};
use crate::model::{FunctionRef, LATEST};
use crate::registry::Key;
use crate::service::{Inner, Outcome};
use crate::version::Function;
use crate::{Error, limits};

/// Longer than a call can wait for an instance and its report.
const MARGIN: Duration = Duration::from_secs(600);

/// Bytes of a function's answer that a failed event keeps, and of a reason.
const KEPT_BYTES: usize = 2048;

/// An event in hand.
struct InHand {
    key: Key,
    function: Arc<Function>,
    head: Head,
    policy: Policy,
    age: Duration,
    delivery: Delivery,
}

/// What a function's last run came to.
type Answer = (String, Result<Bytes, FunctionError>);

impl Inner {
    /// Runs an event, if it may run, and writes down what becomes of it.
    pub(super) async fn deliver(self: &Arc<Self>, delivery: Delivery) -> Result<(), Error> {
        let (key, life) = owner(delivery.queue());
        let head: Head = match head::read(&delivery.head()) {
            Ok(head) => head,
            Err(error) => {
                tracing::error!(error = ?error, "an event's head cannot be read");
                let unknown = Head::unknown(delivery.sent_ms());
                return self.give_up_unheard(&key, unknown, delivery, Condition::Damaged).await;
            }
        };
        let function = self.registry.get(&key).filter(|function| function.events.life == life);
        let Some(function) = function else {
            return self.give_up_unheard(&key, head, delivery, Condition::FunctionDeleted).await;
        };
        let policy = Policy::of(&function, head.qualifier.as_deref());
        let age = self.host.clock.now().as_millis().saturating_sub(head.accepted.as_millis());
        let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        let event = InHand { key, function, head, policy, age, delivery };
        match admit(&event.policy, event.age, event.head.passes) {
            Ok(()) => self.try_to_run(event).await,
            Err(condition) => self.give_up(event, condition, None, None).await,
        }
    }

    async fn try_to_run(self: &Arc<Self>, event: InHand) -> Result<(), Error> {
        let context = event.head.open_context(&self.envelope(&event));
        let (Ok(payload), Ok(context)) = (self.payload(&event).await?, context) else {
            return self.give_up(event, Condition::Damaged, None, None).await;
        };
        match self.run_event(&event, payload, context).await {
            Ok(Outcome { executed_version, result, .. }) => {
                self.temper(event.delivery.queue(), |temper, most| temper.ran(most));
                match result {
                    Ok(answer) => self.succeeded(event, (executed_version, Ok(answer))).await,
                    Err(error) => self.failed(event, (executed_version, Err(error))).await,
                }
            }
            Err(Error::FunctionNotFound(_)) => {
                self.give_up(event, Condition::FunctionDeleted, None, None).await
            }
            // Nothing is written: it is the next when the server is up again.
            Err(_) if self.host.is_stopping() => {
                event.delivery.release();
                Ok(())
            }
            Err(error) => {
                self.refused(event, &error);
                Ok(())
            }
        }
    }

    fn envelope(&self, event: &InHand) -> Envelope<'_> {
        Envelope::new(&self.host.iam, &event.key, &event.head.id)
    }

    /// What the function is called with.
    async fn payload(&self, event: &InHand) -> Result<Result<Bytes, Unreadable>, Error> {
        let opened = match event.delivery.body().await {
            Ok(kept) => self.envelope(event).open(kept),
            Err(queues::Error::Damaged(reason)) => {
                tracing::error!(reason, "an event's message is damaged");
                Err(Unreadable)
            }
            Err(error) => return Err(error.into()),
        };
        if opened.is_err() {
            tracing::error!(function = %event.function.arn, id = event.head.id, "an event's payload cannot be read");
        }
        Ok(opened)
    }

    async fn run_event(
        self: &Arc<Self>,
        event: &InHand,
        payload: Bytes,
        context: Option<String>,
    ) -> Result<Outcome, Error> {
        let (account, name) = event.key.clone();
        let function = FunctionRef { account, name, qualifier: event.head.qualifier.clone() };
        // A try that follows gets the same version of an alias's two: the event's id stays.
        let find = || self.target(&function, event.head.request_id());
        let target = find()?;
        let timeout = Duration::from_secs(target.plan().configuration.timeout_of(false).into());
        event.delivery.extend(timeout + MARGIN);
        let head = &event.head;
        let arn = self.arn(&function).to_string();
        let sent = invoke::event(payload, arn, head.trace.clone(), context);
        let request = Request {
            id: head.request_id(),
            event: sent,
            tail: false,
            trace: false,
            waited_for: false,
            sink: None,
        };
        self.run(request, target, find).await
    }

    /// No capacity, or not ready: its function's queue waits a while, at most until the event is too old.
    fn refused(&self, event: InHand, error: &Error) {
        tracing::debug!(function = %event.function.arn, %error, "an event finds no capacity");
        self.asynchronous.count(&event.key, |counts| counts.throttles += 1);
        let now = self.host.clock.now().as_millis();
        let left = event.policy.max_age.saturating_sub(event.age);
        let too_old =
            now.saturating_add(i64::try_from(left.as_millis()).unwrap_or(i64::MAX)).saturating_add(1);
        let first = self.host.bounds.pace.pause;
        let until = self.temper(event.delivery.queue(), |temper, _| temper.refused(now, first));
        self.asynchronous.consumer.pause(event.delivery.queue(), until.min(too_old));
        event.delivery.release();
    }

    /// What becomes of a queue's event could not be written down, which may go on for a while: the function is not run
    /// again and again meanwhile.
    pub(super) fn hold_off(&self, queue: &QueueName) {
        let now = self.host.clock.now().as_millis();
        let until = self.temper(queue, |temper, _| temper.refused(now, self.host.bounds.pace.pause));
        self.asynchronous.consumer.pause(queue, until);
    }

    /// Changes how a queue of events is treated.
    fn temper<T>(&self, queue: &QueueName, change: impl FnOnce(&mut Temper, usize) -> T) -> T {
        let most = self.host.bounds.pace.per_function;
        let mut tempers = self.asynchronous.tempers.lock();
        let mut temper = tempers.get(queue).copied().unwrap_or_else(|| Temper::new(most));
        let before = temper.limit;
        let answer = change(&mut temper, most);
        if temper.limit != before {
            self.asynchronous.consumer.limit(queue, temper.limit);
        }
        // Only what is out of the ordinary is remembered.
        if temper == Temper::new(most) {
            tempers.remove(queue);
        } else {
            tempers.insert(queue.clone(), temper);
        }
        answer
    }

    async fn succeeded(self: &Arc<Self>, event: InHand, answer: Answer) -> Result<(), Error> {
        let Some(destination) = event.policy.on_success.clone() else {
            event.delivery.finish(Vec::new()).await?;
            return Ok(());
        };
        let invokes = event.delivery.attempts() + 1;
        match self.record_for(&event, &destination, "Success", invokes, Some(&answer)).await? {
            Ok(draft) => {
                event.delivery.finish(vec![draft]).await?;
                Ok(())
            }
            Err(reason) => {
                self.keep_failed(event, Condition::DestinationFailed, invokes, Some(&answer), Some(reason))
                    .await
            }
        }
    }

    async fn failed(self: &Arc<Self>, event: InHand, answer: Answer) -> Result<(), Error> {
        let invokes = event.delivery.attempts() + 1;
        match after_error(&event.policy, invokes, event.age, self.host.bounds.pace.retry_after) {
            Next::Retry(delay) => {
                self.asynchronous.count(&event.key, |counts| counts.retries += 1);
                event.delivery.retry(delay).await?;
                Ok(())
            }
            Next::GiveUp(condition) => self.give_up(event, condition, Some(answer), None).await,
        }
    }

    /// Takes an event off the queue for good: to its destination, or to the list of failed ones.
    async fn give_up(
        self: &Arc<Self>,
        event: InHand,
        condition: Condition,
        answer: Option<Answer>,
        reason: Option<String>,
    ) -> Result<(), Error> {
        let invokes = event.delivery.attempts() + u32::from(answer.is_some());
        let reason = match event.policy.on_failure.clone() {
            Some(to) if condition != Condition::Damaged => {
                match self.record_for(&event, &to, condition.as_str(), invokes, answer.as_ref()).await? {
                    Ok(draft) => {
                        self.asynchronous.count(&event.key, |counts| counts.failed += 1);
                        event.delivery.finish(vec![draft]).await?;
                        return Ok(());
                    }
                    Err(problem) => Some(problem),
                }
            }
            _ => reason,
        };
        self.keep_failed(event, condition, invokes, answer.as_ref(), reason).await
    }

    /// A record on its way to where a destination says; or why there is none.
    async fn record_for(
        &self,
        event: &InHand,
        destination: &str,
        condition: &str,
        invokes: u32,
        answer: Option<&Answer>,
    ) -> Result<Result<queues::Draft, String>, Error> {
        let to = match check_destination(destination, &event.function.arn) {
            Ok(to) => to,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let record = match self.record(event, condition, invokes, answer).await? {
            Ok(record) => record,
            Err(reason) => return Ok(Err(reason)),
        };
        match to {
            Destination::Function(arn) => self.to_function(event, arn, destination, record).await,
            Destination::Queue(arn) => self.to_queue(event, arn, record).await,
        }
    }

    /// A record as a message to a queue, in the name of the function's role.
    async fn to_queue(
        &self,
        event: &InHand,
        arn: String,
        record: Bytes,
    ) -> Result<Result<queues::Draft, String>, Error> {
        let version = event.function.version(event.head.qualifier.as_deref());
        let (Some(outbox), Some(version)) = (&self.outbox, version) else {
            return Ok(Err(format!("The destination {arn} does not exist.")));
        };
        let caller = self.host.iam.function_caller(&event.function.arn, &version.configuration.role);
        let body = String::from_utf8(record.into()).map_err(Error::internal)?;
        outbox.draft(caller, arn, body).await
    }

    async fn to_function(
        &self,
        event: &InHand,
        to: FunctionArn,
        destination: &str,
        record: Bytes,
    ) -> Result<Result<queues::Draft, String>, Error> {
        let to = FunctionRef { account: to.account, name: to.name, qualifier: to.qualifier };
        let found = self.registry.get(&(to.account.clone(), to.name.clone()));
        let found = found.filter(|function| function.version(to.qualifier.as_deref()).is_some());
        let Some(function) = found else {
            return Ok(Err(format!("The destination {destination} does not exist.")));
        };
        if record.len() > limits::PAYLOAD_BYTES {
            return Ok(Err(format!("Its record of {} bytes is too large for {destination}.", record.len())));
        }
        let accepted = Accepted {
            id: RequestId::random(),
            function: to,
            payload: record,
            context: None,
            trace: event.head.trace.clone(),
        };
        Ok(Ok(self.draft(&function, accepted).await?))
    }

    /// What there is to tell of an event, or why that cannot be told.
    async fn record(
        &self,
        event: &InHand,
        condition: &str,
        invokes: u32,
        answer: Option<&Answer>,
    ) -> Result<Result<Bytes, String>, Error> {
        let Ok(payload) = self.payload(event).await? else {
            return Ok(Err("Its payload cannot be read.".to_owned()));
        };
        let qualifier = event.head.qualifier.as_deref().unwrap_or(LATEST);
        let happened = Happened {
            now: self.host.clock.now(),
            head: &event.head,
            function: event.function.arn.qualified(qualifier).to_string(),
            condition,
            invokes,
            payload: &payload,
            answer: answer.map(|(version, result)| (version.as_str(), result)),
        };
        record::record(&happened).map(Ok)
    }

    async fn keep_failed(
        &self,
        event: InHand,
        condition: Condition,
        invokes: u32,
        answer: Option<&Answer>,
        reason: Option<String>,
    ) -> Result<(), Error> {
        let sealed_response = answer.map(|(_, result)| {
            let text = String::from_utf8_lossy(record::payload(result));
            let kept = &text[..text.floor_char_boundary(KEPT_BYTES)];
            self.envelope(&event).seal_member(head::RESPONSE, kept)
        });
        let InHand { key, head, delivery, .. } = event;
        self.to_failed(
            &key,
            delivery,
            FailedHead {
                head,
                condition: condition.as_str().into(),
                invokes,
                response: None,
                sealed_response,
                reason,
            },
        )
        .await
    }

    /// Gives up an event of which there is no function to ask.
    async fn give_up_unheard(
        &self,
        key: &Key,
        head: Head,
        delivery: Delivery,
        condition: Condition,
    ) -> Result<(), Error> {
        let invokes = delivery.attempts();
        let condition = condition.as_str().to_owned();
        let failed =
            FailedHead { head, condition, invokes, response: None, sealed_response: None, reason: None };
        self.to_failed(key, delivery, failed).await
    }

    async fn to_failed(&self, key: &Key, delivery: Delivery, mut failed: FailedHead) -> Result<(), Error> {
        self.asynchronous.count(key, |counts| counts.failed += 1);
        let mut head = head::write(&failed)?;
        // With a long client context there may be no room for the answer.
        if head.len() > queues::HEAD_BYTES {
            failed.sealed_response = None;
            head = head::write(&failed)?;
        }
        delivery.transfer(&failed_of(key), head, Vec::new()).await?;
        Ok(())
    }
}
