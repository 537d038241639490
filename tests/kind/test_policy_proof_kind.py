"""What truly flows where policies are enforced: probe pods, rungs that open nothing, connections that nodes saw."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from clusterworks import wait_for
from kindbed.cluster import Cluster
from kindbed.images import PROBE
from resetbed import DENY, Command, applied, nothing_left, said, typed
from shopfront import PORT, Shop, shop

from tune_nodes.cluster.client import Cluster as Api
from tune_nodes.policy.agents import trouble

pytestmark = [pytest.mark.kind, pytest.mark.timeout(180, func_only=True)]


@pytest.fixture
def command(tmp_path: Path, cilium_cluster: Cluster) -> Command:
    return Command(tmp_path, cilium_cluster.kubeconfig)


@pytest.fixture(scope="module")
def place(cilium_cluster: Cluster) -> Iterator[Shop]:
    with shop(cilium_cluster, f"proof-{secrets.token_hex(3)}") as made:
        yield made


@contextmanager
def watched(place: Shop, *words: str) -> Iterator[list[dict[str, Any]]]:
    """Watch objects; afterwards the list holds every state that they had."""
    seen: list[dict[str, Any]] = []
    cluster = place.cluster
    argv = [str(cluster.kubectl_program), "--kubeconfig", str(cluster.kubeconfig), "-n", place.namespace]
    argv += ["get", *words, "--watch", "-o", "json"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)  # it watches now
        try:
            yield seen
        finally:
            process.terminate()
        text, decoder = first + process.stdout.read(), json.JSONDecoder()
        while text := text.lstrip():
            try:
                found, end = decoder.raw_decode(text)
            except ValueError:  # cut off by the end
                break
            seen.append(found)
            text = text[end:]


def listed(place: Shop, *words: str) -> list[dict[str, Any]]:
    """Return objects of the namespace."""
    found = json.loads(place.cluster.kubectl("-n", place.namespace, "get", *words, "-o", "json"))
    return list(found["items"])


def service(name: str, app: str, unready: bool) -> str:
    spec = {"selector": {"app": app}, "ports": [{"port": PORT}], "publishNotReadyAddresses": unready}
    return json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})


def test_a_probe_pod_proves_it_and_no_service_and_no_replicaset_takes_it(command: Command, place: Shop) -> None:
    client = f"{place.namespace}/{place.pods['client']['metadata']['name']}"
    words = ("-n", place.namespace, "--ttl", "10m", "--yes", "--probe-image", PROBE, *ends(place)[:-2])
    place.cluster.kubectl("-n", place.namespace, "apply", "-f", "-", input=service("client", "client", False))
    with applied(place, DENY):
        slices = ("endpointslices", "-l", "kubernetes.io/service-name=client")
        wait_for("the service has the client", lambda: listed(place, *slices))
        with watched(place, *slices) as states, watched(place, "pods") as pods:
            done = json.loads(command.document("reset", *words))
        (proof,) = done["proof"]
        assert proof["result"] == "proved", proof
        name = f"{place.namespace}/tune-nodes-probe-{done['backup']}-0"
        assert f"connected, by the probe pod {name} in its place, which is removed again" in proof["text"]
        rows = [end for state in states for end in state.get("endpoints") or ()]
        assert {end["targetRef"]["name"] for end in rows if end["conditions"]["ready"]} == {client.rpartition("/")[2]}
        probes = [pod for pod in pods if f"{place.namespace}/{pod['metadata']['name']}" == name]
        assert {"10.244" in pod["status"].get("podIP", "") for pod in probes} >= {True}, "it had an address of its own"
        now = {pod["metadata"]["uid"] for pod in listed(place, "pods") if "deletionTimestamp" not in pod["metadata"]}
        assert now == {pod["metadata"]["uid"] for pod in place.pods.values()}
        command("restore", done["backup"])

        place.cluster.kubectl("-n", place.namespace, "apply", "-f", "-", input=service("client", "client", True))
        done = json.loads(command.document("reset", *words))
        (proof,) = done["proof"]
        assert proof["result"] == "not proved"
        assert proof["text"].endswith(
            "the service client takes pods that are not ready, so it would take a probe pod too"
        )
        command("restore", done["backup"])
        nothing_left(place.cluster, done["backup"])


def ends(place: Shop) -> tuple[str, ...]:
    """Return the options for the client's connection to the web server."""
    client, web = (f"{place.namespace}/{place.pods[app]['metadata']['name']}" for app in ("client", "web"))
    return ("--from", client, "--to", web, "--port", str(PORT), "-i", str(place.cluster.hosts))


