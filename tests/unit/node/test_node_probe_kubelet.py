"""Probes of the kubelet and of the API server it is configured for: parsing, and real sockets on this machine."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.tune.nodes.plugins.module_utils import probe, probe_kubelet
from ansible_collections.tune.nodes.plugins.module_utils.host import Host
from ansible_collections.tune.nodes.plugins.module_utils.probe_kubelet import Server, parse_server
from hypothesis import given
from hypothesis import strategies as st

# /etc/kubernetes/kubelet.conf as kubeadm 1.34 writes it, its certificate cut short.
KUBEADM = """\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==
    server: https://prod-control-plane:6443
  name: prod
contexts:
- context:
    cluster: prod
    user: system:node:worker
  name: system:node:worker@prod
current-context: system:node:worker@prod
kind: Config
users:
- name: system:node:worker
  user:
    client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem
    client-key: /var/lib/kubelet/pki/kubelet-client-current.pem
"""
SERVERS = [
    (KUBEADM, Server("prod-control-plane", 6443)),
    ("- cluster: x\n  server: https://127.0.0.1:6444", Server("127.0.0.1", 6444)),  # k3s: its own load balancer
    ("  server: 'https://[fd00::10]:6443'", Server("fd00::10", 6443)),
    ('server: "https://api.example.com"\n', Server("api.example.com", 443)),
    ("- server: http://10.0.0.1", Server("10.0.0.1", 80, tls=False)),
    ("server: https://first:1\nserver: https://second:2", Server("first", 1)),
    ("", None),
    ("server:", None),
    ("tls-server-name: api", None),
    ("server: ftp://x", None),
    ("server: https://x:99999", None),
    ("server: https://[::1", None),
    ("server: $(reboot):1", None),
]


@pytest.mark.parametrize(("text", "server"), SERVERS)
def test_the_server_of_a_kubeconfig(text: str, server: Server | None) -> None:
    assert parse_server(text) == server


@given(
    st.text() | st.text().map(lambda text: f"server: {text}") | st.text().map(lambda text: f"server: https://{text}")
)
def test_any_kubeconfig_is_survived(text: str) -> None:
    found = parse_server(text)
    assert found is None or (found.host and 0 < found.port < 65536)
    if found is not None:
        assert isinstance(found.is_name, bool)
        assert found.shown


@pytest.mark.parametrize(
    ("host", "is_name", "shown"),
    [
        ("10.0.0.1", False, "10.0.0.1:6443"),
        ("fd00::10", False, "[fd00::10]:6443"),
        ("fe80::1%eth0", False, "[fe80::1%eth0]:6443"),
        ("api", True, "api:6443"),
        ("1.2.3", True, "1.2.3:6443"),
    ],
)
def test_names_and_addresses(host: str, is_name: bool, shown: str) -> None:
    assert (Server(host, 6443).is_name, Server(host, 6443).shown) == (is_name, shown)


@pytest.mark.parametrize("path", probe_kubelet.KUBECONFIGS)
def test_kubelets_of_all_distributions_are_found(tmp_path: Path, path: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(KUBEADM)
    assert probe_kubelet.api_server(Host(root=str(tmp_path))) == Server("prod-control-plane", 6443)


def test_a_node_without_a_kubelet_has_no_rows(tmp_path: Path) -> None:
    host = Host(root=str(tmp_path), processes={"sshd": [1]})
    assert probe.run_probes([{"kind": "api"}, {"kind": "kubelet"}], host) == []


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve one connection on a port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def once() -> None:
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    serve(connection)

        thread = threading.Thread(target=once)
        thread.start()
        yield server.getsockname()[1]
    thread.join(10)


@pytest.mark.parametrize(
    ("answer", "ok", "detail"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", True, "ok"),
        (b"HTTP/1.0 500 Internal Server Error\r\n\r\nhealthz check failed", False, "healthz check failed"),
        (b"HTTP/1.0 503 x\r\n\r\n", False, "HTTP 503"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", False, "no HTTP answer"),
        (b"\x00\xff\xfe" * 5000, False, "no HTTP answer"),
        (b"", False, "no HTTP answer"),
    ],
)
def test_the_kubelets_health(answer: bytes, ok: bool, detail: str) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(answer)

    with listening(serve) as port:
        found = probe_kubelet.healthz(port)
    assert (found["ok"], found["detail"]) == (ok, detail)


def test_a_kubelet_that_hangs_or_is_not_there() -> None:
    done = threading.Event()
    with listening(lambda _: done.wait(10) or None) as port:
        found = probe_kubelet.healthz(port, limit=0.2)
        done.set()
    assert (found["ok"], found["detail"]) == (False, "no answer within 0.2 s")
    assert probe_kubelet.healthz(port, limit=0.5)["ok"] is False


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that nobody has a reason to trust."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=other"
    subprocess.run([*command.split(), "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def test_an_api_server_is_reached_whoever_it_is(certificate: Path) -> None:
    def serve(connection: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        with contextlib.suppress(OSError):
            context.wrap_socket(connection, server_side=True).close()

    with listening(serve) as port:
        found = probe_kubelet.handshake(Server("api.example.com", port), "127.0.0.1")
    assert found["ok"]
    assert found["detail"].startswith("TLSv1")


def test_an_api_server_that_says_nothing_or_not_tls_is_not_reached() -> None:
    done = threading.Event()
    with listening(lambda _: done.wait(10) or None) as port:
        found = probe_kubelet.handshake(Server("127.0.0.1", port), "127.0.0.1", limit=0.3)
        done.set()
    assert found["ok"] is False
    with listening(lambda connection: connection.sendall(b"no TLS here" * 20)) as port:
        assert probe_kubelet.handshake(Server("127.0.0.1", port), "127.0.0.1")["ok"] is False
    assert probe_kubelet.handshake(Server("127.0.0.1", port), "127.0.0.1")["ok"] is False


def test_the_probe_names_the_server_it_reached(tmp_path: Path) -> None:
    (tmp_path / "etc/kubernetes").mkdir(parents=True)
    (tmp_path / "etc/kubernetes/kubelet.conf").write_text("server: http://127.0.0.1:1\n")
    (row,) = probe.run_probes([{"kind": "api"}], Host(root=str(tmp_path)))
    assert (row["id"], row["kind"], row["target"], row["ok"]) == ("api:127.0.0.1:1", "api", "127.0.0.1:1", False)
    assert row["detail"] == "Connection refused"
