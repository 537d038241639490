"""Build the machine's disk once and keep it: a directory of the cache that is complete or not there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tune_nodes.lab.command import run
from vmbed import recipe

_BEGAN = time.monotonic()
_UNFINISHED = ".building-"


def say(text: str) -> None:
    """Print a line of progress on stderr, with the seconds since the start."""
    print(f"vmbed {time.monotonic() - _BEGAN:5.0f} s  {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Image:
    """A finished disk with all that starts it and logs in to it."""

    directory: Path

    @property
    def disk(self) -> Path:
        """The root file system, read only: machines write to overlays of their own."""
        return self.directory / "disk.raw"

    @property
    def kernel(self) -> Path:
        """The kernel on the disk."""
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """The kernel's initial RAM disk."""
        return self.directory / "initrd"

    @property
    def key(self) -> Path:
        """The private key that root logs in with."""
        return self.directory / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The machine's host key, known before its first start."""
        return self.directory / "known_hosts"


def cache_directory(env: Mapping[str, str]) -> Path:
    """Return where disks are kept: below $TUNE_NODES_TEST_CACHE, or tune-nodes-test in the user's cache."""
    if named := env.get("TUNE_NODES_TEST_CACHE"):
        return Path(named) / "vm"
    base = env.get("XDG_CACHE_HOME") or str(Path(env.get("HOME", "/root")) / ".cache")
    return Path(base) / "tune-nodes-test" / "vm"


def image(cache: Path | None = None) -> Image:
    """Return the disk, built now where the cache has none of this recipe. Raises TuneError."""
    cache = cache or cache_directory(os.environ)
    path = cache / f"disk-{recipe.key()}"
    with _lock(cache):
        if not path.is_dir():
            say("building the disk: about two minutes")
            fresh = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=cache))
            try:
                _build(fresh)
                fresh.rename(path)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
            say(f"built {path}")
    return Image(path)


@contextlib.contextmanager
def _lock(cache: Path) -> Iterator[None]:
    """Let one process build at a time; what a killed one left half made is removed."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for left in cache.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left)
        yield


def _build(directory: Path) -> None:
    root = directory / "root"
    _own_mounts(["debootstrap", "--variant=minbase", f"--include={','.join(recipe.PACKAGES)}", recipe.SUITE, str(root)])
    _write(root, recipe.EARLY_FILES)
    _chroot(root, "apt-get -qq update && apt-get -qq -y install --no-install-recommends " + recipe.KERNEL)
    _write(root, recipe.FILES)
    _give_identity(root, directory)
    for name in recipe.DIRECTORIES:
        (root / name).mkdir(parents=True, exist_ok=True)
    _chroot(root, f"systemctl -q enable {' '.join(recipe.ENABLED)} && systemctl -q mask {' '.join(recipe.MASKED)}")
    for name, target in (("vmlinuz-*", "vmlinuz"), ("initrd.img-*", "initrd")):
        (kernel,) = (root / "boot").glob(name)
        shutil.copy(kernel, directory / target)
    for name in recipe.REMOVED:
        shutil.rmtree(root / name, ignore_errors=True)
    disk = directory / "disk.raw"
    run(["truncate", "-s", recipe.DISK_SIZE, str(disk)])
    run(["mkfs.ext4", "-q", "-F", "-d", str(root), str(disk)], timeout=300)
    shutil.rmtree(root)


def _own_mounts(argv: list[str]) -> None:
    """Run a program that mounts things below the root: its mounts go with it, however it ends."""
    run(["unshare", "--mount", "--propagation", "private", *argv], timeout=900)


def _chroot(root: Path, script: str) -> None:
    inner = 'mount -t proc proc "$0/proc" && exec chroot "$0" env DEBIAN_FRONTEND=noninteractive sh -ec "$1"'
    _own_mounts(["sh", "-ec", inner, str(root), script])


def _write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _give_identity(root: Path, directory: Path) -> None:
    """Make the keys of both sides, so that the very first login checks the host's, and a lasting machine id."""
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "vmbed", "-f", str(directory / "id_ed25519")])
    for old in (root / "etc/ssh").glob("ssh_host_*"):
        old.unlink()
    host_key = root / "etc/ssh/ssh_host_ed25519_key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "vmbed", "-f", str(host_key)])
    public = host_key.with_suffix(".pub").read_text()
    (directory / "known_hosts").write_text(f"{recipe.SERVES} {public}")
    home = root / "root/.ssh"
    home.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(directory / "id_ed25519.pub", home / "authorized_keys")
    (root / "etc/machine-id").write_text(secrets.token_hex(16) + "\n")
    (root / "etc/hostname").write_text("vm1\n")
