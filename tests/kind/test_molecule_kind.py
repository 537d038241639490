"""Every Molecule scenario, on the session's cluster: roles in Ansible's own plays, checked by programs of the nodes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kindbed.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = sorted(path.parent.name for path in ROOT.glob("molecule/*/molecule.yml") if path.parent.name != "default")
#: Those about what Flannel keeps on a node. The others mind no CNI, and `policy_emergency_reset` one that enforces.
FLANNELS = ["cni_reinstall", "cni_state_cleanup", "mtu_alignment"]
LIMIT = 600  # seconds; about 60 on a machine that does nothing else


@pytest.mark.timeout(LIMIT + 60)
@pytest.mark.parametrize("scenario", FLANNELS)
def test_molecule_scenario_of_flannel(kind_cluster: Cluster, tmp_path: Path, scenario: str) -> None:
    passes(scenario, kind_cluster, tmp_path)


@pytest.mark.timeout(LIMIT + 60)
@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name not in FLANNELS])
def test_molecule_scenario(either_cluster: Cluster, tmp_path: Path, scenario: str) -> None:
    passes(scenario, either_cluster, tmp_path)


def passes(scenario: str, cluster: Cluster, directory: Path) -> None:
    """Run a scenario's whole sequence."""
    programs = Path(sys.executable).parent
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "MOLECULE_"))}
    own = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "TUNE_NODES_KIND": cluster.name,
        "MOLECULE_EPHEMERAL_DIRECTORY": str(directory),  # nothing is remembered of another run
        "MOLECULE_COMMAND_BORDERS": "false",
        "NO_COLOR": "1",
        "ANSIBLE_NOCOLOR": "1",
    }
    done = subprocess.run(
        [str(programs / "molecule"), "test", "--scenario-name", scenario],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**kept, **own},
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout[-20000:]
