//! Idle connections to one web server: the last used is used first, and none is kept for long.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::connection::Connection;

/// Idle connections kept. More are closed: an instance is asked this many things at once only rarely.
const MAX_IDLE: usize = 256;

/// How often idle connections are looked over while there are any.
const SWEEP: Duration = Duration::from_secs(1);

/// Sweeps that an idle connection sees. They end below the shortest time after which common servers close one
/// themselves (Node: 5 s), so that a request seldom meets a connection that is being closed.
const MAX_SWEEPS: u64 = 4;

/// The idle connections.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// The longest idle first.
    #[expect(clippy::vec_box, reason = "what is taken out goes on from hand to hand, as a pointer")]
    connections: Vec<Box<Connection>>,
    sweeping: bool,
    /// Sweeps so far: time enough, without asking for it at each request.
    sweeps: u64,
}

impl Pool {
    /// The connection that was used last, if any.
    pub(super) fn take(&self) -> Option<Box<Connection>> {
        self.idle.lock().connections.pop()
    }

    /// Keeps a connection that can carry another exchange.
    pub(super) fn put(self: &Arc<Self>, mut connection: Box<Connection>) {
        let mut idle = self.idle.lock();
        connection.idle_since = idle.sweeps;
        if idle.connections.len() < MAX_IDLE {
            idle.connections.push(connection);
        }
        if !idle.sweeping {
            idle.sweeping = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes what has been idle for too long; false when nothing is left.
    fn close_stale(&self) -> bool {
        let mut idle = self.idle.lock();
        idle.sweeps += 1;
        let now = idle.sweeps;
        let stale =
            idle.connections.iter().take_while(|connection| now - connection.idle_since >= MAX_SWEEPS);
        let count = stale.count();
        let closed: Vec<_> = idle.connections.drain(..count).collect();
        idle.sweeping = !idle.connections.is_empty();
        let go_on = idle.sweeping;
        drop(idle);
        drop(closed);
        go_on
    }
}

/// Looks after a pool until it is empty or gone.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.close_stale() {
            return;
        }
    }
}
