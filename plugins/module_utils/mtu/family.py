# SPDX-License-Identifier: Apache-2.0
"""MTUs as a family of settings: interface, tunnel and bridge as one stack."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..errors import NodeError
from ..family import Family
from ..host import Host
from ..model import Change
from ..nic.ethtool import Ethtool
from . import apply
from .model import FAMILY_NAME, MtuSetting, parse_setting
from .plan import plan
from .read import observe


class MtuFamily(Family):
    """MTUs of a node's links. Keys: eth0/mtu, flannel.1/mtu; pods/mtu says what new pods get and is never written."""

    name = FAMILY_NAME
    catalogue_version = "mtu-1"

    def parse(self, raw: Sequence[Mapping[str, Any]]) -> List[MtuSetting]:
        """Validate raw settings. Raises NodeError(code="usage")."""
        if not isinstance(raw, (list, tuple)):
            raise NodeError("mtu must be a list of settings", code="usage")
        return [parse_setting(item) for item in raw]

    def observe(self, settings: Sequence[MtuSetting], host: Host) -> Dict[str, Any]:
        """Read the whole stack, and what is wrong with it."""
        return observe(settings, host)

    def plan(self, settings: Sequence[MtuSetting], observation: Mapping[str, Any]) -> List[Change]:
        """Decide (pure)."""
        return plan(settings, observation)

    def read(self, key: str, host: Host) -> Optional[str]:
        """Return an interface's MTU, None if it is absent."""
        return apply.read(key, host)

    def write(self, key: str, value: str, host: Host) -> None:
        """Set an interface's MTU. Raises NodeError."""
        apply.write(key, value, host)

    def same_device(self, setting: Mapping[str, Any], host: Host) -> Tuple[bool, str]:
        """Tell whether a kept setting still speaks of the device and kernel it was confirmed on.

        Who keeps it does not matter: where the node's network manager has set it already, nothing is left to do.

        Args:
            setting: a raw setting as a change's ``persist`` held it.

        Returns:
            (True, "") or (False, why in plain words).
        """
        parsed = parse_setting(setting)
        identity, name = parsed.identity, parsed.interfaces[0]
        if identity.get("kernel") != host.kernel:
            return False, "confirmed on kernel %s, this is %s" % (identity.get("kernel"), host.kernel)
        try:
            with Ethtool() as tool:
                driver, macs = tool.driver(name) or "", (tool.permanent_mac(name), tool.mac(name))
        except NodeError as exc:
            return False, str(exc)
        if driver and identity.get("driver") != driver:
            return False, "%s was driven by %s, now by %s" % (name, identity.get("driver"), driver)
        # A made-up device (bond, VLAN, a container's cable) has a new address at every boot: only a card's counts.
        if macs[0] and identity.get("mac") not in macs:
            return False, "%s is another card: its address is not %s" % (name, identity.get("mac"))
        return True, ""


FAMILY = MtuFamily()
