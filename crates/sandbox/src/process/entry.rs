//! What an artifact is started with: the program and its arguments, by runtime, contract and handler.
//!
//! Only what can be said without running user code is checked. A handler that names no module, or no
//! function in it, is no error here: Lambda takes such a function and reports it when it initialises.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use super::clients;
use super::image_entry;
use super::interpreters::Interpreter;
use crate::{Artifact, Contract, Error, Runtime};

/// Where the code is inside.
pub(crate) const TASK: &str = "/var/task";
/// Where layers are inside.
pub(crate) const LAYERS: &str = "/opt";

/// The program (absolute, inside) and its arguments. `interpreter` is there for managed runtimes; `memory_bytes` is
/// the function's memory.
pub(crate) fn command(
    artifact: &Artifact,
    interpreter: Option<&Interpreter>,
    memory_bytes: u64,
) -> Result<Vec<String>, Error> {
    let interpreter = interpreter.map(|interpreter| interpreter.executable.to_string_lossy().into_owned());
    let argv = match (&artifact.runtime, artifact.contract, interpreter) {
        (Runtime::Wasm, ..) | (_, Contract::Wasi, _) => {
            return Err(Error::Invalid("a WebAssembly function does not run as a process".to_owned()));
        }
        (Runtime::Static, ..) => {
            return Err(Error::Invalid("a static site does not run as a process".to_owned()));
        }
        (Runtime::Image, ..) => match &artifact.image {
            Some(image) => image_entry::command(&artifact.dir, image)?,
            None => return Err(Error::Invalid("there is no image".to_owned())),
        },
        (Runtime::Provided { .. }, Contract::Lambda, _) => vec![bootstrap(artifact)],
        (Runtime::Provided { .. }, Contract::Http, _) => vec![program(artifact)?],
        (runtime, Contract::Lambda, Some(interpreter)) => with_client(runtime, interpreter, memory_bytes)?,
        (Runtime::Python { .. }, Contract::Http, Some(python)) => python_server(artifact, python)?,
        (Runtime::Node { .. }, Contract::Http, Some(node)) => node_server(artifact, node)?,
        (Runtime::Php { .. }, Contract::Http, Some(php)) => php_server(artifact, php)?,
        (Runtime::Ruby { .. }, Contract::Http, Some(ruby)) => ruby_server(artifact, ruby)?,
        (Runtime::Java { .. }, Contract::Http, Some(java)) => java_server(artifact, java, memory_bytes)?,
        (runtime, _, None) => return Err(Error::Invalid(format!("{runtime} is not on this host"))),
    };
    Ok(argv)
}

/// A custom runtime's program: the package's, or a layer's where the package has none.
fn bootstrap(artifact: &Artifact) -> String {
    let has = |folder: &Path| folder.join("bootstrap").symlink_metadata().is_ok();
    let layered = !has(&artifact.dir) && artifact.layers.as_deref().is_some_and(has);
    format!("{}/bootstrap", if layered { LAYERS } else { TASK })
}

/// The interpreter with Virga's client.
fn with_client(runtime: &Runtime, interpreter: String, memory_bytes: u64) -> Result<Vec<String>, Error> {
    let description = clients::described(runtime)
        .ok_or_else(|| Error::Invalid(format!("{runtime} has no runtime client")))?;
    Ok([interpreter].into_iter().chain(description.arguments(description.start, memory_bytes)).collect())
}

fn python_server(artifact: &Artifact, python: String) -> Result<Vec<String>, Error> {
    let handler = file_name(artifact);
    if let Some((module, _)) = handler.split_once(':') {
        application(artifact, module)?;
        let client = ["-s", "-X", "utf8", clients::PYTHON_WEB, handler];
        return Ok([python].into_iter().chain(client.map(str::to_owned)).collect());
    }
    if handler.ends_with(".py") {
        return Ok(vec![python, inside(&regular(artifact)?)]);
    }
    if has_module(artifact, handler, "__main__.py")
        && !resolve(&artifact.dir, handler).is_ok_and(|file| file.is_file())
    {
        return Ok(vec![python, "-m".to_owned(), handler.to_owned()]);
    }
    Ok(vec![program(artifact)?])
}

