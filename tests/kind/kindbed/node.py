"""The file system of a kind node: Debian, the files of kind's own images, the programs, sshd."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from kindbed import versions as v
from kindbed.command import run

FILES = Path(__file__).with_name("node")
_CNI = """\
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/opt/cni/bin"
  conf_dir = "/etc/cni/net.d"
"""
_STORAGE = """\
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: standard}
provisioner: kubernetes.io/no-provisioner
"""
#: Units of a machine that a container must not start. As in the Dockerfile of kind's base image.
_NO_UNITS = (
    "lib/systemd/system/multi-user.target.wants/*",
    "etc/systemd/system/*.wants/*",
    "lib/systemd/system/local-fs.target.wants/*",
    "lib/systemd/system/sockets.target.wants/*udev*",
    "lib/systemd/system/sockets.target.wants/*initctl*",
    "lib/systemd/system/basic.target.wants/*",
    "lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
)


def containerd_config(text: str, pause: str) -> str:
    """Return kind's configuration of containerd as Debian's containerd 1.6 takes it.

    Args:
        text: kind's.
        pause: the image that kubeadm wants for sandboxes.
    """
    lines = [line for line in text.splitlines() if "base_runtime_spec" not in line]
    text = "\n".join(lines) + "\n"
    # Without CAP_SYS_RESOURCE no process may lower its own score.
    text = text.replace("restrict_oom_score_adj = false", "restrict_oom_score_adj = true")
    text = re.sub(r'sandbox_image = "[^"]*"', lambda _: f'sandbox_image = "{pause}"', text)
    return text + _CNI


def containerd_unit(text: str) -> str:
    """Return kind's unit for Debian's containerd, without what asks for CAP_SYS_RESOURCE."""
    lines = [line for line in text.splitlines() if not re.match(r"OOMScoreAdjust=|Limit[A-Z]+=", line)]
    return "\n".join(lines).replace("/usr/local/bin/containerd", "/usr/bin/containerd") + "\n"


def lay_out(root: Path, *, kind_files: Path, kube: Path, programs: Iterable[tuple[Path, str]], pause: str) -> None:
    """Make a node out of the Debian system at ``root``.

    Args:
        root: changed in place.
        kind_files: images/base/files of the kind module.
        kube: the Kubernetes programs.
        programs: (program, its place below root).
        pause: the image that kubeadm wants for sandboxes.
    """
    for part in ("etc", "kind", "usr/local/bin"):
        (root / part).mkdir(exist_ok=True)
        # Everything in the module cache is read-only, and not executable.
        run(["cp", "--recursive", "--no-preserve=mode", f"{kind_files / part}/.", str(root / part)])
    for path in (*(root / "usr/local/bin").iterdir(), *(root / "kind/bin").iterdir()):
        path.chmod(0o755)
    _programs(root, kube, programs)
    _configuration(root, pause)
    _units(root)


def _programs(root: Path, kube: Path, programs: Iterable[tuple[Path, str]]) -> None:
    _install(kube, root / "usr/bin/kube")
    for name in ("kubelet", "kubeadm", "kubectl"):
        (root / "usr/bin" / name).symlink_to("kube")
    for program, place in programs:
        _install(program, root / place)
    shutil.copytree(root / "usr/lib/cni", root / "opt/cni/bin")
    _install(FILES / "cni_flannel.py", root / "opt/cni/bin/flannel")


def _configuration(root: Path, pause: str) -> None:
    config = root / "etc/containerd/config.toml"
    config.write_text(containerd_config(config.read_text(), pause))
    unit = root / "etc/systemd/system/containerd.service"
    unit.write_text(containerd_unit(unit.read_text()))
    for directory in ("etc/kubernetes/manifests", "etc/cni/net.d", "kind/manifests"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    (root / "kind/version").write_text(f"v{v.KUBERNETES}\n")
    (root / "kind/manifests/default-cni.yaml").write_text("")
    (root / "kind/manifests/default-storage.yaml").write_text(_STORAGE)  # kind does not take an empty one
    for identity in ("etc/machine-id", "var/lib/dbus/machine-id"):
        # kind's entrypoint makes one for each node, unless Debian's dbus package left one for all of them.
        (root / identity).unlink(missing_ok=True)
    with (root / "etc/systemd/journald.conf").open("a") as journald:
        journald.write("ReadKMsg=no\n")


def _units(root: Path) -> None:
    for pattern in _NO_UNITS:
        for path in root.glob(pattern):
            path.unlink()
    add_sshd(root)
    systemctl = ["chroot", str(root), "systemctl", "--quiet"]
    run([*systemctl, "enable", "kubelet", "containerd", "undo-mount-hacks", "ssh"])
    run([*systemctl, "mask", "systemd-binfmt.service"])
    init = root / "sbin/init"
    init.unlink(missing_ok=True)
    init.symlink_to("/usr/lib/systemd/systemd")


def add_sshd(root: Path) -> None:
    """Add the drop-in with which each node makes host keys of its own."""
    _install(FILES / "ssh-host-keys.conf", root / "etc/systemd/system/ssh.service.d/10-host-keys.conf", 0o644)


def _install(source: Path, target: Path, mode: int = 0o755) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)
