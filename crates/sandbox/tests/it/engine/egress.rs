//! What an instance reaches outside, and what it does not.
//!
//! The function runs the Python that it is sent; the internet is the one of [`crate::internet`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sandbox::{Backend, Count, Egress, Origin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::ahead::{filled, plain_node};
use super::{Engines, PATIENCE, Running};
use crate::case;
use crate::internet::{self, METADATA, OWN, OWN_PUBLIC, PRIVATE, PUBLIC, PUBLIC_SIX, Resolver, SILENT};
use crate::world::{Case, World, children, until};

pub(crate) const CASES: &[Case] = &[
    case!(nothing_is_reached_without_egress),
    case!(the_internet_is_reached),
    case!(what_goes_out_and_comes_in_is_counted),
    case!(sockets_that_do_not_wait),
    case!(failures_are_the_hosts),
    case!(only_the_internet_is_reached),
    case!(names_are_checked_again),
    case!(lists_open_what_they_name),
    case!(open_reaches_what_the_host_does),
    case!(tricks_with_sockets_lead_nowhere),
    case!(changing_the_address_under_way_is_harmless),
    case!(node_and_curl_find_their_way),
    case!(connections_are_few_and_end_with_the_instance),
    case!(refusals_do_not_flood_the_log),
    case!(a_flood_of_calls_waits),
    case!(what_was_made_ahead_has_its_way_out),
];

/// Beginning of every program.
const HEAD: &str = r#"
import errno, os, select, socket, time
def attempt(host, port, family=None):
    family = family or (socket.AF_INET6 if ":" in host else socket.AF_INET)
    with socket.socket(family) as s:
        try:
            s.connect((host, port))
            return "connected"
        except OSError as e:
            return errno.errorcode.get(e.errno, str(e))
def echo(s):
    s.sendall(b"hello")
    s.shutdown(socket.SHUT_WR)
    got = b""
    while more := s.recv(100):
        got += more
    return got.decode()
"#;

/// What is looked up where a case does not say otherwise.
fn usual(name: &str) -> Vec<&'static str> {
    match name {
        "www.example.com" => vec![PUBLIC, PUBLIC_SIX],
        "four.example.com" => vec![PUBLIC],
        "db.internal" => vec![PRIVATE],
        "metadata.internal" => vec![METADATA],
        "loop.example.com" => vec!["127.0.0.1"],
        "own.example.com" => vec![OWN_PUBLIC],
        "mixed.example.com" => vec![PRIVATE, PUBLIC],
        _ => vec![],
    }
}

struct Bench {
    engines: Engines,
    _resolver: Resolver,
}

impl Bench {
    async fn new(world: &World, names: impl Fn(&str) -> Vec<&'static str> + Send + 'static) -> Self {
        assert!(internet::is_there(), "run as root: the internet takes a network namespace");
        let resolver = Resolver::start(names).await;
        Self { engines: Engines::with(world, vec![resolver.address], 0, 0, 0), _resolver: resolver }
    }

    async fn start(&self, egress: &str) -> Running {
        let source =
            "def handler(event, context):\n    scope = {}\n    exec(event, scope)\n    return scope['r']\n";
        let mut function = self.engines.python(source).await;
        function.spec.egress = egress.parse().unwrap();
        self.engines.start(function).await
    }
}

/// Runs a program that leaves its result in `r`.
async fn run(running: &Running, program: &str) -> serde_json::Value {
    let event = serde_json::Value::String(format!("{HEAD}{program}"));
    running.result(&event.to_string()).await
}

/// What becomes of connecting to a place.
async fn attempt(running: &Running, host: &str, port: u16) -> String {
    let result = run(running, &format!("r = attempt('{host}', {port})")).await;
    result.as_str().unwrap().to_owned()
}

async fn nothing_is_reached_without_egress(world: World) {
    let bench = Bench::new(&world, usual).await;
    let running = bench.start("none").await;
    for host in [PUBLIC, PRIVATE, METADATA, OWN, PUBLIC_SIX] {
        assert_eq!(attempt(&running, host, 80).await, "ENETUNREACH", "{host}");
    }
    let name = "try: socket.getaddrinfo('www.example.com', 80); r = 'found'\nexcept socket.gaierror as e: r = 'not found'";
    assert_eq!(run(&running, name).await, "not found");
    assert_eq!(attempt(&running, "127.0.0.1", 9001).await, "connected");
}

