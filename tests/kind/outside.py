"""A place outside the clusters, on this machine: a network namespace behind a veth, with a TCP server in it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from kindbed.command import find, run

HERE, THERE, PORT = "198.18.91.1", "198.18.91.2", 8099  # of the range for benchmarks: nobody's
_SERVE = f"""
import socket
server = socket.create_server(("0.0.0.0", {PORT}))
print("ready", flush=True)
while True:
    server.accept()[0].close()
"""


def answers(address: str) -> bool:
    """Return whether this machine itself can connect."""
    try:
        socket.create_connection((address, PORT), timeout=3).close()
    except OSError:
        return False
    return True


@contextmanager
def outside() -> Iterator[None]:
    """Serve on HERE, an address of the machine, and on THERE, one that it forwards to."""
    space, near, far = f"tn-out-{os.getpid()}", f"tno{os.getpid()}"[:14], "eth0"
    ip = find("ip", "iproute2")
    run([ip, "netns", "add", space])
    servers: list[subprocess.Popen[str]] = []
    try:
        run([ip, "link", "add", near, "type", "veth", "peer", "name", far, "netns", space])
        run([ip, "address", "add", f"{HERE}/30", "dev", near])
        run([ip, "link", "set", near, "up"])
        inside = [ip, "netns", "exec", space]
        run([*inside, ip, "address", "add", f"{THERE}/30", "dev", far])
        run([*inside, ip, "link", "set", far, "up"])
        run([*inside, ip, "route", "add", "default", "via", HERE])
        for prefix in ([], inside):
            servers.append(subprocess.Popen([*prefix, sys.executable, "-c", _SERVE], stdout=subprocess.PIPE, text=True))
        for server in servers:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
        yield
    finally:
        for server in servers:
            server.kill()
            server.communicate(timeout=10)
        run([ip, "netns", "delete", space])
        run([ip, "link", "delete", near], check=False)
