"""Requests to lab nodes without Ansible between: the same code and bootstrap that the action sends."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ansible_collections.tune.nodes.plugins.module_utils import bundle
from ansible_collections.tune.nodes.plugins.plugin_utils.link import BOOTSTRAP, parse_answer

from tune_nodes.lab.node import LabNode

PYTHON = ["/usr/bin/python3", "-I", "-S", "-c", BOOTSTRAP]
SETTINGS: list[dict[str, Any]] = [
    {"key": "net.core.somaxconn", "value": 16384, "class": "floor"},
    {"key": "net.ipv4.tcp_fin_timeout", "value": 30, "class": "exact"},
    {"key": "net.ipv4.tcp_wmem", "value": "4096 65536 16777216", "class": "floor"},
]
#: Kernel defaults of a fresh namespace, which SETTINGS changes.
KEYS = ("net.core.somaxconn", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_wmem")
#: Seconds of a window that a test confirms in, whatever else the machine does: 15 of them are kept for the revert. And
#: of one that a test waits for.
WIDE, SHORT = 120.0, 20.0
QUEUES: list[dict[str, Any]] = [{"interfaces": ["eth0"], "channels": {"rx": 2, "tx": 2}}]


@lru_cache(maxsize=1)
def code() -> tuple[str, bytes]:
    """Return the node code, built once."""
    return bundle.build()


#: Compiles an archive as its first change does, in the Python that the nodes run. Prints the file's name.
COMPILE = """\
import sys
sys.path.insert(0, sys.argv[1])
from tune_nodes_node.bundle import compile_archive, compiled_name
with open(sys.argv[1], "rb") as archive, open(sys.argv[2], "wb") as compiled:
    compiled.write(compile_archive(archive.read()))
print(compiled_name(sys.argv[3]))
"""


@lru_cache(maxsize=1)
def compiled() -> tuple[str, bytes]:
    """Return what a node's first change leaves on it besides the code: a file's name, and the code compiled."""
    name, data = code()
    with tempfile.TemporaryDirectory() as directory:
        archive, out = Path(directory, "code.pyz"), Path(directory, "code.bin")
        archive.write_bytes(data)
        command = [*PYTHON[:-1], COMPILE, str(archive), str(out), name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.strip(), out.read_bytes()


def changed_before(nodes: Iterable[LabNode]) -> None:
    """Give fresh nodes the compiled code, as a change would: a request then takes a third of the time."""
    name, content = compiled()
    for node in nodes:
        path = node.root / bundle.CODE_DIR[1:] / name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)


def payload(request: Mapping[str, Any]) -> bytes:
    """Return what goes to the bootstrap's standard input."""
    name, data = code()
    return b"%s %d\n" % (name.encode(), len(data)) + data + json.dumps({"schema": 1, **request}).encode()


def apply_request(run: str, window: float = WIDE, **more: Any) -> dict[str, Any]:
    """Return a request that changes three sysctls and the queues of eth0."""
    layer = {"profile": "test", "match": None, "sysctl": SETTINGS, "nic_queues": QUEUES}
    return {"op": "apply", "run": run, "window": window, "layers": [layer], **more}


def call(node: LabNode, op: str = "", prefix: Sequence[str] = (), **request: Any) -> dict[str, Any]:
    """Send a request past ssh; ``prefix`` goes before the interpreter (strace)."""
    if op:
        request["op"] = op
    done = subprocess.run(
        node.argv([*prefix, *PYTHON]), input=payload(request), capture_output=True, timeout=120, check=False
    )
    return answer(done)


def call_ssh(node: LabNode, op: str = "", options: Sequence[str] = (), **request: Any) -> dict[str, Any]:
    """Send a request over a new ssh connection, as root; ``options`` replace the no-multiplexing ones."""
    if op:
        request["op"] = op
    argv = node.ssh_argv([f"{PYTHON[0]} -I -S -c '{BOOTSTRAP_QUOTED}'"])
    if options:
        start = argv.index("ControlMaster=no") - 1
        argv = [*argv[:start], *options, *argv[start + 4 :]]
    done = subprocess.run(argv, input=payload(request), capture_output=True, timeout=120, check=False)
    return answer(done)


BOOTSTRAP_QUOTED = BOOTSTRAP.replace("'", "'\"'\"'")


def answer(done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    """Return the result a node printed."""
    found = parse_answer(done.stdout.decode())
    assert found is not None, done.stderr.decode()
    return found


def values(node: LabNode) -> dict[str, str]:
    """Return what the node holds of everything that apply_request changes, read by other programs than ours."""
    found = {key: node.read_sysctl(key) for key in KEYS}
    shown = node.run(["ethtool", "-l", "eth0"]).stdout.split("Current hardware settings:")[1]
    found["channels"] = " ".join(line for line in shown.split() if line.isdigit() or line in ("RX:", "TX:"))
    return found


def state_of(node: LabNode, tx: str) -> str:
    """Return a transaction's state as the node says it, "" if it has none."""
    result = call(node, "status", tx=tx)
    assert result["ok"], result["error"]
    return result["tx"]["state"] if result["tx"] else ""


def tune_processes(node: LabNode) -> list[str]:
    """Return the command lines of tune-nodes processes left on a node."""
    found = []
    for pid in node.processes():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if "tune-nodes" in line or "tune_nodes" in line:
            found.append(line)
    return found
