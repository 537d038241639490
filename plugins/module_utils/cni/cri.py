# SPDX-License-Identifier: Apache-2.0
"""What the container runtime says: its sandboxes in every state, and where it reads CNI configurations.

By crictl where there is one, else by containerd's own ctr. An answer that is not understood is an error, never an
empty list: an empty list would make every lease look stale.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ..errors import NodeError
from ..host import Host, read_text
from . import command
from .command import Run
from .model import Sandbox

SOCKETS = (
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
)
LIMIT = 20.0  # seconds for one answer
_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}\Z")
_ENDPOINT = re.compile(r"--container-runtime-endpoint[= ]\s*[\"']?(?:unix://)?(/[^\s\"']+)")
_YAML = re.compile(r"^\s*containerRuntimeEndpoint:\s*[\"']?(?:unix://)?(/[^\s\"'#]+)", re.MULTILINE)
_TOML = r"^\s*%s\s*=\s*[\"']([^\"'\n]+)[\"']"


@dataclass(frozen=True)
class Runtime:
    """How the runtime is asked: ``program`` (crictl or ctr) and its socket."""

    program: str
    socket: str


@dataclass
class Info:
    """Where the runtime reads CNI configurations, and what it made of them.

    Attributes:
        loaded: name of the network that it uses now, "" where it does not say.
        network_ready: None where it does not say.
    """

    conf_dir: str = ""
    bin_dirs: List[str] = field(default_factory=list)
    loaded: str = ""
    network_ready: Optional[bool] = None
    reason: str = ""


def socket_of(host: Host) -> str:
    """Return the runtime's socket: the kubelet's word, else the only one there is.

    Raises:
        NodeError: code ``cri``: there is none, or there are several and the kubelet names none of them.
    """
    told = _told(host)
    if told:
        return os.path.normpath(told.replace("/var/run/", "/run/"))
    there = [path for path in SOCKETS if os.path.exists(host.path(path))]
    if len(there) == 1:
        return there[0]
    if there:
        why, following = "there are " + ", ".join(there), "set containerRuntimeEndpoint in the kubelet's configuration"
        raise NodeError("which container runtime is in use is not clear", why, following, code="cri")
    why, following = "no socket of containerd or CRI-O is there", "see whether it runs: systemctl status containerd"
    raise NodeError("there is no container runtime to ask", why, following, code="cri")


def _told(host: Host) -> str:
    for pid in host.processes.get("kubelet", []):
        words = (read_text(host.path("proc", str(pid), "cmdline"), 1 << 16) or "").replace("\0", " ")
        found = _ENDPOINT.search(words)
        if found:
            return found.group(1)
    found = _YAML.search(read_text(host.path("var/lib/kubelet/config.yaml"), 1 << 18) or "")
    return found.group(1) if found else ""


def runtime(host: Host) -> Runtime:
    """Return how the runtime is asked. Raises NodeError(code="cri")."""
    socket = socket_of(host)
    for program in ("crictl", "ctr"):
        if program == "ctr" and "containerd" not in socket:
            continue
        if command.find(program):
            return Runtime(program, socket)
    raise NodeError(
        "the container runtime cannot be asked",
        "neither crictl nor ctr is on this node",
        "install crictl (cri-tools)",
        code="cri",
    )


def sandboxes(host: Host, run: Run = command.run) -> Dict[str, Sandbox]:
    """Return every sandbox by id, in whatever state.

    Raises:
        NodeError: code ``cri``: the runtime cannot be reached, or its answer is not understood.
    """
    how = runtime(host)
    if how.program == "crictl":
        argv = ["crictl", "-r", "unix://" + how.socket, "-t", "%ds" % LIMIT, "pods", "-o", "json"]
        return _asked(argv, parse_pods, run)
    argv = ["ctr", "-a", how.socket, "-n", "k8s.io", "containers", "ls", 'labels."io.cri-containerd.kind"==sandbox']
    return _asked(argv, parse_ctr, run)


def _asked(argv: List[str], parse: Any, run: Run) -> Dict[str, Sandbox]:
    try:
        done = run(argv, LIMIT + 5.0)
    except NodeError as exc:
        raise _silent(str(exc)) from exc
    if done.code:
        raise _silent(done.said)
    found: Dict[str, Sandbox] = parse(done.out.decode("utf-8", "replace"))
    return found


def _silent(why: str) -> NodeError:
    return NodeError(
        "the container runtime does not answer",
        why,
        "see whether it runs: systemctl status containerd (or crio, k3s)",
        code="cri",
    )


def _not_understood(why: str) -> NodeError:
    following = "see what it says: crictl pods -o json, or ctr -n k8s.io containers ls"
    return NodeError("the container runtime's answer is not understood", why, following, code="cri")


def parse_pods(text: str) -> Dict[str, Sandbox]:
    """Return the sandboxes of ``crictl pods -o json``. Raises NodeError(code="cri") for what is not that."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise _not_understood("it is not JSON") from exc
    items = document.get("items") if isinstance(document, dict) else None
    if not isinstance(items, list):
        raise _not_understood("it has no list of pods")
    found = {}
    for item in items:
        sandbox = _sandbox(item)
        if sandbox is None:
            raise _not_understood("one of its pods has no id")
        found[sandbox.id] = sandbox
    return found


