"""Java: handlers of every shape, how they fail, end and begin, and web servers in jars."""

import concurrent.futures
import io
import json
import re
import subprocess
import zipfile

import pytest
import requests

from support import kinds
from support.poll import until

# One of each for every way to end: picked by the event's "do".
HANDLER = """
package com.example;
import com.amazonaws.services.lambda.runtime.*;
import java.io.*;
import java.util.*;

public class Handler implements RequestHandler<Map<String, Object>, Object> {
    static { System.out.println("loaded"); }
    public static class Lost extends RuntimeException { public Lost(String m, Throwable c) { super(m, c); } }

    @Override
    public Object handleRequest(Map<String, Object> event, Context context) {
        switch (String.valueOf(event.get("do"))) {
            case "raise": throw new Lost("sorry", new IOException("deep"));
            case "sleep": nap(600000);
            case "exit": System.exit(3);
            case "heap": for (List<Object> all = new ArrayList<>();;) all.add(new byte[1 << 20]);
            case "memory": for (List<Object> all = new ArrayList<>();;) all.add(touched(java.nio.ByteBuffer.allocateDirect(1 << 20)));
            case "tmp":
                String[] found = new File("/tmp").list();
                try (FileWriter file = new FileWriter("/tmp/mine")) { file.write("x"); }
                catch (IOException e) { throw new UncheckedIOException(e); }
                return found;
            case "nap": nap(300); return UUID.randomUUID();
            case "big": return "x".repeat(7 << 20);
            case "nothing": return null;
            case "heap size": return Runtime.getRuntime().maxMemory() >> 20;
            case "from": return Context.class.getProtectionDomain().getCodeSource().getLocation() == null ? "virga" : "package";
        }
        context.getLogger().log("event " + event);
        return Map.of("pid", ProcessHandle.current().pid(), "event", event, "memory", context.getMemoryLimitInMB(),
            "id", context.getAwsRequestId(), "name", context.getFunctionName());
    }

    static Object touched(java.nio.ByteBuffer memory) {
        for (int i = 0; i < memory.capacity(); i += 4096) memory.put(i, (byte) 1);
        return memory;
    }

    static void nap(long ms) {
        try { Thread.sleep(ms); } catch (InterruptedException e) { throw new RuntimeException(e); }
    }
}
"""
SHAPES = """
import com.amazonaws.services.lambda.runtime.*;
import java.io.*;
import java.util.*;

public class Shapes implements RequestStreamHandler {
    public record Item(String name, double price) { }
    public static class Order {
        private List<Item> items;
        public List<Item> getItems() { return items; }
        public void setItems(List<Item> items) { this.items = items; }
    }
    public static class Total { public int count; public double sum; }

    public Total total(Order order, Context context) {
        Total total = new Total();
        for (Item item : order.getItems()) { total.count++; total.sum += item.price(); }
        return total;
    }
    public static String shout(String text) { return text.toUpperCase(); }
    public List<Integer> doubled(List<Integer> numbers) { return numbers.stream().map(n -> 2 * n).toList(); }
    public void handleRequest(InputStream in, OutputStream out, Context context) throws IOException {
        byte[] event = in.readAllBytes();
        out.write(("{\\"bytes\\":" + event.length + "}").getBytes());
    }
}
"""
SERVER = """
import com.sun.net.httpserver.*;
import java.net.InetSocketAddress;

public class Main {
    public static void main(String[] arguments) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress(Integer.parseInt(System.getenv("PORT"))), 0);
        server.createContext("/", exchange -> {
            byte[] text = ("Hello from " + exchange.getRequestMethod() + " " + exchange.getRequestURI() + " " + System.getenv("MINE")).getBytes();
            exchange.sendResponseHeaders(200, text.length);
            exchange.getResponseBody().write(text);
            exchange.close();
        });
        server.setExecutor(java.util.concurrent.Executors.newFixedThreadPool(4));
        server.start();
    }
}
"""
CLIENT = kinds.EXAMPLES.parent / "crates/sandbox/src/process/clients/java/source/com"


