# SPDX-License-Identifier: Apache-2.0
"""R0: what this node's network looks like, as one archive. Reads only; each command has a time limit.

Left out are files that hold keys (kubeconfigs, wgkey), and in what is kept, words that look like secrets are blanked.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
import time
from dataclasses import dataclass, field
from typing import Any, Dict, List, Sequence, Tuple

from ..errors import NodeError
from ..files import make_dir, read_bytes, write_atomic
from ..host import Host
from ..transaction.store import check_id
from . import command
from .command import Run
from .detect import Cni

DIRECTORY = "/var/lib/tune-nodes/evidence"
#: Bytes of one answer and of all of them; what is more is cut, and that is said.
ONE, ALL = 4 << 20, 48 << 20
KEEP = 10
TIMEOUT = 15.0

COMMANDS: Sequence[Tuple[str, Sequence[str]]] = (
    ("ip-link.json", ("ip", "-s", "-s", "-d", "-j", "link")),
    ("ip-addr.json", ("ip", "-j", "addr")),
    ("ip-route.json", ("ip", "-j", "route", "show", "table", "all")),
    ("ip6-route.json", ("ip", "-j", "-6", "route", "show", "table", "all")),
    ("ip-rule.json", ("ip", "-j", "rule")),
    ("ip6-rule.json", ("ip", "-j", "-6", "rule")),
    ("ip-neigh.json", ("ip", "-j", "neigh")),
    ("bridge-fdb.json", ("bridge", "-j", "fdb")),
    ("nft.json", ("nft", "-j", "list", "ruleset")),
    ("iptables-nft.txt", ("iptables-nft-save",)),
    ("ip6tables-nft.txt", ("ip6tables-nft-save",)),
    ("iptables-legacy.txt", ("iptables-legacy-save",)),
    ("ip6tables-legacy.txt", ("ip6tables-legacy-save",)),
    ("ipset.txt", ("ipset", "save")),
    ("bpftool-net.json", ("bpftool", "-j", "net")),
    ("bpftool-link.json", ("bpftool", "-j", "link")),
    ("tc-qdisc.json", ("tc", "-j", "qdisc")),
    ("crictl-pods.json", ("crictl", "pods", "-o", "json")),
    ("crictl-ps.json", ("crictl", "ps", "-a", "-o", "json")),
    ("crictl-info.json", ("crictl", "info")),
    ("ctr-containers.txt", ("ctr", "-n", "k8s.io", "containers", "ls")),
    ("conntrack-count.txt", ("conntrack", "-C")),
    ("kubelet.log", ("journalctl", "--no-pager", "-n", "2000", "-o", "short-iso", "-u", "kubelet")),
    ("containerd.log", ("journalctl", "--no-pager", "-n", "2000", "-o", "short-iso", "-u", "containerd", "-u", "crio")),
    ("k3s.log", ("journalctl", "--no-pager", "-n", "2000", "-o", "short-iso", "-u", "k3s", "-u", "k3s-agent")),
    ("kernel.log", ("journalctl", "--no-pager", "-n", "1000", "-o", "short-iso", "-k")),
    ("sysctl-net.txt", ("sysctl", "-a", "--pattern", "^net\\.(ipv[46]\\.(conf|ip_forward|neigh)|netfilter|bridge)")),
)
FILES = (
    "/run/flannel/subnet.env",
    "/var/lib/calico/nodename",
    "/var/lib/calico/mtu",
    "/proc/net/fib_trie",
    "/proc/net/ipv6_route",
    "/etc/containerd/config.toml",
)
#: Directories whose entries are listed with times and hashes; contents of small ones without keys are kept.
LISTED = (
    "/var/lib/cni",
    "/run/flannel",
    "/var/lib/calico",
    "/var/lib/weave",
    "/var/lib/kube-router",
    "/var/run/cilium",
)
#: Logs of containers, as the kubelet lays them: NAMESPACE_POD_UID/CONTAINER/N.log.
POD_LOGS = "/var/log/pods"
#: Pods whose agents make a node's network.
_AGENTS = re.compile(
    r"[a-z0-9-]+_(?:kube-flannel|calico-node|calico-typha|canal|cilium|weave-net|kube-router|kube-proxy|kube-multus"
    r"|multus|whereabouts|kube-sriov|sriov|antrea-agent|kube-ovn-cni|aws-node|azure-cns|kindnet)[a-z0-9.-]*_"
)
#: Bytes of the end of one log; logs.
_LOG, _LOGS = 256 << 10, 40
_SECRET_FILES = re.compile(r"kubeconfig|wgkey|\.key\Z|\.pem\Z|token|secret|password", re.IGNORECASE)
_REDACT: Sequence["re.Pattern[str]"] = (
    re.compile(r"(?i)((?:token|password|passwd|secret|client-key-data|private[_-]?key|psk)[\"']?\s*[:=]\s*)[^\s,}]+"),
    re.compile(r"(?i)(bearer\s+)[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(r"()eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{5,}"),
    re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----)[\s\S]*?(?=-----END|\Z)"),
)


def redact(text: str) -> str:
    """Return text with everything that looks like a secret blanked."""
    for pattern in _REDACT:
        text = pattern.sub(r"\1[redacted]", text)
    return text


@dataclass
class Archive:
    """What is gathered: name -> content, and a row about each thing that was asked for."""

    files: Dict[str, bytes] = field(default_factory=dict)
    rows: List[Dict[str, Any]] = field(default_factory=list)
    size: int = 0

    def add(self, name: str, text: str, **row: Any) -> None:
        """Keep a text, redacted and bounded."""
        data = redact(text).encode("utf-8")
        room = max(0, min(ONE, ALL - self.size))
        kept = data[:room]
        self.files[name] = kept
        self.size += len(kept)
        cut = {"cut": len(data) - len(kept)} if len(kept) < len(data) else {}
        digest = hashlib.sha256(kept).hexdigest()
        self.rows.append(dict({"name": name, "bytes": len(kept), "sha256": digest}, **cut, **row))

    def missing(self, name: str, why: str) -> None:
        """Note what could not be had."""
        self.rows.append({"name": name, "missing": why[:300]})

    def pack(self, about: Dict[str, Any]) -> bytes:
        """Return it as tar.gz, with an index."""
        index = json.dumps(dict(about, files=self.rows), indent=1, sort_keys=True).encode("utf-8")
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=6) as tar:
            for name, data in [("index.json", index), *sorted(self.files.items())]:
                entry = tarfile.TarInfo("evidence/" + name)
                entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
                tar.addfile(entry, io.BytesIO(data))
        return packed.getvalue()


def gather(host: Host, cni: Cni, run: Run = command.run) -> Archive:
    """Ask every program, read every file. Never fails for one that is not there: that is noted."""
    found = Archive()
    for name, argv in COMMANDS:
        if not command.find(argv[0]):
            found.missing(name, "there is no program %s" % argv[0])
            continue
        try:
            done = run(list(argv), TIMEOUT)
        except NodeError as exc:
            found.missing(name, str(exc))
            continue
        text = done.out.decode("utf-8", "replace")
        found.add(name, text, command=" ".join(argv), code=done.code, **({"said": done.err[:300]} if done.code else {}))
    for path in FILES:
        _keep(found, path, host)
    for directory in (cni.conf_dir, *LISTED):
        found.add("listing%s.txt" % directory.replace("/", "-"), listing(host.path(directory)), directory=directory)
    for name in _names(host.path(cni.conf_dir)):
        _keep(found, os.path.join(cni.conf_dir, name), host)
    for directory in cni.bin_dirs:
        found.add("listing%s.txt" % directory.replace("/", "-"), listing(host.path(directory)), directory=directory)
    for path in agent_logs(host):
        found.add("agents/" + path[len(POD_LOGS) + 1 :], _end(host.path(path)), directory=POD_LOGS)
    return found


def agent_logs(host: Host) -> List[str]:
    """Return the paths of the newest logs of the network's agents: of each container the last two."""
    found: List[str] = []
    for pod in _names(host.path(POD_LOGS)):
        if not _AGENTS.match(pod):
            continue
        for container in _names(host.path(POD_LOGS, pod)):
            base = os.path.join(POD_LOGS, pod, container)
            logs = [name for name in _names(host.path(base)) if name.endswith(".log")]
            found += [os.path.join(base, name) for name in sorted(logs, key=lambda name: (len(name), name))[-2:]]
    return found[:_LOGS]


