"""Static sites: a folder of pages, deployed and answered without any code."""

import json
import os
import time

import pytest
import requests
from support import kinds
from support.web import Wire


@pytest.fixture
def site(server, tmp_path):
    """A folder with these files, deployed; what the CLI says, and the URL by path."""
    folder = tmp_path / "pages"

    def deploy(files, *arguments):
        for path, content in files.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        said = server.cli("deploy", folder, *arguments, check=0).stdout
        return said, f"{server.url}/_fn/pages/"

    yield deploy
    server.cli("delete", "pages")


def test_a_folder_of_pages_is_a_site(site):
    big = os.urandom(3_000_000)
    files = {"index.html": "<h1>root</h1>", "app.js": "document.title = 1", "docs/index.html": "docs",
             "404.html": "lost", ".env": "secret", "big.bin": big}  # fmt: skip
    said, url = site(files)
    assert "a static site" in said
    page = requests.get(url, timeout=30)
    assert (page.text, page.headers["Content-Type"]) == ("<h1>root</h1>", "text/html; charset=utf-8")
    # A folder without its slash: the redirection holds under the path that the site does not see.
    docs = requests.get(f"{url}docs", timeout=30)
    assert (docs.text, docs.url) == ("docs", f"{url}docs/")
    assert requests.get(f"{url}big.bin", timeout=30).content == big
    part = requests.get(f"{url}big.bin", headers={"Range": "bytes=1000000-1000009"}, timeout=30)
    assert (part.status_code, part.content) == (206, big[1_000_000:1_000_010])
    for hidden in (".env", "%2eenv"):
        answer = requests.get(f"{url}{hidden}", timeout=30)
        assert (answer.status_code, answer.text) == (404, "lost")
    head = requests.head(url, timeout=30)
    assert (head.status_code, head.headers["Content-Length"], head.text) == (200, "13", "")
    assert requests.post(url, data="x", timeout=30).status_code == 405


def test_a_slow_client_gets_all_of_a_large_file(site):
    _, url = site({"index.html": "", "large.bin": bytes(100 << 20)})
    with Wire(f"{url}large.bin") as wire:
        wire.begin("GET")
        status, headers = wire.head()
        assert (status, headers["content-length"]) == (200, str(100 << 20))
        # Longer than the time-out that functions have by default: what is slow here is the client.
        time.sleep(4)
        left = (100 << 20) - len(wire.buffer)
        while left and (more := wire.socket.recv(1 << 20)):
            left -= len(more)
        assert left == 0


def test_a_download_goes_on_with_the_same_file_only(site):
    _, url = site({"index.html": "0123456789"})
    tag = requests.get(url, timeout=30).headers["ETag"]
    rest = {"Range": "bytes=5-", "If-Range": tag}
    part = requests.get(url, headers=rest, timeout=30)
    assert (part.status_code, part.text) == (206, "56789")
    site({"index.html": "abcdefghij"})
    whole = requests.get(url, headers=rest, timeout=30)
    assert (whole.status_code, whole.text) == (200, "abcdefghij")


def test_a_deployment_is_seen_at_once(site):
    _, url = site({"index.html": "one"})
    first = requests.get(url, timeout=30)
    kept = {"If-None-Match": first.headers["ETag"], "If-Modified-Since": first.headers["Last-Modified"]}
    assert requests.get(url, headers=kept, timeout=30).status_code == 304
    # As long as the first, within the same second.
    site({"index.html": "two"})
    again = requests.get(url, headers=kept, timeout=30)
    assert (again.status_code, again.text) == (200, "two")


def test_a_folder_of_the_package_is_the_site(site, server):
    said, url = site({"index.html": "sources", "dist/index.html": "built"}, "--handler", "dist")
    assert "a static site" in said
    assert requests.get(url, timeout=30).text == "built"
    assert requests.get(f"{url}../index.html", timeout=30).text != "sources"
    shown = json.loads(server.cli("show", "pages", "--json", check=0).stdout)
    assert "static" in json.dumps(shown)


def test_through_the_api(server, functions):
    name = functions.deploy({"index.html": "page"}, "static", ".", url=True)
    assert requests.get(functions.path(name, ""), timeout=30).text == "page"
    # An event is a POST to what speaks HTTP, and a site is only read.
    assert functions.invoke(name, {}).failed("Http.Status")


def test_bad_settings_are_refused(functions):
    for handler, tags, said in (
        ("nothing", {}, "no folder nothing"),
        ("../..", {}, "no folder"),
        (".", {"virga:contract": "lambda"}, "the runtime static has the contract http"),
        (".", {"virga:isolation": "wasm"}, "no isolation"),
    ):
        with pytest.raises(functions.api.exceptions.ClientError) as refused:
            functions.deploy({"index.html": "page"}, "static", handler, tags=tags)
        assert said in str(refused.value)


def test_the_sample(server):
    server.cli("deploy", kinds.REPOSITORY / "examples" / "static-site", check=0)
    url = f"{server.url}/_fn/static-site/"
    assert "Another page" in requests.get(url, timeout=30).text
    assert "<h1>About</h1>" in requests.get(f"{url}about", timeout=30).text
    assert requests.get(f"{url}css/site.css", timeout=30).headers["Content-Type"] == "text/css; charset=utf-8"
    lost = requests.get(f"{url}nothing", timeout=30)
    assert (lost.status_code, "Not found" in lost.text) == (404, True)
    server.cli("delete", "static-site")
