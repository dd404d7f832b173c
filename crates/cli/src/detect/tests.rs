//! What is found in files and folders.

use super::*;

/// `(runtime family, contract, handler)` of a folder with these files.
fn folder(files: &[(&str, &str)]) -> Result<Detected> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    detect(dir.path(), &Known::default())
}

fn check(files: &[(&str, &str)], family: Family, contract: Contract, handler: &str) {
    let found = folder(files).unwrap();
    assert_eq!(
        (found.family, found.contract, found.handler.as_str()),
        (family, contract, handler),
        "{files:?}"
    );
}

#[test]
fn static_sites() {
    use Contract::{Http, Lambda};
    use Family::{Node, Python, Static};
    let page = ("index.html", "<!doctype html>");
    check(&[page], Static, Http, ".");
    check(&[page, ("app.js", "document.title = 'x';"), ("style.css", "")], Static, Http, ".");
    check(&[page, ("index.js", "exports.handler = async () => 1")], Node, Lambda, "index.handler");
    check(&[page, ("server.js", "require('http').createServer(f).listen(1)")], Node, Http, "server.js");
    check(&[page, ("handler.py", "def handler(event, context):\n")], Python, Lambda, "handler.handler");
    assert!(folder(&[page, ("package.json", "{}")]).is_err(), "not built yet, or a program");
    for sources in ["go.mod", "Cargo.toml", "deno.json"] {
        assert!(folder(&[page, (sources, "")]).is_err(), "{sources}: sources are nobody's pages");
    }
}

