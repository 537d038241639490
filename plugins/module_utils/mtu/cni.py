# SPDX-License-Identifier: Apache-2.0
"""Which CNI a node has, its names for links, and where it keeps its MTU.

What is read here lies on the node: the configuration that the container runtime reads, and what the CNI's agent wrote
for it. Settings that live in the Kubernetes API are not seen from here; ``tell`` says where they are.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..host import Host, read_text

CONF_DIR = "/etc/cni/net.d"
FLANNEL_ENV = "/run/flannel/subnet.env"
CALICO_MTU = "/var/lib/calico/mtu"
#: k3s and RKE2 keep theirs elsewhere (their documentation, "Multus and IPAM plugins").
_CONF_DIRS = (CONF_DIR, "/var/lib/rancher/k3s/agent/etc/cni/net.d")
_SUFFIXES = (".conf", ".conflist", ".json")  # what libcni reads
_MOST_FILES = 64


@dataclass(frozen=True)
class Cni:
    """What is known of one CNI.

    Attributes:
        types: names of its plugin in a CNI configuration.
        tunnels, bridges, pods: patterns of its links' names.
        written: its tunnels and bridges keep an MTU that is written to them; else its agent writes its own.
        agent: the program that holds its settings.
        tell: how its setting is changed.
        wireguard: what it reckons for WireGuard, whatever the underlay; 0: as the table has it.
        routes: its tunnel devices have the underlay's MTU, and the routes in pods the smaller one.
    """

    name: str
    types: Tuple[str, ...]
    tunnels: str
    bridges: str
    pods: str
    written: bool
    agent: str
    tell: str
    wireguard: int = 0
    routes: bool = False


NOTHING = r"(?!)"

CNIS: Sequence[Cni] = (
    Cni(
        "flannel",
        ("flannel",),
        r"flannel(-v6)?\.[0-9]+|flannel\.ipip|flannel-wg(-v6)?",
        r"cni0|cbr0",
        r"veth.*",
        True,
        "flanneld",
        "restart its DaemonSet kube-flannel-ds: it takes the MTU of its interface when it starts, unless MTU is set in "
        "net-conf.json of ConfigMap kube-flannel-cfg",
        wireguard=80,
    ),
    Cni(
        "calico",
        ("calico",),
        r"vxlan(-v6)?\.calico|tunl0|wireguard\.cali|wg-v6\.cali",
        NOTHING,
        r"cali.*",
        False,
        "calico-node",
        "set mtu in the FelixConfiguration (spec.mtu in the Installation, veth_mtu in ConfigMap calico-config), or "
        "leave it to its detection and restart calico-node",
    ),
    Cni(
        "cilium",
        ("cilium-cni",),
        r"cilium_(vxlan|geneve|wg0|ipip[46]|tunl|ip6tnl)",
        NOTHING,
        r"lxc.*",
        False,
        "cilium-agent",
        "set mtu in ConfigMap cilium-config, or leave it to its detection and restart the agent",
        routes=True,
    ),
    Cni(
        "weave",
        ("weave-net",),
        r"vxlan-[0-9]+",
        r"weave|datapath",
        r"vethwe.*",
        False,
        "weaver",
        "set WEAVE_MTU in DaemonSet weave-net and restart it",
    ),
    Cni(
        "kube-router",
        (),
        r"tun-.*",
        r"kube-bridge",
        r"veth.*",
        False,
        "kube-router",
        "set mtu in its CNI configuration (ConfigMap kube-router-cfg), or --auto-mtu, and restart it",
    ),
    Cni(
        "ovn-kubernetes",
        ("ovn-k8s-cni-overlay",),
        r"genev_sys_[0-9]+|ovn-k8s-mp[0-9]+",
        NOTHING,
        r"[0-9a-f]{15}",
        False,
        "ovnkube",
        "set the cluster network's MTU through its operator",
    ),
    Cni("aws-vpc", ("aws-cni",), NOTHING, NOTHING, r"eni.*", False, "aws-node", "set AWS_VPC_ENI_MTU in aws-node"),
    Cni("azure-vnet", ("azure-vnet",), NOTHING, NOTHING, r"azv.*", False, "azure-cns", "Azure sets it"),
    Cni(
        "plain",
        ("bridge", "ptp", "macvlan", "ipvlan", "host-device"),
        NOTHING,
        r"cni0|cbr0|cni-.*",
        r"veth.*",
        True,
        "the CNI configuration",
        'set "mtu" in %s' % CONF_DIR,
    ),
)


def by_name(name: str) -> Optional[Cni]:
    """Return what is known of a CNI, None of one that is not."""
    return next((cni for cni in CNIS if cni.name == name), None)


def parse_env(text: str) -> Dict[str, str]:
    """Return KEY=VALUE lines; all else is skipped."""
    pairs = (line.strip().partition("=") for line in text.splitlines())
    return {key: value.strip("\"'") for key, sep, value in pairs if sep and key.isidentifier()}


def parse_conf(text: str) -> List[Dict[str, Any]]:
    """Return the plugins of a CNI configuration or list, the main one first; [] for what is none."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if not isinstance(document, dict):
        return []
    plugins = document.get("plugins", [document])
    found = plugins if isinstance(plugins, list) else []
    return [dict(p) for p in found if isinstance(p, dict) and isinstance(p.get("type"), str)]


