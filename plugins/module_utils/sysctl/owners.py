# SPDX-License-Identifier: Apache-2.0
"""Which running programs also write a key: live evidence only, and how to tell each of them.

The catalogue says who may own a key; this module says who does, on this node, now. Sources: facts of each program's
own code, named beside its row.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from ..errors import NodeError
from ..host import Host, read_text
from .model import Setting, canonical_key

#: Returns evidence that the program writes the key, None if its configuration says that it does not.
Check = Callable[[str, List[int], Host], Optional[str]]


@dataclass(frozen=True)
class Owner:
    """A program known to write sysctls.

    Attributes:
        comms: its names in /proc/PID/comm.
        tell: how a person gives it the value wanted, or makes it leave the key alone.
        check: looks closer than "it runs".
    """

    name: str
    comms: Tuple[str, ...]
    tell: str
    check: Optional[Check] = None


@dataclass(frozen=True)
class Owned:
    """A key's owner on this node, the evidence, and how to tell it."""

    owner: str
    evidence: str
    how_to_tell: str

    def to_dict(self) -> Dict[str, str]:
        """Return the JSON-able form."""
        return {"owner": self.owner, "evidence": self.evidence, "how_to_tell": self.how_to_tell}


def _cmdline(pid: int, host: Host) -> List[str]:
    text = read_text(host.path("proc", str(pid), "cmdline"), 1 << 16) or ""
    return [word for word in text.split("\0") if word]


def _flag_value(words: Sequence[str], flag: str) -> Optional[str]:
    """Return the value of ``--flag=value`` or ``--flag value``."""
    for index, word in enumerate(words):
        if word == flag and index + 1 < len(words):
            return words[index + 1]
        if word.startswith(flag + "="):
            return word[len(flag) + 1 :]
    return None


def _inside(pid: int, path: str, host: Host) -> str:
    """Return the text of a file as the process sees it (its own mount namespace), "" if it cannot be read."""
    return read_text(host.path("proc", str(pid), "root", path)) or ""


# kube-proxy leaves a key alone where its setting is 0 (pkg/proxy/conntrack/sysctls.go, cmd/kube-proxy).
_KUBE_PROXY_OFF = {
    "net.netfilter.nf_conntrack_max": ("--conntrack-max-per-core", "maxPerCore"),
    "net.nf_conntrack_max": ("--conntrack-max-per-core", "maxPerCore"),
    "net.netfilter.nf_conntrack_buckets": ("--conntrack-max-per-core", "maxPerCore"),
    "net.netfilter.nf_conntrack_tcp_timeout_established": (
        "--conntrack-tcp-timeout-established",
        "tcpEstablishedTimeout",
    ),
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait": (
        "--conntrack-tcp-timeout-close-wait",
        "tcpCloseWaitTimeout",
    ),
}
_ZERO = r"[\"']?0(s|h0m0s|m0s)?[\"']?"


def _kube_proxy(key: str, pids: List[int], host: Host) -> Optional[str]:
    pid = pids[0]
    words = _cmdline(pid, host)
    flag, field = _KUBE_PROXY_OFF.get(key, ("", ""))
    if field:
        config = _flag_value(words, "--config")
        text = _inside(pid, config, host) if config else ""
        if re.search(r"(?m)^\s*%s:\s*%s\s*$" % (field, _ZERO), text):
            return None
        value = _flag_value(words, flag)
        if value is not None and re.fullmatch(_ZERO, value):
            return None
    return "process kube-proxy (pid %d)" % pid


def _k3s(key: str, pids: List[int], host: Host) -> Optional[str]:
    flag, _field = _KUBE_PROXY_OFF.get(key, ("", ""))
    text = "\n".join(_cmdline(pids[0], host)) + "\n" + (read_text(host.path("etc/rancher/k3s/config.yaml")) or "")
    if flag and re.search(r"%s=%s\b" % (flag[2:], _ZERO), text):
        return None
    return "process k3s (pid %d)" % pids[0]


def _cilium_bandwidth(key: str, pids: List[int], host: Host) -> Optional[str]:
    """Cilium writes qdisc and congestion control only with its bandwidth manager (pkg/datapath/linux/bandwidth)."""
    pid = pids[0]
    flag = _flag_value(_cmdline(pid, host), "--enable-bandwidth-manager")
    config = _inside(pid, "tmp/cilium/config-map/enable-bandwidth-manager", host).strip()
    if "true" in (flag, config):
        return "process cilium-agent (pid %d) with enable-bandwidth-manager" % pid
    return None


# systemd.network(5): networkd writes forwarding only where a file asks for it.
_NETWORKD_DIRECTORIES = ("etc/systemd/network", "run/systemd/network", "usr/lib/systemd/network")
_NETWORKD_FORWARD = re.compile(
    r"(?m)^\s*(IPForward|IPv4Forwarding|IPv6Forwarding|IPMasquerade)\s*=\s*(?!no\b|false\b)\S"
)


def _networkd(key: str, pids: List[int], host: Host) -> Optional[str]:
    if not key.endswith(("forwarding", "ip_forward")):
        return "process systemd-networkd (pid %d)" % pids[0]
    paths = ["etc/systemd/networkd.conf"]
    for directory in _NETWORKD_DIRECTORIES:
        try:
            names = sorted(os.listdir(host.path(directory)))
        except OSError:
            continue
        paths.extend(directory + "/" + name for name in names if name.endswith(".network"))
    for path in paths:
        if _NETWORKD_FORWARD.search(read_text(host.path(path)) or ""):
            return "process systemd-networkd (pid %d) and /%s" % (pids[0], path)
    return None