def test_what_was_seen_is_proposed_and_flows_when_it_is_applied(command: Command, place: Shop, tmp_path: Path) -> None:
    out = tmp_path / "proposal"
    address = place.pods["web"]["status"]["podIP"]
    client = place.pods["client"]["metadata"]["name"]
    url = f"http://{address}:{PORT}/"
    place.cluster.kubectl("-n", place.namespace, "exec", client, "--", "wget", "-q", "-O", "/dev/null", url)
    words = ("-n", place.namespace, "-i", str(place.cluster.hosts), "--watch", "0", "--out", str(out))
    told = json.loads(command.document("baseline", *words))["observed"]
    assert told["missing"] == []
    assert f"the kernel's conntrack on {', '.join(sorted(place.cluster.nodes))}" in told["from"]
    assert "the TCP sockets of 2 of its pods" in told["from"]
    seen = yaml.safe_load((out / "30-observed-to-web.yaml").read_text(encoding="utf-8"))
    assert seen["spec"]["podSelector"] == {"matchLabels": {"app": "web"}}
    mine = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place.namespace}},
        "podSelector": {"matchLabels": {"app": "client"}},
    }
    assert {"from": [mine], "ports": [{"protocol": "TCP", "port": PORT}]} in seen["spec"]["ingress"]
    assert f"watched for 0 s from {told['from'].rpartition('from ')[2]}" in (out / "README.md").read_text("utf-8")
    assert not place.get("networkpolicies")["items"], "nothing was applied"
    # The files of what services offer would let the client in too: only what was seen is applied.
    applied_ones = ("30-observed-to-web.yaml", "40-observed-from-client.yaml", "90-default-deny.yaml")
    files = [word for name in applied_ones for word in ("-f", str(out / name))]
    try:
        place.cluster.kubectl("apply", *files)
        place.becomes(True)
        place.cluster.kubectl("delete", *files[:2])
        place.becomes(False)
    finally:
        place.cluster.kubectl("delete", "--ignore-not-found", *files)
    place.becomes(True)


@contextmanager
def swallowed(place: Shop) -> Iterator[Callable[[], None]]:
    """Have the web server's pod answer the client no more, by what is no policy; yields what ends that."""
    node, web, client = (
        place.pods["web"]["spec"]["nodeName"],
        *(place.pods[app]["status"]["podIP"] for app in ("web", "client")),
    )
    script = (
        "for space in $(ls /run/netns); do "
        'ip -n "$space" -o address show | grep -qF " $1/" && ip -n "$space" route "$3" blackhole "$2"; done; true'
    )

    def route(verb: str) -> None:
        place.cluster.exec(node, "sh", "-c", script, "sh", web, client, verb)

    route("add")
    try:
        yield lambda: route("del")
    finally:
        route("replace")
        route("del")


@contextmanager
def stopped_agent(place: Shop) -> Iterator[None]:
    """Have the agent of the web server's node hang: rules stay as they are."""
    node = place.pods["web"]["spec"]["nodeName"]
    place.cluster.exec(node, "pkill", "-STOP", "-x", "cilium-agent")
    try:
        yield
    finally:
        place.cluster.exec(node, "pkill", "-CONT", "-x", "cilium-agent")


def test_where_a_rung_opens_nothing_the_next_is_asked_for_but_not_while_an_agent_hangs(
    command: Command, place: Shop
) -> None:
    node = place.pods["web"]["spec"]["nodeName"]
    words = ("-n", place.namespace, "--ttl", "10m", "--yes", *ends(place))
    with Api.open(place.cluster.kubeconfig) as api, applied(place, DENY), swallowed(place) as ended:
        before = place.get("networkpolicy", "default-deny")
        assert trouble(api.api, set(place.cluster.nodes)) == []
        assert re.match(r"no agent of cilium v\S+ runs on nowhere", trouble(api.api, {"nowhere"})[0])
        with stopped_agent(place):
            wait_for("its pod is not ready", lambda: trouble(api.api, {node}))
            text = command("reset", *words, code=1)
        assert text.count(f"on {node} is not ready: rules stay there as they are") == 2, "beforehand, and why it failed"
        assert "does not flow: " in text
        assert "--approve" not in text
        command("restore", "latest")
        wait_for("its pod is ready", lambda: not trouble(api.api, {node}))

        hashes: list[str] = []

        def answer() -> None:
            hashes.append(command.hash(*words, "--rung", "5"))
            ended()

        text = typed(command, words, f"{place.namespace}\n", 0, first=answer)
        assert "does not flow: " in text
        assert "it does not flow; the next is rung 5, delete the policies that decide:" in text
        assert re.findall(r"^plan (\S+)$", text, re.M)[-1:] == hashes, "whoever has no terminal can approve the same"
        assert "rung 3 did not help: removed NetworkPolicy" in text
        assert f"deleted NetworkPolicy {place.namespace}/default-deny" in text
        assert "proved: " in text
        place.becomes(True)
        backups = re.findall(r"^close it now: tune-nodes policy restore (\S+)$", text, re.M)
        command("restore", backups[-1], "--yes")
        place.becomes(False)
        assert said(place.get("networkpolicy", "default-deny")) == said(before)
        for backup in backups:
            nothing_left(place.cluster, backup)
