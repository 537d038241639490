"""What ``doctor`` looks at: each check says ok, warn or fail, and what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tune_nodes import collection
from tune_nodes.errors import TuneError
from tune_nodes.fleet.inventory import Inventory, read_inventory
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.runs.store import RunStore

#: Seconds any program may take to say its version.
LIMIT = 20
#: Nodes whose ssh configuration is looked at.
SAMPLE = 5


@dataclass(frozen=True)
class Check:
    """One line of the doctor's report."""

    name: str
    status: str  # ok | warn | fail
    detail: str
    next: str = ""


def _run(argv: Sequence[str]) -> tuple[int, str]:
    """Return a program's exit code and its output; 127 where it cannot be started, 124 on a timeout."""
    env = {**os.environ, **collection.environment()}
    try:
        done = subprocess.run(
            list(argv), capture_output=True, text=True, errors="replace", timeout=LIMIT, env=env, check=False
        )
    except OSError as problem:
        return 127, problem.strerror or ""
    except subprocess.TimeoutExpired:
        return 124, f"no answer within {LIMIT} s"
    return done.returncode, (done.stdout or done.stderr).strip()


def _program(name: str, argv: Sequence[str], package: str) -> Check:
    path = shutil.which(argv[0], path=collection.environment()["PATH"])
    if path is None:
        return Check(name, "fail", "not found", f"install {package}")
    code, said = _run([path, *argv[1:]])
    first = one_line(said.splitlines()[0] if said else "", 120)
    return Check(name, "ok" if code == 0 else "fail", f"{first} ({path})", "" if code == 0 else f"run {path} by hand")


def programs() -> list[Check]:
    """Check Python, Ansible and ssh."""
    found = [
        Check("python", "ok", f"{sys.version.split()[0]} ({sys.executable})"),
        _program("ansible-playbook", ["ansible-playbook", "--version"], "ansible-core 2.19"),
        _program("ansible-inventory", ["ansible-inventory", "--version"], "ansible-core 2.19"),
        _program("ssh", ["ssh", "-V"], "openssh-client"),
    ]
    found.append(Check("ansible-runner", "ok", metadata.version("ansible-runner")))
    return found


def shipped_collection() -> list[Check]:
    """Check that Ansible would load the collection that belongs to this command."""
    resolution = collection.resolved()
    ours = resolution.ours
    try:
        resolution.check()
    except TuneError as problem:
        return [Check("collection", "fail", str(problem), problem.next)]
    found = [Check("collection", "ok", f"{collection.FQCN} {ours.version} ({ours.origin}): {ours.path}")]
    for other in resolution.shadows:
        detail = f"a plain ansible-playbook would use {other.version or 'a copy'} at {other.path}"
        found.append(Check("collection", "warn", detail, f"remove {other.path}, or put {ours.root} first"))
    return found


def state(root: Path | None) -> list[Check]:
    """Check that runs can be recorded."""
    try:
        store = RunStore.open(root)
        store.check_room()
    except TuneError as problem:
        return [Check("state directory", "fail", f"{problem.what}: {problem.why}", problem.next)]
    held = store.quarantined()
    found = [Check("state directory", "ok", f"{store.root}, {len(store.history(-1))} runs")]
    if held:
        names = ", ".join(entry.name for entry in held[:5])
        found.append(
            Check("quarantine", "warn", f"{len(held)} nodes are left out: {names}", "tune-nodes quarantine list")
        )
    return found


def environment() -> list[Check]:
    """Check what in the environment changes how Ansible works."""
    found = []
    if os.environ.get("ANSIBLE_HOST_KEY_CHECKING", "True").lower() in ("false", "0", "no", "off"):
        detail = "ANSIBLE_HOST_KEY_CHECKING is off: any machine may answer as your node"
        found.append(Check("host keys", "warn", detail, "unset ANSIBLE_HOST_KEY_CHECKING"))
    else:
        found.append(Check("host keys", "ok", "checked"))
    if os.environ.get("ANSIBLE_STRATEGY"):
        detail = "ANSIBLE_STRATEGY is ignored: one task needs no strategy plugin"
        found.append(Check("strategy", "warn", detail))
    return found


def inventory(names: Sequence[str], limit: str) -> list[Check]:
    """Check an inventory, and how ssh sees its first nodes."""
    if not names:
        return [Check("inventory", "warn", "none given", "tune-nodes doctor -i INVENTORY")]
    try:
        read = read_inventory(names, limit)
    except TuneError as problem:
        return [Check("inventory", "fail", f"{problem.what}: {problem.why}", problem.next)]
    found = [Check("inventory", "ok", f"{len(read.nodes)} nodes in {', '.join(read.sources)}")]
    found += [Check("inventory", "warn", warning) for warning in read.warnings]
    return found + _ssh(read)


def _ssh(read: Inventory) -> list[Check]:
    found = []
    for node in list(read.nodes.values())[:SAMPLE]:
        target = node.address or node.name
        if target.startswith("-"):
            found.append(Check(f"ssh {node.name}", "fail", f"the address {target!r} is an option to ssh", "correct it"))
            continue
        code, said = _run(["ssh", "-G", "-p", str(node.port), "--", target])
        if code != 0:
            found.append(Check(f"ssh {node.name}", "fail", one_line(said, 200), "correct ~/.ssh/config"))
            continue
        settings = dict(line.split(" ", 1) for line in said.splitlines() if " " in line)
        where = f"{settings.get('hostname', target)}:{settings.get('port', '22')}"
        if settings.get("stricthostkeychecking") in ("no", "off", "false"):
            detail = f"{where}: StrictHostKeyChecking is off in ssh's configuration"
            found.append(Check(f"ssh {node.name}", "warn", detail, "set it to yes for these hosts"))
        else:
            found.append(Check(f"ssh {node.name}", "ok", where))
    return found


def everything(names: Sequence[str], limit: str, state_dir: Path | None) -> list[Check]:
    """Run all checks."""
    parts: list[Callable[[], list[Check]]] = [
        programs,
        shipped_collection,
        environment,
        lambda: state(state_dir),
        lambda: inventory(names, limit),
    ]
    return [check for part in parts for check in part()]
