//! Instances that begin as templates: what they share, what they must not, and what falls back.

use std::sync::Arc;
use std::time::Duration;

use base::InstanceId;
use sandbox::{Backend, Count, Exit, Fault, NO_TEMPLATE, Origin, Output, StartError};
use serde_json::{Value, json};

use super::{Engines, Function, Kept, PATIENCE, Running};
use crate::case;
use crate::world::{Case, World, groups_named, until};

pub(crate) const CASES: &[Case] = &[
    case!(initialisation_runs_once_and_its_state_is_there),
    case!(what_must_be_unique_is),
    case!(limits_ends_and_tmp_are_each_instances_own),
    case!(functions_that_have_no_template_say_why),
    case!(open_files_of_the_package_are_open_in_every_instance),
    case!(hooks_run_around_the_template),
    case!(large_memory_and_deep_stacks),
    case!(an_instance_lives_long_and_does_everything),
    case!(a_runtime_begins_booted_and_gives_way_to_the_package),
    case!(an_image_that_cannot_be_restored_is_dropped),
    case!(images_can_be_let_go_of),
];

/// Enough for all of a test.
pub(super) const BYTES: u64 = 1 << 30;

/// Worth a template.
const SLOW: &str = "import time; time.sleep(0.05)\n";

impl Function {
    /// May have a template, under a revision of its own.
    pub(super) fn imaged(mut self) -> Self {
        self.spec.template = true;
        self.spec.revision = InstanceId::random().as_str().to_owned();
        self
    }
}

impl Engines {
    /// Another instance of the function's revision, with its own log and environment.
    pub(super) fn again(&self, function: &Function, env: &[(&str, &str)]) -> Function {
        let log = Arc::new(Kept::default());
        let spec = &function.spec;
        let mut all = spec.env.clone();
        all.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Function {
            spec: sandbox::Spec {
                instance: InstanceId::random(),
                function: spec.function.clone(),
                revision: spec.revision.clone(),
                artifact: spec.artifact.clone(),
                env: all,
                output: log.clone(),
                file_systems: Vec::new(),
                egress: spec.egress.clone(),
                ..*spec
            },
            log,
        }
    }

    /// A Python function that may have a template, under a revision of its own.
    async fn imaged(&self, source: &str) -> Function {
        self.python(source).await.imaged()
    }

    fn has_template(&self) -> bool {
        self.backend.residents().iter().any(|resident| resident.name.starts_with("template greet:"))
    }

    /// Starts a function once and waits for its template; the log of that first instance.
    pub(super) async fn template(&self, function: &Function) -> Arc<Kept> {
        let first = self.start(self.again(function, &[])).await;
        let log = first.log.clone();
        until(PATIENCE, || self.has_template() || log.text().contains("VIRGA No template")).await;
        assert!(self.has_template(), "{}", log.text());
        first.instance.stop().await;
        log
    }

    /// An instance that began as the template.
    pub(super) async fn instance(&self, function: &Function, env: &[(&str, &str)]) -> Running {
        let running = self.start(self.again(function, env)).await;
        assert_eq!(running.instance.phases().origin, Origin::Template, "{}", running.log.text());
        running
    }

    /// Why a function has no template: the log, and what is counted of that.
    async fn refusal(&self, source: &str) -> Arc<Kept> {
        let function = self.imaged(source).await;
        let running = self.start(self.again(&function, &[])).await;
        let log = running.log.clone();
        until(PATIENCE, || log.text().contains("VIRGA No template") || self.has_template()).await;
        assert!(!self.has_template(), "there is a template of {source}");
        // Nothing of the attempt is in the way.
        let other = self.start(self.again(&function, &[])).await;
        assert_ne!(other.instance.phases().origin, Origin::Template);
        other.result("1").await;
        assert_eq!(log.text().matches("VIRGA No template").count(), 1);
        log
    }
}

