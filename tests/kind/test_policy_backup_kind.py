"""Backups of policies against a real API server: many of them, what dies half-way, rights, rate limits, commands."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from policybed import (
    DENY,
    DNS,
    NETWORKING,
    PREFIX,
    WEB,
    Halting,
    backed_up,
    call,
    crd,
    deleted,
    green,
    make,
    namespaces,
    network_policy,
    noted,
    served,
    there,
    wait_for,
)

from tune_nodes.cli.main import run
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import ClusterError
from tune_nodes.policy.keeping import backup as backups
from tune_nodes.policy.keeping import copies, delete, restore
from tune_nodes.policy.keeping.backup import Backup
from tune_nodes.policy.keeping.journal import Journal
from tune_nodes.policy.keeping.order import wave
from tune_nodes.policy.pace import Pace

if TYPE_CHECKING:
    from kindbed.cluster import Cluster as Bed

pytestmark = pytest.mark.kind

#: Policies of the large test; the figures in docs/policy-backup.md are of 2000.
MANY = int(os.environ.get("TUNE_NODES_POLICIES", "300"))
EACH = 10  # in a namespace
CALICO = "crd.projectcalico.org"


@pytest.fixture
def cluster(kind_cluster: Bed) -> Iterator[Cluster]:
    with Cluster.open(kind_cluster.kubeconfig) as opened:
        yield opened


@pytest.fixture
def space(cluster: Cluster) -> Iterator[str]:
    """A namespace."""
    name = f"{PREFIX}-{os.getpid()}-{time.monotonic_ns() % 10**9}"
    with namespaces(cluster, [name]):
        yield name


# -- many, and what dies half-way --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fleet:
    """Policies in many namespaces, and their backup."""

    spaces: list[str]
    backup: Backup
    uids: dict[str, str]

    def now(self, cluster: Cluster) -> dict[str, str]:
        """Return the uids of those that are there, by ref; each once."""
        found = [(one.ref, one.uid) for one in backups.everywhere(cluster.api, self.backup.policies)]
        mine = [pair for pair in found if pair[0] in self.uids]
        assert len(mine) == len(dict(mine))
        return dict(mine)


@pytest.fixture(scope="module")
def fleet(kind_cluster: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Cluster.open(kind_cluster.kubeconfig) as cluster:
        names = [f"{PREFIX}-{os.getpid()}-{number}" for number in range(MANY // EACH)]

        def fill(name: str) -> None:
            specs = [DENY, DNS, *[{**WEB, "podSelector": {"matchLabels": {"app": f"a{n}"}}} for n in range(EACH - 2)]]
            make(cluster, *[network_policy(name, f"p{n}", spec, labels={"n": str(n)}) for n, spec in enumerate(specs)])

        with namespaces(cluster, names):
            Pace().over(names, fill)
            backup = backed_up(cluster, tmp_path_factory.mktemp("backups"), *names)
            assert len(backup.policies) == MANY
            yield Fleet(names, backup, {one.ref: one.uid for one in backup.policies})


@pytest.mark.timeout(300)
def test_many_are_backed_up_deleted_and_restored_in_order(fleet: Fleet, cluster: Cluster, tmp_path: Path) -> None:
    started, calls = time.monotonic(), cluster.api.sent.total()

    def figures(what: str) -> None:
        nonlocal started, calls
        spent, made = time.monotonic() - started, cluster.api.sent.total() - calls
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"{what}: {spent:.1f} s, {made} calls, {cluster.api.throttled} answers 429, {memory} MiB at most")
        started, calls = time.monotonic(), cluster.api.sent.total()

    backup = backed_up(cluster, tmp_path, *fleet.spaces)
    figures(f"backup of {MANY} policies in {len(fleet.spaces)} namespaces, read back")
    assert backups.rehearse(cluster, backup) == []
    figures("rehearsal")
    assert deleted(cluster, backup).counts == {"deleted": MANY}
    figures("delete")
    assert fleet.now(cluster) == {}
    seen: list[set[str]] = []

    def probe() -> str:
        now = fleet.now(cluster)
        seen.append({str(wave(one)) for one in backup.policies if one.ref in now})
        return ""

    found = restore.restore(cluster, backup, probe=probe)
    figures("restore")
    assert (found.ok, found.counts, found.equal, found.stopped) == (True, {"made": MANY}, MANY, "")
    assert [len(waves) for waves in seen] == [1, 2, 3]  # after each wave, nothing of a later one is there
    assert cluster.api.throttled == 0
    uids = fleet.now(cluster)
    again = restore.restore(cluster, backup, probe=probe)
    figures("restore of what is there")
    assert (again.ok, again.counts, len(seen)) == (True, {"there": MANY}, 3)
    assert fleet.now(cluster) == uids


CONTROLLER = """
import sys
from pathlib import Path
from tune_nodes import collection
collection.activate()
what, kubeconfig, directory, most, tests = sys.argv[1:]
sys.path.insert(0, tests)
from policybed import Halting, noted
from tune_nodes.cluster.client import Cluster
from tune_nodes.policy.keeping import delete, restore
from tune_nodes.policy.keeping.backup import Backup
from tune_nodes.policy.keeping.journal import Journal
backup = Backup.load(Path(directory))
event = {"delete": "deleted", "restore": "restored"}[what]
before = noted(backup, event)
pace = Halting(lambda: noted(backup, event) - before > int(most))
with Cluster.open(Path(kubeconfig)) as cluster:
    if what == "delete":
        with Journal(backup.directory) as journal:
            delete.delete(cluster, backup, list(backup.by_ref), journal=journal, pace=pace)
    else:
        restore.restore(cluster, backup, probe=None, pace=pace)
