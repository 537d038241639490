"""Parts of the constructed runs: changes, probes, nodes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from report_settings import KERNEL, SYSCTLS

from tune_nodes.runs.models import (
    ChangeRecord,
    NodeInCluster,
    NodeRecord,
    Outcome,
    PodRecord,
    PodValue,
    ProbeRecord,
    RunRecord,
    Transaction,
)

START = datetime(2026, 11, 24, 8, 15, 30, tzinfo=UTC)


def change(key: str, before: str | None, want: str | None, **more: Any) -> ChangeRecord:
    """Return a sysctl change."""
    return ChangeRecord(**{"family": "sysctl", "key": key, "before": before, "want": want, **more})


def changes(status: str = "changed", queues: str = "8") -> list[ChangeRecord]:
    """Return the changes of one node: those of SYSCTLS, queues, some already right, some left alone."""
    after = {"changed": "want", "reverted": "before"}.get(status)
    found = [
        change(
            key,
            before,
            want,
            status=status,
            requested=wish,
            scope=scope,
            reason=reason,
            source=source,
            after={"want": want, "before": before}.get(after or ""),
        )
        for key, before, want, wish, scope, reason, source in SYSCTLS
    ]
    channels = {"before": "combined=2", "want": f"combined={queues}"}
    found.append(
        ChangeRecord(
            family="nic_queues",
            key="eth0/channels",
            status=status,
            requested="auto",
            disruptive=True,
            scope="host",
            before=channels["before"],
            want=channels["want"],
            after=channels.get(after or ""),
            reason=f"One queue per CPU of the NIC's NUMA node: {queues} CPUs.",
            source=KERNEL + "scaling.html",
        )
    )
    found += [
        change(
            "kernel.pid_max",
            "4194304",
            "4194304",
            status="ok",
            requested="floor 4194304",
            scope="host",
            reason="More containers than the default of small machines allows.",
            source="kubespray defaults",
        ),
        change(
            "fs.inotify.max_user_watches",
            "1037532",
            "1037532",
            status="ok",
            requested="floor 524288",
            scope="host",
            reason="The kernel sizes it from memory since 5.11; a floor never lowers that.",
            source="https://github.com/kubernetes-sigs/kubespray/issues/13209",
        ),
        change(
            "net.netfilter.nf_conntrack_max",
            "262144",
            "1048576",
            status="owned",
            requested="floor 1048576",
            owner="kube-proxy",
            scope="host",
            note="kube-proxy sets it at each start. To keep a value of your own set conntrack.maxPerCore: 0 in its"
            " configuration, or say take: true in the profile.",
            source="https://github.com/kubernetes/kubernetes/pull/142035",
        ),
        change(
            "net.ipv4.conf.all.rp_filter",
            "0",
            "1",
            status="owned",
            requested="exact 1",
            owner="Cilium",
            note="The CNI needs its own value on the interfaces it makes.",
            source="https://github.com/cilium/cilium/issues/10645",
        ),
        change(
            "net.bridge.bridge-nf-call-iptables",
            None,
            "1",
            status="unsupported",
            requested="exact 1",
            note="Module br_netfilter is not loaded; applied as soon as it is.",
            source="https://github.com/NixOS/nixpkgs/issues/44541",
        ),
    ]
    return found


def host(role: str = "worker", cpus: int = 8) -> dict[str, Any]:
    """Return facts as a node tells them."""
    return {
        "hostname": "",
        "machine_id": "8f1c2d7a5e0b4c6f9a3d1e2b4c5d6f70",
        "boot_id": "5b0e7c1e-6a3f-4d3e-9c52-7d1f0a9b8c7d",
        "kernel": "6.1.0-28-cloud-amd64",
        "os_id": "debian",
        "os_name": "Debian GNU/Linux 12 (bookworm)",
        "python": "/usr/bin/python3",
        "init": "systemd",
        "initial_netns": True,
        "cpus": cpus,
        "memory_mib": 32096,
        "roles": [role],
        "processes": ["containerd", "kubelet", "sshd"],
    }


def probes(at: int, broken: str = "") -> list[ProbeRecord]:
    """Return five checks; those whose kind is ``broken`` failed."""
    rows = [
        ("ssh", "ssh", "", "new connection", 38.0),
        ("gateway", "gateway", "10.77.0.1", "answered", 0.4),
        ("peer:10.77.0.3", "peer", "10.77.0.3", "1500 bytes, DF, both ways", 0.7),
        ("peer:10.77.0.4", "peer", "10.77.0.4", "1500 bytes, DF, both ways", 0.6),
        ("dns:kubernetes.default", "dns", "kubernetes.default", "10.96.0.1", 2.3),
    ]
    found = []
    for name, kind, target, detail, ms in rows:
        ok = kind not in broken.split()
        told = detail if ok else "no answer in 5 s: 1500 bytes with DF set are lost, 1400 pass"
        found.append(
            ProbeRecord(
                id=name,
                kind=kind,
                target=target,
                ok=ok,
                detail=told,
                ms=round(ms * (1 + at % 7 / 10), 2) if ok else None,
            )
        )
    return found


def lease(seconds: float) -> ProbeRecord:
    """Return the wait for a node's Lease."""
    return ProbeRecord(id="lease", kind="lease", ok=True, detail=f"renewed {seconds:.0f} s after it", ms=seconds * 1000)


