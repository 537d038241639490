"""The verdict, the next commands, the waves and the small texts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
import report_parts as parts
from hypothesis import given
from hypothesis import strategies as st
from report_builder import canary, large, mixed, small
from report_parts import node, run

from tune_nodes.runs.models import Outcome, RunRecord, WaveRecord
from tune_nodes.runs.report.text import clean, clip, moment, natural, pieces, plain, seconds
from tune_nodes.runs.report.verdict import commands, exit_words, verdict
from tune_nodes.runs.report.waves import WIDTH, timeline


def fleet(verb: str, *outcomes: Outcome, **more: object) -> RunRecord:
    """Return a finished run with one node for each outcome."""
    nodes = [node(f"n{at}", outcome, None, changes=[]) for at, outcome in enumerate(outcomes)]
    return run("abc123", nodes, verb=verb, **{"finished": parts.at(9), **more})


@pytest.mark.parametrize(
    ("verb", "outcomes", "stopped", "line", "tone"),
    [
        ("apply", [Outcome.CHANGED], "", "1 node tuned", "good"),
        ("apply", [Outcome.CHANGED, Outcome.OK, Outcome.OK], "", "1 node tuned, 2 already right", "good"),
        ("apply", [Outcome.OK], "", "The only node is already right: nothing to change", "good"),
        ("verify", [Outcome.OK] * 3, "", "All 3 nodes are already right: nothing to change", "good"),
        ("apply", [Outcome.CHANGED] * 3 + [Outcome.REVERTED], "", "3 nodes tuned, 1 reverted", "bad"),
        (
            "apply",
            [Outcome.REVERTED, Outcome.SKIPPED],
            "wave 1: the canary failed: n0 (reverted)",
            "1 node reverted, 1 not started \u2013 stopped after wave 1: the canary failed: n0 (reverted)",
            "bad",
        ),
        (
            "apply",
            [Outcome.CHANGED, Outcome.SKIPPED],
            "stopped by the user",
            "1 node tuned, 1 not started \u2013 stopped by the user",
            "warn",
        ),
        ("apply", [Outcome.REFUSED], "n0 has drifted", "1 node refused \u2013 stopped: n0 has drifted", "warn"),
        ("plan", [Outcome.PENDING, Outcome.OK], "", "1 node would change, 1 already right", "warn"),
        ("drift", [Outcome.PENDING], "", "1 node drifted", "warn"),
        ("verify", [Outcome.PENDING] * 2, "", "2 nodes not as the profile wants", "warn"),
        ("rollback", [Outcome.CHANGED] * 2, "", "2 nodes put back", "good"),
        ("apply", [Outcome.UNREACHABLE], "", "1 node unreachable", "bad"),
        ("apply", [Outcome.QUARANTINED], "", "1 node left out (quarantined)", "warn"),
    ],
)
def test_verdict(verb: str, outcomes: list[Outcome], stopped: str, line: str, tone: str) -> None:
    told = verdict(fleet(verb, *outcomes, stopped=stopped))
    assert (told.line, told.tone) == (line, tone)


def test_thousands_are_readable() -> None:
    assert verdict(fleet("apply", *[Outcome.CHANGED] * 1200)).line == "1,200 nodes tuned"


def test_next_commands_fit_the_run() -> None:
    changed = [command.line for command in commands(fleet("apply", Outcome.CHANGED))]
    assert changed[0] == "tune-nodes rollback 20261124-081530-abc123"
    reverted = [command.line for command in commands(fleet("apply", Outcome.REVERTED))]
    assert not any("rollback" in line for line in reverted)
    drifted = commands(fleet("drift", Outcome.PENDING, inventory=["my inventory; rm -rf /"], limit="n1,n2"))
    assert drifted[0].line == "tune-nodes apply -i 'my inventory; rm -rf /' -l n1,n2 --profile kubernetes-node"


def test_exit_code_has_its_meaning() -> None:
    assert exit_words(3) == "3 (reverted)"
    assert exit_words(None) == ""
    assert exit_words(99) == "99"


def test_waves_lie_on_one_axis() -> None:
    told = timeline(small())
    first, second = told.shown
    assert first.wave.canary
    assert [bar.kind for bar in first.bars] == ["work", "soak"]
    assert first.pause == "3.1 s"
    assert second.bars[0].x == pytest.approx(first.bars[1].x + first.bars[1].width, abs=0.2)
    assert told.ticks[-1] == (100.0, "12.4 s")
    assert first.tally == "1 changed"


def test_failed_gate_is_told_and_waves_after_it_are_folded() -> None:
    told = timeline(canary())
    assert [strip.gate for strip in told.shown] == ["failed"]
    ((title, strips),) = told.folded
    assert title == "7 waves not started, 59 nodes"
    assert {strip.took for strip in strips} == {"not started"}


def test_long_run_shows_the_waves_that_matter() -> None:
    told = timeline(large(5000, 100))
    assert told.shown[0].wave.canary
    assert told.shown[-1].wave.number == 50
    assert sum(len(strips) for _, strips in told.folded) + len(told.shown) == 50
    assert all(strip.eventful for strip in told.shown[:-1])


def test_shares_fill_the_bar() -> None:
    for strip in timeline(mixed()).shown:
        assert sum(bar.width for bar in strip.shares) == pytest.approx(WIDTH, abs=1)


_TIMES = st.none() | st.datetimes(
    min_value=datetime(2026, 1, 1), max_value=datetime(2027, 1, 1), timezones=st.sampled_from([None, UTC])
)


@given(_TIMES, _TIMES, _TIMES, _TIMES)
def test_clocks_that_jump_do_not_leave_the_axis(
    a: datetime | None, b: datetime | None, c: datetime | None, d: datetime | None
) -> None:
    waves = [
        WaveRecord(number=1, nodes=["n0"], started=a, finished=b),
        WaveRecord(number=2, nodes=[], started=c, finished=d),
    ]
    told = timeline(fleet("apply", Outcome.CHANGED, waves=waves, finished=d))
    for strip in told.shown:
        for bar in strip.bars:
            assert bar.x >= 0
            assert bar.width >= 0
            assert bar.x + bar.width <= WIDTH + 0.2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0.0, "0 ms"),
        (0.34, "340 ms"),
        (2.14, "2.1 s"),
        (99.94, "99.9 s"),
        (99.96, "1 min 40 s"),
        (245, "4 min 05 s"),
        (7380, "2 h 03 min"),
        (-1, ""),
        (float("nan"), ""),
    ],
)
def test_seconds(value: float | None, text: str) -> None:
    assert seconds(value) == text


def test_moments_are_utc() -> None:
    east = datetime(2026, 11, 24, 10, 15, 30, tzinfo=timezone(timedelta(hours=2)))
    assert moment(east) == "2026-11-24 08:15:30 UTC"
    assert moment(east.replace(tzinfo=None, hour=8)) == "2026-11-24 08:15:30 UTC"
    assert moment(None) == ""


@pytest.mark.parametrize(
    ("source", "hrefs"),
    [
        ("https://docs.kernel.org/networking/scaling.html", ["https://docs.kernel.org/networking/scaling.html"]),
        ("TuneD, https://github.com/redhat-performance/tuned.", ["https://github.com/redhat-performance/tuned"]),
        ("(see http://a.example/x) and https://b.example", ["http://a.example/x", "https://b.example"]),
        ("javascript:alert(1)", []),
        ("data:text/html,<script>", []),
        ("https://", []),
        ("https://[bad", []),
        ("file:///etc/passwd ftp://x.example", []),
        ("kernel documentation", []),
        ("", []),
    ],
)
def test_only_web_addresses_become_links(source: str, hrefs: list[str]) -> None:
    told = pieces(source)
    assert [piece.href for piece in told if piece.href] == hrefs


@given(st.text())
def test_sources_survive_junk(source: str) -> None:
    for piece in pieces(source):
        assert piece.href == "" or piece.href.lower().startswith(("http://", "https://"))


@given(st.text() | st.text(alphabet="\x1b[]\x9b0;m\x07\ud800\u202e\r\na"))
def test_clean_text_can_be_shown(text: str) -> None:
    told = clean(text)
    told.encode("utf-8")
    assert not set(told) & {"\x1b", "\x9b", "\x00", "\u202e"}
    assert len(plain(text, 50)) <= 50
    clipped = clip(text, 50)
    assert len(clipped.short) <= 50
    assert "\n" not in clipped.short


def test_long_text_is_folded_and_its_length_told() -> None:
    told = clip("line\n" * 200_000)
    assert told.folded
    assert told.cut
    assert told.length == 1_000_000
    assert not clip("short").folded


def test_names_sort_as_people_count() -> None:
    assert sorted(["n10", "n9", "n1", "a", "10.0.0.9", "10.0.0.10"], key=natural) == [
        "10.0.0.9",
        "10.0.0.10",
        "a",
        "n1",
        "n9",
        "n10",
    ]
