"""``tune-nodes probe``."""

from __future__ import annotations

from typing import Annotated

import typer

from tune_nodes.cli.options import Output, Reach
from tune_nodes.cli.pathview import show_probe
from tune_nodes.cli.session import Session, close, new_record, settings_of, window_of
from tune_nodes.fleet.clusterside import NoCluster
from tune_nodes.fleet.verdict import exit_code
from tune_nodes.probing.look import Probing, Wanted
from tune_nodes.runs.models import RunRecord


def probe(
    reach: Reach,
    out: Output,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            min=100,
            max=65535,
            help="Bytes of the packets, IP header included.",
            show_default="what each sender uses on each path",
        ),
    ] = None,
    pods: Annotated[
        bool, typer.Option("--pods/--no-pods", help="Measure paths from a pod of each node to a pod of others too.")
    ] = True,
    peers: Annotated[
        int | None,
        typer.Option(
            "--peers",
            min=0,
            max=100,
            help="Measure a ring of the nodes, and from each node to this many others.",
            show_default="every pair up to 16 nodes, then 3",
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Measure every pair, however many nodes there are.")] = False,
) -> int:
    """Measure what the paths between nodes, and between their pods, carry: finds hops that eat large packets.

    Packets of the size that is sent, and of one byte more, that may not be cut up; IPv4 and IPv6; each direction by
    itself. Nothing is changed. Ends with 1 where packets of the size that is sent do not arrive.
    """
    session = Session.open(out, reach)
    settings = settings_of(session.config, window_of(session.config))
    inventory, options = session.inventory()
    asked = {"size": size, "pods": pods, "peers": peers, "full": full}
    record = new_record("probe", inventory, "", asked)
    addresses = {node.name: node.address for node in inventory.nodes.values()}
    with session.run(record, options, settings, NoCluster()) as fleet:
        probing = Probing(fleet, addresses)
        probing.run(Wanted(size, pods, peers, full))
        code = exit_code(record)
        close(fleet.handle, int(code))
    if session.printer.human:
        show_probe(session.printer, record, probing)
    else:
        session.printer.document(document(record, probing))
    return int(code)


def document(record: RunRecord, probing: Probing) -> dict[str, object]:
    """Return the result as a document (pure)."""
    return {
        "schema": 1,
        "run": record.id,
        "paths": [path.model_dump(mode="json", by_alias=True) for path in record.paths],
        "faults": [fault.model_dump(mode="json", by_alias=True) for fault in record.path_faults],
        "nodes": {
            name: {"outcome": str(node.outcome), "error": node.error.model_dump() if node.error else None}
            for name, node in record.nodes.items()
        },
        "pairs": probing.choice.words,
        "sent": {"packets": probing.cost.packets, "bytes": probing.cost.bytes},
    }
