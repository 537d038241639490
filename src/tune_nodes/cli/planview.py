"""A plan as a person reads it: nodes with the same plan together, only what matters, the rest counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.padding import Padding
from rich.text import Text

from tune_nodes.cli.output import Printer, look
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.runs.models import ChangeRecord, ClusterRecord, NodeRecord, Outcome, RunRecord

_STYLES = {
    "pending": "yellow",
    "changed": "green",
    "failed": "red",
    "reverted": "red",
    "foreign": "cyan",
    "owned": "cyan",
    "unsupported": "cyan",
    "ok": "green",
}
#: Statuses of a line of its own; the others are gathered below the table.
_SHOWN = ("pending", "changed", "failed", "reverted", "foreign")
#: Our own files follow from the settings; a person reads of them in one line.
_FILES = "files"
_KEPT = {
    "pending": "to be kept over a reboot in",
    "changed": "kept over a reboot in",
    "failed": "not kept",
    "reverted": "not kept",
}


@dataclass(frozen=True)
class Group:
    """Nodes whose plans are the same in every word."""

    nodes: list[NodeRecord]

    @property
    def changes(self) -> list[ChangeRecord]:
        """The plan they share."""
        return self.nodes[0].changes


def groups(records: Iterable[NodeRecord]) -> list[Group]:
    """Gather nodes that share a plan; the largest group first (pure)."""
    found: dict[tuple[object, ...], list[NodeRecord]] = {}
    for record in records:
        key = tuple(
            (c.family, c.key, *((c.before, c.want) if c.family != _FILES else ()), c.status, c.owner, c.note)
            for c in record.changes
        )
        found.setdefault((record.outcome, key), []).append(record)
    return sorted((Group(nodes) for nodes in found.values()), key=lambda g: (-len(g.nodes), g.nodes[0].name))


def names(nodes: Sequence[NodeRecord], most: int = 6) -> str:
    """Return nodes by name, shortened: ``n1, n2 and 10 more``."""
    shown = ", ".join(node.name for node in nodes[:most])
    return f"{shown} and {len(nodes) - most} more" if len(nodes) > most else shown


def _gathered(changes: Iterable[ChangeRecord], status: str) -> dict[str, list[str]]:
    """Return note (or owner) to the keys it explains."""
    found: dict[str, list[str]] = {}
    for change in changes:
        if change.status == status:
            why = change.note or (f"kept by {change.owner}" if change.owner else "no reason given")
            found.setdefault(why, []).append(change.key)
    return found


def counted(changes: Sequence[ChangeRecord]) -> str:
    """Return the number of changes in words; our own files count only where nothing else changes."""
    found = sum(c.family != _FILES for c in changes)
    if changes and not found:
        return "only what is kept over a reboot"
    return f"{found} change{'s' if found != 1 else ''}"


def headline(group: Group) -> str:
    """Return a group's first line."""
    count, outcome = len(group.nodes), group.nodes[0].outcome
    said = counted(group.nodes[0].pending) if outcome is Outcome.PENDING else "nothing to change"
    if outcome not in (Outcome.PENDING, Outcome.OK):
        said = str(outcome)
    share = "" if count == 1 else " each" if outcome is Outcome.PENDING else ""
    prefix = f"{count} nodes share this plan" if count > 1 else "1 node"
    return f"{prefix}: {said}{share} ({names(group.nodes)})"


def _value(value: str | None, wide: bool) -> str:
    if value is None:
        return "absent"
    return value if wide else one_line(value, 40)


#: Settings named of those left alone for one reason.
_FEW = 2


def show_changes(printer: Printer, changes: Sequence[ChangeRecord], everything: bool = False) -> None:
    """Print the changes that matter as a table, and the owned and unsupported ones gathered by reason."""
    shown = [c for c in changes if (everything or c.status in _SHOWN) and (printer.wide or c.family != _FILES)]
    rows = []
    for change in shown:
        status = Text(change.status, style=_STYLES.get(change.status, ""))
        row = [
            Text(change.key),
            Text(_value(change.before, printer.wide)),
            Text(_value(change.want, printer.wide)),
            status,
        ]
        if printer.wide:
            row += [Text(change.reason), Text(change.source)]
        if change.disruptive:
            row[0].append(" (may interrupt the link)", style="yellow")
        rows.append(row)
    if rows:
        columns = ["SETTING", "NOW", "WANTED", "STATUS", *(["WHY", "SOURCE"] if printer.wide else [])]
        printer.rows(columns, rows)
    if not printer.wide:
        _show_kept(printer, [c for c in changes if c.family == _FILES])
    for kind, words in (("owned", "left to its owner"), ("unsupported", "not possible here")):
        for why, keys in _gathered(changes, kind).items():
            said = f"{words}: {_some(keys, printer.wide)} ({one_line(why, 200)})"
            printer.out.print(Padding(Text(said, style="cyan"), (0, 0, 0, 2)))


