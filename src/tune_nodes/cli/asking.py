"""The one question before nodes are touched. It stands on stderr, and is never asked where nobody can answer."""

from __future__ import annotations

import sys

from tune_nodes.cli.output import Printer
from tune_nodes.errors import UsageError

#: Command: what only looks.
_LOOK = {"apply": "plan", "mtu": "mtu show"}


def must_be_answerable(yes: bool, command: str) -> None:
    """Refuse to go on where a question would come and nobody could answer it.

    Args:
        yes: ``--yes`` was given.
        command: the command, for the message.

    Raises:
        UsageError: neither a terminal nor ``--yes``.
    """
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            f"{command} needs a yes, and there is no terminal to ask on",
            "nothing was touched",
            f"add --yes (or TUNE_NODES_YES=1), or look first: tune-nodes {_LOOK.get(command.split()[0], 'show')}",
        )


def confirmed(printer: Printer, question: str, yes: bool) -> bool:
    """Ask; only a typed ``y`` or ``yes`` counts. End of input and Ctrl-C are a no."""
    if yes:
        return True
    sys.stdout.flush()
    printer.err.print(question + " [y/N] ", end="")
    try:
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        answer = ""
        printer.note("")
    return answer.strip().lower() in ("y", "yes")
