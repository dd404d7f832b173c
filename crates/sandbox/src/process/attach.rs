//! From a jail that runs a program to an instance: its output, and an engine for what the program speaks.

use std::io;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::egress;
use super::instance::{Course, Engine, Process, Tasks};
use super::jail::Jail;
use super::longpoll::{LongPoll, Started};
use super::output::Output;
use super::port::WebServer;
use super::route::Route;
use crate::Spec;
use crate::egress::{Gate, Network};

/// Connections that one instance may hold to Virga's API. It shares the server's with every other function.
const MAX_ENDPOINT_CONNECTIONS: usize = 64;

/// A connection that a function has made to Virga's API.
pub struct FromInside {
    /// The connection.
    pub stream: TcpStream,
    /// One of the few that its instance may hold; to be kept as long as the connection.
    pub place: OwnedSemaphorePermit,
}

/// What an instance is reached by beside its jail.
pub(crate) struct Ends<'a> {
    /// The port of a web server.
    pub(crate) web: Option<u16>,
    /// Its way out.
    pub(crate) network: &'a Arc<Network>,
    /// Takes the connections that it makes to Virga's API.
    pub(crate) endpoint: Option<&'a mpsc::Sender<FromInside>>,
    /// How fast its output is read once it floods.
    pub(crate) log_bytes_per_s: u64,
}

/// Takes charge of a jail that was just started; the instance need not be ready yet.
pub(crate) fn attach(
    mut jail: Jail,
    spec: &Spec,
    ends: Ends<'_>,
    course: Course,
) -> io::Result<(Process, Option<Started>)> {
    let Ends { web, network, endpoint, log_bytes_per_s } = ends;
    let pipe = jail.take_output().ok_or_else(|| io::Error::other("the jail has no output"))?;
    let output = Arc::new(Output::new(pipe, spec.output.clone())?.with_rate(log_bytes_per_s));
    let listeners =
        jail.take_listeners().into_iter().map(TcpListener::from_std).collect::<io::Result<Vec<_>>>()?;
    let mut listeners = listeners.into_iter();
    let way_out = jail.take_way_out();
    let jail = Arc::new(jail);
    let mut tasks = Tasks::default();
    if let Some(way_out) = way_out {
        let gate = Gate::new(spec.egress.clone(), Arc::clone(network), spec.output.clone());
        tasks.spawn(egress::serve(way_out, gate, jail.clone()));
    }
    let (engine, started) = match web {
        Some(port) => (Engine::Web(WebServer::new(Route::Inside(jail.clone(), port))), None),
        None => {
            let (api, started) = LongPoll::new(output.clone(), spec.limits.answer_bytes, spec.concurrency);
            if let Some(listener) = listeners.next() {
                tasks.spawn(api.clone().serve(listener));
            }
            (Engine::Events(api), Some(started))
        }
    };
    if let (Some(endpoint), Some(listener)) = (endpoint, listeners.next()) {
        tasks.spawn(pass_on(listener, endpoint.clone()));
    }
    Ok((Process::new(jail, engine, output, course, tasks), started))
}

/// Hands the connections that an instance makes to Virga's API to the server.
async fn pass_on(listener: TcpListener, endpoint: mpsc::Sender<FromInside>) {
    let places = Arc::new(Semaphore::new(MAX_ENDPOINT_CONNECTIONS));
    loop {
        // The place first: beyond the bound, connections wait in the instance's own backlog.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                if endpoint.try_send(FromInside { stream, place }).is_err() {
                    tracing::debug!("a function's connection to the endpoint found no room");
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a function's connection to the endpoint was not accepted");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    }
}
