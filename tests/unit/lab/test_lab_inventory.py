"""The lab's inventory files, and whose they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tune_nodes.errors import UsageError
from tune_nodes.lab import inventory
from tune_nodes.lab.model import LabState, NodeState

STATE = LabState(
    name="lab",
    index=0,
    queues=4,
    boot_id="b",
    nodes=[
        NodeState(number=1, name="lab-1", address="10.77.0.11"),
        NodeState(number=2, name="lab-2", address="10.77.0.12", user="ops"),
    ],
)


def documents() -> dict[str, str]:
    return inventory.documents(STATE, Path("/run/l/id"), Path("/run/l/known_hosts"), Path("/run/l/ops.password"))


def test_documents_are_plain_ansible() -> None:
    loaded = {path: yaml.safe_load(text) for path, text in documents().items()}
    hosts = {"lab-1": {"ansible_host": "10.77.0.11"}, "lab-2": {"ansible_host": "10.77.0.12"}}
    assert loaded["hosts.yml"] == {"nodes": {"hosts": hosts}}
    common = loaded["group_vars/nodes.yml"]["ansible_ssh_common_args"]
    assert "UserKnownHostsFile=/run/l/known_hosts" in common
    assert "StrictHostKeyChecking=yes" in common
    assert loaded["host_vars/lab-2.yml"] == {
        "ansible_user": "ops",
        "ansible_become": True,
        "ansible_become_password": "{{ lookup('ansible.builtin.file', '/run/l/ops.password') }}",
    }


def test_written_rewritten_and_removed(tmp_path: Path) -> None:
    target = tmp_path / "inventories" / "lab"
    inventory.write(target, "lab", documents(), None)
    (target / "host_vars" / "lab-9.yml").write_text(inventory.header("lab"))  # of an earlier, larger lab
    inventory.refuse_foreign(target, "lab")
    inventory.write(target, "lab", documents(), None)
    assert sorted(str(p.relative_to(target)) for p in target.rglob("*.yml")) == sorted(documents())
    inventory.remove(target, "lab")
    assert not target.exists()
    inventory.remove(target, "lab")


def test_files_of_others_are_refused_and_survive(tmp_path: Path) -> None:
    inventory.write(tmp_path, "lab", documents(), None)
    mine = tmp_path / "group_vars" / "all.yml"
    mine.write_text("a: 1\n")
    with pytest.raises(UsageError, match=r"all\.yml was not written by lab 'lab'"):
        inventory.refuse_foreign(tmp_path, "lab")
    with pytest.raises(UsageError, match="was not written by lab 'other'"):
        inventory.refuse_foreign(tmp_path, "other")
    inventory.remove(tmp_path, "lab")
    assert mine.read_text() == "a: 1\n"
    with pytest.raises(UsageError, match="is not a directory"):
        inventory.refuse_foreign(mine, "lab")
