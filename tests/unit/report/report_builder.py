"""Build the constructed runs under tests/fixtures/runs (``python tests/unit/report/report_builder.py``)."""

from __future__ import annotations

from pathlib import Path

from report_parts import at, changes, host, in_cluster, lease, node, pods, probes, run

from tune_nodes.runs.models import ClusterRecord, ErrorRecord, NodeRecord, Outcome, RunRecord, WaveRecord
from tune_nodes.runs.report import render_json

FIXTURES = Path(__file__).parents[2] / "fixtures" / "runs"


def small() -> RunRecord:
    """Three nodes, canary first, all changed."""
    nodes = [node(f"n{number}", Outcome.CHANGED, min(number, 2), number) for number in (1, 2, 3)]
    waves = [
        WaveRecord(
            number=1,
            canary=True,
            nodes=["n1"],
            started=at(2),
            finished=at(5.2),
            gate="passed",
            gate_detail="1 of 1 confirmed, 5 of 5 probes passed",
        ),
        WaveRecord(
            number=2,
            nodes=["n2", "n3"],
            started=at(8.3),
            finished=at(11.9),
            gate="passed",
            gate_detail="2 of 2 confirmed, 10 of 10 probes passed",
        ),
    ]
    return run(
        "a1b2c3",
        nodes,
        waves=waves,
        finished=at(12.4),
        inventory=["lab"],
        options={"canary": 1, "serial": "100%", "soak": 3, "window": 120},
    )


def canary() -> RunRecord:
    """Sixty nodes, the canary reverted, everything after it left."""
    lost = ErrorRecord(
        what="worker-001 lost its peers after the change and was put back as it was",
        why="probes that passed before failed after it: peer:10.77.0.3, peer:10.77.0.4 (1500 bytes with DF set)",
        next="tune-nodes show 20261124-081530-c0ffee",
        code="reverted",
    )
    nodes = [
        node(
            "worker-001",
            Outcome.REVERTED,
            1,
            1,
            error=lost,
            probes_after=probes(1, "peer"),
            timings={"plan": 0.2, "apply": 0.4, "probe": 60.3, "revert": 0.4},
        ),
        *(
            node(
                f"worker-{number:03d}", Outcome.SKIPPED, 2 + (number - 2) // 15, number, changes=changes("pending")[:4]
            )
            for number in range(2, 58)
        ),
        *(
            node(f"control-{number}", Outcome.SKIPPED, 5 + number, 60 + number, host=host("control-plane"))
            for number in (1, 2, 3)
        ),
    ]
    waves = [
        WaveRecord(
            number=1,
            canary=True,
            nodes=["worker-001"],
            started=at(6),
            finished=at(67.4),
            gate="failed",
            gate_detail="1 of 1 reverted; any failure in the canary stops the run",
        )
    ]
    for number in range(2, 9):
        waves.append(WaveRecord(number=number, nodes=[one.name for one in nodes if one.wave == number]))
    return run(
        "c0ffee",
        nodes,
        waves=waves,
        finished=at(68.1),
        exit_code=3,
        stopped="worker-001 lost its peers after the change and was reverted",
    )


