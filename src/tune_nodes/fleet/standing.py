"""What a node's record says of its state, and the records that a run writes of its own accord (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tune_nodes.errors import TuneError
from tune_nodes.runs.models import ErrorRecord, NodeRecord, Outcome


def machine(record: NodeRecord) -> tuple[str, str]:
    """Return a node's (machine id, boot id), "" where it did not say."""
    host = record.host
    return str(host.get("machine_id") or ""), str(host.get("boot_id") or "")


def unprobed(records: Iterable[NodeRecord]) -> list[str]:
    """Return the nodes on which neither gateway nor any peer answers: there only ssh would show a lost link (pure)."""
    kinds = ("gateway", "peer")
    return [
        record.name
        for record in records
        if (near := [probe.ok for probe in record.probes_before if probe.kind in kinds]) and not any(near)
    ]


def refuse(record: NodeRecord, error: ErrorRecord) -> NodeRecord:
    """Return the record as refused, with the reason."""
    return record.model_copy(update={"outcome": Outcome.REFUSED, "error": error})


def left_out(record: NodeRecord, error: ErrorRecord) -> NodeRecord:
    """Return the record of a node that was not touched in its wave: skipped where the run was stopped, else refused."""
    outcome = Outcome.SKIPPED if error.code == "skipped" else Outcome.REFUSED
    return record.model_copy(update={"outcome": outcome, "error": error})


def roles(record: NodeRecord) -> list[str]:
    """Return a node's roles: those it found on itself, and those of its Node object."""
    own = record.host.get("roles")
    found = [str(role) for role in own] if isinstance(own, list) else []
    return found + (list(record.cluster.roles) if record.cluster is not None else [])


def unknown(record: NodeRecord) -> bool:
    """Say whether a node may hold an unconfirmed change that nobody has waited for.

    The action itself waits for a node that it lost; what is left are calls that were cut off.
    """
    if record.outcome is not Outcome.FAILED:
        return False
    armed = record.tx is not None and record.tx.state in ("ARMED", "REVERTING")
    return armed or (record.error is not None and record.error.code == "no-result")


def suspect(record: NodeRecord) -> bool:
    """Say whether a node must be kept out of later runs: a change was put back on it, or it never came back."""
    silent = record.outcome is Outcome.UNREACHABLE and record.tx is not None
    return silent or record.lost or record.outcome is Outcome.REVERTED


def settled(before: NodeRecord, status: NodeRecord) -> NodeRecord:
    """Return what a node of unknown state came to, from its answer to a status request (pure)."""
    state = status.tx.state if status.tx else ""
    if state == "REVERTED":
        outcome = Outcome.REVERTED
    elif state in ("COMMITTED", "DONE"):
        outcome = Outcome.CHANGED
    else:
        return before.model_copy(update={"warnings": [*before.warnings, *status.warnings]})
    update = {"outcome": outcome, "tx": status.tx, "host": status.host or before.host}
    return before.model_copy(update=update)


def not_sent(name: str, problem: TuneError) -> NodeRecord:
    """Return the record of a node whose request never left this machine."""
    error = ErrorRecord(what=problem.what, why=problem.why, next=problem.next, code="not-sent")
    return NodeRecord(name=name, outcome=Outcome.FAILED, error=error)


def twin_error(name: str, others: Sequence[str]) -> ErrorRecord:
    """Return why a machine that has several names is refused under all of them."""
    return ErrorRecord(
        what=f"{name} and {', '.join(others)} are one machine",
        why="same machine-id and same boot-id",
        next="keep one of the names in the inventory",
        code="duplicate",
        data={"others": list(others)},
    )
