//! The listener: accepting, bounding, stopping.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use functions::Functions;
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
}

/// After a failed accept (mostly: no file descriptors left) the next try waits so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Gateway {
    /// Puts the front together; nothing listens yet.
    pub fn new(functions: Functions, api: api_aws::Api, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        Self { inner: Arc::new(Inner { functions, api, clock, settings, phases: Phases::new() }) }
    }

    /// Serves the listener, and the connections that come from inside sandboxes, until `stop` resolves; then
    /// accepts no more, lets what runs finish within the grace, and returns once every connection is gone.
    ///
    /// One call a gateway: its end is the gateway's end.
    pub async fn serve(
        &self,
        listener: TcpListener,
        inside: mpsc::Receiver<TcpStream>,
        stop: impl Future<Output = ()>,
    ) {
        let bound = u32::try_from(self.inner.settings.max_connections).unwrap_or(u32::MAX).max(1);
        let places = Arc::new(Semaphore::new(bound as usize));
        tokio::select! {
            () = self.accept(listener, inside, &places) => {}
            () = stop => {}
        }
        self.inner.phases.set(Phase::Draining);
        // All places free: no connection is left, upgraded ones included.
        let _ = tokio::time::timeout(self.inner.settings.grace, places.acquire_many(bound)).await;
        self.inner.phases.set(Phase::Closed);
    }

    async fn accept(
        &self,
        listener: TcpListener,
        mut inside: mpsc::Receiver<TcpStream>,
        places: &Arc<Semaphore>,
    ) {
        let paths =
            listener.local_addr().is_ok_and(|local: SocketAddr| local.ip().to_canonical().is_loopback());
        loop {
            // The place first: at the bound, connections wait in the backlog.
            let Ok(place) = Arc::clone(places).acquire_owned().await else { return };
            let socket = next(&listener, &mut inside).await;
            self.begin(socket, place, paths);
        }
    }

    fn begin(&self, socket: TcpStream, place: OwnedSemaphorePermit, paths: bool) {
        tokio::spawn(connection::serve(Arc::clone(&self.inner), socket, place, paths));
    }
}

/// The next connection from outside or inside.
async fn next(listener: &TcpListener, inside: &mut mpsc::Receiver<TcpStream>) -> TcpStream {
    loop {
        let mut from_inside = pin!(inside.recv());
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(socket) = &mut from_inside => return socket,
        };
        match accepted {
            Ok((socket, _)) => return socket,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
