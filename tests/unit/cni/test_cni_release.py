"""Leases released and brought back, on files: whatever happens in between, no lease is lost and none is taken away."""

from __future__ import annotations

import json
import os
import signal
import tarfile
from collections.abc import Callable
from functools import partial

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.cni import calls, command, quarantine, release
from ansible_collections.tune.nodes.plugins.module_utils.cni.plan import Limits
from cni_node import ANY, CAPTURED, LIVE, Node, drop

QUARANTINE = "var/lib/tune-nodes/quarantine"


def test_exactly_the_stale_ones_go_and_come_back_byte_for_byte(node: Node) -> None:
    node.lay_many(200)
    before = node.contents()
    result = drop(node)
    assert result["error"] is None
    assert result["cni"]["released"] == {"file": 200}
    assert {change["status"] for change in result["changes"]} == {"changed"}
    assert sorted(node.listing()) == sorted([*LIVE, "last_reserved_ip.0", "lock"])
    again = drop(node, run="run-2")
    assert again["error"] is None and again["changes"] == []
    back = calls.bring_back(node.ask(undo="run-1"))
    assert back["error"] is None and back["cni"]["undone"]["restored"] == 200
    assert node.contents() == before
    twice = calls.bring_back(node.ask(undo="latest"))
    assert twice["cni"]["undone"] == {"restored": 0, "there": 200, "taken": 0, "failed": 0}
    assert node.contents() == before


def test_check_mode_says_the_same_and_moves_nothing(node: Node) -> None:
    node.lay_many(7)
    before = node.listing()
    result = drop(node, check=True)
    assert [change["status"] for change in result["changes"]] == ["pending"] * 7
    assert node.listing() == before and not (node.root / QUARANTINE).exists()


def test_a_lease_given_to_somebody_since_is_his(node: Node) -> None:
    node.lay_many(3)
    drop(node)
    mine = node.lay("10.244.1.11", 900, age=1)
    content = mine.read_bytes()
    back = calls.bring_back(node.ask(undo="run-1"))
    assert back["cni"]["undone"] == {"restored": 2, "there": 0, "taken": 1, "failed": 0}
    assert mine.read_bytes() == content
    assert back["warnings"] == ["10.244.1.11: it was given to another sandbox since"]


def test_an_address_that_somebody_has_without_a_lease_is_left_to_him(node: Node) -> None:
    node.lay_many(2)
    drop(node)
    trie = node.root / "proc/net/fib_trie"
    trie.write_text(trie.read_text() + "     |-- 10.244.1.10\n        /32 host LOCAL\n")
    back = calls.bring_back(node.ask(undo="run-1"))
    assert back["cni"]["undone"] == {"restored": 1, "there": 0, "taken": 1, "failed": 0}


def test_two_scans_are_taken_and_a_lease_of_in_between_is_kept(node: Node) -> None:
    node.lay_many(3)

    def between(_seconds: float) -> None:
        node.lay("10.244.1.99", 99)

    result = calls.drop(node.ask(), sleep=between)
    assert result["cni"]["released"] == {"file": 3}
    assert (node.leases / "10.244.1.99").exists()


def test_an_earlier_scan_counts_as_the_first(node: Node) -> None:
    node.lay_many(3)
    seen = json.loads(json.dumps(calls.look(node.ask())["cni"]["scan"]))
    node.lay("10.244.1.99", 99)
    slept: list[float] = []
    limits = Limits(900, 0.0, 100)
    result = calls.drop(node.ask(first=seen, limits=limits), sleep=slept.append)
    assert result["cni"]["released"] == {"file": 3}
    assert (node.leases / "10.244.1.99").exists()


@pytest.mark.parametrize(
    "first", [{"stale": 3}, {"stale": [{"ip": 1}], "taken": 1, "wall": 1, "boot_id": ""}, {"x": 1}]
)
def test_an_earlier_scan_that_is_none_is_refused(node: Node, first: dict[str, object]) -> None:
    node.lay_many(2)
    before = node.listing()
    result = drop(node, first=first)
    assert result["error"]["code"] == "usage" and node.listing() == before


def far_ahead(node: Node) -> None:
    """One lease is from the future."""
    node.lay("10.244.1.50", 50, age=-3600)


def stopped(node: Node) -> None:
    """The runtime does not answer."""
    node.program("crictl", 'echo "connect: no such file or directory" >&2; exit 1')


def silent(node: Node) -> None:
    """The runtime names no sandbox."""
    node.crictl('{"items": []}')


