//! Attempts to get out of a sandbox, made from inside one: none may succeed, and each must fail by the wall that it
//! was made for.
//!
//! `probes.py` makes the attempts, as a function whose result is what each came to; [`table`] says what each must
//! come to. They speak to nothing but the [`Backend`](sandbox::Backend) seam, so any back end that runs processes
//! can be put through them. Beside the function that probes runs a neighbour that leaves things to be found, and
//! the host holds a port and an abstract socket open: none of them may be reached.

mod table;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use sandbox::Runtime;
use serde_json::json;

use table::Setting;

use crate::case;
use crate::engine::{Engines, Function, Running};
use crate::world::{Case, World};

pub(crate) const CASES: &[Case] =
    &[case!(no_probe_of_an_interpreter_succeeds), case!(no_probe_of_a_native_program_succeeds)];

const SOURCE: &str = include_str!("probes.py");
/// Where the neighbour listens, inside.
const NEIGHBOURS_PORT: u16 = 7777;

async fn no_probe_of_an_interpreter_succeeds(world: World) {
    let engines = Engines::new(&world);
    let runtime = engines.runtime("python").await;
    let function = || engines.function(runtime.clone(), "probes.handler", &[("probes.py", 0o644, SOURCE)]);
    put_through(&world, &engines, false, function).await;
}

async fn no_probe_of_a_native_program_succeeds(world: World) {
    let engines = Engines::new(&world);
    let bootstrap = "#!/bin/sh\nexec /usr/bin/python3 /var/task/probes.py\n";
    let function = || {
        let runtime = Runtime::parse("provided.al2023").unwrap();
        let files = [("probes.py", 0o644, SOURCE), ("bootstrap", 0o755, bootstrap)];
        engines.function(runtime, "", &files)
    };
    put_through(&world, &engines, true, function).await;
}

/// Starts two instances and compares what each probe of the one came to with what it must come to.
async fn put_through(world: &World, engines: &Engines, native: bool, function: impl Fn() -> Function) {
    let host = Host::new();
    let neighbour = engines.start(function()).await;
    neighbour.result(&json!({ "be": NEIGHBOURS_PORT }).to_string()).await;
    let running = engines.start(function()).await;
    let data = world.data();
    let mut hidden = vec![data.to_str().unwrap()];
    hidden.extend(["/root", "/etc/shadow", "/boot", "/sys/kernel", "/var/lib/dpkg", "/var/run/docker.sock"]);
    let given = json!({
        "port": host.port.local_addr().unwrap().port(),
        "abstract": host.name,
        "addresses": addresses(),
        "neighbours_port": NEIGHBOURS_PORT,
        "hidden": hidden,
    });
    let result = running.result(&given.to_string()).await;
    let got: BTreeMap<String, String> = serde_json::from_value(result).unwrap();
    let wrong = table::compare(&got, &Setting { landlock: world.has_landlock(), native });
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), running.log.text());
    assert!(host.was_left_alone(), "something reached the host");
    still_answers(&neighbour).await;
}

async fn still_answers(neighbour: &Running) {
    neighbour.result(&json!({ "be": NEIGHBOURS_PORT + 1 }).to_string()).await;
}

/// What the host has open while the probes run.
struct Host {
    port: TcpListener,
    socket: UnixListener,
    name: String,
}

impl Host {
    fn new() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = format!("virga-probes-{}", base::InstanceId::random());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixListener::bind_addr(&address).unwrap();
        // Both can be reached from here: it is the sandbox that they cannot be reached from.
        std::net::TcpStream::connect(port.local_addr().unwrap()).unwrap();
        UnixStream::connect_addr(&address).unwrap();
        port.accept().unwrap();
        socket.accept().unwrap();
        port.set_nonblocking(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { port, socket, name }
    }

    fn was_left_alone(&self) -> bool {
        self.port.accept().is_err() && self.socket.accept().is_err()
    }
}

/// The host's own addresses but its loopback's.
fn addresses() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let local = lines.windows(2).filter(|pair| pair[1].ends_with("host LOCAL"));
    let mut found: Vec<String> =
        local.filter_map(|pair| pair[0].strip_prefix("|-- ").map(str::to_owned)).collect();
    found.retain(|address| !address.starts_with("127."));
    found.dedup();
    found
}
