"""A lab's directory: where it lies, who may work on it now, and its state on disk."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tune_nodes.errors import TuneError, UsageError
from tune_nodes.lab.command import run
from tune_nodes.lab.model import SUBNETS, LabState, Layout

#: Labs end with the machine's session, so they lie in /run: a short path, and memory on most systems.
DEFAULT_ROOT = Path("/run/tune-nodes-lab")
ROOT_VARIABLE = "TUNE_NODES_LAB_DIR"
_FORBIDDEN = set(",:\\ \t\n\"'")  # what mount options, fstab and Ansible's arguments would read as their own


def root_directory() -> Path:
    """Return the directory of all labs: $TUNE_NODES_LAB_DIR or /run/tune-nodes-lab."""
    root = Path(os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT)
    if not root.is_absolute() or _FORBIDDEN & set(str(root)):
        raise UsageError(
            f"{ROOT_VARIABLE}={root} cannot hold a lab", "an absolute path without , : \\ quotes or blanks"
        )
    return root


def machine_boot_id() -> str:
    """Return the id of this machine's present boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def write_file(path: Path, text: str, mode: int = 0o644, owner: tuple[int, int] | None = None) -> None:
    """Write a file so that a reader sees the old or the new one whole, never readable by more than ``mode`` says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "w") as handle:
            handle.write(text)
            handle.flush()
            os.fchmod(handle.fileno(), mode)
            if owner is not None:
                os.fchown(handle.fileno(), *owner)
            os.fsync(handle.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def locked(directory: Path, timeout: float = 120.0) -> Iterator[None]:
    """Hold the lock of a directory (made if absent; another process may remove it, so its inode is looked at again)."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:  # removed this very moment, or its parent
            continue
        except FileExistsError:  # there when it was to be made, gone when mkdir looked what it is
            if directory.is_file():
                raise
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if directory.stat().st_ino == os.fstat(fd).st_ino:
                break
        except (BlockingIOError, FileNotFoundError):  # another holds it, or has removed what this is the lock of
            pass
        os.close(fd)
        if time.monotonic() > deadline:
            raise TuneError(
                f"another lab command works on {directory}", f"waited {timeout:g} s", "try again when it ends"
            )
        time.sleep(0.02)
    try:
        yield
    finally:
        os.close(fd)


def load(directory: Path) -> LabState | None:
    """Return a lab's state, None where there is no lab. Raises TuneError where the file is not one of ours."""
    path = directory / "state.json"
    try:
        return LabState.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValidationError, ValueError, OSError) as error:
        raise TuneError(
            f"{path} cannot be read as a lab's state",
            str(error).splitlines()[0],
            f"remove by hand what it made (ip netns list | grep tn-{directory.name}-) and then {directory}",
        ) from error


def save(directory: Path, state: LabState) -> None:
    """Write a lab's state. It holds no secret: ``lab status`` need not be root."""
    write_file(directory / "state.json", state.model_dump_json(by_alias=True, indent=1) + "\n")


def used_networks() -> list[IPv4Network]:
    """Return the IPv4 networks this machine routes or lives in, the default route left out."""
    return parse_networks(run(["ip", "-j", "-4", "route", "show", "table", "all"]).stdout)


def parse_networks(text: str) -> list[IPv4Network]:
    """Return the destinations in the output of ``ip -j route``; junk is left out."""
    try:
        routes: Any = json.loads(text or "[]")
    except ValueError:
        return []
    found = []
    for route in routes if isinstance(routes, list) else []:
        try:
            network = ip_network(str(route.get("dst", "")), strict=False)
        except (ValueError, AttributeError):
            continue
        if isinstance(network, IPv4Network) and network.prefixlen:
            found.append(network)
    return found


def choose_index(name: str, taken: set[int], used: list[IPv4Network], interfaces: set[str]) -> int:
    """Return the first place whose network and interface name nobody else has. Raises TuneError for none."""
    for index, network in enumerate(SUBNETS):
        free = index not in taken and Layout(name, index).interface not in interfaces
        if free and not any(network.overlaps(other) for other in used):
            return index
    raise TuneError("no address range is free for a lab", "each of 10.77.0.0/16 is routed here or in another lab")