@pytest.fixture(scope="module")
def jars(tmp_path_factory):
    """Jars of sources, compiled once; Lambda's interfaces are seen but not carried."""
    interfaces = tmp_path_factory.mktemp("interfaces")
    sources = [str(path) for path in CLIENT.rglob("*.java")]
    subprocess.run(["javac", "--release", "17", "-d", str(interfaces), *sources], check=True)
    made = {}

    def jar(name, text, carried=()):
        key = (name, text, bool(carried))
        if key not in made:
            made[key] = kinds.jar({name: text}, tmp_path_factory.mktemp("jar"), [interfaces], carried)
        return made[key]

    jar.interfaces = interfaces
    return jar


def deployed(functions, jars, **options):
    return functions.deploy(jars("Handler.java", HANDLER), kinds.java(), "com.example.Handler", **options)


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_answers_and_logs(functions, jars):
    name = deployed(functions, jars, MemorySize=256)
    first, second = functions.invoke(name, {"a": "ä"}), functions.invoke(name, {"b": [1, 2.5]})
    assert first.ok()["event"] == {"a": "ä"} and second.ok()["event"] == {"b": [1, 2.5]}
    assert first.ok()["pid"] == second.ok()["pid"]
    assert first.ok() | {"memory": 256, "id": first.request_id, "name": name} == first.ok()
    assert "event {a=ä}\n" in first.log and "loaded\n" not in second.log
    assert functions.server.cli("logs", name, check=0).stdout.count("loaded") == 1
    assert "event {b=[1, 2.5]}\n" in second.log and "REPORT RequestId" in second.log
    assert functions.invoke(name, {"do": "nothing"}).ok() is None


@pytest.mark.parametrize(
    "handler, event, answer",
    [
        ("Shapes", {"a": 1}, {"bytes": 8}),
        ("Shapes::total", {"items": [{"name": "a", "price": 1.5}, {"price": 2}], "more": 1}, {"count": 2, "sum": 3.5}),
        ("Shapes::shout", "quiet", "QUIET"),
        ("Shapes::doubled", [1, 2], [2, 4]),
    ],
)
def test_handlers_of_every_shape(functions, jars, handler, event, answer):
    name = functions.deploy(jars("Shapes.java", SHAPES), kinds.java(), handler)
    assert functions.invoke(name, event).ok() == answer


def test_packages_are_jars_and_zips_with_jars_in_lib(functions, jars):
    jar = jars("Handler.java", HANDLER)
    carrying = jars("Handler.java", HANDLER, carried=[jars.interfaces])
    for package, source in [(zipped({"lib/app.jar": jar, "readme": "x"}), "virga"), (carrying, "package")]:
        name = functions.deploy(package, kinds.java(), "com.example.Handler")
        assert functions.invoke(name, {"do": "from"}).ok() == source
        assert functions.invoke(name, {"x": 1}).ok()["event"] == {"x": 1}


def test_an_error_has_javas_stack_and_cause(functions, jars):
    name = deployed(functions, jars)
    pid = functions.invoke(name).ok()["pid"]
    for _ in range(2):
        result = functions.invoke(name, {"do": "raise"})
        failed = result.failed("com.example.Handler$Lost")
        assert failed["errorMessage"] == "sorry"
        # The method, and what the compiler puts before one that narrows its parameters.
        frame = r"com.example.Handler.handleRequest\(Handler.java:\d+\)"
        assert len(failed["stackTrace"]) == 2 and all(re.fullmatch(frame, line) for line in failed["stackTrace"])
        assert failed["cause"]["errorType"] == "java.io.IOException" and failed["cause"]["errorMessage"] == "deep"
        assert "Handler$Lost" in result.log and "sorry" in result.log
    assert functions.invoke(name).ok()["pid"] == pid, "an error does not end the instance"


