"""What plan, verify and drift have in common: ask every node, change nothing, record the run."""

from __future__ import annotations

from dataclasses import dataclass

from tune_nodes.cli.options import InCluster, Output, Reach, Wish
from tune_nodes.cli.session import Session, close, described, new_record, settings_of, targets_of, window_of
from tune_nodes.errors import Exit
from tune_nodes.fleet.execute import Settings
from tune_nodes.fleet.target import Target
from tune_nodes.fleet.verdict import exit_code
from tune_nodes.profiles.load import ResolvedProfile
from tune_nodes.runs.models import RunRecord


@dataclass(frozen=True)
class Looked:
    """A run that only looked."""

    session: Session
    record: RunRecord
    targets: list[Target]
    settings: Settings
    profile: ResolvedProfile
    code: Exit


def look(verb: str, reach: Reach, wish: Wish, cluster: InCluster, out: Output, detailed: bool) -> Looked:
    """Ask every node what would change.

    Args:
        verb: plan, verify or drift; what the run is called.
        reach: how Ansible reaches the nodes.
        wish: the profile.
        cluster: the cluster.
        out: where to print and to record.
        detailed: whether pending changes make exit code 2.
    """
    session = Session.open(out, reach, wish, None, cluster)
    profile = session.profile()
    settings = settings_of(session.config, window_of(session.config, profile))
    inventory, options = session.inventory()
    targets = targets_of(inventory, profile, wish.tags)
    record = new_record(verb, inventory, profile.name, described(settings))
    side = session.cluster(record, inventory, settings, profile.cluster)
    targets = side.labelled(targets)
    with session.run(record, options, settings, side) as fleet:
        fleet.plan(targets, verb)
        code = exit_code(record, detailed)
        close(fleet.handle, int(code))
    return Looked(session, record, targets, settings, profile, code)
