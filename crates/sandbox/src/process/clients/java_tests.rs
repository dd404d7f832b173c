//! The Java client, run by a real Java. Functions are compiled as their authors would.

use std::path::Path;
use std::process::Command;

use base::RequestId;
use serde_json::{Value, json};

use crate::process::testing::{ANSWER_BYTES, Program, event_of};
use crate::{Fault, Output};

/// A function that is up, and its classes.
struct Java {
    program: Program,
    _folder: tempfile::TempDir,
}

impl std::ops::Deref for Java {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

fn run(command: &mut Command) {
    let done = command.output().unwrap_or_else(|error| panic!("the tests need a JDK: {error}"));
    assert!(done.status.success(), "{}{}", text(&done.stdout), text(&done.stderr));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn clients() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/process/clients/java")
}

/// Compiles sources, which see what is in `path` too, into a folder.
fn compile(sources: &[(&str, &str)], path: &[&Path], into: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("javac");
    let path: Vec<_> = path.iter().map(|entry| entry.display().to_string()).collect();
    command.args(["--release", "17", "-nowarn", "-proc:none", "-cp", &path.join(":"), "-d"]).arg(into);
    for (name, source) in sources {
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, source).unwrap();
        command.arg(file);
    }
    run(&mut command);
}

/// Starts a package of one source file, `H.java`. It is compiled against Lambda's interfaces but does not carry them.
async fn begun(handler: &str, source: &str) -> Java {
    let folder = tempfile::tempdir().unwrap();
    compile(&[("H.java", source)], &[&clients().join("client.jar")], folder.path());
    started(handler, folder).await
}

async fn started(handler: &str, folder: tempfile::TempDir) -> Java {
    let task = folder.path().display().to_string();
    let program = Program::described("java", handler, &[], &[("LAMBDA_TASK_ROOT", &task)]).await;
    Java { program, _folder: folder }
}

async fn ready(handler: &str, source: &str) -> Java {
    let mut java = begun(handler, source).await;
    let started = java.program.started().await;
    assert!(started.is_ok(), "{started:?}\n{}", java.log.text());
    java
}

const IMPORTS: &str =
    "import com.amazonaws.services.lambda.runtime.*;\nimport java.io.*;\nimport java.util.*;\n";

/// A class with these members.
fn class(members: &str) -> String {
    format!("{IMPORTS}public class H {{\n{members}\n}}\n")
}

#[test]
fn the_jar_is_what_its_source_compiles_to() {
    run(Command::new("python3").arg(clients().join("build.py")).arg("--check"));
}

#[tokio::test]
async fn answers_again_and_again_from_one_process() {
    let java = ready(
        "H",
        &format!(
            "{IMPORTS}public class H implements RequestHandler<Map<String, Object>, List<Object>> {{
               int count;
               public List<Object> handleRequest(Map<String, Object> event, Context context) {{
                 List<Object> all = new ArrayList<>();
                 all.add(++count); all.add(ProcessHandle.current().pid()); all.add(event);
                 return all;
               }}
             }}"
        ),
    )
    .await;
    let event = r#"{"a":"ä/\"\n\\\u0001","b":[1,2.5,-3e2,null,true,12345678901,{}],"c":"😀"}"#;
    let first: Value = serde_json::from_str(&java.result(event).await).unwrap();
    let second: Value = serde_json::from_str(&java.result("{}").await).unwrap();
    assert_eq!((&first[0], &second[0]), (&json!(1), &json!(2)));
    assert_eq!(first[1], second[1]);
    assert_eq!(first[2].to_string(), event.replace("-3e2", "-300.0"));
    assert_eq!(second[2], json!({}));
    let long = "[9223372036854775807,9223372036854775808,123456789012345678901]";
    assert!(java.result(&format!("{{\"long\":{long}}}")).await.contains(long));
}