/// A handler like `main:app` names a WSGI or ASGI application in the way of Python's application servers.
fn application(artifact: &Artifact, module: &str) -> Result<(), Error> {
    if has_module(artifact, module, "__init__.py") {
        return Ok(());
    }
    let handler = &artifact.handler;
    Err(Error::Invalid(format!(
        "{handler} names an application of a module {module} that the package has not"
    )))
}

/// Whether the package holds a Python module of this dotted name, or a package of it with this file.
fn has_module(artifact: &Artifact, name: &str, file: &str) -> bool {
    let path = name.replace('.', "/");
    let found = |path: String| resolve(&artifact.dir, &path).is_ok_and(|file| file.is_file());
    !path.contains("//") && (found(format!("{path}.py")) || found(format!("{path}/{file}")))
}

fn node_server(artifact: &Artifact, node: String) -> Result<Vec<String>, Error> {
    if let Some(script) = artifact.handler.strip_prefix("package.json:") {
        return npm_script(artifact, script);
    }
    let script = [".js", ".mjs", ".cjs"].iter().any(|end| file_name(artifact).ends_with(end));
    if script { Ok(vec![node, inside(&regular(artifact)?)]) } else { Ok(vec![program(artifact)?]) }
}

/// A handler like `package.json:start` names one of npm's scripts. It is run as npm would, but without npm: by the
/// shell, with the packages' programs first on the path, and without `pre` and `post` scripts.
fn npm_script(artifact: &Artifact, script: &str) -> Result<Vec<String>, Error> {
    let path = resolve(&artifact.dir, "package.json")
        .map_err(|_| Error::Invalid("the package has no package.json at its top".to_owned()))?;
    let text = std::fs::read(path).map_err(Error::host("reading package.json"))?;
    let package: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|error| Error::Invalid(format!("package.json is not JSON: {error}")))?;
    let line = package["scripts"][script]
        .as_str()
        .ok_or_else(|| Error::Invalid(format!("package.json has no script called {script}")))?;
    let shell = format!("PATH={TASK}/node_modules/.bin:$PATH; export PATH; {line}");
    Ok(["/bin/sh".to_owned(), "-c".to_owned(), shell].into())
}

/// A front controller under PHP's own server, a folder that it serves, or a program.
fn php_server(artifact: &Artifact, php: String) -> Result<Vec<String>, Error> {
    if file_name(artifact).ends_with(".php") {
        return Ok(vec![php, clients::PHP_SERVER.to_owned(), inside(&regular(artifact)?)]);
    }
    Ok(vec![program(artifact)?])
}

/// A script that listens, a Rack application, or a program.
fn ruby_server(artifact: &Artifact, ruby: String) -> Result<Vec<String>, Error> {
    let name = file_name(artifact);
    if name.ends_with(".ru") {
        return Ok(vec![ruby, clients::RUBY_SERVER.to_owned(), inside(&regular(artifact)?)]);
    }
    if name.ends_with(".rb") {
        Ok(vec![ruby, inside(&regular(artifact)?)])
    } else {
        Ok(vec![program(artifact)?])
    }
}

