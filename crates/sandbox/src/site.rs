//! Static sites: no code runs, the server itself answers with the files of the package.
//!
//! What a web host of the field does: `index.html` for a folder, `/about` for `about.html`, ranges, entity tags,
//! `.br`, `.zst` and `.gz` files beside a file for clients that take them, `404.html` where there is nothing, or `200.html`, which
//! answers every page of an application that has its routes in the browser. Names that begin with a dot are not shown,
//! but for `/.well-known`. The reading is tower-http's; a package holds no link out of itself.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Request, Response, StatusCode};
use tokio::sync::watch;
use tower_http::services::{ServeDir, ServeFile};

use crate::{
    Artifact, Backend, Body, Call, Contract, Error, Exit, Fault, Instance, Isolation, Output, Payload,
    Prepared, Runtime, Speaks, Spec, StartError,
};

/// Answers what no file does, and with which status.
const FALLBACKS: [(&str, StatusCode); 2] =
    [("200.html", StatusCode::OK), ("404.html", StatusCode::NOT_FOUND)];
/// A copy may be kept, and is asked for anew each time: the next deployment is seen at once.
const FRESH: HeaderValue = HeaderValue::from_static("public, max-age=0, must-revalidate");

/// Serves static sites. Holds nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct SiteBackend;

impl Backend for SiteBackend {
    fn isolation(&self) -> Isolation {
        Isolation::Static
    }

    fn prepare<'a>(&'a self, artifact: &'a Artifact) -> BoxFuture<'a, Result<Prepared, Error>> {
        async move {
            root(artifact)?;
            Ok(Prepared { speaks: Speaks::Http, one_at_a_time: false })
        }
        .boxed()
    }

    fn start(&self, spec: Arc<Spec>) -> BoxFuture<'_, Result<Arc<dyn Instance>, StartError>> {
        async move {
            let site = Site { files: Files::new(&root(&spec.artifact)?), over: watch::Sender::new(false) };
            Ok(Arc::new(site) as Arc<dyn Instance>)
        }
        .boxed()
    }
}

/// The folder that is served: the package, or the one in it that `Handler` names.
fn root(artifact: &Artifact) -> Result<PathBuf, Error> {
    if (&artifact.runtime, artifact.contract) != (&Runtime::Static, Contract::Http) {
        return Err(Error::Invalid(format!("{} is not served as a static site", artifact.runtime)));
    }
    let folder = Path::new(&artifact.handler);
    let inside = folder.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let root = artifact.dir.join(folder);
    if !inside || !root.is_dir() {
        return Err(Error::Invalid(format!(
            "the package has no folder {}: Handler names the folder of a static site, . is the whole package",
            artifact.handler
        )));
    }
    Ok(root)
}

/// A site being served.
struct Site {
    files: Files,
    over: watch::Sender<bool>,
}

impl Instance for Site {
    fn invoke(&self, call: Call) -> BoxFuture<'_, Result<Output, Fault>> {
        async {
            match call.payload {
                Payload::Http(request) => self.files.answer(*request).await.map(Output::Http),
                Payload::Event(_) => {
                    Err(Fault::BadAnswer("a static site answers requests, not events".into()))
                }
            }
        }
        .boxed()
    }

    fn exited(&self) -> BoxFuture<'_, Exit> {
        let mut over = self.over.subscribe();
        async move {
            // A sender that is gone is as good as one that says so.
            let _ = over.wait_for(|over| *over).await;
            Exit::Stopped
        }
        .boxed()
    }

    fn peak_memory(&self) -> u64 {
        0
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        self.over.send_replace(true);
        std::future::ready(()).boxed()
    }
}

/// The files of a site.
struct Files {
    there: ServeDir,
    fallback: Option<(ServeFile, StatusCode)>,
}

