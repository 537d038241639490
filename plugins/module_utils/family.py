# SPDX-License-Identifier: Apache-2.0
"""What a family of settings (sysctl, NIC queues ...) is to the rest of the node side."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

from .host import Host
from .model import Change


class Family:
    """One kind of node state. Subclasses are stateless; ``read`` and ``write`` do the I/O.

    The transaction needs only :meth:`read` and :meth:`write`: a revert puts ``before`` back where the
    node still holds ``after``.
    """

    name = ""
    #: Version of the data the decisions rest on; part of a plan's hash.
    catalogue_version = ""

    def parse(self, raw: Sequence[Mapping[str, Any]]) -> List[Any]:
        """Validate settings as they stand in a request. Raises NodeError(code="usage")."""
        raise NotImplementedError

    def observe(self, settings: Sequence[Any], host: Host) -> Dict[str, Any]:
        """Read what the plan needs (I/O in). The result is JSON-able."""
        raise NotImplementedError

    def plan(self, settings: Sequence[Any], observation: Mapping[str, Any]) -> List[Change]:
        """Decide (pure): one change for each setting, in the order they must be applied."""
        raise NotImplementedError

    def first_round(self, settings: Sequence[Any]) -> Sequence[Any]:
        """Return the settings as they hold in the first of two rounds (pure); most need one only."""
        return settings

    def read(self, key: str, host: Host) -> Optional[str]:
        """Return the canonical value the node holds now, None if absent. Raises NodeError."""
        raise NotImplementedError

    def write(self, key: str, value: str, host: Host) -> None:
        """Make the node hold ``value`` (canonical text). Raises NodeError."""
        raise NotImplementedError