async fn the_internet_is_reached(world: World) {
    let bench = Bench::new(&world, usual).await;
    let running = bench.start("public").await;
    for host in [PUBLIC, PUBLIC_SIX] {
        let program = format!("s = socket.create_connection(('{host}', 7)); r = echo(s)");
        assert_eq!(run(&running, &program).await, "HELLO", "{host}");
    }
    let mapped =
        format!("s = socket.socket(socket.AF_INET6); s.connect(('::ffff:{PUBLIC}', 7)); r = echo(s)");
    assert_eq!(run(&running, &mapped).await, "HELLO");
    let bound = format!(
        "s = socket.socket(); s.bind(('0.0.0.0', 5555)); s.connect(('{PUBLIC}', 7)); r = echo(s), s.getsockname()[1]"
    );
    assert_eq!(run(&running, &bound).await, serde_json::json!(["HELLO", 5555]));
    let page = "import urllib.request; r = urllib.request.urlopen('http://www.example.com/').read().decode()";
    let page = run(&running, page).await;
    assert!(page.as_str().unwrap().ends_with("greets www.example.com"), "{page}");
    // More than all buffers on the way hold.
    let much = format!(
        "import threading, hashlib
data = os.urandom(1 << 20) * 8
s = socket.create_connection(('{PUBLIC}', 7))
def send(): s.sendall(data); s.shutdown(socket.SHUT_WR)
t = threading.Thread(target=send); t.start()
got = bytearray()
while more := s.recv(1 << 16): got += more
t.join()
r = bytes(got) == data.upper()"
    );
    assert_eq!(run(&running, &much).await, true);
    assert_eq!(running.log.text().matches("refused").count(), 0, "{}", running.log.text());
}

async fn what_goes_out_and_comes_in_is_counted(world: World) {
    let bench = Bench::new(&world, usual).await;
    let running = bench.start("public").await;
    let counts = || [Count::Connections, Count::Sent, Count::Received].map(|what| running.log.counted(what));
    assert_eq!(counts(), [0, 0, 0]);
    for times in 1..=2 {
        // Sends five bytes and is sent as many; its last line is read when the other side has closed.
        let program = format!(
            "s = socket.create_connection(('{PUBLIC}', 7)); s.sendall(b'hello'); s.shutdown(1); r = len(s.recv(9) + s.recv(9))"
        );
        assert_eq!(run(&running, &program).await, 5);
        assert_eq!(counts(), [times, 5 * times, 5 * times]);
    }
    assert_eq!(running.log.counted(Count::Refused), 0);
    attempt(&running, PRIVATE, 80).await;
    assert_eq!(running.log.counted(Count::Refused), 1);
    assert_eq!(counts()[0], 2, "what is refused is no connection");
}

async fn sockets_that_do_not_wait(world: World) {
    let bench = Bench::new(&world, usual).await;
    let running = bench.start("public").await;
    let program = format!(
        "s = socket.socket(); s.setblocking(False)
p = select.epoll(); p.register(s, select.EPOLLOUT)
first = errno.errorcode[s.connect_ex(('{PUBLIC}', 7))]
ready = p.poll(10)
error = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
s.setblocking(True)
r = [first, len(ready), error, echo(s)]"
    );
    assert_eq!(run(&running, &program).await, serde_json::json!(["EINPROGRESS", 1, 0, "HELLO"]));
    let program = format!(
        "import asyncio
async def one():
    reader, writer = await asyncio.open_connection('{PUBLIC}', 7)
    writer.write(b'a'); writer.write_eof()
    return (await reader.read()).decode()
async def all(): return await asyncio.gather(*[one() for _ in range(100)])
r = asyncio.run(all()) == ['A'] * 100"
    );
    assert_eq!(run(&running, &program).await, true);
    // Nobody answers: the program goes on meanwhile, and gives up when it wants to.
    let program = format!(
        "import asyncio
async def main():
    begin = time.monotonic()
    silent = asyncio.create_task(asyncio.open_connection('{SILENT}', 80))
    await asyncio.sleep(0)
    reader, writer = await asyncio.open_connection('{PUBLIC}', 7)
    writer.write(b'a'); writer.write_eof(); answer = (await reader.read()).decode()
    try:
        await asyncio.wait_for(silent, 0.2); gave_up = False
    except asyncio.TimeoutError: gave_up = True
    return [answer, gave_up, time.monotonic() - begin < 5]
r = asyncio.run(main())"
    );
    assert_eq!(run(&running, &program).await, serde_json::json!(["A", true, true]));
    let timeout = format!(
        "s = socket.socket(); s.settimeout(0.2)
try: s.connect(('{SILENT}', 80)); r = 'connected'
except TimeoutError: r = 'timed out'"
    );
    assert_eq!(run(&running, &timeout).await, "timed out");
    let timeout = format!(
        "import struct
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack('ll', 0, 200000))
r = errno.errorcode[s.connect_ex(('{SILENT}', 80))]"
    );
    assert_eq!(run(&running, &timeout).await, "EINPROGRESS");
}