/// A jar with a main class, a main class of the package's, or a program.
fn java_server(artifact: &Artifact, java: String, memory_bytes: u64) -> Result<Vec<String>, Error> {
    let name = file_name(artifact);
    let rest = if name.ends_with(".jar") {
        ["-jar".to_owned(), inside(&regular(artifact)?)]
    } else if resolve(&artifact.dir, name).is_ok_and(|file| file.is_file()) {
        return Ok(vec![program(artifact)?]);
    } else if artifact.handler.contains("::") {
        return Err(Error::Invalid(format!(
            "{name} names a method: a web server's handler is a jar or a main class"
        )));
    } else {
        // It may be in any of the jars: Java itself says if it is in none.
        let path = format!("{TASK}:{TASK}/lib/*:/opt/java/lib/*");
        return Ok(java_command(java, memory_bytes, &["-cp".to_owned(), path, name.to_owned()]));
    };
    Ok(java_command(java, memory_bytes, &rest))
}

fn java_command(java: String, memory_bytes: u64, rest: &[String]) -> Vec<String> {
    let usual = clients::JAVA_SERVER.map(str::to_owned);
    [java, clients::java_heap(memory_bytes)].into_iter().chain(usual).chain(rest.iter().cloned()).collect()
}

/// Whether the package may hold shared libraries where the loader looks first as the interpreter starts. One that
/// cannot be read is left to the plain way too.
pub(crate) fn brings_libraries(dir: &Path) -> bool {
    holds_libraries(dir) || dir.join("lib").symlink_metadata().is_ok() && holds_libraries(&dir.join("lib"))
}

fn holds_libraries(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return true };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.ends_with(".so") || name.contains(".so.") || name == "glibc-hwcaps"
    })
}

/// A web server's handler names its file.
fn file_name(artifact: &Artifact) -> &str {
    if artifact.handler.is_empty() { "bootstrap" } else { &artifact.handler }
}

/// An executable file of the package, as it is seen inside.
fn program(artifact: &Artifact) -> Result<String, Error> {
    let path = regular(artifact)?;
    let mode = path_mode(&artifact.dir.join(&path))?;
    if mode & 0o111 == 0 {
        let name = path.display();
        return Err(Error::Invalid(format!(
            "{name} is not executable: set its mode before packing (chmod +x)"
        )));
    }
    Ok(inside(&path))
}

/// The handler's file, relative to the package.
fn regular(artifact: &Artifact) -> Result<PathBuf, Error> {
    let name = file_name(artifact);
    let file = resolve(&artifact.dir, name).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::Invalid(format!("the package has no file {name} to start")),
        io::ErrorKind::InvalidInput => Error::Invalid(format!("{name} does not name a file of the package")),
        _ => Error::host(format!("looking at {name}"))(error),
    })?;
    if !file.is_file() {
        return Err(Error::Invalid(format!("{name} is not a regular file")));
    }
    Ok(Path::new(name).components().filter(|part| matches!(part, Component::Normal(_))).collect())
}