def size(value: Any) -> Optional[int]:
    """Return an MTU as configurations write it (number or digits), None where it is absent or 0."""
    if isinstance(value, str) and re.match(r"[0-9]{1,5}\Z", value):
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536 else None


def observe(names: Sequence[str], host: Host) -> Dict[str, Any]:
    """Return what this node's CNI is and gives a new pod.

    Args:
        names: the node's links.

    Returns:
        ``name`` ("" without a CNI, "unknown" for one that is not known), ``file``, ``types``, ``mtu`` (bytes that a
        new pod gets, None where nothing on the node says so), ``mtu_from``, ``bridge`` (named in the configuration),
        ``agent`` (its agent runs), ``env`` (flanneld's subnet.env is there).
    """
    file, plugins = _configuration(host)
    env = parse_env(read_text(host.path(FLANNEL_ENV)) or "")
    found: Dict[str, Any] = {
        "name": _name([str(p["type"]) for p in plugins], plugins, names, bool(env)),
        "file": file,
        "types": [str(p["type"])[:64] for p in plugins],
        "mtu": None,
        "mtu_from": "",
        "bridge": _bridge(plugins),
        "env": bool(env),
    }
    cni = by_name(found["name"])
    found["agent"] = cni is not None and cni.agent in host.processes
    sources = [(size(p.get("mtu")), file) for p in plugins[:1]]
    if found["name"] == "calico":  # 0 in its configuration: what Felix found out
        sources.append((size((read_text(host.path(CALICO_MTU), 64) or "").strip()), CALICO_MTU))
    if found["name"] == "flannel":
        sources = [(size(env.get("FLANNEL_MTU")), FLANNEL_ENV)]
    for value, source in sources:
        if value is not None:
            found.update(mtu=value, mtu_from=source)
            break
    return found


def _configuration(host: Host) -> Tuple[str, List[Dict[str, Any]]]:
    """Return (path, plugins) of what the container runtime uses: the first file by name; Multus stands for the next."""
    for directory in _CONF_DIRS:
        try:
            names = sorted(os.listdir(host.path(directory)))[:_MOST_FILES]
        except OSError:
            continue
        for name in names:
            if not name.endswith(_SUFFIXES):
                continue
            path = os.path.join(directory, name)
            plugins = parse_conf(read_text(host.path(path)) or "")
            if plugins and plugins[0]["type"] not in ("multus", "multus-shim"):
                return path, plugins
    return "", []


def _name(types: Sequence[str], plugins: Sequence[Mapping[str, Any]], names: Sequence[str], env: bool) -> str:
    """Return the CNI's name: by its configuration's main plugin, and by links that are unmistakable."""
    if not types:
        # The configuration was lost, or is not written yet: its tunnel is still there.
        plain = (cni for cni in CNIS if cni.name in ("flannel", "calico", "cilium"))
        return next((cni.name for cni in plain if any(matches(cni.tunnels, name) for name in names)), "")
    if any(re.match(r"kube-bridge\Z", name) for name in [*names, _bridge(plugins)]):
        return "kube-router"
    for cni in CNIS:
        if types[0] in cni.types:
            # Canal: Calico's policy over Flannel's network. Nobody but flanneld knows its tunnel.
            return "flannel" if cni.name == "calico" and env else cni.name
    return "unknown"


def _bridge(plugins: Sequence[Mapping[str, Any]]) -> str:
    for plugin in plugins[:1]:
        delegate = plugin.get("delegate")
        for place in (plugin, delegate if isinstance(delegate, dict) else {}):
            if isinstance(place.get("bridge"), str):
                return str(place["bridge"])[:15]
    return ""


def matches(pattern: str, name: str) -> bool:
    """Tell whether a link's whole name fits one of the patterns above."""
    return re.match("(?:%s)\\Z" % pattern, name) is not None