"""


def killed_after(kind_cluster: Bed, backup: Backup, what: str, event: str, most: int) -> None:
    """Run a controller and kill it when its journal has so many lines; it stops by itself somewhat later."""
    before = noted(backup, event)
    tests = str(Path(__file__).parent)
    words = [sys.executable, "-c", CONTROLLER, what, str(kind_cluster.kubeconfig), str(backup.directory)]
    words += [str(2 * most), tests]
    with subprocess.Popen(words) as process:
        wait_for(f"{most} {event}", lambda: noted(backup, event) - before >= most or process.poll() is not None)
        process.kill()
    assert process.returncode == -signal.SIGKILL


def control_plane(kind_cluster: Bed) -> str:
    return next(name for name in kind_cluster.nodes if name.endswith("control-plane"))


class Work:
    """Something done in a thread; ``problem``: what it raised."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self.problem: ClusterError | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except ClusterError as problem:
            self.problem = problem


def ready(kind_cluster: Bed) -> bool:
    """Say whether the server answers, and has read its roles."""
    try:
        with Cluster.open(kind_cluster.kubeconfig, timeout=2) as cluster:
            cluster.api.get(Call("get", "namespaces", name="kube-system"))
            return True
    except ClusterError:
        return False


@pytest.mark.timeout(300)
def test_what_dies_half_way_is_finished_by_the_next_run(fleet: Fleet, kind_cluster: Bed, cluster: Cluster) -> None:
    half, directory = len(fleet.spaces) // 2, fleet.backup.directory.parent
    going, coming = (backed_up(cluster, directory, *some) for some in (fleet.spaces[:half], fleet.spaces[half:]))
    some = min(len(going.policies), len(coming.policies)) // 4

    def now(backup: Backup) -> dict[str, str]:
        refs = {one.ref for one in backup.policies}
        return {ref: uid for ref, uid in fleet.now(cluster).items() if ref in refs}

    # The controller is killed in the middle of a delete.
    killed_after(kind_cluster, coming, "delete", "deleted", some)
    assert some < len(now(coming)) < len(coming.policies)
    found = deleted(cluster, coming)
    assert found.left == ()
    assert found.counts["gone"] >= some
    assert now(coming) == {}

    # The server is killed in the middle of a delete and of a restore, which go on side by side.
    before = noted(coming, "restored")
    progress = (lambda: noted(going, "deleted")), (lambda: noted(coming, "restored") - before)
    # Here nobody waits for the server; and neither is to end before the other has begun, or the server has died.
    paces = [Halting(lambda far=far: far() > 2 * some, retries=(0.1,)) for far in progress]
    one = Work(lambda: deleted(cluster, going, pace=paces[0]))
    other = Work(lambda: restore.restore(cluster, coming, probe=green, pace=paces[1]))
    wait_for("both are under way", lambda: min(far() for far in progress) > some)
    kind_cluster.exec(control_plane(kind_cluster), "pkill", "-KILL", "-x", "kube-apiserver")
    for pace, work in zip(paces, (one, other), strict=True):
        pace.go.set()
        work.thread.join(60)
        assert work.problem is not None
        assert work.problem.code in ("unreachable", "server", "forbidden")
    # A kubelet that has seen this container die before waits minutes; a new one does not.
    kind_cluster.exec(control_plane(kind_cluster), "systemctl", "restart", "kubelet")
    wait_for("the server is back", lambda: ready(kind_cluster), 120)
    first = now(coming)
    assert some < len(first) < len(coming.policies)
    found = deleted(cluster, going)
    assert (found.left, now(going)) == ((), {})
    end = restore.restore(cluster, coming, probe=green)
    assert (end.ok, end.equal) == (True, len(coming.policies))
    assert end.counts == {"there": len(first), "made": len(coming.policies) - len(first)}
    assert now(coming).items() >= first.items(), "what a dead run made is neither lost nor made twice"

    # The controller is killed in the middle of a restore.
    killed_after(kind_cluster, going, "restore", "restored", some)
    first = now(going)
    assert some <= len(first) < len(going.policies)
    assert restore.restore(cluster, going, probe=green).counts["there"] == len(first)
    assert now(going).items() >= first.items()
    assert set(fleet.now(cluster)) == set(fleet.uids)
    kind_cluster.wait_ready()  # what lost its lease meanwhile starts anew


