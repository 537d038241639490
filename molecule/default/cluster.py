"""The nodes of a Molecule run, from the test bed under tests/kind: ``cluster.py up|use|down NAME``.

``up`` makes the cluster, ``use`` takes one that is up; both print it as an inventory (JSON) in which each node has a
variable ``kubectl``, the command line that speaks to its cluster from the controller.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from kindbed.bed import Bed
from kindbed.cache import Cache
from kindbed.cluster import Cluster, Spec

from tune_nodes.errors import TuneError

INVENTORIES = Path(__file__).resolve().parents[2] / "inventories"


def nodes_of(cluster: Cluster) -> dict[str, Any]:
    """Return the cluster as an inventory."""
    found: dict[str, Any] = yaml.safe_load(cluster.hosts.read_text())
    kubectl = [str(cluster.kubectl_program), f"--kubeconfig={cluster.kubeconfig}", "--request-timeout=20s"]
    for group in found.values():
        group["vars"]["kubectl"] = kubectl
    return found


def main(verb: str, name: str) -> None:
    """Carry out one verb."""
    bed = Bed(Cache(), INVENTORIES)
    if verb == "down":
        bed.down(name)
    else:
        cluster = bed.up(Spec(name)) if verb == "up" else bed.existing(name)
        json.dump(nodes_of(cluster), sys.stdout)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except TuneError as error:
        sys.exit("\n".join(text for text in (error.what, error.why, error.next) if text))
