# SPDX-License-Identifier: Apache-2.0
"""Read and write one NIC value by its key (I/O out)."""

from __future__ import annotations

import contextlib
import time
from typing import Optional

from ..errors import NodeError
from ..host import Host
from . import cpus, sysfs
from .ethtool import IFF_RUNNING, Channels, Ethtool, Rss
from .model import Key, parse_counts, parse_key
from .plan_channels import is_user_set
from .read import channels_text, rings_text

#: Seconds a link may take to come back after its queues were changed.
LINK_WAIT = 10.0
_POLL = 0.1


def read(key: str, host: Host) -> Optional[str]:
    """Return the canonical value of a key, None where interface, queue or feature is absent."""
    parts = parse_key(key)
    with Ethtool() as tool:
        try:
            return _read(parts, host, tool)
        except NodeError as exc:
            if exc.code == "gone":
                return None
            raise


def _read(key: Key, host: Host, tool: Ethtool) -> Optional[str]:
    if key.aspect == "channels":
        return channels_text(tool.channels(key.interface))
    if key.aspect == "rings":
        return rings_text(tool.rings(key.interface))
    if not sysfs.is_ours(host, key.interface, tool):
        return None
    return sysfs.read_mask(host, key.interface, key.aspect, key.queue)


def write(key: str, value: str, host: Host) -> None:
    """Make a key hold a canonical value; nothing is touched where it already does.

    Returns only when a link that was up is up again. Raises NodeError: ``gone`` where interface or queue do
    not exist, ``unsupported`` where the device cannot, ``failed`` for the rest.
    """
    parts = parse_key(key)
    with Ethtool() as tool:
        tool.flags(parts.interface)  # says "gone" first, whatever the value
        if _read(parts, host, tool) == value:
            return  # never interrupts a link for nothing
        if parts.queue:
            _write_mask(parts, value, host, tool)
            return
        was_running = _is_running(parts.interface, host, tool)
        if parts.aspect == "channels":
            _write_channels(parts.interface, value, tool)
        else:
            _write_rings(parts.interface, value, tool)
        if was_running:
            _await_link(parts.interface, host, tool)


def _write_mask(key: Key, value: str, host: Host, tool: Ethtool) -> None:
    if cpus.canonical_mask(value) is None:
        raise NodeError("%r is not a CPU mask" % value, code="usage")
    if not sysfs.is_ours(host, key.interface, tool):
        raise NodeError(
            "%s/%s cannot be set" % (key.interface, key.aspect),
            "/sys does not show this network namespace",
            code="unsupported",
        )
    sysfs.write_mask(host, key.interface, key.aspect, key.queue, value)


def _write_channels(name: str, value: str, tool: Ethtool) -> None:
    now = tool.channels(name)
    if now is None:
        raise NodeError("%s has no queue counts" % name, "its driver cannot set them", code="unsupported")
    counts = parse_counts(value)
    table = tool.rss(name)
    tool.set_channels(name, now._replace(rx=counts["rx"], tx=counts["tx"], combined=counts["combined"]))
    if table is not None:
        _keep_table(name, now, table, tool)


def _keep_table(name: str, before: Channels, table: Rss, tool: Ethtool) -> None:
    """Put a hand-set RSS table back if it was lost, and spread a default one that was left stale."""
    now, held = tool.channels(name), tool.rss(name)
    if now is None or held is None:
        return
    queues = now.rx + now.combined
    if is_user_set(table.table, before.rx + before.combined):
        if max(table.table) < queues:
            # Also where it seems to be held: the virtio_net driver keeps it, while its device has forgotten it.
            tool.set_rss(name, table._replace(key=b"") if held.key == table.key else table)
    elif is_user_set(held.table, queues):
        # Some drivers spread over fewer queues by themselves and refuse more: then theirs stays.
        with contextlib.suppress(NodeError):
            tool.reset_rss(name)


def _write_rings(name: str, value: str, tool: Ethtool) -> None:
    now = tool.rings(name)
    if now is None:
        raise NodeError("%s has no rings" % name, "its driver has none to set", code="unsupported")
    counts = parse_counts(value)
    tool.set_rings(name, now._replace(rx=counts["rx"], tx=counts["tx"]))


def _is_running(name: str, host: Host, tool: Ethtool) -> bool:
    """Tell whether the link carries traffic; a bond port must also be up in the bond's eyes."""
    if not tool.flags(name) & IFF_RUNNING:
        return False
    return sysfs.text(host, "class/net", name, "bonding_slave/mii_status") in ("", "up")


def _await_link(name: str, host: Host, tool: Ethtool) -> None:
    deadline = time.monotonic() + LINK_WAIT
    while not _is_running(name, host, tool):
        if time.monotonic() >= deadline:
            raise NodeError(
                "the link of %s did not come back" % name,
                "it was up before its queues were changed, and is down %.0f s later" % LINK_WAIT,
            )
        time.sleep(_POLL)
