"""A node in a directory: files as the captured one has them, programs that are really run, nothing of this machine."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.tune.nodes.plugins.module_utils.cni import calls
from ansible_collections.tune.nodes.plugins.module_utils.cni.orphans.read import SAVES
from ansible_collections.tune.nodes.plugins.module_utils.cni.plan import Limits

CAPTURED = Path(__file__).parents[2] / "fixtures/cni/flannel-containerd-1.6"
LEASES = "var/lib/cni/networks/cbr0"
HOUR = 3600.0
#: At once, and whatever the share: what a test is not about.
ANY = Limits(grace=900, between=0, max_stale=100)
LIVE = tuple(f"10.244.1.{number}" for number in range(2, 7))


def sandbox_id(number: int) -> str:
    """Return an id that no captured sandbox has."""
    return f"{number:064x}"


@dataclass
class Node:
    """A node below ``root``. ``bin`` holds the programs that the node code finds."""

    root: Path
    bin: Path

    @property
    def leases(self) -> Path:
        """The network's directory."""
        return self.root / LEASES

    def lay(self, ip: str, number: int, age: float = 5 * HOUR, directory: Path | None = None) -> Path:
        """Lay a lease of a sandbox that is gone."""
        path = (directory or self.leases) / ip
        path.write_bytes(f"{sandbox_id(number)}\r\neth0".encode())
        then = time.time() - age
        os.utime(path, (then, then))
        return path

    def lay_many(self, count: int, first: int = 10) -> list[Path]:
        """Lay several."""
        return [self.lay(f"10.244.1.{number}", number) for number in range(first, first + count)]

    def program(self, name: str, script: str, directory: Path | None = None) -> Path:
        """Make a program."""
        path = (directory or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def crictl(self, pods: str | None = None, code: int = 0) -> None:
        """Make crictl answer; None: what was captured."""
        text = (CAPTURED / "crictl-pods.json").read_text() if pods is None else pods
        (self.bin / "pods.json").write_text(text)
        shutil.copy(CAPTURED / "crictl-info.json", self.bin / "info.json")
        here = self.bin
        script = f'case "$*" in *info*) cat {here}/info.json;; *) cat {here}/pods.json; exit {code};; esac'
        self.program("crictl", script)

    def attach(self, number: int, ip: str) -> Path:
        """Cache an attachment for a laid lease, as libcni does, from a captured one."""
        results = self.root / "var/lib/cni/results"
        captured = next(path for path in sorted(results.iterdir()) if path.name.startswith("cbr0-"))
        document: dict[str, Any] = json.loads(captured.read_text())
        document["containerId"] = sandbox_id(number)
        document["result"]["ips"][0]["address"] = f"{ip}/24"
        path = results / f"cbr0-{sandbox_id(number)}-eth0"
        path.write_text(json.dumps(document))
        return path

    def ask(self, **fields: Any) -> calls.Asked:
        """Return a request of this node."""
        return calls.Asked(**{"root": str(self.root), "limits": ANY, "run": "run-1", **fields})

    def listing(self) -> dict[str, tuple[int, int, int, bytes]]:
        """Return name -> inode, time, mode and content of every file in the network's directory."""
        found = {}
        for path in sorted(self.leases.iterdir()):
            status = path.stat()
            found[path.name] = (status.st_ino, status.st_mtime_ns, status.st_mode, path.read_bytes())
        return found

    def contents(self) -> dict[str, tuple[int, int, bytes]]:
        """Return the same without the inodes."""
        return {name: row[1:] for name, row in self.listing().items()}


def make(directory: Path) -> Node:
    """Return a node as it was captured, its five leases young."""
    root = directory / "root"
    shutil.copytree(CAPTURED, root, ignore=shutil.ignore_patterns("*.txt", "*.json"))
    (root / "proc/sys/kernel/random").mkdir(parents=True)
    (root / "proc/sys/kernel/random/boot_id").write_text("73ae8e2f-0abd-44e9-bc9d-78244ee5ae1f\n")
    (root / "proc/net").mkdir()
    shutil.copy(CAPTURED / "fib_trie-host.txt", root / "proc/net/fib_trie")
    (root / "run/containerd").mkdir(parents=True)
    (root / "run/containerd/containerd.sock").touch()
    (root / "etc/os-release").write_text("ID=debian\n")
    (root / "opt/cni/bin").mkdir(parents=True)
    node = Node(root, directory / "bin")
    node.bin.mkdir()
    for plugin in ("flannel", "portmap"):
        node.program(plugin, "exit 0", root / "opt/cni/bin")
    for program in ("ip", "nft", "ipset", "bpftool", *(row[0] for row in SAVES)):
        node.program(program, "exit 0")  # a node without leftovers; never this machine's own
    node.crictl()
    return node


def drop(node: Node, **fields: object) -> calls.Result:
    """Release at once."""
    return calls.drop(node.ask(**fields), sleep=lambda _seconds: None)
