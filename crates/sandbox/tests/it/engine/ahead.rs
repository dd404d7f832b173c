//! Sandboxes and runtimes that are there before their functions.

use std::collections::BTreeSet;
use std::task::{Context, Waker};

use rustix::process::{Pid, Signal};
use sandbox::{Backend, Exit, Fault, FileSystem, Origin, Resident};
use serde_json::json;

use super::{Engines, Function, PATIENCE, Running};
use crate::case;
use crate::world::{Case, World, children, until};

pub(crate) const CASES: &[Case] = &[
    case!(a_sandbox_made_ahead_is_used_once_and_replaced),
    case!(what_does_not_fit_is_started_the_plain_way),
    case!(a_sandbox_that_dies_is_replaced),
    case!(memory_pressure_empties_the_pools),
    case!(no_two_instances_share_a_sandbox),
    case!(limits_hold_in_what_was_made_ahead),
    case!(processor_time_is_bounded_in_what_was_made_ahead, needs_root),
    case!(a_runtime_is_booted_only_where_it_is_used),
    case!(a_booted_runtime_is_shut_in_before_it_has_a_function),
    case!(a_booted_runtime_becomes_what_would_have_been_started),
    case!(layers_and_shared_folders_are_seen_by_what_was_booted),
    case!(what_changes_the_start_of_the_interpreter_is_started_the_plain_way),
    case!(a_start_given_up_leaves_no_sandbox),
];

/// How many of a kind are kept, and their bytes.
fn kept(engines: &Engines, kind: &str) -> (u32, u64) {
    let all = engines.backend.residents();
    let found = all.iter().find(|Resident { name, .. }| name.starts_with(kind));
    found.map_or((0, 0), |resident| (resident.count, resident.bytes))
}

pub(super) async fn filled(engines: &Engines, kind: &str, count: u32) {
    until(PATIENCE, || kept(engines, kind).0 == count).await;
}

/// A Node function as the platform starts one that sets nothing of its own.
pub(super) async fn plain_node(engines: &Engines, source: &str) -> Function {
    with(engines.node(source).await, &[("TZ", ":UTC"), ("LANG", "en_US.UTF-8")])
}

fn with(mut function: Function, variables: &[(&str, &str)]) -> Function {
    function.spec.env.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    function
}

/// Engines with one booted Node.
async fn with_booted_node(world: &World) -> Engines {
    let engines = Engines::with_pools(world, 0, 1);
    let first = engines.start(plain_node(&engines, SHOW).await).await;
    assert_eq!(first.instance.phases().origin, Origin::Cold);
    first.instance.stop().await;
    filled(&engines, "runtime nodejs", 1).await;
    engines
}

/// The pid 1 of every jail of this process.
fn inits(world: &World) -> BTreeSet<u32> {
    children(world.launcher_pid()).into_iter().collect()
}

