# SPDX-License-Identifier: Apache-2.0
"""NIC queues as a family of settings: channels, rings, RPS and XPS."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..errors import NodeError
from ..family import Family
from ..host import Host
from ..model import Change
from . import apply
from .decide import FAMILY_NAME
from .identity import same_device
from .model import NicSetting, parse_setting
from .plan import plan
from .read import observe


class NicFamily(Family):
    """Queues of network devices. Keys: eth0/channels, eth0/rings, eth0/rps/rx-0, eth0/xps/tx-0."""

    name = FAMILY_NAME
    catalogue_version = "nic-1"

    def parse(self, raw: Sequence[Mapping[str, Any]]) -> List[NicSetting]:
        """Validate raw settings. Raises NodeError(code="usage")."""
        if not isinstance(raw, (list, tuple)):
            raise NodeError("nic_queues must be a list of settings", code="usage")
        return [parse_setting(item) for item in raw]

    def observe(self, settings: Sequence[NicSetting], host: Host) -> Dict[str, Any]:
        """Read the network devices the settings mean; the physical ones without settings."""
        return observe(settings, host)

    def plan(self, settings: Sequence[NicSetting], observation: Mapping[str, Any]) -> List[Change]:
        """Decide (pure)."""
        return plan(settings, observation)

    def read(self, key: str, host: Host) -> Optional[str]:
        """Return the canonical value of a key, None if absent."""
        return apply.read(key, host)

    def write(self, key: str, value: str, host: Host) -> None:
        """Make a key hold a canonical value. Raises NodeError."""
        apply.write(key, value, host)

    def same_device(self, setting: Mapping[str, Any], host: Host) -> Tuple[bool, str]:
        """Tell whether a kept setting still speaks of the device and kernel it was confirmed on.

        Args:
            setting: a raw setting as a change's ``persist`` held it.

        Returns:
            (True, "") or (False, why in plain words).
        """
        names = setting["interfaces"]
        if len(names) != 1:
            return False, "it does not say which device it was confirmed on"
        return same_device(names[0], parse_setting(setting).identity, host)


FAMILY = NicFamily()
