"""A probe pod's life: noted before it is there, removed whatever happens, and only believed where it stands for all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from policy_world import AGENT, CLIENT, WEB, np, world

from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import FORBIDDEN, ClusterError
from tune_nodes.cluster.refusals import Refused
from tune_nodes.policy.judging.verdict import judge
from tune_nodes.policy.keeping.backup import Backup
from tune_nodes.policy.model import Policy
from tune_nodes.policy.opening import flows, ladder, record
from tune_nodes.policy.opening.flows import Flow
from tune_nodes.policy.opening.record import ResetRecord
from tune_nodes.policy.opening.reset import Done, Plan
from tune_nodes.policy.opening.scope import Scope
from tune_nodes.policy.proving import podside, prove
from tune_nodes.policy.proving.podside import Stand

FLOW = Flow(CLIENT, WEB, 8080)
NAME = "tune-nodes-probe-r1-0"


class Server:
    """An API server with one namespace, that runs a probe pod to its end.

    Args:
        message: what the pod says.
        allowed: whether we may make pods.
        refusal: what making one is answered with, None for well.
        services: of the namespace.
        extra: a container that admission adds.
    """

    def __init__(
        self,
        message: str = "0 yes connected",
        allowed: bool = True,
        refusal: ClusterError | None = None,
        services: tuple[dict[str, Any], ...] = (),
        extra: str = "",
    ) -> None:
        self.message, self.allowed, self.refusal, self.services, self.extra = message, allowed, refusal, services, extra
        self.pod: dict[str, Any] = {}
        self.made: dict[str, Any] = {}
        self.directory = Path()
        self.noted: list[str] = []

    def post(self, call: Call, body: Mapping[str, Any], query: Any = None, *, safe: bool = False) -> dict[str, Any]:
        if call.resource == "selfsubjectaccessreviews":
            return {"status": {"allowed": self.allowed}}
        found = record.load(self.directory)
        self.noted = [one.name for one in found.probes] if found else []
        if self.refusal is not None:
            raise self.refusal
        spec = {
            **body["spec"],
            "containers": [*body["spec"]["containers"], *([{"name": self.extra}] if self.extra else [])],
        }
        self.pod = self.made = {**body, "metadata": {**body["metadata"], "uid": "u77"}, "spec": spec}
        return self.pod

    def get(self, call: Call) -> dict[str, Any]:
        state = {"terminated": {"message": self.message, "reason": "Completed"}}
        status = {"phase": "Succeeded", "podIP": "10.0.2.77", "containerStatuses": [{"state": state}]}
        return {**self.pod, "status": status}

    def items(self, call: Call) -> list[dict[str, Any]]:
        return list(self.services)

    def delete(self, call: Call, uid: str = "", version: str = "") -> dict[str, Any]:
        assert (call.path, uid) == (f"/api/v1/namespaces/shop/pods/{NAME}", "u77")
        self.pod = {}
        return {}


def stand(server: Server, directory: Path, *policies: Policy) -> Stand:
    """Return what a probe pod stands on: a reset of the namespace that a default deny had cut."""
    server.directory = directory
    found = world("cilium", [np("deny", policyTypes=["Ingress", "Egress"]), *policies])
    scope = Scope("namespace", "shop")
    steps = ladder.climb(ladder.Question(found, scope, flows.wide(found, scope), judge), 3)
    assert steps.chosen is not None
    backup = cast("Backup", SimpleNamespace(id="r1", directory=directory))
    done = Done(
        Plan(scope, found, steps, steps.chosen), backup, ResetRecord(id="r1", scope="shop", rung=3, plan_hash="")
    )
    cluster = cast("Cluster", SimpleNamespace(api=server, user="somebody"))
    return Stand(cluster, done, "probe:1", lambda seconds: None)


def noted(directory: Path) -> list[str] | None:
    """Return the probe pods that the record names; None where there is no record."""
    found = record.load(directory)
    return [one.name for one in found.probes] if found else None


@pytest.mark.parametrize(
    ("message", "ok", "words"),
    [
        ("0 yes connected", True, "connected, by the probe pod"),
        ("0 no no answer", False, "no answer, by the probe pod"),
        ("0 unknown refused: nobody", None, "refused: nobody, by the probe pod"),
        ("", None, "it said nothing: Completed"),
    ],
)
def test_it_is_noted_made_read_and_removed(tmp_path: Path, message: str, ok: bool | None, words: str) -> None:
    server = Server(message)
    (proof,) = podside.tried(stand(server, tmp_path), [FLOW])
    assert proof.ok is ok
    assert f"{FLOW}: {words}" in proof.text
    assert f"shop/{NAME}" in proof.text
    assert server.noted == [NAME], "it is in the record before it is there"
    assert (server.pod, noted(tmp_path)) == ({}, [])
    assert server.made["spec"]["nodeName"] == "w2"


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (Server(allowed=False), "no probe pod: somebody may not create pods"),
        (
            Server(refusal=Refused(ClusterError(FORBIDDEN, "refused", "violates PodSecurity"), 403)),
            "violates PodSecurity",
        ),
        (Server(extra="istio-proxy"), "istio-proxy was put into the probe pod"),
        (
            Server(
                services=(
                    {
                        "metadata": {"name": "peers"},
                        "spec": {"selector": {"app": "client"}, "publishNotReadyAddresses": True},
                    },
                )
            ),
            "the service peers takes pods that are not ready",
        ),
    ],
)
def test_where_it_cannot_be_it_proves_nothing_and_leaves_nothing(tmp_path: Path, server: Server, words: str) -> None:
    (proof,) = podside.tried(stand(server, tmp_path), [FLOW])
    assert proof.ok is None
    assert words in proof.text
    assert server.pod == {}
    assert noted(tmp_path) in (None, [])


def test_a_pod_of_a_nodes_network_has_no_stand_in(tmp_path: Path) -> None:
    (proof,) = podside.tried(stand(Server(), tmp_path), [Flow(AGENT, WEB, 8080)])
    assert (proof.ok, "has its node's network" in proof.text) == (None, True)


def test_a_policy_that_tells_them_apart_makes_it_worth_nothing(tmp_path: Path) -> None:
    lacks = {"matchExpressions": [{"key": "tune-nodes/reset", "operator": "DoesNotExist"}]}
    deny = np("deny-probes", podSelector={}, policyTypes=["Ingress"], ingress=[{"from": [{"podSelector": lacks}]}])
    made = stand(Server(), tmp_path, deny)
    rung = ladder.Rung(ladder.ALLOW)  # nothing was added: the two policies decide
    made.done.plan = Plan(made.done.plan.scope, made.done.plan.snapshot, made.done.plan.ladder, rung)
    (proof,) = podside.tried(made, [Flow(CLIENT, WEB, 8080, sides=("ingress",))])
    assert (proof.ok, "judge a probe pod otherwise" in proof.text) == (None, True)


def test_it_is_removed_when_somebody_loses_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()

    def interrupted(call: Call) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "get", interrupted)
    with pytest.raises(KeyboardInterrupt):
        podside.tried(stand(server, tmp_path), [FLOW])
    assert (server.pod, noted(tmp_path)) == ({}, [])


def test_a_node_that_answers_is_asked_and_no_pod_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    made = stand(server, tmp_path)
    answers = {("n2", "u2 10.0.1.1 8080 TCP"): (True, "connected")}
    monkeypatch.setattr(prove, "provable", lambda flows: [FLOW])
    monkeypatch.setattr(prove.nodeside, "reach", lambda cluster, inventory: ({"w2": "n2"}, lambda wanted: answers))
    (proof,) = prove.prove(made.cluster, made.done, ["prod"], "probe:1", explicit=True)
    assert (proof.ok, proof.nodes, server.made) == (True, ("w2", "w1"), {})
    monkeypatch.setattr(prove.nodeside, "reach", lambda cluster, inventory: ({}, lambda wanted: answers))
    (proof,) = prove.prove(made.cluster, made.done, ["prod"], "probe:1", explicit=True)
    assert proof.ok is True
    assert server.made["metadata"]["name"] == NAME