async fn initialisation_runs_once_and_its_state_is_there(world: World) {
    let engines = Engines::with_templates(&world, BYTES);
    let function = engines
        .imaged(&format!(
            "{SLOW}import os\nprint('initialised')\nstate = {{'answer': 42}}\ncount = 0\n\
             def handler(event, context):\n    global count\n    count += 1\n    \
             return [state['answer'], count, os.environ.get('WHO'), os.environ.get('VIRGA_TEMPLATE')]\n"
        ))
        .await;
    let first = engines.template(&function).await;
    // Once for the first instance, once for the template.
    assert_eq!(first.text().matches("initialised").count(), 2);
    for who in ["a", "b"] {
        let running = engines.instance(&function, &[("WHO", who)]).await;
        assert_eq!(running.result("1").await, json!([42, 1, who, null]));
        assert_eq!(running.result("1").await, json!([42, 2, who, null]));
        assert_eq!(running.log.text(), "");
        running.instance.stop().await;
        assert!(groups_named(running.id.as_str()).is_empty());
    }
}

async fn what_must_be_unique_is(world: World) {
    let engines = Engines::with_templates(&world, BYTES);
    let source = "import os, random, ssl, uuid, hashlib, secrets, tempfile
ssl.RAND_bytes(8); random.random(); uuid.uuid1(); uuid.uuid4(); secrets.token_hex(4); next(tempfile._get_candidate_names())
pid = os.getpid()
def handler(event, context):
    one = uuid.uuid1()
    return {
        'ssl': ssl.RAND_bytes(16).hex(), 'random': random.random(), 'uuid4': str(uuid.uuid4()), 'uuid1': str(one),
        'node': one.node, 'secret': secrets.token_hex(8), 'name': next(tempfile._get_candidate_names()),
        'key': os.environ['AWS_SECRET_ACCESS_KEY'], 'pids': [pid, os.getpid()],
    }
";
    let function = engines.imaged(&format!("{SLOW}{source}")).await;
    engines.template(&self_with_key(&engines, &function, "of the template")).await;
    let mut seen: Vec<Value> = Vec::new();
    for index in 0..4 {
        let key = format!("key {index}");
        let running = engines.instance(&function, &[("AWS_SECRET_ACCESS_KEY", &key)]).await;
        let result = running.result("1").await;
        assert_eq!(result["key"], key);
        assert_ne!(result["pids"][0], result["pids"][1], "a pid that the template had");
        for other in &seen {
            for name in ["ssl", "random", "uuid4", "uuid1", "node", "secret", "name"] {
                assert_ne!(result[name], other[name], "{name}");
            }
        }
        seen.push(result);
    }
}

fn self_with_key(engines: &Engines, function: &Function, key: &str) -> Function {
    engines.again(function, &[("AWS_SECRET_ACCESS_KEY", key)])
}

async fn limits_ends_and_tmp_are_each_instances_own(world: World) {
    let engines = Engines::with_templates(&world, BYTES);
    let source = "import os, sys, time, signal, subprocess
def handler(event, context):
    if event == 'tmp':
        found = os.listdir('/tmp'); open('/tmp/mine', 'w').write('x'); return found
    if event == 'exit': sys.exit(7)
    if event == 'kill': os.kill(os.getpid(), signal.SIGKILL)
    if event == 'sleep': print('sleeping'); time.sleep(600)
    if event == 'status': return open('/proc/self/status').read()
    held = []
    while True: held.append(bytearray(8 << 20))
";
    let function = engines.imaged(&format!("{SLOW}{source}")).await;
    engines.template(&function).await;
    let one = engines.instance(&function, &[]).await;
    let two = engines.instance(&function, &[]).await;
    assert_eq!((one.result("\"tmp\"").await, two.result("\"tmp\"").await), (json!([]), json!([])));
    let status = one.result("\"status\"").await.as_str().unwrap().to_owned();
    for line in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", "Threads:\t1"] {
        assert!(status.contains(line), "{status}");
    }
    for (event, exit) in [("\"exit\"", Exit::Code(7)), ("\"kill\"", Exit::Signal(9))] {
        let running = engines.instance(&function, &[]).await;
        assert_eq!(running.fault(event).await, Fault::Exited(exit));
        assert_eq!(running.instance.exited().await, exit);
    }
    match engines.instance(&function, &[]).await.event("\"memory\"").await {
        Err(Fault::Exited(exit)) => assert_eq!(exit, Exit::OutOfMemory),
        // Where memory is held by RLIMIT_DATA, Python sees the limit first.
        Ok(Output::FunctionError(error)) => assert_eq!(error.error_type.as_deref(), Some("MemoryError")),
        _ => panic!("unlimited memory"),
    }
    let running = engines.instance(&function, &[]).await;
    let log = running.log.clone();
    let stop = async {
        until(PATIENCE, || !log.text().is_empty()).await;
        running.instance.stop().await;
        assert!(groups_named(running.id.as_str()).is_empty());
    };
    let (fault, ()) = tokio::join!(running.fault("\"sleep\""), stop);
    assert_eq!(fault, Fault::Exited(Exit::Stopped));
}