def mixed() -> RunRecord:
    """Twenty-four nodes with every outcome of an apply."""
    nodes: list[NodeRecord] = []
    for number in range(1, 18):
        wave = 1 if number == 1 else 2 if number < 10 else 3
        made = node(f"worker-{number:02d}", Outcome.CHANGED if number % 5 else Outcome.OK, wave, number)
        if number in (6, 7, 8):
            made.host["cpus"] = 16
            made.changes = changes(queues="16")
        nodes.append(made)
    nodes[3].warnings = ["/etc/sysctl.d/99-local.conf sets net.core.somaxconn = 4096 and is read after ours"]
    nodes += [
        node(
            "worker-18",
            Outcome.REVERTED,
            3,
            18,
            probes_after=probes(2, "gateway dns"),
            error=ErrorRecord(
                what="worker-18 did not confirm in time and was put back as it was",
                why="the gateway did not answer after the change",
                next="look at the switch port, then run again with --limit worker-18",
                code="reverted",
            ),
        ),
        node(
            "worker-19",
            Outcome.UNREACHABLE,
            3,
            19,
            host={},
            error=ErrorRecord(
                what="worker-19 could not be reached",
                why="ssh: connect to host 10.77.0.21 port 22: Connection timed out",
                next="ssh operator@10.77.0.21",
                code="unreachable",
            ),
        ),
        node(
            "worker-20",
            Outcome.FAILED,
            3,
            20,
            changes=changes("failed")[:1] + changes()[1:],
            error=ErrorRecord(
                what="net.core.rmem_max was written but does not hold its value",
                why="read back 212992 after 16777216 was written",
                next="tune-nodes diagnose worker-20",
                code="failed",
                data={"key": "net.core.rmem_max"},
            ),
        ),
        node(
            "worker-21",
            Outcome.REFUSED,
            3,
            21,
            error=ErrorRecord(
                what="worker-21 is busy with another run",
                why="transaction tx-9917 is ARMED for 84 s more",
                next="tune-nodes show 20261124-081102-77aa01",
                code="busy",
            ),
        ),
        node("worker-22", Outcome.QUARANTINED, None, 22),
        node("worker-23", Outcome.SKIPPED, 4, 23),
        node("control-1", Outcome.SKIPPED, 5, 24, host=host("control-plane", 4)),
    ]
    by_wave = {number: [one.name for one in nodes if one.wave == number] for number in range(1, 6)}
    waves = [
        WaveRecord(
            number=1,
            canary=True,
            nodes=by_wave[1],
            started=at(5),
            finished=at(8.1),
            gate="passed",
            gate_detail="1 of 1 confirmed",
        ),
        WaveRecord(
            number=2,
            nodes=by_wave[2],
            started=at(18.2),
            finished=at(23.6),
            gate="passed",
            gate_detail="8 of 8 confirmed or already right",
        ),
        WaveRecord(
            number=3,
            nodes=by_wave[3],
            started=at(33.8),
            finished=at(158.9),
            gate="failed",
            gate_detail="3 of 12 failed (25 %); at most 5 % may",
        ),
        WaveRecord(number=4, nodes=by_wave[4], gate="skipped"),
        WaveRecord(number=5, nodes=by_wave[5], gate="skipped"),
    ]
    return run(
        "d15ea5", nodes, waves=waves, finished=at(160.2), exit_code=3, stopped="3 of 12 nodes failed, at most 5 % may"
    )


