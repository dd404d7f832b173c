//! Java in jails: its machine runs there, is booted ahead for each size of function, and keeps to the function's memory.

use std::path::Path;
use std::process::Command;

use sandbox::{Backend, Exit, Fault, Origin, Output};
use serde_json::{Value, json};

use super::ahead::filled;
use super::{Engines, Function};
use crate::case;
use crate::world::{Case, World};

pub(crate) const CASES: &[Case] = &[
    case!(java_runs_in_a_jail),
    case!(a_booted_java_becomes_what_would_have_been_started),
    case!(a_booted_java_is_for_functions_of_its_size),
    case!(a_full_java_heap_is_an_error),
];

const SOURCE: &str = r#"
import java.io.*;
import java.nio.file.*;
import java.util.*;
import java.util.stream.*;

public class H {
    static final String AT = System.getProperty("user.dir");

    static String output(String... command) throws Exception {
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        return new String(process.getInputStream().readAllBytes());
    }

    static List<String> lines(String file, String pattern) throws IOException {
        return Files.readAllLines(Path.of(file)).stream().filter(line -> line.matches(pattern)).sorted().collect(Collectors.toList());
    }

    public static Object show(Object event) throws Exception {
        Map<String, Object> all = new TreeMap<>();
        all.put("env", new TreeMap<>(System.getenv()));
        all.put("children", output("/usr/bin/env").lines().sorted().collect(Collectors.toList()));
        all.put("cwd", List.of(AT, new File("x").getAbsolutePath(), output("/bin/pwd"), Path.of("").toAbsolutePath()));
        all.put("relative", List.of(new File("H.class").exists(), Files.exists(Path.of("H.class")), new FileInputStream("H.class").read()));
        all.put("heap", Runtime.getRuntime().maxMemory());
        all.put("status", lines("/proc/self/status", "(Cap|NoNewPrivs|Seccomp|Uid|Gid|SigIgn|Umask).*"));
        all.put("limits", lines("/proc/self/limits", ".*"));
        all.put("flags", java.lang.management.ManagementFactory.getRuntimeMXBean().getInputArguments());
        all.put("zone", TimeZone.getDefault().getID());
        all.put("encodings", List.of(System.getProperty("file.encoding"), System.getProperty("sun.jnu.encoding"), Locale.getDefault()));
        all.put("loader", H.class.getClassLoader().getClass().getSimpleName());
        Path mine = Path.of("/tmp/\u00e4");
        Files.writeString(mine, "x");
        all.put("tmp", List.of(mine.toFile().exists(), new File("/tmp").list()[0].equals("\u00e4"), new File("/tmp").list().length));
        all.put("tls", javax.net.ssl.SSLContext.getDefault().getProtocol());
        return all;
    }

    public static Object handle(String event) throws Exception {
        switch (event) {
            case "exit": System.exit(7);
            case "halt": Runtime.getRuntime().halt(8);
            case "memory":
                List<java.nio.ByteBuffer> held = new ArrayList<>();
                java.lang.reflect.Field field = Class.forName("sun.misc.Unsafe").getDeclaredField("theUnsafe");
                field.setAccessible(true);
                sun.misc.Unsafe unsafe = (sun.misc.Unsafe) field.get(null);
                while (true) unsafe.setMemory(unsafe.allocateMemory(8 << 20), 8 << 20, (byte) 1);
            case "heap":
                List<byte[]> all = new ArrayList<>();
                while (true) all.add(new byte[1 << 20]);
            case "garbage":
                long sum = 0;
                for (int i = 0; i < 4000; i++) sum += new byte[1 << 20].length;
                return sum;
            default: return ProcessHandle.current().pid();
        }
    }
}
"#;

/// A function of the source above, as the platform starts one that sets nothing of its own.
async fn function(engines: &Engines, handler: &str) -> Function {
    let runtime = engines.runtime("java").await;
    let mut function = engines.function(runtime, handler, &[("H.java", 0o644, SOURCE)]);
    compile(&function.spec.artifact.dir);
    let usual = [("TZ", ":UTC"), ("LANG", "en_US.UTF-8")];
    function.spec.env.extend(usual.map(|(name, value)| (name.to_owned(), value.to_owned())));
    function
}

fn compile(dir: &Path) {
    let source = dir.join("H.java");
    let mut javac = Command::new("javac");
    // It may know itself that it holds memory which is nobody's.
    javac.args(["-nowarn", "-XDignore.symbol.file", "-proc:none", "-d"]).arg(dir).arg(&source);
    let done = javac.output().expect("the tests need a JDK");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    std::fs::remove_file(source).unwrap();
}

