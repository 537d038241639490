# SPDX-License-Identifier: Apache-2.0
"""Small pure pieces shared by the plan's parts: a NIC as the plan sees it, and how a change is made."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ..model import Change
from . import cpus
from .model import NicSetting, format_wish

FAMILY_NAME = "nic_queues"

_SCALING = "Linux Documentation/networking/scaling.rst"

#: Why "auto", or any ring, wants a value and where the rule comes from, where the setting does not say so itself.
_WHY = {
    "channels": ("one queue for each core near the NIC; more queues than cores bring nothing", _SCALING),
    "rings": ("a deeper ring takes longer bursts before it drops", "ethtool(8), --set-ring"),
    "rps": ("spreads packets of few queues over the cores near the NIC", _SCALING),
    "xps": ("each CPU sends through its own queue, without contention", _SCALING),
}

#: Drivers that change queues without taking the link down.
_SEAMLESS = ("veth", "virtio_net", "tun")


class Nic(NamedTuple):
    """One NIC and the node facts its plan needs."""

    name: str
    outline: Mapping[str, Any]
    detail: Mapping[str, Any]
    cpus: Mapping[str, Any]
    kernel: str

    @property
    def driver(self) -> str:
        """The driver's name, "?" where it has none."""
        return str(self.detail["driver"] or "?")

    def usable_cpus(self) -> List[int]:
        """Return the CPUs that may work for this NIC: those of its NUMA node, isolated ones left out."""
        online = set(self.cpus["online"])
        free = online - set(self.cpus["isolated"])
        near = set(self.detail["domain"]["cpus"])
        return sorted(near & free or free or online)

    def usable_cores(self) -> int:
        """Return how many physical cores :meth:`usable_cpus` are."""
        return cpus.count_cores(self.usable_cpus(), self.cpus["cores"])

    def where(self) -> str:
        """Return what the counts are taken from: "NUMA node 1" or "this node"."""
        node = self.detail["domain"]["node"]
        return "NUMA node %d" % node if node >= 0 and self.detail["domain"]["cpus"] else "this node"


def count(number: int, noun: str) -> str:
    """Return "1 queue" or "2 queues"."""
    return "%d %s%s" % (number, noun, "" if number == 1 else "s")


def change(
    nic: Nic,
    setting: NicSetting,
    key: str,
    before: Optional[str],
    want: Optional[str],
    notes: Sequence[str],
    status: str = "",
    owner: str = "",
) -> Change:
    """Return a change; its status is ok or pending unless given."""
    aspect = key.split("/")[1]
    if not status:
        status = "ok" if before == want else "pending"
    wish = setting.wish(aspect)
    reason, source = _WHY[aspect] if wish == "auto" or aspect == "rings" else ("asked for as it stands", "")
    return Change(
        family=FAMILY_NAME,
        key=key,
        before=before,
        want=want,
        status=status,
        requested=format_wish(wish),
        reason=setting.reason or reason,
        source=setting.source or source,
        owner=owner,
        note="; ".join(n for n in notes if n),
        disruptive=status == "pending" and aspect in ("channels", "rings") and nic.driver not in _SEAMLESS,
        identity={"driver": nic.driver, "mac": nic.detail["mac"]},
        persist=keep(nic, setting, aspect) if status in ("ok", "pending") else None,
    )


def keep(nic: Nic, setting: NicSetting, aspect: str) -> Dict[str, Any]:
    """Return the raw setting to keep on the node: one interface, one aspect, and what it was confirmed on."""
    identity = {"driver": nic.driver, "kernel": nic.kernel}
    if nic.detail["mac_lasts"]:
        identity["mac"] = nic.detail["mac"]
    kept: Dict[str, Any] = {"interfaces": [nic.name], aspect: setting.wish(aspect), "identity": identity}
    for name in ("reason", "source"):
        if getattr(setting, name):
            kept[name] = getattr(setting, name)
    return kept