/// Handlers by name, with what they answer to an event.
#[tokio::test]
async fn methods_of_every_shape() {
    let source = class(
        r#"
  public enum Colour { RED, GREEN }
  public record Point(int x, Long y, List<Colour> colours) { }
  public static class Base<T> { private T value; public T getValue() { return value; } public void setValue(T v) { value = v; } }
  public static class Person extends Base<Map<String, Point>> {
    public String name; private boolean grown; private int[] marks; private java.time.LocalDate born; private byte[] raw;
    public boolean isGrown() { return grown; } public void setGrown(boolean g) { grown = g; }
    public int[] getMarks() { return marks; } public void setMarks(int[] m) { marks = m; }
    public java.time.LocalDate getBorn() { return born; } public void setBorn(java.time.LocalDate b) { born = b; }
    public byte[] getRaw() { return raw; } public void setRaw(byte[] r) { raw = r; }
    public String hidden() { return "no"; }
  }
  public Person person(Person person) { if (person.getValue() != null) person.getValue().values().iterator().next().x(); return person; }
  public Point point(Point point, Context context) { return point; }
  public static int twice(int number) { return 2 * number; }
  public Integer length(String text) { return text.length(); }
  public String nothing() { return "nothing"; }
  public String context(Context context) { return context.getFunctionName(); }
  public void quiet(Object event) { }
  public Object any(Object event) { return event.getClass().getSimpleName(); }
  public List<Point> points(List<Point> points) { for (Point p : points) p.x(); return points; }
  public Map<Colour, double[]> keyed(Map<Colour, Set<Integer>> map) {
    Map<Colour, double[]> out = new TreeMap<>();
    for (var e : map.entrySet()) out.put(e.getKey(), e.getValue().stream().mapToDouble(i -> i).toArray());
    return out;
  }
  public String which(String a) { return "one"; }
  public String which(String a, Context c) { return "two"; }
  public void streams(InputStream in, OutputStream out, Context c) throws IOException { out.write('['); in.transferTo(out); out.write(']'); }
  public static void two(InputStream in, OutputStream out) throws IOException { in.transferTo(out); }
  public Optional<Character> letter(Optional<String> s) { return s.map(x -> x.charAt(0)); }
  public java.math.BigDecimal big(java.math.BigDecimal b) { return b.add(java.math.BigDecimal.ONE); }
"#,
    );
    let folder = tempfile::tempdir().unwrap();
    compile(&[("H.java", &source)], &[&clients().join("client.jar")], folder.path());
    let task = folder.path().display().to_string();
    let person = r#"{"name":"Ä","value":{"k":{"x":1,"y":2,"colours":["RED"]}},"grown":true,"marks":[1,2],"born":"2001-02-03","raw":"AQI=","other":1}"#;
    let same = r#"{"name":"Ä","grown":true,"marks":[1,2],"born":"2001-02-03","raw":"AQI=","value":{"k":{"x":1,"y":2,"colours":["RED"]}}}"#;
    let empty = r#"{"name":null,"grown":false,"marks":null,"born":null,"raw":null,"value":null}"#;
    for (method, event, answer) in [
        ("person", person, same),
        ("person", "{\"NAME\":null}", empty),
        ("point", r#"{"x":1}"#, r#"{"x":1,"y":null,"colours":null}"#),
        ("twice", "21", "42"),
        ("twice", "\"4\"", "8"),
        ("length", "\"abc\"", "3"),
        ("length", "1234", "4"),
        ("nothing", "{}", "\"nothing\""),
        ("context", "{}", "\"greet\""),
        ("quiet", "{}", "null"),
        ("any", "[1]", "\"ArrayList\""),
        ("points", r#"[{"x":1,"y":1,"colours":[]}]"#, r#"[{"x":1,"y":1,"colours":[]}]"#),
        ("keyed", r#"{"GREEN":[1,1],"RED":[]}"#, r#"{"RED":[],"GREEN":[1.0]}"#),
        ("which", "\"\"", "\"two\""),
        ("streams", "{\"a\": 1}", "[{\"a\": 1}]"),
        ("two", "{\"a\": 1}", "{\"a\": 1}"),
        ("letter", "\"x\"", "\"x\""),
        ("letter", "null", "null"),
        ("big", "0.1", "1.1"),
    ] {
        let env = [("LAMBDA_TASK_ROOT", task.as_str())];
        let mut program = Program::described("java", &format!("H::{method}"), &[], &env).await;
        let started = program.started().await;
        assert!(started.is_ok(), "{method} {started:?}\n{}", program.log.text());
        assert_eq!(program.result(event).await, answer, "{method}");
    }
}

#[tokio::test]
async fn a_handler_of_streams_streams_what_it_flushes() {
    let java = ready(
        "H::handle",
        &class(
            r#"
  public void handle(InputStream in, OutputStream out) throws IOException {
    String event = new String(in.readAllBytes());
    if (event.equals("1")) { out.write('w'); return; }
    if (event.equals("2")) throw new IOException("early");
    out.write('a');
    out.flush();
    out.write('b');
    if (event.equals("3")) throw new IOException("late");
    out.write(new byte[20000]);
  }
"#,
        ),
    )
    .await;
    assert_eq!(java.result("1").await, "w", "what is never flushed is no stream");
    let (kind, report) = java.error("2").await;
    assert_eq!((kind.as_deref(), &report["errorMessage"]), (Some("java.io.IOException"), &json!("early")));
    let (kind, answer, error) = java.streamed("3").await;
    assert_eq!((kind.as_str(), answer.as_slice()), ("application/json", &b"ab"[..]));
    assert_eq!(
        error.map(|(kind, report)| (kind, report["errorMessage"].clone())),
        Some(("java.io.IOException".into(), json!("late")))
    );
    let (_, answer, error) = java.streamed("4").await;
    assert_eq!((answer.len(), error), (20_002, None));
}

#[tokio::test]
async fn the_context_object() {
    let java = ready(
        "H::handle",
        &class(
            r#"
  public Map<String, Object> handle(Object event, Context c) {
    Map<String, Object> m = new TreeMap<>();
    m.put("id", c.getAwsRequestId()); m.put("name", c.getFunctionName()); m.put("version", c.getFunctionVersion());
    m.put("arn", c.getInvokedFunctionArn()); m.put("memory", c.getMemoryLimitInMB());
    m.put("group", c.getLogGroupName()); m.put("stream", c.getLogStreamName());
    m.put("left", c.getRemainingTimeInMillis() > 0 && c.getRemainingTimeInMillis() <= 10000);
    m.put("title", c.getClientContext().getClient().getAppTitle()); m.put("custom", c.getClientContext().getCustom());
    m.put("env", c.getClientContext().getEnvironment()); m.put("identity", c.getIdentity().getIdentityId());
    m.put("trace", System.getProperty("com.amazonaws.xray.traceHeader"));
    c.getLogger().log("a line"); c.getLogger().log("another\n".getBytes());
    LambdaRuntime.getLogger().log("a third");
    System.out.print("held");
    return m;
  }"#,
        ),
    )
    .await;
    let id = RequestId::random();
    let mut event = event_of("{}");
    event.client_context = Some(json!({"client": {"app_title": "ä"}, "custom": {"a": "1"}}).to_string());
    event.cognito_identity = Some(json!({"cognitoIdentityId": "i"}).to_string());
    let Ok(Output::Event(answer)) = java.call_with(id, event.clone()).await else { panic!() };
    assert_eq!(
        serde_json::from_slice::<Value>(&answer).unwrap(),
        json!({
            "id": id.to_string(), "name": "greet", "version": "7", "arn": event.invoked_arn, "memory": 128,
            "group": "/aws/lambda/greet", "stream": "stream", "left": true, "title": "ä", "custom": {"a": "1"},
            "env": null, "identity": "i", "trace": event.trace_id,
        })
    );
    assert_eq!(java.log.text(), "a line\nanother\na third\nheld");
}

#[tokio::test]
async fn an_exception_is_reported_and_the_next_call_works() {
    let java = ready(
        "H::handle",
        &class(
            r#"
  static class Lost extends RuntimeException { Lost(String m, Throwable c) { super(m, c); } }
  void look(String way) { throw new Lost("no " + way, new IOException("why")); }
  public String handle(String event) { if (!event.isEmpty()) look(event); return "fine"; }"#,
        ),
    )
    .await;
    let (kind, report) = java.error("\"way\"").await;
    assert_eq!(kind.as_deref(), Some("H$Lost"));
    let line = |report: &Value, index: usize| report["stackTrace"][index].as_str().unwrap_or("").to_owned();
    assert_eq!((&report["errorType"], &report["errorMessage"]), (&json!("H$Lost"), &json!("no way")));
    assert_eq!(
        (line(&report, 0), line(&report, 1)),
        ("H.look(H.java:7)".into(), "H.handle(H.java:8)".into())
    );
    assert_eq!(report["stackTrace"].as_array().unwrap().len(), 2, "only the user's frames: {report}");
    assert_eq!(report["cause"]["errorType"], "java.io.IOException");
    assert_eq!(report["cause"]["errorMessage"], "why");
    assert_eq!(line(&report["cause"], 0), "H.look(H.java:7)");
    let log = java.log.text();
    assert!(log.contains("\tInvoke Error\t{\"errorMessage\":\"no way\",\"errorType\":\"H$Lost\""), "{log}");
    assert_eq!(log.matches('\n').count(), 1, "one line: {log}");
    assert_eq!(java.result("\"\"").await, "\"fine\"");
}

#[tokio::test]
async fn what_does_not_fit_says_so_and_the_process_lives() {
    let java = ready(
        "H::handle",
        &class(
            r#"
  public static class Ring { public Ring getRing() { return this; } }
  public Object handle(Map<String, Integer> event) {
    if (event.containsKey("ring")) return new Ring();
    if (event.containsKey("deep")) return deep(0);
    return "x".repeat(event.get("length"));
  }
  int deep(int n) { return deep(n + 1) + 1; }"#,
        ),
    )
    .await;
    for (event, message, cause) in [
        ("[1]", "An error occurred during JSON parsing", "cannot make java.util.Map of an array"),
        ("{\"length\":\"x\"}", "An error occurred during JSON parsing", ""),
        (
            "{\"length\":\"1e999999999\"}",
            "An error occurred during JSON parsing",
            "a number of more than 1000 digits",
        ),
        ("{\"length\":1.5e99}", "An error occurred during JSON parsing", "BigInteger out of int range"),
        (
            "{\"ring\":1}",
            "An error occurred during JSON serialization of response",
            "objects refer to each other",
        ),
    ] {
        let (kind, report) = java.error(event).await;
        assert_eq!(kind.as_deref(), Some("java.lang.RuntimeException"), "{report}");
        assert_eq!((&report["errorMessage"], &report["stackTrace"]), (&json!(message), &json!([])));
        assert!(report["cause"]["errorMessage"].as_str().unwrap_or("").starts_with(cause), "{report}");
    }
    assert_eq!(java.error("{\"deep\":1}").await.0.as_deref(), Some("java.lang.StackOverflowError"));
    assert_eq!(java.result("{\"length\":90000}").await.len(), 90_002);
    let Err(fault) = java.call_with(RequestId::random(), event_of("{\"length\":200000}")).await else {
        panic!()
    };
    assert_eq!(fault, Fault::AnswerTooLarge { size: 200_002, limit: ANSWER_BYTES });
    assert_eq!(java.result("{\"length\":1}").await, "\"x\"", "it lives");
    let long =
        ready("H::handle", &class("  public int handle(String event) { return event.length(); }")).await;
    assert_eq!(long.result(&json!("y".repeat(5_000_000)).to_string()).await, "5000000");
}

#[tokio::test]
async fn initialisation_errors_have_names() {
    let source = class(
        r#"
  public static class Throws implements RequestHandler<String, String> {
    public Throws() { throw new IllegalStateException("at start"); }
    public String handleRequest(String s, Context c) { return s; }
  }
  public static class Static { static { if (true) throw new UnsupportedOperationException("static"); } public void run() { } }
  public static class Closed { private Closed() { } public void run() { } }
  public static abstract class Abstract { public void run() { } }
  public void three(int a, int b, int c) { }"#,
    );
    for (handler, kind, message) in [
        ("none.Such", "java.lang.ClassNotFoundException", "Class not found: none.Such"),
        ("h", "java.lang.ClassNotFoundException", "Class not found: h"),
        ("H", "Runtime.HandlerNotFound", "Class H does not implement RequestHandler or RequestStreamHandler"),
        ("H::none", "Runtime.HandlerNotFound", "No public method named none on class H"),
        ("H::three", "Runtime.HandlerNotFound", "Method three of class H must take an event"),
        ("H$Throws", "java.lang.IllegalStateException", "at start"),
        ("H$Static::run", "java.lang.UnsupportedOperationException", "static"),
        ("H$Closed::run", "Runtime.HandlerNotFound", "Class H$Closed has no public constructor"),
        ("H$Abstract::run", "Runtime.HandlerNotFound", "Class H$Abstract is abstract"),
        ("H::a::b", "Runtime.MalformedHandlerName", "'H::a::b' is not a valid handler name"),
    ] {
        let mut java = begun(handler, &source).await;
        let (announced, report) = java.program.init_error().await;
        assert_eq!(announced.as_deref(), Some(kind), "{handler} {report}");
        assert_eq!(report["errorType"], kind);
        assert!(report["errorMessage"].as_str().unwrap().starts_with(message), "{report}");
        assert!(java.log.text().contains("Init Error\t{"), "{}", java.log.text());
        assert_eq!(java.program.exit_code().await, Some(1));
    }
}

#[tokio::test]
async fn a_package_that_carries_lambdas_interfaces_gets_its_own() {
    let context = "package com.amazonaws.services.lambda.runtime;
        public interface Context { String getAwsRequestId(); default String own() { return \"the package's\"; } }";
    let handler = "package com.amazonaws.services.lambda.runtime;
        public interface RequestHandler<I, O> { O handleRequest(I input, Context context); }";
    let function = "import com.amazonaws.services.lambda.runtime.*;
        public class H implements RequestHandler<String, String> {
          public String handleRequest(String event, Context context) {
            boolean one = Context.class.getClassLoader() == H.class.getClassLoader();
            return context.own() + \" \" + (context.getAwsRequestId().length() == 36) + \" \" + one;
          }
        }";
    let (interfaces, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sources = [("Context.java", context), ("RequestHandler.java", handler)];
    compile(&sources, &[], interfaces.path());
    compile(&[("H.java", function)], &[interfaces.path()], folder.path());
    std::fs::create_dir(folder.path().join("lib")).unwrap();
    run(Command::new("jar")
        .arg("cf")
        .arg(folder.path().join("lib/core.jar"))
        .arg("-C")
        .arg(interfaces.path())
        .arg("."));
    let mut java = started("H", folder).await;
    java.program.started().await.unwrap();
    assert_eq!(java.result("\"x\"").await, "\"the package's true true\"");
    // Our own where it carries none; the client is not seen.
    let java = ready(
        "H::handle",
        &class(
            "  public String handle(Object event) throws Exception {
                 try { return Class.forName(\"virga.runtime.Main\").getName(); }
                 catch (ClassNotFoundException e) { return \"\" + (Context.class.getClassLoader() == H.class.getClassLoader()); }
               }",
        ),
    )
    .await;
    assert_eq!(java.result("1").await, "\"true\"");
}

#[tokio::test]
async fn what_ends_the_machine_ends_the_process() {
    let source = class(
        r#"
  public Object handle(String event) {
    if (event.equals("memory")) { List<byte[]> all = new ArrayList<>(); while (true) all.add(new byte[16 << 20]); }
    System.exit(3);
    return null;
  }"#,
    );
    let folder = tempfile::tempdir().unwrap();
    compile(&[("H.java", &source)], &[&clients().join("client.jar")], folder.path());
    let task = folder.path().display().to_string();
    let env = [("LAMBDA_TASK_ROOT", task.as_str()), ("JAVA_TOOL_OPTIONS", "-Xmx64m")];
    let mut program = Program::described("java", "H::handle", &[], &env).await;
    program.started().await.unwrap();
    let (kind, report) = program.error("\"memory\"").await;
    assert_eq!(kind.as_deref(), Some("java.lang.OutOfMemoryError"));
    assert_eq!(report["errorMessage"], "Java heap space", "{report}");
    assert_eq!(program.exit_code().await, Some(1), "it is not used again");
    let java = ready("H::handle", &source).await;
    let api = java.api.clone();
    let call = tokio::spawn(async move { api.invoke(RequestId::random(), 0, event_of("\"exit\"")).await });
    assert_eq!(java.program.exit_code().await, Some(3));
    call.abort();
}
