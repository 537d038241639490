"""Debian's part: the root of a node, and the few programs of it that an agent's image needs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from kindbed import versions as v
from kindbed.cache import Cache, key
from kindbed.command import find, run

_UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists")
#: What kube-proxy, flanneld and Cilium's agent call, and a shell to look around with.
_TOOLS = (
    *("dash", "bash", "cat", "cp", "mv", "mkdir", "rm", "ls", "find", "basename", "env", "timeout", "sleep", "sed"),
    *("grep", "mount", "umount", "nsenter", "kmod", "ip", "tc", "nft", "ipset", "conntrack", "jq"),
)
_LIBRARY = re.compile(r"(?:=>|^)\s+(/\S+) \(0x", re.M)


def debian(cache: Cache) -> Path:
    """Return the root of a Debian system with the packages of a node."""
    packages = ",".join(v.NODE_PACKAGES)

    def build(directory: Path) -> None:
        root = directory / "root"
        # In a mount namespace of its own: a build that is killed leaves no /proc mounted below the cache.
        argv = [find("unshare", "util-linux"), "--mount", find("debootstrap", "debootstrap"), "--variant=minbase"]
        run([*argv, f"--include={packages}", v.DEBIAN, str(root)], timeout=1200)
        for unused in _UNUSED:
            shutil.rmtree(root / unused, ignore_errors=True)
        for host_key in (root / "etc/ssh").glob("ssh_host_*"):
            host_key.unlink()

    made_from = key(v.DEBIAN, packages, *_UNUSED)
    return cache.artefact("debian", made_from, "the nodes' Debian (about 90 s)", build) / "root"


def tools(cache: Cache) -> Path:
    """Return a root of some 20 MB with the network programs and what they need."""
    source = debian(cache)

    def build(directory: Path) -> None:
        root = directory / "root"
        for name in ("usr/sbin", "usr/bin", "usr/lib", "usr/lib64", "etc", "tmp", "run", "var", "proc", "sys", "dev"):
            (root / name).mkdir(parents=True)
        for name in ("sbin", "bin", "lib", "lib64"):
            (root / name).symlink_to(f"usr/{name}")
        for path in _wanted(source):
            _copy(source, root, path)
        (root / "usr/bin/sh").symlink_to("dash")
        (root / "usr/sbin/modprobe").symlink_to("../bin/kmod")
        (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
        add_libraries(root, source)

    made_from = key(source.parent.name, *_TOOLS, Path(__file__))
    return cache.artefact("tools", made_from, "the root of the agents' images", build) / "root"


def _wanted(source: Path) -> Iterator[Path]:
    yield from sorted((source / "usr/sbin").glob("*tables*"))
    yield source / "etc/alternatives"  # through which iptables is iptables-nft
    yield from (source / "usr/lib").glob("*/xtables")
    for name in _TOOLS:
        yield next(path for path in (source / "usr/bin" / name, source / "usr/sbin" / name) if path.exists())


def _copy(source: Path, root: Path, path: Path) -> None:
    target = root / path.relative_to(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Links among the *tables* stay links, they lead to one program; cp keeps modes and owners.
    run(["cp", "--archive", "--no-target-directory", str(path), str(target)])


def add_libraries(root: Path, source: Path) -> None:
    """Copy the libraries that the programs below ``root`` need out of ``source``, which has a dynamic linker too.

    ``source`` must have the same programs at the same places.
    """
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    names = [f"/{path.relative_to(root)}" for path in files if _is_elf(path)]
    told = run(["chroot", str(source), "ldd", *names], timeout=60, check=False).stdout
    for library in libraries(told):
        target = root / library.lstrip("/")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / library.lstrip("/"), target)


def libraries(told: str) -> list[str]:
    """Return the files that ``ldd`` named, the dynamic linker among them."""
    return sorted(set(_LIBRARY.findall(told)))


def _is_elf(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(4) == b"\x7fELF"
