"""One use of a command that talks to nodes: from options to targets, a run in the store, and an exit code."""

from __future__ import annotations

import contextlib
import getpass
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from tune_nodes import collection
from tune_nodes.cli import passthrough
from tune_nodes.cli.choice import choose
from tune_nodes.cli.incluster import open_cluster, wish_of
from tune_nodes.cli.live import Quiet, progress
from tune_nodes.cli.options import Format, InCluster, Output, Reach, Rollout, Wish
from tune_nodes.cli.output import Printer
from tune_nodes.cluster.wiring import Occasion
from tune_nodes.config import Config
from tune_nodes.errors import TuneError, UsageError
from tune_nodes.fleet.clusterside import ClusterSide
from tune_nodes.fleet.execute import FleetRun, Settings
from tune_nodes.fleet.inventory import Inventory, read_inventory
from tune_nodes.fleet.runner import AnsibleOptions, AnsibleRunner
from tune_nodes.fleet.stop import StopSwitch
from tune_nodes.fleet.target import Target
from tune_nodes.fleet.waves import Policy, parse_size
from tune_nodes.profiles.load import ResolvedProfile
from tune_nodes.profiles.load import resolve as resolve_profile
from tune_nodes.runs.models import RunRecord
from tune_nodes.runs.store import RunHandle, RunStore, new_run_id

#: What -t takes, and the part of a layer each stands for.
TAGS = {
    "sysctl": "sysctl",
    "sysctl_buffers": "sysctl",
    "nic": "nic_queues",
    "nic_queues": "nic_queues",
    "mtu": "mtu",
    "mtu_alignment": "mtu",
}


def window_of(config: Config, profile: ResolvedProfile | None = None) -> int:
    """Return the window: the option's, else the profile's, else the configured one."""
    suggested = profile.window if profile is not None else None
    return config.settings.window if suggested is None or config.chosen("window") else suggested


def settings_of(config: Config, window: int) -> Settings:
    """Return how the run goes about its nodes."""
    chosen = config.settings
    policy = Policy(
        canary=chosen.canary,
        serial=tuple(parse_size(size, "--serial") for size in chosen.serial),
        max_unavailable=parse_size(chosen.max_unavailable, "--max-unavailable") if chosen.max_unavailable else None,
    )
    return Settings(policy, chosen.fail_percent, chosen.soak, window, chosen.timeouts.connect)


def described(settings: Settings) -> dict[str, Any]:
    """Return the settings as they stand in the run's record."""
    policy = settings.policy
    return {
        "canary": policy.canary,
        "serial": [str(size) for size in policy.serial],
        "max_unavailable": str(policy.max_unavailable or ""),
        "fail_percent": settings.fail_percent,
        "soak": settings.soak,
        "window": settings.window,
    }


def only_tags(layers: Sequence[dict[str, Any]], tags: Sequence[str]) -> list[dict[str, Any]]:
    """Return the layers with the settings that ``-t`` asks for (all without it). Raises UsageError."""
    wanted = [tag for text in tags for tag in text.split(",") if tag]
    unknown = [tag for tag in wanted if tag not in TAGS]
    if unknown:
        raise UsageError(f"there is no tag {unknown[0]!r}", "known are sysctl and nic", "tune-nodes plan -t sysctl")
    if not wanted:
        return list(layers)
    kept = {TAGS[tag] for tag in wanted}
    return [{**layer, **{part: [] for part in set(TAGS.values()) - kept}} for layer in layers]


def targets_of(inventory: Inventory, profile: ResolvedProfile, tags: Sequence[str] = ()) -> list[Target]:
    """Return a target for each node of the inventory.

    Raises:
        UsageError: an unknown tag, or a node with a group's name (a limit would mean the whole group).
    """
    groups = inventory.groups()
    for name in inventory.nodes:
        if name in groups and groups[name] != [name]:
            raise UsageError(
                f"{name} is both a node and a group",
                "Ansible would take the name for the group",
                "rename one of them in the inventory",
            )
    layers = only_tags(profile.layers, tags)
    probes = profile.probes
    extra = other_probes(profile)
    return [
        Target(
            name=node.name,
            address=node.address,
            layers=layers,
            labels=node.labels,
            groups=node.groups,
            gateway=probes.gateway,
            peers=probes.peers,
            probes=extra,
        )
        for node in inventory.nodes.values()
    ]


def other_probes(profile: ResolvedProfile) -> list[dict[str, str]]:
    """Return the profile's probes without gateway and fleet peers, which a target has of its own."""
    return profile.probes.model_copy(update={"gateway": False}).requests([])


def inventory_args(reach: Reach) -> list[str]:
    """Return what ansible-inventory needs of the options to read vaulted sources."""
    args = [f"--vault-password-file={path}" for path in reach.vault_password_file]
    args += [f"--vault-id={vault}" for vault in reach.vault_id]
    return args + [part for pair in reach.extra_vars for part in ("-e", pair)]


def ask_secret(prompt: str) -> str:
    """Ask for a password on the terminal. Raises UsageError where there is none."""
    if not sys.stdin.isatty():
        raise UsageError(
            f"cannot ask for the {prompt}",
            "there is no terminal",
            "give it in a file: -- --connection-password-file F, --become-password-file F; or --vault-password-file F",
        )
    return getpass.getpass(f"{prompt}: ")


