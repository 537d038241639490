"""The command line as a process of its own: nobody's configuration is read, a test's own lies in its directory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tune_nodes.collection import environment

SOURCE = Path(__file__).resolve().parents[1] / "src"
PROGRAM = (sys.executable, "-m", "tune_nodes.cli.main")

Done = subprocess.CompletedProcess[str]


def env_of(directory: Path, state: str = "state", **more: str) -> dict[str, str]:
    """Return the environment of a command: this process's, without its settings of Ansible and of ours.

    Args:
        directory: for Ansible's configuration, ours, and the state.
        state: the name of the state directory in it: each is another controller's.
        more: variables beside it.
    """
    configuration = directory / "ansible.cfg"
    if not configuration.exists():
        configuration.write_text("[defaults]\n")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "TUNE_NODES_"))}
    for name in ("COLUMNS", "KUBECONFIG"):  # the person's own cluster is none of a test's
        kept.pop(name, None)
    own = {
        "PYTHONPATH": str(SOURCE),
        "XDG_CONFIG_HOME": str(directory / "config"),
        "ANSIBLE_CONFIG": str(configuration),
        "TUNE_NODES_STATE_DIR": str(directory / state),
        "LANG": "C.UTF-8",
    }
    return {**kept, **environment(), **own, **more}


def finished(argv: Sequence[str], env: Mapping[str, str], timeout: float = 240, cwd: Path | None = None) -> Done:
    """Run a command without a terminal, and wait for it.

    Args:
        argv: of the command.
        env: all of its environment.
        timeout: seconds.
        cwd: where it runs.
    """
    return subprocess.run(
        argv, env=env, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL, cwd=cwd
    )
