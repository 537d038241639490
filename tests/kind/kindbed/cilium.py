"""Cilium's image: agent, CNI plugin, and the compiler with which the agent makes its datapath on each node."""

from __future__ import annotations

import shutil
from pathlib import Path

from kindbed import versions as v
from kindbed.command import find, run
from kindbed.programs import Programs
from kindbed.rootfs import libraries

MODULE = "github.com/cilium/cilium"
_UNUSED = ("tests", "complexity-tests", "test-progs", "tools")


def lay_out(root: Path, programs: Programs) -> None:
    """Add Cilium to a root that has the network programs.

    Args:
        root: changed in place.
        programs: builds Cilium's own.
    """
    shutil.copy2(programs.path("cilium", "cilium-agent"), root / "usr/bin/cilium-agent")
    (root / "opt/cni/bin").mkdir(parents=True)
    shutil.copy2(programs.path("cilium", "cilium-cni"), root / "opt/cni/bin/cilium-cni")
    source = programs.source("cilium", MODULE)
    for name in ("install-plugin.sh", "cni-uninstall.sh"):
        shutil.copyfile(source / "plugins/cilium-cni" / name, root / name)
        (root / name).chmod(0o755)
    datapath = root / "var/lib/cilium/bpf"
    datapath.parent.mkdir(parents=True)
    run(["cp", "--recursive", "--no-preserve=mode", str(source / "bpf"), str(datapath)])
    for name in _UNUSED:
        shutil.rmtree(datapath / name)
    _compiler(root)


def custom_resources(programs: Programs) -> list[Path]:
    """Return the directories with the definitions of Cilium's kinds, which its operator would create."""
    below = programs.source("cilium", MODULE) / "pkg/k8s/apis/cilium.io/client/crds"
    return [below / "v2", below / "v2alpha1"]


def _compiler(root: Path) -> None:
    clang = find(f"clang-{v.LLVM}", f"clang-{v.LLVM}")
    for program, place in ((clang, "usr/bin/clang"), (find("bpftool", "bpftool"), "usr/sbin/bpftool")):
        shutil.copyfile(Path(program).resolve(), root / place)
        (root / place).chmod(0o755)
        for library in libraries(run(["ldd", program]).stdout):
            target = root / library.lstrip("/")
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(library, target)
                target.chmod(0o755)
