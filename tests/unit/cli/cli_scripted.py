"""A fleet that answers from a dictionary, in place of ansible-playbook, for tests of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tune_nodes.fleet.runner import Call, CallResult
from tune_nodes.runs.models import ChangeRecord, NodeRecord, Outcome, Transaction


@dataclass
class Fleet:
    """Nodes by name, each with the value its one setting has; ``broken`` ones revert when they are changed."""

    values: dict[str, str]
    want: str = "4096"
    broken: set[str] = field(default_factory=set)
    unreachable: set[str] = field(default_factory=set)
    calls: list[tuple[str, list[str]]] = field(default_factory=list)

    def run(self, call: Call) -> CallResult:
        """Answer one request."""
        operation = str(call.request["operation"])
        check = bool(call.request["common"].get("check"))
        self.calls.append((f"{operation} check" if check else operation, call.names))
        records = {name: self._answer(operation, check, name, call.request) for name in call.names}
        for record in records.values():
            call.on_record(record)
        return CallResult(records)

    def _answer(self, operation: str, check: bool, name: str, request: Mapping[str, Any]) -> NodeRecord:
        if name in self.unreachable:
            return NodeRecord(name=name, outcome=Outcome.UNREACHABLE)
        before, want = self.values[name], self.want if operation != "rollback" else "128"
        plan_hash = f"sha256:{name}{before}{want}"
        pending = before != want
        given = {
            "name": name,
            "host": {"machine_id": f"m-{name}", "boot_id": "b", "roles": ["worker"]},
            "plan_hash": plan_hash,
            "changes": [self._change(before, want, "pending" if pending else "ok")],
        }
        if operation == "plan" or check or not pending:
            return self._record(Outcome.PENDING if pending else Outcome.OK, given)
        assert request["nodes"][name]["expect"] == plan_hash
        run = str(request["common"]["run"])
        if name in self.broken:
            return self._record(Outcome.REVERTED, {**given, "tx": Transaction(id=run, state="REVERTED")})
        self.values[name] = want
        return self._record(Outcome.CHANGED, {**given, "tx": Transaction(id=run, state="DONE")})

    @staticmethod
    def _record(outcome: Outcome, given: Mapping[str, Any]) -> NodeRecord:
        return NodeRecord.model_validate({**given, "outcome": outcome})

    @staticmethod
    def _change(before: str, want: str, status: str) -> ChangeRecord:
        return ChangeRecord(family="sysctl", key="net.core.somaxconn", before=before, want=want, status=status)