fn proc(pid: u32, file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

const SHOW: &str = "const fs = require('fs'); const at = process.cwd();
    exports.handler = async () => ({ env: process.env, argv: process.argv, cwd: at, main: require.main.filename,
      open: fs.readdirSync('/proc/self/fd').length, limits: fs.readFileSync('/proc/self/limits', 'utf8'),
      mounts: fs.readFileSync('/proc/self/mounts', 'utf8').split('\\n').map((line) => line.split(' ')[1])
        .filter((place) => !['/opt', '/mnt'].includes(place)).sort(),
      zone: new Date(0).toString(), status: fs.readFileSync('/proc/self/status', 'utf8').split('\\n').filter((line) =>
        /^(Cap|NoNewPrivs|Seccomp|Uid|Gid|SigBlk|SigIgn|Umask)/.test(line)), score: fs.readFileSync('/proc/self/oom_score_adj', 'utf8') })";

async fn a_sandbox_made_ahead_is_used_once_and_replaced(world: World) {
    let engines = Engines::with_pools(&world, 2, 0);
    filled(&engines, "sandboxes", 2).await;
    let before = inits(&world);
    assert!(kept(&engines, "sandboxes").1 > 0, "what they hold is counted");
    let running = engines.start(engines.python("def handler(e, c): return e\n").await).await;
    let phases = running.instance.phases();
    assert_eq!(phases.origin, Origin::Sandbox);
    assert!(phases.sandbox > std::time::Duration::ZERO && phases.init > std::time::Duration::ZERO);
    assert_eq!(running.result("3").await, 3);
    filled(&engines, "sandboxes", 2).await;
    // The one that was taken, the one that was not, a new one.
    let after = inits(&world);
    assert!(before.is_subset(&after) && after.len() == 3, "{before:?} {after:?}");
    running.instance.stop().await;
    until(PATIENCE, || inits(&world).len() == 2).await;
    drop(engines);
    until(PATIENCE, || inits(&world).is_empty()).await;
}

async fn what_does_not_fit_is_started_the_plain_way(world: World) {
    let none = Engines::with_pools(&world, 0, 0);
    let running = none.start(none.provided(BOOTSTRAP)).await;
    assert_eq!(running.instance.phases().origin, Origin::Cold);
    assert!(none.backend.residents().is_empty());
    let engines = Engines::with_pools(&world, 1, 0);
    filled(&engines, "sandboxes", 1).await;
    // A program that cannot start says why from a sandbox made ahead too.
    let mut absent = engines.provided(BOOTSTRAP);
    absent.spec.artifact.dir = world.code(&[]);
    let (error, _) = engines.try_start(absent).await.err().expect("it started");
    assert!(error.to_string().contains("/var/task/bootstrap does not exist"), "{error}");
}

const BOOTSTRAP: &str =
    "#!/bin/sh\ncurl -sS http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next\n";

async fn a_sandbox_that_dies_is_replaced(world: World) {
    let engines = Engines::with_pools(&world, 1, 0);
    filled(&engines, "sandboxes", 1).await;
    let before = inits(&world);
    for pid in &before {
        rustix::process::kill_process(Pid::from_raw(*pid as i32).unwrap(), Signal::KILL).unwrap();
    }
    until(PATIENCE, || {
        let now = inits(&world);
        now.len() == 1 && now.is_disjoint(&before) && kept(&engines, "sandboxes").0 == 1
    })
    .await;
    let running = engines.start(engines.python("def handler(e, c): return e\n").await).await;
    assert_eq!(running.instance.phases().origin, Origin::Sandbox);
    assert_eq!(running.result("3").await, 3);
}

async fn memory_pressure_empties_the_pools(world: World) {
    let engines = with_booted_node(&world).await;
    // It grows as it boots.
    until(PATIENCE, || kept(&engines, "runtime").1 > 3 << 20).await;
    assert_eq!(engines.backend.shrink(0), 0);
    assert_eq!(kept(&engines, "runtime").0, 1, "nothing was asked for");
    assert!(engines.backend.shrink(1) > 3 << 20);
    assert!(engines.backend.residents().is_empty());
    until(PATIENCE, || inits(&world).is_empty()).await;
    // The next one is started the plain way.
    let running = engines.start(plain_node(&engines, SHOW).await).await;
    assert_eq!(running.instance.phases().origin, Origin::Cold);
    running.instance.stop().await;
    assert!(engines.backend.residents().is_empty());
    assert_eq!(engines.backend.shrink(1), 0);
}

async fn no_two_instances_share_a_sandbox(world: World) {
    let engines = Engines::with_pools(&world, 2, 0);
    let source = "import os\nopen('/tmp/mark', 'x')\ndef handler(e, c):\n  kinds = ('pid', 'mnt', 'net', 'user', 'ipc', 'uts')\n  \
                  return [os.readlink('/proc/self/ns/' + kind) for kind in kinds] + os.listdir('/tmp')\n";
    // Kept running, so that no number is given twice.
    let mut all = Vec::new();
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        filled(&engines, "sandboxes", 2).await;
        let running = engines.start(engines.python(source).await).await;
        assert_eq!(running.instance.phases().origin, Origin::Sandbox);
        let result = running.result("1").await;
        let names: Vec<String> = serde_json::from_value(result).unwrap();
        assert_eq!(names[6..], ["mark"]);
        seen.extend(names[..6].iter().cloned());
        all.push(running);
    }
    assert_eq!(seen.len(), 24, "{seen:?}");
}