async fn failures_are_the_hosts(world: World) {
    let bench = Bench::new(&world, usual).await;
    let running = bench.start("public").await;
    assert_eq!(attempt(&running, PUBLIC, 81).await, "ECONNREFUSED");
    let program = format!(
        "s = socket.socket(); s.setblocking(False)
first = errno.errorcode[s.connect_ex(('{PUBLIC}', 81))]
p = select.poll(); p.register(s, select.POLLOUT)
# The kernel shows a socket closed (POLLHUP) an instant before it shows why.
while not (failed := s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)): p.poll(10000)
r = [first, errno.errorcode[failed]]"
    );
    assert_eq!(run(&running, &program).await, serde_json::json!(["EINPROGRESS", "ECONNRESET"]));
    // What breaks outside breaks inside: it is no end of a whole answer.
    let program = format!(
        "s = socket.create_connection(('{PUBLIC}', 9)); s.sendall(b'x'); got = b''
try:
    while more := s.recv(100): got += more
    r = 'ended'
except ConnectionResetError: r = 'reset'"
    );
    assert_eq!(run(&running, &program).await, "reset");
}

async fn only_the_internet_is_reached(world: World) {
    let bench = Bench::new(&world, usual).await;
    let running = bench.start("public").await;
    let own = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = own.local_addr().unwrap().port();
    for host in [OWN, OWN_PUBLIC] {
        assert_eq!(attempt(&running, host, port).await, "EACCES", "{host}");
    }
    for host in [
        PRIVATE,
        METADATA,
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "fd77::2",
        "fe80::1",
        "64:ff9b::a4d:2",
    ] {
        assert_eq!(attempt(&running, host, 80).await, "EACCES", "{host}");
    }
    assert_eq!(attempt(&running, &format!("::ffff:{PRIVATE}"), 80).await, "EACCES");
    // Every spelling of loopback is the instance's own, where nobody listens.
    for host in [
        "127.0.0.1",
        "127.1",
        "0",
        "0.0.0.0",
        "2130706433",
        "0x7f000001",
        "017700000001",
        "::1",
        "::",
        "::ffff:127.0.0.1",
    ] {
        assert_eq!(attempt(&running, host, port).await, "ECONNREFUSED", "{host}");
    }
    for host in ["10.19714", "0xa4d0002", "0251.0376.0251.0376", "2852039166"] {
        assert_eq!(attempt(&running, host, 80).await, "EACCES", "{host}");
    }
    for (name, said) in [
        ("db.internal", "a private address"),
        ("metadata.internal", "a metadata address"),
        ("loop.example.com", "a loopback address"),
        ("own.example.com", "an address of the host itself"),
    ] {
        let fresh = bench.start("public").await;
        let program = format!(
            "try: socket.create_connection(('{name}', {port}))\nexcept socket.gaierror: r = 'no name'"
        );
        assert_eq!(run(&fresh, &program).await, "no name");
        assert!(fresh.log.text().contains(said), "{}", fresh.log.text());
    }
    let redirected = format!(
        "import urllib.request, urllib.error
try: r = urllib.request.urlopen('http://www.example.com/?to=http://{METADATA}/latest').read().decode()
except urllib.error.URLError as e: r = errno.errorcode[e.reason.errno]"
    );
    assert_eq!(run(&running, &redirected).await, "EACCES");
    let text = running.log.text();
    let line =
        format!("[virga] connection to {OWN}:{port} refused: a private address (virga:egress = public)\n");
    assert!(text.contains(&line), "{text}");
}

