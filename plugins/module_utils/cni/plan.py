# SPDX-License-Identifier: Apache-2.0
"""Which leases are stale, and when nothing may be released at all. Pure: all that is known is handed in.

A lease is stale when no sandbox has its id in whatever state, it is older than a grace time, and nobody has its
address. Two scans must agree on it, down to the file's inode and time. Whatever is not certain keeps the lease.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Optional, Sequence, Set

from .detect import Cni
from .model import Judged, Lease, Network, Refusal, Scan

GRACE = 900.0  # seconds; Calico's leakGracePeriod
BETWEEN = 120.0  # seconds between the two scans
MAX_STALE = 90.0  # percent of a network's leases
#: Seconds into the future that a file's time may lie: file systems keep it coarser than the clock.
FUTURE = 5.0
#: Seconds by which the clock may move between two scans: time daemons slew.
SLEW = 2.0
#: Seconds that may lie between making a sandbox and starting its first process (the pause image is pulled in between).
START = 300.0


@dataclass(frozen=True)
class Limits:
    """What was asked for: seconds, seconds, percent."""

    grace: float = GRACE
    between: float = BETWEEN
    max_stale: float = MAX_STALE


@dataclass
class Plan:
    """What would be released, or why nothing is.

    Attributes:
        judged: every lease of the second scan.
        stale: those that both scans call stale; what a release moves.
        refusals: with any of them nothing is moved.
        not_checked: sentences about proofs that were not to be had.
    """

    judged: List[Judged] = field(default_factory=list)
    stale: List[Lease] = field(default_factory=list)
    refusals: List[Refusal] = field(default_factory=list)
    not_checked: List[str] = field(default_factory=list)

    def count(self, verdict: str) -> int:
        """Return how many leases have a verdict."""
        return sum(row.verdict == verdict for row in self.judged)


def judge(scan: Scan, grace: float) -> List[Judged]:
    """Return every lease of a scan with a verdict and why."""
    pods = set(scan.pods or ())
    return [_judge(lease, scan, pods, grace) for lease in scan.leases]


def _judge(lease: Lease, scan: Scan, pods: Set[str], grace: float) -> Judged:
    if not lease.id:
        return Judged(lease, "unclear", "what is in the file is not understood")
    sandbox = scan.sandboxes.get(lease.id)
    if sandbox is not None:
        pod = " %s/%s" % (sandbox.namespace, sandbox.name) if sandbox.name else ""
        return Judged(lease, "live", "held by the sandbox of%s" % (pod or " a pod"))
    if lease.ip in scan.used:
        return Judged(lease, "in-use", "no sandbox has its id, but %s has the address" % scan.used[lease.ip])
    if lease.ip in pods:
        return Judged(lease, "in-use", "no sandbox has its id, but a pod has the address in the API")
    made = lease.mtime_ns / 1e9
    age = scan.wall - made
    if made < scan.offset:
        return Judged(lease, "stale", "no sandbox has its id, and it is from before the node was started")
    if age < grace:
        return Judged(lease, "young", "no sandbox has its id, but it is only %s old" % duration(age))
    return Judged(lease, "stale", "no sandbox has its id, nobody has the address, %s old" % duration(age))


def duration(seconds: float) -> str:
    """Return a time span in words of one unit."""
    for name, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= 2 * size:
            return "%d %s" % (seconds / size, name)
    return "%d s" % seconds


def stale_of(judged: Sequence[Judged]) -> List[Lease]:
    """Return the leases that one scan calls stale."""
    return [row.lease for row in judged if row.verdict == "stale"]


def agreed(first: Sequence[Lease], second: Sequence[Lease]) -> List[Lease]:
    """Return what both scans call stale and is the same file with the same content in both."""
    earlier = set(first)
    return [lease for lease in second if lease in earlier]


def decide(
    networks: Sequence[Network],
    first: Optional[Scan],
    stale_before: Sequence[Lease],
    scan: Scan,
    limits: Limits,
) -> Plan:
    """Decide what is released.

    Args:
        networks: those whose leases were read.
        first: the earlier scan (its leases are not needed); None: this is the first one, and nothing is agreed on yet:
            ``stale`` is what this one scan says.
        stale_before: what the earlier scan called stale.
        scan: the scan just taken.
        limits: what was asked for.
    """
    plan = Plan(judge(scan, limits.grace))
    candidates = stale_of(plan.judged)
    plan.stale = candidates if first is None else agreed(stale_before, candidates)
    plan.refusals += clock_refusals(scan, first)
    plan.refusals += sandbox_refusals(scan)
    plan.refusals += share_refusals(networks, plan, limits.max_stale)
    if first is not None:
        plan.refusals += scan_refusals(first, scan, limits.between)
    if scan.pods is None:
        plan.not_checked.append("the pods' addresses in the API: no cluster was asked")
    if scan.skew is None:
        plan.not_checked.append("whether the clock was set since the newest sandbox was made")
    return plan


def sandbox_refusals(scan: Scan) -> List[Refusal]:
    """Refuse where the runtime names no sandbox at all: then every lease looks stale."""
    if scan.sandboxes or not scan.leases:
        return []
    kept = "the kubelet keeps %d pods" % scan.kubelet_pods if scan.kubelet_pods else "not even one of the host network"
    return [
        Refusal(
            "no-sandboxes",
            "the container runtime names no sandbox at all",
            "%s; with an empty list every lease would look stale" % kept,
            "see what it says: crictl pods",
        )
    ]


def share_refusals(networks: Sequence[Network], plan: Plan, most: float) -> List[Refusal]:
    """Refuse where too large a share of a network's leases looks stale."""
    found = []
    for network in networks:
        total = sum(row.lease.network == network.name for row in plan.judged)
        stale = sum(row.verdict == "stale" for row in plan.judged if row.lease.network == network.name)
        if total and 100.0 * stale / total > most:
            found.append(
                Refusal(
                    "too-many-stale",
                    "%d of the %d leases of %s look stale: %.1f %%, more than %g %%"
                    % (stale, total, network.name, 100.0 * stale / total, most),
                    "a runtime that does not name all of its sandboxes would look the same",
                    "compare the live ones with: crictl pods; if they are all there: --max-stale-percent 100",
                )
            )
    return found


