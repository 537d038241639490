"""Inventories, read by the real ansible-inventory; the pure parser by table and by hypothesis."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_nodes import collection
from tune_nodes.errors import TuneError, UsageError
from tune_nodes.fleet import inventory
from tune_nodes.fleet.inventory import (
    find_inventory,
    known_inventories,
    parse_inventory,
    read_inventory,
    without_kubeconfig,
)

YAML = """
all:
  vars:
    ansible_password: hunter2
    ansible_become_password: hunter3
    tune_nodes_labels: {rack: r1, gpu: true}
  hosts:
    n9: {ansible_host: 10.0.0.9}
  children:
    workers:
      hosts:
        n2: {ansible_host: 10.0.0.2, ansible_port: "2222", ansible_user: ops, ansible_become: true}
        n1: {ansible_host: "{{ lookup('pipe', 'echo never-run') }}"}
    cluster:
      children: {workers: {}}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "inventories" / "prod").mkdir(parents=True)
    (tmp_path / "inventories" / "prod" / "hosts.yml").write_text(YAML)
    (tmp_path / "inventories" / "stage.ini").write_text("[workers]\nn1 ansible_host=10.1.0.1\n")
    return tmp_path


def test_reads_what_a_run_needs_and_no_secret(place: Path) -> None:
    found = read_inventory(["prod"], cwd=place)
    assert list(found.nodes) == ["n9", "n2", "n1"]  # the inventory's order
    node = found.nodes["n2"]
    assert (node.address, node.port, node.user) == ("10.0.0.2", 2222, "ops")
    assert node.groups == ("cluster", "workers")
    assert node.labels == {"rack": "r1", "gpu": "true"}
    assert node.vars == {"ansible_become": True}
    assert found.nodes["n1"].address == ""  # a template is never run here
    assert found.groups()["cluster"] == ["n2", "n1"]
    assert "hunter" not in repr(found)


@pytest.mark.parametrize(
    ("limit", "names"),
    [
        ("workers", ["n2", "n1"]),
        ("n1,n1,n9", ["n9", "n1"]),
        ("cluster:&n1", ["n1"]),
        ("all,!workers", ["n9"]),
        ("n*", ["n9", "n2", "n1"]),
        ("~n[12]", ["n2", "n1"]),
    ],
)
def test_limit_is_ansibles(place: Path, limit: str, names: list[str]) -> None:
    assert list(read_inventory(["prod"], limit, cwd=place).nodes) == names


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        ("n7", "n7 matches no node"),
        ("n1,wrokers", "wrokers matches no node"),
        ("all,!wrokers", "wrokers matches no node"),
        ("n1,!n1", "leaves no node"),
        ("@/nowhere/limits", "limit file"),
        ("--help", "--help"),
    ],
)
def test_limit_that_matches_nothing_is_refused(place: Path, limit: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_inventory(["prod"], limit, cwd=place)


def test_limit_file(place: Path) -> None:
    (place / "again").write_text("n1\nn9\n")
    assert set(read_inventory(["prod"], f"@{place}/again", cwd=place).nodes) == {"n1", "n9"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("prod", "inventories/prod"), ("stage", "inventories/stage.ini"), ("inventories/stage.ini", None)],
)
def test_names_are_found(place: Path, name: str, expected: str | None) -> None:
    assert find_inventory(name, place) == str(place / (expected or name))
    assert known_inventories(place) == ["prod", "stage"]


