"""P2: a WebAssembly function that was never called, and a fresh instance a request with nothing else under way."""

from measure import ROOT, Contest, load, request_bytes
from report import Row
from virga import address, url_request, virga

FUNCTIONS, SECONDS, RATE = 100, 3, 500


def run():
    """First calls of functions that were compiled at deploy; then one function against the gateway's own answer."""
    component = next((ROOT / "examples" / "hello-wasm").rglob("*.wasm")).read_bytes()
    contest = Contest()
    with virga() as (server, functions):
        # A section of its own makes each a different module to the compiler's cache.
        names = [
            functions.deploy({"main.wasm": component + custom_section(number)}, "wasm", "main.wasm", url=True) for number in range(FUNCTIONS)
        ]
        first = load(address(server), [url_request(server, name) for name in names], 60, 1, count=FUNCTIONS)
        warm = url_request(server, names[0])
        # The gateway answers a preflight by itself, after it has found the function.
        functions.api.update_function_url_config(FunctionName=names[0], Cors={"AllowOrigins": ["*"], "AllowMethods": ["*"]})
        asked = {"Origin": "http://x.test", "Access-Control-Request-Method": "GET"}
        preflight = request_bytes("OPTIONS", address(server), f"/_fn/{names[0]}/", asked)
        contest.add("wasm", lambda: load(address(server), warm, SECONDS, 1, RATE))
        contest.add("gateway", lambda: load(address(server), preflight, SECONDS, 1, RATE))
        contest.run()
    added = contest.median("wasm", "p50") - contest.median("gateway", "p50")
    note = f"{FUNCTIONS} different components, compiled at deploy"
    return [
        Row("P2", "wasm, first call of a function, p50", "goal", None, first["p50"] / 1e3, "ms", 1, "value", "less", note),
        Row("P2", "wasm, first call of a function, p99", "goal", None, first["p99"] / 1e3, "ms", 3, "value", "less", note),
        Row("P2", "wasm, a fresh instance at 1 in flight, p50 added", "the gateway's own answer (a preflight)", contest.median("gateway", "p50"),
            added, "µs", 50, "value", "less", f"at {RATE}/s"),
    ]  # fmt: skip


def custom_section(number):
    """A custom section (WebAssembly core 5.5.3): id 0, its size, a name, content."""
    name, content = b"bench", number.to_bytes(4, "little")
    return bytes([0, 1 + len(name) + len(content), len(name)]) + name + content
