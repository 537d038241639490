"""Stale leases on a real node: released exactly, without a lost packet, brought back byte for byte, or not touched.

What is counted is read by ls, stat, kubectl and ping on the node, never by the code under test.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import foreign
import idlepods
import pytest
from clusterworks import wait_for

from commandline import PROGRAM, Done, env_of, finished

if TYPE_CHECKING:
    from kindbed.cluster import Cluster

pytestmark = pytest.mark.kind

NAMESPACE = "cni-leases"
LEASES = "/var/lib/cni/networks/cbr0"
OURS = "/var/lib/tune-nodes"

# Lays leases of sandboxes that never were, some with the attachment and the flannel plugin's file that a real one has.
LAY = """
import ipaddress, json, os, re, secrets, sys, time
count, attached = int(sys.argv[1]), int(sys.argv[2])
base, leases = "/var/lib/cni", "/var/lib/cni/networks/cbr0"
subnet = re.search("FLANNEL_SUBNET=(.*)", open("/run/flannel/subnet.env").read()).group(1)
free = [str(a) for a in list(ipaddress.ip_interface(subnet).network.hosts())[1:]]
free = [ip for ip in free if not os.path.exists(leases + "/" + ip)][:count or None]
caches = [name for name in sorted(os.listdir(base + "/results")) if name.startswith("cbr0-")]
then = time.time() - 5 * 3600
for ip in free:
    sandbox = secrets.token_hex(32)
    path = leases + "/" + ip
    with open(path, "w", newline="") as file:
        file.write(sandbox + "\\r\\neth0")
    os.utime(path, (then, then))
    if attached > 0:
        attached -= 1
        document = json.load(open(base + "/results/" + caches[0]))
        kept = open(base + "/flannel/" + document["containerId"]).read()
        document["containerId"] = sandbox
        document["result"]["ips"][0]["address"] = ip + "/24"
        with open(base + "/results/cbr0-" + sandbox + "-eth0", "w") as file:
            json.dump(document, file)
        with open(base + "/flannel/" + sandbox, "w") as file:
            file.write(kept)
print(json.dumps(free))
"""

# Everything about every file of a directory, by name.
LIST = """
import hashlib, json, os, sys
found = {}
for name in sorted(os.listdir(sys.argv[1])):
    s = os.lstat(sys.argv[1] + "/" + name)
    digest = hashlib.sha256(open(sys.argv[1] + "/" + name, "rb").read()).hexdigest()
    found[name] = [digest, s.st_mode, s.st_uid, s.st_gid, s.st_mtime_ns, s.st_ino]
print(json.dumps(found))
"""

# Waits until a release has done so many leases, and kills it where it is.
KILL = """
import os, re, signal, sys, time
journal, wanted = "/var/lib/tune-nodes/quarantine/%s/journal.jsonl" % sys.argv[1], int(sys.argv[2])
until = time.monotonic() + 40
while time.monotonic() < until:
    try:
        done = open(journal).read().count('"t": "end"')
    except FileNotFoundError:
        done = 0
    if done >= wanted:
        inode = os.stat("/var/lib/tune-nodes/lock").st_ino
        row = next(line.split() for line in open("/proc/locks") if line.split()[5].endswith(":%d" % inode))
        os.kill(int(row[4]), signal.SIGKILL)
        print(done)
        sys.exit(0)
