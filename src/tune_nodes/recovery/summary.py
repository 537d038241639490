"""The evidence of one node as a page to read: what was found, done and measured, and what the archive holds."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tune_nodes.recovery import archive
from tune_nodes.recovery.ladder import Finding
from tune_nodes.recovery.rung import Rung
from tune_nodes.recovery.verify import Row
from tune_nodes.runs.atomic import write_atomic
from tune_nodes.runs.models import ErrorRecord, Outcome
from tune_nodes.runs.report.looks import OUTCOMES
from tune_nodes.runs.report.text import clean, plain

_TONES = {Outcome.OK: "good", Outcome.CHANGED: "good", Outcome.PENDING: "warn", Outcome.SKIPPED: "warn"}
_WORDS = {
    Outcome.OK: "was not changed",
    Outcome.CHANGED: "was recovered",
    Outcome.REFUSED: "was left alone",
    Outcome.FAILED: "is not as it should be",
}


@dataclass(frozen=True)
class Summary:
    """What the page says.

    Args:
        run: the run's id.
        node: the node.
        when: "2026-11-24 16:05 UTC".
        cni: "flannel (/etc/cni/net.d/10-flannel.conflist)".
        outcome: of the node.
        error: why it came out badly.
        found: findings of the look before.
        not_checked: what the look could not tell.
        rungs: those that were taken.
        rows: measured before and after.
        left: findings of the look afterwards.
        archive: of the evidence; None where it could not be fetched.
        remote: where it lies on the node.
        undo: the command that takes it back, "" for none.
    """

    run: str
    node: str
    when: str
    cni: str
    outcome: Outcome
    error: ErrorRecord | None = None
    found: Sequence[Finding] = ()
    not_checked: Sequence[str] = ()
    rungs: Sequence[Rung] = ()
    rows: Sequence[Row] = ()
    left: Sequence[Finding] = ()
    archive: archive.Archive | None = None
    remote: str = ""
    undo: str = ""
    meta: list[tuple[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        rows = [("Run", self.run), ("When", self.when), ("CNI", self.cni or "none"), ("Outcome", str(self.outcome))]
        object.__setattr__(self, "meta", [(key, plain(text, 160)) for key, text in rows])

    @property
    def tone(self) -> str:
        """Of the page's head."""
        return _TONES.get(self.outcome, "bad")

    @property
    def icon(self) -> str:
        """Glyph of the outcome."""
        return OUTCOMES[self.outcome].id

    @property
    def line(self) -> str:
        """The headline."""
        how = _WORDS.get(self.outcome, OUTCOMES[self.outcome].word)
        return plain(f"{self.node} {how}" + (f": {self.error.what}" if self.error else ""), 240)


def render(summary: Summary) -> str:
    """Return the page: one file that loads nothing and runs no script. Every text is taken as untrusted."""
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    csp = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return _environment().get_template("evidence.html.j2").render(s=summary, style=Markup(style), csp=csp)


def write(summary: Summary, path: Path) -> Path:
    """Write the page, readable by its owner only, as the archive is. Raises OSError."""
    write_atomic(path, render(summary), 0o600)
    return path


@cache
def _style() -> str:
    return (files("tune_nodes.runs.report") / "templates" / "report.css").read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    env = Environment(
        loader=ChoiceLoader([PackageLoader("tune_nodes.recovery"), PackageLoader("tune_nodes.runs.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    env.filters.update(plain=plain)
    return env


def _finalize(value: Any) -> Any:
    return clean(value) if type(value) is str else value
