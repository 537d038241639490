"""The wheel, installed with its locked dependencies in an empty environment elsewhere, is all that a user needs."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tune_nodes import collection
from tune_nodes.lab import Lab

REPO = Path(__file__).resolve().parents[2]
LOCK = REPO / "requirements" / "run.txt"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tune-nodes-test"
PLAYBOOK = """\
- name: A play of the user's own
  hosts: all
  gather_facts: false
  roles:
    - role: tune.nodes.sysctl_buffers
      vars:
        sysctl_buffers_settings: {net.core.somaxconn: 16384}
"""
PREFIX = f"{collection.BELOW_ROOT.as_posix()}/"


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None, timeout: int = 120) -> str:
    """Run a program and return what it wrote to standard output."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(target: str, into: Path) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", into, cwd=REPO)
    return next(into.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel:standard", tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def wheelhouse() -> Path:
    """The locked dependencies as wheels, downloaded once for each lock and Python: later runs need no network."""
    tag = sys.implementation.cache_tag
    home = CACHE / f"wheels-{tag}-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]}"
    if not home.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=CACHE))
        pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
        run(*pip, "download", "--require-hashes", "-r", LOCK, "-d", fresh, cwd=REPO, timeout=280)
        try:
            fresh.rename(home)
        except OSError:  # another run was quicker
            shutil.rmtree(fresh)
    return home


@pytest.fixture(scope="module")
def installed(wheel: Path, wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty virtual environment with the wheel and its dependencies; returns the directory of its programs."""
    place = tmp_path_factory.mktemp("elsewhere")
    run(sys.executable, "-m", "venv", "--without-pip", place / "venv", cwd=place)
    programs = place / "venv" / "bin"
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", programs / "python")
    offline = ("install", "--no-index", "--find-links", wheelhouse)
    run(*pip, *offline, "--require-hashes", "-r", LOCK, cwd=place, timeout=280)
    run(*pip, *offline, wheel, cwd=place)
    run(*pip, "check", cwd=place)
    return programs


@pytest.fixture
def clean(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has set nothing up."""
    return {
        "HOME": str(tmp_path),
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
    }


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_wheel_holds_the_whole_collection_and_nothing_of_its_workshop(wheel: Path) -> None:
    found = [name.removeprefix(PREFIX) for name in names(wheel) if name.startswith(PREFIX)]
    tracked = {
        path.relative_to(REPO).as_posix()
        for folder in ("plugins", "roles", "playbooks", "meta")
        for path in (REPO / folder).rglob("*")
        if path.is_file()
        and path.suffix not in (".pyc", ".toml")
        and not {".ruff_cache", "__pycache__"} & {*path.parts}
    }
    assert set(found) == tracked | {"galaxy.yml", "README.md", "LICENSE"}


def test_wheel_holds_nothing_else(wheel: Path) -> None:
    roots = {name.split("/")[0] for name in names(wheel)}
    assert roots == {"ansible_collections", "tune_nodes", f"tune_nodes-{collection.version()}.dist-info"}
    assert not [name for name in names(wheel) if "__pycache__" in name or name.endswith(".pyc")]


def test_editable_wheel_holds_no_copy_of_the_collection(tmp_path: Path) -> None:
    assert not [name for name in names(build("wheel:editable", tmp_path)) if name.startswith("ansible_collections")]


def test_version_prints_the_collection_in_use(installed: Path, clean: dict[str, str], tmp_path: Path) -> None:
    text = run(installed / "tune-nodes", "--version", cwd=tmp_path, env=clean)
    library = next((installed.parent / "lib").glob("python3*")) / "site-packages"
    assert str(library / collection.BELOW_ROOT) in text
    assert collection.version() in text


@pytest.fixture
def sockets() -> Iterator[str]:
    """A directory for ssh's sockets: a path of theirs has room for 107 bytes, and a test's may be longer."""
    with tempfile.TemporaryDirectory(prefix="tn") as directory:
        yield directory


def test_older_copy_of_the_user_is_noted(installed: Path, clean: dict[str, str], tmp_path: Path) -> None:
    old = tmp_path / ".ansible" / "collections" / collection.BELOW_ROOT
    old.mkdir(parents=True)
    (old / "galaxy.yml").write_text("version: 0.0.1\n")
    text = run(installed / "tune-nodes", "--version", cwd=tmp_path, env=clean)
    assert f"finds tune.nodes 0.0.1 first: {old}" in text


@pytest.mark.parametrize("plugin", ["sysctl", "nic_queues", "observe", "transaction", "confirm", "rollback"])
def test_documentation_is_found(installed: Path, clean: dict[str, str], tmp_path: Path, plugin: str) -> None:
    text = run(installed / "ansible-doc", f"tune.nodes.{plugin}", cwd=tmp_path, env=clean)
    assert f"tune.nodes.{plugin}" in text


def test_shipped_profiles_are_found(installed: Path, clean: dict[str, str], tmp_path: Path) -> None:
    assert "kubernetes-node" in run(installed / "tune-nodes", "profiles", "list", cwd=tmp_path, env=clean)


def test_role_runs_from_a_users_playbook(installed: Path, clean: dict[str, str], tmp_path: Path, sockets: str) -> None:
    lab = Lab(f"wheel{os.getpid()}")
    (tmp_path / "site.yml").write_text(PLAYBOOK)
    try:
        lab.up(2, inventory_dir=tmp_path / "inventory")
        env = clean | {"ANSIBLE_SSH_CONTROL_PATH_DIR": sockets}
        run(installed / "ansible-playbook", "-i", tmp_path / "inventory", "site.yml", cwd=tmp_path, env=env)
        assert [node.read_sysctl("net.core.somaxconn") for node in lab.nodes] == ["16384", "16384"]
    finally:
        lab.down()
