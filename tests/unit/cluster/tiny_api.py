"""A real HTTP server on loopback that answers as an API server would, or as badly as a test wants."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

TOKEN = "tiny-token-that-must-not-show"


class Request(BaseHTTPRequestHandler):
    """One request; a test's function answers it."""

    protocol_version = "HTTP/1.1"
    answer: Callable[[Request], None]

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def body(self) -> Any:
        """Return what was sent."""
        length = int(self.headers.get("Content-Length") or 0)
        return json.loads(self.rfile.read(length)) if length else None

    def send(self, status: int, value: Any, content: str = "application/json") -> None:
        """Answer with a JSON document, or with bytes as they are."""
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", content)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status: int, reason: str, message: str, causes: list[dict[str, str]] | None = None) -> None:
        """Answer with a Status object."""
        details = {"causes": causes} if causes else {}
        said = {"kind": "Status", "status": "Failure", "code": status, "reason": reason, "message": message}
        self.send(status, {**said, "details": details})

    def _any(self) -> None:
        type(self).answer(self)

    do_GET = do_POST = do_PATCH = do_DELETE = _any


@contextmanager
def tiny_api(answer: Callable[[Request], None]) -> Iterator[str]:
    """Serve until left; yields "http://127.0.0.1:PORT"."""
    handler = type("Handler", (Request,), {"answer": staticmethod(answer)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def kubeconfig(directory: Path, server: str, user: Any = None, cluster: Any = None) -> Path:
    """Write a kubeconfig with one context, named "tiny"."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "tiny",
        "contexts": [{"name": "tiny", "context": {"cluster": "here", "user": "somebody"}}],
        "clusters": [{"name": "here", "cluster": {"server": server, **(cluster or {})}}],
        "users": [{"name": "somebody", "user": {"token": TOKEN} if user is None else user}],
    }
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path
