"""The Go programs of the test bed, built from the modules below tests/kind/go."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from kindbed import versions as v
from kindbed.cache import Cache, key
from kindbed.command import run
from kindbed.lock import SOURCES
from tune_nodes.errors import TuneError

#: Where a Go may be that is not on the PATH.
PLACES = ("/usr/local/go/bin/go", *sorted(map(str, Path("/usr/lib").glob("go-*/bin/go")), reverse=True))
_BASE = "k8s.io/component-base/version"
_MINOR = v.KUBERNETES.split(".")[1]
_STATIC = "-linkmode external -extldflags -static"


@dataclass(frozen=True)
class Build:
    """How one module's programs are built.

    Attributes:
        takes: from an empty Go cache on 2 CPUs, for the progress line.
        programs: name of the file -> package.
        stamps: variable -> text that the linker puts there.
        ldflags: more for the linker.
        tags: of the build.
        cgo: whether it has C parts.
        links: further names of the one program; it acts by its name.
        plain: nothing is inlined: a quarter less for the compiler, for a program that does little.
    """

    takes: str
    programs: dict[str, str]
    stamps: tuple[tuple[str, str], ...] = ()
    ldflags: str = ""
    tags: str = ""
    cgo: bool = False
    links: tuple[str, ...] = ()
    plain: bool = False

    def flags(self) -> list[str]:
        """Return the arguments of ``go build``."""
        stamps = "".join(f" -X {name}={value}" for name, value in self.stamps)
        linker = f"-s -w {self.ldflags}{stamps}".strip()
        plain = ["-gcflags=all=-dwarf=false -l"] if self.plain else []
        return ["-trimpath", "-mod=readonly", "-buildvcs=false", *plain, f"-tags={self.tags}", f"-ldflags={linker}"]


BUILDS = {
    "kind": Build("10 s", {"kind": "sigs.k8s.io/kind"}),
    "runc-nores": Build("1 s", {"runc-nores": "."}),
    "pause": Build("1 s", {"pause": "."}),
    "kube": Build(
        "6 min",
        {"kube": ".", "etcd": "./etcd", "coredns": "./coredns", "crictl": "./crictl"},
        (
            (f"{_BASE}.gitVersion", f"v{v.KUBERNETES}"),
            (f"{_BASE}.gitMajor", "1"),
            (f"{_BASE}.gitMinor", _MINOR),
            ("k8s.io/client-go/pkg/version.gitVersion", f"v{v.KUBERNETES}"),
        ),
        links=("kubeadm", "kubectl"),
    ),
    "flanneld": Build(
        "55 s",
        {"flanneld": "github.com/flannel-io/flannel"},
        (("github.com/flannel-io/flannel/pkg/version.Version", f"v{v.FLANNEL}"),),
        ldflags=_STATIC,
        tags="netgo,osusergo",
        cgo=True,
    ),
    "cilium": Build(
        "4.5 min",
        {
            "cilium-agent": "github.com/cilium/cilium/daemon",
            "cilium-cni": "github.com/cilium/cilium/plugins/cilium-cni",
        },
        (("github.com/cilium/cilium/pkg/version.ciliumVersion", v.CILIUM),),
        plain=True,
    ),
}


def new_enough(version: str) -> bool:
    """Return whether ``go version``'s answer names at least the Go that the modules need."""
    found = re.search(r"\bgo(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) >= tuple(int(part) for part in v.GO.split("."))


def find_go() -> tuple[str, str]:
    """Return a Go that is new enough: its path and its version. Debian's own may be there too, and too old."""
    seen = []
    for path in dict.fromkeys((shutil.which("go"), *PLACES)):
        if path and Path(path).exists():
            # local: a version that is not there must not be fetched behind our back.
            version = run([path, "version"], env={"GOTOOLCHAIN": "local"}).stdout.strip()
            if new_enough(version):
                return path, version
            seen.append(f"{path} is {version}")
    raise TuneError(
        f"no Go {v.GO} or newer was found",
        "; ".join(seen) or "there is no go on the PATH nor in /usr/local/go",
        f"install Go {v.GO} or newer in /usr/local/go, or put it on the PATH",
    )


def lean() -> dict[str, str]:
    """Return what spares the compiler a fifth of its work: debug data, which the linker drops, and sweeping.

    Only a compiler that holds a gibibyte sweeps.
    """
    kept = os.environ.get("GOFLAGS", "")
    sweeping = {"GOGC": os.environ.get("GOGC", "off"), "GOMEMLIMIT": os.environ.get("GOMEMLIMIT", "1GiB")}
    return {**sweeping, "GOFLAGS": f"{kept} -gcflags=all=-dwarf=false".strip()}


class Programs:
    """Builds programs on first use.

    Args:
        cache: where they lie.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._go: tuple[str, str] | None = None

    def _found(self) -> tuple[str, str]:
        if self._go is None:
            self._go = find_go()
        return self._go

    def key(self, module: str) -> str:
        """Return the key of what a module's programs are made from. Builds nothing."""
        build = BUILDS[module]
        names = (*build.programs, *build.programs.values(), *build.links)
        return key(SOURCES / module, *build.flags(), *names, self._found()[1])

    def path(self, module: str, program: str = "") -> Path:
        """Return a program's path; ``program`` where its name is not its module's."""
        go, _ = self._found()
        build = BUILDS[module]

        def compile(directory: Path) -> None:
            env = {"CGO_ENABLED": str(int(build.cgo)), "GOTOOLCHAIN": "local", "GOWORK": "off", **lean()}
            # All at once: one is linked while others are compiled. The compiler names them after their packages.
            argv = [go, "build", *build.flags(), "-o", f"{directory}/", *build.programs.values()]
            run(argv, cwd=SOURCES / module, env=env, timeout=3000)
            for name, package in build.programs.items():
                (directory / (module if package == "." else Path(package).name)).rename(directory / name)
            for name in build.links:
                (directory / name).symlink_to(module)

        what = f"{module} (from an empty Go cache about {build.takes})"
        return self._cache.artefact(module, self.key(module), what, compile) / (program or module)

    def source(self, module: str, dependency: str) -> Path:
        """Return the directory of a module that a program is built from: its files other than code."""
        go, _ = self._found()
        argv = [go, "mod", "download", "-json", dependency]
        env = {"GOTOOLCHAIN": "local", "GOWORK": "off"}
        found = run(argv, cwd=SOURCES / module, env=env, timeout=600).stdout
        return Path(json.loads(found)["Dir"])
