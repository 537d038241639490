"""An image with a shell and kubectl, as the Job wants that closes the door of a policy reset."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from kindbed.cluster import Cluster
from kindbed.command import find, run

IMAGE = "tune-nodes-test/kubectl:1"  # never pushed, never pulled


def load(cluster: Cluster) -> str:
    """Have the image on every node; its name."""
    listed = [cluster.exec(node, "ctr", "--namespace", "k8s.io", "images", "ls", "-q") for node in cluster.nodes]
    if not all(f"docker.io/{IMAGE}" in names.split() for names in listed):
        with tempfile.TemporaryDirectory() as directory:
            _lay_out(Path(directory), cluster.kubectl_program)
            cluster.import_root(Path(directory), IMAGE, ["ENV PATH=/bin"])
    return IMAGE


def _lay_out(root: Path, kubectl: Path) -> None:
    for name in ("bin", "tmp"):
        (root / name).mkdir()
    busybox = find("busybox", "busybox-static")
    shutil.copy2(busybox, root / "bin/busybox")
    for name in run([busybox, "--list"]).stdout.split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    shutil.copyfile(kubectl, root / "bin/kubectl")
    (root / "bin/kubectl").chmod(0o755)
