"""The proposal of first policies: valid documents, only what was seen, and nothing said that was not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import yaml
from policy_world import world

from tune_nodes.policy.judging.verdict import judge
from tune_nodes.policy.model import Pod, policy_of
from tune_nodes.policy.opening.baseline import propose

SERVICE: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}], "type": "ClusterIP"},
}
DNS = Pod("kube-system", "dns", "u9", "w1", ("10.0.1.9",), {"k8s-app": "kube-dns"}, phase="Running")


def proposed(*services: dict[str, Any]) -> dict[str, str]:
    found = world("cilium")
    return propose("shop", services, replace(found, pods=(*found.pods, DNS)))


def test_a_service_is_reached_and_all_else_is_cut() -> None:
    found = world("cilium")
    found = replace(found, pods=(*found.pods, DNS))
    kind = next(one for one in found.kinds if one.kind == "NetworkPolicy" and one.engine == "kubernetes")
    files = propose("shop", [SERVICE], found)
    documents = [one for name, text in files.items() if name.endswith(".yaml") for one in yaml.safe_load_all(text)]
    policies = [policy for one in documents if (policy := policy_of(kind, one))]
    after = found.plus(policies)
    pods = {pod.name: pod for pod in after.pods}
    allowed = {
        (source, target, port): judge(after, pods[source], pods[target], port, protocol).allowed
        for source, target, port, protocol in (
            ("client", "web", 8080, "TCP"),
            ("client", "web", 9090, "TCP"),
            ("batch", "web", 8080, "TCP"),
            ("web", "client", 8080, "TCP"),
            ("web", "dns", 53, "UDP"),
            ("web", "batch", 80, "TCP"),
        )
    }
    assert allowed == {
        ("client", "web", 8080): True,
        ("client", "web", 9090): False,
        ("batch", "web", 8080): False,
        ("web", "client", 8080): False,
        ("web", "dns", 53): True,
        ("web", "batch", 80): False,
    }


def test_a_service_that_is_reached_from_outside_is_open_to_all() -> None:
    files = proposed({**SERVICE, "spec": {**SERVICE["spec"], "type": "LoadBalancer"}})
    first = next(yaml.safe_load_all(files["20-allow-web.yaml"]))
    assert first["spec"]["ingress"] == [{"ports": [{"protocol": "TCP", "port": "http"}]}]


def test_it_says_what_was_not_observed_and_who_is_behind_no_service() -> None:
    files = proposed(SERVICE)
    assert list(files) == ["10-allow-dns.yaml", "20-allow-web.yaml", "90-default-deny.yaml", "README.md"]
    assert "No traffic was observed" in files["README.md"]
    assert "Pods behind no service: client." in files["README.md"]
    assert "Who uses it was not observed" in files["20-allow-web.yaml"]


def test_services_without_pods_or_selector_are_left_out() -> None:
    bare = {"metadata": {"name": "outside"}, "spec": {"type": "ExternalName", "ports": [{"port": 80}]}}
    other = {"metadata": {"name": "gone"}, "spec": {"selector": {"app": "gone"}, "ports": [{"port": 80}]}}
    junk: dict[str, Any] = {"metadata": {"name": "junk"}, "spec": {"selector": {"app": "web"}, "ports": [None, {}, 5]}}
    assert list(proposed(bare, other, junk)) == ["10-allow-dns.yaml", "90-default-deny.yaml", "README.md"]
