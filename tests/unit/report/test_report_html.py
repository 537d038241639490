"""The page: complete in itself, sound, inert."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest
from report_builder import FIXTURES, GOLDEN, large
from report_page import Page, read
from report_parts import change, node, run

from tune_nodes.errors import TuneError
from tune_nodes.runs.models import (
    ClusterRecord,
    ErrorRecord,
    NodeInCluster,
    Outcome,
    PodRecord,
    PodValue,
    ProbeRecord,
    RunRecord,
    WaveRecord,
)
from tune_nodes.runs.report import render_html, write_report


def golden(name: str) -> RunRecord:
    """Return a golden run as it is read from disk."""
    return RunRecord.model_validate_json((FIXTURES / f"{name}.json").read_bytes())


@pytest.fixture(params=sorted(GOLDEN), name="record")
def _record(request: pytest.FixtureRequest) -> RunRecord:
    return golden(request.param)


def test_page_is_sound(record: RunRecord) -> None:
    page = read(render_html(record))
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        href = link["href"]
        assert href.startswith(("#", "http://", "https://")), href
        if href.startswith("#"):
            assert href[1:] in page.ids, href
        else:
            assert "noreferrer" in link["rel"].split()
    for use in page.named("use"):
        assert use["href"][1:] in page.ids, use


def test_page_loads_nothing(record: RunRecord) -> None:
    html = render_html(record)
    page = read(html)
    assert [attrs["href"] for attrs in page.named("link")] == ["data:,"]
    for tag, attrs in page.tags:
        assert not {"src", "srcset", "background", "poster", "ping", "style"} & set(attrs), tag
        assert not [name for name in attrs if name.startswith("on")], tag
        assert tag not in ("img", "iframe", "object", "embed", "base")
    assert "@import" not in html
    assert "url(" not in html


def test_only_our_script_and_style_are_allowed(record: RunRecord) -> None:
    html = render_html(record)
    policy = next(attrs["content"] for attrs in read(html).named("meta") if "http-equiv" in attrs)
    for tag in ("style", "script"):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")


def test_headings_and_table_headers_are_accessible(record: RunRecord) -> None:
    page = read(render_html(record))
    assert [tag for tag, _ in page.tags].count("h1") == 1
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-4]", tag)]
    assert levels[0] == 1
    assert all("scope" in attrs for attrs in page.named("th"))
    assert page.named("html")[0]["lang"] == "en"
    assert all(attrs.get("title") for attrs in page.links if set(attrs.get("class", "").split()) & {"failed", "ok"})


def test_every_node_has_its_section_and_its_cell(record: RunRecord) -> None:
    page = read(render_html(record))
    refs = [f"n{number}" for number in range(1, len(record.nodes) + 1)]
    assert set(refs) <= set(page.ids)
    assert set(refs) <= {link["href"][1:] for link in page.links}
    for name in record.nodes:
        assert name in page.text


def test_same_run_same_page(record: RunRecord) -> None:
    assert render_html(record) == render_html(record)


def test_what_a_reader_of_the_small_run_needs_is_there() -> None:
    text = read(render_html(golden("small-ok"))).text
    for words in (
        "3 nodes tuned",
        "tune-nodes rollback 20261124-081530-a1b2c3",
        "2026-11-24 08:15:30 UTC",
        "kubernetes-node",
        "0 (ok)",
        "Wave 1 canary",
        "gate passed",
        "floor 4096 131072 16777216",
        "The sending side of rmem_max.",
        "Owner: kube-proxy",
        "Module br_netfilter is not loaded; applied as soon as it is.",
        "confirm",
        "1500 bytes, DF, both ways",
        "6.1.0-28-cloud-amd64",
        "systemd timer, window 2 min 00 s",
    ):
        assert words in text, words


def test_error_says_what_why_next() -> None:
    text = read(render_html(golden("mixed-24"))).text
    assert "net.core.rmem_max was written but does not hold its value" in text
    assert "Why read back 212992 after 16777216 was written" in text
    assert "Next tune-nodes diagnose worker-20" in text


def test_a_run_in_a_cluster_says_what_it_saw_and_what_not() -> None:
    text = read(render_html(golden("in-cluster-5"))).text
    for words in (
        "1 not started; 1 node not well afterwards",
        "prod v1.34.4, flannel v0.28.10",
        "bastion: no Node object has this name",
        "After its change: not ready any more on the Node worker-3: kube-flannel/kube-flannel-ds",
        "closed during the change",
        "closed by somebody else",
        "renewed 5.0 s after the change",
        "Moved away 5 pods",
        "containerd://1.6.20",
        "What this tuning does not reach",
        "newer pods only",
        "worker-1 shop/cart-7c5f-1 , worker-2",
    ):
        assert words in text, words
    assert text.count("net.core.somaxconn") == text.count("net.ipv4.tcp_rmem")  # equal rows of nodes are one row


def test_a_run_without_its_cluster_says_so_before_all_else() -> None:
    text = read(render_html(golden("no-cluster-2"))).text
    assert text.index("Not looked at in this run") < text.index("Fleet at a glance")
    assert "Node conditions, Leases, kube-proxy and the CNI's agents, labels: the token of the context prod" in text


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'>{{ 7*7 }}{% raw %}"


def hostile(text: str) -> RunRecord:
    """Return a run with this text wherever a node or a person may have put it."""
    one = node(
        text,
        Outcome.FAILED,
        1,
        warnings=[text],
        address=text,
        host={"kernel": text, "roles": [text], "os_name": text},
        changes=[
            change(
                text,
                text,
                text,
                after=text,
                status=status,
                requested=text,
                reason=text,
                source=text,
                owner=text,
                note=text,
                scope=text,
            )
            for status in ("failed", "owned", "ok", text)
        ],
        probes_after=[ProbeRecord(id=text, kind=text, target=text, ok=False, detail=text)],
        timings={text: 1.0},
        error=ErrorRecord(what=text, why=text, next=text, code=text),
        cluster=NodeInCluster(
            name=text, matched=text, ready=False, roles=[text], kubelet=text, runtime=text, taints=[text], unwell=text
        ),
        pods=[PodRecord(uid=text, name=text, values=[PodValue(key=text, node=text, pod=text, reach=text, note=text)])],
    )
    wave = WaveRecord(number=1, nodes=[text, "missing"], gate=text, gate_detail=text)
    return run(
        "bad0bad",
        [one, node("other", Outcome.SKIPPED, 1, changes=[])],
        waves=[wave],
        id=text,
        verb=text,
        version=text,
        profile=text,
        inventory=[text],
        limit=text,
        user=text,
        stopped=text,
        rolled_back=text,
        options={text: text},
        cluster=ClusterRecord(used=True, server=text, context=text, version=text, cni=[text], not_checked=[text]),
    )


def ours(page: Page) -> list[str]:
    """Return the tags of a page."""
    return [tag for tag, _ in page.tags]


def test_markup_in_text_is_inert() -> None:
    html = render_html(hostile(HOSTILE))
    page = read(html)
    assert ours(page).count("script") == 1
    assert "img" not in ours(page)
    assert "<script>alert" not in html
    assert "49" not in re.findall(r"\{\{ 7\*7 \}\}|49", page.text)
    assert "alert(1)" in page.text
    assert all(link["href"].startswith("#") for link in page.links)


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[31mred\x1b[0m",
        "\x1b]8;;http://evil.example\x07link",
        "a\x00b\x08c",
        "\u202egnp.exe",
        "\ud800half",
        "x" * 1_000_000,
    ],
)
def test_terminal_codes_and_megabytes_do_not_reach_the_page(text: str, tmp_path: Path) -> None:
    path = write_report(hostile(text), tmp_path / "report.html")
    html = path.read_text(encoding="utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", html)
    assert len(html) < 600_000
    read(html)


def test_large_fleet_stays_small() -> None:
    html = render_html(large(5000))
    assert len(html.encode()) < 5_000_000
    page = read(html)
    assert len([link for link in page.links if "title" in link]) == 5000
    assert html.count('<article class="card"') < 6
    assert "4,995 nodes tuned, 3 reverted, 2 unreachable" in page.text


def test_empty_and_unfinished_runs_are_told() -> None:
    assert "No node took part" in read(render_html(run("000000", []))).text
    text = read(render_html(run("000000", [node("n1", Outcome.SKIPPED, None)], exit_code=None))).text
    assert "has not finished" in text


def test_report_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "report.html"
    assert write_report(golden("small-ok"), target) == target
    assert target.read_text(encoding="utf-8").endswith("</html>")
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]
    (tmp_path / "file").write_text("")
    with pytest.raises(TuneError, match="could not be written"):
        write_report(golden("small-ok"), tmp_path / "file" / "report.html")