/// The real path of a file of the package; `InvalidInput` when it is not inside the package.
fn resolve(dir: &Path, name: &str) -> io::Result<PathBuf> {
    let plain =
        Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain || name.contains('\0') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let real = dir.join(name).canonicalize()?;
    if real.starts_with(dir.canonicalize()?) { Ok(real) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

fn path_mode(path: &Path) -> Result<u32, Error> {
    let metadata = path.metadata().map_err(Error::host(format!("looking at {}", path.display())))?;
    Ok(metadata.permissions().mode())
}

fn inside(path: &Path) -> String {
    format!("{TASK}/{}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interpreter(runtime: &Runtime) -> Option<Interpreter> {
        let executable = match runtime {
            Runtime::Python { .. } => "/usr/bin/python3.11",
            Runtime::Node { .. } => "/usr/bin/node",
            Runtime::Java { .. } => "/jvm/bin/java",
            _ => return None,
        };
        Some(Interpreter {
            runtime: runtime.clone(),
            version: String::new(),
            executable: executable.into(),
            prefix: "/usr".into(),
            library_dir: None,
        })
    }

    fn argv(
        runtime: &str,
        contract: Contract,
        handler: &str,
        files: &[(&str, u32)],
    ) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, mode) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode)).unwrap();
        }
        std::os::unix::fs::symlink("/bin/sh", dir.path().join("link")).unwrap();
        let runtime = Runtime::parse(runtime).unwrap();
        let artifact = Artifact {
            dir: dir.path().to_owned(),
            digest: String::new(),
            runtime: runtime.clone(),
            contract,
            handler: handler.to_owned(),
            layers: None,
            image: None,
        };
        let argv = command(&artifact, interpreter(&runtime).as_ref(), 256 << 20);
        argv.map(|argv| argv.join(" ")).map_err(|error| error.to_string())
    }

    #[test]
    fn event_handlers_are_not_looked_at() {
        let lambda = |runtime, handler| argv(runtime, Contract::Lambda, handler, &[]).unwrap();
        assert_eq!(
            lambda("python3.11", "no.such"),
            "/usr/bin/python3.11 -s -X utf8 /var/runtime/python/bootstrap.py"
        );
        assert_eq!(lambda("nodejs20.x", "none"), "/usr/bin/node /var/runtime/node/bootstrap.cjs");
        assert_eq!(
            lambda("java17", "none"),
            "/jvm/bin/java -XX:MaxRAM=196608k -XX:Flags=/var/runtime/java/handler.flags -Dfile.encoding=UTF-8 -Dstdout.encoding=UTF-8 -Dstderr.encoding=UTF-8 -Duser.dir=/var/task -jar /var/runtime/java/client.jar"
        );
        assert_eq!(lambda("provided.al2023", "any"), "/var/task/bootstrap");
    }

    #[test]
    fn a_runtime_may_be_a_layers() {
        let (package, layers) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let program = || {
            let artifact = Artifact {
                dir: package.path().to_owned(),
                digest: String::new(),
                runtime: Runtime::Provided { name: "provided.al2023" },
                contract: Contract::Lambda,
                handler: String::new(),
                layers: Some(layers.path().to_owned()),
                image: None,
            };
            command(&artifact, None, 0).unwrap()
        };
        assert_eq!(program(), ["/var/task/bootstrap"], "what is missing is missing there");
        std::fs::write(layers.path().join("bootstrap"), "").unwrap();
        assert_eq!(program(), ["/opt/bootstrap"]);
        std::fs::write(package.path().join("bootstrap"), "").unwrap();
        assert_eq!(program(), ["/var/task/bootstrap"], "the package's own wins");
    }

    #[test]
    fn libraries_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("index.js"), "").unwrap();
        std::fs::write(dir.path().join("also.json"), "").unwrap();
        assert!(!brings_libraries(dir.path()));
        std::fs::write(dir.path().join("libstdc++.so.6"), "").unwrap();
        assert!(brings_libraries(dir.path()));
        assert!(brings_libraries(&dir.path().join("absent")));
        let jars = tempfile::tempdir().unwrap();
        std::fs::create_dir(jars.path().join("lib")).unwrap();
        std::fs::write(jars.path().join("lib/x.jar"), "").unwrap();
        assert!(!brings_libraries(jars.path()));
        std::fs::write(jars.path().join("lib/libx.so.1"), "").unwrap();
        assert!(brings_libraries(jars.path()));
    }

    #[test]
    fn web_servers() {
        let http = |runtime, handler, files: &[_]| argv(runtime, Contract::Http, handler, files);
        let java_server =
            |rest| format!("/jvm/bin/java -XX:MaxRAM=196608k {} {rest}", clients::JAVA_SERVER.join(" "));
        for (runtime, handler, file, mode, expected) in [
            ("python3.11", "app.py", "app.py", 0o644, "/usr/bin/python3.11 /var/task/app.py"),
            ("python3.11", "./src/app.py", "src/app.py", 0o644, "/usr/bin/python3.11 /var/task/src/app.py"),
            ("python3.11", "site.app", "site/app.py", 0o644, "/usr/bin/python3.11 -m site.app"),
            ("python3.11", "web", "web/__main__.py", 0o644, "/usr/bin/python3.11 -m web"),
            (
                "python3.11",
                "main:app",
                "main.py",
                0o644,
                "/usr/bin/python3.11 -s -X utf8 /var/runtime/python/web.py main:app",
            ),
            (
                "python3.11",
                "my.site:make.app",
                "my/site/__init__.py",
                0o644,
                "/usr/bin/python3.11 -s -X utf8 /var/runtime/python/web.py my.site:make.app",
            ),
            ("python3.11", "run.sh", "run.sh", 0o755, "/var/task/run.sh"),
            ("python3.11", "", "bootstrap", 0o755, "/var/task/bootstrap"),
            ("nodejs20.x", "server.mjs", "server.mjs", 0o644, "/usr/bin/node /var/task/server.mjs"),
            ("nodejs20.x", "", "bootstrap", 0o755, "/var/task/bootstrap"),
            ("java17", "app.jar", "app.jar", 0o644, &java_server("-jar /var/task/app.jar")),
            (
                "java17",
                "web.Main",
                "web/Main.class",
                0o644,
                &java_server("-cp /var/task:/var/task/lib/*:/opt/java/lib/* web.Main"),
            ),
            ("java17", "run.sh", "run.sh", 0o755, "/var/task/run.sh"),
            ("provided.al2023", "", "bootstrap", 0o755, "/var/task/bootstrap"),
            ("provided.al2023", "bin/web", "bin/web", 0o755, "/var/task/bin/web"),
        ] {
            assert_eq!(http(runtime, handler, &[(file, mode)]).as_deref(), Ok(expected), "{handler}");
        }
    }

    #[test]
    fn web_servers_that_cannot_start() {
        let http =
            |handler, files: &[_]| argv("provided.al2023", Contract::Http, handler, files).unwrap_err();
        assert_eq!(http("", &[]), "the package has no file bootstrap to start");
        assert!(http("web", &[("web", 0o644)]).contains("is not executable"));
        assert_eq!(http("bin", &[("bin/web", 0o755)]), "bin is not a regular file");
        for outside in ["../web", "/bin/sh", "link"] {
            assert_eq!(http(outside, &[]), format!("{outside} does not name a file of the package"));
        }
        let node = argv("nodejs20.x", Contract::Http, "server.js", &[]).unwrap_err();
        assert_eq!(node, "the package has no file server.js to start");
        let python = argv("python3.11", Contract::Http, "web:app", &[("app.py", 0o644)]).unwrap_err();
        assert_eq!(python, "web:app names an application of a module web that the package has not");
        for outside in ["..x:app", "/etc/x:app", ".:app", ":app"] {
            assert!(argv("python3.11", Contract::Http, outside, &[]).is_err(), "{outside}");
        }
    }

    #[test]
    fn npm_scripts() {
        let dir = tempfile::tempdir().unwrap();
        let artifact = |handler: &str| Artifact {
            dir: dir.path().to_owned(),
            digest: String::new(),
            runtime: Runtime::Node { major: 20 },
            contract: Contract::Http,
            handler: handler.to_owned(),
            layers: None,
            image: None,
        };
        let argv = |handler: &str| node_server(&artifact(handler), "/usr/bin/node".to_owned());
        assert!(argv("package.json:start").unwrap_err().to_string().contains("no package.json"));
        std::fs::write(dir.path().join("package.json"), r#"{"scripts": {"start": "next start"}}"#).unwrap();
        let shell = "PATH=/var/task/node_modules/.bin:$PATH; export PATH; next start";
        assert_eq!(argv("package.json:start").unwrap(), ["/bin/sh", "-c", shell]);
        assert!(argv("package.json:serve").unwrap_err().to_string().contains("no script called serve"));
        std::fs::write(dir.path().join("package.json"), "{").unwrap();
        assert!(argv("package.json:start").unwrap_err().to_string().contains("not JSON"));
    }
}
