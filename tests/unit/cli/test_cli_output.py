"""What is printed: groups, progress on a pipe, support bundles without secrets."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from rich.console import Console

from tune_nodes.cli import bundle
from tune_nodes.cli.live import Display, Lines, Quiet, progress
from tune_nodes.cli.options import Format, InCluster, Reach, Wish
from tune_nodes.cli.output import LOOKS, Printer, error_lines
from tune_nodes.cli.plan import next_command
from tune_nodes.cli.planview import groups, headline, show_changes
from tune_nodes.errors import TuneError, UsageError
from tune_nodes.runs.models import ChangeRecord, ErrorRecord, NodeRecord, Outcome, WaveRecord


def node(name: str, before: str = "1") -> NodeRecord:
    change = ChangeRecord(family="sysctl", key="a", before=before, want="2")
    return NodeRecord(name=name, outcome=Outcome.PENDING, changes=[change])


def test_nodes_with_one_plan_stand_together() -> None:
    found = groups([node("n9", "7"), *[node(f"n{number}") for number in range(8)]])
    assert [headline(group) for group in found] == [
        "8 nodes share this plan: 1 change each (n0, n1, n2, n3, n4, n5 and 2 more)",
        "1 node: 1 change (n9)",
    ]


def test_every_outcome_has_a_look_and_symbols_differ_from_colours() -> None:
    assert set(LOOKS) == set(Outcome)
    assert all(plain.isascii() for _, plain, _ in LOOKS.values())


def test_lines_on_a_pipe() -> None:
    stream = io.StringIO()
    lines = Lines(Console(file=stream, width=80))
    lines.phase("plan", 2)
    error = ErrorRecord(what="bad \x1b[2Jnode", why="[red]x[/red]")
    lines.node(NodeRecord(name="n1", outcome=Outcome.FAILED, error=error))
    lines.node(node("n2"))
    lines.wave(WaveRecord(number=1, canary=True, nodes=["n1"]), 3)
    lines.wave(WaveRecord(number=1, canary=True, nodes=["n1"], gate="failed", gate_detail="why " * 60), 3)
    lines.note("noted")
    text = stream.getvalue()
    assert [line[9:].rstrip() for line in text.splitlines()][:4] == [
        "plan: 2 nodes",
        "n1 failed: bad node: [red]x[/red]",
        "n2 pending: 1 change",
        "wave 1/3 (canary): n1",
    ]
    assert len(text.splitlines()) == 6
    assert "\x1b" not in text


def test_a_terminal_gets_a_display_and_quiet_nothing() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=80)
    assert isinstance(progress(terminal, quiet=False), Display)
    assert type(progress(terminal, quiet=True)) is Quiet
    assert isinstance(progress(Console(file=io.StringIO()), quiet=False), Lines)
    with progress(terminal, quiet=False) as shown:
        shown.phase("plan", 1)
        shown.node(node("n1"))
        with shown.paused():
            pass
        shown.wave(WaveRecord(number=1, nodes=["n1"], gate="passed", gate_detail="fine"), 1)


def test_errors_are_three_clean_lines() -> None:
    assert error_lines(TuneError("what\x1b[1m", "why\nmore", "next")) == [
        "error: what",
        "  why: why more",
        " next: next",
    ]
    assert error_lines(TuneError("what")) == ["error: what"]


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("password=hunter2 rest", "[removed] rest"),
        ("Authorization: Bearer abc.def", "[removed]"),
        ("api_key: x1", "[removed]"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY----- after", "[removed] after"),
        ("net.ipv4.tcp_rmem 4096", "net.ipv4.tcp_rmem 4096"),
        ({"key": "net.ipv4.tcp_fastopen_key", "before": "a-b", "want": "c"}, None),
        ([{"a": ["token=zz"]}], [{"a": ["[removed]"]}]),
        (7, 7),
    ],
)
def test_scrub(raw: object, clean: object) -> None:
    got = bundle.scrub(raw)
    if clean is None:
        clean = {"key": "net.ipv4.tcp_fastopen_key", "before": "[removed]", "want": "[removed]"}
    assert got == clean


def test_pack(tmp_path: Path) -> None:
    bundle.pack(tmp_path / "b.tar.gz", {"run.json": "{}"})
    with tarfile.open(tmp_path / "b.tar.gz") as archive:
        assert archive.getnames() == ["b/run.json"]
    with pytest.raises(UsageError, match="cannot write"):
        bundle.pack(tmp_path / "no" / "b.tar.gz", {})


@pytest.mark.parametrize(
    ("reach", "wish", "line"),
    [
        (Reach(inventory=["lab"]), Wish(), "tune-nodes apply -i lab"),
        (Reach(), Wish(), "tune-nodes apply"),
        (
            Reach(inventory=["a b", "c"], limit="n*", user="ops", become=True, ask_become_pass=True),
            Wish(profile="latency", tags=["nic"]),
            "tune-nodes apply -i 'a b' -i c -l 'n*' -p latency -t nic -u ops -b -K",
        ),
    ],
)
def test_the_next_command_can_be_pasted(reach: Reach, wish: Wish, line: str) -> None:
    assert next_command(reach, wish, InCluster()) == line


@pytest.mark.parametrize(
    ("count", "wide", "said"),
    [
        (3, False, "not possible here: k0, k1, k2 (absent)"),
        (9, False, "not possible here: k0, k1 and 7 more, see -o wide (absent)"),
        (5, True, "not possible here: k0, k1, k2, k3, k4 (absent)"),
    ],
)
def test_of_many_settings_left_alone_a_few_are_named(count: int, wide: bool, said: str) -> None:
    one = ChangeRecord(family="sysctl", key="", before=None, want="1", status="unsupported", note="absent")
    left = [one.model_copy(update={"key": f"k{number}"}) for number in range(count)]
    stream = io.StringIO()
    printer = Printer(Format.WIDE if wide else Format.TABLE, no_color=True)
    printer.out = Console(file=stream, width=100)
    show_changes(printer, left)
    assert said in stream.getvalue()
