"""``tune-nodes policy reset``: plan, ask, open, prove, and say how it closes again."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tune_nodes.cli import complete
from tune_nodes.cli.asking import confirmed
from tune_nodes.cli.choice import choose
from tune_nodes.cli.cluster import chosen_kubeconfig
from tune_nodes.cli.options import Format, InCluster, Output
from tune_nodes.cli.output import Printer
from tune_nodes.cli.policy_resetoptions import Way, Where
from tune_nodes.cli.policy_resetview import print_done, print_plan, print_proofs
from tune_nodes.cluster.errors import NO_KUBECONFIG, KubeconfigError
from tune_nodes.errors import Exit, UsageError
from tune_nodes.fleet.untrusted import one_line

if TYPE_CHECKING:
    from tune_nodes.cluster.client import Cluster
    from tune_nodes.policy.opening.planning import Wish
    from tune_nodes.policy.opening.reset import Done, Plan

NOTHING = "network policies do not cut this traffic, or a reset has opened it already; nothing was done"


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
    taken: list[Done] = field(default_factory=list)

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
        """Take the planned rung, prove it, and where that fails plan the next; at the end close what waits for us."""
        if plan is None:
            return int(Exit.OK)
        try:
            code = self._take(plan)
            for done in self.taken if self.way.wait and plan.ttl else ():
                self._close_in_time(done)
        except KeyboardInterrupt:
            for done in self.taken:
                self.printer.note(f"stopped; it stays as it is; close it: {done.undo}")
            if not self.taken:
                self.printer.note("stopped half-way; take back what was begun: tune-nodes policy restore latest")
            return int(Exit.INTERRUPTED)
        return code

    def _take(self, plan: Plan) -> int:
        from tune_nodes.policy.opening import describe

        if self.printer.human:
            print_plan(self.printer, plan)
        if self.way.dry_run:
            if not self.printer.human:
                self.printer.document(describe.plan_document(plan))
            return int(Exit.OK)
        if not self._approved(plan):
            self.printer.note("nothing more was touched" if self.taken else "nothing was touched")
            return int(Exit.FAILED if self.taken else Exit.USAGE)
        from tune_nodes.policy.opening.reset import carry_out

        done = carry_out(self.cluster, plan, self.directory, self.cluster.user, self.way.wait)
        self._take_back()
        self.taken.append(done)
        if self.printer.human:
            print_done(self.printer, done)
        return self._after(done)

    def _take_back(self) -> None:
        """Take back the rung before, which did not help, where it only let more through."""
        from tune_nodes.policy.opening.closing import close

        for done in [one for one in self.taken if not one.record.removed]:
            for text in close(self.cluster, done.backup):
                self.printer.note(f"rung {done.plan.rung.number} did not help: {text}")
            self.taken.remove(done)

    def _after(self, done: Done) -> int:
        """Prove what was opened, say how it closes, and where it does not flow plan the next rung."""
        from tune_nodes.policy import agents
        from tune_nodes.policy.opening import describe
        from tune_nodes.policy.proving.prove import prove

        plan, explicit = done.plan, bool(self.where.source or self.where.target)
        proofs = prove(self.cluster, done, self.inventory, self.way.probe_image, explicit)
        self._watch_job(done)
        failed = [proof for proof in proofs if proof.ok is False]
        down = agents.trouble(self.cluster.api, {node for proof in failed for node in proof.nodes}) if failed else []
        rung = plan.ladder.after(plan.rung) if failed and not down else None
        further = replace(plan, rung=rung) if rung else None
        if self.printer.human:
            print_proofs(self.printer, done, proofs)
        else:
            following = {"next": describe.next_document(further), "down": down}
            self.printer.document({**describe.plan_document(plan), **describe.done_document(done, proofs), **following})
        if not failed:
            return int(Exit.OK)
        return self._further(further, down)

    def _further(self, plan: Plan | None, down: Sequence[str]) -> int:
        """Plan the next rung where one did not open in truth; it is taken only by whoever is asked at a terminal."""
        for text in down:
            self.printer.note(f"it does not flow: {one_line(text, 300)}")
        if down:
            self.printer.note("no rung changes anything there before the agent runs again: tune-nodes recover cni")
        elif plan is None:
            self.printer.note("it does not flow, and no further rung opens it: what cuts it is no policy seen here")
        else:
            self.printer.note(f"it does not flow; the next is rung {plan.rung.number}, {plan.rung.title}:")
            if self.printer.human and sys.stdin.isatty() and sys.stderr.isatty():
                self.way = replace(self.way, yes=False, approve="")
                return self._take(plan)
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

    def _close_in_time(self, done: Done) -> None:
        from tune_nodes.policy.opening.closing import close

        end = datetime.fromisoformat(done.record.until)
        while (left := (end - datetime.now(UTC)).total_seconds()) > 0:
            time.sleep(min(left, 1.0))
        for text in close(self.cluster, done.backup):
            self.printer.note(text)