def test_host_list(place: Path) -> None:
    assert list(read_inventory(["h1, h2,"], cwd=place).nodes) == ["h1", "h2"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("pord", "inventories/ has prod, stage"),
        ("", "there is no inventory"),
        ("a\x1b[31mb", "there is no inventory"),
        ("~nobody-of-that-name/x", "there is no inventory"),
        ("x" * 300, "there is no inventory"),
        (",", "host list is empty"),
        ("n1,n2,n1,", "n1 is named twice"),
    ],
)
def test_missing_inventory_is_refused(place: Path, name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as err:
        find_inventory(name, place)
    assert "\x1b" not in str(err.value)


def test_no_inventory_at_all(place: Path) -> None:
    with pytest.raises(UsageError, match="no inventory given"):
        read_inventory([], cwd=place)


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("bad.ini", "[a\nh1\n", "cannot be read"),
        ("bad.yml", "all:\n  hosts: {a: {, b: {}}\n", "cannot be read"),
        ("empty.ini", "", "holds no node"),
        ("empty.yml", "all: {}\n", "holds no node"),
        ("twice.yml", "all:\n  hosts:\n    n1: {ansible_host: 10.0.0.1}\n    n1: {ansible_host: 10.0.0.2}\n", "n1"),
        ("twins.ini", "a ansible_host=10.0.0.1\nb ansible_host=10.0.0.1\n", "a and b are the same machine"),
        ("local.ini", "a ansible_connection=local\nb ansible_connection=local\n", "a and b are the same machine"),
        ("port.ini", "a ansible_port=70000\n", "is not a port"),
        ("labels.yml", "all: {hosts: {a: {tune_nodes_labels: [x]}}}\n", "must be a mapping"),
    ],
)
def test_bad_inventories_are_errors_not_empty_runs(tmp_path: Path, file: str, text: str, says: str) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(UsageError, match=says):
        read_inventory([file], cwd=tmp_path)


def test_half_an_inventory_is_an_error(place: Path) -> None:
    (place / "inventories" / "prod" / "more").write_text("[broken\n")
    with pytest.raises(UsageError, match="cannot be read"):
        read_inventory(["prod"], cwd=place)


def test_limit_can_leave_a_twin_out(tmp_path: Path) -> None:
    (tmp_path / "twins.ini").write_text("a ansible_host=10.0.0.1\nb ansible_host=10.0.0.1\n")
    assert list(read_inventory(["twins.ini"], "a", cwd=tmp_path).nodes) == ["a"]


def test_errors_show_no_excerpt_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "bad.yml").write_text("all:\n  vars: {ansible_password: hunter2, x: {\n")
    with pytest.raises(UsageError) as err:
        read_inventory(["bad.yml"], cwd=tmp_path)
    assert "hunter2" not in str(err.value)


