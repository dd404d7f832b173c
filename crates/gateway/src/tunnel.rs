//! An upgraded connection: bytes both ways until one side ends, the function's time is up, or the server stops.

use functions::InFlight;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::sync::watch;

use crate::limits;
use crate::phase::{Phase, reached};

/// Copies until the end. `in_flight` keeps the call counted for as long.
pub(crate) async fn join(
    client: OnUpgrade,
    instance: OnUpgrade,
    in_flight: Option<InFlight>,
    mut phases: watch::Receiver<Phase>,
) {
    tokio::select! {
        () = copy(client, instance) => {}
        () = reached(&mut phases, Phase::Closed) => {}
    }
    drop(in_flight);
}

async fn copy(client: OnUpgrade, instance: OnUpgrade) {
    // The client's side is ready when the 101 has been written, the instance's already is.
    let (client, instance) = match tokio::try_join!(client, instance) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "an upgrade did not happen");
            return;
        }
    };
    let (mut client, mut instance) = (TokioIo::new(client), TokioIo::new(instance));
    let size = limits::TUNNEL_BUFFER;
    if let Err(error) = copy_bidirectional_with_sizes(&mut client, &mut instance, size, size).await {
        tracing::debug!(%error, "an upgraded connection ended");
    }
}
