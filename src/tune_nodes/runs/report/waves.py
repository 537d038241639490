"""The strip per wave: when it ran, how its nodes came out, and what the gate after it said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ..models import NodeRecord, Outcome, RunRecord, WaveRecord
from .looks import OUTCOMES, TROUBLE, rank
from .text import clip, count, plain, seconds, utc
from .verdict import tally_words

#: Width of the time axis in the units of its view box.
WIDTH = 1000.0
#: Waves shown before uneventful ones are folded; waves that never started are folded beyond IDLE.
MOST = 12
IDLE = 2
#: Names listed in a strip; a larger wave is counted.
NAMED = 8
_GATES = {
    "passed": ("pass", "gate passed"),
    "failed": ("failed", "gate failed"),
    "skipped": ("skipped", "gate not reached"),
    "pending": ("skipped", "gate not reached"),
}


@dataclass(frozen=True)
class Bar:
    """A stretch on an axis: where it starts and how wide it is, and what it is."""

    x: float
    width: float
    kind: str
    label: str = ""


@dataclass(frozen=True)
class Strip:
    """One wave as the report shows it."""

    wave: WaveRecord
    title: str
    size: str
    took: str
    pause: str  # gate and soak after it, "" for none
    bars: list[Bar]  # on the time axis
    shares: list[Bar]  # outcomes, by share of the wave's nodes
    tally: str
    named: list[str]
    gate: str  # id of a look
    gate_word: str
    gate_detail: str
    eventful: bool


@dataclass(frozen=True)
class Timeline:
    """All waves on one axis; ``ticks`` are (x in percent, text)."""

    shown: list[Strip]
    folded: list[tuple[str, list[Strip]]]  # a heading and the waves beneath it
    ticks: list[tuple[float, str]]


def timeline(run: RunRecord) -> Timeline:
    """Return the strips of a run; uneventful waves of a long run are apart."""
    start, length = _span(run)
    strips = [_strip(run, at, start, length) for at in range(len(run.waves))]
    ticks = [(100 * part / 4, seconds(length * part / 4) if part else "0") for part in range(5)] if length else []
    idle = [strip for strip in strips if not strip.wave.started and not strip.eventful]
    if len(idle) <= IDLE:
        idle = []
    calm = [strip for strip in strips[1:-1] if strip.wave.started and not strip.eventful]
    if len(strips) - len(idle) <= MOST:
        calm = []
    apart = {strip.wave.number for strip in (*idle, *calm)}
    folded = [
        (count(len(calm), "more wave") + " without trouble", calm),
        (count(len(idle), "wave") + f" not started, {sum(len(strip.wave.nodes) for strip in idle):,} nodes", idle),
    ]
    shown = [strip for strip in strips if strip.wave.number not in apart]
    return Timeline(shown, [(title, waves) for title, waves in folded if waves], ticks)


def _span(run: RunRecord) -> tuple[datetime, float]:
    """Return the run's start and its length in seconds, 0 where nothing has a duration."""
    start = utc(run.started)
    ends = [utc(end) for end in (run.finished, *(wave.finished for wave in run.waves)) if end]
    return start, max([0.0, *((end - start).total_seconds() for end in ends)])


def _strip(run: RunRecord, at: int, start: datetime, length: float) -> Strip:
    wave = run.waves[at]
    following = run.waves[at + 1] if at + 1 < len(run.waves) else None
    counts = _outcomes(wave, run.nodes)
    took = _between(wave.started, wave.finished)
    pause = _between(wave.finished, following.started if following else None)
    gate, word = _GATES.get(wave.gate, ("pending", plain(wave.gate, 40)))
    return Strip(
        wave=wave,
        title=f"Wave {wave.number}" + (f", round {wave.round}" if wave.round else ""),
        size=count(len(wave.nodes), "node"),
        took=seconds(took) if wave.started else "not started",
        pause=seconds(pause) if pause and pause >= 0.5 else "",
        bars=_bars(wave, following, start, length),
        shares=_shares(counts),
        tally=tally_words(counts),
        named=wave.nodes if len(wave.nodes) <= NAMED else [],
        gate=gate,
        gate_word=word,
        gate_detail=clip(wave.gate_detail, 400).short,
        eventful=wave.canary or wave.gate == "failed" or any(counts.get(outcome) for outcome in TROUBLE),
    )


def _between(first: datetime | None, second: datetime | None) -> float | None:
    return (utc(second) - utc(first)).total_seconds() if first and second else None


def _bars(wave: WaveRecord, following: WaveRecord | None, start: datetime, length: float) -> list[Bar]:
    if not wave.started or not wave.finished or length <= 0:
        return []

    def place(begin: datetime, end: datetime, kind: str, least: float) -> Bar:
        left = min(max((utc(begin) - start).total_seconds() / length, 0.0), 1.0)
        right = min(max((utc(end) - start).total_seconds() / length, left), 1.0)
        width = max((right - left) * WIDTH, least)
        return Bar(round(min(left * WIDTH, WIDTH - width), 1), round(width, 1), kind)

    found = [place(wave.started, wave.finished, "work", 4.0)]
    if following and following.started:
        found.append(place(wave.finished, following.started, "soak", 0.0))
    return found


def _outcomes(wave: WaveRecord, nodes: Mapping[str, NodeRecord]) -> dict[Outcome, int]:
    found: dict[Outcome, int] = {}
    for name in wave.nodes:
        if name in nodes:
            found[nodes[name].outcome] = found.get(nodes[name].outcome, 0) + 1
    return {outcome: found[outcome] for outcome in sorted(found, key=rank)}


def _shares(counts: Mapping[Outcome, int]) -> list[Bar]:
    total = sum(counts.values())
    found, at = [], 0.0
    for outcome, number in counts.items():
        width = WIDTH * number / total
        found.append(Bar(round(at, 1), round(width, 1), OUTCOMES[outcome].id))
        at += width
    return found