/// Runs a function in a sandbox made ahead, and one in a runtime booted ahead.
async fn in_both(
    world: &World,
    python: &str,
    node: &str,
    limit: impl Fn(&mut sandbox::Limits),
) -> Vec<Running> {
    let engines = Engines::with_pools(world, 1, 0);
    filled(&engines, "sandboxes", 1).await;
    let mut function = engines.python(python).await;
    limit(&mut function.spec.limits);
    let first = engines.start(function).await;
    assert_eq!(first.instance.phases().origin, Origin::Sandbox);
    let engines = with_booted_node(world).await;
    let mut function = plain_node(&engines, node).await;
    limit(&mut function.spec.limits);
    let second = engines.start(function).await;
    assert_eq!(second.instance.phases().origin, Origin::Runtime);
    vec![first, second]
}

async fn limits_hold_in_what_was_made_ahead(world: World) {
    let python = "import os, subprocess\nheld = []\ndef handler(e, c):\n  if e == 'disk':\n    return os.statvfs('/tmp').f_blocks * 4096\n  \
                  if e == 'processes':\n    made = 0\n    try:\n      while True:\n        held.append(subprocess.Popen(['/bin/sleep', '1000']))\n        \
                  made += 1\n    except OSError: return made\n  while True: held.append(bytearray(b'x' * (1 << 20)))\n";
    let node = "const { spawnSync } = require('child_process'); const fs = require('fs'); const held = [];
        exports.handler = async (e) => {
          if (e === 'disk') { const found = fs.statfsSync('/tmp'); return found.blocks * found.bsize; }
          if (e === 'processes') return fs.readFileSync('/proc/self/limits', 'utf8').match(/Max processes +(\\d+)/)[1] - 1;
          for (;;) { held.push(Buffer.alloc(1 << 20, 'x')); }
        };";
    let running = in_both(&world, python, node, |limits| {
        limits.memory_bytes = 128 << 20;
        limits.tmp_bytes = 3 << 20;
        limits.pids = 40;
    });
    for running in running.await {
        assert_eq!(running.result("\"disk\"").await, 3 << 20);
        let processes = running.result("\"processes\"").await.as_u64().unwrap();
        assert!((30..=40).contains(&processes), "{processes}");
        let fault = running.fault("\"memory\"").await;
        assert!(matches!(fault, Fault::Exited(Exit::OutOfMemory)), "{fault:?}");
    }
}

async fn processor_time_is_bounded_in_what_was_made_ahead(world: World) {
    let python = "import time\ndef handler(e, c):\n  before = time.process_time()\n  end = time.monotonic() + 1\n  \
                  while time.monotonic() < end: pass\n  return time.process_time() - before\n";
    let node = "exports.handler = async () => { const before = process.cpuUsage(); const end = Date.now() + 1000;
        while (Date.now() < end); const used = process.cpuUsage(before); return (used.user + used.system) / 1e6; };";
    for running in in_both(&world, python, node, |limits| limits.cpu_hundredths = Some(20)).await {
        let used = running.result("1").await.as_f64().unwrap();
        assert!(used < 0.5, "{used}");
    }
}

async fn a_runtime_is_booted_only_where_it_is_used(world: World) {
    let engines = Engines::with_pools(&world, 1, 1);
    filled(&engines, "sandboxes", 1).await;
    let running = engines.start(engines.python("def handler(e, c): return e\n").await).await;
    running.instance.stop().await;
    filled(&engines, "sandboxes", 1).await;
    assert_eq!(kept(&engines, "runtime").0, 0, "nobody uses Node");
    // A function that is deployed will be called.
    let function = plain_node(&engines, SHOW).await;
    engines.backend.prepare(&function.spec.artifact).await.unwrap();
    filled(&engines, "runtime nodejs", 1).await;
    let running = engines.start(function).await;
    assert_eq!(running.instance.phases().origin, Origin::Runtime);
    filled(&engines, "runtime nodejs", 1).await;
}

