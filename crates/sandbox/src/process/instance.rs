//! A started process with the engine that speaks to it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::activity::Activity;
use super::jail::Jail;
use super::longpoll::{Begun, LongPoll, Started};
use super::output::Output;
use super::port::{self, WebServer};
use crate::{Call, Exit, Fault, Instance, Origin, Output as CallOutput, Payload, Phases, StartError};

/// How long a broken connection to a web server waits for the news that the server has ended: the kernel
/// closes a dying process's sockets a little before its parent hears of it.
pub(super) const EXIT_NEWS: Duration = Duration::from_millis(100);

/// How an instance is spoken to.
pub(crate) enum Engine {
    /// It asks for events.
    Events(Arc<LongPoll>),
    /// It is a web server.
    Web(WebServer),
}

/// One instance. Its jail dies with it.
pub(crate) struct Process {
    jail: Arc<Jail>,
    engine: Engine,
    output: Arc<Output>,
    exit: watch::Receiver<Option<Exit>>,
    stopping: Arc<AtomicBool>,
    course: Course,
    phases: OnceLock<Phases>,
    activity: Activity,
    _tasks: Tasks,
}

/// How a start came about, up to the program: moments of the monotonic clock, which is the same in every process of
/// the host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course {
    /// What was there already.
    pub(crate) origin: Origin,
    /// It was asked for.
    pub(crate) asked: Duration,
    /// The program was executed, or has its orders.
    pub(crate) executed: Duration,
}

impl Course {
    /// This moment.
    pub(crate) fn now() -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        // The clock begins at zero and its nanoseconds are below 10^9.
        Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
    }

    /// The whole, now that it can take a call. What a client says of itself is not believed beyond that.
    fn phases(&self, begun: Begun, ready: Duration) -> Phases {
        let told = begun.init_began_ns.map(Duration::from_nanos);
        let init_began = told.map_or(self.executed, |began| began.max(self.executed).min(ready));
        Phases {
            origin: self.origin,
            sandbox: self.executed.saturating_sub(self.asked),
            runtime: init_began.saturating_sub(self.executed),
            init: ready.saturating_sub(init_began),
        }
    }
}

/// Tasks that end with their owner.
#[derive(Default)]
pub(crate) struct Tasks(Vec<AbortHandle>);

impl Tasks {
    /// Runs a future until it ends or its owner does.
    pub(crate) fn spawn(&mut self, future: impl Future<Output = ()> + Send + 'static) {
        self.0.push(tokio::spawn(future).abort_handle());
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl Process {
    /// Takes charge of a jail that was just started. `tasks` serve it from outside.
    pub(crate) fn new(
        jail: Arc<Jail>,
        engine: Engine,
        output: Arc<Output>,
        course: Course,
        mut tasks: Tasks,
    ) -> Self {
        let (exit_sender, exit) = watch::channel(None);
        let stopping = Arc::new(AtomicBool::new(false));
        let events = match &engine {
            Engine::Events(api) => Some(api.clone()),
            Engine::Web(_) => None,
        };
        tasks.spawn({
            let output = output.clone();
            async move { output.follow().await }
        });
        tasks.spawn({
            let (jail, output, stopping) = (jail.clone(), output.clone(), stopping.clone());
            async move {
                let exit = stopped_by_us(jail.exited().await, &stopping);
                // Its last words come before the news.
                output.drain();
                if let Some(events) = events {
                    events.gone(exit);
                }
                exit_sender.send_replace(Some(exit));
            }
        });
        let (activity, phases) = (Activity::default(), OnceLock::new());
        Self { jail, engine, output, exit, stopping, course, phases, activity, _tasks: tasks }
    }

    /// What it runs in.
    pub(crate) fn jail(&self) -> &Arc<Jail> {
        &self.jail
    }

    /// Resolves when it can take a call. The caller bounds the time.
    pub(crate) async fn ready(&self, started: Option<Started>) -> Result<(), StartError> {
        let begun = match (&self.engine, started) {
            (Engine::Events(_), Some(started)) => {
                started.await.unwrap_or(Err(StartError::Exited(Exit::Stopped)))?
            }
            (Engine::Events(_), None) => Begun::default(),
            (Engine::Web(server), _) => tokio::select! {
                () = server.ready() => Begun::default(),
                exit = self.wait_for_exit() => return Err(StartError::Exited(exit)),
            },
        };
        self.phases.get_or_init(|| self.course.phases(begun, Course::now()));
        Ok(())
    }

    async fn wait_for_exit(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::Stopped),
            Err(_) => Exit::Stopped,
        }
    }