def _sandbox(item: Any) -> Optional[Sandbox]:
    if not isinstance(item, dict) or not isinstance(item.get("id"), str) or not _ID.match(item["id"]):
        return None
    raw = item.get("metadata")
    metadata: Mapping[str, Any] = raw if isinstance(raw, dict) else {}
    name, namespace, uid = (str(metadata.get(part) or "")[:253] for part in ("name", "namespace", "uid"))
    created = str(item.get("createdAt") or "")
    created_ns = int(created) if re.match(r"[0-9]{1,19}\Z", created) else 0
    return Sandbox(item["id"], item.get("state") == "SANDBOX_READY", name, namespace, uid, created_ns)


def parse_ctr(text: str) -> Dict[str, Sandbox]:
    """Return the sandboxes of ``ctr containers ls``, which does not say their state.

    Raises:
        NodeError: code ``cri``: its heading is another one, or a line has no id.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if not lines or lines[0][:1] != ["CONTAINER"]:
        raise _not_understood("it is no list of containers")
    if not all(_ID.match(words[0]) for words in lines[1:]):
        raise _not_understood("one of its containers has no id")
    return {words[0]: Sandbox(words[0]) for words in lines[1:]}


def parse_info(text: str) -> Info:
    """Return what ``crictl info`` says of CNI; whatever it does not say is left empty."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return Info()
    if not isinstance(document, dict):
        return Info()
    found = Info()
    cni = _mapping(document, "cniconfig")
    config = _mapping(_mapping(document, "config"), "cni")
    found.conf_dir = _path(cni.get("PluginConfDir")) or _path(config.get("confDir"))
    dirs = cni.get("PluginDirs")
    found.bin_dirs = [path for path in map(_path, dirs if isinstance(dirs, list) else [config.get("binDir")]) if path]
    networks = cni.get("Networks")
    for network in networks if isinstance(networks, list) else []:
        name = _mapping(network, "Config").get("Name")
        if isinstance(name, str) and _ID.match(name) and name != "cni-loopback":
            found.loaded = name
    conditions = _mapping(document, "status").get("conditions")
    for one in conditions if isinstance(conditions, list) else []:
        if isinstance(one, dict) and one.get("type") == "NetworkReady":
            found.network_ready = one.get("status") is True
            found.reason = " ".join(str(one.get(word) or "") for word in ("reason", "message")).strip()[:300]
    return found


def parse_config(text: str) -> Info:
    """Return what containerd's config.toml says of CNI (its keys alone: no TOML reader is needed for them)."""
    conf = re.search(_TOML % "conf_dir", text, re.MULTILINE)
    bins = re.search(_TOML % "bin_dir", text, re.MULTILINE)
    found = Info(conf_dir=_path(conf.group(1)) if conf else "")
    found.bin_dirs = [path for path in (_path(bins.group(1)) if bins else "",) if path]
    return found


def _mapping(value: Any, key: str) -> Mapping[str, Any]:
    inner = value.get(key) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}


def _path(value: Any) -> str:
    text = value if isinstance(value, str) else ""
    return text if text.startswith("/") and "\0" not in text and len(text) < 4096 else ""


def info(host: Host, run: Run = command.run) -> Tuple[Info, str]:
    """Return where the runtime reads CNI configurations, and by which way that was learned.

    Never raises: without an answer the usual places are named, and the way is "assumed".
    """
    found, way = Info(), ""
    try:
        how = runtime(host)
        if how.program == "crictl":
            done = run(["crictl", "-r", "unix://" + how.socket, "-t", "%ds" % LIMIT, "info"], LIMIT + 5.0)
            found = parse_info(done.out.decode("utf-8", "replace")) if not done.code else Info()
            way = "crictl info"
    except NodeError:
        found = Info()
    if not found.conf_dir:
        for path in ("/etc/containerd/config.toml", "/var/lib/rancher/k3s/agent/etc/containerd/config.toml"):
            found = parse_config(read_text(host.path(path), 1 << 18) or "")
            if found.conf_dir:
                way = path
                break
    if not found.conf_dir:
        k3s = "/var/lib/rancher/k3s/agent/etc/cni/net.d"
        found.conf_dir = k3s if os.path.isdir(host.path(k3s)) else "/etc/cni/net.d"
        way = "assumed"
    if not found.bin_dirs:
        k3s = "/var/lib/rancher/k3s/data/cni"
        found.bin_dirs = [k3s] if os.path.isdir(host.path(k3s)) else ["/opt/cni/bin"]
    return found, way