def test_time_out_exit_and_memory_end_the_instance_only(functions, jars):
    name = deployed(functions, jars, Timeout=5, MemorySize=128, env={"JAVA_TOOL_OPTIONS": "-XX:MaxDirectMemorySize=1g"})
    assert functions.invoke(name, {"do": "sleep"}).failed("Sandbox.Timedout")
    assert functions.invoke(name, {"do": "exit"}).failed("Runtime.ExitError")["errorMessage"].endswith("exit status 3")
    failed = functions.invoke(name, {"do": "heap"}).failed("java.lang.OutOfMemoryError")
    assert failed["errorMessage"] == "Java heap space"
    # Where memory is held without cgroups the machine finds that there is none.
    failed = functions.invoke(name, {"do": "memory"}).value
    assert failed["errorType"] in ("Runtime.OutOfMemory", "java.lang.OutOfMemoryError"), failed
    assert "Response payload size" in functions.invoke(name, {"do": "big"}).value["errorMessage"]
    assert functions.invoke(name, {"do": "tmp"}).ok() == []


def test_flags_of_the_function_come_first(functions, jars):
    name = deployed(functions, jars, MemorySize=512)
    assert 400 < functions.invoke(name, {"do": "heap size"}).ok() <= 435
    name = deployed(functions, jars, MemorySize=512, env={"JAVA_TOOL_OPTIONS": "-Xmx100m"})
    result = functions.invoke(name, {"do": "heap size"})
    assert 90 <= result.ok() <= 100, result.log


@pytest.mark.parametrize(
    "source, handler, error_type",
    [
        ("public class A { }", "B", "java.lang.ClassNotFoundException"),
        ("public class A { }", "A::run", "Runtime.HandlerNotFound"),
        ("public class A { }", "A", "Runtime.HandlerNotFound"),
        ("public class A { public A() { throw new IllegalStateException(\"at start\"); } public void run() { } }",
         "A::run", "java.lang.IllegalStateException"),
        ("public class A { static int x = 1 / 0; public void run() { } }", "A::run", "java.lang.ArithmeticException"),
        ("public class A { public A() { System.exit(4); } public void run() { } }", "A::run", "Runtime.ExitError"),
    ],
)  # fmt: skip
def test_what_does_not_come_up_says_why(functions, jars, source, handler, error_type):
    name = functions.deploy(jars("A.java", source), kinds.java(), handler)
    for _ in range(2):
        assert functions.invoke(name).failed(error_type)["errorMessage"]


def test_what_has_no_json_says_so(functions, jars):
    name = functions.deploy(jars("Shapes.java", SHAPES), kinds.java(), "Shapes::total")
    failed = functions.invoke(name, {"items": 5}).failed("java.lang.RuntimeException")
    assert failed["errorMessage"] == "An error occurred during JSON parsing"
    assert failed["cause"]["errorMessage"] == "cannot make java.util.List of a number"


def test_many_at_once_are_many_instances(functions, jars):
    name = deployed(functions, jars, Timeout=60)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: functions.invoke(name, {"do": "nap"}).ok(), range(6)))
    assert len(set(answers)) == 6


def test_several_calls_on_one_instance_are_refused(functions, jars):
    with pytest.raises(Exception, match="takes one call at a time"):
        deployed(functions, jars, tags={"virga:hard-concurrency": "5"}, wait=False)


def test_instances_are_booted_ahead(functions, jars):
    name = deployed(functions, jars, tags={"virga:idle-timeout": "1"})

    def begun_booted():
        result = functions.invoke(name, {"a": 1})
        return result.ok() if "\tStart: runtime" in result.log else None

    assert until(begun_booted, "an instance begins booted", seconds=60, every=1.5)["event"] == {"a": 1}


@pytest.fixture
def project(server, tmp_path):
    """Makes a file in a folder of its own and has the CLI deploy that, or the folder."""
    made = []

    def deploy(file, content, *options, check=0):
        path = tmp_path / "project" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        target = path if "/" not in file else tmp_path / "project"
        done = server.cli("deploy", target, "--name", "java-project", "--env", "MINE=1", *options, check=check)
        made.append("java-project")
        return done

    yield deploy
    server.cli("delete", "java-project")


def serving(jars, tmp_path):
    """A web server's jar with a main class."""
    classes = tmp_path / "classes"
    with zipfile.ZipFile(io.BytesIO(jars("Main.java", SERVER))) as archive:
        archive.extractall(classes)
    subprocess.run(["jar", "--create", "--file", tmp_path / "web.jar", "--main-class", "Main", "-C", classes, "."], check=True)
    return (tmp_path / "web.jar").read_bytes()


