"""The request document, exactly; and one machine under two names."""

from __future__ import annotations

from tune_nodes.fleet.target import Target, duplicates, request

LAYER = {"profile": "p", "match": None, "sysctl": [{"key": "net.core.somaxconn", "value": 4096}], "nic_queues": []}


def test_shared_layers_stand_once() -> None:
    targets = [
        Target(
            "n1",
            "10.0.0.1",
            [LAYER],
            {"a": "b"},
            ("workers",),
            probes=[{"kind": "dns", "target": "x"}],
            expect="sha256:1",
        ),
        Target("n2", "10.0.0.2", [LAYER], gateway=False, peers=1, tx="r0"),
    ]
    document = request("apply", "r1", targets, 120, {"n1": ["10.0.0.9"], "n2": ["10.0.0.8", "10.0.0.7"]})
    assert document == {
        "operation": "apply",
        "common": {"schema": 1, "run": "r1", "window": 120, "persist": "confirm", "layers": [LAYER]},
        "nodes": {
            "n1": {
                "probes": [
                    {"kind": "gateway"},
                    {"kind": "peer", "target": "10.0.0.9"},
                    {"kind": "dns", "target": "x"},
                ],
                "groups": ["workers"],
                "labels": {"a": "b"},
                "expect": "sha256:1",
            },
            "n2": {"probes": [{"kind": "peer", "target": "10.0.0.8"}], "groups": [], "labels": {}, "tx": "r0"},
        },
    }


def test_layers_that_differ_stand_with_their_node() -> None:
    document = request("plan", "r1", [Target("n1", layers=[LAYER]), Target("n2")], 60, check=True)
    assert "layers" not in document["common"]
    assert document["common"]["check"] is True
    assert document["nodes"]["n1"]["layers"] == [LAYER]
    assert document["nodes"]["n2"]["layers"] == []


def test_a_probe_is_not_sent_twice() -> None:
    target = Target("n1", probes=[{"kind": "gateway"}, {"kind": "peer", "target": "10.0.0.9"}])
    document = request("plan", "r1", [target], 60, {"n1": ["10.0.0.9"]})
    assert document["nodes"]["n1"]["probes"] == [{"kind": "gateway"}, {"kind": "peer", "target": "10.0.0.9"}]


def test_the_wait_for_a_lease_is_its_nodes_own() -> None:
    lease = {"file": "/f", "name": "n1.example", "limit": 15}
    document = request("apply", "r1", [Target("n1", lease=lease), Target("n2")], 60)
    assert document["nodes"]["n1"]["lease"] == lease
    assert "lease" not in document["nodes"]["n2"]


def test_one_machine_under_two_names() -> None:
    same = ("m1", "b1")
    assert duplicates({"a": same, "b": same, "c": ("m1", "b2"), "d": ("", "b1"), "e": ("", "b1")}) == {
        "a": ["b"],
        "b": ["a"],
    }