def large(size: int, wave: int = 250) -> RunRecord:
    """A fleet of ``size`` nodes in waves, with three kinds of machine and a few in trouble."""
    nodes = []
    for number in range(size):
        outcome = {17: Outcome.REVERTED, 1203: Outcome.UNREACHABLE}.get(number % 2400, Outcome.CHANGED)
        made = node(f"node-{number:05d}", outcome, number // wave + 1, number)
        if number % 10 == 3 and outcome is Outcome.CHANGED:
            made.changes = changes(queues="32")
        # Sized from memory by the kernel: nearly every machine has another value.
        made.changes = [
            c.model_copy(update={"before": str(1037000 + number), "want": str(1037000 + number)})
            if c.key == "fs.inotify.max_user_watches"
            else c
            for c in made.changes
        ]
        nodes.append(made)
    waves = [
        WaveRecord(
            number=number + 1,
            canary=number == 0,
            nodes=[one.name for one in nodes[number * wave : (number + 1) * wave]],
            started=at(5 + 40 * number),
            finished=at(35 + 40 * number),
            gate="passed",
            gate_detail="all confirmed",
        )
        for number in range((size + wave - 1) // wave)
    ]
    return run("5ca1e5", nodes, waves=waves, finished=at(40 + 40 * len(waves)), exit_code=3)


def drift() -> RunRecord:
    """Three nodes looked at, one of them changed by hand."""
    nodes = [node(f"n{number}", Outcome.OK, None, number, probes_before=[]) for number in (1, 3)]
    moved = [
        one.model_copy(update={"status": "pending", "before": "4096"}) if one.key == "net.core.somaxconn" else one
        for one in nodes[0].changes
    ]
    nodes.append(node("n2", Outcome.PENDING, None, 2, changes=moved))
    return run("0ddba1", nodes, verb="drift", finished=at(1.8), inventory=["lab"], options={})


def in_a_cluster() -> RunRecord:
    """Five nodes of a cluster, drained: one is unwell after its change, one is refused; pods keep values of theirs."""
    nodes = [
        node(
            f"worker-{number}",
            Outcome.CHANGED,
            min(number, 2),
            number,
            probes_after=[*probes(number), lease(2.5 * number)],
            cluster=in_cluster(f"worker-{number}", evicted=number + 3, lease_seconds=2.5 * number),
            pods=pods(number, "shop/cart-7c5f"),
        )
        for number in (1, 2, 3)
    ]
    assert nodes[2].cluster is not None
    nodes[2].cluster.unwell = "not ready any more on the Node worker-3: kube-flannel/kube-flannel-ds (CrashLoopBackOff)"
    nodes.append(
        node(
            "worker-4",
            Outcome.REFUSED,
            None,
            4,
            cluster=in_cluster("worker-4", ready=False, cordoned="foreign"),
            error=ErrorRecord(
                what="the Node worker-4 is not ready: Unknown, NodeStatusUnknown: Kubelet stopped posting node status.",
                why="a node that is not well is not changed: nobody could tell what the change does to it",
                next="get it Ready first (see: kubectl describe node), or go on without the cluster: --cluster off",
                code="not-ready",
            ),
        )
    )
    control = host("control-plane", 4)
    known = in_cluster(
        "control-1", roles=["control-plane"], taints=["node-role.kubernetes.io/control-plane:NoSchedule"]
    )
    nodes.append(node("control-1", Outcome.SKIPPED, 3, 5, host=control, cluster=known))
    said = "1 of 3 attempted nodes failed (33 %), the limit is 5 %: worker-3"
    waves = [
        WaveRecord(number=1, canary=True, nodes=["worker-1"], started=at(6), finished=at(31.4), gate="passed"),
        WaveRecord(
            number=2,
            nodes=["worker-2", "worker-3"],
            started=at(31.6),
            finished=at(98.2),
            gate="failed",
            gate_detail=f"{said} ({nodes[2].unwell})",
        ),
        WaveRecord(number=3, nodes=["control-1"], gate="skipped"),
    ]
    return run(
        "c105e7",
        nodes,
        waves=waves,
        finished=at(99),
        exit_code=1,
        stopped=f"wave 2: {said} ({nodes[2].unwell})",
        options={"canary": 1, "serial": "2", "window": 120, "drain": True, "drain_timeout": 300},
        cluster=ClusterRecord(
            used=True,
            server="https://192.0.2.10:6443",
            context="prod",
            version="v1.34.4",
            cni=["flannel v0.28.10"],
            not_checked=["bastion: no Node object has this name or has the address 10.77.0.40"],
        ),
    )


def without_cluster() -> RunRecord:
    """Two nodes; the cluster refused the token, so that the run went on without it."""
    nodes = [node(f"n{number}", Outcome.CHANGED, 1, number) for number in (1, 2)]
    return run(
        "70ce17",
        nodes,
        waves=[WaveRecord(number=1, nodes=["n1", "n2"], started=at(2), finished=at(5), gate="passed")],
        finished=at(5.5),
        cluster=ClusterRecord(
            used=False,
            problem="unauthorized",
            not_checked=[
                (
                    "Node conditions, Leases, kube-proxy and the CNI's agents, labels: the token of the context prod"
                    " was refused: it has expired or was revoked, or is for another cluster"
                )
            ],
        ),
    )


GOLDEN = {
    "small-ok": small,
    "canary-reverted-60": canary,
    "mixed-24": mixed,
    "drift-3": drift,
    "in-cluster-5": in_a_cluster,
    "no-cluster-2": without_cluster,
}


def main() -> None:
    """Write every golden run."""
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for name, build in GOLDEN.items():
        (FIXTURES / f"{name}.json").write_text(render_json(build()), encoding="utf-8")


if __name__ == "__main__":
    main()