# -- rights ------------------------------------------------------------------------------------------------------------


def account(kind_cluster: Bed, space: str, name: str, directory: Path, rules: list[dict[str, Any]]) -> Path:
    """Make an account with some rights in a namespace; return its kubeconfig."""
    subject = {"kind": "ServiceAccount", "name": name, "namespace": space}
    metadata = {"name": name, "namespace": space}
    rbac = "rbac.authorization.k8s.io"
    documents = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [subject],
        },
    ]
    kind_cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(documents))
    token = kind_cluster.kubectl("-n", space, "create", "token", name).strip()
    document = yaml.safe_load(kind_cluster.kubeconfig.read_text(encoding="utf-8"))
    document["users"][0]["user"] = {"token": token}
    path = directory / f"kubeconfig-{name}"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


ALL = ["get", "list", "create", "patch", "delete"]


def test_a_missing_right_for_one_kind_is_refused_before_the_first_write(
    kind_cluster: Bed, cluster: Cluster, space: str, tmp_path: Path
) -> None:
    make(cluster, network_policy(space, "deny", DENY))
    with served(kind_cluster, crd(CALICO, "networksets", "NetworkSet", "Namespaced")):
        body = {"apiVersion": f"{CALICO}/v1", "kind": "NetworkSet", "metadata": {"name": "set", "namespace": space}}
        cluster.api.post(Call("create", "networksets", CALICO, space, version="v1"), {**body, "spec": {"nets": []}})
        backup = backed_up(cluster, tmp_path, space)
        assert [(one.ref, wave(one).name) for one in backup.policies] == [
            (f"NetworkSet.{CALICO} {space}/set", "SETS"),
            (f"NetworkPolicy {space}/deny", "DENIES"),
        ]
        rules = [
            {"apiGroups": [NETWORKING], "resources": ["networkpolicies"], "verbs": ALL},
            {"apiGroups": [CALICO], "resources": ["networksets"], "verbs": ["get", "list", "create", "patch"]},
        ]
        path = account(kind_cluster, space, "limited", tmp_path, rules)
        with Cluster.open(path) as limited:
            with pytest.raises(ClusterError) as caught:
                deleted(limited, backup)
            assert limited.api.sent["DELETE"] == 0
        user = f"system:serviceaccount:{space}:limited"
        assert caught.value.what == f"{user} may not delete networksets.{CALICO} in the namespace {space}"
        assert caught.value.code == "forbidden"
        assert "rbac recover" in caught.value.next
        assert len(there(cluster, space)) == 2
        assert deleted(cluster, backup).counts == {"deleted": 2}
        rules[1]["verbs"] = ["get", "list"]
        path = account(kind_cluster, space, "reader", tmp_path, rules)
        with Cluster.open(path) as reader, pytest.raises(ClusterError) as caught:
            restore.restore(reader, backup, probe=green)
        assert "may not create, delete networksets" in caught.value.what
        assert there(cluster, space) == []
        assert restore.restore(cluster, backup, probe=green).ok