    async fn call(&self, call: Call) -> Result<CallOutput, Fault> {
        let resumed = self.activity.begin(|| self.jail.resume());
        let _under_way = match resumed {
            Ok(under_way) => under_way,
            Err(error) => return not_taken(call.payload, self.not_resumed(&error).await),
        };
        match (&self.engine, call.payload) {
            (Engine::Events(api), Payload::Event(event)) => {
                api.invoke(call.id, call.deadline_unix_ms, event).await
            }
            (Engine::Web(server), Payload::Http(request)) => {
                let answer = server.send(request).await;
                match answer {
                    Ok(response) => {
                        self.output.drain_known();
                        Ok(CallOutput::Http(response))
                    }
                    Err(error) => {
                        self.output.drain();
                        self.unanswered(error).await
                    }
                }
            }
            (Engine::Events(_), Payload::Http(_)) => {
                Err(Fault::BadAnswer("this instance takes events, not requests".to_owned()))
            }
            (Engine::Web(_), Payload::Event(_)) => {
                Err(Fault::BadAnswer("this instance takes requests, not events".to_owned()))
            }
        }
    }

    /// What cannot go on is ended; mostly it has ended by itself.
    async fn not_resumed(&self, error: &std::io::Error) -> Exit {
        tracing::debug!(%error, "an instance could not be resumed");
        self.jail.kill().await;
        self.wait_for_exit().await
    }

    /// What a request comes to that the web server did not answer.
    async fn unanswered(&self, error: port::Error) -> Result<CallOutput, Fault> {
        let exit = async { tokio::time::timeout(EXIT_NEWS, self.wait_for_exit()).await.ok() };
        let said = error.to_string();
        match error {
            port::Error::Connect(request, _) => match exit.await {
                // Without a connection nothing was sent.
                Some(exit) => Ok(CallOutput::NotTaken(request, exit)),
                None => Err(Fault::BadAnswer(said)),
            },
            port::Error::Closed(_) => Err(exit.await.map_or(Fault::BadAnswer(said), Fault::Exited)),
            _ => Err(Fault::BadAnswer(said)),
        }
    }
}

/// A call that the instance never saw.
fn not_taken(payload: Payload, exit: Exit) -> Result<CallOutput, Fault> {
    match payload {
        Payload::Event(_) => Err(Fault::NotDelivered(exit)),
        Payload::Http(request) => Ok(CallOutput::NotTaken(request, exit)),
    }
}

/// A kill that we asked for is a stop, whatever the kernel calls it.
fn stopped_by_us(exit: Exit, stopping: &AtomicBool) -> Exit {
    match exit {
        Exit::Signal(_) if stopping.load(Ordering::Acquire) => Exit::Stopped,
        other => other,
    }
}

impl Instance for Process {
    fn invoke(&self, call: Call) -> BoxFuture<'_, Result<CallOutput, Fault>> {
        Box::pin(self.call(call))
    }

    fn exited(&self) -> BoxFuture<'_, Exit> {
        Box::pin(self.wait_for_exit())
    }

    fn collect_output(&self) {
        self.output.drain();
    }

    fn phases(&self) -> Phases {
        self.phases.get().copied().unwrap_or_default()
    }

    /// A web server's answer that still streams is no call here: whoever holds it must not ask for this.
    fn freeze(&self) {
        if let Err(error) = self.activity.suspend(|| self.jail.suspend()) {
            tracing::debug!(%error, "an instance could not be suspended");
        }
    }

    fn peak_memory(&self) -> u64 {
        self.jail.peak_memory()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.stopping.store(true, Ordering::Release);
            self.jail.kill().await;
            self.output.drain();
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.output.drain();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_add_up_whatever_a_client_says() {
        let ms = Duration::from_millis;
        let course = Course { origin: Origin::Sandbox, asked: ms(1000), executed: ms(1003) };
        for (told, runtime, init) in [
            (None, 0, 17),
            (Some(1008), 5, 12),
            // Before it was started, and after it was done.
            (Some(1), 0, 17),
            (Some(99_999), 17, 0),
        ] {
            let begun = Begun { init_began_ns: told.map(|told| told * 1_000_000) };
            let phases = course.phases(begun, ms(1020));
            let expect =
                Phases { origin: Origin::Sandbox, sandbox: ms(3), runtime: ms(runtime), init: ms(init) };
            assert_eq!(phases, expect, "{told:?}");
        }
    }
}
