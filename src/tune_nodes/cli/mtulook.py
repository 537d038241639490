"""Asking nodes for their MTUs: a plan of the family mtu that nobody carries out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tune_nodes.cli.session import Session
from tune_nodes.cnimtu.model import NodeStack
from tune_nodes.cnimtu.service import sizes_of
from tune_nodes.cnimtu.stacks import stack_of
from tune_nodes.errors import Exit, UsageError
from tune_nodes.fleet.execute import PLANNED
from tune_nodes.fleet.runner import Call
from tune_nodes.fleet.target import Target, request
from tune_nodes.runs.models import NodeRecord, Outcome
from tune_nodes.runs.store import new_run_id

AUTO = "auto"
#: Seconds of silence after which the call is given up; reading a node takes less than one.
SILENCE = 120.0


@dataclass(frozen=True)
class Asked:
    """What the nodes said.

    Args:
        records: by inventory name.
        stacks: of those that could answer.
        sizes: uid to MTU of pods that keep an old one.
        addresses: inventory name to the address that ssh uses.
        sources: the inventory's, for a kubeconfig beside it.
        code: OK where every node answered.
    """

    records: Mapping[str, NodeRecord]
    stacks: tuple[NodeStack, ...]
    sizes: Mapping[str, int]
    addresses: Mapping[str, str]
    sources: tuple[str, ...]
    code: Exit


def ask_nodes(session: Session, pods: str) -> Asked:
    """Ask every node of the inventory. Nothing is changed, and no run is recorded.

    Args:
        session: the command's.
        pods: "auto", or bytes.

    Raises:
        UsageError: a size that is none; an inventory that cannot be used.
    """
    inventory, options = session.inventory()
    layers = [{"profile": "mtu", "match": None, "mtu": [{"interfaces": AUTO, "underlay": "keep", "pods": _wish(pods)}]}]
    targets = [
        Target(node.name, node.address, layers, node.labels, node.groups, gateway=False, peers=0)
        for node in inventory.nodes.values()
    ]
    document = request("plan", new_run_id(), targets, 120)
    session.progress.phase("mtu", len(targets))
    with session.stop, session.progress:
        call = Call(document, session.progress.node, lambda: session.stop.requested, SILENCE)
        records = session.runner(options).run(call).records
    fine = [record for record in records.values() if record.outcome in PLANNED]
    rows = [pod.model_dump() for record in fine for pod in record.stale_pods]
    return Asked(
        records,
        tuple(stack_of(record.name, [change.model_dump() for change in record.changes]) for record in fine),
        sizes_of(rows),
        {node.name: node.address for node in inventory.nodes.values()},
        tuple(inventory.sources),
        _code(records),
    )


def _wish(pods: str) -> str | int:
    if pods == AUTO:
        return AUTO
    if not (pods.isascii() and pods.isdecimal() and 576 <= int(pods) <= 65535):
        raise UsageError(
            f"--pods {pods[:40]!r} is not understood", "it is auto, or a number of bytes from 576 to 65535"
        )
    return int(pods)


def _code(records: Mapping[str, NodeRecord]) -> Exit:
    outcomes = {record.outcome for record in records.values()}
    if outcomes <= PLANNED:
        return Exit.OK
    return Exit.UNREACHABLE if outcomes <= {*PLANNED, Outcome.UNREACHABLE} else Exit.FAILED
