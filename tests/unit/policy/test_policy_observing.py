"""What is proposed from connections that were seen: it lets through what was seen, and says what it does not show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given
from policy_world import AGENT, BATCH, CLIENT, JSON, WEB, world

from tune_nodes.policy.judging.verdict import judge
from tune_nodes.policy.model import Cidr, Pod, Snapshot, policy_of
from tune_nodes.policy.observing import flows, proposal
from tune_nodes.policy.observing.flows import Observed, Row, Talk
from tune_nodes.policy.opening.baseline import propose

DNS = Pod("kube-system", "dns", "u9", "w1", ("10.0.1.9",), {"k8s-app": "kube-dns"}, phase="Running")
BARE = Pod("shop", "bare", "u8", "w1", ("10.0.1.8",), {"pod-template-hash": "1"}, phase="Running")
SERVICE: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"selector": {"app": "web"}, "clusterIPs": ["10.96.7.7"], "ports": [{"port": 80, "targetPort": "http"}]},
}


def cluster() -> Snapshot:
    found = world("cilium")
    return replace(found, pods=(*found.pods, DNS, BARE))


def row(source: str, target: str, port: int, protocol: str = "TCP") -> Row:
    return Row(source, target, port, protocol, "conntrack")


ROWS = [
    row("10.0.2.1", "10.96.7.7", 80),  # the client calls the service: its socket shows no more
    row("10.0.2.1", "10.0.1.1", 8080),  # and the server's shows who called
    row("10.0.2.2", "10.0.1.1", 9090),  # a pod of another namespace
    row("10.0.1.1", "198.51.100.7", 443),  # out of the cluster
    row("10.0.1.1", "10.0.1.9", 53, "UDP"),  # DNS
    row("192.168.0.2", "10.0.1.1", 8080),  # a node
    row("10.0.1.8", "10.0.1.1", 8080),  # a pod whose labels do not last
]


def observed() -> Observed:
    talks = flows.talks(ROWS, cluster(), [SERVICE])
    return Observed(
        talks, ("n1", "n2"), 30, "2026-11-24T19:00:00+00:00", 2, ("n2",), ("the node n3 was not watched: x",)
    )


def test_a_services_address_stands_for_the_pods_behind_it() -> None:
    assert flows.talks(ROWS[:2], cluster(), [SERVICE]) == (Talk(CLIENT, WEB, 8080, "TCP"),)
    assert flows.talks(ROWS[3:4], cluster(), []) == (Talk(WEB, Cidr("198.51.100.7"), 443, "TCP"),)


def test_what_was_seen_is_let_through_and_all_else_is_cut() -> None:
    found = cluster()
    kind = next(one for one in found.kinds if one.kind == "NetworkPolicy" and one.engine == "kubernetes")
    files = propose("shop", [], found, observed())
    assert list(files) == [
        "10-allow-dns.yaml",
        "30-observed-to-web.yaml",
        "40-observed-from-client.yaml",
        "40-observed-from-web.yaml",
        "90-default-deny.yaml",
        "README.md",
    ]
    documents = [one for name, text in files.items() if name.endswith(".yaml") for one in yaml.safe_load_all(text)]
    after = found.plus([policy for one in documents if (policy := policy_of(kind, one))])
    asked = [
        (CLIENT, WEB, 8080, True),
        (CLIENT, WEB, 9090, False),
        (BATCH, WEB, 9090, True),
        (BATCH, WEB, 8080, False),
        (WEB, Cidr("198.51.100.7"), 443, True),
        (WEB, Cidr("198.51.100.8"), 443, False),
        (WEB, CLIENT, 8080, False),
    ]
    for source, target, port, allowed in asked:
        assert judge(after, source, target, port, "TCP").allowed is allowed, (source, target, port)


def test_it_says_where_it_comes_from_for_how_long_and_what_is_in_no_file() -> None:
    text = propose("shop", [], cluster(), observed())["README.md"]
    where = "the kernel's conntrack on n1 and the TCP sockets of 2 of its pods (n2 shows no conntrack)"
    assert f"from {where}, watched for 30 s from 2026-11-24T19:00:00+00:00 on" in text
    assert "- the node n3 was not watched: x" in text
    assert "- 192.168.0.2 -> shop/web 8080/TCP: a node" in text
    assert "- shop/bare -> shop/web 8080/TCP: no label that lasts, or a node" in text
    assert "- shop/bare -> shop/web 8080/TCP: shop/bare has no label that lasts" in text
    assert "No traffic was observed" not in text


def test_pods_of_a_kind_share_a_file_and_kinds_do_not() -> None:
    one = replace(WEB, name="a", ips=("10.0.1.2",), labels={"app": "web", "pod-template-hash": "1"})
    two = replace(WEB, name="b", ips=("10.0.1.3",), labels={"app": "web", "pod-template-hash": "2"})
    other = replace(WEB, name="c", ips=("10.0.1.4",), labels={"app": "web", "tier": "Back End"})
    talks = tuple(Talk(BATCH, pod, 80, "TCP") for pod in (one, two, other))
    made = proposal.proposed("shop", Observed(talks), world("cilium"))
    assert [file for file, *_ in made] == ["30-observed-to-web.yaml", "30-observed-to-web-2.yaml"]
    assert made[0][2]["ingress"] == [
        {
            "from": [
                {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "jobs"}},
                    "podSelector": {"matchLabels": {"app": "client"}},
                }
            ],
            "ports": [{"protocol": "TCP", "port": 80}],
        }
    ]


@pytest.mark.parametrize(
    "raw",
    [
        ["127.0.0.1", "10.0.0.1", 80, "TCP", "socket"],
        ["10.0.0.1", "not an address", 80, "TCP", "socket"],
        ["10.0.0.1", "10.0.0.2", 0, "TCP", "socket"],
        ["10.0.0.1", "10.0.0.2", True, "TCP", "socket"],
        ["10.0.0.1", "10.0.0.2", 80, "ICMP", "socket"],
        ["10.0.0.1", "10.0.0.2", 80, "TCP", "rumour"],
        ["10.0.0.1", "10.0.0.2", 80],
        None,
    ],
)
def test_rows_that_are_none_are_passed_over(raw: Any) -> None:
    good = ["10.0.0.1", "10.0.0.2", 80, "TCP", "socket"]
    assert list(flows.rows_of([raw, good])) == [Row("10.0.0.1", "10.0.0.2", 80, "TCP", "socket")]


@given(JSON)
def test_any_answer_of_a_node_is_read(raw: Any) -> None:
    assert list(flows.rows_of(raw)) == []
    assert flows.talks([row("10.0.2.1", "10.0.1.1", 1)], cluster(), [raw] if isinstance(raw, dict) else [])


def test_a_pod_of_a_nodes_network_is_a_node() -> None:
    (talk,) = flows.talks([row("192.168.0.1", "10.0.1.1", 80)], cluster(), [])
    assert talk.source == Cidr(AGENT.ips[0])