def half(node: Node) -> None:
    """The runtime's answer is cut off."""
    node.crictl((CAPTURED / "crictl-pods.json").read_text()[:900])


def other_ipam(node: Node) -> None:
    """Another IPAM is configured."""
    path = node.root / "etc/cni/net.d/05-calico.conflist"
    path.write_text('{"name": "k8s-pod-network", "plugins": [{"type": "calico", "ipam": {"type": "calico-ipam"}}]}')


def no_conf(node: Node) -> None:
    """There is no configuration at all."""
    (node.root / "etc/cni/net.d/10-flannel.conflist").unlink()


def blind(node: Node) -> None:
    """The addresses on the node cannot be read."""
    (node.root / "proc/net/fib_trie").unlink()


def linked(node: Node) -> None:
    """The network's directory is a link to somewhere else."""
    node.leases.rename(node.root / "elsewhere")
    node.leases.symlink_to(node.root / "elsewhere")


def nothing(_node: Node) -> None:
    """All is well."""


@pytest.mark.parametrize(
    ("break_it", "limits", "code"),
    [
        (far_ahead, ANY, "clock"),
        (stopped, ANY, "cri"),
        (silent, ANY, "no-sandboxes"),
        (half, ANY, "cri"),
        (other_ipam, ANY, "ipam"),
        (no_conf, ANY, "no-cni"),
        (blind, ANY, "addresses"),
        (linked, ANY, "leases"),
        (nothing, Limits(900, 0, 94), "too-many-stale"),
    ],
)
def test_without_certainty_nothing_moves(
    node: Node, break_it: Callable[[Node], None], limits: Limits, code: str
) -> None:
    node.lay_many(95)
    break_it(node)
    before = node.listing()
    result = drop(node, limits=limits)
    assert result["error"]["code"] == "refused", result["error"]
    assert [row["code"] for row in result["error"]["data"]["refusals"]][:1] == [code]
    assert node.listing() == before and not (node.root / QUARANTINE).exists()
    looked = calls.look(node.ask(limits=limits))
    assert looked["ok"] and looked["changes"] == []
    assert code in {row["code"] for row in looked["cni"]["refusals"]}


def test_others_in_the_same_tree_are_left_alone(node: Node) -> None:
    foreign = node.root / "var/lib/cni/networks/podman"
    foreign.mkdir()
    path = node.lay("10.88.0.5", 5, directory=foreign)
    before = (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
    node.lay_many(3)
    drop(node)
    assert before == (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())


def test_what_is_no_lease_stays(node: Node) -> None:
    node.lay_many(2)
    (node.leases / "notes").write_text("x")
    (node.leases / "10.244.1.80").symlink_to("/etc/passwd")
    (node.leases / "10.244.1.81").write_bytes(b"")
    (node.leases / "10.244.1.82").mkdir()
    result = drop(node)
    assert result["cni"]["released"] == {"file": 2}
    assert {"notes", "10.244.1.80", "10.244.1.81", "10.244.1.82"} <= {path.name for path in node.leases.iterdir()}


def test_when_the_time_is_over_the_rest_stays(node: Node) -> None:
    paths = node.lay_many(3)
    found = calls._observe(node.ask())
    stale = [lease for lease in found.scan.leases if lease.ip not in LIVE] if found.scan else []
    kept = quarantine.Quarantine(found.host, "run-1")
    rows = release.release(kept, found.networks, stale, [], limit=-1)
    assert {row.how for row in rows} == {"kept"} and all(path.exists() for path in paths)


def _killed(work: Callable[[], object], name: str, at: int) -> bool:
    """Run ``work`` in a child that is killed at its ``at``-th call of os.``name``; whether it got that far."""
    child = os.fork()
    if child == 0:
        counted = [0]
        real = getattr(os, name)

        def counting(*args: object, **kwargs: object) -> object:
            counted[0] += 1
            if counted[0] == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        setattr(os, name, counting)
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("name", ["open", "write", "fsync", "unlink", "rename"])
def test_killed_at_any_step_of_a_release_nothing_is_lost(name: str, node: Node) -> None:
    """Every few calls, then an undo, a second run and its undo: the leases are those of before."""
    node.lay_many(3)
    before = node.contents()
    step, at = (7 if name == "open" else 1), 1
    while _killed(partial(drop, node, run=f"killed-{at}"), name, at):
        there = set(node.contents())
        assert there <= set(before)
        done = calls.bring_back(node.ask(undo=f"killed-{at}"))
        assert (done["error"] or {}).get("code") in (None, "unknown")
        assert node.contents() == before
        at += step
    again = calls.bring_back(node.ask(undo=f"killed-{at}"))  # the one that ran to its end
    assert again["error"] is None and node.contents() == before


@pytest.mark.parametrize("name", ["open", "write", "link", "unlink", "utime"])
def test_an_undo_that_was_killed_is_finished_by_the_next(name: str, node: Node) -> None:
    node.lay_many(3)
    before = node.contents()
    drop(node)
    step, at = (9 if name == "open" else 1), 1
    while _killed(lambda: calls.bring_back(node.ask(undo="run-1")), name, at):
        at += step
        done = calls.bring_back(node.ask(undo="run-1"))
        assert done["error"] is None and node.contents() == before
        drop(node, run=f"run-{at}-{name}")
        # The next round undoes this one's release.
        (node.root / QUARANTINE / "run-1").rename(node.root / QUARANTINE / f"old-{at}-{name}")
        (node.root / QUARANTINE / f"run-{at}-{name}").rename(node.root / QUARANTINE / "run-1")
    assert node.contents() == before


def test_a_quarantine_that_was_changed_brings_nothing_wrong_back(node: Node) -> None:
    node.lay_many(2)
    drop(node)
    copy = node.root / QUARANTINE / "run-1/cbr0/10.244.1.10"
    copy.write_bytes(b"something else")
    result = calls.bring_back(node.ask(undo="run-1"))
    assert result["cni"]["undone"]["failed"] == 1 and result["error"] is not None
    assert not (node.leases / "10.244.1.10").exists() and (node.leases / "10.244.1.11").exists()


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"items": [{"lease": 1}]}', b'{"items": [{"lease": {}}]}'])
def test_a_manifest_that_is_not_whole_is_said(node: Node, content: bytes) -> None:
    node.lay_many(1)
    drop(node)
    (node.root / QUARANTINE / "run-1/manifest.json").write_bytes(content)
    assert "not whole" in calls.bring_back(node.ask(undo="run-1"))["error"]["what"]


