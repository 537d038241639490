"""The clusters are what they claim to be: what tests built on them rest on."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Iterator

import pytest
from kindbed import inventory
from kindbed.cluster import Cluster
from kindbed.command import run
from outside import HERE, PORT, THERE, answers, outside


def connects(cluster: Cluster, node: str, address: str, port: int) -> bool:
    """Return whether a node can open a TCP connection."""
    return cluster.ssh(node, f"timeout 5 bash -c '</dev/tcp/{address}/{port}'", check=False).returncode == 0


@pytest.fixture
def probes(kind_cluster: Cluster) -> dict[str, tuple[str, str]]:
    return kind_cluster.probe_pods()


def test_nodes_are_ready(kind_cluster: Cluster) -> None:
    nodes = json.loads(kind_cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    assert {node["metadata"]["name"] for node in nodes} == set(kind_cluster.nodes)
    assert len(nodes) == 3
    for node in nodes:
        ready = next(c for c in node["status"]["conditions"] if c["type"] == "Ready")
        assert ready["status"] == "True"
        address = next(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
        assert address == kind_cluster.nodes[node["metadata"]["name"]]


def test_each_node_is_a_machine_of_its_own(kind_cluster: Cluster) -> None:
    nodes = json.loads(kind_cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    told = {node["metadata"]["name"]: node["status"]["nodeInfo"]["machineID"] for node in nodes}
    assert told == {node: kind_cluster.ssh(node, "cat", "/etc/machine-id").stdout.strip() for node in told}
    assert len(set(told.values())) == len(kind_cluster.nodes)


def test_nodes_have_a_whole_systemd(kind_cluster: Cluster) -> None:
    for node in kind_cluster.nodes:
        said = kind_cluster.ssh(node, "systemctl", "is-system-running", "--wait", check=False)
        assert said.stdout.strip() == "running", kind_cluster.ssh(node, "systemctl", "--failed").stdout
        begun = kind_cluster.ssh(node, "systemd-run", "--wait", "--pipe", "--quiet", "echo", "ran")
        assert begun.stdout.strip() == "ran"


def test_eth0_has_a_second_queue_to_use(kind_cluster: Cluster) -> None:
    for node in kind_cluster.nodes:
        numbers = [
            line.split()[1]
            for line in kind_cluster.ssh(node, "ethtool", "-l", "eth0").stdout.splitlines()
            if line.startswith(("RX:", "TX:"))
        ]
        assert numbers == ["2", "2", "1", "1"]  # at most, and now


def test_ansible_reaches_every_node(kind_cluster: Cluster) -> None:
    from pathlib import Path
    from sys import executable

    ansible = Path(executable).with_name("ansible")
    done = run([str(ansible), "-i", str(kind_cluster.hosts), "kind", "-m", "ping"], timeout=120)
    assert done.stdout.count('"pong"') == len(kind_cluster.nodes)
    assert "WARNING" not in done.stderr


def test_host_keys_are_checked(kind_cluster: Cluster) -> None:
    known = kind_cluster.inventory / inventory.KNOWN_HOSTS
    true = known.read_text()
    keys = [line.split()[2] for line in true.splitlines()]
    assert len(set(keys)) == len(kind_cluster.nodes), "each node has a key of its own"
    first, other = list(kind_cluster.nodes)[:2]
    lines = [line.split() for line in true.splitlines()]
    swapped = dict(zip([line[0] for line in lines], [*keys[1:], keys[0]], strict=True))
    try:
        known.write_text("".join(f"{address} ssh-ed25519 {key}\n" for address, key in swapped.items()))
        refused = kind_cluster.ssh(first, "true", check=False)
        assert refused.returncode == 255
        assert "Host key verification failed" in refused.stderr
        known.write_text("")
        assert kind_cluster.ssh(other, "true", check=False).returncode == 255
    finally:
        known.write_text(true)
    assert kind_cluster.ssh(first, "true").returncode == 0


def test_secrets_are_their_owners_alone(kind_cluster: Cluster) -> None:
    for name in (inventory.KEY, inventory.KUBECONFIG):
        assert stat.S_IMODE((kind_cluster.inventory / name).stat().st_mode) == 0o600


def test_pods_reach_pods_on_other_nodes(kind_cluster: Cluster, probes: dict[str, tuple[str, str]]) -> None:
    assert set(probes) == set(kind_cluster.nodes)
    for pod, _ in probes.values():
        for other, address in probes.values():
            assert kind_cluster.fetch(pod, address) == other


def test_a_service_and_its_name_work(kind_cluster: Cluster, probes: dict[str, tuple[str, str]]) -> None:
    pod = next(iter(probes.values()))[0]
    assert kind_cluster.fetch(pod, "probe.default.svc.cluster.local", 80).startswith("probe-")


def test_crictl_tells_what_the_api_server_knows(kind_cluster: Cluster, probes: dict[str, tuple[str, str]]) -> None:
    for node, (pod, _) in probes.items():
        pods = json.loads(kind_cluster.ssh(node, "crictl", "pods", "--state", "ready", "-o", "json").stdout)["items"]
        found = next(item for item in pods if item["metadata"]["name"] == pod)
        assert found["metadata"]["namespace"] == "default"
        assert found["state"] == "SANDBOX_READY"
        assert found["labels"]["io.kubernetes.pod.name"] == pod
        assert found["createdAt"].isdigit()  # nanoseconds, as text
        listed = json.loads(kind_cluster.ssh(node, "crictl", "ps", "-a", "-o", "json").stdout)["containers"]
        container = next(item for item in listed if item["podSandboxId"] == found["id"])
        assert container["metadata"]["name"] == "probe"
        assert container["state"] == "CONTAINER_RUNNING"
        info = json.loads(kind_cluster.ssh(node, "crictl", "info").stdout)
        assert {"RuntimeReady", "NetworkReady"} <= {item["type"] for item in info["status"]["conditions"]}


def test_leases_of_addresses_lie_where_the_plugins_keep_them(
    kind_cluster: Cluster, probes: dict[str, tuple[str, str]]
) -> None:
    for node, (pod, address) in probes.items():
        sandbox = kind_cluster.ssh(node, "cat", f"/var/lib/cni/networks/cbr0/{address}").stdout.split()[0]
        pods = json.loads(kind_cluster.ssh(node, "crictl", "pods", "--id", sandbox, "-o", "json").stdout)["items"]
        assert [item["metadata"]["name"] for item in pods] == [pod]
        kept = json.loads(kind_cluster.ssh(node, "cat", f"/var/lib/cni/flannel/{sandbox}").stdout)
        assert kept["type"] == "bridge"
        assert kept["ipam"]["ranges"][0][0]["subnet"].endswith(".0/24")


@pytest.fixture(scope="module")
def beyond() -> Iterator[None]:
    with outside():
        yield


@pytest.mark.usefixtures("beyond")
def test_nothing_leaves_a_cluster(kind_cluster: Cluster, probes: dict[str, tuple[str, str]]) -> None:
    assert answers(HERE), "the test's own server is there"
    assert answers(THERE)
    for node, (pod, _) in probes.items():
        for address in (HERE, THERE):
            assert not connects(kind_cluster, node, address, PORT), (node, address)
            began = time.monotonic()
            assert kind_cluster.fetch(pod, address, PORT) == ""
            assert time.monotonic() - began < 10
    gateway = kind_cluster.ssh(next(iter(kind_cluster.nodes)), "ip", "-o", "route", "show", "default").stdout.split()[2]
    assert kind_cluster.ssh(next(iter(kind_cluster.nodes)), "ping", "-c1", "-W2", gateway).returncode == 0


def test_a_restarted_node_is_known_again(kind_cluster: Cluster) -> None:
    node = next(name for name in kind_cluster.nodes if name.endswith("-worker2"))
    kind_cluster.ssh(node, "touch", "/etc/stays", "/run/goes")
    began = kind_cluster.ssh(node, "systemctl", "show", "-p", "UserspaceTimestampMonotonic").stdout
    kind_cluster.restart(node)
    assert kind_cluster.ssh(node, "systemctl", "show", "-p", "UserspaceTimestampMonotonic").stdout != began
    assert kind_cluster.ssh(node, "test", "-e", "/etc/stays").returncode == 0
    assert kind_cluster.ssh(node, "test", "-e", "/run/goes", check=False).returncode == 1
    kind_cluster.ssh(node, "rm", "/etc/stays")
