# SPDX-License-Identifier: Apache-2.0
"""The sysctl family as the rest of the node side sees it."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

from ..family import Family
from ..host import Host
from ..model import Change
from . import apply, plan, read
from .catalogue import CATALOGUE_VERSION
from .model import Setting, parse_setting


class SysctlFamily(Family):
    """Kernel parameters below /proc/sys. A change's key is the canonical key: ``net.ipv4.tcp_rmem``."""

    name = "sysctl"
    catalogue_version = CATALOGUE_VERSION

    def parse(self, raw: Sequence[Mapping[str, Any]]) -> List[Setting]:
        """Check settings; of two for the same key the later one counts. Raises NodeError (usage)."""
        found: Dict[str, Setting] = {}
        for item in raw:
            setting = parse_setting(item)
            found.pop(setting.key, None)
            found[setting.key] = setting
        return list(found.values())

    def observe(self, settings: Sequence[Setting], host: Host) -> Dict[str, Any]:
        """Read what the plan needs: see :func:`read.observe`."""
        return read.observe(settings, host)

    def plan(self, settings: Sequence[Setting], observation: Mapping[str, Any]) -> List[Change]:
        """Decide, without any I/O: see :func:`plan.plan`."""
        return plan.plan(settings, observation)

    def read(self, key: str, host: Host) -> Optional[str]:
        """Return a key's canonical value, None if absent. Raises NodeError."""
        return read.read_key(key, host)

    def write(self, key: str, value: str, host: Host) -> None:
        """Write a key in one call. Raises NodeError."""
        apply.write_key(key, value, host)


FAMILY = SysctlFamily()
