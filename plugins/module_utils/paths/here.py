# SPDX-License-Identifier: Apache-2.0
"""This node as an end of paths: its own address, one pod's, and the layers between (I/O in)."""

from __future__ import annotations

import itertools
import os
from typing import Any, Dict, List, Optional, Tuple

from .. import pods
from ..errors import NodeError
from ..host import Host
from ..mtu.links import decode_address, decode_link
from ..mtu.netlink import RTM_GETADDR, RTM_GETLINK, Netlink, address_request, link_request
from ..mtu.read import observe
from ..mtu.stack import Stack
from .enter import Namespace, run_in
from .layers import addresses_of, bridge_addresses, own_addresses, summary

#: Pods looked at until one has an address.
_TRIES = 4

Found = Dict[str, Any]


def describe(host: Host) -> Found:
    """Return ``addresses`` (of the node, by family), ``pod`` (see :func:`pod_end`), ``layers`` and ``why`` ("" or why
    there is no pod).

    Raises:
        NodeError: the kernel does not answer.
    """
    stack = Stack(observe([], host))
    pod, why = pod_end(host, stack)
    return {"addresses": own_addresses(stack), "pod": pod, "layers": summary(stack), "why": why}


def pod_end(host: Host, stack: Stack) -> Tuple[Optional[Found], str]:
    """Return this node's end of paths between pods, and why it is not a pod's.

    Returns:
        ``name``, ``uid``, ``addresses`` by family, ``mtu``, ``bridge`` (true: no pod runs here, it is the address of
        the CNI's bridge); None where there is neither.
    """
    why = "no kubelet runs here"
    if pods.has_kubelet(host):
        why = "no pod with a network of its own runs here"
        for pod in itertools.islice(pods.own(host), _TRIES):
            try:
                found = _look(pod, host)
            except NodeError as exc:
                why = str(exc)
                continue
            if found is not None:
                return found, ""
            why = "its pods have no address"
    addresses = bridge_addresses(stack)
    if not addresses:
        return None, why
    bridge = next(link for link in stack.links if stack.is_cni_bridge(link))
    return {"name": bridge["name"], "uid": "", "addresses": addresses, "mtu": bridge["mtu"], "bridge": True}, why


def _look(pod: pods.Pod, host: Host) -> Optional[Found]:
    with Namespace(pod, host) as namespace:
        name, links, rows = run_in(namespace, _read)
    for link in links:
        addresses = addresses_of(rows, link["index"])
        if link["up"] and link["name"] != "lo" and addresses:
            return {
                "name": name,
                "uid": pod.uid,
                "addresses": addresses,
                "mtu": link["mtu"],
                "bridge": False,
            }
    return None


def _read() -> Tuple[str, List[Found], List[Found]]:
    with Netlink() as kernel:
        links = [decode_link(body) for body in kernel.dump(RTM_GETLINK, link_request())]
        rows = [decode_address(body) for body in kernel.dump(RTM_GETADDR, address_request())]
    name = os.uname().nodename
    return name, [link for link in links if link is not None], [row for row in rows if row is not None]


def find(uid: str, host: Host) -> pods.Pod:
    """Return the pod of a uid. Raises NodeError(code="gone")."""
    for pod in pods.own(host):
        if pod.uid == uid:
            return pod
    raise NodeError("the pod ended while it was looked at", code="gone")
