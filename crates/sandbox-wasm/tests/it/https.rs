//! Requests that go out encrypted: whom a guest believes, and what it is told where it does not.
//!
//! The other side is a real server (`certificates/make.sh` made what it shows); the operator's file has the authority
//! that vouches for it, as with `--egress-ca`.

use std::path::Path;
use std::sync::Arc;

use sandbox::Egress;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{HandshakeKind, ServerConfig};

use crate::case;
use crate::support::{Bench, Case, PROBE, Started};

pub(crate) const CASES: &[Case] = &[
    case!(a_request_is_encrypted_to_whom_the_guest_named),
    case!(whom_nobody_vouches_for_is_told_nothing),
    case!(what_is_no_handshake_is_told_apart),
    case!(the_rules_are_those_of_plain_requests),
];

// Codes of wasi:http/types#error-code, by their place in it.
const DESTINATION_IP_PROHIBITED: &str = "error 4";
const CONNECTION_REFUSED: &str = "error 6";
const CONNECTION_TERMINATED: &str = "error 7";
const TLS_PROTOCOL_ERROR: &str = "error 12";
const TLS_CERTIFICATE_ERROR: &str = "error 13";
const TLS_ALERT_RECEIVED: &str = "error 14";
const HTTP_REQUEST_DENIED: &str = "error 15";

fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/certificates").join(name)
}

/// What a server read of a connection that came to a request.
#[derive(Debug, PartialEq)]
struct Seen {
    /// The name in the handshake.
    name: String,
    /// Whether the handshake went on from an earlier one.
    resumed: bool,
    request: String,
}

/// A server that shows one certificate.
struct Server {
    port: u16,
    seen: JoinHandle<Vec<Option<Seen>>>,
    stop: tokio::sync::oneshot::Sender<()>,
}

impl Server {
    async fn start(certificate: &str, protocols: &[&str]) -> Self {
        let chain = CertificateDer::pem_file_iter(file(&format!("{certificate}.pem"))).unwrap();
        let key = PrivateKeyDer::from_pem_file(file(&format!("{certificate}.key"))).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let seen = tokio::spawn(async move {
            let mut seen = Vec::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => seen.push(one(&acceptor, accepted.unwrap().0).await),
                    _ = &mut stopped => return seen,
                }
            }
        });
        Self { port, seen, stop }
    }

    /// Ends it; what it has read.
    async fn seen(self) -> Vec<Option<Seen>> {
        drop(self.stop);
        self.seen.await.unwrap()
    }
}

async fn one(acceptor: &TlsAcceptor, stream: TcpStream) -> Option<Seen> {
    let mut stream = acceptor.accept(stream).await.ok()?;
    let handshake = stream.get_ref().1;
    let name = handshake.server_name().unwrap_or_default().to_owned();
    let resumed = handshake.handshake_kind() == Some(HandshakeKind::Resumed);
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
    }
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.ok()?;
    // The other side may have gone already.
    let _ = stream.shutdown().await;
    Some(Seen { name, resumed, request: String::from_utf8(request).unwrap() })
}

/// A back end whose operator believes the tests' authority.
fn believing() -> Bench {
    let bench = Bench::empty(|settings| settings.certificates = Some(file("authority.pem"))).unwrap();
    bench.put("guest.wasm", PROBE).unwrap();
    bench
}

async fn open(bench: &Bench) -> Started {
    bench.start_with(|spec| spec.egress = Egress::Open).await.unwrap()
}

/// What a guest is told that asks for `https://PLACE/`.
async fn fetch(instance: &Started, place: &str) -> String {
    instance.text("GET", &format!("/fetch-tls/{place}"), "").await.unwrap().1
}

async fn a_request_is_encrypted_to_whom_the_guest_named() {
    let bench = believing();
    let instance = open(&bench).await;
    let server = Server::start("good", &["http/1.1"]).await;
    let port = server.port;
    for place in [format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("localhost:{port}")] {
        assert_eq!(fetch(&instance, &place).await, "status 204", "{place}");
    }
    // Two at a time, of which the first to ask has the roots read.
    let other = open(&believing()).await;
    let place = format!("localhost:{port}");
    let both = tokio::join!(fetch(&other, &place), fetch(&other, &place));
    assert_eq!(both, ("status 204".to_owned(), "status 204".to_owned()));
    let seen: Vec<_> = server.seen().await.into_iter().map(Option::unwrap).collect();
    // An address is not told in a handshake.
    let names: Vec<_> = seen.iter().map(|seen| (seen.name.as_str(), seen.resumed)).collect();
    let (first, again) = (("localhost", false), ("localhost", true));
    // Of the two, either may have been so much earlier that the other goes on from it.
    assert_eq!(names[..4], [first, ("", false), again, first]);
    assert_eq!(names[4].0, "localhost");
    let request = &seen[0].request;
    assert!(request.starts_with("GET / HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("host: localhost:{port}\r\n")), "{request}");
    assert_eq!(bench.log.text(), "");
}

async fn whom_nobody_vouches_for_is_told_nothing() {
    let believing = believing();
    let doubting = Bench::with(PROBE).unwrap();
    for (bench, certificate, why) in [
        (&believing, "elsewhere", "not valid for name"),
        (&believing, "expired", "expired"),
        (&believing, "own", "UnknownIssuer"),
        (&doubting, "good", "UnknownIssuer"),
    ] {
        let server = Server::start(certificate, &[]).await;
        let place = format!("localhost:{}", server.port);
        let instance = open(bench).await;
        assert_eq!(fetch(&instance, &place).await, TLS_CERTIFICATE_ERROR, "{certificate}");
        assert_eq!(server.seen().await, [None], "{certificate}: no request was sent");
        let log = bench.log.text();
        let line = log.lines().last().unwrap_or_default();
        assert!(line.starts_with(&format!("https to {place} failed: ")) && line.contains(why), "{log}");
    }
}

async fn what_is_no_handshake_is_told_apart() {
    let bench = believing();
    let instance = open(&bench).await;
    // Speaks first, and not TLS; hangs up at the first word; knows only another protocol inside; is not there.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let plain = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        // Read to the end, so that nothing is reset.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    assert_eq!(tokio::join!(plain, fetch(&instance, &place)).1, TLS_PROTOCOL_ERROR);
    let silent = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
    };
    assert_eq!(tokio::join!(silent, fetch(&instance, &place)).1, CONNECTION_TERMINATED);
    drop(listener);
    assert_eq!(fetch(&instance, &place).await, CONNECTION_REFUSED);
    let server = Server::start("good", &["h2"]).await;
    assert_eq!(fetch(&instance, &format!("localhost:{}", server.port)).await, TLS_ALERT_RECEIVED);
    assert_eq!(server.seen().await, [None]);
}

async fn the_rules_are_those_of_plain_requests() {
    let bench = believing();
    let server = Server::start("good", &[]).await;
    let place = format!("127.0.0.1:{}", server.port);
    let elsewhere = format!("127.0.0.1:{}", server.port ^ 1);
    for (egress, told) in [
        (Egress::None, HTTP_REQUEST_DENIED),
        (Egress::Public, DESTINATION_IP_PROHIBITED),
        (elsewhere.parse().unwrap(), DESTINATION_IP_PROHIBITED),
        (place.parse().unwrap(), "status 204"),
    ] {
        let shown = egress.to_string();
        let instance = bench.start_with(|spec| spec.egress = egress).await.unwrap();
        assert_eq!(fetch(&instance, &place).await, told, "{shown}");
    }
    assert_eq!(server.seen().await.len(), 1, "nobody else connected");
}
