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
LIMIT = 600  # seconds; about 60 on a machine that does nothing else


@pytest.mark.timeout(LIMIT + 60)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_molecule_scenario(kind_cluster: Cluster, tmp_path: Path, scenario: str) -> None:
    programs = Path(sys.executable).parent
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "MOLECULE_"))}
    own = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "TUNE_NODES_KIND": kind_cluster.name,
        "MOLECULE_EPHEMERAL_DIRECTORY": str(tmp_path),  # nothing is remembered of another run
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
