"""A cluster as an inventory: what Ansible and ssh are told, and whose files are never touched."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml
from kindbed import inventory

from tune_nodes.errors import UsageError

NODES = {"a-control-plane": "172.20.0.2", "a-worker": "172.20.0.3"}


def test_hosts(tmp_path: Path) -> None:
    text = inventory.hosts("a", NODES, tmp_path)
    assert text.startswith(inventory.header("a"))
    group = yaml.safe_load(text)["kind"]
    assert {name: host["ansible_host"] for name, host in group["hosts"].items()} == NODES
    assert group["vars"]["ansible_user"] == "root"
    assert group["vars"]["ansible_ssh_private_key_file"] == f"{tmp_path}/.ssh/id_ed25519"


def test_host_keys_are_checked_against_the_clusters_own() -> None:
    words = inventory.ssh_options(Path("/inv"))
    options = dict(word.split("=") for word in words if "=" in word)
    assert words[:2] == ["-F", "/dev/null"]
    assert options["StrictHostKeyChecking"] == "yes"
    assert options["UserKnownHostsFile"] == "/inv/.ssh/known_hosts"
    assert options["GlobalKnownHostsFile"] == "/dev/null"


def test_known_hosts() -> None:
    keys = {"a-control-plane": "ssh-ed25519 AAAA1 root@a\n", "a-worker": "ssh-ed25519 AAAA2 root@b\n"}
    assert inventory.known_hosts(NODES, keys) == "172.20.0.2 ssh-ed25519 AAAA1\n172.20.0.3 ssh-ed25519 AAAA2\n"


@pytest.mark.parametrize(("name", "directory"), [("tune-nodes", "kind"), ("a", "kind-a")])
def test_a_directory_for_each_cluster(name: str, directory: str) -> None:
    assert inventory.directory(name, Path("/i")) == Path("/i") / directory


def test_a_directory_that_is_somebody_elses_is_refused_and_left(tmp_path: Path) -> None:
    where = tmp_path / "kind"
    inventory.refuse_foreign(where, "tune-nodes")
    where.mkdir()
    inventory.refuse_foreign(where, "tune-nodes")
    (where / "hosts.yml").write_text("all: {}\n")
    with pytest.raises(UsageError, match="was not written for the cluster"):
        inventory.refuse_foreign(where, "tune-nodes")
    inventory.remove(where, "tune-nodes")
    assert (where / "hosts.yml").exists()
    (where / "hosts.yml").write_text(inventory.header("other"))
    with pytest.raises(UsageError):
        inventory.refuse_foreign(where, "tune-nodes")


def test_what_was_written_goes_and_what_was_added_stays(tmp_path: Path) -> None:
    where = tmp_path / "inventories/kind"
    inventory.make_directory(where, None)
    for file in inventory.FILES:
        inventory.write(where / file, "x", None)
    inventory.write(where / inventory.HOSTS, inventory.hosts("tune-nodes", NODES, where), None)
    inventory.refuse_foreign(where, "tune-nodes")
    (where / "group_vars").mkdir()
    inventory.remove(where, "tune-nodes")
    assert [path.name for path in where.iterdir()] == ["group_vars"]
    (where / "group_vars").rmdir()
    inventory.write(where / inventory.HOSTS, inventory.hosts("tune-nodes", NODES, where), None)
    inventory.remove(where, "tune-nodes")
    assert not where.exists()


def test_a_secret_is_its_owners_alone_and_nothing_is_left_of_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kubeconfig"
    inventory.write(path, "secret", None, 0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(inventory.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        inventory.write(path, "other", None, 0o600)
    assert [file.name for file in tmp_path.iterdir()] == ["kubeconfig"]
    assert path.read_text() == "secret"


def test_the_key_is_made_once(tmp_path: Path) -> None:
    inventory.make_directory(tmp_path / "kind", None)
    public = inventory.make_key(tmp_path / "kind", "a", None)
    assert public.startswith("ssh-ed25519 ")
    assert inventory.make_key(tmp_path / "kind", "a", None) == public
    assert stat.S_IMODE((tmp_path / "kind" / inventory.KEY).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("uid", "gid", "expected"),
    [("1000", "1001", (1000, 1001)), ("0", "0", None), ("", "", None), ("x", "1", None), ("1000", "", None)],
)
def test_files_are_of_the_person_behind_sudo(
    monkeypatch: pytest.MonkeyPatch, uid: str, gid: str, expected: tuple[int, int] | None
) -> None:
    monkeypatch.setenv("SUDO_UID", uid)
    monkeypatch.setenv("SUDO_GID", gid)
    assert inventory.person() == expected


def test_a_directory_is_the_clusters_from_the_beginning(tmp_path: Path) -> None:
    where = tmp_path / "kind"
    inventory.make_directory(where, None)
    inventory.refuse_foreign(where, "tune-nodes")  # killed between making it and claiming it
    inventory.claim(where, "tune-nodes", None)
    inventory.write(where / inventory.KUBECONFIG, "secret", None, 0o600)
    inventory.refuse_foreign(where, "tune-nodes")
    assert yaml.safe_load((where / inventory.HOSTS).read_text())["kind"]["hosts"] == {}
    whole = inventory.hosts("tune-nodes", NODES, where)
    inventory.write(where / inventory.HOSTS, whole, None)
    inventory.claim(where, "tune-nodes", None)
    assert (where / inventory.HOSTS).read_text() == whole
    inventory.remove(where, "tune-nodes")
    assert not where.exists()
