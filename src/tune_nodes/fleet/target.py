"""One node of a run and what it is asked for; and the request document made of many (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SCHEMA = 1


@dataclass(frozen=True)
class Target:
    """A node with its wishes.

    Args:
        name: as the inventory calls it.
        address: where ssh goes (ansible_host), "" if only the name is known.
        layers: the profile's layers as they stand in a request.
        labels: for the profile's ``match``.
        groups: the inventory's groups, for the profile's ``match``.
        gateway: whether the default gateway must answer.
        peers: how many nodes outside the wave must be reachable.
        probes: checks beyond gateway and peers.
        expect: the plan's hash the node must still have; "" where any plan will do.
        tx: the transaction that is meant: of a rollback the one to undo.
        lease: how to see that its kubelet lives after the change (file, name, limit); None: not watched. It stays on
            this machine.
    """

    name: str
    address: str = ""
    layers: Sequence[Mapping[str, Any]] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    groups: Sequence[str] = ()
    gateway: bool = True
    peers: int = 2
    probes: Sequence[Mapping[str, Any]] = ()
    expect: str = ""
    tx: str = ""
    lease: Mapping[str, Any] | None = None


def node_fields(target: Target, peers: Sequence[str] = ()) -> dict[str, Any]:
    """Return the part of a request that is this node's own.

    Args:
        target: the node.
        peers: addresses of nodes outside the wave, best first.
    """
    wanted: list[dict[str, Any]] = [{"kind": "gateway"}] if target.gateway else []
    wanted += [{"kind": "peer", "target": address} for address in peers[: target.peers]]
    wanted += [dict(probe) for probe in target.probes]
    probes = [probe for index, probe in enumerate(wanted) if probe not in wanted[:index]]
    fields: dict[str, Any] = {"probes": probes, "groups": list(target.groups), "labels": dict(target.labels)}
    if target.expect:
        fields["expect"] = target.expect
    if target.tx:
        fields["tx"] = target.tx
    if target.lease is not None:
        fields["lease"] = dict(target.lease)
    return fields


def request(
    operation: str,
    run: str,
    targets: Sequence[Target],
    window: int,
    peers: Mapping[str, Sequence[str]] | None = None,
    check: bool = False,
    hold: bool = False,
) -> dict[str, Any]:
    """Return the request file's content.

    Layers that all nodes share stand once, under ``common``.

    Args:
        operation: plan, apply, rollback, status ...
        run: id of the run; on a node also the id of the transaction it makes.
        targets: the nodes.
        window: seconds a node waits for its confirmation.
        peers: per node, addresses of nodes outside the wave.
        check: of a rollback: plan only.
        hold: the first of two rounds.
    """
    nodes = {target.name: node_fields(target, (peers or {}).get(target.name, ())) for target in targets}
    common: dict[str, Any] = {"schema": SCHEMA, "run": run, "window": window, "persist": "confirm"}
    if check:
        common["check"] = True
    if hold:
        common["hold"] = True
    layers = [[dict(layer) for layer in target.layers] for target in targets]
    if layers and all(one == layers[0] for one in layers):
        common["layers"] = layers[0]
    else:
        for target, one in zip(targets, layers, strict=True):
            nodes[target.name]["layers"] = one
    return {"operation": operation, "common": common, "nodes": nodes}


def duplicates(identities: Mapping[str, tuple[str, str]]) -> dict[str, list[str]]:
    """Find machines that stand in the inventory under several names.

    Args:
        identities: name to (machine id, boot id); an empty one is not compared.

    Returns:
        Name to the other names of the same machine.
    """
    by_machine: dict[tuple[str, str], list[str]] = {}
    for name, identity in identities.items():
        if all(identity):
            by_machine.setdefault(identity, []).append(name)
    return {
        name: [other for other in names if other != name]
        for names in by_machine.values()
        if len(names) > 1
        for name in names
    }
