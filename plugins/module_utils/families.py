# SPDX-License-Identifier: Apache-2.0
"""The families that tune a node. They travel together, so that any reverter can undo any of them."""

from __future__ import annotations

from typing import Sequence

from .family import Family
from .mtu.family import FAMILY as MTU
from .nic.family import FAMILY as NIC_QUEUES
from .sysctl.family import FAMILY as SYSCTL

TUNING: Sequence[Family] = (SYSCTL, NIC_QUEUES, MTU)
