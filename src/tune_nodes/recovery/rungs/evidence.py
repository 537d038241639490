"""R0: keep what the node looks like, before anything is touched."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tune_nodes.recovery.rung import Rung
from tune_nodes.recovery.state import mapping, report_of, text
from tune_nodes.runs.models import NodeRecord, Outcome

if TYPE_CHECKING:
    from tune_nodes.recovery.run import Recovery, Taken


def take(run: Recovery, name: str, taken: Taken) -> NodeRecord:
    """Have the node gather its evidence, and fetch it. That it stays on the node is worth a warning, no more."""
    dest = run.file("evidence", name, ".tar.gz")
    record = run.ask("recover_evidence", {name: {"dest": str(dest)}})[name]
    found = mapping(report_of(record), "evidence")
    taken.remote = text(found, "path", 500)
    if dest.is_file():
        dest.chmod(0o600)
        if hashlib.sha256(dest.read_bytes()).hexdigest() == found.get("sha256"):
            taken.evidence = dest
    if record.outcome is Outcome.OK and taken.evidence is None:
        run.fleet.progress.note(f"warning: {name}: the evidence could not be fetched; it lies on the node")
    return record


RUNG = Rung(0, "keep evidence", "none: it only reads", take)
