//! One run of the server, from the open data directory to the last instance stopped.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ::images::Mounter;
use anyhow::{Context, Result, anyhow};
use base::{Clock, SystemClock};
use functions::{Bounds, Functions, Pace, Scaling};
use gateway::Gateway;
use iam::Iam;
use observe::{Backlog, FunctionMetrics, ImageParts, Resident};
use sandbox::egress::Network;
use sandbox::process::jail::{Launcher, Status};
use sandbox::process::{FromInside, ProcessBackend, image_files, image_users};
use sandbox::{Backend, SiteBackend};
use sandbox_wasm::{WasmBackend, WorkerSettings, Workers};
use store::{Blobs, Store};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::admin::{self, Admin};
use crate::data_dir::DataDir;
use crate::identity::{self, Identity};
use crate::images::{Adapter, Counted, Mounts, Trouble};
use crate::outbox::Mail;
use crate::signals::Signals;
use crate::subscribers::Subscribers;
use crate::{Config, WASM_WORKER, config, credentials, file_systems, host, tables};

/// Connections from functions to Virga's endpoint that may wait to be served.
const ENDPOINT_BACKLOG: usize = 256;

/// Failures to fetch parts of images that functions have not been told of yet.
const IMAGE_TROUBLES: usize = 64;

/// How long a tenant's worker for WebAssembly is kept that runs no instance.
const WORKER_IDLE: Duration = Duration::from_secs(300);

/// Serves until a signal says stop; then ends everything that it started.
pub(crate) async fn run(config: &Config, data_dir: &DataDir, launcher: Launcher) -> Result<()> {
    let mut signals = Signals::install()?;
    let public = bind(config.listen, "--listen").await?;
    let admin = bind(config.admin, "--admin").await?;
    let address = public.local_addr()?;
    let url = format!("http://{}", reachable(address));
    report(&launcher, address);

    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let schema = [
        iam::MIGRATIONS,
        queues::MIGRATIONS,
        functions::MIGRATIONS,
        logs::MIGRATIONS,
        mailboxes::MIGRATIONS,
        tables::MIGRATIONS,
    ];
    let store = Store::open(&data_dir.path("virga.db"), &schema).context("cannot open the database")?;
    let Identity { region, iam } =
        identity::open(&store, data_dir, &config.first_start, Arc::clone(&clock)).await?;
    let iam = iam.with_missing_roles(config.missing_roles);
    credentials::keep(&store, data_dir, &iam, region.as_str(), &url).await?;

    let lines =
        observe::Logs::open(&data_dir.path("logs"), Arc::clone(&clock)).context("cannot open the logs")?;
    let (connections, from_functions) = mpsc::channel(ENDPOINT_BACKLOG);
    let backends = backends(config, data_dir, launcher.clone(), connections, iam.clone())?;
    let shown = Arc::new(OnceLock::new());
    let metrics = FunctionMetrics::new().with_residents(residents(&backends)).with_backlogs(backlogs(&shown));
    let metrics = Arc::new(metrics.with_template_refusals(&sandbox::NO_TEMPLATE));
    let groups = logs::Logs::open(store.clone(), lines.clone(), Arc::clone(&clock));
    let (troubles, troubled) = mpsc::channel(IMAGE_TROUBLES);
    let queues = open_queues(&store, data_dir, config, Arc::clone(&clock)).await?;
    let mailboxes = mailboxes::Mailboxes::open(mailboxes::Deps {
        store: store.clone(),
        queues: queues.clone(),
        iam: iam.clone(),
        clock: Arc::clone(&clock),
        region: region.clone(),
    });
    let mailboxes = mailboxes.await.context("cannot open the mailboxes")?;
    let functions = Functions::open(functions::Deps {
        queues,
        store,
        blobs: Blobs::open(&data_dir.path("blobs")).context("cannot open the packages")?,
        code_dir: data_dir.path("code"),
        images: Some(Arc::new(images(config, data_dir, launcher, troubles, metrics.image_parts())?)),
        objects: objects(config, &clock)?,
        outbox: Some(Arc::new(Mail { mailboxes: mailboxes.clone(), region: region.clone() })),
        logs: lines,
        metrics: Arc::clone(&metrics),
        iam: iam.clone(),
        clock: Arc::clone(&clock),
        region: region.clone(),
        file_systems: file_systems::open(
            &config.file_systems,
            &region,
            iam.first_account(),
            data_dir.root(),
        )?,
        backends,
        bounds: bounds(config),
    })
    .await
    .context("cannot open the functions")?;
    let teller = tokio::spawn(crate::images::tell(functions.clone(), troubled));
    // Nobody else sets it.
    let _ = shown.set(functions.clone());
    groups.deliver_with(Arc::new(Subscribers(functions.clone())));
    let api = api_aws::Api::new(api_aws::Deps {
        functions: functions.clone(),
        iam,
        logs: groups.clone(),
        mailboxes: mailboxes.clone(),
        clock: Arc::clone(&clock),
        region: region.clone(),
        patience: api_aws::body::Patience::default(),
    });
    let mut settings = gateway::Settings::new(region);
    settings.grace = seconds(config.drain_s);
    let gateway = Gateway::new(functions.clone(), api, clock, settings);

    let admin_state = Arc::new(Admin { metrics: Box::new(move || metrics.encode()), ready: true.into() });
    let admin_task = tokio::spawn(admin::serve(admin, Arc::clone(&admin_state)));
    let (stop, stopped) = oneshot::channel::<()>();
    let mut serving = tokio::spawn(async move {
        let stop = async {
            // A dropped sender means stop as well.
            let _ = stopped.await;
        };
        gateway.serve(public, from_functions, stop).await;
    });
    announce(&url)?;

    let ended = tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, drain_s = config.drain_s, "stopping; a second signal stops at once");
            Ok(())
        }
        ended = &mut serving => Err(anyhow!("the public listener ended by itself: {ended:?}")),
    };
    admin_state.ready.store(false, Ordering::Relaxed);
    functions.stop_events();
    mailboxes.stop();
    groups.stop_tails();
    let since = Instant::now();
    if ended.is_ok() {
        drop(stop);
        tokio::select! {
            _ = serving => {}
            signal = signals.next() => tracing::warn!(signal, "stopping at once"),
        }
    }
    // Nobody waits for an answer any more, but events may still run.
    let left = seconds(config.drain_s).saturating_sub(since.elapsed());
    tokio::select! {
        () = functions.shutdown(left) => {}
        signal = signals.next() => {
            tracing::warn!(signal, "stopping at once");
            functions.shutdown(Duration::ZERO).await;
        }
    }
    admin_task.abort();
    teller.abort();
    tracing::info!("stopped");
    ended
}

