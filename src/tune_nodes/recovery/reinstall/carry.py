"""Putting a record back: objects first, then the agents, node by node. Every step is in the journal first."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from tune_nodes.cluster import objects
from tune_nodes.cluster.client import Cluster
from tune_nodes.errors import TuneError
from tune_nodes.policy.keeping.clean import digest
from tune_nodes.policy.keeping.journal import Journal
from tune_nodes.policy.keeping.lookup import Lookup
from tune_nodes.recovery.guard import Guards, NoGuards
from tune_nodes.recovery.reinstall import needs
from tune_nodes.recovery.reinstall.applying import applied
from tune_nodes.recovery.reinstall.gate import LOOK, Gate
from tune_nodes.recovery.reinstall.parts import Key, Part, pod_spec, tidy
from tune_nodes.recovery.reinstall.plan import ROLLING, WRITTEN, Plan, Step, call_of
from tune_nodes.recovery.reinstall.rollout import Rollout
from tune_nodes.recovery.reinstall.rolls import CHANGING, MAKING, Roll, final_strategy
from tune_nodes.recovery.reinstall.runs import Run, row_of

#: Seconds for a new kind to be served.
SERVED = 60.0


@dataclass(frozen=True)
class Way:
    """How it is done.

    Args:
        force: also take fields that others hold at other values.
        limit: seconds for each wait on a node.
        probe_image: of the pods that prove a node's network; "" for the agent's own.
        say: is told of each step.
        cancelled: asked between nodes and while waiting.
        guards: give the right to work on a node; None: the cluster's slots.
    """

    force: bool = False
    limit: float = 180.0
    probe_image: str = ""
    say: Callable[[str], None] = lambda text: None
    cancelled: Callable[[], bool] = lambda: False
    guards: Guards | None = None


class Writer:
    """Writes objects of one run, each into its journal before and after.

    Args:
        cluster: where.
        journal: of the run.
        force: see :class:`Way`.
    """

    def __init__(self, cluster: Cluster, journal: Journal, force: bool) -> None:
        self._cluster = cluster
        self._journal = journal
        self._force = force
        self._lookup = Lookup(cluster.api)

    def put(self, key: Key, body: Mapping[str, Any]) -> dict[str, Any]:
        """Apply one object, and return it as it is then. Raises TuneError."""
        call = call_of(self._lookup, key, "patch")
        if call is None:
            raise TuneError(f"{key} cannot be made", f"the server has no kind {key.kind} in {key.api_version}")
        self.about(key)
        result = applied(self._cluster.api, call, body, self._force)
        self._journal.note("wrote", object=row_of(key), sha256=digest(tidy(result, key.api_version, key.kind)))
        return result

    def about(self, key: Key) -> None:
        """Note that an object is written to next: until that is noted too, what it is then counts as ours."""
        self._journal.note("writing", object=row_of(key))

    def define(self, key: Key, body: Mapping[str, Any]) -> None:
        """Apply the definition of a kind, and wait until it is served."""
        item, until = self.put(key, body), time.monotonic() + SERVED
        while not _established(item):
            if time.monotonic() >= until:
                raise TuneError(f"{key} is not served after {SERVED:g} s", "the server has not established it")
            time.sleep(LOOK)
            call = call_of(self._lookup, key, "get")
            item = self._cluster.api.get(call) if call is not None else item
        self._lookup = Lookup(self._cluster.api)


def _established(item: Mapping[str, Any]) -> bool:
    rows = objects.mappings(item, "status", "conditions")
    return any(one.get("type") == "Established" and one.get("status") == "True" for one in rows)


def carry_out(
    cluster: Cluster, plan: Plan, run: Run, journal: Journal, before: Mapping[Key, Part], way: Way
) -> list[str]:
    """Do what a plan says; finish it, where a run before this began it.

    Args:
        cluster: where.
        plan: nothing in it is barred.
        run: as its journal tells it.
        journal: of the run.
        before: the objects as they were before the run.
        way: how.

    Returns:
        The nodes whose agents are new.

    Raises:
        TuneError: an object was refused, or a node is not well; the objects written and the nodes done stay.
    """
    writer = Writer(cluster, journal, way.force)
    for step in plan.steps:
        key = step.part.key
        if step.status not in WRITTEN or key in plan.roll:
            continue
        if key.kind == "CustomResourceDefinition":
            writer.define(key, step.part.body)
        else:
            writer.put(key, step.part.body)
        way.say(f"{key}: {'made' if step.live is None else 'changed'}")
    rolls = [
        _roll(cluster, step, run, before, writer)
        for step in plan.steps
        if step.part.key in plan.roll and step.part.key not in run.there.rolled
    ]
    done = []
    if rolls:
        gate = gate_of(cluster, rolls[0].key, rolls[0].body, way)
        gate.sweep()
        rollout = Rollout(gate, way.guards or NoGuards(), journal, run.there, False, way.say, way.cancelled)
        done = rollout.run(rolls, plan.nodes, plan.protected)
    journal.note("done", undo=False)
    return done


def _roll(cluster: Cluster, step: Step, run: Run, before: Mapping[Key, Part], writer: Writer) -> Roll:
    key, body = step.part.key, step.part.body
    mark = objects.text(step.live, "metadata", "annotations", ROLLING)
    half_made = step.live is None or mark.endswith(f" {MAKING}")  # by a run that is known no more, maybe
    mode = MAKING if half_made else run.there.rolling.get(key, ("", {}))[0] or CHANGING
    was = before.get(key)
    strategy = final_strategy(body, was.body if was else None)
    put, about = partial(writer.put, key), partial(writer.about, key)
    return Roll(cluster.api, key, mode, f"{run.id} {mode}", put, body, strategy, about=about)


def gate_of(cluster: Cluster, key: Key, body: Mapping[str, Any], way: Way) -> Gate:
    """Return the gate of nodes whose agents are those of a DaemonSet. Raises TuneError where it has no image."""
    image = way.probe_image or next(iter(needs.images(pod_spec(body))), "")
    if not image:
        raise TuneError(f"{key} names no image", "", "give --probe-image IMAGE")
    return Gate(cluster.api, key.namespace, image, way.limit, way.cancelled)
