# SPDX-License-Identifier: Apache-2.0
"""Whether an interface is still the device that a kept setting was confirmed on."""

from __future__ import annotations

from typing import Mapping, Tuple

from ..errors import NodeError
from ..host import Host
from .ethtool import Ethtool


def same_device(name: str, identity: Mapping[str, str], host: Host) -> Tuple[bool, str]:
    """Compare kernel, driver and address with what they were.

    A made-up device (bond, VLAN, a container's cable) has a new address at every boot: only a card's permanent one
    tells one from another.

    Args:
        name: the interface.
        identity: ``kernel``, ``driver`` and ``mac`` as a change's ``persist`` held them.
        host: this node.

    Returns:
        (True, "") or (False, why in plain words).
    """
    if not identity:
        return False, "it does not say which device it was confirmed on"
    if identity.get("kernel") != host.kernel:
        return False, "confirmed on kernel %s, this is %s" % (identity.get("kernel"), host.kernel)
    try:
        with Ethtool() as tool:
            driver, permanent, mac = tool.driver(name) or "?", tool.permanent_mac(name), tool.mac(name)
    except NodeError as exc:
        return False, str(exc)
    if identity.get("driver") != driver:
        return False, "%s was driven by %s, now by %s" % (name, identity.get("driver"), driver)
    if permanent and identity.get("mac") and identity["mac"] not in (permanent, mac):
        return False, "%s is another card: its address is not %s" % (name, identity["mac"])
    return True, ""
