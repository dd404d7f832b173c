//! An internet to test against: a network namespace beside the host's, with public addresses and others.
//!
//! The whole test process runs in a network namespace of its own, made by starting it again; that one is the host.
//! Beyond a pair of interfaces lies the other: it has addresses that are public by their class, a private one and a
//! metadata one, and servers on all of them, so that what is refused is refused by a rule and not by a missing road.
//!
//! Only with root. An ordinary user's run inherits what root's run has made.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// In the environment of a process that is inside.
const INSIDE: &str = "VIRGA_TEST_INTERNET";

/// Public.
pub(crate) const PUBLIC: &str = "198.41.0.4";
pub(crate) const PUBLIC_SIX: &str = "2606:4700::44";
/// Public, and nobody answers.
pub(crate) const SILENT: &str = "198.41.0.66";
/// Beyond the host, and not public.
pub(crate) const PRIVATE: &str = "10.77.0.2";
pub(crate) const METADATA: &str = "169.254.169.254";
/// The host's own.
pub(crate) const OWN: &str = "10.77.0.1";
pub(crate) const OWN_PUBLIC: &str = "198.41.0.99";

/// Whether there is one.
pub(crate) fn is_there() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// The other side.
pub(crate) struct Internet(Child);

impl Internet {
    /// With root: starts the process again inside, or makes the other side if this is inside already.
    pub(crate) fn begin() -> Option<Self> {
        if !crate::world::is_root() {
            return None;
        }
        if !is_there() {
            let error = Command::new("unshare")
                .arg("--net")
                .arg(std::env::current_exe().unwrap())
                .args(std::env::args_os().skip(1))
                .env(INSIDE, "1")
                .exec();
            panic!("unshare: {error}");
        }
        run("ip link set lo up");
        let mut child = Command::new("unshare")
            .args(["--net", "/usr/bin/python3", "-c", SERVERS])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "apart");
        let pid = child.id();
        run(&format!("ip link add out0 type veth peer name in0 netns {pid}"));
        run(&format!("ip addr add {OWN}/24 dev out0"));
        run(&format!("ip addr add {OWN_PUBLIC}/32 dev out0"));
        run("ip addr add fd77::1/64 dev out0 nodad");
        run("ip link set out0 up");
        let stdin = child.stdin.as_mut().unwrap();
        std::io::Write::write_all(stdin, b"linked\n").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "up");
        run("ip route add default via 10.77.0.2");
        run("ip -6 route add default via fd77::2");
        Some(Self(child))
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(command: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    let status = Command::new(words[0]).args(&words[1..]).status().unwrap();
    assert!(status.success(), "{command}");
}

/// On the other side. Port 7: answers with what came, in capitals, once all has come. 9: resets. 80: HTTP.
const SERVERS: &str = r#"
import http.server, socket, socketserver, struct, subprocess, sys, threading, urllib.parse
print("apart", flush=True)
sys.stdin.readline()
for line in """ip link set lo up
ip addr add 10.77.0.2/24 dev in0
ip addr add fd77::2/64 dev in0 nodad
ip link set in0 up
ip addr add 198.41.0.4/32 dev lo
ip addr add 169.254.169.254/32 dev lo
ip addr add 2606:4700::44/128 dev lo nodad
ip route add blackhole 198.41.0.66/32
ip route add default via 10.77.0.1
ip -6 route add default via fd77::1""".splitlines():
    subprocess.run(line.split(), check=True)
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        got = b""
        while True:
            more = self.request.recv(65536)
            if not more:
                break
            got += more
        self.request.sendall(got.upper())
class Reset(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.recv(1)
        self.request.sendall(b"half")
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.request.close()
class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        body = f"{self.server.server_address[0]} greets {self.headers['host']}".encode()
        self.send_response(302 if "to" in query else 200)
        if "to" in query:
            self.send_header("location", query["to"][0])
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024
class Six(Server):
    address_family = socket.AF_INET6
for address in ["198.41.0.4", "10.77.0.2", "169.254.169.254", "2606:4700::44"]:
    kind = Six if ":" in address else Server
    for port, handler in [(7, Echo), (9, Reset), (80, Web)]:
        server = kind((address, port), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
print("up", flush=True)
sys.stdin.read()
"#;

/// Answers DNS queries for addresses as a function of the name says; the host's resolver.
pub(crate) struct Resolver {
    pub(crate) address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Resolver {
    /// `addresses`: for a name without a dot at its end; empty: there is no such name.
    pub(crate) async fn start(addresses: impl Fn(&str) -> Vec<&'static str> + Send + 'static) -> Self {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let task = tokio::spawn(async move {
            loop {
                let mut query = [0; 1500];
                let (length, from) = socket.recv_from(&mut query).await.unwrap();
                socket.send_to(&answer(&query[..length], &addresses), from).await.unwrap();
            }
        });
        Self { address, task }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(query: &[u8], addresses: &dyn Fn(&str) -> Vec<&'static str>) -> Vec<u8> {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..at + 1 + length]).into_owned());
        at += 1 + length;
    }
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let found = addresses(&labels.join("."));
    let code = if found.is_empty() { 3 } else { 0 };
    let mut message = vec![query[0], query[1], 0x81, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&query[12..at + 5]);
    for address in found {
        let address: std::net::IpAddr = address.parse().unwrap();
        let (its, data) = match address {
            std::net::IpAddr::V4(four) => (1, four.octets().to_vec()),
            std::net::IpAddr::V6(six) => (28, six.octets().to_vec()),
        };
        if its == kind {
            message[7] += 1;
            message.extend([0xc0, 12, 0, its as u8, 0, 1, 0, 0, 0, 1, 0, data.len() as u8]);
            message.extend(data);
        }
    }
    message
}
