"""``tune-nodes policy reset``: plan, ask, open, prove, and say how it closes again."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tune_nodes.cli import complete
from tune_nodes.cli.asking import confirmed
from tune_nodes.cli.choice import choose
from tune_nodes.cli.cluster import chosen_kubeconfig
from tune_nodes.cli.options import Format, InCluster, Output
from tune_nodes.cli.output import Printer
from tune_nodes.cluster.errors import NO_KUBECONFIG, KubeconfigError
from tune_nodes.errors import Exit, UsageError
from tune_nodes.fleet.untrusted import one_line

if TYPE_CHECKING:
    from tune_nodes.cluster.client import Cluster
    from tune_nodes.policy.opening.planning import Wish
    from tune_nodes.policy.opening.prove import Proof
    from tune_nodes.policy.opening.reset import Done, Plan

NOTHING = "network policies do not cut this traffic, or a reset has opened it already; nothing was done"
SCOPE, WHAT, HOW = "For which pods", "Which traffic", "How far, and back"


@dataclass(frozen=True, kw_only=True)
class Where:
    """The scope and the traffic."""

    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="All pods of this namespace.", rich_help_panel=SCOPE)
    ] = ""
    pod: Annotated[str, typer.Option("--pod", metavar="NS/POD", help="This pod.", rich_help_panel=SCOPE)] = ""
    selector: Annotated[
        str,
        typer.Option(
            "--selector", "-l", metavar="KEY=VALUE", help="Pods with these labels; also with -n.", rich_help_panel=SCOPE
        ),
    ] = ""
    whole: Annotated[bool, typer.Option("--cluster", help="All pods of the cluster.", rich_help_panel=SCOPE)] = False
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="POD|CIDR",
            help="Where the traffic comes from: NS/POD, or addresses.",
            show_default="everybody",
            rich_help_panel=WHAT,
        ),
    ] = ""
    target: Annotated[
        str,
        typer.Option(
            "--to", metavar="POD", help="Where it goes.", show_default="the scope's pods", rich_help_panel=WHAT
        ),
    ] = ""
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Its port.", show_default="all", rich_help_panel=WHAT)
    ] = 0


@dataclass(frozen=True, kw_only=True)
class Way:
    """How far a reset may go, and how it ends."""

    ttl: Annotated[
        str, typer.Option("--ttl", help="After this time it closes again: 90s, 30m, 2h; 0: never.", rich_help_panel=HOW)
    ] = "30m"
    image: Annotated[
        str,
        typer.Option(
            "--image",
            help="Image with sh, date, sleep and kubectl: a Job of it closes the door when the time is over.",
            show_default="none: policy restore closes it",
            rich_help_panel=HOW,
        ),
    ] = ""
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay, and close it when the time is over.", rich_help_panel=HOW)
    ] = False
    rung: Annotated[
        int,
        typer.Option(
            "--rung",
            min=0,
            max=6,
            help="Take this rung: 2 allow DNS, 3 allow all, 5 delete what decides, 6 delete all.",
            show_default="the first that opens",
            rich_help_panel=HOW,
        ),
    ] = 0
    approve: Annotated[
        str,
        typer.Option("--approve", metavar="PLANHASH", help="Approve the plan with this hash.", rich_help_panel=HOW),
    ] = ""
    pause_gitops: Annotated[
        bool,
        typer.Option(
            "--pause-gitops", help="Pause the owners (Argo CD, Flux) of what is deleted.", rich_help_panel=HOW
        ),
    ] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and its hash; change nothing.", rich_help_panel=HOW)
    ] = False
    yes: Annotated[
        bool,
        typer.Option(
            "--yes", "-y", envvar="TUNE_NODES_YES", help="Do not ask; deleting needs more.", rich_help_panel=HOW
        ),
    ] = False


def reset(
    out: Output,
    where: Where,
    way: Way,
    inventory: Annotated[
        list[str] | None,
        typer.Option(
            "--inventory",
            "-i",
            help="The nodes: to prove it by a connection out of the pod.",
            autocompletion=complete.inventories,
        ),
    ] = None,
    kubeconfig: Annotated[
        str,
        typer.Option(
            "--kubeconfig", help="The cluster's kubeconfig.", show_default="one beside the inventory, else KUBECONFIG"
        ),
    ] = "",
    context: Annotated[
        str, typer.Option("--context", help="Context of the kubeconfig.", show_default="its current one")
    ] = "",
) -> int:
    """Let traffic through that network policies cut: the least that does, after a backup, and for a time only."""
    from tune_nodes.policy.opening.reset import check_ttl
    from tune_nodes.policy.opening.scope import scope_of

    scope = scope_of(where.namespace, where.pod, where.selector, where.whole)
    seconds = 0 if way.ttl == "0" else check_ttl(way.ttl)
    _answerable(way)
    settings = choose(out, cluster=InCluster(kubeconfig=kubeconfig, context=context)).settings
    printer = Printer(Format(settings.output), out.no_color)
    names = inventory or settings.inventory
    path = chosen_kubeconfig(settings.cluster.kubeconfig, names)
    if path is None:
        why, step = (
            "there is none beside the inventory and none in KUBECONFIG",
            "tune-nodes policy reset --kubeconfig PATH",
        )
        raise KubeconfigError("no kubeconfig was given", why, step, NO_KUBECONFIG)
    from tune_nodes.cluster.client import Cluster
    from tune_nodes.policy.keeping.backup import home
    from tune_nodes.policy.opening.planning import Wish

    with Cluster.open(path, settings.cluster.context) as cluster:
        run = _Run(cluster, printer, where, way, names, home(settings.state_dir))
        wish = Wish(scope, where.source, where.target, where.port, seconds, way.rung, way.image, way.pause_gitops)
        return run.climb(run.look(wish))


def _answerable(way: Way) -> None:
    """Refuse where a question would come that nobody could answer. Raises UsageError."""
    if not (way.yes or way.approve or way.dry_run or (sys.stdin.isatty() and sys.stderr.isatty())):
        raise UsageError(
            "a reset needs a yes, and there is no terminal to ask on",
            "nothing was touched",
            "add --yes, or look first: --dry-run",
        )


@dataclass
class _Run:
    cluster: Cluster
    printer: Printer
    where: Where
    way: Way
    inventory: Sequence[str]
    directory: Any

    def look(self, wish: Wish) -> Plan | None:
        """Judge every rung. None where the policies do not cut the traffic, which is said."""
        from tune_nodes.policy.opening.planning import look

        found = look(self.cluster, wish)
        if found.plan is not None:
            return found.plan
        if self.printer.human:
            self.printer.line(NOTHING)
            for one in found.not_judged:
                self.printer.note(f"not judged: {one_line(one)}")
        else:
            self.printer.document({"rung": None, "text": NOTHING, "not_judged": list(found.not_judged)})
        return None

    def climb(self, plan: Plan | None) -> int:
        """Take the planned rung, prove it, and where that fails plan the next."""
        if plan is None:
            return int(Exit.OK)
        from tune_nodes.policy.opening import describe

        if self.printer.human:
            _print_plan(self.printer, plan)
        if self.way.dry_run:
            if not self.printer.human:
                self.printer.document(describe.plan_document(plan))
            return int(Exit.OK)
        if not self._approved(plan):
            self.printer.note("nothing was touched")
            return int(Exit.USAGE)
        from tune_nodes.policy.opening.reset import carry_out

        try:
            done = carry_out(self.cluster, plan, self.directory, self.cluster.user, self.way.wait)
        except KeyboardInterrupt:
            self.printer.note("stopped half-way; take back what was begun: tune-nodes policy restore latest")
            return int(Exit.INTERRUPTED)
        try:
            return self._after(done)
        except KeyboardInterrupt:
            self.printer.note(f"stopped; it stays as it is; close it: {done.undo}")
            return int(Exit.INTERRUPTED)

    def _after(self, done: Done) -> int:
        """Prove what was opened, say how it closes, and where that was asked for stay until it does."""
        from tune_nodes.policy.opening import describe

        plan = done.plan
        if self.printer.human:
            self._opened(done)
        proofs = self._prove(done)
        self._watch_job(done)
        if self.printer.human:
            self._report(done, proofs)
        else:
            self.printer.document({**describe.plan_document(plan), **describe.done_document(done, proofs)})
        failed = any(proof.ok is False for proof in proofs)
        further = plan.ladder.after(plan.rung) if failed else None
        if further is not None:
            return self._further(replace(plan, rung=further))
        if self.way.wait and plan.ttl:
            self._close_in_time(done)
        return int(Exit.FAILED if failed else Exit.OK)

    def _further(self, plan: Plan) -> int:
        """Plan the next rung where one did not open in truth; it is taken only by whoever is asked at a terminal."""
        self.printer.note(f"it does not flow; the next is rung {plan.rung.number}, {plan.rung.title}:")
        if sys.stdin.isatty() and sys.stderr.isatty():
            self.way = replace(self.way, yes=False, approve="")
            return self.climb(plan)
        self.printer.note(f"  the same command with --rung {plan.rung.number} --approve {plan.hash}")
        return int(Exit.FAILED)

    def _approved(self, plan: Plan) -> bool:
        """Ask for what this rung wants. Raises UsageError for a wrong hash, or where nobody can be asked."""
        way, asking = self.way, sys.stdin.isatty() and sys.stderr.isatty()
        if way.approve:
            if way.approve == plan.hash:
                return True
            raise UsageError(
                f"the plan is not the one that was approved ({one_line(way.approve, 80)})",
                f"now it is {plan.hash}: a policy, the scope or the rung is another",
                "look at it again: tune-nodes policy reset ... --dry-run",
            )
        if not plan.rung.wants_approval:
            return way.yes or (asking and confirmed(self.printer, f"Open {plan.scope}?", False))
        if not asking:
            raise UsageError(
                f"rung {plan.rung.number} deletes policies: --yes is not enough",
                "nothing was touched",
                f"add --approve {plan.hash}",
            )
        self.printer.err.print(f"To delete what is named above, type the scope's name ({plan.scope.text}): ", end="")
        typed = sys.stdin.readline().strip()
        if typed != plan.scope.text:
            raise UsageError("that is not the scope's name", "nothing was touched", "run it again")
        return True

    def _opened(self, done: Done) -> None:
        for text in done.said:
            self.printer.line(text)
        for text in done.warnings:
            self.printer.note(f"warning: {one_line(text, 400)}")

    def _prove(self, done: Done) -> list[Proof]:
        from tune_nodes.policy.opening import prove

        return prove.prove(
            self.cluster, done.plan, self.inventory, explicit=bool(self.where.source or self.where.target)
        )

    def _watch_job(self, done: Done) -> None:
        """See that the Job that closes the door runs; say so where it does not."""
        if done.record.closes_by != "job":
            return
        from tune_nodes.policy.opening import ttl

        limit, why = time.monotonic() + 20, "?"
        while (why := ttl.running(self.cluster.api, done.record.id)) and time.monotonic() < limit:
            time.sleep(0.3)
        if why:
            done.warnings.append(f"the Job that closes it does not run yet: {one_line(why, 300)}")
            self.printer.note(f"warning: {done.warnings[-1]}; until it does, only this closes it: {done.undo}")

    def _report(self, done: Done, proofs: Sequence[Proof]) -> None:
        for proof in proofs:
            self.printer.line(f"{proof.word}: {one_line(proof.text, 300)}")
        record = done.record
        closes = {
            "job": f"open from {record.opened} until {record.until}: the Job closes it, with or without this machine",
            "wait": f"open from {record.opened} until {record.until}, when this process closes it",
            "": f"open from {record.opened} until somebody closes it: nothing does so by itself",
        }
        self.printer.line(closes[record.closes_by])
        self.printer.line(f"close it now: {done.undo}")

    def _close_in_time(self, done: Done) -> None:
        from tune_nodes.policy.opening.closing import close

        end = datetime.fromisoformat(done.record.until)
        while (left := (end - datetime.now(UTC)).total_seconds()) > 0:
            time.sleep(min(left, 1.0))
        for text in close(self.cluster, done.backup):
            self.printer.note(text)


def _print_plan(printer: Printer, plan: Plan) -> None:
    from tune_nodes.policy.opening import describe

    pods = len(plan.scope.pods(plan.snapshot))
    engine = f"policies enforced by {plan.snapshot.engine}" if plan.snapshot.engine else "nobody is known to enforce"
    printer.line(f"{plan.scope}: {pods} {'pod' if pods == 1 else 'pods'}, {engine}")
    for text in describe.who_cuts(plan):
        printer.line(f"   {one_line(text, 300)}")
    for rung in plan.ladder.rungs:
        sign = "->" if rung is plan.rung else "  "
        printer.line(f"{sign} {rung.number} {rung.title}: {one_line(rung.why, 300)}")
        if rung is plan.rung:
            break
    for one in plan.rung.adds:
        printer.line(f"   add {one.kind.text}{f' in {one.namespace}' if one.namespace else ''}")
    for one in plan.rung.removes:
        printer.line(f"   delete {one.ref}")
    for text in (*plan.beyond(), *(f"owner: {owner.shown}: {owner.text}" for owner in plan.owners())):
        printer.note(f"warning: {one_line(text, 300)}")
    printer.line(f"plan {plan.hash}")
