# SPDX-License-Identifier: Apache-2.0
"""MTUs as a family of settings: interface, tunnel and bridge as one stack."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..errors import NodeError
from ..family import Family
from ..host import Host
from ..model import Change
from ..nic.identity import same_device
from . import apply
from .model import FAMILY_NAME, HOLD, MtuSetting, parse_setting
from .plan import plan
from .read import observe


class MtuFamily(Family):
    """MTUs of a node's links.

    Keys: eth0/mtu, flannel.1/mtu; eth0/route-mtu, what its routes are pinned at between two rounds; pods/mtu says what
    new pods get and is never written.
    """

    name = FAMILY_NAME
    catalogue_version = "mtu-2"

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

    def first_round(self, settings: Sequence[MtuSetting]) -> List[MtuSetting]:
        """Return the settings with the routes held at the smaller size."""
        return [replace(setting, pin=HOLD) for setting in settings]

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
        return same_device(parsed.interfaces[0], parsed.identity, host, made_up=True)


FAMILY = MtuFamily()