async fn a_booted_runtime_is_shut_in_before_it_has_a_function(world: World) {
    let _engines = with_booted_node(&world).await;
    let [init] = Vec::from_iter(inits(&world))[..] else { panic!("one jail is there") };
    let [node] = children(init)[..] else { panic!("the jail holds one program") };
    // Booted: it has come to its orders, which it reads from a pipe.
    until(PATIENCE, || {
        proc(node, "wchan").contains("pipe_read") || proc(node, "syscall").starts_with("0 0x3 ")
    })
    .await;
    let status = proc(node, "status");
    for line in ["CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    if !world.root {
        // An ordinary user may not look further.
        return;
    }
    let environment = proc(node, "environ");
    let names: BTreeSet<&str> = environment
        .split('\0')
        .filter_map(|variable| variable.split_once('='))
        .map(|(name, _)| name)
        .collect();
    let expect =
        ["HOME", "LAMBDA_RUNTIME_DIR", "LANG", "LD_LIBRARY_PATH", "NODE_PATH", "PATH", "PYTHONPATH", "TZ"];
    assert_eq!(names, BTreeSet::from(expect));
    let root = std::path::PathBuf::from(format!("/proc/{node}/root"));
    for hidden in ["var/task", "tmp", "root", "srv", "sys"] {
        let entries = std::fs::read_dir(root.join(hidden)).map_or(0, Iterator::count);
        assert_eq!(entries, 0, "{hidden}");
    }
    assert!(!root.join(world.data().strip_prefix("/").unwrap()).exists());
    let shown = |link: std::path::PathBuf| std::fs::read_link(link).unwrap().to_string_lossy().into_owned();
    assert_eq!(shown(format!("/proc/{node}/cwd").into()), "/");
    let streams: Vec<_> = (0..4).map(|number| shown(format!("/proc/{node}/fd/{number}").into())).collect();
    assert!(
        streams[0] == "/dev/null" && streams[1..].iter().all(|name| name.starts_with("pipe:")),
        "{streams:?}"
    );
    let sockets = std::fs::read_dir(format!("/proc/{node}/fd")).unwrap().flatten();
    let sockets = sockets.filter(|entry| shown(entry.path()).starts_with("socket:")).count();
    assert_eq!(sockets, 0, "nothing of Virga's own is open");
}

async fn a_booted_runtime_becomes_what_would_have_been_started(world: World) {
    let booted = with_booted_node(&world).await;
    let plain = Engines::new(&world);
    let source = format!("console.log('loaded'); {SHOW}");
    let mut shown = Vec::new();
    for (engines, origin) in [(&plain, Origin::Cold), (&booted, Origin::Runtime)] {
        let function =
            with(plain_node(engines, &source).await, &[("ODD", "a=b \"ä\"\nc"), ("NODE_ENV", "production")]);
        let running = engines.start(function).await;
        assert_eq!(running.instance.phases().origin, origin);
        assert!(running.log.text().ends_with("INFO\tloaded\n"), "{}", running.log.text());
        let mut result = running.result("1").await;
        result["env"]["_X_AMZN_TRACE_ID"].take();
        shown.push(result);
    }
    assert_eq!(shown[0]["env"]["ODD"], "a=b \"ä\"\nc");
    assert_eq!(shown[0]["cwd"], "/var/task");
    let (first, second) = (shown[0].clone(), shown[1].clone());
    for part in ["env", "argv", "cwd", "main", "open", "limits", "mounts", "zone", "score"] {
        assert_eq!(first[part], second[part], "{part}");
    }
    // Each has a user of its own on the host, and inside the same.
    assert_eq!(first["status"], second["status"]);
    assert_ne!(first["env"], json!({}));
}

/// Uses everything that layers and a shared folder show, and tries what it must not.
const USE: &str = "const fs = require('fs'); const { execFileSync } = require('child_process');
    const write = (file) => { try { fs.writeFileSync(file, 'x'); return 'written'; } catch (error) { return error.code; } };
    exports.handler = async () => ({ module: require('there'), tool: execFileSync('/opt/bin/tool').toString(),
      data: fs.readFileSync('/opt/data', 'utf8'), opt: fs.readdirSync('/opt').sort(), mnt: fs.readdirSync('/mnt'),
      file: require.resolve('there'), shared: fs.readdirSync('/mnt/share').sort(), writes: ['/opt/x', '/opt/data', '/opt/bin/tool',
        '/opt/nodejs/x', '/mnt/x', '/mnt/share/own', '/tmp/x'].map(write), run: (() => { try { return execFileSync('/mnt/share/tool')
        .toString(); } catch (error) { return error.code; } })() })";

