"""A node in a directory for the CNI code's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.cni import command
from cni_node import Node, make


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """A captured node with Flannel; programs are its own and the machine's."""
    found = make(tmp_path)
    monkeypatch.setattr(command, "PATH", f"{found.bin}:/usr/bin:/bin")
    return found
