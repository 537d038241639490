"""``tune-nodes lab``: nodes on this machine to try everything on."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from tune_nodes.errors import Exit, TuneError, UsageError
from tune_nodes.lab import FAULTS, Lab, NodeStatus


class Output(StrEnum):
    """Forms of ``lab status``."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


def _examples(*lines: str) -> str:
    """Return the end of a help page: the blank lines and marks keep Typer from joining the lines."""
    return "Examples:\n\n" + "\n\n".join(f"$ {line}" for line in lines)


def _fault_list() -> str:
    return "\n\n".join(f"- {name}: {fault.summary}" for name, fault in FAULTS.items())


app = typer.Typer(
    no_args_is_help=True,
    help="Nodes on this machine (network namespaces with their own sshd, /etc, /var, /run): make, break, heal them.",
    epilog=_examples("sudo tune-nodes lab up --nodes 3 --queues 4", "sudo tune-nodes lab break lab-2 no-ssh"),
)

Name = Annotated[
    str, typer.Option("--name", envvar="TUNE_NODES_LAB_NAME", help="Which lab; several can be up side by side.")
]
Node = Annotated[str, typer.Argument(metavar="NODE", help="Name of a node of this lab, lab-1 say.")]


def _say(message: str) -> None:
    Console(stderr=True, highlight=False).print(message, markup=False)


@app.command(
    epilog=_examples(
        "sudo tune-nodes lab up", "sudo tune-nodes lab up --name big --nodes 60 --inventory-dir inventories/big"
    )
)
def up(
    nodes: Annotated[int, typer.Option("--nodes", "-n", min=1, help="How many nodes.")] = 3,
    queues: Annotated[
        int, typer.Option("--queues", "-q", min=1, help="Queues of each node's eth0; one is in use.")
    ] = 4,
    name: Name = "lab",
    inventory_dir: Annotated[
        Path | None, typer.Option("--inventory-dir", help="Where to write the inventory.  [default: inventories/NAME]")
    ] = None,
) -> None:
    """Bring a lab up; one that is up already is only repaired.

    Needs root. The last of several nodes is reached as an ordinary user with a sudo password. Nothing of this machine
    is changed, and no packet of a node leaves it.
    """
    started, target = time.monotonic(), inventory_dir or Path("inventories", name)
    lab = Lab(name)
    lab.up(nodes, queues, inventory_dir=target, progress=_say)
    _say(f"{nodes} nodes answer after {time.monotonic() - started:.1f} s")
    typer.echo(target)


@app.command(epilog=_examples("sudo tune-nodes lab down", "sudo tune-nodes lab down --name big"))
def down(name: Name = "lab") -> None:
    """Remove a lab: its processes, namespaces, files and inventory, and nothing else."""
    removed = Lab(name).down()
    _say(f"lab {name!r} is gone" if removed else f"there is no lab {name!r}: nothing to do")


@app.command(epilog=_examples("sudo tune-nodes lab status", "sudo tune-nodes lab status -o json"))
def status(
    name: Name = "lab",
    output: Annotated[Output, typer.Option("--output", "-o", help="Form of the answer.")] = Output.TABLE,
) -> None:
    """Log in to each node over ssh and say how it is. Ends with 4 if one does not answer."""
    lab = Lab(name)
    found = lab.status()
    if output in (Output.JSON, Output.YAML):
        document = {"schema": 1, "name": name, "up": lab.exists, "nodes": [node.model_dump() for node in found]}
        typer.echo(_dump(document, output), nl=False)
    elif found:
        Console(highlight=False).print(status_table(found, wide=output is Output.WIDE))
    else:
        _say(f"there is no lab {name!r}: sudo tune-nodes lab up --name {name}")
    if not all(node.ssh for node in found):
        raise typer.Exit(Exit.UNREACHABLE)


def status_table(nodes: list[NodeStatus], *, wide: bool) -> Table:
    """Return the table of ``lab status``; ``wide`` adds the user and why a node does not answer."""
    table = Table(box=None, pad_edge=False)
    columns = ["NODE", "ADDRESS", "SSH", "SSHD PID", "FAULTS", *(["USER", "DETAIL"] if wide else [])]
    for column in columns:
        table.add_column(column, overflow="fold")
    for node in nodes:
        ssh = "[green]ok[/green]" if node.ssh else "[red]no answer[/red]" if node.up else "[red]down[/red]"
        pid, faults = str(node.sshd_pid or "-"), ", ".join(node.faults) or "-"
        more = [node.user, node.detail.replace("[", r"\[") or "-"] if wide else []
        table.add_row(node.node, node.address, ssh, pid, faults, *more)
    return table


def _dump(document: dict[str, Any], output: Output) -> str:
    if output is Output.YAML:
        return yaml.safe_dump(document, sort_keys=False)
    return json.dumps(document, indent=2) + "\n"


@app.command(
    "break",
    help="Inject a fault into a node:\n\n" + _fault_list(),
    epilog=_examples("sudo tune-nodes lab break lab-2 no-ssh", "sudo tune-nodes lab break lab-2 --heal"),
)
def break_(
    node: Node,
    fault: Annotated[str | None, typer.Argument(metavar="[FAULT]", help="Which fault, from the list above.")] = None,
    name: Name = "lab",
    heal_it: Annotated[bool, typer.Option("--heal", help="Take the fault back (all of them without FAULT).")] = False,
    when: Annotated[
        str | None,
        typer.Option(
            "--when", metavar="GLOB", help="Wait until a file of this pattern exists on the node, then break it."
        ),
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait with --when.")] = 300,
) -> None:
    """Inject a fault into a node."""
    if heal_it:
        heal(node, fault, name)
        return
    if fault is None:
        raise UsageError("which fault?", f"there are: {', '.join(FAULTS)}", f"tune-nodes lab break {node} no-ssh")
    lab = Lab(name)
    lab.check_fault(node, fault)
    if when is not None:
        _wait_for(lab.node(node).root, when, timeout)
    lab.break_(node, fault)
    _say(f"{node}: {FAULTS[fault].summary}")


def _wait_for(root: Path, pattern: str, timeout: float) -> None:
    relative = pattern.lstrip("/")
    if not relative:
        raise UsageError(f"{pattern!r} is not the pattern of a file", "", "--when '/var/lib/tune-nodes/*'")
    deadline = time.monotonic() + timeout
    while not any(root.glob(relative)):
        if time.monotonic() > deadline:
            raise TuneError(f"no file {pattern} came within {timeout:g} s", "", "the node is as it was")
        time.sleep(0.01)


@app.command(epilog=_examples("sudo tune-nodes lab heal lab-2", "sudo tune-nodes lab heal lab-2 no-ssh"))
def heal(
    node: Node,
    fault: Annotated[str | None, typer.Argument(metavar="[FAULT]", help="Which fault; all without it.")] = None,
    name: Name = "lab",
) -> None:
    """Take faults of a node back."""
    healed = Lab(name).heal(node, fault)
    _say(f"{node}: healed {', '.join(healed)}" if healed else f"{node}: nothing to heal")