def in_cluster(name: str, **more: Any) -> NodeInCluster:
    """Return a node as its cluster knows it."""
    labels = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": "a"}
    fields = {"ready": True, "kubelet": "v1.34.4", "runtime": "containerd://1.6.20", "labels": labels}
    return NodeInCluster(**{"name": name, "cordoned": "ours" if "evicted" in more else "", **fields, **more})


def pods(at: int, name: str) -> list[PodRecord]:
    """Return what one pod of a node has of the node's values."""
    safe = "set it in the pod's securityContext.sysctls (a safe sysctl since Kubernetes 1.32)"
    values = [
        PodValue(
            key="net.ipv4.tcp_rmem",
            node="4096 131072 16777216",
            pod="4096 131072 6291456",
            reach="default",
            note=f"every pod starts at the kernel's default: {safe}",
        ),
        PodValue(key="net.core.somaxconn", node="16384", pod="4096", reach="inherited", note="a newer pod has it"),
    ]
    return [PodRecord(uid=f"fa355f08-940a-4c2d-b23d-{at:012d}", name=f"{name}-{at}", values=values[: 1 + at % 2])]


def node(name: str, outcome: Outcome, wave: int | None, at: int = 0, **more: Any) -> NodeRecord:
    """Return one node's part of a run."""
    fields: dict[str, Any] = {
        "name": name,
        "outcome": outcome,
        "wave": wave,
        "address": f"10.77.{at // 250}.{at % 250 + 2}",
        "host": {**host(), "hostname": name},
        "plan_hash": f"sha256:{at:064x}",
    }
    if outcome in (Outcome.CHANGED, Outcome.REVERTED, Outcome.OK):
        took = {"plan": 0.21, "apply": 0.34, "probe": 0.9, "confirm": 0.28}
        fields["timings"] = {step: round(value * (1 + at % 9 / 12), 3) for step, value in took.items()}
        fields["probes_before"] = probes(at)
        fields["probes_after"] = probes(at + 3)
        fields["changes"] = changes("reverted" if outcome is Outcome.REVERTED else "changed")
        state = "REVERTED" if outcome is Outcome.REVERTED else "DONE"
        fields["tx"] = Transaction(id=f"tx-{at:04d}", state=state, reverter="systemd", window=120)
        fields["started"] = START + timedelta(seconds=4)
    if outcome is Outcome.OK:
        fields["changes"] = [
            one.model_copy(update={"status": "ok", "before": one.want, "after": None})
            if one.status == "changed"
            else one
            for one in changes()
        ]
        del fields["tx"], fields["probes_after"]
    if outcome in (Outcome.PENDING, Outcome.SKIPPED):
        fields["changes"] = changes("pending")
        fields["timings"] = {"plan": 0.2}
    return NodeRecord(**{**fields, **more})


def run(suffix: str, nodes: list[NodeRecord], **more: Any) -> RunRecord:
    """Return a run of these nodes."""
    fields: dict[str, Any] = {
        "id": f"20261124-081530-{suffix}",
        "verb": "apply",
        "version": "0.1.0",
        "profile": "kubernetes-node",
        "inventory": ["inventories/prod"],
        "user": "operator",
        "started": START,
        "exit_code": 0,
        "options": {"canary": 1, "serial": "25%", "fail_percent": 5, "soak": 10, "window": 120},
        "nodes": {one.name: one for one in nodes},
    }
    return RunRecord(**{**fields, **more})


def at(seconds: float) -> datetime:
    """Return a moment of the run."""
    return START + timedelta(seconds=seconds)
