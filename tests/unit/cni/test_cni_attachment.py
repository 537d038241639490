"""CNI DEL for sandboxes that are gone, with plugins that are really run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.cni import attachment, calls
from cni_node import LIVE, Node, drop, sandbox_id

DEL = """
[ "$CNI_COMMAND" = DEL ] && [ -z "$CNI_NETNS" ] && [ "$CNI_IFNAME" = eth0 ] || exit 3
cat > "{root}/$CNI_CONTAINERID.$(basename $0)"
echo "$(basename $0) $CNI_CONTAINERID $CNI_ARGS" >> "{root}/calls"
"""
GIVE_BACK = 'for f in {leases}/10*; do grep -q "$CNI_CONTAINERID" "$f" && rm "$f"; done; true'


def plugins(node: Node, give_back: bool = True, flannel: str = "") -> None:
    """Install plugins that note how they were called; flannel gives the lease back as the real one does."""
    here = node.root / "opt/cni/bin"
    script = DEL.format(root=node.root)
    more = GIVE_BACK.format(leases=node.leases) if give_back else ""
    node.program("portmap", script, here)
    node.program("flannel", f"{script}{flannel}\n{more}", here)


@pytest.fixture
def with_plugins(node: Node, monkeypatch: pytest.MonkeyPatch) -> Node:
    """A node whose runtime looks for plugins below its own root."""
    info = json.loads((node.bin / "info.json").read_text())
    info["cniconfig"]["PluginDirs"] = [str(node.root / "opt/cni/bin")]
    (node.bin / "info.json").write_text(json.dumps(info))
    plugins(node)
    return node


def test_a_cached_attachment_is_given_back_by_its_plugins(with_plugins: Node) -> None:
    node = with_plugins
    node.lay_many(2)
    cache = node.attach(10, "10.244.1.10")
    cached = cache.read_bytes()
    before = node.contents()
    result = drop(node)
    assert result["cni"]["released"] == {"del": 1, "file": 1}
    rows = [line.split()[:2] for line in (node.root / "calls").read_text().splitlines()]
    assert rows == [["portmap", sandbox_id(10)], ["flannel", sandbox_id(10)]]  # the last plugin first
    assert "K8S_POD_NAMESPACE=leases-test" in (node.root / "calls").read_text()
    told = json.loads((node.root / f"{sandbox_id(10)}.flannel").read_text())
    assert told["name"] == "cbr0" and told["type"] == "flannel"
    assert not cache.exists()
    calls.bring_back(node.ask(undo="run-1"))
    assert cache.read_bytes() == cached and node.contents() == before


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda node: plugins(node, False, 'echo \'{"code": 7, "msg": "no lease"}\'; exit 1'), "flannel: no lease"),
        (lambda node: (node.root / "opt/cni/bin/portmap").unlink(), "there is no plugin portmap"),
    ],
)
def test_where_the_plugins_fail_the_file_goes_and_it_is_said(
    with_plugins: Node, prepare: Callable[[Node], object], said: str
) -> None:
    node = with_plugins
    node.lay_many(1)
    cache = node.attach(10, "10.244.1.10")
    prepare(node)
    result = drop(node)
    assert result["cni"]["released"] == {"file": 1}
    assert said in result["warnings"][0]
    assert cache.exists()  # the next DEL may still need it


def test_a_running_pods_attachment_is_never_given_back(with_plugins: Node) -> None:
    node = with_plugins
    for ip in LIVE:
        os.utime(node.leases / ip, (0, 0))
    assert drop(node)["changes"] == []
    assert not (node.root / "calls").exists()


def test_a_plugin_that_hangs_is_given_up(with_plugins: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node = with_plugins
    monkeypatch.setattr(attachment, "TIMEOUT", 0.2)
    node.lay_many(1)
    node.attach(10, "10.244.1.10")
    node.program("portmap", "exec sleep 20", node.root / "opt/cni/bin")
    result = drop(node)
    assert result["cni"]["released"] == {"file": 1} and "did not answer" in result["warnings"][0]
