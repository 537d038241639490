# SPDX-License-Identifier: Apache-2.0
"""Keep what the modules reported, so that a later step can hold it against another run or against the kernel.

Each ``converge`` (and ``check``) leaves one file in the scenario's records: ``converge-1.json``, ``check-1.json`` …
with, for each node, ``moved`` (key -> [before, want] of all that changed or would), ``unsupported`` (keys) and
``transaction``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: reported
type: notification
short_description: Keep what the modules of a Molecule run reported
description:
  - Writes one JSON file for each converge and check of a scenario.
requirements:
  - run by Molecule
"""


def summary(changes: list[dict[str, Any]], transaction: str | None) -> dict[str, Any]:
    """Return what a step compares of one module's result."""
    moved = [change for change in changes if change["status"] in ("pending", "changed")]
    return {
        "moved": {change["key"]: [change["before"], change["want"]] for change in moved},
        "unsupported": sorted(change["key"] for change in changes if change["status"] == "unsupported"),
        "transaction": transaction,
    }


class CallbackModule(CallbackBase):
    """One instance for each ansible-playbook."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "reported"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._playbook = ""
        self._nodes: dict[str, dict[str, Any]] = {}

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Note which step this is."""
        self._playbook = Path(playbook._file_name).stem

    def v2_runner_on_ok(self, result: Any) -> None:
        """Keep a module's changes."""
        found = result.result
        if not isinstance(found.get("changes"), list):
            return
        name, new = result.host.get_name(), summary(found["changes"], found.get("transaction"))
        if new["transaction"] is None and self._nodes.get(name, new)["transaction"] is not None:
            return  # a second look, in check mode, after the change
        self._nodes[name] = new

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Keep a failed module's changes as well: cleanup takes them back."""
        self.v2_runner_on_ok(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Write the file."""
        if self._playbook != "converge" or not self._nodes:
            return
        step = "check" if context.CLIARGS.get("check") else "converge"
        records = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / os.environ["MOLECULE_SCENARIO_NAME"]
        records.mkdir(parents=True, exist_ok=True)
        number = 1 + len(list(records.glob(f"{step}-*.json")))
        (records / f"{step}-{number}.json").write_text(json.dumps(self._nodes, indent=1), encoding="utf-8")
