//! A gateway on a free port with a data directory of its own.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Region, SystemClock};
use bytes::Bytes;
use functions::model::*;
use functions::{Bounds, Functions};
use gateway::{Gateway, Settings};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use iam::{Caller, Credentials, Principal};
use sandbox::Backend;
use sandbox::process::FromInside;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::fake::Fake;

pub(crate) const WAIT: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) functions: Functions,
    pub(crate) caller: Caller,
    pub(crate) credentials: Credentials,
    /// Connections as from inside a sandbox.
    pub(crate) inside: mpsc::Sender<FromInside>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Any name, for whoever wants it.
fn open_domains() -> functions::Domains {
    let mut domains = functions::Domains::default();
    domains.open(None, "*").unwrap();
    domains
}

fn bounds() -> Bounds {
    Bounds {
        max_instances: 100,
        max_memory_bytes: 100 << 30,
        max_queue: 100,
        queue_timeout: WAIT,
        init_timeout: WAIT,
        egress: sandbox::Egress::Public,
        egress_of: BTreeMap::new(),
        max_egress: sandbox::Egress::Public,
        domains: open_domains(),
        idle_timeout: Duration::from_secs(300),
        scaling: Default::default(),
        pace: Default::default(),
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = store::Store::open(
            &at("db"),
            &[
                iam::MIGRATIONS,
                queues::MIGRATIONS,
                functions::MIGRATIONS,
                logs::MIGRATIONS,
                mailboxes::MIGRATIONS,
            ],
        )
        .unwrap();
        let key = at("key");
        let iam = iam::Iam::open(store.clone(), &key, iam::Bootstrap::default(), Arc::clone(&clock));
        let iam = iam.await.unwrap();
        let lines = observe::Logs::open(&at("logs"), Arc::clone(&clock)).unwrap();
        let groups = logs::Logs::open(store.clone(), lines.clone(), Arc::clone(&clock));
        let waiting = queues::Deps {
            store: store.clone(),
            files: store::Blobs::open(&at("messages")).unwrap(),
            clock: Arc::clone(&clock),
        };
        let (consumed, others) = ([(functions::EVENTS, 50)], [functions::FAILED_EVENTS]);
        let by_name = mailboxes::kinds();
        let queues = queues::Queues::open_with(waiting, &consumed, &others, &by_name);
        let queues = queues.await.unwrap();
        let mailboxes = mailboxes::Mailboxes::open(mailboxes::Deps {
            store: store.clone(),
            queues: queues.clone(),
            iam: iam.clone(),
            clock: Arc::clone(&clock),
            region: Region::default(),
        });
        let functions = Functions::open(functions::Deps {
            store,
            queues,
            blobs: store::Blobs::open(&at("blobs")).unwrap(),
            code_dir: at("code"),
            objects: None,
            outbox: None,
            images: None,
            logs: lines,
            metrics: Arc::new(observe::FunctionMetrics::new()),
            iam: iam.clone(),
            clock: Arc::clone(&clock),
            region: Region::default(),
            file_systems: Default::default(),
            backends: vec![Arc::new(Fake) as Arc<dyn Backend>],
            bounds: bounds(),
        });
        let functions = functions.await.unwrap();
        let mut settings = Settings::new(Region::default());
        change(&mut settings);
        let api = api_aws::Api::new(api_aws::Deps {
            functions: functions.clone(),
            iam: iam.clone(),
            logs: groups,
            mailboxes: mailboxes.await.unwrap(),
            clock: Arc::clone(&clock),
            region: Region::default(),
            patience: settings.patience,
        });
        let caller = Caller::new(iam.first_account().clone(), Principal::User { name: "admin".into() });
        let gateway = Gateway::new(functions.clone(), api, clock, settings);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (inside, from_inside) = mpsc::channel(4);
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            gateway.serve(listener, from_inside, async { drop(stopped.await) }).await;
        });
        let credentials = iam.first_credentials();
        Self {
            address,
            functions,
            caller,
            credentials,
            inside,
            stop: Some(stop),
            server: Some(server),
            _dir: dir,
        }
    }

    /// A function that can be called, with a URL; answers the URL's id.
    pub(crate) async fn function(&self, name: &str, contract: &str, cors: Option<Cors>) -> String {
        let args = CreateFunction {
            name: name.into(),
            description: String::new(),
            role: "arn:aws:iam::123456789012:role/any".into(),
            runtime: "provided.al2023".into(),
            handler: "bootstrap".into(),
            timeout_s: 20,
            memory_mb: 128,
            ephemeral_mb: 512,
            logging: Default::default(),
            log_group: None,
            environment: Default::default(),
            code: package().into(),
            layers: Vec::new(),
            snap_start: false,
            traced: false,
            file_systems: Vec::new(),
            code_signing: None,
            image_config: Default::default(),
            tags: [("virga:contract".to_owned(), contract.to_owned())].into(),
            publish: false,
        };
        self.functions.create(&self.caller, args).await.unwrap();
        self.active(name).await;
        let function = self.named(name);
        self.functions
            .create_url(&self.caller, &function, UrlAuth::None, cors, Default::default())
            .await
            .unwrap()
            .url
            .id
    }

    /// Has the URL of a function stream.
    pub(crate) async fn streams(&self, name: &str) {
        let mode = Some(functions::model::InvokeMode::ResponseStream);
        self.functions.update_url(&self.caller, &self.named(name), None, None, mode).await.unwrap();
    }

    pub(crate) fn named(&self, name: &str) -> FunctionRef {
        FunctionRef { account: self.caller.account.clone(), name: name.into(), qualifier: None }
    }

    /// Waits until it can be called.
    pub(crate) async fn active(&self, name: &str) {
        let looking = async {
            while self.functions.get(&self.caller, &self.named(name)).unwrap().configuration.state
                != State::Active
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(WAIT, looking).await.expect("active in time");
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A connection as from inside a sandbox.
    pub(crate) async fn connect_inside(&self) -> TcpStream {
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(door.local_addr().unwrap()).await.unwrap();
        let (stream, _) = door.accept().await.unwrap();
        let place = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        self.inside.send(FromInside { stream, place }).await.ok().unwrap();
        near
    }

    pub(crate) fn host(&self, id: &str) -> String {
        format!("{id}.lambda-url.us-east-1.localhost:{}", self.address.port())
    }

    /// Sends a request on a connection of its own.
    pub(crate) async fn send(&self, request: Request<Bytes>) -> Answer {
        let socket = TokioIo::new(self.connect().await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        let exchange = async {
            let response = sender.send_request(request.map(Full::new)).await.unwrap();
            let (head, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Answer { status: head.status.as_u16(), headers: head.headers, body }
        };
        tokio::time::timeout(WAIT, exchange).await.expect("an answer in time")
    }

    /// A request to a function URL by its path.
    pub(crate) async fn call(
        &self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request =
            Request::builder().method(method).uri(target).header("host", self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    /// A signed request.
    pub(crate) async fn signed(
        &self,
        service: &str,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let request = self.sign(&self.credentials, service, method, target, headers, body);
        self.send(request).await
    }

    pub(crate) fn sign(
        &self,
        credentials: &Credentials,
        service: &str,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Request<Bytes> {
        let mut request =
            Request::builder().method(method).uri(target).header("host", self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Bytes::from(body.to_owned());
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let now = SystemClock.now();
        iam::sigv4::sign_request(&mut head, &body, credentials, &Region::default(), service, now).unwrap();
        Request::from_parts(head, body)
    }

    /// Sends bytes as they are and reads until the server closes.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut socket = self.connect().await;
        // The server may answer and close before it has read everything.
        let _ = socket.write_all(bytes).await;
        read_to_end(&mut socket).await
    }

    /// Begins the end; the handle is the server's.
    pub(crate) fn stop(&mut self) -> JoinHandle<()> {
        drop(self.stop.take());
        self.server.take().expect("stopped once")
    }
}

/// Reads until the server closes, however it does.
pub(crate) async fn read_to_end(socket: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let reading = async {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = socket.read(&mut buffer).await {
            all.extend_from_slice(&buffer[..count]);
        }
    };
    tokio::time::timeout(WAIT, reading).await.expect("the server closes in time");
    String::from_utf8_lossy(&all).into_owned()
}

/// Reads one line after another until `done` says so.
pub(crate) async fn read_until(socket: &mut TcpStream, done: impl Fn(&str) -> bool) -> String {
    let mut all = Vec::new();
    let reading = async {
        let mut buffer = [0; 4096];
        while !done(&String::from_utf8_lossy(&all)) {
            match socket.read(&mut buffer).await {
                Ok(count @ 1..) => all.extend_from_slice(&buffer[..count]),
                _ => break,
            }
        }
    };
    let finished = tokio::time::timeout(WAIT, reading).await.is_ok();
    let text = String::from_utf8_lossy(&all).into_owned();
    assert!(finished && done(&text), "{text}");
    text
}

/// A zip with an executable in it.
pub(crate) fn package() -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().unix_permissions(0o755);
    zip.start_file("bootstrap", options).unwrap();
    zip.write_all(b"#!/bin/sh\n").unwrap();
    zip.finish().unwrap().into_inner()
}
