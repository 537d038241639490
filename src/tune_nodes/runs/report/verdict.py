"""The run in one line of plain words, and what to type next."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from tune_nodes.errors import Exit

from ..models import Outcome, RunRecord
from .looks import OUTCOMES, TROUBLE
from .text import count, plain

_PHRASES: dict[Outcome, str] = {
    Outcome.CHANGED: "tuned",
    Outcome.OK: "already right",
    Outcome.PENDING: "would change",
    Outcome.REVERTED: "reverted",
    Outcome.FAILED: "failed",
    Outcome.UNREACHABLE: "unreachable",
    Outcome.REFUSED: "refused",
    Outcome.SKIPPED: "not started",
    Outcome.QUARANTINED: "left out (quarantined)",
}
_BY_VERB: dict[tuple[str, Outcome], str] = {
    ("rollback", Outcome.CHANGED): "put back",
    ("rollback", Outcome.OK): "with nothing to put back",
    ("verify", Outcome.PENDING): "not as the profile wants",
    ("drift", Outcome.PENDING): "drifted",
}
# What the run achieved comes first, then what went wrong, then what was not tried.
_ORDER = (Outcome.CHANGED, Outcome.PENDING, Outcome.OK, *TROUBLE, Outcome.SKIPPED)
_EXITS: dict[int, str] = {
    Exit.OK: "ok",
    Exit.FAILED: "failed",
    Exit.PENDING: "changes pending",
    Exit.REVERTED: "reverted",
    Exit.UNREACHABLE: "unreachable",
    Exit.USAGE: "usage or configuration",
    Exit.INTERRUPTED: "stopped by the user",
}


_WAVE = re.compile(r"wave ([0-9]+): ")


@dataclass(frozen=True)
class Verdict:
    """One line, and how it is meant: good, warn or bad."""

    line: str
    tone: str


@dataclass(frozen=True)
class Command:
    """A command to type next and what it does."""

    line: str
    does: str


def verdict(run: RunRecord) -> Verdict:
    """Return the run in one line."""
    line = _counts(run)
    if run.stopped:
        line += " \u2013 " + _stopped(run)
    elif run.finished is None:
        line += " \u2013 the run has not finished, or its controller was killed"
    return Verdict(line, _tone(run))


def _counts(run: RunRecord) -> str:
    counts = {outcome: run.count(outcome) for outcome in _ORDER if run.count(outcome)}
    if not counts:
        return "No node took part"
    if run.verb == "probe":
        return _paths(run)
    if set(counts) == {Outcome.OK} and run.verb != "rollback":
        total = counts[Outcome.OK]
        every = "The only node is" if total == 1 else f"All {total:,} nodes are"
        return f"{every} already right: nothing to change"
    parts = [
        f"{count(number, 'node') if not at else f'{number:,}'} {_phrase(run.verb, outcome)}"
        for at, (outcome, number) in enumerate(counts.items())
    ]
    unwell = _unwell(run)
    return ", ".join(parts) + (f"; {count(unwell, 'node')} not well afterwards" if unwell else "")


def _paths(run: RunRecord) -> str:
    measured = [path for path in run.paths if path.exact]
    good = sum(path.exact == "pass" for path in measured)
    line = f"{good:,} of {count(len(measured), 'path')} carry what is sent over them"
    lost = run.count(Outcome.UNREACHABLE)
    return line + (f"; {count(lost, 'node')} unreachable" if lost else "")


def _unwell(run: RunRecord) -> int:
    return sum(bool(node.unwell) for node in run.nodes.values())


def _phrase(verb: str, outcome: Outcome) -> str:
    return _BY_VERB.get((verb, outcome), _PHRASES[outcome])


def _stopped(run: RunRecord) -> str:
    why = plain(run.stopped, 300)
    if why.startswith("stopped"):
        return why
    begun = [wave.number for wave in run.waves if wave.started]
    named = _WAVE.match(why)
    if named:
        return f"stopped after wave {named[1]}: {why[named.end() :]}"
    return f"stopped after wave {begun[-1]}: {why}" if begun else f"stopped: {why}"


def _tone(run: RunRecord) -> str:
    bad = any(run.count(o) for o in (Outcome.FAILED, Outcome.REVERTED, Outcome.UNREACHABLE))
    if bad or _unwell(run) or run.path_faults:
        return "bad"
    waiting = (Outcome.REFUSED, Outcome.QUARANTINED, Outcome.SKIPPED, Outcome.PENDING)
    if run.stopped or run.exit_code or run.finished is None or any(run.count(o) for o in waiting):
        return "warn"
    return "good"


def exit_words(code: int | None) -> str:
    """Return an exit code with its meaning, "" where the run has none yet."""
    if code is None:
        return ""
    return f"{code} ({_EXITS[code]})" if code in _EXITS else str(code)


def commands(run: RunRecord) -> list[Command]:
    """Return what a reader would type next, quoted for a shell."""
    run_id = shlex.quote(plain(run.id))
    found: list[Command] = []
    if run.verb == "apply" and run.count(Outcome.CHANGED):
        found.append(Command(f"tune-nodes rollback {run_id}", "undo this run where its values still stand"))
    if run.verb in ("plan", "verify", "drift") and run.count(Outcome.PENDING):
        found.append(Command(_apply(run), "make these changes, canary first"))
    found.append(Command(f"tune-nodes show {run_id}", "this run in a terminal"))
    found.append(Command(f"tune-nodes report {run_id} -o json", "this run for programs, with every probe and timing"))
    return found


def _apply(run: RunRecord) -> str:
    words = ["tune-nodes", "apply"]
    for inventory in run.inventory:
        words += ["-i", plain(inventory, 1000)]
    if run.limit:
        words += ["-l", plain(run.limit, 1000)]
    if run.profile:
        words += ["--profile", plain(run.profile)]
    return shlex.join(words)


def tally_words(counts: dict[Outcome, int]) -> str:
    """Return "20 changed, 1 reverted" in the order of the lists."""
    return ", ".join(f"{counts[o]:,} {OUTCOMES[o].word}" for o in OUTCOMES if counts.get(o))
