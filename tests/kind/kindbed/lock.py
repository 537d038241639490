"""Write go.mod and go.sum of the programs anew from :mod:`kindbed.versions`.

They are committed: what is built is then what they name, checked against their hashes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from kindbed import versions as v
from kindbed.command import run, say

SOURCES = Path(__file__).resolve().parents[1] / "go"
_TENCENT = "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud"


@dataclass(frozen=True)
class Module:
    """What one program's go.mod says beyond what follows from it.

    Attributes:
        go: the language version.
        requires: module -> version.
        replaces: module -> module or directory, with version.
        tools: programs of other modules that are built as they are.
        staging: whether Kubernetes' own modules have to be named (its go.mod has them as directories of its checkout).
    """

    go: str = "1.24.0"
    requires: dict[str, str] = field(default_factory=dict)
    replaces: dict[str, str] = field(default_factory=dict)
    tools: tuple[str, ...] = ()
    staging: bool = False


MODULES = {
    "pause": Module(),
    "runc-nores": Module(),
    # One module: what its programs share is compiled once.
    "kube": Module(
        requires={
            "k8s.io/kubernetes": v.KUBERNETES,
            "k8s.io/kubectl": v.STAGING,
            "go.etcd.io/etcd/server/v3": v.ETCD,
            "github.com/coredns/coredns": v.COREDNS,
        },
        staging=True,
    ),
    "kind": Module(requires={"sigs.k8s.io/kind": v.KIND}, tools=("sigs.k8s.io/kind",)),
    "flanneld": Module(
        go="1.26.0",
        requires={"github.com/flannel-io/flannel": v.FLANNEL},
        replaces={f"{_TENCENT}/common": "./stubs/common", f"{_TENCENT}/vpc": "./stubs/vpc"},
        tools=("github.com/flannel-io/flannel",),
    ),
    "cilium": Module(
        go="1.26.0",
        requires={"github.com/cilium/cilium": v.CILIUM},
        replaces={
            "github.com/osrg/gobgp/v4": f"github.com/osrg/gobgp/v4 v{v.GOBGP}",
            "sigs.k8s.io/controller-tools": f"github.com/cilium/controller-tools v{v.CONTROLLER_TOOLS}",
        },
        tools=tuple(f"github.com/cilium/cilium/{part}" for part in ("daemon", "plugins/cilium-cni")),
    ),
}


def staging(kubernetes: str, version: str) -> dict[str, str]:
    """Return module -> module with version for those that Kubernetes' go.mod takes from its own checkout."""
    names = re.findall(r"^\s*(k8s\.io/[a-z0-9-]+) => \./staging/", kubernetes, re.M)
    return {name: f"{name} v{version}" for name in sorted(set(names))}


def go_mod(name: str, module: Module, replaces: dict[str, str]) -> str:
    """Return the go.mod that ``go mod tidy`` completes."""
    blocks = [
        f"module tune-nodes.test/{name}",
        f"go {module.go}",
        "\n".join(f"tool {tool}" for tool in module.tools),
        "\n".join(f"require {path} v{version}" for path, version in module.requires.items()),
        "\n".join(f"replace {path} => {other}" for path, other in replaces.items()),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def lock(names: list[str]) -> None:
    """Write the files of the named programs, or of all, anew."""
    for name in names or MODULES:
        say(f"go.mod of {name}")
        module = MODULES[name]
        replaces = dict(module.replaces)
        if module.staging:
            found = run(["go", "mod", "download", "-json", f"k8s.io/kubernetes@v{v.KUBERNETES}"], timeout=600).stdout
            replaces |= staging(Path(json.loads(found)["GoMod"]).read_text(), v.STAGING)
        directory = SOURCES / name
        (directory / "go.sum").unlink(missing_ok=True)
        (directory / "go.mod").write_text(go_mod(name, module, replaces))
        # -e: Cilium's modules name packages, for their own tests, that cannot be had. What is built is complete.
        run(["go", "mod", "tidy", "-e"], cwd=directory, timeout=900)