async fn layers_and_shared_folders_are_seen_by_what_was_booted(world: World) {
    let module = ("nodejs/node_modules/there/index.js", 0o644, "module.exports = 'there'");
    let tool = ("bin/tool", 0o755, "#!/bin/sh\nprintf tool");
    let layers = world.code(&[module, tool, ("data", 0o644, "text")]);
    let shared = world.code(&[("before", 0o644, ""), ("tool", 0o755, "#!/bin/sh\nprintf shared")]);
    if world.root {
        let owner = Some(sandbox::process::SHARED_OWNER);
        std::os::unix::fs::chown(&shared, owner, owner).unwrap();
    }
    let booted = with_booted_node(&world).await;
    let plain = Engines::new(&world);
    let mut results = Vec::new();
    for (engines, origin) in [(&plain, Origin::Cold), (&booted, Origin::Runtime)] {
        let mut function = plain_node(engines, USE).await;
        function.spec.artifact.layers = Some(layers.clone());
        function.spec.file_systems = vec![FileSystem { folder: shared.clone(), name: "share".to_owned() }];
        let running = engines.start(function).await;
        assert_eq!(running.instance.phases().origin, origin);
        results.push(running.result("1").await);
        std::fs::remove_file(shared.join("own")).expect("it is the host's folder");
    }
    assert_eq!(results[0], results[1]);
    let no = "EROFS";
    let writes = json!([no, no, no, no, no, "written", "written"]);
    assert_eq!(results[0]["writes"], writes);
    assert_eq!([&results[0]["module"], &results[0]["tool"], &results[0]["data"]], ["there", "tool", "text"]);
    // Another function sees nothing of it, not even names. Other cases mount below the common `/opt`, where names stay.
    filled(&booted, "runtime nodejs", 1).await;
    let source = "const fs = require('fs'); exports.handler = async () => fs.readdirSync('/opt').concat(fs.readdirSync('/mnt'))";
    for engines in [&plain, &booted] {
        let running = engines.start(plain_node(engines, source).await).await;
        let seen: Vec<String> = serde_json::from_value(running.result("1").await).expect("a list of names");
        let leaked = seen.iter().filter(|name| ["bin", "data", "nodejs", "share"].contains(&name.as_str()));
        assert_eq!(leaked.count(), 0, "{seen:?}");
    }
    // A link cannot be mounted.
    filled(&booted, "runtime nodejs", 1).await;
    std::os::unix::fs::symlink("data", layers.join("link")).unwrap();
    let mut function =
        plain_node(&booted, "exports.handler = async () => require('fs').readFileSync('/opt/link', 'utf8')")
            .await;
    function.spec.artifact.layers = Some(layers);
    let running = booted.start(function).await;
    assert_eq!(running.instance.phases().origin, Origin::Cold);
    assert_eq!(running.result("1").await, "text");
}

async fn what_changes_the_start_of_the_interpreter_is_started_the_plain_way(world: World) {
    let engines = with_booted_node(&world).await;
    let source = "exports.handler = async () => [Error.stackTraceLimit, new Date(0).getHours()]";
    for (variables, expect) in [
        (
            &[("NODE_OPTIONS", "--stack-trace-limit=7"), ("TZ", ":UTC"), ("LANG", "en_US.UTF-8")][..],
            json!([7, 0]),
        ),
        (&[("TZ", "Asia/Tokyo"), ("LANG", "en_US.UTF-8")], json!([10, 9])),
    ] {
        let running = engines.start(with(engines.node(source).await, variables)).await;
        assert_eq!(running.instance.phases().origin, Origin::Cold, "{variables:?}");
        assert_eq!(running.result("1").await, expect, "{variables:?}");
    }
    // Libraries of its own where the loader looks first, and less memory than it has booted with.
    let mut function = plain_node(&engines, source).await;
    function.spec.artifact.dir = world.code(&[("index.js", 0o644, source), ("libx.so.1", 0o644, "")]);
    assert_eq!(engines.start(function).await.instance.phases().origin, Origin::Cold);
    let mut function = plain_node(&engines, source).await;
    function.spec.limits.memory_bytes = kept(&engines, "runtime").1;
    if let Ok(running) = engines.try_start(function).await {
        assert_eq!(running.instance.phases().origin, Origin::Cold);
    }
    filled(&engines, "runtime nodejs", 1).await;
}

async fn a_start_given_up_leaves_no_sandbox(world: World) {
    let engines = Engines::with_pools(&world, 1, 0);
    for steps in 0..6 {
        filled(&engines, "sandboxes", 1).await;
        let spec = std::sync::Arc::new(engines.python("def handler(e, c): return e\n").await.spec);
        let mut start = engines.backend.start(spec);
        for _ in 0..steps {
            if start.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(start);
    }
    filled(&engines, "sandboxes", 1).await;
    until(PATIENCE, || inits(&world).len() == 1).await;
}
