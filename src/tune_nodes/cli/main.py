"""The entry point: one place where errors become words and an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

import typer

from tune_nodes import collection
from tune_nodes.errors import Exit, TuneError

#: Options of the program itself; any other option first on the line means ``apply``.
_GLOBAL = ("--help", "-h", "--version", "--install-completion", "--show-completion")


def with_verb(argv: Sequence[str]) -> list[str]:
    """Return the command line with ``apply`` put first where a line starts with one of its options (pure)."""
    line = list(argv)
    if line and line[0].startswith("-") and line[0].split("=", 1)[0] not in _GLOBAL:
        return ["apply", *line]
    return line


def _verbosity(argv: Sequence[str]) -> int:
    count = 0
    for arg in argv:
        if arg == "--verbose":
            count += 1
        elif arg.startswith("-v") and set(arg[1:]) == {"v"}:
            count += len(arg) - 1
    return count


def _help(argv: Sequence[str]) -> str:
    """Return the command that shows the help page of what was typed."""
    verb = next((arg for arg in with_verb(argv) if not arg.startswith("-")), "")
    return f"tune-nodes {verb + ' ' if verb.isidentifier() else ''}--help"


def _report(problem: TuneError, argv: Sequence[str]) -> int:
    from tune_nodes.cli.output import error_lines

    if problem.exit is Exit.USAGE and not problem.next:
        problem.next = _help(argv)
    for line in error_lines(problem):
        print(line, file=sys.stderr)
    return int(problem.exit)


def run(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code; errors are printed as what, why and next."""
    try:
        collection.activate()  # before anything that imports node code
        from tune_nodes.cli import passthrough
        from tune_nodes.cli.app import app

        mine, rest = passthrough.split(argv)
        passthrough.put(rest)
        return int(app(with_verb(mine), prog_name="tune-nodes", standalone_mode=False) or 0)
    except TuneError as problem:
        if _verbosity(argv) >= 3:
            raise
        return _report(problem, argv)
    except typer.TyperException as problem:
        return _usage(problem, argv)
    except (typer.Abort, KeyboardInterrupt):
        print("stopped; nothing was touched", file=sys.stderr)
        return int(Exit.INTERRUPTED)


def _usage(problem: typer.TyperException, argv: Sequence[str]) -> int:
    """Print a mistake on the command line; always 5: Click's own 2 would read as "changes pending"."""
    print(f"error: {problem.format_message()}", file=sys.stderr)
    print(f" next: {_help(argv)}", file=sys.stderr)
    return int(Exit.USAGE)


def main() -> None:
    """Run the command line of this process and exit."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a name must not break the output on an ASCII terminal
    try:
        code = run(sys.argv[1:])
    except TuneError as problem:
        traceback.print_exc()
        code = _report(problem, sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        from tune_nodes.cli.output import silence

        silence()
    sys.exit(code)


if __name__ == "__main__":
    main()