def _encrypt(path: Path, text: str, password: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    program = collection.scripts() / "ansible-vault"
    argv = [str(program), "encrypt", "--vault-password-file", str(password), str(path)]
    subprocess.run(argv, check=True, capture_output=True, timeout=60)


def test_vaulted_group_vars(place: Path) -> None:
    (place / "pw").write_text("pw\n")
    _encrypt(place / "inventories/prod/group_vars/all.yml", "ansible_user: vaulted-ops\n", place / "pw")
    with pytest.raises(UsageError, match="vault"):
        read_inventory(["prod"], cwd=place)
    with pytest.raises(UsageError, match="cannot be read"):
        read_inventory(["prod"], cwd=place, vault_password="wrong")
    by_pipe = read_inventory(["prod"], cwd=place, vault_password="pw")
    by_file = read_inventory(["prod"], cwd=place, args=["--vault-password-file", str(place / "pw")])
    assert by_pipe == by_file
    assert by_pipe.nodes["n1"].user == "vaulted-ops"


def test_vaulted_values_are_not_kept() -> None:
    vault = {"__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256\n6162"}
    node = _parse({"n1": {"ansible_user": vault, "ansible_host": vault, "ansible_connection": vault}}).nodes["n1"]
    assert (node.user, node.address, node.vars) == ("", "", {})


def test_a_kubeconfig_beside_the_hosts_is_no_inventory(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("all: {hosts: {n1: {ansible_host: 192.0.2.1}}}\n")
    (tmp_path / "kubeconfig").write_text("users: [{name: admin, user: {token: secret}}]\nbroken: {\n")
    read = read_inventory([str(tmp_path)])
    assert list(read.nodes) == ["n1"]
    assert read.warnings == ()
    assert without_kubeconfig([str(tmp_path)], {"ANSIBLE_INVENTORY_IGNORE_REGEX": "[.]old$"}) == {
        "ANSIBLE_INVENTORY_IGNORE_REGEX": "[.]old$,^kubeconfig$"
    }
    assert without_kubeconfig([str(tmp_path / "hosts.yml"), "n1,n2,"], {}) == {}


def test_hanging_source_is_cut_off_with_its_children(tmp_path: Path) -> None:
    script = tmp_path / "source"
    script.write_text(f"#!/bin/sh\nsleep 300 &\necho $! > {tmp_path}/pid\nwait\n")
    script.chmod(0o755)
    for limit in (2, 8, 30):  # on a busy machine the source has not begun after the first
        begun = time.monotonic()
        with pytest.raises(TuneError, match=f"not read within {limit} s"):
            read_inventory([str(script)], cwd=tmp_path, timeout=limit)
        assert time.monotonic() - begun < limit + 18
        if (tmp_path / "pid").exists():
            break
    child = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def test_dynamic_source(tmp_path: Path) -> None:
    script = tmp_path / "source"
    script.write_text('#!/bin/sh\necho \'{"g": {"hosts": ["d1"]}, "_meta": {"hostvars": {}}}\'\n')
    script.chmod(0o755)
    assert read_inventory([str(script)], cwd=tmp_path).nodes["d1"].groups == ("g",)


def test_no_locale_as_in_cron(place: Path) -> None:
    assert "n1" in read_inventory(["stage"], cwd=place, env={"PATH": "/usr/bin:/bin"}).nodes


def _parse(hostvars: dict[str, Any], **groups: Any) -> inventory.Inventory:
    document = {"_meta": {"hostvars": hostvars}, "all": {"children": ["ungrouped", *groups]}, **groups}
    return parse_inventory(json.dumps(document), ["x"])


def test_groups_that_contain_each_other_end() -> None:
    found = _parse({"n1": {}}, a={"hosts": ["n1"], "children": ["b"]}, b={"children": ["a"]})
    assert found.nodes["n1"].groups == ("a", "b")


@pytest.mark.parametrize("name", ["a b", "-x", "@f", "a,b", "a*", "x[1:3]", "a\x1bb", "../x", "{{x}}", "!n", "~n"])
def test_names_that_are_patterns_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a node's name"):
        _parse({name: {}})


def test_ipv6_and_case_are_one_address() -> None:
    with pytest.raises(UsageError, match="a and b are the same machine"):
        _parse({"a": {"ansible_host": "FD00::1"}, "b": {"ansible_host": "fd00:0:0::1"}})
    with pytest.raises(UsageError, match="same machine"):
        _parse({"Node.example": {}, "b": {"ansible_host": "node.example."}})


def test_behind_other_jump_hosts_it_is_another_machine() -> None:
    found = _parse(
        {
            "a": {"ansible_host": "10.0.0.1", "ansible_ssh_common_args": "-J bastion-a"},
            "b": {"ansible_host": "10.0.0.1", "ansible_ssh_common_args": "-J bastion-b"},
            "c": {"ansible_host": "10.0.0.1", "ansible_port": 2222},
        }
    )
    assert len(found.nodes) == 3


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@given(st.text() | JSON.map(json.dumps))
def test_junk_is_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        parse_inventory(text, ["x"])


@given(st.dictionaries(st.text(max_size=12), st.dictionaries(st.sampled_from(["ansible_host", "ansible_port"]), JSON)))
def test_junk_variables_are_a_usage_error(hostvars: dict[str, Any]) -> None:
    try:
        found = _parse(hostvars)
    except UsageError:
        return
    assert set(found.nodes) == set(hostvars)


@given(st.text(max_size=40))
def test_any_name_is_found_or_refused(name: str) -> None:
    with contextlib.suppress(UsageError):
        find_inventory(name, Path("/nonexistent"))
