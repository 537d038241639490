# SPDX-License-Identifier: Apache-2.0
"""What a rebuild takes away, and what must not be alive when it does."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Dict, FrozenSet, Iterable, List, Mapping, Sequence, Tuple

from ...errors import NodeError
from ...host import Host
from .. import attachment
from ..leases import KEPT
from ..model import Lease, Network, Sandbox

#: Files taken away in one rebuild; what is more stays and is said.
MOST = 5000
_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Known:
    """How the state of one CNI is rebuilt.

    Attributes:
        files: what its agent writes anew when it starts.
    """

    files: Tuple[str, ...]


#: CNIs whose agent makes all of its links, chains and routes anew when it starts. Those that keep programs or maps in
#: the kernel (Cilium, Calico with eBPF) are not among them: only a reboot takes all of that away (cilium#17292).
KNOWN: Mapping[str, Known] = {"flannel": Known(("/run/flannel/subnet.env",))}

#: Kinds of artefacts that are taken away; what is in the kernel's BPF file system never is.
KINDS = ("chains", "table", "ipset", "route", "rule", "link")


def supported(cni: str) -> Known:
    """Return how a CNI is rebuilt. Raises NodeError(code="unsupported")."""
    found = KNOWN.get(cni)
    if found is None:
        raise NodeError(
            "the CNI state of this node cannot be rebuilt",
            "%s is not known to make everything anew when its agent starts" % (cni or "no CNI: its configuration"),
            "drain the node and reboot or replace it",
            code="unsupported",
        )
    return found


def refuse_alive(sandboxes: Mapping[str, Sandbox], leases: Iterable[Lease], host_pods: FrozenSet[str]) -> None:
    """Make sure that no pod uses what would be taken away (pure).

    Args:
        sandboxes: of the runtime, by id.
        leases: of the network.
        host_pods: uids of the pods that use the node's own network and may live on.

    Raises:
        NodeError: code ``alive``: which.
    """
    ready = {key: one for key, one in sandboxes.items() if one.ready}
    with_uid = [one for one in ready.values() if one.uid and one.uid not in host_pods]
    holding = [ready[lease.id] for lease in leases if lease.id in ready]
    names = sorted("%s/%s" % (o.namespace, o.name) if o.name else o.id[:13] for o in with_uid or holding)
    if names:
        more = " and %d more" % (len(names) - 5) if len(names) > 5 else ""
        why, following = ", ".join(names[:5]) + more, "run it again: it waits for them"
        raise NodeError("pods still have a network on this node", why, following, code="alive")


def files(host: Host, networks: Sequence[Network], cni: str, sandboxes: Mapping[str, Sandbox]) -> List[str]:
    """Return the files that are moved away: leases, cached attachments, what the agent writes anew.

    host-local's lock and its note of the last address stay. What a sandbox that still runs has is left.
    """
    ready = {key for key, one in sandboxes.items() if one.ready}
    found = [path for path in supported(cni).files if os.path.isfile(host.path(path))]
    for network in networks:
        names = [name for name in _names(host, network.directory) if not name.startswith(KEPT)]
        found += [os.path.join(network.directory, name) for name in names]
        prefix = network.name + "-"
        found += [os.path.join(attachment.RESULTS, n) for n in _names(host, attachment.RESULTS) if n.startswith(prefix)]
    found += [os.path.join(attachment.DELEGATES, name) for name in _names(host, attachment.DELEGATES)]
    return [path for path in found if not (_ids(path) & ready)]


def _ids(path: str) -> FrozenSet[str]:
    return frozenset(_ID.findall(os.path.basename(path)))


def _names(host: Host, directory: str) -> List[str]:
    """Return the plain files of a directory."""
    base = host.path(directory)
    try:
        return sorted(e.name for e in os.scandir(base) if e.is_file(follow_symlinks=False))
    except OSError:
        return []


def counted(before: Mapping[str, int], kinds: Iterable[str]) -> Dict[str, int]:
    """Return how many there are of each kind, with those of before (pure)."""
    found = dict(before)
    for kind in kinds:
        found[kind] = found.get(kind, 0) + 1
    return found