def burst(cluster: Cluster, backup: Backup) -> None:
    """Ask for many things at once."""
    Pace(16).over(backup.policies, lambda one: cluster.api.get(call("get", one.namespace, one.name)))


def test_no_more_is_sent_than_the_server_takes(kind_cluster: Bed, cluster: Cluster, space: str, tmp_path: Path) -> None:
    """A priority level that takes one call at a time and refuses the rest: real answers 429, real Retry-After."""
    make(cluster, *[network_policy(space, f"p{number}", DENY) for number in range(24)])
    backup = backed_up(cluster, tmp_path, space)
    rules = [{"apiGroups": [NETWORKING], "resources": ["networkpolicies"], "verbs": ALL}]
    path = account(kind_cluster, space, "slow", tmp_path, rules)
    flow, name = "flowcontrol.apiserver.k8s.io", f"{space}-slow"
    subject = {"kind": "ServiceAccount", "serviceAccount": {"name": "slow", "namespace": space}}
    rule = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": True}
    limited = {"nominalConcurrencyShares": 1, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"}}
    level = {
        "apiVersion": f"{flow}/v1",
        "kind": "PriorityLevelConfiguration",
        "metadata": {"name": name},
        "spec": {"type": "Limited", "limited": limited},
    }
    schema = {
        "apiVersion": f"{flow}/v1",
        "kind": "FlowSchema",
        "metadata": {"name": name},
        "spec": {
            "priorityLevelConfiguration": {"name": name},
            "matchingPrecedence": 50,
            "rules": [{"subjects": [subject], "resourceRules": [rule]}],
        },
    }
    with Cluster.open(path) as slow:
        kind_cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all([level, schema]))
        try:
            pace = Pace(16)
            wait_for("the level is in force", lambda: burst(slow, backup) or slow.api.throttled)
            with Journal(backup.directory) as journal:
                found = delete.delete(slow, backup, list(backup.by_ref), journal=journal, pace=pace)
        finally:
            kind_cluster.kubectl("delete", "-f", "-", input=yaml.safe_dump_all([schema, level]))
    print(f"{found.throttled} answers 429 of {found.calls}, {found.seconds:.1f} s, width {pace.width}")
    assert found.counts == {"deleted": 24}
    assert found.throttled < 40  # a storm would be thousands


def test_only_what_was_backed_up_is_deleted(cluster: Cluster, space: str, tmp_path: Path) -> None:
    make(cluster, *[network_policy(space, name, DENY) for name in ("noted", "changed", "another", "same")])
    backup = backed_up(cluster, tmp_path, space)
    cluster.api.patch(call("patch", space, "noted"), {"metadata": {"labels": {"x": "y"}}})
    cluster.api.patch(call("patch", space, "noted"), {"metadata": {"labels": None}})  # as it was, but for its version
    cluster.api.patch(call("patch", space, "changed"), {"spec": {"policyTypes": ["Ingress"]}})
    cluster.api.delete(call("delete", space, "another"))
    make(cluster, network_policy(space, "another", DENY))
    found = deleted(cluster, backup)
    assert {one.ref.rpartition("/")[2]: one.state for one in found.outcomes} == {
        "noted": "deleted",
        "changed": "changed",
        "another": "another",
        "same": "deleted",
    }
    assert next(one.text for one in found.left if one.state == "changed").startswith("it was changed since the backup")
    assert sorted(one.name for one in there(cluster, space)) == ["another", "changed"]
    again = deleted(cluster, backup)
    assert again.counts == {"gone": 2, "changed": 1, "another": 1}


