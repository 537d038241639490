"""``tune-nodes apply`` against a loop over ``ansible.posix.sysctl``: the same 25 keys, the same lab fleet, interleaved.

Ours does more in its time: it plans, takes a snapshot, arms a revert, applies, verifies, probes, confirms over a new
connection and persists. Both sides are warm (their ssh masters are open), both pipeline, both use the same forks.
Value sets alternate, so that every run really changes every key; after each run the kernel's values are compared.
Nothing here asserts a time: machines differ, so read the ratios of one round, which share the machine's mood.

Nodes share this machine's cores with the controller: on a real fleet wall time is nearer to the controller's CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from bench_measure import Group, Sample, measure

from tune_nodes.lab import Lab, LabNode

# Namespaced keys only. First value: set A; second: set B.
KEYS: dict[str, tuple[str, str]] = {
    "net.core.somaxconn": ("4096", "32768"),
    "net.ipv4.igmp_max_memberships": ("20", "200"),
    "net.ipv4.ip_local_port_range": ("32768 60999", "10240 65000"),
    "net.ipv4.tcp_abort_on_overflow": ("0", "1"),
    "net.ipv4.tcp_autocorking": ("1", "0"),
    "net.ipv4.tcp_early_retrans": ("3", "4"),
    "net.ipv4.tcp_ecn": ("2", "1"),
    "net.ipv4.tcp_fin_timeout": ("60", "15"),
    "net.ipv4.tcp_keepalive_intvl": ("75", "30"),
    "net.ipv4.tcp_keepalive_probes": ("9", "5"),
    "net.ipv4.tcp_keepalive_time": ("7200", "600"),
    "net.ipv4.tcp_max_syn_backlog": ("2048", "16384"),
    "net.ipv4.tcp_max_tw_buckets": ("131072", "262144"),
    "net.ipv4.tcp_mtu_probing": ("0", "1"),
    "net.ipv4.tcp_no_metrics_save": ("0", "1"),
    "net.ipv4.tcp_notsent_lowat": ("4294967295", "131072"),
    "net.ipv4.tcp_orphan_retries": ("0", "2"),
    "net.ipv4.tcp_retries2": ("15", "8"),
    "net.ipv4.tcp_rfc1337": ("0", "1"),
    "net.ipv4.tcp_rmem": ("4096 131072 33554432", "4096 87380 16777216"),
    "net.ipv4.tcp_slow_start_after_idle": ("1", "0"),
    "net.ipv4.tcp_syn_retries": ("6", "3"),
    "net.ipv4.tcp_synack_retries": ("5", "3"),
    "net.ipv4.tcp_tw_reuse": ("2", "1"),
    "net.ipv4.tcp_wmem": ("4096 16384 4194304", "4096 65536 16777216"),
}
SETS = {"a": 0, "b": 1}

# The usual task of the field. Its file sorts before ours, so that ours never finds its key overridden.
NAIVE_PLAY = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {
                "ansible.posix.sysctl": {
                    "name": "{{ item.key }}",
                    "value": "{{ item.value }}",
                    "sysctl_set": True,
                    "reload": False,
                    "sysctl_file": "/etc/sysctl.d/80-naive.conf",
                },
                "loop": "{{ wanted | dict2items }}",
            }
        ],
    }
]


@dataclass(frozen=True)
class Bench:
    """The fleet and where things are."""

    lab: Lab
    work: Path
    collections: Path
    forks: int

    @property
    def inventory(self) -> str:
        """Path of the lab's inventory."""
        return str(self.work / "inventory")

    @property
    def programs(self) -> Path:
        """Where this environment's tune-nodes and ansible-playbook are."""
        return Path(sys.executable).parent

    def environment(self) -> dict[str, str]:
        """The same for both sides: ssh masters that outlive the whole bench, in a directory of our own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "TUNE_NODES_"))}
        return kept | {
            "ANSIBLE_CONFIG": str(self.work / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.work / "ansible"),
            "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=2h",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.work / "cp"),
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_FORKS": str(self.forks),
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
            "PATH": f"{self.programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }

    def warm(self) -> None:
        """Open a master to each node, as Ansible itself names them."""
        command = ["ansible", "-i", self.inventory, "all", "-m", "ansible.builtin.raw", "-a", "true"]
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            raise SystemExit(f"bench: the nodes cannot be reached\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    def ours(self, values: str) -> tuple[list[str], dict[str, str]]:
        """Return command and environment of our side."""
        profile = self.work / f"bench-{values}.yml"
        wishes = {key: {"value": both[SETS[values]], "class": "exact"} for key, both in KEYS.items()}
        profile.write_text(yaml.safe_dump({"description": f"bench, set {values}", "sysctl": wishes}))
        command = ["tune-nodes", "apply", "-i", self.inventory, "--profile", str(profile), "--yes", "--quiet"]
        command += ["--serial", "100%", "--forks", str(self.forks), "-o", "json"]
        return [*command, "--state-dir", str(self.work / "state")], self.environment()

    def naive(self, values: str) -> tuple[list[str], dict[str, str]]:
        """Return command and environment of the other side."""
        play = self.work / "naive.yml"
        play.write_text(yaml.safe_dump(NAIVE_PLAY, sort_keys=False))
        wanted = json.dumps({"wanted": {key: both[SETS[values]] for key, both in KEYS.items()}})
        environment = self.environment() | {"ANSIBLE_COLLECTIONS_PATH": str(self.collections)}
        return ["ansible-playbook", "-i", self.inventory, str(play), "-e", wanted], environment

    def check(self, values: str) -> None:
        """Raise where a node does not hold the whole set: a run that skipped work must not count."""
        for node in self.lab.nodes:
            wrong = differences(node, values)
            if wrong:
                raise SystemExit(f"bench: {node.name} does not hold set {values}: {', '.join(wrong)}")


def differences(node: LabNode, values: str) -> list[str]:
    """Return the keys on which a node does not hold the set, as "key=value it has"."""
    wanted = {key: both[SETS[values]] for key, both in KEYS.items()}
    lines = node.run(["sysctl", "--", *wanted]).stdout.splitlines()
    held = {key.strip(): " ".join(value.split()) for key, _, value in (line.partition("=") for line in lines)}
    return [f"{key}={held.get(key, 'nothing')}" for key, value in wanted.items() if held.get(key) != value]


@contextmanager
def fleet(nodes: int, forks: int, collections: Path, group: Group) -> Iterator[Bench]:
    """Bring a lab up for the bench and take it, and the ssh masters, down whatever happens."""
    with tempfile.TemporaryDirectory(prefix="tnb-") as directory:
        work = Path(directory)
        lab = Lab(f"bench{os.getpid()}")
        (work / "cp").mkdir(mode=0o700)
        (work / "ansible.cfg").touch()  # nobody's own settings
        try:
            with group.inside():
                lab.up(nodes, 4, inventory_dir=work / "inventory", sudo=False, progress=say)
            yield Bench(lab, work, collections, forks)
        finally:
            for master in (work / "cp").iterdir():
                command = ["ssh", "-F", "/dev/null", "-o", f"ControlPath={master}", "-O", "exit", "bench"]
                subprocess.run(command, capture_output=True, timeout=30, check=False)
            lab.down()


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def one(bench: Bench, side: str, values: str, groups: tuple[Group, Group]) -> Sample:
    """Warm up, run one side once, check what it did."""
    command, environment = (bench.ours if side == "ours" else bench.naive)(values)
    bench.warm()
    sample = measure(command, environment, *groups, timeout=1800)
    if sample.code:
        raise SystemExit(f"bench: {side} ended with {sample.code}\n{sample.stdout[-4000:]}")
    bench.check(values)
    return sample


def row(name: str, ours: float, naive: float) -> str:
    return f"{name:<34}{ours:>10.2f}{naive:>10.2f}{naive / ours:>9.1f}x"


def summary(samples: dict[str, list[Sample]], nodes: int) -> str:
    """Return the table: each round side by side, then the medians. Ratios are naive / ours, larger is better for us."""
    lines = [
        f"{nodes} nodes, {len(KEYS)} keys, all changed in each run",
        f"{'':<34}{'ours':>10}{'naive':>10}{'ratio':>10}",
    ]
    for number, (ours, naive) in enumerate(zip(samples["ours"], samples["naive"], strict=True), start=1):
        lines.append(row(f"round {number}: wall s", ours.wall, naive.wall))
        lines.append(row(f"round {number}: controller CPU s", ours.controller, naive.controller))
    figures: list[tuple[str, Callable[[Sample], float | None]]] = [
        ("median: wall s", lambda sample: sample.wall),
        ("median: controller CPU s", lambda sample: sample.controller),
        ("median: CPU ms of one node", lambda sample: sample.nodes and sample.nodes / nodes * 1000),
    ]
    for name, figure in figures:
        medians = [_median([figure(sample) for sample in samples[side]]) for side in ("ours", "naive")]
        if medians[0] and medians[1]:
            lines.append(row(name, medians[0], medians[1]))
    return "\n".join(lines)


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--collections", type=Path, required=True, help="directory with ansible_collections/ansible/posix"
    )
    parser.add_argument("--nodes", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--forks", type=int, default=20)
    parser.add_argument("--out", type=Path, help="also write all samples here, as JSON")
    chosen = parser.parse_args()
    if not (chosen.collections / "ansible_collections/ansible/posix").is_dir():
        parser.error(f"{chosen.collections} holds no ansible.posix")
    groups = (Group("tune-bench-controller"), Group("tune-bench-nodes"))
    samples: dict[str, list[Sample]] = {"ours": [], "naive": []}
    try:
        with fleet(chosen.nodes, chosen.forks, chosen.collections, groups[1]) as bench:
            say("a round that does not count: caches, and a known state")
            one(bench, "naive", "b", groups)
            one(bench, "ours", "a", groups)
            one(bench, "ours", "b", groups)
            for number in range(1, chosen.rounds + 1):
                for side, values in (("ours", "a"), ("naive", "b")):
                    samples[side].append(one(bench, side, values, groups))
                    last = samples[side][-1]
                    say(f"round {number}, {side}: {last.wall:.2f} s, controller CPU {last.controller:.2f} s")
    finally:
        for group in groups:
            group.remove()
    print(summary(samples, chosen.nodes))
    if chosen.out:
        kept = {side: [[s.wall, s.controller, s.nodes] for s in runs] for side, runs in samples.items()}
        chosen.out.write_text(json.dumps({"nodes": chosen.nodes, "keys": len(KEYS), "samples": kept}, indent=1))


if __name__ == "__main__":
    main()