async fn names_are_checked_again(world: World) {
    // A name that is public when it is first asked for and private when it is next.
    let asked = Arc::new(AtomicU32::new(0));
    let seen = asked.clone();
    let bench = Bench::new(&world, move |name| match name {
        "rebind.example.com" if asked.fetch_add(1, Ordering::Relaxed) < 2 => vec![PUBLIC],
        "rebind.example.com" => vec![PRIVATE],
        other => usual(other),
    })
    .await;
    let running = bench.start("rebind.example.com:7 rebind.example.com:80").await;
    let look_up = "r = sorted({a[4][0] for a in socket.getaddrinfo('rebind.example.com', 7)})";
    assert_eq!(run(&running, look_up).await, serde_json::json!([PUBLIC]));
    assert_eq!(attempt(&running, PUBLIC, 7).await, "connected");
    assert_eq!(attempt(&running, PRIVATE, 80).await, "EACCES");
    let again = format!("try: {look_up}\nexcept socket.gaierror: r = 'no name'");
    assert_eq!(run(&running, &again).await, "no name");
    assert!(seen.load(Ordering::Relaxed) >= 3);
    assert_eq!(attempt(&running, PRIVATE, 80).await, "EACCES");
    // Of several addresses the public one can be used.
    let running = bench.start("public").await;
    let mixed = "r = echo(socket.create_connection(('mixed.example.com', 7)))";
    assert_eq!(run(&running, mixed).await, "HELLO");
}

async fn lists_open_what_they_name(world: World) {
    let bench = Bench::new(&world, usual).await;
    let running = bench.start(&format!("four.example.com:7 {PRIVATE}:80 {METADATA}:80")).await;
    // By its address before it was asked for by name: Virga asks itself.
    assert_eq!(attempt(&running, PUBLIC, 7).await, "connected");
    assert_eq!(run(&running, "r = echo(socket.create_connection(('four.example.com', 7)))").await, "HELLO");
    for (host, port, expect) in [
        (PUBLIC, 80, "EACCES"),
        (SILENT, 7, "EACCES"),
        (PUBLIC_SIX, 7, "EACCES"),
        (PRIVATE, 80, "connected"),
        (PRIVATE, 7, "EACCES"),
        (METADATA, 80, "connected"),
        (OWN, 80, "EACCES"),
    ] {
        assert_eq!(attempt(&running, host, port).await, expect, "{host} {port}");
    }
    let other =
        "try: socket.getaddrinfo('www.example.com', 7); r = 'found'\nexcept socket.gaierror: r = 'no name'";
    let running = bench.start("four.example.com:7").await;
    assert_eq!(run(&running, other).await, "no name");
    assert!(
        running.log.text().contains("name www.example.com refused: not listed"),
        "{}",
        running.log.text()
    );
    // A listed name that is private is not opened by its name, but by its network.
    let running = bench.start("db.internal:80 .example.com:7").await;
    assert_eq!(
        attempt(&running, "db.internal", 80).await.len(),
        "[Errno -2] Name or service not known".len()
    );
    assert_eq!(run(&running, "r = echo(socket.create_connection(('www.example.com', 7)))").await, "HELLO");
    let running = bench.start("db.internal:80 10.77.0.0/24:80").await;
    assert_eq!(attempt(&running, "db.internal", 80).await, "connected");
    let running = bench.start("public 10.77.0.0/24:80").await;
    assert_eq!(attempt(&running, "db.internal", 80).await, "connected");
    assert_eq!(attempt(&running, PUBLIC, 7).await, "connected");
    assert_eq!(attempt(&running, "db.internal", 7).await, "EACCES");
}