def test_the_commands(
    kind_cluster: Bed,
    cluster: Cluster,
    space: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TUNE_NODES_STATE_DIR", str(tmp_path / "here"))
    monkeypatch.setenv("KUBECONFIG", str(kind_cluster.kubeconfig))

    def typed(code: int, *words: str) -> str:
        assert run(["policy", *words]) == code
        said = capsys.readouterr()
        return " ".join((said.out + said.err).split())

    make(cluster, network_policy(space, "deny", DENY), network_policy(space, "dns", DNS, labels={"app": "dns"}))
    said = typed(0, "backup", "-n", space, "--as-secrets", space, "--to", str(tmp_path / "usb"))
    assert f"2 policies of the namespace {space}" in said
    assert "each could be made again" in said
    (row,) = json.loads(typed(0, "backups", "-o", "json"))
    assert (row["policies"], row["state"]) == (2, "whole")
    assert "1 policies" in typed(0, "backup", "-n", space, "-l", "app=dns")
    cluster.api.delete(call("delete", space, "deny"))
    assert "1 to be made, 1 there and equal" in typed(0, "restore", row["id"], "--dry-run")
    assert "add --yes" in typed(5, "restore", row["id"])
    assert len(there(cluster, space)) == 1
    assert "2 of 2 are there and equal" in typed(0, "restore", row["id"], "--yes")
    cluster.api.patch(call("patch", space, "dns"), {"metadata": {"labels": {"app": "other"}}})
    monkeypatch.setenv("TUNE_NODES_STATE_DIR", str(tmp_path / "elsewhere"))
    said = typed(1, "restore", row["id"], "--from-secrets", space, "--yes")
    assert f"conflict: NetworkPolicy {space}/dns: it was changed: labels.app" in said
    assert "1 replaced, 1 there" in typed(0, "restore", str(tmp_path / "usb" / row["id"]), "--force", "--yes")


def test_a_rehearsal_runs_the_rules_for_making(kind_cluster: Bed, cluster: Cluster, space: str, tmp_path: Path) -> None:
    """An apply of what exists would pass this: it is an update, and the rule is about creations."""
    make(cluster, network_policy(space, "deny", DENY))
    backup = backed_up(cluster, tmp_path, space)
    match = {
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": [NETWORKING],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": ["networkpolicies"],
                }
            ],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space}},
        },
        "validations": [{"expression": "false", "message": "no new policies on Fridays"}],
    }
    rules = "admissionregistration.k8s.io/v1"
    documents = [
        {"apiVersion": rules, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": space}, "spec": match},
        {
            "apiVersion": rules,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": space},
            "spec": {"policyName": space, "validationActions": ["Deny"]},
        },
    ]
    assert backups.rehearse(cluster, backup) == []
    kind_cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(documents))
    try:
        (said,) = wait_for("the rule is in force", lambda: backups.rehearse(cluster, backup), 30)
    finally:
        kind_cluster.kubectl("delete", "-f", "-", input=yaml.safe_dump_all(documents))
    assert said.startswith(f"NetworkPolicy {space}/deny: ")
    assert "no new policies on Fridays" in said


def test_a_copy_in_secrets_is_a_backup_again(cluster: Cluster, space: str, tmp_path: Path) -> None:
    make(cluster, network_policy(space, "deny", DENY), network_policy(space, "dns", DNS))
    backup = backed_up(cluster, tmp_path / "here", space)
    names = copies.to_secrets(cluster, backup, space)
    assert copies.to_secrets(cluster, backup, space) == names
    fetched = copies.from_secrets(cluster, space, backup.id, tmp_path / "there")
    assert (fetched.policies, fetched.manifest) == (backup.policies, backup.manifest)
    deleted(cluster, backup)
    assert restore.restore(cluster, fetched, probe=green).equal == 2