def test_a_web_server_in_a_jar(server, jars, tmp_path, project):
    said = project("web.jar", serving(jars, tmp_path)).stdout
    assert "a Java web server, java -jar web.jar" in said
    url = f"{server.url}/_fn/java-project/"
    answer = requests.post(url + "a?b=c", timeout=30)
    assert answer.text == "Hello from POST /a?b=c 1", answer.text
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: requests.get(url, timeout=30).status_code == 200, range(40)))
    said = project("web.jar", serving(jars, tmp_path), "--contract", "http", "--handler", "Main").stdout
    assert "a Java web server, main class Main" in said
    assert requests.get(url, timeout=30).text == "Hello from GET / 1"


# What starts a jar that carries other jars, in place of Spring Boot's own: an archive's classes, and jars that it stores.
LAUNCHER = """
package org.springframework.boot.loader.launch;
import java.io.*;
import java.net.*;
import java.nio.file.*;
import java.util.*;
import java.util.jar.*;

public class JarLauncher {
    public static void main(String[] arguments) throws Exception {
        File own = new File(JarLauncher.class.getProtectionDomain().getCodeSource().getLocation().toURI());
        Path place = Files.createTempDirectory("boot");
        List<URL> path = new ArrayList<>();
        String start;
        try (JarFile jar = new JarFile(own)) {
            start = jar.getManifest().getMainAttributes().getValue("Start-Class");
            for (JarEntry entry : Collections.list(jar.entries())) {
                if (entry.isDirectory() || !entry.getName().startsWith("BOOT-INF/")) continue;
                Path file = place.resolve(entry.getName());
                Files.createDirectories(file.getParent());
                Files.copy(jar.getInputStream(entry), file);
                if (file.toString().endsWith(".jar")) path.add(file.toUri().toURL());
            }
        }
        path.add(0, place.resolve("BOOT-INF/classes").toUri().toURL());
        ClassLoader loader = new URLClassLoader(path.toArray(new URL[0]), ClassLoader.getPlatformClassLoader());
        Thread.currentThread().setContextClassLoader(loader);
        loader.loadClass(start).getMethod("main", String[].class).invoke(null, (Object) arguments);
    }
}
"""
BOOTED = """
package com.example;
import com.sun.net.httpserver.*;
import java.net.InetSocketAddress;

public class Application {
    public static void main(String[] arguments) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress(Integer.parseInt(System.getenv("PORT"))), 0);
        server.createContext("/", exchange -> {
            byte[] text = org.example.words.Words.hello(exchange.getRequestURI().getPath()).getBytes();
            exchange.sendResponseHeaders(200, text.length);
            exchange.getResponseBody().write(text);
            exchange.close();
        });
        server.start();
    }
}
"""
WORDS = "package org.example.words; public class Words { public static String hello(String whom) { return \"Hello from \" + whom; } }"


def boot_jar(tmp_path):
    """A jar as Spring Boot's plugins lay it out: a launcher, the application's classes, and its libraries as stored jars."""
    def unzipped(jar):
        with zipfile.ZipFile(io.BytesIO(jar)) as archive:
            return {name: archive.read(name) for name in archive.namelist() if name.endswith(".class")}

    words = kinds.jar({"Words.java": WORDS}, tmp_path / "words")
    (tmp_path / "seen").mkdir()
    with zipfile.ZipFile(io.BytesIO(words)) as archive:
        archive.extractall(tmp_path / "seen")
    application = unzipped(kinds.jar({"Application.java": BOOTED}, tmp_path / "application", path=[tmp_path / "seen"]))
    launcher = unzipped(kinds.jar({"JarLauncher.java": LAUNCHER}, tmp_path / "launcher"))
    manifest = "Manifest-Version: 1.0\r\nMain-Class: org.springframework.boot.loader.launch.JarLauncher\r\n"
    manifest += "Start-Class: com.example.Application\r\nSpring-Boot-Classes: BOOT-INF/classes/\r\n\r\n"
    return zipped({"META-INF/MANIFEST.MF": manifest} | launcher
                  | {f"BOOT-INF/classes/{name}": content for name, content in application.items()}
                  | {"BOOT-INF/lib/words-1.0.jar": words})  # fmt: skip


