"""Which logs belong to the evidence: the end of those of the network's agents, and of nobody else."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.tune.nodes.plugins.module_utils.cni import evidence
from ansible_collections.tune.nodes.plugins.module_utils.host import observe_host

UID = "0e8d1b9c-52a5-4b5e-9d8d-9b1f6a0f7c11"


def lay(root: Path, pod: str, container: str, *logs: str) -> None:
    directory = root / "var/log/pods" / f"{pod}_{UID}" / container
    directory.mkdir(parents=True)
    for number, text in enumerate(logs):
        (directory / f"{number}.log").write_text(text)


def test_only_agents_and_of_each_container_the_last_two(tmp_path: Path) -> None:
    lay(tmp_path, "kube-flannel_kube-flannel-ds-x7x2p", "kube-flannel", *["a line\n"] * 12)
    lay(tmp_path, "kube-system_cilium-b2xkc", "cilium-agent", "a line\n")
    lay(tmp_path, "shop_cart-0", "cart", "an order\n")
    lay(tmp_path, "shop_my-cilium-b2xkc", "cart", "an order\n")
    found = [path.split("/")[4:] for path in evidence.agent_logs(observe_host(str(tmp_path)))]
    assert [(pod.split("_")[1], log) for pod, _, log in found] == [
        ("kube-flannel-ds-x7x2p", "10.log"),
        ("kube-flannel-ds-x7x2p", "11.log"),
        ("cilium-b2xkc", "0.log"),
    ]


def test_a_long_log_is_cut_at_a_line(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_text("".join(f"line {number}\n" for number in range(60_000)))
    text = evidence._end(str(log))
    assert len(text) <= evidence._LOG
    assert text.startswith("line ") and text.endswith("line 59999\n")
    assert evidence._end(str(tmp_path)) == "" and evidence._end(str(tmp_path / "missing")) == ""
