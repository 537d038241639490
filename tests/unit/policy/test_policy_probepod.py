"""The pod that connects in another's place: nobody takes it for that pod, and only what it saw counts."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from policy_world import AGENT, BATCH, CLIENT, JSON, WEB, made, np, world

from tune_nodes.policy.opening.allows import LABEL
from tune_nodes.policy.opening.flows import Flow
from tune_nodes.policy.proving import probepod
from tune_nodes.policy.proving.podside import alike

FLOW = Flow(CLIENT, WEB, 8080)
OLD = "service.alpha.kubernetes.io/tolerate-unready-endpoints"


def test_it_is_judged_like_its_source_and_taken_by_nobody() -> None:
    pod = probepod.manifest(CLIENT, [FLOW, Flow(CLIENT, BATCH, 53, "UDP")], "probe:1", "r1", "tune-nodes-probe-r1-0")
    metadata, spec = pod["metadata"], pod["spec"]
    assert metadata["namespace"] == "shop"
    assert metadata["labels"] == {"app": "client", LABEL: "r1"}
    assert (spec["nodeName"], spec["serviceAccountName"]) == ("w2", "default")
    assert spec["readinessGates"] == [{"conditionType": probepod.GATE}], "no Service takes it"
    (owner,) = metadata["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == ("u2", True), "no ReplicaSet adopts it, and it goes with its source"
    assert spec["automountServiceAccountToken"] is False
    (container,) = spec["containers"]
    assert {"name": "TARGETS", "value": "0 10.0.1.1 8080 TCP\n1 10.0.2.2 53 UDP"} in container["env"]
    assert "10.0.1.1" not in container["command"][-1], "what comes from the cluster is no part of the script"


def service(name: str, app: str, unready: bool, **annotations: str) -> dict[str, Any]:
    spec = {"selector": {"app": app}, "publishNotReadyAddresses": unready}
    return {"metadata": {"name": name, "annotations": annotations}, "spec": spec}


@pytest.mark.parametrize(
    ("services", "name"),
    [
        ([], ""),
        ([service("client", "client", False)], ""),
        ([service("other", "web", True)], ""),
        ([service("peers", "client", True)], "peers"),
        ([service("old", "client", False, **{OLD: "true"})], "old"),
        ([{"metadata": {"name": "bare"}, "spec": {"publishNotReadyAddresses": True}}], ""),
    ],
)
def test_a_service_that_takes_pods_which_are_not_ready_is_named(services: list[dict[str, Any]], name: str) -> None:
    assert probepod.taken_by(CLIENT, services) == name


def test_a_proxy_that_was_put_into_it_is_named() -> None:
    ours = {"name": probepod.CONTAINER}
    assert probepod.added_to({"spec": {"containers": [ours]}}) == ""
    assert probepod.added_to({"spec": {"containers": [ours, {"name": "istio-proxy"}]}}) == "istio-proxy"
    assert probepod.added_to({"spec": {"containers": [ours], "initContainers": [{"name": "init"}]}}) == "init"


def ended(message: Any) -> dict[str, Any]:
    state = {"terminated": {"message": message, "reason": "Completed"}}
    return {"status": {"phase": "Succeeded", "containerStatuses": [{"state": state}]}}


@pytest.mark.parametrize(
    ("phase", "reason", "over"),
    [
        ("Succeeded", "", True),
        ("Failed", "", True),
        ("Running", "", False),
        ("Pending", "ContainerCreating", False),
        ("Pending", "ErrImagePull", False),  # it is tried once more
        ("Pending", "ImagePullBackOff", True),
    ],
)
def test_nobody_waits_for_an_image_that_cannot_be_had(phase: str, reason: str, over: bool) -> None:
    status = {"phase": phase, "containerStatuses": [{"state": {"waiting": {"reason": reason}}}]}
    assert probepod.ended({"status": status}) is over


def test_what_it_said_is_read_line_by_line() -> None:
    found = probepod.said(ended("0 yes connected\njunk\n1 no no answer\n2 unknown refused\n99999 yes x\n3 perhaps"))
    assert found == {0: (True, "connected"), 1: (False, "no answer"), 2: (None, "refused")}


@pytest.mark.parametrize(
    ("pod", "why"),
    [
        (
            {"status": {"containerStatuses": [{"state": {"waiting": {"reason": "ErrImageNeverPull"}}}]}},
            "ErrImageNeverPull",
        ),
        ({"status": {"reason": "NodeAffinity", "message": "no room"}}, "NodeAffinity: no room"),
        ({"status": {}}, "its container has not started"),
    ],
)
def test_why_it_said_nothing_is_said(pod: dict[str, Any], why: str) -> None:
    assert probepod.why_not(pod) == why


@given(JSON)
@settings(max_examples=60)
def test_any_answer_is_read(raw: Any) -> None:
    pod = raw if isinstance(raw, dict) else {"status": raw, "spec": raw}
    assert isinstance(probepod.said(pod), dict)
    assert isinstance(probepod.said(ended(raw)), dict)
    assert isinstance(probepod.why_not(pod), str)
    assert isinstance(probepod.ended(pod), bool)
    assert isinstance(probepod.added_to(pod), str)
    assert isinstance(probepod.taken_by(CLIENT, [pod]), str)


def test_where_policies_tell_the_two_apart_it_proves_nothing() -> None:
    probe = replace(CLIENT, ips=("10.0.2.77",), labels={**CLIENT.labels, LABEL: "r1"})
    by_label = np("in", ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}])
    by_lack = np(
        "in", ingress=[{"from": [{"podSelector": {"matchExpressions": [{"key": LABEL, "operator": "DoesNotExist"}]}}]}]
    )
    by_address = made(
        "CalicoNetworkPolicy", "in", "shop", selector="all()", types=["Ingress"],
        ingress=[{"action": "Allow", "source": {"nets": ["10.0.2.1/32"]}}],
    )  # fmt: skip
    assert alike(world("cilium", [by_label]), FLOW, probe)
    assert not alike(world("cilium", [by_lack]), FLOW, probe)
    assert not alike(world("calico", [by_address]), FLOW, probe)
    assert alike(world("cilium"), Flow(AGENT, WEB, 80), AGENT)


#: A stand-in for each program of the image: what nc and nslookup do is the test's own.
PROGRAMS = {
    "timeout": 'shift; exec "$@"',
    "sleep": ":",
    "date": 'n=$(cat "$0.n" 2>/dev/null || echo 0); n=$((n + ${STEP:-1})); echo $n >"$0.n"; echo $n',
}


@pytest.mark.parametrize(
    ("protocol", "program", "step", "line"),
    [
        ("TCP", "exit 0", 0, "0 yes connected"),
        ("TCP", "echo 'nc: timed out' >&2; exit 1", 2, "0 no no answer"),
        ("TCP", "echo 'Connection refused' >&2; exit 1", 0, f"0 unknown {probepod.ENDED}"),
        ("TCP", "exit 127", 0, "0 unknown the image has no nc, or no timeout"),
        ("TCP", "exit 143", 2, "0 no no answer"),  # it hangs, and no socket is connected
        ("UDP", "echo 'Name: kubernetes'", 0, "0 yes answered"),
        ("UDP", "echo '** server can not find it: NXDOMAIN'; exit 1", 0, "0 yes answered"),
        ("UDP", "echo ';; connection timed out; no servers could be reached'; exit 1", 0, "0 no no answer"),
        ("UDP", "echo surprise; exit 1", 0, "0 unknown nslookup failed"),
    ],
)
def test_the_script_says_what_its_programs_saw(
    tmp_path: Path, protocol: str, program: str, step: int, line: str
) -> None:
    for name, text in {**PROGRAMS, "nc": program, "nslookup": program}.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        path.chmod(0o755)
    shell = shutil.which("sh")
    assert shell is not None
    env = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "TARGETS": f"0 192.0.2.9 9 {protocol}",
        "ENDED": probepod.ENDED,
        "OUT": str(tmp_path / "said"),
        "STEP": str(step),
    }
    subprocess.run([shell, "-c", probepod.SCRIPT], env=env, timeout=20, check=True)
    said = (tmp_path / "said").read_text(encoding="utf-8")
    assert said == f"{line}\n"
    assert 0 in probepod.said(ended(said))