async fn functions_that_have_no_template_say_why(world: World) {
    let handler = "\ndef handler(event, context): return event\n";
    for (source, reason, counted) in [
        (
            "import threading\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
            "it runs 2 threads",
            "threads",
        ),
        ("import socket\nheld = socket.socket()", "it has an open socket", "sockets"),
        ("import os\nheld = os.pipe()", "it has an open pipe", "sockets"),
        (
            "import subprocess\nheld = subprocess.Popen(['sleep', '600'])",
            "it has started 1 other processes",
            "processes",
        ),
        ("held = open('/tmp/x', 'w'); held.close()", "it has written /tmp/x", "files"),
        ("import mmap\nheld = mmap.mmap(-1, 4096)", "it shares", "memory"),
        ("import select\nheld = select.epoll()", "it has opened", "sockets"),
        (
            "import snapshot_restore_py\n@snapshot_restore_py.register_before_snapshot\ndef no(): raise OSError('not now')",
            "initialising it once more failed",
            "broken_off",
        ),
    ] {
        let engines = Engines::with_templates(&world, BYTES);
        let log = engines.refusal(&format!("{SLOW}{source}{handler}")).await;
        let text = log.text();
        assert!(text.contains(&format!("VIRGA No template of this version: {reason}")), "{source}: {text}");
        let counts = NO_TEMPLATE.map(|reason| log.counted(Count::NoTemplate(reason)));
        let expect = NO_TEMPLATE.map(|reason| u64::from(reason == counted));
        assert_eq!(counts, expect, "{source}: {NO_TEMPLATE:?}");
    }
}

async fn open_files_of_the_package_are_open_in_every_instance(world: World) {
    let engines = Engines::with_templates(&world, BYTES);
    let source = "import sqlite3, os
held = open('/var/task/app.py'); held.readline()
fill = sqlite3.connect(':memory:'); fill.execute('create table t(x)'); fill.execute('insert into t values (5)')
database = sqlite3.connect('file:/var/task/data.db?mode=ro&immutable=1', uri=True)
names = [row[0] for row in database.execute('select x from t')]
def handler(event, context):
    rows = [row[0] for row in database.execute('select x from t where x > 1')]
    return [rows, list(fill.execute('select x from t')), held.readline(), sorted(os.listdir('/proc/self/fd'))]
";
    let function = engines.imaged(&format!("{SLOW}{source}")).await;
    let make = "import sqlite3, sys
d = sqlite3.connect(sys.argv[1]); d.execute('create table t(x)'); d.executemany('insert into t values (?)', [[1], [2], [3]]); d.commit()";
    let path = function.spec.artifact.dir.join("data.db");
    let made = tokio::process::Command::new("/usr/bin/python3")
        .args(["-c", make])
        .arg(&path)
        .status()
        .await
        .unwrap();
    assert!(made.success());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&path, mode).unwrap();
    let plain = engines.start(engines.again(&function, &[])).await.result("1").await;
    engines.template(&function).await;
    for _ in 0..2 {
        let running = engines.instance(&function, &[]).await;
        let result = running.result("1").await;
        assert_eq!(result[0], json!([2, 3]));
        assert_eq!(result[1], json!([[5]]));
        assert_eq!(result[2], plain[2], "the file is where the template left it");
        // In a template, 3 is the place of the orders.
        assert_eq!(result[3].as_array().unwrap().len(), plain[3].as_array().unwrap().len(), "{result}");
    }
}

