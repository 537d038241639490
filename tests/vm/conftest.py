"""The vm lane: one machine for all its tests, switched off and cleared away whatever happens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from vmbed.image import image
from vmbed.machine import Machine
from vmbed.network import Network, namespace
from vmbed.requirements import check
from vmrun import VmCli, reset

from tune_nodes.errors import TuneError

LIMIT = 900  # seconds a test may take: an emulated boot beside other work is slow


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this lane."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.vm)
            item.add_marker(pytest.mark.timeout(LIMIT))


@pytest.fixture(scope="session", autouse=True)
def vm_lane() -> None:
    """Fail under CI=true, else skip and say why, where this machine cannot run another. The only skip there is."""
    try:
        check()
    except TuneError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"the vm lane cannot run: {error}", pytrace=False)
        pytest.skip(f"VM LANE NOT RUN: {error}")


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine switched on once; tests want ``vm``, which is as fresh."""
    directory = tmp_path_factory.mktemp("vm")
    network = Network(namespace(os.getpid()))
    network.up()
    machine = Machine(directory, image(), network)
    try:
        machine.start()
        yield machine
    finally:
        machine.power_cut()
        network.down()


@pytest.fixture
def vm(machine: Machine) -> Machine:
    """The machine, running, and as it was before any test: nothing of ours, values of its kernel, two queues."""
    reset(machine)
    return machine


@pytest.fixture
def cli(vm: Machine, tmp_path: Path) -> VmCli:
    """The command line with the machine's inventory and a state directory of its own."""
    return VmCli(tmp_path / "cli", vm)