def clock_refusals(scan: Scan, first: Optional[Scan]) -> List[Refusal]:
    """Refuse where ages cannot be trusted because the clock was set."""
    found = []
    ahead = [lease for lease in scan.leases if lease.mtime_ns / 1e9 > scan.wall + FUTURE]
    following = "see: timedatectl; once the clock is right, wait for the grace time"
    if ahead:
        late = max(lease.mtime_ns / 1e9 - scan.wall for lease in ahead)
        why = "%s of %s is dated %s ahead" % (ahead[0].ip, ahead[0].network, duration(late))
        found.append(Refusal("clock", "the clock was set back: leases are from the future", why, following))
    if first is not None and abs(scan.offset - first.offset) > SLEW:
        moved = duration(scan.offset - first.offset)
        found.append(Refusal("clock", "the clock was set by %s between the two scans" % moved, "", following))
    if scan.skew is not None and abs(scan.skew) > START:
        why = "the newest sandbox's process started %s away from when the runtime made it" % duration(scan.skew)
        found.append(
            Refusal(
                "clock",
                "the clock was set since the newest sandbox was made",
                why,
                following + "; a pod that is started after that shows it",
            )
        )
    return found


def scan_refusals(first: Scan, scan: Scan, between: float) -> List[Refusal]:
    """Refuse where the two scans are not two looks at one and the same boot, far enough apart."""
    if first.boot_id != scan.boot_id:
        return [Refusal("scans", "the node was started anew between the two scans", "", "run it again")]
    if scan.taken - first.taken < between - 0.5:
        apart = "%.1f s, not %g s" % (scan.taken - first.taken, between)
        return [Refusal("scans", "the two scans are too close to each other", apart, "run it again")]
    return []


def ipam_refusals(
    cni: Cni, networks: Sequence[Network], others: Sequence[str], where: Mapping[str, str]
) -> List[Refusal]:
    """Refuse where no address of this node is given out by host-local.

    Args:
        others: IPAM types of the configuration that keep no files here.
        where: IPAM type -> where its addresses are looked after.
    """
    if networks:
        return []
    if not cni.file:
        return [
            Refusal(
                "no-cni",
                "there is no CNI configuration in %s" % (cni.conf_dir or "any directory"),
                "which leases belong to this node's pods cannot be told without it",
                "see whether the CNI's agent runs on this node",
            )
        ]
    kind = ", ".join(others) or "none that is named"
    told = [where[name] for name in others if name in where]
    return [
        Refusal(
            "ipam",
            "%s gives out no addresses by files on the node" % cni.file,
            "its IPAM is %s" % kind,
            "its addresses are looked after by %s" % told[0] if told else "",
        )
    ]


def summary(
    networks: Sequence[Network], plan: Plan, capacities: Mapping[str, Mapping[str, object]]
) -> List[Dict[str, object]]:
    """Return a row for each network: how full it is, and how many leases have which verdict."""
    rows: List[Dict[str, object]] = []
    for network in networks:
        verdicts = [row.verdict for row in plan.judged if row.lease.network == network.name]
        row: Dict[str, object] = {"name": network.name, "directory": network.directory}
        row.update(capacities[network.name])
        for verdict in ("live", "stale", "young", "in-use", "unclear"):
            row[verdict.replace("-", "_")] = verdicts.count(verdict)
        rows.append(row)
    return rows
