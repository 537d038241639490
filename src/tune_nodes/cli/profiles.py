"""``tune-nodes profiles``: which there are, what one comes to, whether they are right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from ansible_collections.tune.nodes.plugins.module_utils.nic.model import ASPECTS, format_wish
from ansible_collections.tune.nodes.plugins.module_utils.sysctl.family import FAMILY as SYSCTL

from tune_nodes.cli import complete
from tune_nodes.cli.help import examples
from tune_nodes.cli.options import Format
from tune_nodes.cli.output import Printer
from tune_nodes.errors import Exit, UsageError
from tune_nodes.profiles.load import DEFAULT, Found, ResolvedProfile, available, find, resolve

SCHEMA = 1

app = typer.Typer(
    no_args_is_help=True,
    help="Profiles: named wishes for nodes, from ./profiles, the user's, /etc/tune-nodes/profiles, and those shipped.",
    epilog=examples("tune-nodes profiles list", "tune-nodes profiles show throughput-25g"),
)

Form = Annotated[Format, typer.Option("--output", "-o", help="How results are printed on stdout.")]
NoColor = Annotated[bool, typer.Option("--no-color", help="No colour.")]


def _problems(err: UsageError) -> list[dict[str, str]]:
    """Return an error's problems, one for those that have no list."""
    listed = err.data.get("problems")
    return list(listed) if listed else [{"where": "", "key": "", "message": str(err), "hint": ""}]


@app.command("list", epilog=examples("tune-nodes profiles list", "tune-nodes profiles list -o wide"))
def list_(output: Form = Format.TABLE, no_color: NoColor = False) -> None:
    """List the profiles that are found from here; of two with one name, the one that would be used."""
    printer = Printer(output, no_color)
    rows = [_listed(found) for found in available()]
    if not printer.human:
        printer.document({"schema": SCHEMA, "default": DEFAULT, "profiles": rows})
        return
    columns = ["NAME", "FROM", "DESCRIPTION"]
    more = ["EXTENDS", "WINDOW", "FILE"] if printer.wide else []
    printer.rows(
        columns + more,
        [
            [
                row["name"] + (" (default)" if row["name"] == DEFAULT else ""),
                row["from"],
                row["description"] if row["ok"] else f"broken: tune-nodes profiles validate {row['name']}",
                *([" ".join(row["extends"]) or "-", str(row["window"] or "-"), row["file"]] if printer.wide else []),
            ]
            for row in rows
        ],
    )


def _listed(found: Found) -> dict[str, Any]:
    row = {"name": found.name, "from": found.label, "file": str(found.path)}
    try:
        profile = resolve(str(found.path))
    except UsageError:
        return {**row, "ok": False, "description": "", "extends": [], "window": None}
    return {
        **row,
        "ok": True,
        "description": profile.description,
        "extends": profile.chain[:-1],
        "window": profile.window,
    }


@app.command(epilog=examples("tune-nodes profiles show", "tune-nodes profiles show large-cluster -o yaml"))
def show(
    profile: Annotated[
        str, typer.Argument(metavar="PROFILE", help="A name or a path.", autocompletion=complete.profiles)
    ] = DEFAULT,
    output: Form = Format.TABLE,
    no_color: NoColor = False,
) -> None:
    """Show what a profile comes to: every setting of it and of what it extends, in the order they count."""
    printer = Printer(output, no_color)
    found = resolve(profile)
    if not printer.human:
        printer.document(as_document(found))
        return
    printer.line(f"{found.name}: {found.description}" if found.description else found.name)
    printer.line(f"from {' -> '.join(found.chain)}; digest {found.digest}")
    probes = found.probes.requests([])
    named = [f"{probe['kind']} {probe.get('target', '')}".strip() for probe in probes]
    printer.line(f"probes: {', '.join(['ssh', *named, f'{found.probes.peers} peers'])}")
    if found.cluster:
        printer.line(f"cluster: {', '.join(f'{key} {str(value).lower()}' for key, value in found.cluster.items())}")
    if found.window:
        printer.line(f"window: {found.window} s")
    for layer in found.layers:
        printer.line()
        printer.line(f"{layer['profile']}{_condition(layer['match'])}")
        columns = ["SETTING", "WISH", "WHY", *(["SOURCE"] if printer.wide else [])]
        printer.rows(columns, [row if printer.wide else row[:3] for row in _rows(layer)])


