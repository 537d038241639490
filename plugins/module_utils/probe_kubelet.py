# SPDX-License-Identifier: Apache-2.0
"""Probes of this node's kubelet, and of the API server as the kubelet's own configuration names it.

The API server is reached, not identified: its certificate is not checked, since what is asked is whether packets get
there and back.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import Any, Dict, Optional

from .host import Host, read_text

#: Where the kubelet's kubeconfig is: kubeadm, k3s, rke2, EKS, MicroK8s.
KUBECONFIGS = (
    "etc/kubernetes/kubelet.conf",
    "var/lib/rancher/k3s/agent/kubelet.kubeconfig",
    "var/lib/rancher/rke2/agent/kubelet.kubeconfig",
    "var/lib/kubelet/kubeconfig",
    "var/snap/microk8s/current/credentials/kubelet.config",
)
#: Names of processes that are a kubelet or have one in them.
KUBELETS = ("kubelet", "kubelite", "k3s", "k3s-server", "k3s-agent")
HEALTHZ_PORT = 10248
HEALTHZ_LIMIT = 3.0
API_LIMIT = 5.0
_DEFAULT_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True)
class Server:
    """An API server's address."""

    host: str
    port: int
    tls: bool = True

    @property
    def is_name(self) -> bool:
        """Whether the host must be looked up."""
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                socket.inet_pton(family, self.host.partition("%")[0])
            except (OSError, ValueError):
                continue
            return False
        return True

    @property
    def shown(self) -> str:
        """The address as people write it."""
        return "[%s]:%d" % (self.host, self.port) if ":" in self.host else "%s:%d" % (self.host, self.port)


def parse_server(text: str) -> Optional[Server]:
    """Return the first ``server:`` of a kubeconfig; None where there is none. Nothing else of it is read."""
    for line in text.splitlines():
        name, colon, value = line.strip().lstrip("- ").partition(":")
        if name.strip("\"'") != "server" or not colon:
            continue
        return _parse_url(value.strip().strip("\"'"))
    return None


def _parse_url(url: str) -> Optional[Server]:
    from urllib.parse import urlsplit  # only where there is a kubeconfig

    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:
        return None
    if not host or not port or len(host) > 253 or not host.isprintable() or " " in host:
        return None
    return Server(host, port, parts.scheme == "https")


def api_server(host: Host) -> Optional[Server]:
    """Return the API server that this node's kubelet talks to; None where no kubeconfig names one."""
    for path in KUBECONFIGS:
        text = read_text(host.path(path), 1 << 18)
        server = parse_server(text) if text else None
        if server is not None:
            return server
    return None


def handshake(server: Server, address: str, limit: float = API_LIMIT) -> Dict[str, Any]:
    """Connect to an API server and do a TLS handshake, all within ``limit`` seconds.

    Args:
        server: whom to ask for.
        address: the IP address to go to.

    Returns:
        ``{"ok", "detail", "ms"}``.
    """
    started = time.monotonic()
    try:
        with socket.create_connection((address, server.port), timeout=limit) as sock:
            said = _tls(sock, server, started + limit) if server.tls else "TCP"
    except (OSError, ValueError) as exc:
        return {"ok": False, "detail": _words(exc, limit), "ms": None}
    return {"ok": True, "detail": said, "ms": round((time.monotonic() - started) * 1000, 2)}


def _tls(sock: socket.socket, server: Server, deadline: float) -> str:
    try:
        import ssl
    except ImportError:  # a Python without OpenSSL
        return "TCP only: this Python has no TLS"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    sock.settimeout(max(0.1, deadline - time.monotonic()))
    name = server.host if server.is_name else None
    with context.wrap_socket(sock, server_hostname=name) as secured:
        return str(secured.version() or "TLS")


def _words(exc: Exception, limit: float) -> str:
    if isinstance(exc, socket.timeout):
        return "no answer within %g s" % limit
    return str(getattr(exc, "strerror", None) or exc)[:200]


def runs(host: Host) -> bool:
    """Say whether a kubelet runs on this node, in this network namespace."""
    return any(name in host.processes for name in KUBELETS)


def healthz(port: int = HEALTHZ_PORT, limit: float = HEALTHZ_LIMIT) -> Dict[str, Any]:
    """Ask the kubelet for its health. Returns ``{"ok", "detail", "ms"}``."""
    started = time.monotonic()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=limit) as sock:
            # By hand: the standard library's client would double what a request loads on the node.
            sock.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            said = _receive(sock, started + limit)
    except OSError as exc:
        return {"ok": False, "detail": _words(exc, limit), "ms": None}
    head, _, body = said.decode("latin-1").partition("\r\n\r\n")
    fields = head.partition("\r\n")[0].split()
    if len(fields) < 2 or not fields[0].startswith("HTTP/"):
        return {"ok": False, "detail": "no HTTP answer", "ms": None}
    words = body.strip()[:64]
    ms = round((time.monotonic() - started) * 1000, 2)
    return {"ok": fields[1] == "200", "detail": words or "HTTP " + fields[1][:8], "ms": ms}


def _receive(sock: socket.socket, deadline: float, most: int = 4096) -> bytes:
    """Return what arrives until the other side is done. Raises OSError past the deadline."""
    found = b""
    while len(found) < most:
        left = deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout("no answer in time")
        sock.settimeout(left)
        data = sock.recv(most)
        if not data:
            break
        found += data
    return found
