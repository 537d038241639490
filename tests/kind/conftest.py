"""The kind lane: real clusters for tests, taken down at the end of the session."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kindbed.bed import Bed
from kindbed.cache import Cache
from kindbed.cluster import Cluster, Spec
from kindbed.requirements import why_not
from policybed import PREFIX, namespaces

from tune_nodes.cluster.client import Cluster as Client
from tune_nodes.errors import TuneError

HERE = Path(__file__).parent
INVENTORIES = HERE.parents[1] / "inventories"


FUNCTION_LIMIT = 600  # seconds, for a test that hangs; what brings a cluster up has limits of its own


def needs(item: pytest.Item, fixture: str) -> bool:
    """Return whether a test uses a fixture, if only through another."""
    return fixture in getattr(item, "fixturenames", ())


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this lane by their cluster, and put those with Cilium last.

    A process has one cluster at a time; the lanes `kind` and `cilium` are two processes.
    """
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.kind)
            if needs(item, "cilium_cluster"):
                item.add_marker(pytest.mark.cilium)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(FUNCTION_LIMIT, func_only=True))
    items.sort(key=lambda item: needs(item, "cilium_cluster"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Build what is absent before the first test: the tests' time limits are for tests."""
    chosen = any(item.get_closest_marker("kind") for item in session.items)
    if chosen and not session.config.option.collectonly and not why_not():
        try:
            cilium = any(needs(item, "cilium_cluster") for item in session.items)
            Bed(Cache(), INVENTORIES).build(cni="cilium" if cilium else "flannel")
        except TuneError as error:
            pytest.exit(f"the test bed cannot be built: {error}", returncode=1)


@pytest.fixture(scope="session")
def kind_lane() -> None:
    """Fail under CI=true, else skip and say why, where this machine cannot carry a cluster. The only skip there is."""
    if reason := why_not():
        if os.environ.get("CI") == "true":
            pytest.fail(f"the kind lane cannot run: {reason}", pytrace=False)
        pytest.skip(f"KIND LANE NOT RUN: {reason}")


class OneCluster:
    """The clusters of a process, of which one is up at a time."""

    def __init__(self) -> None:
        self._bed = Bed(Cache(), INVENTORIES)
        self._up = ""

    def take(self, given: str, spec: Spec) -> Cluster:
        """Return the cluster that the variable ``given`` names, else one made for the session."""
        if name := os.environ.get(given):
            return self._bed.existing(name)
        self.down()
        self._up = spec.name  # also where it does not become ready
        return self._bed.up(spec)

    def down(self) -> None:
        """Remove the cluster that was made here, if there is one."""
        if self._up:
            self._bed.down(self._up)
            self._up = ""


@pytest.fixture(scope="session")
def one_cluster(kind_lane: None) -> Iterator[OneCluster]:
    """Bring clusters up and, at the end, down."""
    clusters = OneCluster()
    yield clusters
    clusters.down()


@pytest.fixture(scope="session")
def kind_cluster(one_cluster: OneCluster) -> Cluster:
    """Three nodes with Flannel for all tests of the session; $TUNE_NODES_KIND=NAME takes one that is up, and leaves it.

    Tests put back what they change; after a change of addresses ``refresh()``.
    """
    return one_cluster.take("TUNE_NODES_KIND", Spec("tune-nodes-test", "flannel", 2))


@pytest.fixture(scope="session")
def cilium_cluster(one_cluster: OneCluster) -> Cluster:
    """Two nodes with Cilium, which enforces policies; $TUNE_NODES_KIND_CILIUM=NAME takes one that is up.

    The other cluster is gone then: tests that want this one run after all others.
    """
    return one_cluster.take("TUNE_NODES_KIND_CILIUM", Spec("tune-nodes-cilium", "cilium", 1))


@pytest.fixture(scope="session")
def either_cluster(cilium_cluster: Cluster) -> Cluster:
    """A cluster for tests that ask the API server and need no particular CNI: that of the shorter lane."""
    return cilium_cluster


@pytest.fixture
def cluster(either_cluster: Cluster) -> Iterator[Client]:
    """Its API, as the product reaches it."""
    with Client.open(either_cluster.kubeconfig) as opened:
        yield opened


@pytest.fixture
def space(cluster: Client) -> Iterator[str]:
    """A namespace in it, removed after the test."""
    name = f"{PREFIX}-{os.getpid()}-{time.monotonic_ns() % 10**9}"
    with namespaces(cluster, [name]):
        yield name
