"""``python -m kindbed``: the clusters from the command line. ``make kind-up`` and ``make kind-down`` call it."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from kindbed.bed import Bed
from kindbed.cache import Cache
from kindbed.cluster import CNIS, Cluster, Spec
from kindbed.command import say
from kindbed.inventory import DEFAULT_NAME
from kindbed.lock import MODULES, lock
from kindbed.requirements import why_not
from tune_nodes.errors import TuneError

CANNOT = 77  # as scripts/test has it
INVENTORIES = Path(__file__).resolve().parents[3] / "inventories"


def arguments() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(prog="kindbed", description="kind clusters for tests, built without a registry")
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="make a cluster, or keep the one that is there")
    up.add_argument("--cni", choices=CNIS, default="flannel")
    up.add_argument("--workers", type=int, default=2)
    build = verbs.add_parser("build", help="build all that a cluster needs, and make none")
    build.add_argument("--cni", choices=CNIS, default="flannel")
    down = verbs.add_parser("down", help="remove a cluster")
    down.add_argument("--all", action="store_true", help="every cluster made here")
    refresh = verbs.add_parser("inventory", help="write the inventory anew, after a node was restarted")
    for verb in (up, down, refresh):
        verb.add_argument("--name", default=DEFAULT_NAME)
    verbs.add_parser("check", help="exit with 77 and say why where this machine cannot carry a cluster")
    verbs.add_parser("status", help="what is up, and what of it is not ready")
    locked = verbs.add_parser("lock", help="write go.mod and go.sum anew from versions.py")
    locked.add_argument("module", nargs="*", choices=[*MODULES, []], metavar="MODULE")
    return parser


def next_commands(cluster: Cluster) -> str:
    """Return what to type next."""
    where, node = cluster.inventory, next(iter(cluster.nodes))
    here = Path.cwd()
    shown = where.relative_to(here) if where.is_relative_to(here) else where
    name = "" if cluster.name == DEFAULT_NAME else f" NAME={cluster.name}"
    return "\n".join(
        (
            f"{cluster.kubectl_program} --kubeconfig {shown}/kubeconfig get nodes -o wide",
            f"ansible -i {shown}/hosts.yml kind -m ping",
            f"tune-nodes plan --inventory {shown}/hosts.yml",
            f"ssh -i {shown}/.ssh/id_ed25519 -o UserKnownHostsFile={shown}/.ssh/known_hosts root@{cluster.nodes[node]}",
            f"make kind-down{name}",
        )
    )


def act(chosen: argparse.Namespace, bed: Bed) -> int:
    """Carry out one verb; the exit code."""
    if chosen.verb == "up":
        cluster = bed.up(Spec(chosen.name, chosen.cni, chosen.workers))
        say(f"{chosen.name} is ready. Next:")
        print(next_commands(cluster))
    elif chosen.verb == "build":
        bed.build(cni=chosen.cni)
    elif chosen.verb == "down":
        if chosen.all:
            bed.down_all()
        else:
            bed.down(chosen.name)
    elif chosen.verb == "inventory":
        print(bed.existing(chosen.name).inventory)
    elif chosen.verb == "status":
        print("\n".join(bed.status()))
    elif chosen.verb == "check":
        if reason := why_not():
            say(f"no cluster can be made here: {reason}")
            return CANNOT
    else:
        lock(chosen.module)
    return 0


def interrupted(number: int, frame: object) -> None:
    """Let a SIGTERM end what runs, as Ctrl-C does."""
    raise KeyboardInterrupt


def main(argv: list[str] | None = None) -> int:
    """Run; the exit code."""
    signal.signal(signal.SIGTERM, interrupted)
    try:
        return act(arguments().parse_args(argv), Bed(Cache(), INVENTORIES))
    except KeyboardInterrupt:
        say("interrupted; what is half made is made anew, or removed, the next time")
        return 130
    except TuneError as error:
        say(f"error: {error.what}")
        for label, text in (("why", error.why), ("next", error.next)):
            if text:
                print(f"  {label}: {text}", file=sys.stderr)
        return int(error.exit)


if __name__ == "__main__":
    sys.exit(main())
