"""The lab lane: real nodes for tests, taken down whatever happens."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tune_nodes.errors import TuneError
from tune_nodes.lab import Lab
from tune_nodes.lab.command import run
from tune_nodes.lab.requirements import check
from tune_nodes.lab.state import root_directory

MakeLab = Callable[..., Lab]

_numbers = itertools.count(1)
_LONGEST = "test_kill_loop_lab.py"
_TEST_LAB = re.compile(r"t([0-9]+)x[0-9]+")  # the test process's pid is in the name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this lane, and put the longest file first: as the last it would run alone."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.lab)
    items.sort(key=lambda item: item.path.name != _LONGEST)


@pytest.fixture(scope="session", autouse=True)
def lab_lane() -> None:
    """Fail under CI=true, else skip and say why, where this machine cannot carry a lab. The only skip there is."""
    try:
        check(root_directory())
        run(["unshare", "--net", "--mount", "--uts", "true"])
    except TuneError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"the lab lane cannot run: {error}", pytrace=False)
        pytest.skip(f"LAB LANE NOT RUN: {error}")
    _sweep()


def _sweep() -> None:
    """Take down the labs of test processes that were killed."""
    for path in root_directory().glob("t*x*"):
        match = _TEST_LAB.fullmatch(path.name)
        if match and not Path("/proc", match[1]).exists():
            Lab(path.name).down()


def _factory(directory: Path) -> Iterator[MakeLab]:
    labs: list[Lab] = []

    def make(nodes: int = 3, queues: int = 4, *, sudo: bool = True) -> Lab:
        lab = Lab(f"t{os.getpid()}x{next(_numbers)}")
        labs.append(lab)
        lab.up(nodes, queues, inventory_dir=directory / lab.name, sudo=sudo)
        return lab

    yield make
    errors = []
    for lab in labs:
        try:
            lab.down()
        except TuneError as error:
            errors.append(str(error))
    assert not errors


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[MakeLab]:
    """Return make(nodes=3, queues=4, sudo=True) -> Lab: a lab of the test's own, its inventory in the test's tmp_path.

    0.2 s for 3 nodes, 1.5 s for 60. ``lab.state.inventory`` is the inventory's directory.
    """
    yield from _factory(tmp_path)


@pytest.fixture(scope="module")
def make_module_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeLab]:
    """Return make_lab's function for labs that all tests of a module share."""
    yield from _factory(tmp_path_factory.mktemp("labs"))


@pytest.fixture(scope="module")
def lab3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three nodes for all tests of a module; the third is reached as an ordinary user with a sudo password.

    Tests that change a node without putting it back want ``make_lab`` instead.
    """
    for make in _factory(tmp_path_factory.mktemp("lab")):
        yield make(3)


Ansible = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ansible(tmp_path: Path) -> Ansible:
    """Return ansible(lab, *arguments) -> CompletedProcess: an ad hoc command, nobody's configuration read."""
    configuration = tmp_path / "ansible.cfg"
    configuration.write_text("[defaults]\n")

    def call(lab: Lab, *arguments: str, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).parent / "ansible"
        variables = os.environ | {"ANSIBLE_CONFIG": str(configuration), "ANSIBLE_NOCOLOR": "1", **environment}
        argv = [str(program), "-i", str(lab.state.inventory), *arguments]
        return subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=variables,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    return call
