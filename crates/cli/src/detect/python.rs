//! Python: event handlers, scripts that serve, and applications of web frameworks that are served.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::{Detected, Family, Known, begins_a_line, entry, first_of, names, only, read};
use crate::package::Files;

/// Names that are usual for what is started; Django has its application in a folder named after the project.
pub(super) fn entry_file(path: &Path, names: &[String]) -> Option<String> {
    let django = names.iter().any(|name| name == "manage.py");
    let django = || {
        let files = names.iter().map(|name| format!("{name}/wsgi.py"));
        django.then(|| files.into_iter().find(|name| path.join(name).is_file())).flatten()
    };
    let nested = || {
        let files = ["app/main.py", "app/__init__.py", "src/main.py"];
        files.into_iter().find(|name| path.join(name).is_file()).map(str::to_owned)
    };
    first_of(names, &["handler.py", "lambda_function.py"])
        .or_else(django)
        .or_else(|| first_of(names, &["app.py", "main.py", "index.py", "server.py", "wsgi.py", "asgi.py"]))
        .or_else(nested)
        .or_else(|| only(names, &[".py"]))
}

/// What makes a WSGI or ASGI application, as it stands in an assignment.
const APPLICATIONS: [&str; 12] = [
    "Flask(",
    "FastAPI(",
    "Starlette(",
    "Quart(",
    "Litestar(",
    "Bottle(",
    "falcon.App(",
    "falcon.asgi.App(",
    "get_wsgi_application(",
    "get_asgi_application(",
    "create_app(",
    "make_app(",
];

/// Python: a function called handler or `lambda_handler` makes an event handler; what reads PORT or runs a server
/// of its own a web server; an application of a web framework is served.
pub(super) fn detect(path: &Path, name: &str, files: Files, known: &Known) -> Result<Detected> {
    let text = read(path)?;
    let own = ["HTTPServer(", "uvicorn.run(", "waitress", "make_server(", "web.run_app(", "PORT"];
    let function = ["lambda_handler", "handler"].into_iter().find(|function| {
        [format!("def {function}("), format!("{function} =")].iter().any(|start| begins_a_line(&text, start))
    });
    let module = name.trim_end_matches(".py").trim_end_matches("/__init__").replace('/', ".");
    let application = application(&text).filter(|_| !own.iter().any(|word| text.contains(word)));
    let serves: &[&str] = if application.is_some() { &[""] } else { &own };
    let started =
        application.map_or_else(|| name.to_owned(), |application| format!("{module}:{application}"));
    let (handler, contract) =
        entry(&text, serves, known, &started, function.map(|function| format!("{module}.{function}")))?;
    let hints = hints(&files);
    Ok(Detected { family: Family::Python, handler, contract, files, hints })
}

/// The variable that holds a web framework's application, or the call that makes it.
fn application(text: &str) -> Option<&str> {
    let factory = ["create_app()", "make_app()"]
        .into_iter()
        .find(|call| begins_a_line(text, &format!("def {}", call.trim_end_matches(')'))));
    let assigned = text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        let (name, _) = name.split_once(':').unwrap_or((name, ""));
        let (name, value) = (name.trim_end(), value.trim_start());
        let legal = |c: char| c.is_alphanumeric() || c == '_';
        let made = APPLICATIONS.iter().any(|call| {
            let Some(at) = value.find(call) else { return false };
            value[..at].chars().all(|c| legal(c) || c == '.')
        });
        (made && !name.is_empty() && name.chars().all(legal)).then_some(name)
    });
    assigned.or(factory)
}

fn hints(files: &Files) -> Vec<String> {
    let Files::Folder(root) = files else { return Vec::new() };
    let required = fs::read_to_string(root.join("requirements.txt")).unwrap_or_default();
    let wanted = required.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    let installed = names(root).unwrap_or_default().iter().any(|name| name.ends_with(".dist-info"));
    if !wanted || installed {
        return Vec::new();
    }
    let root = root.display();
    vec![format!("requirements.txt is not installed here: pip install -t {root} -r {root}/requirements.txt")]
}