def as_document(found: ResolvedProfile) -> dict[str, Any]:
    """Return a resolved profile as ``-o json`` prints it."""
    return {
        "schema": SCHEMA,
        "name": found.name,
        "description": found.description,
        "chain": found.chain,
        "files": found.files,
        "layers": found.layers,
        "probes": found.probes.model_dump(),
        "cluster": found.cluster,
        "window": found.window,
        "digest": found.digest,
    }


def _condition(match: dict[str, Any] | None) -> str:
    if not match:
        return ""
    parts = match.get("all_of") or [match]
    words = [f"{key} {_values(value)}" for part in parts for key, value in part.items()]
    return f", only where {' and '.join(words)}"


def _values(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={_values(v)}" for k, v in value.items())
    return " or ".join(map(str, value)) if isinstance(value, list) else str(value)


def _rows(layer: dict[str, Any]) -> list[list[str]]:
    rows: list[list[str]] = []
    for raw in layer["sysctl"]:
        if raw.get("drop"):
            rows.append([raw["key"], "left alone", "", ""])
            continue
        setting = SYSCTL.parse([raw])[0]
        wish = setting.requested + (" (taken from its owner)" if setting.take else "")
        rows.append([setting.key, wish, setting.reason, setting.source])
    for raw in layer["nic_queues"]:
        names = raw["interfaces"] if isinstance(raw["interfaces"], str) else " ".join(raw["interfaces"])
        for aspect in ASPECTS:
            if raw.get(aspect) is not None:
                wish = format_wish(raw[aspect])
                rows.append([f"{names}/{aspect}", wish, raw.get("reason", ""), raw.get("source", "")])
    for raw in layer.get("mtu", []):
        names = raw["interfaces"] if isinstance(raw["interfaces"], str) else " ".join(raw["interfaces"])
        for aspect, key in (("underlay", f"{names}/mtu"), ("pods", "pods/mtu")):
            if raw.get(aspect) is not None:
                rows.append([key, str(raw[aspect]), raw.get("reason", ""), raw.get("source", "")])
    return rows


@app.command(epilog=examples("tune-nodes profiles validate", "tune-nodes profiles validate latency -o json"))
def validate(
    profiles: Annotated[
        list[str] | None,
        typer.Argument(metavar="PROFILE", help="Names or paths; all without any.", autocompletion=complete.profiles),
    ] = None,
    output: Form = Format.TABLE,
    no_color: NoColor = False,
) -> None:
    """Check profiles without any node: fields, keys, types, bounds, what they extend. Ends with 5 if one is wrong."""
    printer = Printer(output, no_color)
    rows = [_checked(name) for name in profiles] if profiles else [_checked(str(f.path), f.name) for f in available()]
    if printer.human:
        _print_checked(printer, rows)
    else:
        printer.document({"schema": SCHEMA, "profiles": rows})
    if not all(row["ok"] for row in rows):
        raise typer.Exit(int(Exit.USAGE))


def _checked(reference: str, name: str = "") -> dict[str, Any]:
    row: dict[str, Any] = {"name": name or reference, "file": "", "ok": True, "problems": []}
    try:
        row["file"] = str(find(reference).path)
        resolve(reference)
    except UsageError as err:
        row.update(ok=False, problems=_problems(err))
    return row


def _print_checked(printer: Printer, rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        printer.line(f"{row['name']}: {'ok' if row['ok'] else 'wrong'}")
        for problem in row["problems"]:
            where = f"{problem['where']}: {problem['key']}: " if problem["where"] else ""
            hint = f" ({problem['hint']})" if problem["hint"] else ""
            printer.line(f"  {where}{problem['message']}{hint}")
