//! The clock that makes busy guests give way: one thread an engine, ticking only while calls are under way.
//!
//! Every tick moves the engine's epoch on; a guest that sees it moved yields to the async runtime, where
//! other calls get their turn and a dropped call ends. A timer for each call would cost more than the call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::Engine;

/// The longest that a guest runs before others get a turn.
const TICK: Duration = Duration::from_millis(1);
/// Ticks without a call before the thread sleeps: waking it costs a system call, so not after every call.
const LINGER: u32 = 200;

struct State {
    active: AtomicUsize,
    parked: AtomicBool,
    stopping: AtomicBool,
}

/// The ticking thread; it ends when this is dropped.
pub(crate) struct Ticker {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

/// While this lives the epoch moves.
pub(crate) struct Ticking(Arc<State>);

impl Ticker {
    pub(crate) fn start(engine: Engine) -> std::io::Result<Self> {
        let state = Arc::new(State {
            active: AtomicUsize::new(0),
            parked: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        });
        let shared = state.clone();
        let thread =
            std::thread::Builder::new().name("wasm-epoch".into()).spawn(move || tick(&engine, &shared))?;
        Ok(Self { state, thread: Some(thread) })
    }

    /// Marks a call as under way.
    pub(crate) fn enter(&self) -> Ticking {
        self.state.active.fetch_add(1, SeqCst);
        // The thread sets `parked` before it looks at `active` for the last time, so one of the two sees
        // the other.
        if self.state.parked.load(SeqCst) {
            self.wake();
        }
        Ticking(self.state.clone())
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.state.stopping.store(true, SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the panic hook; there is nothing left to tidy.
            drop(thread.join());
        }
    }
}

fn tick(engine: &Engine, state: &State) {
    let mut idle = 0;
    while !state.stopping.load(SeqCst) {
        std::thread::sleep(TICK);
        engine.increment_epoch();
        if state.active.load(SeqCst) > 0 {
            idle = 0;
            continue;
        }
        idle += 1;
        if idle >= LINGER {
            state.parked.store(true, SeqCst);
            while state.active.load(SeqCst) == 0 && !state.stopping.load(SeqCst) {
                std::thread::park();
            }
            state.parked.store(false, SeqCst);
            idle = 0;
        }
    }
}