async fn open_reaches_what_the_host_does(world: World) {
    let bench = Bench::new(&world, usual).await;
    let running = bench.start("open").await;
    for host in [PUBLIC, PUBLIC_SIX, PRIVATE, METADATA, "db.internal", "fd77::2"] {
        let port = if host == "fd77::2" { 7 } else { 80 };
        let expect = if host == "fd77::2" { "ECONNREFUSED" } else { "connected" };
        assert_eq!(attempt(&running, host, port).await, expect, "{host}");
    }
    let own = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = own.local_addr().unwrap().port();
    assert_eq!(attempt(&running, OWN, port).await, "connected");
    // Its loopback is its own all the same, and so are its ports.
    assert_eq!(attempt(&running, "127.0.0.1", port).await, "ECONNREFUSED");
}

async fn tricks_with_sockets_lead_nowhere(world: World) {
    let bench = Bench::new(&world, usual).await;
    let running = bench.start("public").await;
    let check = async |program: String, expect: serde_json::Value| {
        assert_eq!(run(&running, &program).await, expect, "{program}\n{}", running.log.text());
    };
    let dup = format!("s = socket.socket(); d = s.dup(); d.connect(('{PUBLIC}', 7)); r = echo(s)");
    check(dup, "HELLO".into()).await;
    let twice = format!(
        "s = socket.socket(); s.connect(('{PUBLIC}', 7)); s.connect_ex(('{PUBLIC}', 7)); a = errno.errorcode[s.connect_ex(('{PRIVATE}', 80))]; r = [a, echo(s)]"
    );
    check(twice, serde_json::json!(["EISCONN", "HELLO"])).await;
    // Taken back to nothing, it may go elsewhere, and is checked again.
    let unspec = format!(
        "import ctypes
libc = ctypes.CDLL(None, use_errno=True)
s = socket.socket(); s.connect(('{PUBLIC}', 7))
libc.connect(s.fileno(), bytes(16), 16)
first = errno.errorcode[s.connect_ex(('{PRIVATE}', 80))]
s.connect(('{PUBLIC}', 7)); r = [first, echo(s)]"
    );
    check(unspec, serde_json::json!(["EACCES", "HELLO"])).await;
    // The port where sockets wait answers nobody by itself.
    let direct = "s = socket.socket(); s.settimeout(0.3)\ntry: s.connect(('127.0.0.1', 1023)); r = 'connected'\nexcept TimeoutError: r = 'nobody'";
    check(direct.to_owned(), "nobody".into()).await;
    // Past `connect` there is no road.
    let past = format!(
        "import ctypes
def err(f):
    try: f(); return 'sent'
    except OSError as e: return errno.errorcode[e.errno]
fast = socket.socket(); udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
r = [err(lambda: fast.sendto(b'x', 0x20000000, ('{PUBLIC}', 7))), err(lambda: udp.sendto(b'x', ('{PUBLIC}', 7))), err(lambda: udp.connect(('{PUBLIC}', 7)))]"
    );
    check(past, serde_json::json!(["ENETUNREACH", "ENETUNREACH", "ENETUNREACH"])).await;
    let nonsense = "import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    libc.connect(*args); return errno.errorcode[ctypes.get_errno()]
s = socket.socket()
r = [call(s.fileno(), ctypes.c_void_p(8), 16), call(999, bytes(16), 16), call(s.fileno(), bytes([2, 0, 0, 80, 1, 2, 3, 4]), 8), call(0, bytes([2, 0, 0, 80, 1, 2, 3, 4]) + bytes(8), 16), attempt('1.2.3.4', 80, socket.AF_INET6)]";
    let found = run(&running, nonsense).await;
    assert_eq!(found[0], "EFAULT");
    assert_eq!(found[1], "EBADF");
    assert_eq!(found[2], "EINVAL");
    assert_eq!(found[3], "ENOTSOCK");
    let unix = "s = socket.socket(socket.AF_UNIX); l = socket.socket(socket.AF_UNIX); l.bind('/tmp/x'); l.listen(); s.connect('/tmp/x'); r = 'connected'";
    check(unix.to_owned(), "connected".into()).await;
    // Children and threads go the same way.
    let child = format!(
        "import subprocess, sys; r = subprocess.run([sys.executable, '-c', \"import socket; s = socket.create_connection(('{PUBLIC}', 7)); s.sendall(b'x'); s.shutdown(1); print(s.recv(9).decode())\"], capture_output=True, text=True).stdout"
    );
    check(child, "X\n".into()).await;
    let thread = format!(
        "import threading; l = []; t = threading.Thread(target=lambda: l.append(attempt('{PUBLIC}', 7))); t.start(); t.join(); r = l[0]"
    );
    check(thread, "connected".into()).await;
}

