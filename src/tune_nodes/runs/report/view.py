"""A run as the template needs it. Everything is decided here; the template only lays it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..models import NodeRecord, Outcome, ProbeRecord, RunRecord
from .cluster import ClusterBox, Short, box, looked_into, node_facts, shorts
from .looks import OUTCOMES, TROUBLE, UNWELL, Look, rank, status_look
from .paths import Paths, path_section
from .plans import Plan, Row, Use, share, tally
from .text import Clipped, clip, count, moment, natural, plain, seconds, utc
from .verdict import Command, Verdict, commands, exit_words, verdict
from .waves import Bar, Timeline, timeline

#: A larger fleet has its uneventful nodes in one line each.
FULL = 400
#: Nodes whose section is open from the start.
UNFOLDED = 3
_STEPS = ("plan", "apply", "probe", "confirm")


@dataclass(frozen=True)
class Probe:
    """One check before and after: how it came out ("" where it was not made) and details."""

    name: str
    before: str
    before_ms: str
    after: str
    after_ms: str
    detail: Clipped


@dataclass
class Node:
    """One node as the report shows it."""

    record: NodeRecord
    ref: str
    look: Look
    brief: bool  # one line is all there is to say
    open: bool  # shown unfolded
    settings: str  # "14 changed, 2 owned"
    total: float
    took: str
    bars: list[Bar]
    probes: list[Probe]
    probes_line: str  # "5 of 5 passed"
    facts: list[tuple[str, str]]
    in_cluster: list[tuple[str, str]]
    unwell: Clipped  # what the cluster found wrong with it after its change
    machine: str  # kernel and CPUs in one line
    use: Use | None


@dataclass(frozen=True)
class Cell:
    """One node in the map."""

    ref: str
    look: Look
    label: str
    name: str


@dataclass(frozen=True)
class View:
    """A whole report."""

    run: RunRecord
    verdict: Verdict
    commands: list[Command]
    meta: list[tuple[str, str]]
    legend: list[tuple[Look, int]]
    size: str  # of the map's cells: large, medium, small, tiny
    cells: list[Cell]
    waves: Timeline
    plans: list[Plan]  # those of more than one node
    full: list[Node]
    brief: list[Node]
    refs: dict[str, str]
    cluster: ClusterBox | None
    pods: list[Short]
    pods_more: int
    pods_seen: int
    paths: Paths | None


def view(run: RunRecord) -> View:
    """Return a run laid out for the template."""
    plans, uses = share(run.nodes)
    names = sorted(run.nodes, key=natural)
    refs = {name: f"n{at}" for at, name in enumerate(names, 1)}
    slowest = max((_total(node) for node in run.nodes.values()), default=0.0)
    nodes = [_node(run.nodes[name], refs[name], uses.get(name), slowest, len(names)) for name in names]
    nodes.sort(key=lambda node: -1 if node.record.unwell else rank(node.record.outcome))
    _unfold(nodes)
    pods, more = shorts(run.nodes, refs)
    shared = _number(plans, {node.record.name for node in nodes if node.brief})
    return View(
        run=run,
        verdict=verdict(run),
        commands=commands(run),
        meta=_meta(run),
        legend=[(look, run.count(outcome)) for outcome, look in OUTCOMES.items() if run.count(outcome)],
        size=next(
            word
            for most, word in ((24, "large"), (150, "medium"), (1200, "small"), (1 << 60, "tiny"))
            if len(names) <= most
        ),
        cells=[
            _cell(run.nodes[name], refs[name]) for name in sorted(names, key=lambda n: run.nodes[n].wave or 1 << 30)
        ],
        waves=timeline(run),
        plans=shared,
        full=[node for node in nodes if not node.brief],
        brief=[node for node in nodes if node.brief],
        refs=refs,
        cluster=box(run),
        pods=pods,
        pods_more=more,
        pods_seen=looked_into(run.nodes.values()),
        paths=path_section(run),
    )


def _unfold(nodes: list[Node]) -> None:
    """Show the first nodes that have something of their own to tell without a click."""
    telling = [node for node in nodes if not node.brief and _has_own(node)]
    for node in telling[:UNFOLDED] if len(nodes) > 1 else nodes:
        node.open = True


def _has_own(node: Node) -> bool:
    record = node.record
    return bool(record.outcome in TROUBLE or record.error or record.unwell or (node.use and node.use.differs))


def _number(plans: list[Plan], brief: set[str]) -> list[Plan]:
    """Number the plans that need a table of their own; the only node of a plan has it in its own section."""
    shared = [plan for plan in plans if len(plan.nodes) > 1 or plan.nodes[0] in brief]
    for number, plan in enumerate(shared, 1):
        plan.number = number
    return shared


def _cell(node: NodeRecord, ref: str) -> Cell:
    look = UNWELL if node.unwell else OUTCOMES[node.outcome]
    wave = f", wave {node.wave}" if node.wave else ""
    name = plain(node.name, 80)
    return Cell(ref, look, f"{name}: {look.word}{wave}", name)


def _meta(run: RunRecord) -> list[tuple[str, str]]:
    took = (utc(run.finished) - utc(run.started)).total_seconds() if run.finished else None
    options = ", ".join(
        f"{key.replace('_', ' ')} {_option(value)}" for key, value in run.options.items() if value not in (None, "", [])
    )
    rows = [
        ("Run", run.id),
        ("Command", f"tune-nodes {run.verb}"),
        ("Undoes run", run.rolled_back),
        ("Started", moment(run.started)),
        ("Took", seconds(took)),
        ("By", run.user),
        ("Profile", run.profile),
        ("Inventory", ", ".join(run.inventory)),
        ("Limit", run.limit),
        ("Nodes", f"{len(run.nodes):,}"),
        ("Options", options),
        ("Exit code", exit_words(run.exit_code)),
        ("Version", run.version),
    ]
    return [(name, plain(value, 300)) for name, value in rows if value]


def _option(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _node(node: NodeRecord, ref: str, use: Use | None, slowest: float, fleet: int) -> Node:
    total = _total(node)
    return Node(
        record=node,
        ref=ref,
        look=OUTCOMES[node.outcome],
        brief=_is_brief(node, use, fleet),
        open=False,
        settings=settings_line(use.rows) if use else "",
        total=round(total, 3),
        took=seconds(total) if total else "",
        bars=_bars(node, slowest),
        probes=_probes(node),
        probes_line=_probes_line(node),
        facts=_facts(node),
        in_cluster=node_facts(node.cluster),
        unwell=clip(node.unwell, 400),
        machine=_machine(node.host),
        use=use,
    )


def _is_brief(node: NodeRecord, use: Use | None, fleet: int) -> bool:
    if node.warnings or node.unwell or node.outcome in TROUBLE or (node.error and node.outcome is not Outcome.SKIPPED):
        return False
    if use and (len(use.differs) > 3 or use.lacks):
        return False
    if node.outcome is Outcome.SKIPPED and not (node.probes_before or node.probes_after):
        return fleet > 12
    return fleet > FULL and not _broken(node)


def _broken(node: NodeRecord) -> bool:
    """True where a probe that passed before did not pass again."""
    before = {probe.id for probe in node.probes_before if probe.ok}
    return any(not probe.ok and probe.id in before for probe in node.probes_after)


def settings_line(rows: list[Row]) -> str:
    """Return "14 changed, 2 owned, 9 ok" of a plan's rows."""
    return ", ".join(f"{number} {status_look(status).word}" for status, number in tally(rows).items())


