"""Nodes with something wrong, each with another trouble, in one run: each is named with what, why and next; the rest
are tuned; nothing of a node's own words reaches the terminal raw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from clirun import AT_ONCE, NEW, OLD, RUN_DIR, Cli, held
from nodecall import apply_request, call

from commandline import Done
from tune_nodes.lab import Lab
from tune_nodes.lab.filesystem import authorize
from tune_nodes.lab.node import LabNode
from tune_nodes.runs.models import NodeRecord

MakeLab = Callable[..., Lab]

# The node's own interpreter, but it says that it is an old one before the code that is sent to it runs.
OLD_PYTHON = """\
#!/usr/bin/python3
import sys
sys.version_info = (3, 7, 16, "final", 0)
exec(sys.argv[sys.argv.index("-c") + 1])
"""
# A megabyte, escape sequences that clear a screen and set a title, and only then what was asked for.
NOISE = r"printf '\033[2J\033]0;pwned\007\033[31m'; head -c 1000000 /dev/zero | tr '\0' x; echo"
NOISY = NOISE + '; exec "$SHELL" -c "$SSH_ORIGINAL_COMMAND"'
GARBLED = NOISE + "; exit 3"


@dataclass(frozen=True)
class Trouble:
    """One node's trouble.

    Attributes:
        outcome: what the run must say of it.
        words: what the error must contain.
        arrange: makes the trouble; returns the node's variables in the inventory.
        values: what the node must hold afterwards.
        untouched: whether not even a directory of ours may be on the node.
    """

    outcome: str
    words: tuple[str, ...] = ()
    arrange: Callable[[LabNode, LabNode], dict[str, Any]] = lambda _node, _other: {}
    values: dict[str, str] = field(default_factory=lambda: dict(OLD))
    untouched: bool = True


def _interpreter(path: str, text: str = "") -> Callable[[LabNode, LabNode], dict[str, Any]]:
    def arrange(node: LabNode, _other: LabNode) -> dict[str, Any]:
        if text:
            node.run(["tee", path], input=text)
            node.run(["chmod", "755", path])
        return {"ansible_python_interpreter": path}

    return arrange


def _script(text: str) -> Callable[[LabNode, LabNode], dict[str, Any]]:
    def arrange(node: LabNode, _other: LabNode) -> dict[str, Any]:
        node.run(["sh", "-c", text], check=False)
        return {}

    return arrange


def _variables(**values: Any) -> Callable[[LabNode, LabNode], dict[str, Any]]:
    return lambda _node, _other: values


def _forced(command: str) -> Callable[[LabNode, LabNode], dict[str, Any]]:
    def arrange(node: LabNode, _other: LabNode) -> dict[str, Any]:
        authorize(node.files, node.user, node.lab.public_key, command)
        return {}

    return arrange


def _wrong_host_key(node: LabNode, other: LabNode) -> dict[str, Any]:
    lab = node.lab
    keys = dict(line.split(" ", 1) for line in lab.known_hosts.read_text().splitlines())
    wrong = lab.directory / "known_hosts.wrong"
    wrong.write_text(f"{node.address} {keys[other.address]}\n")
    given = f"-F /dev/null -o UserKnownHostsFile={wrong} -o GlobalKnownHostsFile=/dev/null -o IdentitiesOnly=yes"
    return {"ansible_ssh_common_args": f"{given} -o StrictHostKeyChecking=yes"}


def _someone_elses_run(node: LabNode, _other: LabNode) -> dict[str, Any]:
    request = apply_request("someone-elses", window=600)
    request["layers"][0] = {
        "profile": "other",
        "match": None,
        "sysctl": [{"key": "net.ipv4.tcp_keepalive_time", "value": 600, "class": "exact"}],
    }
    assert call(node, **request)["ok"]
    return {}


_FULL = (
    "mkdir -p /var/lib/tune-nodes && mount -t tmpfs -o size=1m tmpfs /var/lib/tune-nodes"
    " && dd if=/dev/zero of=/var/lib/tune-nodes/filler bs=4k status=none"
)
TROUBLES: dict[str, Trouble] = {
    "well": Trouble("changed", values=NEW, untouched=False),
    "no-python": Trouble("failed", ("no Python at /nonexistent", "install python3"), _interpreter("/nonexistent")),
    "old-python": Trouble(
        "failed", ("Python 3.7", "too old", "3.8 or later"), _interpreter("/root/python3.7", OLD_PYTHON)
    ),
    "read-only": Trouble(
        "refused",
        ("/etc", "read-only"),
        _script("mount --bind /etc /etc && mount -o remount,ro,bind /etc"),
        untouched=False,
    ),
    "full": Trouble("failed", ("full",), _script(_FULL), untouched=False),
    "noisy": Trouble("changed", (), _forced(NOISY), values=NEW, untouched=False),
    "garbled": Trouble("failed", (), _forced(GARBLED)),
    "host-key": Trouble("unreachable", ("host key",), _wrong_host_key),
    "busy": Trouble("refused", ("someone-elses",), _someone_elses_run, untouched=False),
    "unresolvable": Trouble(
        "unreachable",
        ("resolve", "no-such-host.invalid", "ansible_host"),
        _variables(ansible_host="no-such-host.invalid"),
    ),
    "wrong-password": Trouble(
        "failed",
        ("sudo", "password", "-K"),
        _variables(ansible_become=True, ansible_become_password="not the password"),
    ),
}


@dataclass(frozen=True)
class Ran:
    """One run over all troubles."""

    lab: Lab
    cli: Cli
    done: Done
    again: Done
    nodes: dict[str, LabNode]
    records: dict[str, NodeRecord]
    etc: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def ran(make_module_lab: MakeLab, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    lab = make_module_lab(len(TROUBLES))  # the last by sudo with a password
    assert lab.state.inventory is not None
    nodes = dict(zip(TROUBLES, lab.nodes, strict=True))
    variables = {nodes[name].name: trouble.arrange(nodes[name], nodes["well"]) for name, trouble in TROUBLES.items()}
    directory = tmp_path_factory.mktemp("trouble")
    own = directory / "troubles"  # a later inventory's variables win over the lab's
    (own / "host_vars").mkdir(parents=True)
    (own / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {name: {} for name in variables}}}))
    for name, values in variables.items():
        (own / "host_vars" / f"{name}.yml").write_text(yaml.safe_dump(values))
    etc = {name: node.etc() for name, node in nodes.items()}
    cli = Cli(directory / "cli", lab.state.inventory, own)
    done = cli.apply(*AT_ONCE, window=60)
    records = dict(cli.record().nodes)
    again = cli("show", "-o", "wide")
    return Ran(lab, cli, done, again, nodes, records, etc)


@pytest.mark.parametrize("name", TROUBLES)
def test_each_trouble_is_named_and_changes_nothing(ran: Ran, name: str) -> None:
    trouble, node = TROUBLES[name], ran.nodes[name]
    record = ran.records[node.name]
    assert record.outcome == trouble.outcome, (record.outcome, record.error)
    assert held(node) == trouble.values
    if trouble.values == OLD:
        error = record.error
        assert error is not None
        said = f"{error.what} {error.why} {error.next}"
        for word in trouble.words:
            assert word in said, said
        assert error.what
        assert error.next, f"{name}: no next step: {said}"
        assert node.name in ran.done.stderr
        assert node.etc() == ran.etc[name]
    if trouble.untouched:
        assert not (node.root / RUN_DIR).exists()


def test_the_run_as_a_whole(ran: Ran) -> None:
    assert ran.done.returncode == 1, ran.done.stderr
    for done in (ran.done, ran.again):
        text = done.stdout + done.stderr
        assert "Traceback" not in text
        assert not {char for char in text if ord(char) < 32 and char != "\n"}, "nothing a terminal would obey"
        assert "x" * 500 not in text
        assert len(text) < 60_000
        assert all(len(line) <= 80 for line in ran.done.stdout.splitlines())
    assert "not the password" not in ran.done.stdout + ran.done.stderr
    stored = ran.cli.state / "runs" / ran.cli.record().id
    for path in stored.iterdir():
        assert b"not the password" not in path.read_bytes()
        assert path.stat().st_size < 1 << 20


def test_no_root_and_no_become(make_lab: MakeLab, tmp_path: Path) -> None:
    node = make_lab(2).nodes[1]
    assert node.lab.state.inventory is not None
    theirs = node.lab.state.inventory / "host_vars" / f"{node.name}.yml"
    theirs.write_text(theirs.read_text().splitlines()[0] + "\nansible_user: ops\n")
    cli = Cli(tmp_path / "cli", node.lab.state.inventory)
    done = cli.apply("--limit", node.name)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "root" in done.stderr
    assert "-b" in done.stdout + done.stderr, "what to do about it"
    assert "rollback" not in done.stderr, "there is nothing to undo"
    assert held(node) == OLD
    assert not (node.root / RUN_DIR).exists()


def test_one_machine_under_two_names(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab(2, sudo=False)
    node, other = lab.nodes
    assert lab.state.inventory is not None
    second = str(lab.state.layout.network[200])
    node.run(["ip", "address", "add", f"{second}/24", "dev", "eth0"])
    alias = tmp_path / "alias.yml"
    common = yaml.safe_load((lab.state.inventory / "group_vars/nodes.yml").read_text())
    own = {**common, "ansible_host": second, "ansible_ssh_extra_args": f"-o HostKeyAlias={node.address}"}
    alias.write_text(yaml.safe_dump({"all": {"hosts": {"alias": own}}}))
    cli = Cli(tmp_path / "cli", lab.state.inventory, alias)
    done = cli.apply(*AT_ONCE)
    assert done.returncode == 1, done.stderr
    outcomes = cli.outcomes()
    assert outcomes == {node.name: "refused", "alias": "refused", other.name: "changed"}
    error = cli.record().nodes["alias"].error
    assert error is not None
    assert error.what == f"alias and {node.name} are one machine"
    assert held(node) == OLD
    assert not (node.root / RUN_DIR).exists()
    # Named twice in the limit it is still one node, worked on once.
    twice = cli("plan", "-p", cli.profile(), "--limit", f"{other.name},{other.name}")
    assert twice.returncode == 0
    assert list(cli.outcomes()) == [other.name]
