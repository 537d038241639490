"""The page of the evidence and the metrics: what stands in them, and that nothing from a node gets any further."""

from __future__ import annotations

import io
import json
import re
import tarfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tune_nodes.errors import UsageError
from tune_nodes.recovery import archive, metrics, summary
from tune_nodes.recovery.ladder import Finding
from tune_nodes.recovery.rung import Rung
from tune_nodes.recovery.state import NetworkState, NodeState
from tune_nodes.recovery.summary import Summary
from tune_nodes.recovery.verify import Row
from tune_nodes.runs.models import ErrorRecord, NodeRecord, Outcome

EVIL = "<script>alert(1)</script>\x1b[31m\u202e"


def packed(path: Path, files: dict[str, str], index: Any = None) -> Path:
    rows = [{"name": name, "bytes": len(text), "command": f"cat {name}"} for name, text in files.items()]
    listed = json.dumps({"files": rows}) if index is None else index
    with tarfile.open(path, "w:gz") as tar:
        for name, text in {"index.json": listed, **files}.items():
            entry = tarfile.TarInfo(f"evidence/{name}")
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return path


class Page(HTMLParser):
    """Counts elements, and keeps what would load or run something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for key, value in attrs:
            loads = key in ("src", "srcset", "action") or key.startswith("on")
            if loads or (key == "href" and not (value or "").startswith(("#", "data:"))):
                self.loads.append(value or "")


def rung(number: int, title: str, risk: str) -> Rung:
    return Rung(number, title, risk, lambda run, name, taken: NodeRecord(name=name, outcome=Outcome.OK))


def page(**more: Any) -> str:
    known: dict[str, Any] = {
        "run": "20261124-101010-abcdef",
        "node": "w1",
        "when": "2026-11-24 10:10",
        "cni": "flannel (/etc/cni/net.d/10-flannel.conflist)",
        "outcome": Outcome.CHANGED,
    }
    return summary.render(Summary(**{**known, **more}))


def test_what_was_found_done_and_measured_stands_in_it(tmp_path: Path) -> None:
    found = archive.read(packed(tmp_path / "evidence-w1.tar.gz", {"ip-addr.json": '[{"ifname": "cni0"}]'}))
    text = page(
        found=[Finding("no address of cbr0 is free", "the podCIDR")],
        rungs=[rung(0, "keep evidence", "none: it only reads")],
        rows=[Row("cbr0: stale leases", "248", "0", True), Row("node to pod", "yes", "no: no answer", False)],
        left=[Finding("1 pod waits for a network")],
        archive=found,
        undo="tune-nodes recover undo 20261124-101010-abcdef",
    )
    for words in ("w1 was recovered", "no address of cbr0 is free", "keep evidence", "248", "no: no answer"):
        assert words in text
    assert "1 pod waits for a network" in text and "evidence-w1.tar.gz" in text and found.sha256 in text
    assert "cni0" in text and "cat ip-addr.json" in text


def test_nothing_runs_and_nothing_is_loaded(tmp_path: Path) -> None:
    found = archive.read(packed(tmp_path / "a.tar.gz", {"kubelet.log": EVIL, f"{EVIL}.txt": EVIL}))
    error = ErrorRecord(what=EVIL, why=EVIL, next=EVIL)
    text = page(
        node=EVIL, cni=EVIL, found=[Finding(EVIL, EVIL)], not_checked=[EVIL], rows=[Row(EVIL, EVIL, EVIL)],
        archive=found, error=error, outcome=Outcome.FAILED, left=[Finding(EVIL)], undo=EVIL, remote=EVIL,
        rungs=[rung(2, EVIL, EVIL)],
    )  # fmt: skip
    seen = Page(text)
    assert "script" not in seen.tags and seen.loads == []
    assert "\x1b" not in text and "\u202e" not in text
    assert re.search(r"default-src &#39;none&#39;|default-src 'none'", text)


def test_without_an_archive_it_says_where_it_lies() -> None:
    assert "/var/lib/tune-nodes/evidence/run.tar.gz" in page(remote="/var/lib/tune-nodes/evidence/run.tar.gz")


def test_a_page_is_for_its_owner_only(tmp_path: Path) -> None:
    made = summary.write(Summary("run", "w1", "", "", Outcome.OK), tmp_path / "evidence-w1.html")
    assert made.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_a_headline(outcome: Outcome) -> None:
    assert "<h1>" in page(outcome=outcome)


def test_files_are_grouped_and_what_is_missing_is_named(tmp_path: Path) -> None:
    index = json.dumps({"files": [
        {"name": "nft.json", "bytes": 40_000, "cut": 100, "command": "nft -j list", "code": 1, "said": "denied"},
        {"name": "bpftool-net.json", "missing": "there is no program bpftool"},
        "junk",
    ]})  # fmt: skip
    files = {"nft.json": "{}", "agents/kube-system_cilium/0.log": "x", "strange": "x", "ip-link.json": "[]"}
    found = archive.read(packed(tmp_path / "a.tar.gz", files, index))
    assert [(group.title.split(":")[0].split(",")[0], [row.name for row in group.rows]) for group in found.groups] == [
        ("Links", ["ip-link.json"]),
        ("Packet filters", ["nft.json"]),
        ("Logs", ["agents/kube-system_cilium/0.log"]),
        ("Other", ["strange"]),
    ]
    (row,) = found.groups[1].rows
    assert row.asked == "nft -j list (ended with 1: denied)"
    assert row.size == "39 KiB, 100 bytes cut off"
    assert found.missing == (("bpftool-net.json", "there is no program bpftool"),)


def test_a_long_file_is_shown_from_its_beginning(tmp_path: Path) -> None:
    found = archive.read(packed(tmp_path / "a.tar.gz", {"kubelet.log": "a line\n" * 10_000}))
    (row,) = found.groups[0].rows
    assert row.more and len(row.text) <= archive.SHOWN


def test_an_archive_that_is_none_or_too_large_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(b"not an archive")
    assert archive.read(broken).trouble
    whole = packed(tmp_path / "a.tar.gz", {f"file-{number}": "x" * 9000 for number in range(50)})
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(whole.read_bytes()[:-200])
    assert archive.read(cut).trouble
    monkeypatch.setattr(archive, "ALL", 1000)
    assert "more than evidence" in archive.read(whole).trouble


def test_links_in_an_archive_are_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        entry = tarfile.TarInfo("evidence/../../etc/passwd")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(entry)
    assert archive.read(path).groups == ()


@settings(deadline=None, max_examples=40)
@given(st.binary(max_size=300))
def test_junk_for_an_archive_is_survived(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("junk") / "a.tar.gz"
    path.write_bytes(data)
    archive.read(path)


CBR0 = NetworkState("cbr0", leases=15, usable=253, free=238, live=5, stale=10)


def test_metrics_say_how_full_a_network_is(tmp_path: Path) -> None:
    states = [NodeState("w1", networks=(CBR0, NetworkState('br"x\n', leases=1))), NodeState("w2")]
    path = tmp_path / "cni.prom"
    metrics.write(path, states)
    assert path.stat().st_mode & 0o777 == 0o644
    found = {
        (sample.name, sample.labels["node"], sample.labels.get("network", "")): sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }
    assert found["tune_nodes_cni_leases", "w1", "cbr0"] == 15
    assert found["tune_nodes_cni_leases_live", "w1", "cbr0"] == 5
    assert found["tune_nodes_cni_leases_stale", "w1", "cbr0"] == 10
    assert found["tune_nodes_cni_addresses_usable", "w1", "cbr0"] == 253
    assert found["tune_nodes_cni_addresses_free", "w1", "cbr0"] == 238
    assert ("tune_nodes_cni_addresses_free", "w1", 'br"x\n') not in found  # the node does not know it
    assert found["tune_nodes_cni_look_timestamp_seconds", "w2", ""] > 1_700_000_000


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        metrics.write(tmp_path / "missing" / "cni.prom", [])


def test_where_metrics_cannot_go_is_said_before_a_node_is_asked(tmp_path: Path) -> None:
    metrics.check(tmp_path / "cni.prom")
    for path in (tmp_path / "missing" / "cni.prom", tmp_path):
        with pytest.raises(UsageError, match="cannot write metrics"):
            metrics.check(path)