/// What an operator should know before the first request.
fn report(launcher: &Launcher, address: SocketAddr) {
    for check in launcher.report().checks {
        if check.status != Status::Ok {
            tracing::warn!(what = check.name, detail = check.detail, "this host cannot give everything");
        }
    }
    if !address.ip().is_loopback() {
        tracing::warn!(
            %address,
            "listening beyond this machine: there is no TLS, so put a proxy in front; path URLs (/_fn/) are off"
        );
    }
}

/// The store of container images.
fn images(
    config: &Config,
    data_dir: &DataDir,
    launcher: Launcher,
    troubles: mpsc::Sender<Trouble>,
    parts_seen: ImageParts,
) -> Result<Adapter> {
    let config::Images { plain_registries, credentials, certificates, local, parts, most_gb } =
        config.images.clone();
    let mounter = (parts != config::ImageParts::Off).then(|| Arc::new(Mounts(launcher)) as Arc<dyn Mounter>);
    let extras = ::images::Extras {
        files: image_files().map(|(path, text)| (path.to_owned(), text)).into(),
        lines: image_users().map(|(path, line)| (path.to_owned(), line)).into(),
    };
    let settings = ::images::Settings {
        dir: data_dir.path("images"),
        extras,
        plain_http: plain_registries,
        credentials,
        certificates,
        local,
        mounter,
        completes: parts == config::ImageParts::Background,
        meter: Some(Arc::new(Counted(parts_seen))),
        most_bytes: u64::from(most_gb) << 30,
        // Who is flooded with them hears of enough.
        listener: Some(Arc::new(move |id, text| drop(troubles.try_send((id.clone(), text.to_owned()))))),
    };
    Ok(Adapter(::images::Images::open(settings).context("cannot open the images")?))
}

/// The store of packages, where the operator names one.
fn objects(config: &Config, clock: &Arc<dyn Clock>) -> Result<Option<Arc<dyn functions::Objects>>> {
    let open = |settings| crate::objects::Store::open(settings, Arc::clone(clock));
    let store = config.package_store.as_ref().map(open).transpose()?;
    Ok(store.map(|store| Arc::new(store) as Arc<dyn functions::Objects>))
}

fn backends(
    config: &Config,
    data_dir: &DataDir,
    launcher: Launcher,
    endpoint: mpsc::Sender<FromInside>,
    iam: Iam,
) -> Result<Vec<Arc<dyn Backend>>> {
    let network = Arc::new(Network::new(config.resolvers.clone()));
    let process = ProcessBackend::new(
        launcher.clone(),
        sandbox::process::Settings {
            runtime_dir: data_dir.path("runtime"),
            endpoint: Some(endpoint),
            network: Arc::clone(&network),
            log_bytes_per_s: u64::from(config.max_log_kb_s) << 10,
            pool_sandboxes: config.pool_sandboxes,
            pool_runtimes: config.pool_runtimes,
            template_bytes: u64::from(config.template_mb) << 20,
        },
    );
    let mut settings = sandbox_wasm::Settings::new(data_dir.path("wasm-cache"));
    settings.max_instances = settings.max_instances.max(config.max_instances);
    settings.network = network;
    settings.certificates = config.egress_certificates.clone();
    let workers = workers(config, data_dir, settings.max_instances, iam)?;
    let wasm = WasmBackend::new(settings).and_then(|here| Workers::new(here, launcher, workers));
    let wasm = wasm.context("cannot start the WebAssembly back end")?;
    let process = process.context("cannot start the process back end")?;
    Ok(vec![Arc::new(process), Arc::new(wasm), Arc::new(SiteBackend)])
}