#[test]
fn folders() {
    use Contract::{Http, Lambda, Wasi};
    use Family::{Node, Php, Provided, Python, Ruby, Wasm};
    check(&[("handler.py", "def handler(event, context):\n")], Python, Lambda, "handler.handler");
    check(&[("x.py", "import y\ndef lambda_handler(e, c):\n")], Python, Lambda, "x.lambda_handler");
    check(&[("app.py", "app = Flask(__name__)\n"), ("util.py", "")], Python, Http, "app:app");
    check(&[("app.py", "app = Flask(__name__)\napp.run(port=os.environ['PORT'])")], Python, Http, "app.py");
    check(&[("main.py", "api: FastAPI = fastapi.FastAPI(title='x')\n")], Python, Http, "main:api");
    check(&[("main.py", "app = FastAPI()\nhandler = Mangum(app)\n")], Python, Lambda, "main.handler");
    check(&[("app/main.py", "app = FastAPI()"), ("requirements.txt", "")], Python, Http, "app.main:app");
    check(&[("app.py", "def create_app():\n    app = Flask(__name__)\n")], Python, Http, "app:create_app()");
    let django = "application = get_wsgi_application()";
    check(
        &[("manage.py", ""), ("shop/wsgi.py", django), ("shop/x.py", "")],
        Python,
        Http,
        "shop.wsgi:application",
    );
    check(&[("index.mjs", "export async function handler(e) {}")], Node, Lambda, "index.handler");
    check(&[("index.js", "exports.handler = async () => 1")], Node, Lambda, "index.handler");
    check(&[("server.js", "http.createServer(f).listen(process.env.PORT)")], Node, Http, "server.js");
    let package = ("package.json", r#"{"scripts": {"start": "node ./src.js"}, "main": "other.js"}"#);
    check(&[package, ("src.js", "app.listen(1)"), ("other.js", "")], Node, Http, "src.js");
    check(
        &[("package.json", r#"{"main": "f.js"}"#), ("f.js", "exports.handler = 1")],
        Node,
        Lambda,
        "f.handler",
    );
    let next = r#"{"scripts": {"start": "next start"}, "dependencies": {"next": "1"}}"#;
    check(&[("package.json", next), ("next.config.js", "")], Node, Http, "package.json:start");
    check(&[("package.json", next), ("index.js", "exports.handler = 1")], Node, Lambda, "index.handler");
    check(&[("bootstrap", "#!/bin/sh"), ("x.py", "")], Provided, Lambda, "bootstrap");
    check(&[("hello.wasm", "\0asm")], Wasm, Wasi, "hello.wasm");
    check(&[("index.php", "<?php\nreturn function ($event) {\n};")], Php, Lambda, "index.php");
    check(&[("index.php", "<?php echo 1;"), ("package.json", "{}")], Php, Http, "index.php");
    check(&[("x.rb", "def handler(event:, context:)\nend\n")], Ruby, Lambda, "x.handler");
    check(
        &[("lambda_function.rb", "def lambda_handler(event:, context:)\nend\n"), ("y.rb", "")],
        Ruby,
        Lambda,
        "lambda_function.lambda_handler",
    );
    check(&[("app.rb", "require 'sinatra'\nget('/') { 1 }\n")], Ruby, Http, "app.rb");
    check(&[("config.ru", "run App"), ("app.rb", ""), ("package.json", "{}")], Ruby, Http, "config.ru");
}

#[test]
fn what_next_builds_to_run_alone_is_taken_out_of_its_project() {
    let package = r#"{"scripts": {"start": "next start"}, "dependencies": {"next": "1"}}"#;
    let server = "process.env.__NEXT_PRIVATE_STANDALONE_CONFIG = 1; startServer({ port: process.env.PORT })";
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("package.json", package);
    let found = || detect(dir.path(), &Known::default()).unwrap();
    assert_eq!(found().handler, "package.json:start");
    assert!(found().hints[0].contains("output: 'standalone'"), "{:?}", found().hints);
    for (name, text) in [
        (".next/standalone/server.js", server),
        (".next/standalone/package.json", package),
        (".next/static/x.js", ""),
        ("public/x.png", ""),
    ] {
        write(name, text);
    }
    let alone = dir.path().join(".next/standalone");
    let built = found();
    assert_eq!((built.handler.as_str(), built.contract), ("server.js", Contract::Http));
    assert_eq!(built.files, Files::Folder(alone.clone()));
    assert_eq!(built.hints.len(), 2, "{:?}", built.hints);
    write(".next/standalone/.next/static/x.js", "");
    assert_eq!(found().hints.len(), 1);
    let by_itself = detect(&alone, &Known::default()).unwrap();
    assert_eq!((by_itself.handler.as_str(), by_itself.files), ("server.js", Files::Folder(alone)));
    write(".next/standalone/server.js", "somebody else's");
    assert_eq!(found().handler, "package.json:start");
}

#[test]
fn what_cannot_be_told_asks() {
    let error = |files: &[(&str, &str)]| format!("{:#}", folder(files).unwrap_err());
    assert!(error(&[("a.txt", "")]).contains("nothing that looks like a function"));
    assert!(error(&[("a.py", ""), ("b.py", "")]).contains("--handler"));
    assert!(error(&[("a.py", "x = 1")]).contains("no function called handler"));
    assert!(error(&[("a.wasm", ""), ("b.wasm", "")]).contains("more than one .wasm"));
}

#[test]
fn single_files() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| {
        fs::write(dir.path().join(name), text).unwrap();
        detect(&dir.path().join(name), &Known::default())
    };
    let elf = write("tool", b"\x7fELF\x02").unwrap();
    assert_eq!(elf.family, Family::Provided);
    assert!(matches!(elf.files, Files::One { ref name, executable: true, .. } if name == "bootstrap"));
    assert_eq!(write("run.sh", b"#!/bin/sh\n").unwrap().family, Family::Provided);
    assert_eq!(write("m.wasm", b"\0asm").unwrap().handler, "m.wasm");
    assert!(write("notes.txt", b"hello").is_err());
    assert!(write("code.zip", b"PK").unwrap_err().to_string().contains("--runtime"));
}

#[test]
fn flags_decide() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.py"), "def run(e, c): pass").unwrap();
    fs::write(dir.path().join("b.js"), "exports.handler = 1").unwrap();
    let known = Known { family: Some(Family::Python), handler: Some("a.run".to_owned()), contract: None };
    let found = detect(dir.path(), &known).unwrap();
    assert_eq!((found.family, found.handler.as_str()), (Family::Python, "a.run"));
    fs::write(dir.path().join("c.rb"), "").unwrap();
    let of_a_class = Some("c.A::B.run".to_owned());
    let ruby = Known { family: Some(Family::Ruby), handler: of_a_class, contract: None };
    assert_eq!(detect(dir.path(), &ruby).unwrap().handler, "c.A::B.run");
    let known = Known { handler: Some("nowhere.run".to_owned()), ..known };
    assert!(detect(dir.path(), &known).unwrap_err().to_string().contains("no such file"));
    let known = Known { contract: Some(Contract::Http), ..Known::default() };
    assert_eq!(detect(&dir.path().join("a.py"), &known).unwrap().handler, "a.py");
}

#[test]
fn missing_packages_are_hinted_at() {
    let found =
        folder(&[("package.json", r#"{"dependencies": {"x": "1"}}"#), ("index.js", "exports.handler = 1")]);
    assert!(found.unwrap().hints[0].contains("npm --prefix"));
    let found = folder(&[("requirements.txt", "flask\n"), ("app.py", "app = Flask(")]).unwrap();
    assert!(found.hints[0].contains("pip install -t"));
    let found = folder(&[("composer.json", r#"{"require": {}}"#), ("index.php", "")]).unwrap();
    assert!(found.hints[0].contains("composer install -d"));
    let found = folder(&[("Gemfile", "gem 'sinatra'"), ("config.ru", "")]).unwrap();
    assert!(found.hints[0].contains("bundle install --gemfile"), "{:?}", found.hints);
    let found = folder(&[("requirements.txt", "# none\n"), ("app.py", "app = Flask(")]).unwrap();
    assert!(found.hints.is_empty());
}

#[test]
fn names_are_what_lambda_allows() {
    let dir = tempfile::tempdir().unwrap();
    let name = |path: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(&path).unwrap();
        name_of(&path).ok()
    };
    assert_eq!(name("hello-python").as_deref(), Some("hello-python"));
    assert_eq!(name("my.app v2").as_deref(), Some("my-app-v2"));
    assert_eq!(name("日本"), None);
    std::os::unix::fs::symlink("hello-python", dir.path().join("other")).unwrap();
    assert_eq!(name_of(&dir.path().join("other")).unwrap(), "other");
    assert_eq!(name_of(&dir.path().join("other/..")).ok(), name_of(dir.path()).ok());
}
