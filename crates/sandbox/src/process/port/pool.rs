//! Idle connections to one web server: the last used is used first, and none is kept for long.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::connection::Connection;

/// Idle connections kept. More are closed: an instance is asked this many things at once only rarely.
const MAX_IDLE: usize = 256;

/// Below the shortest time after which common servers close an idle connection themselves (Node: 5 s), so that
/// a request seldom meets a connection that is being closed.
const MAX_IDLE_TIME: Duration = Duration::from_secs(4);

/// How often idle connections are looked over while there are any.
const SWEEP: Duration = Duration::from_secs(1);

/// The idle connections.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// The longest idle first.
    connections: Vec<Connection>,
    sweeping: bool,
}

impl Pool {
    /// The connection that was used last, if any.
    pub(super) fn take(&self) -> Option<Connection> {
        self.idle.lock().connections.pop()
    }

    /// Keeps a connection that can carry another exchange.
    pub(super) fn put(self: &Arc<Self>, mut connection: Connection) {
        connection.idle_since = Instant::now();
        let mut idle = self.idle.lock();
        if idle.connections.len() < MAX_IDLE {
            idle.connections.push(connection);
        }
        if !idle.sweeping {
            idle.sweeping = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes what has been idle for too long; false when nothing is left.
    fn close_stale(&self, now: Instant) -> bool {
        let mut idle = self.idle.lock();
        let stale = |c: &Connection| now.saturating_duration_since(c.idle_since) >= MAX_IDLE_TIME;
        let count = idle.connections.iter().take_while(|connection| stale(connection)).count();
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
        if !pool.close_stale(Instant::now()) {
            return;
        }
    }
}