def _total(node: NodeRecord) -> float:
    """Return how long a node took in seconds, 0 where nothing is known."""
    steps = {name: took for name, took in node.timings.items() if took == took and 0 <= took < float("inf")}
    if "total" in steps:
        return steps["total"]
    if steps:
        return sum(steps.values())
    if node.started and node.finished:
        return max((utc(node.finished) - utc(node.started)).total_seconds(), 0.0)
    return 0.0


def _bars(node: NodeRecord, slowest: float) -> list[Bar]:
    """Return the steps of a node one after the other, on an axis that all nodes share."""
    if slowest <= 0:
        return []
    names = [step for step in _STEPS if step in node.timings]
    names += sorted(set(node.timings) - set(_STEPS) - {"total"})
    found, at = [], 0.0
    for name in names:
        took = node.timings[name]
        width = 1000 * took / slowest if took == took and took > 0 else 0.0
        width = min(width, 1000 - at)
        found.append(
            Bar(
                round(at),
                max(round(width), 1),
                name if name in _STEPS else "other",
                f"{plain(name, 40)} {seconds(took)}",
            )
        )
        at += width
    return found


def _probes(node: NodeRecord) -> list[Probe]:
    before = {probe.id: probe for probe in node.probes_before}
    after = {probe.id: probe for probe in node.probes_after}
    found = []
    for name in dict.fromkeys([*before, *after]):
        first, second = before.get(name), after.get(name)
        told = second if second and (second.detail or not first) else first
        found.append(
            Probe(
                name=plain(name, 100),
                before=_passed(first),
                before_ms=_ms(first),
                after=_passed(second),
                after_ms=_ms(second),
                detail=clip(told.detail if told else ""),
            )
        )
    return found


def _passed(probe: ProbeRecord | None) -> str:
    if probe is None:
        return ""
    return "pass" if probe.ok else "failed"


def _ms(probe: ProbeRecord | None) -> str:
    if probe is None or probe.ms is None or probe.ms != probe.ms:
        return ""
    return f"{probe.ms:.1f} ms" if probe.ms < 100 else f"{probe.ms:,.0f} ms"


def _probes_line(node: NodeRecord) -> str:
    last = node.probes_after or node.probes_before
    if not last:
        return ""
    return f"{sum(probe.ok for probe in last)} of {len(last)} passed"


def _machine(host: Mapping[str, object]) -> str:
    parts = [plain(host["kernel"], 60)] if host.get("kernel") else []
    if isinstance(host.get("cpus"), int):
        parts.append(count(int(str(host["cpus"])), "CPU"))
    return ", ".join(parts)


def _facts(node: NodeRecord) -> list[tuple[str, str]]:
    host = node.host
    memory = host.get("memory_mib")
    roles = host.get("roles")
    tx = node.tx
    rows = [
        ("Address", node.address),
        ("System", host.get("os_name") or host.get("os_id") or ""),
        ("Kernel", host.get("kernel") or ""),
        ("CPUs", host.get("cpus") or ""),
        ("Memory", f"{memory / 1024:.1f} GiB" if isinstance(memory, int) and memory > 0 else ""),
        ("Roles", ", ".join(map(str, roles)) if isinstance(roles, list) else ""),
        ("Machine", host.get("machine_id") or ""),
        ("Python", host.get("python") or ""),
        ("Transaction", f"{tx.id} {tx.state}" if tx else ""),
        ("Reverter", _reverter(node)),
        ("Plan", node.plan_hash.removeprefix("sha256:")[:16]),
        ("Started", moment(node.started)),
    ]
    return [(name, plain(value, 200)) for name, value in rows if value]


def _reverter(node: NodeRecord) -> str:
    tx = node.tx
    if not tx or not tx.reverter:
        return ""
    kind = {"systemd": "systemd timer", "process": "detached process"}.get(tx.reverter, tx.reverter)
    return f"{kind}, window {seconds(tx.window)}" if tx.window else kind