def _some(keys: Sequence[str], wide: bool) -> str:
    """Return the keys, only the first of many unless ``wide``: a kernel without them all is no news on every node."""
    if wide or len(keys) <= _FEW + 1:
        return one_line(", ".join(keys), 300)
    return f"{one_line(', '.join(keys[:_FEW]), 200)} and {len(keys) - _FEW} more, see -o wide"


def _show_kept(printer: Printer, files: Sequence[ChangeRecord]) -> None:
    for status, words in _KEPT.items():
        paths = [c.key for c in files if c.status == status]
        if paths:
            text = Text(f"{words}: {one_line(', '.join(paths), 300)}", style=_STYLES[status])
            printer.out.print(Padding(text, (0, 0, 0, 2)))


def show_problems(printer: Printer, records: Iterable[NodeRecord]) -> None:
    """Print nodes that could not be planned or changed, those with the same story together: what, why, next."""
    stories: dict[tuple[str, ...], list[NodeRecord]] = {}
    for record in records:
        error = record.error
        words = (error.what, error.why, error.next) if error is not None else ("", "", "")
        stories.setdefault((record.outcome, *words, _in_cluster(record)), []).append(record)
    for (_, what, why, step, cluster), nodes in stories.items():
        head = Text.assemble(look(nodes[0].outcome, printer.unicode), f" {names(nodes)}")
        printer.line(head.append(f": {what}") if what else head)
        if why:
            printer.line(f"    why: {one_line(why, 600)}")
        if cluster:
            printer.line(f"cluster: {cluster}")
        if step:
            printer.line(f"   next: {one_line(step, 300)}")


def _in_cluster(record: NodeRecord) -> str:
    """Return what the cluster says of a node that is out of reach."""
    if record.outcome is not Outcome.UNREACHABLE or record.cluster is None:
        return ""
    return "its Node is Ready: the kubelet reaches the API server" if record.cluster.ready else "its Node is not Ready"


def show_plan(printer: Printer, record: RunRecord, everything: bool = False) -> None:
    """Print a whole plan."""
    planned = [n for n in record.nodes.values() if n.outcome in (Outcome.OK, Outcome.PENDING, Outcome.QUARANTINED)]
    for group in groups(planned):
        printer.line(Text(headline(group), style="bold"))
        show_changes(printer, group.changes, everything)
        for warning in sorted({w for node in group.nodes for w in node.warnings}):
            printer.line(Text(f"  warning: {one_line(warning, 300)}", style="yellow"))
        printer.line()
    show_problems(printer, [n for n in record.nodes.values() if n.outcome not in (Outcome.OK, Outcome.PENDING)])


def cluster_line(cluster: ClusterRecord | None) -> str:
    """Return the cluster in one line; "" where there is nothing to say to somebody who has none."""
    if cluster is None or cluster.problem == "no-kubeconfig":
        return ""
    named = f"cluster: {cluster.title if cluster.used else 'not used'}"
    unseen = "; ".join(cluster.not_checked)
    return one_line(f"{named}; not checked: {unseen}" if unseen else named, 400)


def recap(printer: Printer, record: RunRecord) -> None:
    """Print one counted line per outcome."""
    total = len(record.nodes)
    for outcome in Outcome:
        found = [node for node in record.nodes.values() if node.outcome is outcome]
        if found:
            printer.line(Text.assemble(look(outcome, printer.unicode), f" {len(found)} of {total}: {names(found)}"))
    for node in record.nodes.values():
        if node.unwell:
            printer.line(Text(f"not well after its change: {node.name}: {one_line(node.unwell, 300)}", style="red"))
    if said := cluster_line(record.cluster):
        printer.line(said)
    if record.stopped:
        printer.line(Text(f"stopped early: {one_line(record.stopped, 400)}", style="red"))
