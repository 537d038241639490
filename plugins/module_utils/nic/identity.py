# SPDX-License-Identifier: Apache-2.0
"""Whether an interface is still the device that a kept setting was confirmed on."""

from __future__ import annotations

from typing import Mapping, Tuple

from ..errors import NodeError
from ..host import Host
from .ethtool import Ethtool


def same_device(name: str, identity: Mapping[str, str], host: Host, made_up: bool = False) -> Tuple[bool, str]:
    """Compare kernel, driver and address with what they were.

    Args:
        name: the interface.
        identity: ``kernel``, ``driver`` and ``mac`` as a change's ``persist`` held them.
        host: this node.
        made_up: it may be a device that was made up (bond, VLAN, a container's cable), which need not name a driver and
            has a new address at every boot: then only a card's permanent one tells one from another.

    Returns:
        (True, "") or (False, why in plain words).
    """
    if not identity:
        return False, "it does not say which device it was confirmed on"
    if identity.get("kernel") != host.kernel:
        return False, "confirmed on kernel %s, this is %s" % (identity.get("kernel"), host.kernel)
    try:
        with Ethtool() as tool:
            driver, permanent, mac = tool.driver(name), tool.permanent_mac(name), tool.mac(name)
    except NodeError as exc:
        return False, str(exc)
    if (driver or not made_up) and identity.get("driver") != (driver or "?"):
        return False, "%s was driven by %s, now by %s" % (name, identity.get("driver"), driver or "?")
    told = bool(permanent) or not made_up
    if told and identity.get("mac") and identity["mac"] not in (permanent, mac):
        return False, "%s is another card: its address is not %s" % (name, identity["mac"])
    return True, ""