async fn changing_the_address_under_way_is_harmless(world: World) {
    let bench = Bench::new(&world, usual).await;
    let running = bench.start("public").await;
    // One thread swaps the address, and the descriptor between sockets, while the other connects.
    let program = format!(
        "import ctypes, threading
libc = ctypes.CDLL(None)
def address(host, port): return bytes([2, 0]) + port.to_bytes(2, 'big') + socket.inet_aton(host) + bytes(8)
good, bad, loop = address('{PUBLIC}', 80), address('{PRIVATE}', 80), address('127.0.0.1', 80)
buffer = ctypes.create_string_buffer(good, 16)
stop = False
def swap():
    while not stop:
        for other in (bad, loop, good): ctypes.memmove(buffer, other, 16)
t = threading.Thread(target=swap); t.start()
reached = []
end = time.monotonic() + 2
while time.monotonic() < end:
    s = socket.socket(); s.settimeout(None)
    if libc.connect(s.fileno(), buffer, 16) == 0:
        s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')
        got = b''
        while more := s.recv(1000): got += more
        reached.append(got.decode().split('\\r\\n')[-1].split(' ')[0])
    s.close()
stop = True; t.join()
r = [sorted(set(reached)), len(reached)]"
    );
    let found = run(&running, &program).await;
    assert_eq!(found[0], serde_json::json!([PUBLIC]), "{found}");
    assert!(found[1].as_u64().unwrap() > 0, "{found}");
}

/// Node: the page behind a URL, or the code of the error.
const FETCH: &str = r#"
const http = require('http');
exports.handler = url => new Promise(resolve => http.get(url, response => {
    let text = ''; response.on('data', d => text += d); response.on('end', () => resolve(text));
}).on('error', e => resolve((e.errors ?? [e]).map(e => e.code).join())));
"#;

async fn node_and_curl_find_their_way(world: World) {
    let bench = Bench::new(&world, usual).await;
    let mut function = bench.engines.node(FETCH).await;
    function.spec.egress = Egress::Public;
    let node = bench.engines.start(function).await;
    let page = node.result("\"http://www.example.com/\"").await;
    assert!(page.as_str().unwrap().ends_with("greets www.example.com"), "{page}");
    for host in [PRIVATE, METADATA, OWN] {
        assert_eq!(node.result(&format!("\"http://{host}/\"")).await, "EACCES");
    }
    let refused = node.result(&format!("\"http://{PUBLIC}:81/\"")).await;
    assert!(["ECONNREFUSED", "ECONNRESET"].contains(&refused.as_str().unwrap()), "{refused}");
    let running = bench.start("public").await;
    let curl = |url: &str| {
        format!(
            "import subprocess; p = subprocess.run(['curl', '-sS', '-m', '20', '{url}'], capture_output=True, text=True); r = p.stdout + p.stderr"
        )
    };
    let page = run(&running, &curl("http://www.example.com/")).await;
    assert!(page.as_str().unwrap().ends_with("greets www.example.com"), "{page}");
    let refused = run(&running, &curl(&format!("http://{METADATA}/"))).await;
    assert!(
        refused.as_str().unwrap().contains("Permission denied")
            || refused.as_str().unwrap().contains("connect"),
        "{refused}"
    );
}