impl Files {
    fn new(root: &Path) -> Self {
        let there = ServeDir::new(root)
            .html_as_default_extension(true)
            .ignore_multi_range_requests(true)
            .precompressed_br()
            .precompressed_zstd()
            .precompressed_gzip();
        let fallback = FALLBACKS.iter().find(|(name, _)| root.join(name).is_file());
        let fallback = fallback.map(|(name, status)| (ServeFile::new(root.join(name)), *status));
        Self { there, fallback }
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<Body>, Fault> {
        let mut there = self.there.clone();
        let path = request.uri().path().to_owned();
        // The body of a request for a file has no meaning.
        let mut request = request.map(|_| http_body_util::Empty::<bytes::Bytes>::new());
        let mut found = if is_hidden(&path) { None } else { Some(there.try_call(request.clone()).await) };
        if let (Some(Ok(part)), Some(of)) = (&found, request.headers().get(IF_RANGE))
            && !is_of(part, of)
        {
            request.headers_mut().remove(RANGE);
            found = Some(there.try_call(request.clone()).await);
        }
        let mut response = match found {
            Some(Err(error)) if !is_absent(&error) => {
                return Err(unreadable(&error));
            }
            Some(Ok(response)) if response.status() != StatusCode::NOT_FOUND => response.map(Body::boxed),
            _ if !matches!(*request.method(), Method::GET | Method::HEAD) => refused(),
            _ => match self.fallback.clone() {
                None => plain(StatusCode::NOT_FOUND, "404 Not Found\n"),
                Some((mut page, status)) => {
                    // The page is what it is, whatever the client knows of the address.
                    request.headers_mut().clear();
                    let page = page.try_call(request).await.map_err(|error| unreadable(&error))?;
                    let mut page = page.map(Body::boxed);
                    *page.status_mut() = status;
                    page
                }
            },
        };
        if response.status().is_redirection() && response.status() != StatusCode::NOT_MODIFIED {
            relocate(&mut response, &path);
        }
        let headers = response.headers_mut();
        headers.entry(CACHE_CONTROL).or_insert(FRESH);
        name_charset(headers);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Ok(response)
    }
}

/// Whether this is of the file that the client has a part of, going by what it was told with that (RFC 9110 §13.1.5). Of
/// another one, such as that of the next deployment, it needs the whole.
fn is_of<B>(part: &Response<B>, of: &HeaderValue) -> bool {
    [ETAG, LAST_MODIFIED].iter().any(|name| part.headers().get(name) == Some(of))
}

/// Text is UTF-8, which a page without a word about it would not be taken for.
fn name_charset(headers: &mut http::HeaderMap) {
    let Some(kind) = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) else { return };
    if kind.starts_with("text/")
        && !kind.contains(';')
        && let Ok(kind) = HeaderValue::from_str(&format!("{kind}; charset=utf-8"))
    {
        headers.insert(CONTENT_TYPE, kind);
    }
}

/// Whether there is no such file, whatever in its name says so.
fn is_absent(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidFilename, IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | IsADirectory | InvalidFilename)
}

/// Whether a segment begins with a dot, as written or percent-encoded, other than `.well-known` at the root (RFC 8615).
fn is_hidden(path: &str) -> bool {
    let dotted = |segment: &&str| segment.starts_with('.') || segment.to_ascii_lowercase().starts_with("%2e");
    let rest = path.strip_prefix("/.well-known/").unwrap_or(path);
    // A slash that is encoded divides nothing in an address, but it does in a file's name.
    let rest = rest.replace("%2f", "/").replace("%2F", "/");
    rest.split('/').any(|segment| dotted(&segment))
}

/// A folder's address ends with a slash: said relative to the address that was asked for, since the site may be reached
/// under a prefix that it does not see.
fn relocate(response: &mut Response<Body>, path: &str) {
    let Some(query) = response.headers().get(LOCATION).and_then(|to| to.to_str().ok()) else { return };
    let query = query.split_once('?').map(|(_, query)| format!("?{query}")).unwrap_or_default();
    let last = path.rsplit('/').next().unwrap_or_default();
    if let Ok(to) = HeaderValue::from_str(&format!("./{last}/{query}")) {
        response.headers_mut().insert(LOCATION, to);
    }
}

fn refused() -> Response<Body> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "405 Method Not Allowed\n");
    response.headers_mut().insert(http::header::ALLOW, HeaderValue::from_static("GET,HEAD"));
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    const KIND: (HeaderName, HeaderValue) =
        (http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(KIND.0, KIND.1);
    response
}

