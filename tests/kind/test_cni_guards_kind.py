"""Two recoveries in one cluster, the pause switch, the verification matrix, and the account that may all this.

Slots are read by kubectl, never by the code under test.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clusterworks import as_account, wait_for
from idlepods import IMAGE

from commandline import PROGRAM, env_of
from tune_nodes.cluster import rights
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster as Api
from tune_nodes.errors import TuneError
from tune_nodes.recovery import lock, pause, slots
from tune_nodes.recovery.budget import Budget
from tune_nodes.recovery.probepods import ProbePods

if TYPE_CHECKING:
    from kindbed.cluster import Cluster

pytestmark = pytest.mark.kind

OURS = "tune-nodes"

# Lays leases of sandboxes that never were.
LAY = """
set -e
. /run/flannel/subnet.env
base=/var/lib/cni/networks/cbr0
mkdir -p $base
for number in 241 242 243; do
  ip=${FLANNEL_SUBNET%.*}.$number
  [ -e $base/$ip ] && continue
  printf '%064x\\r\\neth0' $number >$base/$ip
  touch -d '5 hours ago' $base/$ip
done
"""
LEFT = "grep -lE '^0{60}' /var/lib/cni/networks/cbr0/* 2>/dev/null | wc -l"


@dataclass
class Bed:
    """A cluster with two workers on which stale leases can be laid."""

    cluster: Cluster
    one: str
    two: str
    directory: Path

    def lay(self, node: str) -> None:
        """Lay three stale leases."""
        self.cluster.ssh(node, "sh -s", input=LAY)

    def left(self, node: str) -> int:
        """Return how many of them are there."""
        return int(self.cluster.ssh(node, LEFT).stdout)

    def start(self, state: str, *words: str) -> subprocess.Popen[str]:
        """Start ``tune-nodes recover`` from a state directory of its own: as from another machine, but for its name."""
        return subprocess.Popen(
            [*PROGRAM, "recover", *words, "-i", str(self.cluster.hosts)],
            env=env_of(self.directory, state, COLUMNS="200"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def release(self, state: str, node: str, *words: str) -> subprocess.Popen[str]:
        """Start a release of a node's stale leases."""
        return self.start(state, "cni", "--nodes", node, "--max-stale-percent", "100", "--yes", *words)

    def compared(self, state: str) -> list[dict[str, Any]]:
        """Return the rows of the last comparison of before and after."""
        events = max((self.directory / state / "runs").glob("*/events.jsonl"))
        found = [json.loads(line) for line in events.read_text().splitlines()]
        return next(list(one["rows"]) for one in reversed(found) if one.get("event") == "compared")

    def leases(self) -> dict[str, str]:
        """Return the holder of each slot, "" for nobody."""
        listed = json.loads(
            self.cluster.kubectl("-n", OURS, "get", "leases", "-o", "json", "--ignore-not-found") or "{}"
        )
        return {item["metadata"]["name"]: item["spec"].get("holderIdentity", "") for item in listed.get("items", [])}

    def held(self) -> str:
        """Return who has the first slot, "" for nobody."""
        return self.leases().get("recovery-0", "")


def ended(process: subprocess.Popen[str], limit: float = 150) -> tuple[int, str]:
    """Wait for a run; its exit code and what it said."""
    try:
        said, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, " ".join(said.split())