async fn connections_are_few_and_end_with_the_instance(world: World) {
    let bench = Bench::new(&world, usual).await;
    let running = bench.start("open").await;
    let listener = TcpListener::bind((OWN, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (ended, mut endings) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let ended = ended.clone();
            tokio::spawn(async move {
                stream.write_all(b"x").await.unwrap();
                // An end or a reset.
                let _ = stream.read(&mut [0]).await;
                ended.send(()).unwrap();
            });
        }
    });
    let program = format!(
        "import builtins
builtins.held = []
r = 'all'
for _ in range(300):
    s = socket.socket()
    e = s.connect_ex(('{OWN}', {port}))
    if e: r = errno.errorcode[e]; break
    s.recv(1); builtins.held.append(s)
r = [r, len(builtins.held)]"
    );
    assert_eq!(run(&running, &program).await, serde_json::json!(["ENOBUFS", 256]));
    let again = format!(
        "import builtins; builtins.held.pop().close(); time.sleep(0.5); r = attempt('{OWN}', {port})"
    );
    assert_eq!(run(&running, &again).await, "connected");
    running.instance.stop().await;
    for _ in 0..257 {
        tokio::time::timeout(PATIENCE, endings.recv()).await.expect("it ends").unwrap();
    }
}

async fn refusals_do_not_flood_the_log(world: World) {
    let bench = Bench::new(&world, usual).await;
    let running = bench.start("public").await;
    let program = format!("r = [attempt('{PRIVATE}', 80) for _ in range(200)][-1]");
    assert_eq!(run(&running, &program).await, "EACCES");
    let lines = running.log.text().matches("refused").count();
    assert!((1..=10).contains(&lines), "{lines}");
}

async fn a_flood_of_calls_waits(world: World) {
    let bench = Bench::new(&world, usual).await;
    let running = bench.start("public").await;
    // Two hundred in a tenth of a second, whatever they are for; the second kind has an address that nobody can read.
    for call in ["attempt('127.0.0.1', 2)", "assert connect(s.fileno(), None, 16) == -1"] {
        let program = format!(
            "import ctypes
connect = ctypes.CDLL(None).connect
s = socket.socket()
begin = time.monotonic()
for _ in range(2000): {call}
r = time.monotonic() - begin"
        );
        let seconds = run(&running, &program).await;
        assert!(seconds.as_f64().unwrap() >= 0.89, "{call}: {seconds}");
    }
    assert_eq!(attempt(&running, PUBLIC, 7).await, "connected");
}

async fn what_was_made_ahead_has_its_way_out(world: World) {
    let resolver = Resolver::start(usual).await;
    let engines = Engines::with(&world, vec![resolver.address], 1, 1, 0);
    for (egress, page) in [("public", "greets www.example.com"), ("none", "ENOTFOUND")] {
        filled(&engines, "sandboxes", 1).await;
        let mut python = engines.python("import urllib.request\ndef handler(url, context):\n    try: return urllib.request.urlopen(url).read().decode()\n    except OSError: return 'ENOTFOUND'\n").await;
        python.spec.egress = egress.parse().unwrap();
        let python = engines.start(python).await;
        assert_eq!(python.instance.phases().origin, Origin::Sandbox);
        let found = python.result("\"http://www.example.com/\"").await;
        assert!(found.as_str().unwrap().ends_with(page), "{found}");

        let mut node = plain_node(&engines, FETCH).await;
        engines.backend.prepare(&node.spec.artifact).await.unwrap();
        filled(&engines, "runtime", 1).await;
        // Its calls of connect are answered while nobody has a job for it: it comes as far as its orders.
        until(PATIENCE, || waits_for_orders(&world)).await;
        node.spec.egress = egress.parse().unwrap();
        let node = engines.start(node).await;
        assert_eq!(node.instance.phases().origin, Origin::Runtime);
        let found = node.result("\"http://www.example.com/\"").await;
        assert!(found.as_str().unwrap().ends_with(page), "{found}");
        assert_eq!(
            node.result(&format!("\"http://{PRIVATE}/\"")).await,
            if egress == "none" { "ENETUNREACH" } else { "EACCES" }
        );
    }
}

/// Whether some booted runtime reads its orders, from descriptor 3.
fn waits_for_orders(world: &World) -> bool {
    let reading = format!("{} 0x3 ", libc::SYS_read);
    let programs = children(world.launcher_pid()).into_iter().flat_map(children);
    let call = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    programs.map(call).any(|call| call.starts_with(&reading))
}