def test_an_unknown_run_is_said(node: Node) -> None:
    assert calls.bring_back(node.ask(undo="nothing-1"))["error"]["code"] == "unknown"
    assert calls.bring_back(node.ask(undo="latest"))["error"]["code"] == "unknown"
    assert calls.bring_back(node.ask(undo="../../etc"))["error"]["code"] == "usage"


def test_host_locals_lock_is_waited_for_and_respected(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "LOCK_WAIT", 0.1)
    node.lay_many(1)
    before = node.listing()
    with release.locked(str(node.leases)):
        result = drop(node)
    assert result["error"]["code"] == "busy" and node.listing() == before


def test_old_quarantines_go(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine.Quarantine, "keep", 2)
    for number in range(4):
        node.lay_many(1)
        assert drop(node, run=f"run-{number}")["error"] is None
    assert len(list((node.root / QUARANTINE).iterdir())) <= 3


def test_the_evidence_is_one_archive_without_keys(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PATH", str(node.bin))  # this machine's programs are not asked
    (node.root / "etc/cni/net.d/calico-kubeconfig").write_text("token: very-secret-token")
    (node.root / "run/flannel/wgkey").write_text("very-secret-key")
    node.program("ip", "echo 'password: very-secret-word'")
    result = calls.gather(node.ask())
    found = result["cni"]["evidence"]
    path = node.root / found["path"].lstrip("/")
    assert path.stat().st_mode & 0o777 == 0o600
    texts = {}
    with tarfile.open(path) as tar:
        for one in tar.getmembers():
            content = tar.extractfile(one)
            texts[one.name] = content.read().decode() if content else ""
    assert "very-secret" not in "".join(texts.values())
    assert "10.244.1.2" in texts["evidence/listing-var-lib-cni.txt"]
    index = json.loads(texts["evidence/index.json"])
    assert any(row.get("missing") for row in index["files"])
    assert "files/etc/cni/net.d/calico-kubeconfig" in found["missing"]


def test_a_directory_that_would_hold_the_quarantine_is_refused(node: Node) -> None:
    path = node.root / "etc/cni/net.d/10-flannel.conflist"
    ipam = {"type": "host-local", "subnet": "10.244.1.0/24", "dataDir": "/var/lib/tune-nodes"}
    path.write_text(json.dumps({"name": "cbr0", "plugins": [{"type": "bridge", "ipam": ipam}]}))
    directory = node.root / "var/lib/tune-nodes/cbr0"
    directory.mkdir(parents=True)
    lease = node.lay("10.244.1.10", 10, directory=directory)
    result = drop(node)
    assert result["error"]["code"] == "unsupported" and lease.exists()