def test_a_jar_of_jars_serves(server, tmp_path, project):
    """The layout of Spring Boot's jars, with a launcher and a server of this test's own."""
    said = project("target/app-1.0.jar", boot_jar(tmp_path)).stdout
    assert "a Java web server, java -jar app-1.0.jar" in said
    assert requests.get(f"{server.url}/_fn/java-project/a", timeout=30).text == "Hello from /a"


def test_a_handler_is_found_where_a_build_left_it(server, jars, project):
    said = project("target/app.jar", jars("Handler.java", HANDLER)).stdout
    assert "a Java handler, com.example.Handler" in said
    done = server.cli("invoke", "java-project", '{"x": 1}', check=0)
    assert json.loads(done.stdout)["event"] == {"x": 1}


def test_sources_are_not_compiled(server, tmp_path):
    (tmp_path / "Hello.java").write_text("class Hello {}")
    for path in (tmp_path, tmp_path / "Hello.java"):
        done = server.cli("deploy", path)
        assert done.returncode != 0 and "javac --release 17" in done.stderr, done


LOGS = """
import com.amazonaws.services.lambda.runtime.*;
import com.amazonaws.services.lambda.runtime.logging.LogLevel;
import java.util.*;

public class Logs {
    public Object handle(Map<String, Object> event, Context context) {
        LambdaLogger logger = context.getLogger();
        logger.log("plain \\"quoted\\"\\n\\ttwice \\ud83d\\ude00\\u0001");
        logger.log("a detail", LogLevel.DEBUG);
        logger.log("told", LogLevel.INFO);
        logger.log("careful".getBytes(), LogLevel.WARN);
        System.out.println("as it is");
        if (event.containsKey("raise")) throw new IllegalStateException("raised");
        return null;
    }
}
"""


def logged(functions, name, event):
    """The function's own lines of one call."""
    tail = functions.invoke(name, event).log
    return [line for line in tail.splitlines() if not line.startswith(("START", "END", "REPORT")) and '"platform.' not in line]


def test_levels_and_the_log_as_json(functions, tmp_path):
    stand_ins = kinds.REPOSITORY / "crates/sandbox/src/process/clients/java/source/com"
    path = tmp_path / "stand-ins"
    path.mkdir()
    sources = [str(file) for file in stand_ins.rglob("*.java")]
    subprocess.run(["javac", "--release", "17", "-d", str(path), *sources], check=True, capture_output=True)
    jar = kinds.jar({"Logs.java": LOGS}, tmp_path / "logs", path=[path])
    name = functions.deploy(jar, kinds.java(), "Logs::handle", MemorySize=256)
    lines = logged(functions, name, {})
    assert lines[-4:] == ["[DEBUG] a detail", "[INFO] told", "[WARN] careful", "as it is"]

    config = {"LogFormat": "JSON", "ApplicationLogLevel": "INFO"}
    functions.api.update_function_configuration(FunctionName=name, LoggingConfig=config)
    functions.api.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 600})
    result = functions.invoke(name, {"raise": True})
    entries, plain = [], []
    for line in result.log.splitlines():
        entry = json.loads(line) if line.startswith("{") else None
        if entry is None:
            plain.append(line)
        elif "message" in entry:
            entries.append(entry)
    assert "as it is" in plain
    assert [(entry["level"], entry["message"]) for entry in entries] == [
        ("UNDEFINED", 'plain "quoted"\n\ttwice \U0001f600\x01'), ("INFO", "told"), ("WARN", "careful"), ("ERROR", "raised"),
    ]  # fmt: skip
    assert all(entry["AWSRequestId"] == result.request_id for entry in entries)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", entry["timestamp"]) for entry in entries)
    assert entries[-1]["errorType"] == "java.lang.IllegalStateException" and "Logs.handle" in entries[-1]["stackTrace"][0]
    functions.api.update_function_configuration(FunctionName=name, LoggingConfig=config | {"ApplicationLogLevel": "ERROR"})
    functions.api.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 600})
    levels = [json.loads(line)["level"] for line in logged(functions, name, {}) if line.startswith("{")]
    assert levels == ["UNDEFINED"]