_TUNED_DIRECTORIES = (
    "etc/tuned/profiles",
    "etc/tuned",
    "usr/lib/tuned/profiles",
    "usr/lib/tuned",
    "var/lib/ocp-tuned/profiles",
)
_TUNED_DEPTH = 12


def parse_tuned(text: str) -> Tuple[List[str], List[str]]:
    """Return (included profiles, sysctl keys) of a tuned.conf; what cannot be read is skipped."""
    includes: List[str] = []
    keys: List[str] = []
    section = ""
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
            continue
        name, sep, value = line.partition("=")
        name = name.strip()
        if not sep:
            continue
        if section == "main" and name == "include":
            includes.extend(part for part in re.split(r"[,;\s]+", value) if re.fullmatch(r"[A-Za-z0-9_.-]+", part))
        elif section.startswith("sysctl") and name not in ("type", "enabled", "replace"):
            try:
                keys.append(canonical_key(name))
            except NodeError:
                continue  # a variable or a glob: not a key this tool could be asked for
    return includes, keys


def _tuned(key: str, pids: List[int], host: Host) -> Optional[str]:
    """TuneD owns the keys of its active profile and of those it includes (plugin_sysctl.py)."""
    pid = pids[0]
    todo = _inside(pid, "etc/tuned/active_profile", host).split()
    seen: List[str] = []
    while todo and len(seen) < _TUNED_DEPTH:
        name = todo.pop(0)
        if name in seen or not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            continue
        seen.append(name)
        for directory in _TUNED_DIRECTORIES:
            text = _inside(pid, "%s/%s/tuned.conf" % (directory, name), host)
            if text:
                includes, keys = parse_tuned(text)
                if key in keys:
                    return "process tuned (pid %d), profile %s" % (pid, name)
                todo.extend(includes)
                break
    return None


_KUBE_PROXY_TELL = "set conntrack.maxPerCore: 0 (and the timeouts to 0s) in kube-proxy's configuration"
_CNI_TELL = "set it in the CNI's own configuration"

#: Every owner with what it takes to tell it. Sources: facts of the programs' own code.
OWNERS: Dict[str, Owner] = {
    owner.name: owner
    for owner in (
        Owner("kube-proxy", ("kube-proxy",), _KUBE_PROXY_TELL, _kube_proxy),
        Owner("k3s", ("k3s-server", "k3s-agent", "k3s"), "pass it by kube-proxy-arg or kubelet-arg of k3s", _k3s),
        Owner("kubelet", ("kubelet",), "set protectKernelDefaults: true, and it only checks the value"),
        Owner("cilium", ("cilium-agent",), "set it in Cilium's Helm values"),
        Owner("cilium-bandwidth", ("cilium-agent",), "set bandwidthManager in Cilium's Helm values", _cilium_bandwidth),
        Owner("calico", ("calico-node", "calico-felix", "felix"), "set it in FelixConfiguration"),
        Owner("aws-cni", ("aws-k8s-agent",), _CNI_TELL),
        Owner("antrea", ("antrea-agent",), _CNI_TELL),
        Owner("kube-router", ("kube-router",), _CNI_TELL),
        Owner("weave", ("weaver",), _CNI_TELL),
        Owner("flannel", ("flanneld",), _CNI_TELL),
        Owner("ovn-kubernetes", ("ovnkube", "ovnkube-node"), _CNI_TELL),
        Owner("docker", ("dockerd",), "set ip-forward and iptables in /etc/docker/daemon.json"),
        Owner("tuned", ("tuned", "openshift-tuned"), "set it in [sysctl] of the active TuneD profile", _tuned),
        Owner("systemd-networkd", ("systemd-network",), "set it in the interface's .network file", _networkd),
        Owner("NetworkManager", ("NetworkManager",), "set it in the connection profile (nmcli connection modify)"),
        Owner("bpftune", ("bpftune",), "leave it to bpftune, or disable the tuner (bpftune -a lists them)"),
    )
}

#: Not in the catalogue's rows: they may own any key.
_ANY_KEY = ("tuned",)
# The kernel keeps 15 characters of a program's name.
_COMM_LIMIT = 15


def live_pids(comms: Iterable[str], host: Host) -> List[int]:
    """Return the pids of running programs by their names (cut as the kernel cuts them)."""
    found: List[int] = []
    for comm in comms:
        found.extend(host.processes.get(comm[:_COMM_LIMIT], []))
    return sorted(found)


def owner_of(key: str, names: Sequence[str], host: Host) -> Optional[Owned]:
    """Return the first of the named programs that is alive and writes the key, None if there is none.

    A name this module does not know is taken as a program's name in /proc/PID/comm.
    """
    for name in (*names, *_ANY_KEY):
        owner = OWNERS.get(name) or Owner(name, (name,), "set it in %s's own configuration" % name)
        pids = live_pids(owner.comms, host)
        if not pids:
            continue
        evidence = owner.check(key, pids, host) if owner.check else "process %s (pid %d)" % (owner.comms[0], pids[0])
        if evidence:
            return Owned(owner.name, evidence, owner.tell)
    return None


def detect(settings: Sequence[Setting], host: Host) -> Dict[str, Owned]:
    """Return canonical key -> its owner on this node, for the settings' keys."""
    found: Dict[str, Owned] = {}
    for setting in settings:
        owned = owner_of(setting.key, setting.owners, host)
        if owned is not None:
            found[setting.key] = owned
    return found
