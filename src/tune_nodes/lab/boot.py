"""Start a node: enter its network namespace, make the rest its own, leave an init and an sshd running."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from tune_nodes.errors import TuneError
from tune_nodes.lab.command import ENVIRONMENT, explain, run
from tune_nodes.lab.filesystem import NodeFiles, fstab, machine_scopes, readonly_mounts
from tune_nodes.lab.model import Layout, NodeState, Started
from tune_nodes.lab.network import node_batch
from tune_nodes.lab.process import identify, netns_of
from tune_nodes.lab.requirements import program
from tune_nodes.lab.state import write_file

START_TIMEOUT = 60.0

#: Root in a node is root on the machine: it may not restart it, set its clock, or load modules into its kernel.
KEEP_MACHINE = ("setpriv", "--bounding-set=-sys_boot,-sys_module,-sys_time,-sys_rawio", "--inh-caps=-all")

# $1 = the node's directory, $2 = queues, $3 = sshd. The working directory outlives the new /run that hides it.
# /run/netns goes first: a copy of the others' namespaces would keep them alive.
_SCRIPT = f"""\
cd "$1"
umount --lazy --no-mtab /run/netns
cat etc/upper/hostname > /proc/sys/kernel/hostname
ip -batch network.batch
if [ "$2" -gt 1 ]; then ethtool -L eth0 rx 1 tx 1; fi
mount --no-mtab --all --fstab fstab
mkdir -m 755 /run/sshd
mkdir -m 1777 /run/lock
while read -r point; do mount --no-mtab -o remount,bind,ro "$point"; done < readonly
cd /
{" ".join(KEEP_MACHINE)} sleep infinity < /dev/null > /dev/null 2>&1 &
echo "$!"
{" ".join(KEEP_MACHINE)} "$3" -D -E /run/sshd.log < /dev/null > /dev/null 2>&1 &
"""


def prepare(files: NodeFiles, layout: Layout, node: NodeState) -> None:
    """Write what the start script reads, from what the machine is now."""
    write_file(files.directory / "fstab", fstab(files.directory, machine_scopes()))
    write_file(files.directory / "network.batch", node_batch(layout, node.number))
    points = readonly_mounts(Path("/proc/self/mountinfo").read_text(errors="replace"))
    write_file(files.directory / "readonly", "".join(f"{point}\n" for point in points))


def make_host_key(files: NodeFiles, name: str) -> str:
    """Make the node's ssh host key if it has none; return the public half."""
    key = files.etc / "ssh" / "ssh_host_ed25519_key"
    if not key.exists():
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key)])
    return key.with_suffix(".pub").read_text().strip()


def start(files: NodeFiles, layout: Layout, node: NodeState, queues: int) -> Started:
    """Start a node whose network namespace and cable exist; return its init once its sshd answers.

    Raises:
        TuneError: a step failed; the message has what the program said.
    """
    prepare(files, layout, node)
    argv = ["ip", "netns", "exec", layout.netns(node.number), "unshare", "--uts", "sh", "-euc", _SCRIPT, "sh"]
    argv += [str(files.directory), str(queues), program("sshd")]
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=ENVIRONMENT,
        start_new_session=True,  # a Ctrl-C meant for the command must not reach the nodes
    )
    try:
        out, err = process.communicate(timeout=START_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise TuneError(f"{node.name} did not start within {START_TIMEOUT:g} s") from error
    init = identify(int(out)) if out.strip().isdigit() else None
    if process.returncode or init is None:
        raise TuneError(f"{node.name} did not start", explain(err or out, argv), "tune-nodes doctor")
    wait_for_sshd(node, init)
    return init


def wait_for_sshd(node: NodeState, init: Started, timeout: float = START_TIMEOUT) -> None:
    """Return when the node's sshd listens. Raises TuneError with its log if it does not.

    Looked at from outside the network: a fault may keep connections away, and a booting node is not to wait for that.
    """
    deadline = time.monotonic() + timeout
    # Its pid is written down last, once it listens.
    while not (listens(read_text(f"/proc/{init.pid}/net/tcp")) and sshd_pid(init)):
        log = read_text(f"/proc/{init.pid}/root/run/sshd.log")[-4000:]
        if time.monotonic() > deadline or "fatal" in log or "Cannot bind" in log:
            raise TuneError(f"the sshd of {node.name} does not answer", explain(log, ["sshd"]))
        time.sleep(0.01)


def listens(tcp: str, port: int = 22) -> bool:
    """Return whether something listens on this port, by the text of a /proc/PID/net/tcp; junk is no listener."""
    rows = (line.split() for line in tcp.splitlines())
    return any(len(row) > 3 and row[3] == "0A" and row[1].endswith(f":{port:04X}") for row in rows)


def read_text(path: str) -> str:
    """Return a file's text, "" where it cannot be read."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def sshd_pid(init: Started) -> int | None:
    """Return the pid of the node's listening sshd, None where it does not run."""
    text = read_text(f"/proc/{init.pid}/root/run/sshd.pid").strip()
    pid = int(text) if text.isdigit() else 0
    return pid if pid and identify(pid) and netns_of(pid) == netns_of(init.pid) else None
