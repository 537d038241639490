# SPDX-License-Identifier: Apache-2.0
"""How far a node's kernel parameters reach into its pods. Pure: no I/O."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from .catalogue import lookup, pattern_of
from .entry import DEFAULT, HOST, INHERITED
from .model import Setting
from .plan import target

#: A wish, and the value the node has or will have.
Wish = Tuple[Setting, str]

#: The catalogue does not know the key.
UNKNOWN = "unknown"

# Kubernetes' safe set and since when (docs/tasks/administer-cluster/sysctl-cluster; the kubelet's own list is
# pkg/kubelet/sysctl/safe_sysctls.go). The kubelet must be told to allow every other one.
SAFE: Dict[str, str] = {
    "net.ipv4.ip_local_port_range": "",
    "net.ipv4.tcp_syncookies": "",
    "net.ipv4.ping_group_range": "1.18",
    "net.ipv4.ip_unprivileged_port_start": "1.22",
    "net.ipv4.ip_local_reserved_ports": "1.27",
    "net.ipv4.tcp_keepalive_time": "1.29",
    "net.ipv4.tcp_keepalive_intvl": "1.29",
    "net.ipv4.tcp_keepalive_probes": "1.29",
    "net.ipv4.tcp_fin_timeout": "1.29",
    "net.ipv4.tcp_rmem": "1.32",
    "net.ipv4.tcp_wmem": "1.32",
    "net.ipv4.tcp_slow_start_after_idle": "1.37",
    "net.ipv4.tcp_notsent_lowat": "1.37",
}

_VALUE_LIMIT = 512


def matters(setting: Setting) -> bool:
    """Return whether a pod's own value of a key counts for what was wished of the node."""
    if setting.scope == HOST or not setting.key.startswith("net."):
        return False
    if pattern_of(setting.key) and setting.key.split(".")[3] not in ("all", "default"):
        return False  # an interface of the node; a pod has others
    entry = lookup(setting.key)
    return entry is None or not entry.node_only


def reach(key: str, inherit: str = "0") -> str:
    """Return how a new pod comes by a key: ``inherited``, ``default`` or ``unknown``.

    Args:
        key: canonical key of scope netns.
        inherit: ``net.core.devconf_inherit_init_net``, which decides for conf.*: 0 IPv4 only, 1 both, 2 none,
            3 both, from the namespace of the container runtime (the kernel's admin-guide/sysctl/net.rst).
    """
    entry = lookup(key)
    if entry is None:
        return UNKNOWN
    if key.startswith(("net.ipv4.conf.", "net.ipv6.conf.")):
        copied = inherit in ("1", "3") or (inherit != "2" and entry.inherited)
        return INHERITED if copied else DEFAULT
    return entry.pods


def _in_the_pod(key: str) -> str:
    since = SAFE.get(key)
    if since is None:
        return "set it in the pod's securityContext.sysctls; the kubelet must allow it (allowedUnsafeSysctls)"
    safe = "a safe sysctl" + (" since Kubernetes " + since if since else "")
    return "set it in the pod's securityContext.sysctls (%s)" % safe


def _note(key: str, how: str, initial: bool) -> str:
    """Return in one line why the pod has another value, and what to do."""
    if how == INHERITED and initial:
        return "pods made after the change get the node's value: restart the workload"
    if how == INHERITED:
        return "pods get it from the machine's initial network namespace, which is not this node's: " + _in_the_pod(key)
    if how == DEFAULT:
        return "every pod starts at the kernel's default: " + _in_the_pod(key)
    return "whether a new pod gets the node's value is not known for this key: " + _in_the_pod(key)


def compare(
    wishes: Sequence[Wish], pod: Mapping[str, Optional[str]], initial: bool = True, inherit: str = "0"
) -> List[Dict[str, str]]:
    """Return the keys of which a pod falls short.

    Args:
        wishes: the node's settings with the value it has or will have (canonical text).
        pod: key -> the pod's value (canonical text), None or absent where it has no such key.
        initial: the node lives in the machine's initial network namespace, from which pods inherit.
        inherit: see :func:`reach`.

    Returns:
        ``key``, ``node``, ``pod``, ``reach`` and ``note`` for each key whose value in the pod is neither the node's nor
        one that meets the wish (a floor of 4096 is met by 65535). In the order of the wishes.
    """
    found: List[Dict[str, str]] = []
    for setting, node in wishes:
        held = pod.get(setting.key)
        if held is None or held == node or not matters(setting) or target(setting, held) == held:
            continue
        how = reach(setting.key, inherit)
        row = {"key": setting.key, "node": node[:_VALUE_LIMIT], "pod": held[:_VALUE_LIMIT], "reach": how}
        row["note"] = _note(setting.key, how, initial)
        found.append(row)
    return found