async fn hooks_run_around_the_template(world: World) {
    let engines = Engines::with_templates(&world, BYTES);
    let source = "import os
from snapshot_restore_py import register_before_snapshot, register_after_restore
calls = []
@register_before_snapshot
def first(): calls.append('before 1')
register_before_snapshot(calls.append, 'before 2')
@register_after_restore
def after(): calls.append('after ' + os.environ['WHO'])
register_after_restore(calls.append, 'after 2')
def handler(event, context): return calls
";
    let function = engines.imaged(&format!("{SLOW}{source}")).await;
    let plain = engines.start(engines.again(&function, &[("WHO", "p")])).await;
    assert_eq!(plain.result("1").await, json!([]), "no snapshot, no hook");
    engines.template(&function).await;
    let running = engines.instance(&function, &[("WHO", "x")]).await;
    assert_eq!(running.result("1").await, json!(["before 2", "before 1", "after x", "after 2"]));

    let source = "import snapshot_restore_py
@snapshot_restore_py.register_after_restore
def after(): raise ValueError('no connection')
def handler(event, context): return 1
";
    let engines = Engines::with_templates(&world, BYTES);
    let function = engines.imaged(&format!("{SLOW}{source}")).await;
    engines.template(&function).await;
    let Err((error, log)) = engines.try_start(engines.again(&function, &[])).await else {
        panic!("it started")
    };
    let StartError::Init { error_type, .. } = error else { panic!("{error:?}") };
    assert_eq!(error_type.as_deref(), Some("ValueError"));
    assert!(log.text().contains("no connection"), "{}", log.text());
}

async fn large_memory_and_deep_stacks(world: World) {
    let engines = Engines::with_templates(&world, BYTES);
    let source = "import sys, hashlib, array
sys.setrecursionlimit(20000)
big = bytearray(range(256)) * (400 << 10)
numbers = array.array('Q', range(1 << 20))
objects = [{'n': n, 's': str(n)} for n in range(100_000)]
def deep(n): return 0 if n == 0 else 1 + deep(n - 1)
deep(5000)
def handler(event, context):
    big[event] = 7
    total = sum(numbers) + sum(o['n'] for o in objects)
    del objects[50_000:]
    return [len(big), big[event], hashlib.sha256(memoryview(big)[1 << 20:]).hexdigest(), total, deep(9000)]
";
    let mut function = engines.imaged(&format!("{SLOW}{source}")).await;
    function.spec.limits.memory_bytes = 1 << 30;
    let plain = engines.start(engines.again(&function, &[])).await.result("5").await;
    engines.template(&function).await;
    let image = engines.backend.residents().iter().map(|resident| resident.bytes).max().unwrap();
    assert!((100 << 20..200 << 20).contains(&image), "{image}");
    for _ in 0..2 {
        let running = engines.instance(&function, &[]).await;
        assert_eq!(running.result("5").await, plain);
        if running.instance.peak_memory() > 0 && world.root && world.has_groups() {
            let peak = running.instance.peak_memory();
            assert!(peak < 100 << 20, "what is not written to is the server's: {peak}");
        }
    }
}

async fn an_instance_lives_long_and_does_everything(world: World) {
    let engines = Engines::with_templates(&world, BYTES);
    let source = "import os, gc
held = [[n] for n in range(10_000)]
def everything():
    import ctypes, subprocess, threading, multiprocessing, decimal, xml.etree.ElementTree, asyncio
    libc = ctypes.CDLL('libc.so.6')
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    numbers = (ctypes.c_int * 3)(3, 1, 2)
    libc.qsort(numbers, 3, 4, compare(lambda a, b: a[0] - b[0]))
    out = []
    threads = [threading.Thread(target=lambda n=n: out.append(n * n)) for n in range(8)]
    [t.start() for t in threads]; [t.join() for t in threads]
    child = os.fork()
    if child == 0: os._exit(5)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said = subprocess.run(['/bin/sh', '-c', 'echo $$'], capture_output=True, text=True).stdout
    async def later(): await asyncio.sleep(0.001); return 9
    return [list(numbers), sorted(out), status, int(said) > 1, asyncio.run(later())]
def handler(event, context):
    if event == 'everything': return everything()
    garbage = []
    for n in range(500):
        cycle = {}; cycle['self'] = cycle; garbage.append(cycle)
    held[event % 10_000] = [event]
    if event % 100 == 0: gc.collect()
    return held[event % 10_000][0]
";
    let function = engines.imaged(&format!("{SLOW}{source}")).await;
    engines.template(&function).await;
    let running = engines.instance(&function, &[]).await;
    for event in 0..1000 {
        assert_eq!(running.result(&event.to_string()).await, event);
    }
    let expected = json!([[1, 2, 3], [0, 1, 4, 9, 16, 25, 36, 49], 5, true, 9]);
    assert_eq!(running.result("\"everything\"").await, expected);
}