def ansible_options(reach: Reach, config: Config, sources: Sequence[str], verbosity: int) -> AnsibleOptions:
    """Return the options of every ansible-playbook call; asks for passwords on the terminal."""
    ssh = ask_secret("ssh password") if reach.ask_pass else None
    become = (
        ask_secret("become password (empty: the ssh password)" if ssh else "become password")
        if (reach.ask_become_pass)
        else None
    )
    return AnsibleOptions(
        inventory=tuple(sources),
        forks=config.settings.forks,
        timeout=config.settings.timeouts.connect,
        user=reach.user,
        private_key=reach.private_key,
        become=reach.become,
        vault_password_files=tuple(reach.vault_password_file),
        vault_ids=tuple(reach.vault_id),
        extra_vars=tuple(reach.extra_vars),
        verbosity=max(0, verbosity - 1),
        extra_args=passthrough.get(),
        ssh_password=ssh,
        become_password=(become or ssh) if become is not None else None,
    )


@dataclass
class Session:
    """What a command has in hand while it talks to nodes."""

    printer: Printer
    progress: Quiet
    stop: StopSwitch
    store: RunStore
    config: Config
    out: Output
    reach: Reach

    @classmethod
    def open(
        cls,
        out: Output,
        reach: Reach,
        wish: Wish | None = None,
        rollout: Rollout | None = None,
        cluster: InCluster | None = None,
    ) -> Session:
        """Read the configuration, open state directory and terminal. Raises UsageError before any node is touched."""
        config = choose(out, reach, wish, rollout, cluster)
        printer = Printer(Format(config.settings.output), out.no_color)
        for warning in config.warnings:
            printer.note(f"warning: {warning}")
        store = RunStore.open(config.settings.state_dir)
        store.check_room()
        shown = progress(printer.err, out.quiet)
        return cls(printer, shown, StopSwitch(shown.note), store, config, out, reach)

    def inventory(self, kept: Sequence[str] = ()) -> tuple[Inventory, AnsibleOptions]:
        """Read the inventory and ask for passwords.

        Args:
            kept: the inventory that a plan file or an earlier run used; ``-i`` goes before it.
        """
        reach = self.reach
        names = reach.inventory or list(kept) or self.config.settings.inventory
        vault = ask_secret("vault password") if reach.ask_vault_pass else None
        inventory = read_inventory(
            names,
            reach.limit,
            args=inventory_args(reach),
            vault_password=vault,
            timeout=self.config.settings.timeouts.inventory,
        )
        for warning in inventory.warnings:
            self.printer.note(f"warning: {warning}")
        options = ansible_options(reach, self.config, inventory.sources, self.out.verbose)
        return inventory, replace(options, vault_password=vault)

    def profile(self) -> ResolvedProfile:
        """Return the profile that was asked for."""
        return resolve_profile(self.config.settings.profile)

    def cluster(
        self, record: RunRecord, inventory: Inventory, settings: Settings, suggested: Mapping[str, Any]
    ) -> ClusterSide:
        """Return the cluster's side of a run; ``suggested``: what its profile says of the cluster.

        Raises:
            TuneError: it cannot be used and must be.
        """
        occasion = Occasion(record.id, record.verb, self.store.runs / record.id, self.store.over, self.progress.note)
        wish = wish_of(self.config, suggested)
        record.options |= wish.described(occasion.changing)
        addresses = {node.name: node.address for node in inventory.nodes.values()}
        return open_cluster(wish, occasion, inventory.sources, addresses, settings.window)

    def runner(self, options: AnsibleOptions) -> AnsibleRunner:
        """Return the runner; from -vv on it shows what ansible-playbook prints."""
        show: Callable[[str], None] | None = self.progress.note if self.out.verbose >= 2 else None
        return AnsibleRunner(options, keep=bool(os.environ.get("TUNE_NODES_KEEP_PRIVATE")), on_line=show)

    @contextlib.contextmanager
    def run(
        self, record: RunRecord, options: AnsibleOptions, settings: Settings, cluster: ClusterSide
    ) -> Iterator[FleetRun]:
        """Begin a run, with the display on and signals caught; an error closes it with its exit code."""
        with contextlib.closing(cluster):
            yield from self._run(record, options, settings, cluster)

    def _run(
        self, record: RunRecord, options: AnsibleOptions, settings: Settings, cluster: ClusterSide
    ) -> Iterator[FleetRun]:
        runner = self.runner(options)
        handle = self.store.begin(record)
        try:
            with self.stop, self.progress:
                yield FleetRun(runner, handle, self.progress, self.stop, settings, cluster)
        except TuneError as problem:
            record.stopped = record.stopped or problem.what
            with contextlib.suppress(TuneError):
                handle.finish(int(problem.exit))
            raise
        finally:
            handle.close()


def new_record(verb: str, inventory: Inventory, profile: str, options: dict[str, Any]) -> RunRecord:
    """Return the record of a run that begins now."""
    return RunRecord(
        schema=1,
        id=new_run_id(),
        verb=verb,
        version=collection.version(),
        profile=profile,
        inventory=list(inventory.sources),
        limit=inventory.limit,
        options=options,
        user=_user(),
        started=datetime.now(UTC),
    )


def _user() -> str:
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in many containers
        return str(os.getuid())


def close(handle: RunHandle, code: int) -> int:
    """Finish a run and return its exit code."""
    handle.finish(code)
    return code