fn workers(config: &Config, data_dir: &DataDir, max_instances: u32, iam: Iam) -> Result<WorkerSettings> {
    Ok(WorkerSettings {
        separation: config.wasm_workers,
        tenants: Arc::new(move || iam.accounts()),
        program: std::env::current_exe().context("cannot find this program's own file")?,
        arguments: vec![WASM_WORKER.to_owned()],
        dir: data_dir.path("wasm-workers"),
        memory_bytes: max_memory_bytes(config),
        max_instances,
        idle: WORKER_IDLE,
    })
}

fn max_memory_bytes(config: &Config) -> u64 {
    config.max_memory_mb.map_or_else(host::default_memory_bytes, |mb| mb << 20)
}

/// The queues, with the kinds that there are.
async fn open_queues(
    store: &Store,
    data_dir: &DataDir,
    config: &Config,
    clock: Arc<dyn Clock>,
) -> Result<queues::Queues> {
    let files = Blobs::open(&data_dir.path("messages")).context("cannot open the messages")?;
    let deps = queues::Deps { store: store.clone(), files, clock };
    let consumed = [(functions::EVENTS, config.async_per_function as usize)];
    let (others, by_name) = ([functions::FAILED_EVENTS], mailboxes::kinds());
    let queues = queues::Queues::open_with(deps, &consumed, &others, &by_name);
    queues.await.context("cannot open the queues")
}

/// Events that wait, for the metrics; nothing until there are functions.
fn backlogs(functions: &Arc<OnceLock<Functions>>) -> impl Fn() -> Vec<Backlog> + use<> {
    let functions = Arc::clone(functions);
    move || {
        let all = functions.get().map(Functions::backlogs).unwrap_or_default();
        let shown = |each: functions::Backlog| Backlog {
            account: each.account,
            function: each.function,
            queued: each.queued,
            running: each.running,
            oldest: Duration::from_millis(each.oldest_ms),
            failed_kept: each.failed_kept,
            accepted: each.accepted,
            retries: each.retries,
            throttles: each.throttles,
            failed: each.failed,
            dropped: each.dropped,
        };
        all.into_iter().map(shown).collect()
    }
}

/// What all back ends keep ready, for the metrics.
fn residents(backends: &[Arc<dyn Backend>]) -> impl Fn() -> Vec<Resident> + use<> {
    let backends = backends.to_vec();
    move || {
        let all = backends.iter().flat_map(|backend| backend.residents());
        all.map(|each| Resident { name: each.name, count: each.count.into(), bytes: each.bytes }).collect()
    }
}

fn bounds(config: &Config) -> Bounds {
    Bounds {
        max_instances: config.max_instances as usize,
        max_memory_bytes: max_memory_bytes(config),
        max_queue: config.max_queue as usize,
        queue_timeout: seconds(config.queue_timeout_s),
        init_timeout: seconds(config.init_timeout_s),
        egress: config.egress.clone(),
        egress_of: config.egress_of.clone(),
        max_egress: config.max_egress.clone(),
        domains: config.domains.clone(),
        idle_timeout: seconds(config.idle_timeout_s),
        scaling: Scaling {
            account_concurrency: config.account_concurrency,
            account_code_bytes: u64::from(config.account_code_mb) << 20,
            stable_window: seconds(config.stable_window_s),
            panic_window: seconds(config.panic_window_s),
            max_waiting: config.max_waiting as usize,
            max_waiting_bytes: u64::from(config.max_waiting_mb) << 20,
            ..Scaling::default()
        },
        pace: Pace {
            at_once: config.async_at_once as usize,
            per_function: config.async_per_function as usize,
            retry_after: seconds(config.async_retry_s),
            keep_failed: Duration::from_secs(u64::from(config.keep_failed_h) * 3600),
            ..Pace::default()
        },
    }
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(u64::from(count))
}

/// The one line on standard output.
fn announce(url: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready {url}").and_then(|()| out.flush()).context("cannot write to standard output")
}

async fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: say where else with {flag}"))
}

/// The address as a client on this machine reaches it.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], v4.port())),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], v6.port()))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn a_client_reaches_a_wildcard_by_loopback() {
        let check =
            |address: &str, expect: &str| assert_eq!(reachable(address.parse().unwrap()).to_string(), expect);
        check("0.0.0.0:80", "127.0.0.1:80");
        check("[::]:80", "[::1]:80");
        check("192.0.2.1:80", "192.0.2.1:80");
    }
}