async fn a_runtime_begins_booted_and_gives_way_to_the_package(world: World) {
    let engines = Engines::with_templates(&world, BYTES);
    let runtime =
        || engines.backend.residents().iter().any(|resident| resident.name.starts_with("template python"));
    let source = "import os, sys, json, uuid\ndef handler(event, context): return [json.__file__, os.getcwd(), os.environ.get('WHO'), sys.path[0], os.getpid()]\n";
    let function = engines.python(source).await;
    let plain = engines
        .start(engines.again(&function, &[("WHO", "x"), ("TZ", ":UTC"), ("LANG", "en_US.UTF-8")]))
        .await;
    assert_ne!(plain.instance.phases().origin, Origin::Runtime);
    let expected = plain.result("1").await;
    until(PATIENCE, runtime).await;
    let alike = [("WHO", "x"), ("TZ", ":UTC"), ("LANG", "en_US.UTF-8")];
    let running = engines.start(engines.again(&function, &alike)).await;
    assert_eq!(running.instance.phases().origin, Origin::Runtime);
    let result = running.result("1").await;
    assert_eq!(result.as_array().unwrap()[..4], expected.as_array().unwrap()[..4]);
    assert_ne!(result[4], expected[4], "never a template's pid");
    let other =
        engines.start(engines.again(&function, &[("TZ", "Asia/Tokyo"), ("LANG", "en_US.UTF-8")])).await;
    assert_ne!(other.instance.phases().origin, Origin::Runtime, "another time zone is read at start");

    let files = [
        (
            "app.py",
            0o644,
            "import json, logging\ndef handler(event, context):\n    logging.getLogger().warning('heard'); return json.mine\n",
        ),
        ("json.py", 0o644, "mine = 'the package\\'s own'\n"),
    ];
    let function = engines.function(engines.runtime("python").await, "app.handler", &files);
    let running = engines.start(engines.again(&function, &alike)).await;
    assert_eq!(running.instance.phases().origin, Origin::Runtime);
    assert_eq!(running.result("1").await, "the package's own");
    assert_eq!(running.log.text().matches("heard").count(), 1, "{}", running.log.text());
}

async fn an_image_that_cannot_be_restored_is_dropped(world: World) {
    let engines = Engines::with_templates(&world, BYTES);
    let source = "held = open('/var/task/data.txt')\nprint('initialised')\ndef handler(event, context): return held.read()\n";
    let function = engines.imaged(&format!("{SLOW}{source}")).await;
    let path = function.spec.artifact.dir.join("data.txt");
    crate::world::write(&path, 0o644, b"one");
    engines.template(&function).await;
    crate::world::write(&path, 0o644, b"other");
    let running = engines.start(engines.again(&function, &[])).await;
    assert_ne!(running.instance.phases().origin, Origin::Template, "the file is not the one that was open");
    assert_eq!(running.result("1").await, "other");
    assert_eq!(running.log.text().matches("initialised").count(), 1);
    let log = running.log.clone();
    // A new one is made of what there is now.
    until(PATIENCE, || engines.has_template() || log.text().contains("No template")).await;
    assert_eq!(engines.instance(&function, &[]).await.result("1").await, "other");
}

async fn images_can_be_let_go_of(world: World) {
    let engines = Engines::with_templates(&world, BYTES);
    let function = engines.imaged(&format!("{SLOW}def handler(event, context): return event\n")).await;
    engines.template(&function).await;
    let running = engines.instance(&function, &[]).await;
    engines.backend.retire(&function.spec.revision);
    assert!(!engines.has_template());
    assert_eq!(running.result("1").await, 1, "an instance keeps its memory");
    let again = engines.start(engines.again(&function, &[])).await;
    assert_ne!(again.instance.phases().origin, Origin::Template);
    until(Duration::from_secs(30), || engines.has_template()).await;
    let held: u64 = engines.backend.residents().iter().map(|resident| resident.bytes).sum();
    assert!(engines.backend.shrink(u64::MAX) >= held);
    assert!(!engines.has_template());
    let none = Engines::with_templates(&world, 0);
    let running = none.start(none.again(&function, &[])).await;
    assert_eq!(running.instance.phases().origin, Origin::Cold);
    assert_eq!(running.result("1").await, 1);
    assert!(none.backend.residents().is_empty(), "nothing is made where nothing may be held");
}
