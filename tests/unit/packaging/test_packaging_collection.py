"""Which collection the command uses, and that Ansible and Python are led to that one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tune_nodes import collection
from tune_nodes.errors import TuneError, UsageError

REPO = Path(__file__).resolve().parents[3]
GALAXY = "namespace: tune\nname: nodes\nversion: 1.2.3\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return make_checkout(tmp_path / "repo")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make_checkout(root: Path) -> Path:
    (root / "src" / "tune_nodes").mkdir(parents=True)
    (root / "plugins").mkdir()
    (root / "galaxy.yml").write_text(GALAXY)
    return root


def package(checkout: Path) -> Path:
    return checkout / "src" / "tune_nodes"


def test_wheel_is_found_beside_the_package(tmp_path: Path) -> None:
    installed = tmp_path / collection.BELOW_ROOT
    installed.mkdir(parents=True)
    (installed / "galaxy.yml").write_text(GALAXY)
    found = collection.find(tmp_path / "tune_nodes")
    assert found == collection.Collection(tmp_path, installed, "1.2.3", "wheel")


def test_checkout_gets_a_relative_link_once(checkout: Path, cache: Path) -> None:
    found = collection.find(package(checkout))
    link = found.root / collection.BELOW_ROOT
    assert (found.path, found.version, found.origin) == (checkout, "1.2.3", "checkout")
    assert not link.readlink().is_absolute()
    assert link.resolve() == checkout
    before = link.lstat().st_ino
    assert collection.find(package(checkout)) == found
    assert link.lstat().st_ino == before
    assert not cache.exists()


def test_checkout_that_was_moved_still_leads_to_itself(checkout: Path) -> None:
    collection.find(package(checkout))
    moved = checkout.rename(checkout.with_name("moved"))
    assert (collection.find(package(moved)).root / collection.BELOW_ROOT).resolve() == moved


def test_link_to_elsewhere_is_replaced(checkout: Path, tmp_path: Path) -> None:
    link = checkout / ".ansible/collections" / collection.BELOW_ROOT
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path)
    assert (collection.find(package(checkout)).root / collection.BELOW_ROOT).resolve() == checkout


def test_directory_in_the_links_place_is_left_alone(checkout: Path) -> None:
    real = checkout / ".ansible/collections" / collection.BELOW_ROOT
    real.mkdir(parents=True)
    with pytest.raises(TuneError, match="in the way"):
        collection.find(package(checkout))
    assert real.is_dir()


def test_checkout_that_cannot_hold_the_link_uses_the_cache(checkout: Path, cache: Path) -> None:
    (checkout / ".ansible").write_text("a file: nothing can be made below it, whoever runs this test")
    found = collection.find(package(checkout))
    assert found.root.is_relative_to(cache)
    assert (found.root / collection.BELOW_ROOT).resolve() == checkout


def test_nowhere_to_put_the_link(checkout: Path, cache: Path) -> None:
    (checkout / ".ansible").write_text("")
    cache.write_text("")
    with pytest.raises(TuneError, match="make one of the two writable"):
        collection.find(package(checkout))


def test_checkout_at_a_collection_path_needs_no_link(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / collection.BELOW_ROOT)
    assert collection.find(package(checkout)).root == tmp_path
    assert not (checkout / ".ansible").exists()


def test_no_collection_at_all(tmp_path: Path) -> None:
    with pytest.raises(TuneError, match="missing"):
        collection.find(tmp_path / "tune_nodes")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("galaxy.yml", GALAXY, "1.2.3"),
        ("MANIFEST.json", json.dumps({"collection_info": {"version": "0.9.0"}}), "0.9.0"),
        ("galaxy.yml", "{", ""),
        ("galaxy.yml", "- 1", ""),
        ("galaxy.yml", "\x00", ""),
        ("MANIFEST.json", "[]", ""),
        ("README.md", "", ""),
    ],
)
def test_version_of_a_copy(tmp_path: Path, name: str, text: str, expected: str) -> None:
    (tmp_path / name).write_text(text)
    assert collection.read_version(tmp_path) == expected


def paths(environ: dict[str, str], cwd: Path) -> list[str]:
    return collection.environment(environ, cwd)["ANSIBLE_COLLECTIONS_PATH"].split(":")


def test_ours_comes_before_the_users_variable(tmp_path: Path) -> None:
    ours = str(collection.root())
    assert paths({"ANSIBLE_COLLECTIONS_PATH": f"/a:{ours}:/b"}, tmp_path) == [ours, "/a", "/b"]


def test_ours_comes_before_the_configured_paths(tmp_path: Path) -> None:
    tmp_path.joinpath("ansible.cfg").write_text("[defaults]\ncollections_path = mine:/opt/c ; a comment\n")
    assert paths({}, tmp_path)[1:] == [str(tmp_path / "mine"), "/opt/c"]
    assert paths({"ANSIBLE_CONFIG": str(tmp_path)}, Path("/"))[1:] == [str(tmp_path / "mine"), "/opt/c"]


def test_config_in_a_directory_open_to_all_is_ignored_as_by_ansible(tmp_path: Path) -> None:
    tmp_path.joinpath("ansible.cfg").write_text("[defaults]\ncollections_path = /evil\n")
    tmp_path.chmod(0o777)
    assert "/evil" not in paths({}, tmp_path)


def test_defaults_of_ansible_stay(tmp_path: Path) -> None:
    tmp_path.joinpath("ansible.cfg").write_text("[defaults]\nforks = 7\n")
    assert paths({}, tmp_path)[1:] == [str(Path("~/.ansible/collections").expanduser()), collection.DEFAULT_PATHS[1]]


@pytest.mark.parametrize("text", ["no section\n", "[defaults\n", "\x00\n"])
def test_broken_config_is_named(tmp_path: Path, text: str) -> None:
    tmp_path.joinpath("ansible.cfg").write_text(text)
    with pytest.raises(UsageError, match=r"ansible\.cfg"):
        collection.environment({}, tmp_path)


def test_programs_of_this_python_come_first(tmp_path: Path) -> None:
    found = collection.environment({"PATH": "/usr/bin"}, tmp_path)["PATH"].split(os.pathsep)
    assert found == [str(collection.scripts()), "/usr/bin"]
    assert (collection.scripts() / "ansible-playbook").exists()


def test_older_copy_is_reported_and_never_used(tmp_path: Path) -> None:
    old = tmp_path / collection.BELOW_ROOT
    (old / "playbooks").mkdir(parents=True)
    (old / "playbooks" / "tune.yml").write_text("- hosts: all\n")
    (old / "MANIFEST.json").write_text(json.dumps({"collection_info": {"version": "0.0.1"}}))
    environ = {"ANSIBLE_COLLECTIONS_PATH": str(tmp_path)}
    resolution = collection.resolved(environ, tmp_path)
    resolution.check()
    assert [(copy.path, copy.version) for copy in resolution.shadows] == [(old, "0.0.1")]
    checked = subprocess.run(
        [collection.scripts() / "ansible-playbook", "--syntax-check", "-i", "localhost,", "tune.nodes.tune"],
        env={**os.environ, **collection.environment(environ, tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    used = checked.stdout.strip().removeprefix("playbook: ")
    assert Path(used).resolve() == collection.path() / "playbooks" / "tune.yml"


def test_another_copy_first_is_an_error(tmp_path: Path) -> None:
    ours = collection.collection()
    with pytest.raises(TuneError, match="does not use"):
        collection.Resolution(ours, None, ()).check()
    with pytest.raises(TuneError, match=str(tmp_path)):
        collection.Resolution(ours, collection.Collection(tmp_path, tmp_path, "0", "path"), ()).check()


@pytest.mark.parametrize("claimed", [False, True])
def test_node_code_is_importable_after_activate(tmp_path: Path, claimed: bool) -> None:
    """Also where another package has made ``ansible_collections`` a regular package."""
    (tmp_path / "ansible_collections").mkdir()
    if claimed:
        (tmp_path / "ansible_collections" / "__init__.py").write_text("")
    code = (
        "from tune_nodes import collection; collection.activate(); collection.activate()\n"
        "from ansible_collections.tune.nodes.plugins.module_utils import errors\n"
        "print(errors.__file__)"
    )
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{tmp_path}:{REPO / 'src'}"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).resolve() == REPO / "plugins/module_utils/errors.py"


def test_description_names_version_and_place() -> None:
    text = collection.describe()
    assert text.splitlines()[0] == f"tune-nodes {collection.version()}"
    assert str(REPO) in text