fn unreadable(error: &std::io::Error) -> Fault {
    tracing::error!(%error, "a file of a static site cannot be read");
    Fault::BadAnswer("the file cannot be read".into())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    const FILES: [(&str, &str); 9] = [
        ("index.html", "root"),
        ("about.html", "about"),
        ("app.js", "0123456789"),
        ("app.js.gz", "packed"),
        ("docs/index.html", "docs"),
        (".env", "secret"),
        (".git/config", "secret"),
        (".well-known/security.txt", "contact"),
        ("a b/ü.txt", "umlaut"),
    ];

    fn site(more: &[(&str, &str)]) -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in FILES.iter().chain(more) {
            let path = dir.path().join("www").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        std::fs::write(dir.path().join("outside.html"), "outside").unwrap();
        let files = Files::new(&dir.path().join("www"));
        (dir, files)
    }

    async fn get(files: &Files, path: &str, headers: &[(&str, &str)]) -> (Response<()>, String) {
        ask(files, "GET", path, headers).await
    }

    async fn ask(
        files: &Files,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (Response<()>, String) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = files.answer(request.body(Body::from("ignored")).unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        let text = body.collect().await.unwrap().to_bytes();
        (Response::from_parts(parts, ()), String::from_utf8(text.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn files_are_found() {
        let (_dir, files) = site(&[]);
        for (path, status, text, kind) in [
            ("/", 200, "root", "text/html; charset=utf-8"),
            ("/index.html?x=1", 200, "root", "text/html; charset=utf-8"),
            ("/about", 200, "about", "text/html; charset=utf-8"),
            ("/docs/", 200, "docs", "text/html; charset=utf-8"),
            ("/app.js", 200, "0123456789", "text/javascript; charset=utf-8"),
            ("/a%20b/%C3%BC.txt", 200, "umlaut", "text/plain; charset=utf-8"),
            ("/.well-known/security.txt", 200, "contact", "text/plain; charset=utf-8"),
            ("/nothing", 404, "404 Not Found\n", "text/plain; charset=utf-8"),
            ("/about.html/x", 404, "404 Not Found\n", "text/plain; charset=utf-8"),
        ] {
            let (answer, found) = get(&files, path, &[]).await;
            assert_eq!((answer.status().as_u16(), found.as_str()), (status, text), "{path}");
            assert_eq!(answer.headers()["content-type"], kind, "{path}");
            assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        }
    }

    #[tokio::test]
    async fn nothing_hidden_or_outside_is_found() {
        let (_dir, files) = site(&[]);
        for path in [
            "/.env",
            "/%2eenv",
            "/%2Eenv",
            "/.git/config",
            "/docs/../.env",
            "/docs%2f..%2f.env",
            "/docs%2F%2e%2e%2F.env",
            "/../outside.html",
            "/%2e%2e/outside.html",
            "/..%2foutside.html",
            "/%2e%2e%2foutside.html",
            "/..%5coutside.html",
            "/.well-known/../.env",
            "/.well-known/.env",
            "//.env",
            "/app.js%00.html",
        ] {
            let (answer, text) = get(&files, path, &[]).await;
            assert_eq!(answer.status(), 404, "{path}: {text}");
            assert!(!text.contains("secret") && !text.contains("outside"), "{path}");
        }
    }

    #[tokio::test]
    async fn names_that_no_file_can_have() {
        let (_dir, files) = site(&[]);
        let long = format!("/{}", "x".repeat(4000));
        assert_eq!(get(&files, &long, &[]).await.0.status(), 404);
        assert_eq!(get(&files, &"/x".repeat(4000), &[]).await.0.status(), 404);
        assert_eq!(get(&files, "/app.js/", &[]).await.0.status(), 404);
    }

    #[tokio::test]
    async fn folders_end_with_a_slash_wherever_the_site_is() {
        let (_dir, files) = site(&[]);
        let (answer, _) = get(&files, "/docs?a=b&c", &[]).await;
        assert_eq!(answer.status(), 307);
        assert_eq!(answer.headers()["location"], "./docs/?a=b&c");
    }

    #[tokio::test]
    async fn what_a_client_has_is_not_sent_again() {
        let (_dir, files) = site(&[]);
        let (answer, _) = get(&files, "/app.js", &[]).await;
        let tag = answer.headers()["etag"].to_str().unwrap();
        assert_eq!(answer.headers()["cache-control"], "public, max-age=0, must-revalidate");
        let (again, text) = get(&files, "/app.js", &[("if-none-match", tag)]).await;
        assert_eq!((again.status().as_u16(), text.as_str()), (304, ""));
        assert_eq!(again.headers()["etag"], tag);
        let (part, text) = get(&files, "/app.js", &[("range", "bytes=2-4")]).await;
        assert_eq!((part.status().as_u16(), text.as_str()), (206, "234"));
        assert_eq!(part.headers()["content-range"], "bytes 2-4/10");
        assert_eq!(get(&files, "/app.js", &[("range", "bytes=99-")]).await.0.status(), 416);
    }

    #[tokio::test]
    async fn a_part_goes_to_those_who_have_the_rest_of_the_same_file() {
        let (_dir, files) = site(&[]);
        let (answer, _) = get(&files, "/app.js", &[]).await;
        for (range, of, status, expect) in [
            ("bytes=2-4", &answer.headers()["etag"], 206, "234"),
            ("bytes=2-4", &answer.headers()["last-modified"], 206, "234"),
            ("bytes=2-4", &HeaderValue::from_static("\"another\""), 200, "0123456789"),
            ("bytes=2-4", &HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"), 200, "0123456789"),
            // The file is shorter now.
            ("bytes=99-", &HeaderValue::from_static("\"another\""), 200, "0123456789"),
        ] {
            let headers = [("range", range), ("if-range", of.to_str().unwrap())];
            let (answer, text) = get(&files, "/app.js", &headers).await;
            assert_eq!((answer.status().as_u16(), text.as_str()), (status, expect), "{range} of {of:?}");
        }
    }

    #[tokio::test]
    async fn packed_files_go_to_those_that_take_them() {
        let (_dir, files) = site(&[]);
        let (answer, text) = get(&files, "/app.js", &[("accept-encoding", "br, gzip")]).await;
        assert_eq!(
            (answer.headers()["content-encoding"].to_str().unwrap(), text.as_str()),
            ("gzip", "packed")
        );
        assert_eq!(answer.headers()["content-type"], "text/javascript; charset=utf-8");
        assert_eq!(answer.headers()["vary"], "accept-encoding");
    }

    #[tokio::test]
    async fn pages_of_their_own_for_what_is_not_there() {
        let (_dir, files) = site(&[("404.html", "lost")]);
        let (answer, text) = get(&files, "/nothing", &[("range", "bytes=0-1"), ("if-none-match", "*")]).await;
        assert_eq!((answer.status().as_u16(), text.as_str()), (404, "lost"));
        let (_dir, files) = site(&[("404.html", "lost"), ("200.html", "application")]);
        let (answer, text) = get(&files, "/some/route", &[]).await;
        assert_eq!((answer.status().as_u16(), text.as_str()), (200, "application"));
        assert_eq!(get(&files, "/.env", &[]).await.1, "application");
    }

    #[tokio::test]
    async fn only_reading() {
        let (_dir, files) = site(&[("200.html", "application")]);
        for (method, status) in [("POST", 405), ("PUT", 405), ("DELETE", 405), ("HEAD", 200)] {
            let (answer, text) = ask(&files, method, "/", &[]).await;
            assert_eq!((answer.status().as_u16(), text.contains("root")), (status, false), "{method}");
        }
        let (answer, _) = ask(&files, "POST", "/nothing", &[]).await;
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["allow"].to_str().unwrap()),
            (405, "GET,HEAD")
        );
    }

    #[test]
    fn a_site_is_a_folder_of_the_package() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("public")).unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let at = |handler: &str| {
            root(&Artifact {
                dir: dir.path().to_owned(),
                digest: String::new(),
                runtime: Runtime::Static,
                contract: Contract::Http,
                handler: handler.into(),
                layers: None,
                image: None,
            })
        };
        assert!(at("").is_ok() && at(".").is_ok() && at("public").is_ok() && at("./public").is_ok());
        for bad in ["..", "public/..", "/etc", "file", "nothing"] {
            assert_eq!(at(bad).unwrap_err().kind(), base::Kind::Invalid, "{bad}");
        }
    }
}
