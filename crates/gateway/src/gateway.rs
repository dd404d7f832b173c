//! The listener: accepting, bounding, stopping.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use functions::Functions;
use parking_lot::Mutex;
use sandbox::process::FromInside;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::connection;
use crate::phase::{Phase, Phases};
use crate::settings::Settings;

/// The public front: function URLs and APIs on one port. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

/// What every connection needs.
pub(crate) struct Inner {
    pub(crate) functions: Functions,
    pub(crate) api: api_aws::Api,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Settings,
    pub(crate) phases: Phases,
    /// Places of connections that have nothing under way while the server drains: it does not wait for them.
    pub(crate) aside: Arc<Semaphore>,
}

/// After a failed accept (mostly: no file descriptors left) the next try waits so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// For each so many connections from outside there may be one from inside sandboxes.
const INSIDE_SHARE: u32 = 4;

impl Gateway {
    /// Puts the front together; nothing listens yet.
    pub fn new(functions: Functions, api: api_aws::Api, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        let aside = Arc::new(Semaphore::new(bound(&settings) as usize));
        Self { inner: Arc::new(Inner { functions, api, clock, settings, phases: Phases::new(), aside }) }
    }

    /// Serves the listener, and the connections that come from inside sandboxes, until `stop` resolves; then
    /// lets what runs finish within the grace, answers everything else 503 meanwhile, and returns once every connection
    /// is gone.
    ///
    /// One call a gateway: its end is the gateway's end.
    pub async fn serve(
        &self,
        listener: TcpListener,
        mut inside: mpsc::Receiver<FromInside>,
        stop: impl Future<Output = ()>,
    ) {
        let bound = bound(&self.inner.settings);
        // Apart, so that functions, however many connections they hold, keep nobody else out.
        let few = (bound / INSIDE_SHARE).max(1);
        let (outer, inner) =
            (Arc::new(Semaphore::new(bound as usize)), Arc::new(Semaphore::new(few as usize)));
        let paths =
            listener.local_addr().is_ok_and(|local: SocketAddr| local.ip().to_canonical().is_loopback());
        tokio::select! {
            () = self.accept(&listener, &outer, paths) => {}
            () = self.accept_inside(&mut inside, &inner, paths) => {}
            () = stop => {}
        }
        let Inner { phases, aside, settings, .. } = &*self.inner;
        phases.set(Phase::Draining);
        let ended = async {
            // All places free: no connection has anything under way, upgraded ones included.
            let all = async { tokio::join!(outer.acquire_many(bound), inner.acquire_many(few)) };
            tokio::select! {
                _ = all => {}
                () = self.accept(&listener, aside, paths) => {}
                () = self.accept_inside(&mut inside, aside, paths) => {}
            }
        };
        let _ = tokio::time::timeout(settings.grace, ended).await;
        phases.set(Phase::Closed);
    }

    async fn accept(&self, listener: &TcpListener, places: &Arc<Semaphore>, paths: bool) {
        loop {
            // The place first: at the bound, connections wait in the backlog.
            let Ok(place) = Arc::clone(places).acquire_owned().await else { return };
            let socket = next(listener).await;
            self.begin(socket, Place::new(place, None), paths);
        }
    }

    async fn accept_inside(
        &self,
        inside: &mut mpsc::Receiver<FromInside>,
        places: &Arc<Semaphore>,
        paths: bool,
    ) {
        loop {
            let Ok(ours) = Arc::clone(places).acquire_owned().await else { return };
            let Some(FromInside { stream, place }) = inside.recv().await else { break };
            self.begin(stream, Place::new(ours, Some(place)), paths);
        }
        // There are no functions that could connect; the listener goes on.
        std::future::pending().await
    }

    fn begin(&self, socket: TcpStream, place: Place, paths: bool) {
        tokio::spawn(connection::serve(Arc::clone(&self.inner), socket, place, paths));
    }
}

/// What a connection holds while it lives.
pub(crate) struct Place {
    ours: Mutex<OwnedSemaphorePermit>,
    /// Of the instance that it comes from.
    _instances: Option<OwnedSemaphorePermit>,
}

impl Place {
    fn new(ours: OwnedSemaphorePermit, instances: Option<OwnedSemaphorePermit>) -> Self {
        Self { ours: Mutex::new(ours), _instances: instances }
    }

    /// Has the end of the server not wait for this connection; whether there is a place for such a one.
    pub(crate) fn step_aside(&self, aside: &Arc<Semaphore>) -> bool {
        let mut ours = self.ours.lock();
        if Arc::ptr_eq(ours.semaphore(), aside) {
            return true;
        }
        let place = Arc::clone(aside).try_acquire_owned();
        place.map(|place| *ours = place).is_ok()
    }
}

/// Connections at once.
fn bound(settings: &Settings) -> u32 {
    u32::try_from(settings.max_connections).unwrap_or(u32::MAX).max(1)
}

/// The next connection from outside.
async fn next(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => return socket,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
