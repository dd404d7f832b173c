"""A proxy in front of a registry that passes parts of blobs on, counts them, and gets in the way."""

import http.server
import threading

import requests

PASSED_ON = ("accept", "authorization", "range")


class PartsProxy:
    """`meddle(handler, path, part, content)` may answer a blob in its own way; `part` is the range, or None."""

    def __init__(self, registry, meddle=None):
        outer = self
        self.meddle = meddle
        self.blobs = []
        self.connections = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                outer.connections += 1
                super().setup()

            def do_GET(self):
                headers = {k: v for k, v in self.headers.items() if k.lower() in PASSED_ON}
                answer = requests.get(registry.url + self.path, headers=headers, timeout=30)
                part = self.headers.get("Range")
                if "/blobs/" in self.path:
                    if outer.meddle and outer.meddle(self, self.path, part, answer.content):
                        return
                    outer.blobs.append((self.path, part, len(answer.content)))
                self.pass_on(answer.status_code, answer.headers, answer.content)

            def pass_on(self, status, headers, content):
                self.send_response(status)
                for name in ("Content-Type", "WWW-Authenticate", "Content-Range"):
                    if name in headers:
                        self.send_header(name, headers[name])
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def bytes(self):
        """Of blobs that were passed on."""
        return sum(size for _, _, size in self.blobs)

    def stop(self):
        """Ends it."""
        self.server.shutdown()
        self.server.server_close()