async fn java_runs_in_a_jail(world: World) {
    let engines = Engines::new(&world);
    let shown = engines.start(function(&engines, "H::show").await).await;
    let shown = shown.result("1").await;
    assert_eq!(shown["cwd"], json!(["/var/task", "/var/task/x", "/var/task\n", "/var/task"]));
    assert_eq!(shown["relative"], json!([true, true, 0xca]));
    assert_eq!((&shown["env"]["GREETING"], &shown["tmp"]), (&json!("hello"), &json!([true, true, 1])));
    assert_eq!(shown["encodings"], json!(["UTF-8", "UTF-8", "en"]));
    let heap = shown["heap"].as_u64().unwrap();
    assert!((180 << 20..=192 << 20).contains(&heap), "{heap}");
    let handle = function(&engines, "H::handle").await;
    for (event, exit) in [("\"exit\"", Exit::Code(7)), ("\"halt\"", Exit::Code(8))] {
        let running = engines.start(engines.again(&handle, &[])).await;
        assert_eq!(running.fault(event).await, Fault::Exited(exit), "{}", running.log.text());
    }
    let running = engines.start(engines.again(&handle, &[])).await;
    match running.event("\"memory\"").await {
        Err(Fault::Exited(exit)) => assert_eq!(exit, Exit::OutOfMemory, "{}", running.log.text()),
        // Where memory is held by RLIMIT_DATA, the machine sees the limit first.
        Ok(Output::FunctionError(error)) => {
            assert_eq!(error.error_type.as_deref(), Some("java.lang.OutOfMemoryError"));
        }
        _ => panic!("unlimited memory"),
    }
    // Many at once are as many processes.
    let starts = (0..4).map(|_| async {
        let running = engines.start(engines.again(&handle, &[])).await;
        assert!(running.result("\"pid\"").await.is_u64());
    });
    futures_util::future::join_all(starts).await;
}

async fn a_booted_java_becomes_what_would_have_been_started(world: World) {
    let engines = Engines::with_pools(&world, 0, 1);
    let function = function(&engines, "H::show").await;
    let who = [("WHO", "gr\u{fc}\u{df}e \u{1f600}\nagain")];
    let plain = engines.start(engines.again(&function, &who)).await;
    assert_eq!(plain.instance.phases().origin, Origin::Cold);
    let expected = plain.result("1").await;
    plain.instance.stop().await;
    filled(&engines, "runtime java", 1).await;
    let booted = engines.start(engines.again(&function, &who)).await;
    assert_eq!(booted.instance.phases().origin, Origin::Runtime, "{}", booted.log.text());
    let result = booted.result("1").await;
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(result[name], *value, "{name}");
    }
    assert_eq!(booted.log.text(), "");
    // What changes how the machine starts is started the plain way.
    let options = [("JAVA_TOOL_OPTIONS", "-Xmx99m")];
    let running = engines.start(engines.again(&function, &options)).await;
    assert_ne!(running.instance.phases().origin, Origin::Runtime);
    let heap = running.result("1").await["heap"].as_u64().unwrap();
    assert!((90 << 20..=99 << 20).contains(&heap), "the function's own flags come first: {heap}");
}

async fn a_booted_java_is_for_functions_of_its_size(world: World) {
    let engines = Engines::with_pools(&world, 0, 1);
    let function = function(&engines, "H::show").await;
    let sized = |memory_mb: u64| {
        let mut function = engines.again(&function, &[]);
        function.spec.limits.memory_bytes = memory_mb << 20;
        function
    };
    let mut heaps = Vec::new();
    for (index, memory_mb) in [256, 512].into_iter().enumerate() {
        let running = engines.start(sized(memory_mb)).await;
        assert_eq!(running.instance.phases().origin, Origin::Cold, "one of another size is no use");
        filled(&engines, "runtime java", index as u32 + 1).await;
        let running = engines.start(sized(memory_mb)).await;
        assert_eq!(running.instance.phases().origin, Origin::Runtime);
        let result: Value = running.result("1").await;
        heaps.push(result["heap"].as_u64().unwrap());
        filled(&engines, "runtime java", index as u32 + 1).await;
    }
    assert!(heaps[0] <= 192 << 20 && heaps[1] > 400 << 20, "{heaps:?}");
    assert!(engines.backend.shrink(u64::MAX) > 0);
}

async fn a_full_java_heap_is_an_error(world: World) {
    let engines = Engines::new(&world);
    let function = function(&engines, "H::handle").await;
    let running = engines.start(engines.again(&function, &[])).await;
    assert_eq!(running.result("\"garbage\"").await, 4000_u64 << 20, "what nobody needs is collected in time");
    let Ok(Output::FunctionError(error)) = running.event("\"heap\"").await else { panic!("no error") };
    assert_eq!(error.error_type.as_deref(), Some("java.lang.OutOfMemoryError"));
}