def _end(path: str) -> str:
    """Return the end of a log, from the beginning of a line; "" where it cannot be read."""
    try:
        if not os.path.isfile(path):
            return ""
        with open(path, "rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - _LOG))
            data = log.read(_LOG)
    except OSError:
        return ""
    return (data if size <= _LOG else data[data.find(b"\n") + 1 :]).decode("utf-8", "replace")


def _names(path: str) -> List[str]:
    try:
        return sorted(os.listdir(path))[:200]
    except OSError:
        return []


def _keep(found: Archive, path: str, host: Host) -> None:
    name = "files" + path
    if _SECRET_FILES.search(path):
        found.missing(name, "left out: it holds keys")
        return
    data = read_bytes(host.path(path), ONE) if os.path.isfile(host.path(path)) else None
    if data is None:
        found.missing(name, "not there")
    else:
        found.add(name, data.decode("utf-8", "replace"))


def listing(directory: str, most: int = 20000) -> str:
    """Return a line for each entry below a directory: mode, owner, size, time, inode, SHA-256 of small ones, path."""
    lines = []
    for top, dirs, names in os.walk(directory):
        dirs.sort()
        for name in sorted(names):
            path = os.path.join(top, name)
            try:
                status = os.lstat(path)
            except OSError:
                continue
            small = status.st_size <= 1 << 20 and os.path.isfile(path) and not os.path.islink(path)
            data = read_bytes(path, 1 << 20) if small and not _SECRET_FILES.search(path) else None
            digest = hashlib.sha256(data).hexdigest() if data is not None else "-"
            lines.append(
                "%o %d:%d %d %d.%09d %d %s %s"
                % (
                    status.st_mode,
                    status.st_uid,
                    status.st_gid,
                    status.st_size,
                    status.st_mtime_ns // 10**9,
                    status.st_mtime_ns % 10**9,
                    status.st_ino,
                    digest,
                    path,
                )
            )
            if len(lines) >= most:
                return "\n".join([*lines, "... more than %d" % most]) + "\n"
    return "\n".join(lines) + ("\n" if lines else "")


def take(host: Host, cni: Cni, run_id: str, run: Run = command.run) -> Dict[str, Any]:
    """Write the archive to /var/lib/tune-nodes/evidence/RUN.tar.gz, root only.

    Returns:
        ``path``, ``sha256``, ``bytes``, ``files`` (how many), ``missing`` (names of what could not be had).

    Raises:
        NodeError: it cannot be written.
    """
    path = os.path.join(DIRECTORY, check_id(run_id) + ".tar.gz")
    gathered = gather(host, cni, run)
    data = gathered.pack({"node": host.to_dict(), "cni": cni.to_dict(), "run": run_id})
    make_dir(host.path("/var/lib/tune-nodes"), 0o700)
    make_dir(host.path(DIRECTORY), 0o700)
    _prune(host)
    write_atomic(host.path(path), data, 0o600)
    return {
        "path": path,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "files": len(gathered.files),
        "missing": [row["name"] for row in gathered.rows if "missing" in row][:100],
    }


def _prune(host: Host) -> None:
    base = host.path(DIRECTORY)
    names = sorted((name for name in _names(base) if name.endswith(".tar.gz")))
    names.sort(key=lambda name: os.lstat(os.path.join(base, name)).st_mtime_ns)
    for name in names[: max(0, len(names) - KEEP + 1)]:
        os.unlink(os.path.join(base, name))