sys.exit("it never got there")
"""

# A crictl that is asked and knows of nothing.
NO_PODS = "#!/bin/sh\necho '{\"items\": []}'\n"


@dataclass
class Bed:
    """A worker with running pods, and the ways to look at it."""

    cluster: Cluster
    worker: str
    directory: Path
    pods: dict[str, str] = field(default_factory=dict)  # name -> address

    def node(self, *argv: str, input: str | None = None, check: bool = True) -> str:
        """Run a command on the worker."""
        return self.cluster.ssh(self.worker, *argv, input=input, check=check).stdout

    def script(self, text: str, *argv: str) -> str:
        """Run a script on the worker."""
        return self.node("python3", "-", *argv, input=text)

    def lay(self, count: int = 0, attached: int = 0) -> list[str]:
        """Lay stale leases (0: on every free address); their addresses."""
        return list(json.loads(self.script(LAY, str(count), str(attached))))

    def listing(self, directory: str = LEASES) -> dict[str, list[Any]]:
        """Return name -> digest, mode, owner, group, time and inode of a directory's files."""
        return dict(json.loads(self.script(LIST, directory)))

    def contents(self) -> dict[str, list[Any]]:
        """Return the leases without their inodes, and without what host-local notes of its last one."""
        return {name: row[:-1] for name, row in self.listing().items() if not name.startswith("last_")}

    def environment(self) -> dict[str, str]:
        """Return the environment of a program of ours."""
        return env_of(self.directory, ANSIBLE_PIPELINING="True")

    def cli(self, *words: str) -> Done:
        """Run ``tune-nodes recover``."""
        return finished([*PROGRAM, "recover", *words, "-i", str(self.cluster.hosts)], self.environment())

    def module_argv(self, name: str, **arguments: Any) -> list[str]:
        """Return the command line that runs a module on the worker."""
        program = Path(sys.executable).with_name("ansible")
        given = ["-m", f"tune.nodes.{name}", *(["-a", json.dumps(arguments)] if arguments else [])]
        return [str(program), "-i", str(self.cluster.hosts), self.worker, "-o", *given]

    def module(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Run a module on the worker; its result."""
        done = finished(self.module_argv(name, **arguments), self.environment(), 120)
        found = re.search(r"=> (\{.*\})", done.stdout)
        assert found, done.stdout + done.stderr
        return dict(json.loads(found.group(1)))

    def run_pod(self, name: str) -> None:
        """Start a pod on the worker, whatever comes of it."""
        idlepods.start(self.cluster, NAMESPACE, name, self.worker)

    def stream(self, address: str) -> tuple[str, subprocess.Popen[str]]:
        """Send fifty packets a second to a pod from its node, until SIGINT; the sender's number there, and ssh."""
        argv = self.cluster.ssh_argv(self.worker, f"echo $$; exec ping -q -i 0.02 -W 1 {address}")
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return process.stdout.readline().strip(), process

    def ready(self, name: str) -> str:
        """Wait for a pod; its address."""
        return idlepods.ready(self.cluster, NAMESPACE, name)

    def gone(self, name: str) -> None:
        """Remove a pod and wait until its lease is given back."""
        address = self.cluster.kubectl("get", "pod", "-n", NAMESPACE, name, "-o", "jsonpath={.status.podIP}")
        self.cluster.kubectl("delete", "pod", "-n", NAMESPACE, name, "--timeout=60s", timeout=70)
        wait_for(f"the lease of {name} is gone", lambda: address not in self.listing())


@pytest.fixture(scope="module")
def bed(kind_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A worker with five pods of ours, and what is somebody else's; all of it is gone afterwards."""
    worker = next(name for name in sorted(kind_cluster.nodes) if not name.endswith("control-plane"))
    found = Bed(kind_cluster, worker, tmp_path_factory.mktemp("cni"))
    (found.directory / "ansible.cfg").write_text("[defaults]\n")
    kind_cluster.kubectl("create", "namespace", NAMESPACE)
    try:
        for number in range(5):
            found.run_pod(f"live-{number}")
        found.pods = {f"live-{number}": found.ready(f"live-{number}") for number in range(5)}
        with foreign.untouched(kind_cluster, worker):
            yield found
    finally:
        kind_cluster.kubectl("delete", "namespace", NAMESPACE, "--timeout=90s", timeout=100)
        found.node(f"rm -rf {OURS}/quarantine {OURS}/evidence")


@pytest.fixture
def tidy(bed: Bed) -> Iterator[Bed]:
    """The same for one test: what was laid is gone afterwards, and what is somebody else's is untouched."""
    theirs = foreign.shown(bed.cluster, bed.worker)
    attached = set(bed.node("ls", "/var/lib/cni/results", "/var/lib/cni/flannel").split())
    there = set(bed.listing())
    yield bed
    assert foreign.shown(bed.cluster, bed.worker) == theirs
    held = bed.node(f"grep -l . {LEASES}/10* || true").split()
    assert {Path(path).name for path in held} >= set(bed.pods.values())
    laid = [name for name in bed.listing() if name not in there and name not in bed.pods.values()]
    now = set(bed.node("ls", "/var/lib/cni/results", "/var/lib/cni/flannel").split())
    if laid:
        bed.node("rm", "-f", *[f"{LEASES}/{name}" for name in laid])
    if now - attached:
        left = " ".join(f"/var/lib/cni/results/{name} /var/lib/cni/flannel/{name}" for name in sorted(now - attached))
        bed.node(f"rm -f {left}")


def stale(found: dict[str, Any]) -> int:
    """Return how many leases of the network look stale."""
    return next(int(row["stale"]) for row in found["cni"]["networks"] if row["name"] == "cbr0")


def test_both_ways_to_the_runtime_see_the_same(tidy: Bed) -> None:
    bed = tidy
    bed.lay(7)
    by_crictl = bed.module("cni_state", pings=True)
    bed.node("mv", "/usr/local/bin/crictl", "/usr/local/bin/crictl.away")
    try:
        by_ctr = bed.module("cni_state")
    finally:
        bed.node("mv", "/usr/local/bin/crictl.away", "/usr/local/bin/crictl")
    assert stale(by_crictl) == stale(by_ctr) == 7
    assert by_crictl["cni"]["sandboxes"]["all"] == by_ctr["cni"]["sandboxes"]["all"]
    assert by_crictl["cni"]["cni"]["name"] == by_ctr["cni"]["cni"]["name"] == "flannel"
    answered = {row["ip"] for row in by_crictl["cni"]["pings"] if row["ok"]}
    assert answered >= set(bed.pods.values())


def test_without_certainty_nothing_moves(tidy: Bed) -> None:
    bed = tidy
    ahead = bed.lay(200)[0]
    before = bed.listing()

    def refused(code: str, share: int = 100) -> None:
        result = bed.module("cni_leases", between="0", max_stale_percent=share)
        assert not result["changed"] and result["error"]["code"] == "refused", result
        assert code in [row["code"] for row in result["error"]["data"]["refusals"]], result["error"]
        assert bed.listing() == before

    refused("too-many-stale", 90)
    bed.node("cat > /usr/local/sbin/crictl && chmod +x /usr/local/sbin/crictl", input=NO_PODS)
    try:
        refused("no-sandboxes")
    finally:
        bed.node("rm", "/usr/local/sbin/crictl")
    bed.node("systemctl", "stop", "containerd")
    try:
        refused("cri")
    finally:
        bed.node("systemctl", "start", "containerd")
        bed.node("until crictl pods -q >/dev/null 2>&1; do sleep 0.2; done")
    bed.node(f"touch -d '1 hour' {LEASES}/{ahead}")
    before = bed.listing()
    refused("clock")
    assert bed.node(f"ls {OURS}/quarantine 2>/dev/null || true") == ""


def test_a_pod_that_starts_between_the_scans_keeps_its_lease(tidy: Bed) -> None:
    bed = tidy
    laid = bed.lay(20)
    first = bed.module("cni_state", grace="0")["cni"]["scan"]
    assert {row["ip"] for row in first["stale"]} == set(laid)
    bed.run_pod("late")
    address = bed.ready("late")
    between = bed.lay(1)
    result = bed.module("cni_leases", first=first, between="1", grace="0", max_stale_percent=100)
    assert result["changed"] and result["cni"]["released"] == {"file": 20}
    assert {address, *between, *bed.pods.values()} <= set(bed.listing())
    assert not set(laid) & set(bed.listing())
    bed.gone("late")


def test_an_exhausted_range_is_freed_without_a_lost_packet_and_brought_back(tidy: Bed) -> None:
    bed = tidy
    kept = set(bed.listing())
    laid = bed.lay(0, attached=3)
    assert len(laid) >= 200
    before = bed.contents()
    bed.run_pod("fresh")
    events = ["get", "events", "-n", NAMESPACE, "--field-selector", "involvedObject.name=fresh", "-o", "json"]
    wait_for("the range is full", lambda: "no IP addresses available in range set" in bed.cluster.kubectl(*events))
    streams = [bed.stream(address) for address in bed.pods.values()]
    try:
        done = bed.cli(
            "cni", "--nodes", bed.worker, "--between", "2s", "--max-stale-percent", "100", "--yes", "-o", "json"
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert bed.ready("fresh") in laid
    finally:
        bed.node("kill", "-INT", *[pid for pid, _ in streams])
        told = [process.communicate(timeout=20)[0] for _, process in streams]
    for text in told:
        sent, received = map(int, re.findall(r"(\d+) packets transmitted, (\d+) received", text)[0])
        assert sent > 100 and sent == received, text
    document = json.loads(done.stdout)
    recovered = document["recovery"][bed.worker]
    assert recovered["rungs"] == [0, 2]
    assert recovered["released"]["del"] == 3 and sum(recovered["released"].values()) == len(laid)
    rows = {row["what"]: (row["before"], row["after"]) for row in recovered["compared"]}
    assert rows["a new pod gets a network"] == ("no", "yes")
    assert rows["pods that wait for one"] == ("1", "0")
    assert Path(recovered["evidence"]).stat().st_mode & 0o777 == 0o600
    bed.gone("fresh")
    assert set(bed.listing()) == kept
    back = bed.cli("undo", document["id"], "--yes")
    assert back.returncode == 0 and f"{len(laid)} brought back" in back.stdout, back.stdout + back.stderr
    assert bed.contents() == before


def test_killed_in_the_middle_the_next_run_ends_it_and_undo_brings_all_back(tidy: Bed) -> None:
    bed = tidy
    laid = bed.lay(25, attached=20)
    before = bed.contents()
    run = f"killed-{os.getpid()}"
    argv = bed.module_argv("cni_leases", between="0", max_stale_percent=100, run=run)
    with subprocess.Popen(argv, env=bed.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as working:
        done = int(bed.script(KILL, run, "3"))
        working.communicate(timeout=60)
    left = set(laid) & set(bed.listing())
    assert 3 <= done < 25 and left, (done, left)
    second = bed.module("cni_leases", between="0", max_stale_percent=100)
    assert second["changed"] and not set(laid) & set(bed.listing())
    for name in (second["cni"]["run"], run):
        assert bed.module("cni_leases", undo=name)["tune_nodes"]["error"] is None
    assert bed.contents() == before