@pytest.fixture(scope="module")
def bed(kind_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A cluster whose namespace of ours, if it has none, is taken away again, with what is in it."""
    two, one = [name for name in sorted(kind_cluster.nodes) if not name.endswith("control-plane")][-2:]
    found = Bed(kind_cluster, one, two, tmp_path_factory.mktemp("guards"))
    there = kind_cluster.kubectl("get", "namespace", OURS, "--ignore-not-found", "-o", "name")
    try:
        yield found
    finally:
        if not there:
            kind_cluster.kubectl("delete", "namespace", OURS, "--ignore-not-found", "--timeout=90s", timeout=100)
        else:
            kind_cluster.kubectl("-n", OURS, "delete", "leases", "--all", timeout=60)
        for node in (one, two):
            kind_cluster.ssh(
                node, "rm -f $(grep -lE '^0{60}' /var/lib/cni/networks/cbr0/* 2>/dev/null) /dev/null/x || true"
            )
            kind_cluster.ssh(node, "rm -rf /var/lib/tune-nodes/quarantine /var/lib/tune-nodes/evidence")


@pytest.fixture
def tidy(bed: Bed) -> Iterator[Bed]:
    """The same for one test: nobody has a slot, nothing is remembered, and recoveries are not paused."""
    yield bed
    bed.cluster.kubectl("-n", OURS, "delete", "configmap", pause.NAME, "--ignore-not-found")
    bed.cluster.kubectl("-n", OURS, "delete", "leases", "--all")


def test_of_two_at_once_the_second_is_refused_or_waits_as_asked(tidy: Bed) -> None:
    bed = tidy
    bed.lay(bed.two)
    with ExitStack() as stack:
        api = stack.enter_context(Api.open(bed.cluster.kubeconfig))
        first = slots.Slots(api, Budget(), "first", "elsewhere", 0, lambda: False, lambda said: None)
        with first.held(bed.one):
            holder = bed.held()
            code, said = ended(bed.release("b", bed.two, "--between", "1s"))
            assert code == 1 and "is beyond the budget of 1 of 3 nodes" in said, said
            assert f"under recovery: {bed.one}" in said, said
            waiting = bed.release("b", bed.two, "--between", "1s", "--wait", "120")
            assert waiting.stdout is not None
            read = next((line for line in waiting.stdout if "waiting for up to" in line), "")
            assert read and waiting.poll() is None
            assert bed.held() == holder and bed.left(bed.two) == 3
        code, said = ended(waiting)
    assert code == 0, said
    assert bed.left(bed.two) == 0
    assert set(bed.leases().values()) == {""}


# Held by a run of another machine that died; its time is short, so that the test is.
DEAD = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"name": "recovery-0", "namespace": OURS, "annotations": {"tune-nodes/node": "elsewhere"}},
    "spec": {"holderIdentity": "ops-9_dead", "leaseDurationSeconds": 3, "renewTime": "2020-01-01T00:00:00.000000Z"},
}


def test_a_dead_runs_slot_is_taken_over_once_it_stayed_as_it_is(tidy: Bed) -> None:
    bed = tidy
    with Api.open(bed.cluster.kubeconfig) as api:
        lock.make_namespace(api.api)
        bed.cluster.kubectl("apply", "-f", "-", input=json.dumps(DEAD))
        began = time.monotonic()
        with slots.Slots(api, Budget(), "other", "elsewhere", 0, lambda: False, lambda said: None).held(bed.two):
            assert time.monotonic() - began >= 3
            assert bed.held().endswith("_other")


def test_a_killed_run_is_carried_on_at_once_by_the_next_from_its_directory(tidy: Bed) -> None:
    bed = tidy
    bed.lay(bed.one)
    first = bed.release("a", bed.one, "--between", "300s")
    wait_for("the first run has a slot", bed.held)
    os.killpg(first.pid, 9)
    first.communicate(timeout=10)
    assert bed.held()
    code, said = ended(bed.release("a", bed.one, "--between", "1s"))
    assert code == 0 and "waiting" not in said, said
    assert bed.left(bed.one) == 0 and not bed.held()


def test_a_pause_is_honoured_until_it_is_lifted(tidy: Bed) -> None:
    bed = tidy
    bed.lay(bed.one)
    assert ended(bed.start("a", "pause", "--reason", "the switch is being replaced"))[0] == 0
    code, said = ended(bed.release("a", bed.one, "--between", "1s", "--wait", "60"))
    assert code == 1 and "recoveries are paused" in said and "the switch is being replaced" in said, said
    assert bed.left(bed.one) == 3
    code, said = ended(bed.start("a", "resume"))
    assert code == 0 and "may go on" in said


@pytest.fixture
def node_port(tidy: Bed) -> Iterator[str]:
    """The API server on a port of every node; its own address and port, as one outside the cluster."""
    kubectl = tidy.cluster.kubectl
    (subset,) = json.loads(kubectl("-n", "default", "get", "endpoints", "kubernetes", "-o", "json"))["subsets"]
    address, port = subset["addresses"][0]["ip"], subset["ports"][0]["port"]
    kind: dict[str, Any] = {"apiVersion": "v1", "metadata": {"name": "matrix-test", "namespace": "default"}}
    ports = [{"name": "https", "port": port, "protocol": "TCP"}]
    service = {**kind, "kind": "Service", "spec": {"type": "NodePort", "ports": ports}}
    endpoints = {**kind, "kind": "Endpoints", "subsets": [{"addresses": [{"ip": address}], "ports": ports}]}
    kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": [service, endpoints]}))
    try:
        yield f"{address}:{port}"
    finally:
        kubectl("-n", "default", "delete", "service,endpoints", "matrix-test", "--ignore-not-found")


def test_the_matrix_before_and_after_and_metrics_and_a_page(tidy: Bed, node_port: str) -> None:
    bed = tidy
    bed.lay(bed.one)
    prom = bed.directory / "cni.prom"
    probing = ["--probe-image", IMAGE, "--metrics-file", str(prom), "--egress", node_port]
    code, said = ended(bed.release("a", bed.one, "--between", "1s", *probing))
    assert code == 0, said
    for words in ("a new pod gets a network", "pod to pod on", "pod to ClusterIP", "DNS over UDP", "1450 bytes, DF"):
        assert words in said, said
    rows = {row["what"]: row for row in bed.compared("a")}
    connected = [what for what, row in rows.items() if row["before"] == row["after"] == "yes: connected"]
    assert any(what.endswith("(default/matrix-test)") for what in connected), rows
    assert f"pod to {node_port} (outside)" in connected, rows
    assert rows["a new pod's address is its own"]["after"] == "yes: 3 asked about"
    closed = rows.pop("a denied flow stays denied")  # Flannel enforces nothing: said, and not held against the recovery
    assert (
        closed["good"] is None
        and closed["before"] == closed["after"] == "no: it is answered: policies are not enforced"
    )
    assert not [row for row in rows.values() if row["after"].startswith("no:")], rows
    assert bed.cluster.kubectl("-n", OURS, "get", "pods", "-o", "name") == ""
    wait_for("no policy is left", lambda: bed.cluster.kubectl("-n", OURS, "get", "networkpolicies", "-o", "name") == "")
    text = prom.read_text()
    assert f'tune_nodes_cni_leases_stale{{network="cbr0",node="{bed.one}"}} 0.0' in text, text
    pages = sorted((bed.directory / "a" / "runs").glob(f"*/evidence-{bed.one}.html"))
    assert pages and "DNS over UDP" in pages[-1].read_text()


def test_the_account_for_recoveries_may_all_this_and_no_other_lease(tidy: Bed, tmp_path: Path) -> None:
    bed = tidy
    text = rights.manifest("recover")
    bed.cluster.kubectl("apply", "-f", "-", input=text)
    try:
        token = bed.cluster.kubectl("-n", OURS, "create", "token", "tune-nodes-recover").strip()
        with Api.open(as_account(bed.cluster, tmp_path, token)) as api:
            assert pause.pause(api.api, "a test", "a test") is None
            mine = slots.Slots(api, Budget(), "run", "here", 0, lambda: False, lambda said: None)
            with pytest.raises(TuneError, match="paused"), mine.held(bed.one):
                pass
            assert pause.resume(api.api) is not None
            with mine.held(bed.one) as slot:
                slot.renew()
                slot.check()
            pods = ProbePods(api.api, "20261124-101010-abcdef", IMAGE, lambda: False)
            made = pods.up({"a": bed.one}, "before")
            assert pods.down(made) == [] and made["a"].ips
            with pytest.raises(TuneError, match="may not patch leases"):
                api.api.patch(Call("patch", "leases", lock.GROUP, "kube-system", "kube-scheduler"), {"metadata": {}})
    finally:
        kept = "\n---\n".join(part for part in text.split("\n---\n") if "kind: Namespace" not in part)
        bed.cluster.kubectl("delete", "--ignore-not-found", "-f", "-", input=kept, timeout=120)
