"""Where the Ansible collection is that belongs to this command, and how Python and Ansible are made to find it.

A wheel brings the collection in ``site-packages/ansible_collections/tune/nodes``; in a checkout the repository's root
*is* the collection. Code and collection always come from the same install: an older copy elsewhere on Ansible's paths
must never be mixed with this controller.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
import sysconfig
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as ConfigError
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from stat import S_IWOTH
from typing import Literal

import platformdirs
import yaml

from tune_nodes.errors import TuneError, UsageError

NAMESPACE, NAME = "tune", "nodes"
FQCN = f"{NAMESPACE}.{NAME}"
BELOW_ROOT = Path("ansible_collections", NAMESPACE, NAME)
PATHS_VARIABLE = "ANSIBLE_COLLECTIONS_PATH"
DEFAULT_PATHS = ("~/.ansible/collections", "/usr/share/ansible/collections")
REINSTALL = "reinstall tune-nodes"


@dataclass(frozen=True)
class Collection:
    """One copy of the collection.

    Attributes:
        root: the directory to put on Ansible's collection path; it holds ``ansible_collections``.
        path: the collection itself (in a checkout the repository's root).
        version: as its galaxy.yml or MANIFEST.json says, "" where neither can be read.
        origin: ``wheel`` or ``checkout`` for ours, ``path`` for a copy found on Ansible's paths.
    """

    root: Path
    path: Path
    version: str
    origin: Literal["wheel", "checkout", "path"]


@dataclass(frozen=True)
class Resolution:
    """What Ansible finds under the name tune.nodes.

    Attributes:
        ours: the copy that this command uses.
        first: the copy that Ansible finds first when this command starts it (``None``: none).
        shadows: other copies that a plain ``ansible-playbook``, started without this command, finds before ours.
    """

    ours: Collection
    first: Collection | None
    shadows: tuple[Collection, ...]

    def check(self) -> None:
        """Raise where controller and collection would not fit together.

        Raises:
            TuneError: Ansible would load another copy than ours, or the package's version is not the collection's.
        """
        if self.first is None or not self.first.path.samefile(self.ours.path):
            found = f"it finds {self.first.path}" if self.first else "it finds none"
            raise TuneError(f"Ansible does not use this command's collection {self.ours.path}", found, REINSTALL)
        if self.ours.origin == "wheel" and (package := metadata.version("tune-nodes")) != self.ours.version:
            why = f"the package is {package}, the collection at {self.ours.path} is {self.ours.version or 'unreadable'}"
            raise TuneError("tune-nodes and its collection have different versions", why, REINSTALL)


@cache
def collection() -> Collection:
    """Return the collection that belongs to this code; in a checkout, link it to where Ansible can load it.

    Raises:
        TuneError: this install has no collection, or no link to the checkout can be made.
    """
    package = Path(__file__).resolve().parent
    return find(package)


def find(package: Path) -> Collection:
    """Return the collection that was installed together with the Python package at ``package``.

    Raises:
        TuneError: there is none, or no link to the checkout can be made.
    """
    installed = package.parent / BELOW_ROOT
    if (installed / "galaxy.yml").is_file():
        return Collection(package.parent, installed, read_version(installed), "wheel")
    checkout = package.parent.parent
    if (checkout / "galaxy.yml").is_file() and (checkout / "plugins").is_dir():
        return Collection(_root_of_checkout(checkout), checkout, read_version(checkout), "checkout")
    raise TuneError(f"the collection {FQCN} is missing", f"neither {installed} nor a checkout is there", REINSTALL)


def root() -> Path:
    """Return the directory to put on Ansible's collection path (it holds ``ansible_collections``)."""
    return collection().root


def path() -> Path:
    """Return the collection's own directory, where ``plugins``, ``roles`` and ``playbooks`` are."""
    return collection().path


def version() -> str:
    """Return the one version of package and collection (galaxy.yml's)."""
    return collection().version


def activate() -> Path:
    """Make ``ansible_collections.tune.nodes...`` importable in this process; return the collection root.

    The directory goes first on ``sys.path``. Where some other package has claimed ``ansible_collections`` as a
    regular package (the ``ansible`` bundle does), ours is put first on that package's own path as well.
    """
    found = collection().root
    if str(found) not in sys.path:
        sys.path.insert(0, str(found))
        importlib.invalidate_caches()
    package = importlib.import_module("ansible_collections")
    ours = str(found / "ansible_collections")
    known = list(package.__path__)
    if known[:1] != [ours]:
        package.__path__ = [ours, *(entry for entry in known if entry != ours)]
    return found


def environment(environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> dict[str, str]:
    """Return the variables that every Ansible program started by this command needs, on top of its environment.

    Our collection comes first, then whatever the user has set up (``ANSIBLE_COLLECTIONS_PATH``, else the
    ``collections_path`` of the ansible.cfg in force, else Ansible's defaults): a variable would otherwise hide it.
    ``PATH`` starts with the directory of the ansible-core that is installed with this command.

    Args:
        environ: the environment to build on (default: this process's).
        cwd: where Ansible would look for ansible.cfg (default: here).
    """
    environ = os.environ if environ is None else environ
    paths = [str(root()), *user_paths(environ, cwd or Path.cwd())]
    programs = [str(scripts()), *(entry for entry in environ.get("PATH", os.defpath).split(os.pathsep) if entry)]
    return {
        PATHS_VARIABLE: os.pathsep.join(dict.fromkeys(paths)),
        "PATH": os.pathsep.join(dict.fromkeys(programs)),
    }


def scripts() -> Path:
    """Return the directory of this Python's own programs (``ansible-playbook`` and its kin)."""
    beside = Path(sys.executable).parent
    choices = (beside, Path(sysconfig.get_path("scripts")))
    return next((choice for choice in choices if (choice / "ansible-playbook").exists()), beside)


def user_paths(environ: Mapping[str, str], cwd: Path) -> list[str]:
    """Return the collection paths that Ansible would use without us, in order."""
    if environ.get(PATHS_VARIABLE):
        return [entry for entry in environ[PATHS_VARIABLE].split(os.pathsep) if entry]
    return _paths_in_config(environ, cwd) or [_expand(entry) for entry in DEFAULT_PATHS]


def resolved(environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> Resolution:
    """Return which copy of the collection Ansible finds, and which others a plain Ansible would find before ours."""
    environ = os.environ if environ is None else environ
    here = cwd or Path.cwd()
    ours = collection()
    searched = environment(environ, here)[PATHS_VARIABLE].split(os.pathsep)
    copies = [_copy_in(Path(entry)) for entry in searched]
    first = next((copy for copy in copies if copy), None)
    shadows = []
    for entry in user_paths(environ, here):
        copy = _copy_in(Path(entry))
        if copy and copy.path.samefile(ours.path):
            break
        if copy:
            shadows.append(copy)
    return Resolution(ours, first, tuple(shadows))


def describe() -> str:
    """Return the text of ``tune-nodes --version``: one fact a line, the versions and where the collection is."""
    ours = collection()
    lines = [
        f"tune-nodes {ours.version}",
        f"collection {FQCN} {ours.version} ({ours.origin}): {ours.path}",
        f"ansible-core {metadata.version('ansible-core')}, Python {sys.version.split()[0]}: {sys.executable}",
    ]
    lines += [
        f"note: plain ansible-playbook finds {FQCN} {other.version or '?'} first: {other.path}"
        for other in resolved().shadows
    ]
    return "\n".join(lines)


def read_version(directory: Path) -> str:
    """Return the version of the collection in ``directory``, "" where its metadata is absent or unreadable."""
    try:
        if (directory / "galaxy.yml").is_file():
            data = yaml.safe_load((directory / "galaxy.yml").read_text(encoding="utf-8"))
        else:  # installed by ansible-galaxy: the built artefact has no galaxy.yml
            data = json.loads((directory / "MANIFEST.json").read_text(encoding="utf-8"))["collection_info"]
        return str(data["version"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return ""


def _copy_in(entry: Path) -> Collection | None:
    found = entry / BELOW_ROOT
    return Collection(entry, found, read_version(found), "path") if found.is_dir() else None


def _root_of_checkout(checkout: Path) -> Path:
    """Return a directory in which ``ansible_collections/tune/nodes`` is the checkout, made if need be.

    Raises:
        TuneError: neither the checkout nor the user's cache directory can hold the link.
    """
    if checkout.parts[-len(BELOW_ROOT.parts) :] == BELOW_ROOT.parts:
        return checkout.parents[len(BELOW_ROOT.parts) - 1]
    inside = checkout / ".ansible" / "collections"
    digest = hashlib.sha256(os.fsencode(checkout)).hexdigest()[:16]
    cached = platformdirs.user_cache_path("tune-nodes") / "checkouts" / digest
    # A link from inside is relative, so that the checkout can be moved.
    if _link(inside / BELOW_ROOT, Path(*[".."] * (len(BELOW_ROOT.parts) + 1)), checkout):
        return inside
    if _link(cached / BELOW_ROOT, checkout, checkout):
        return cached
    why = f"neither {inside} nor {cached} can be written"
    raise TuneError(f"Ansible cannot be shown the collection in {checkout}", why, "make one of the two writable")


def _link(link: Path, target: Path, checkout: Path) -> bool:
    """Make ``link`` lead to the checkout, atomically; return whether it now does.

    Raises:
        TuneError: something that is not a link is in its place (it is left alone).
    """
    if link.is_symlink() or link.exists():
        if link.resolve() == checkout:
            return True
        if not link.is_symlink():
            raise TuneError(f"{link} is in the way", "it should be a link to this checkout", f"move {link} away")
    new = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        new.symlink_to(target)
        new.replace(link)
    except OSError:
        return False
    return link.resolve() == checkout


def _paths_in_config(environ: Mapping[str, str], cwd: Path) -> list[str]:
    """Return ``collections_path`` of the ansible.cfg in force, [] where that does not set it.

    Raises:
        UsageError: that file is not an ini file.
    """
    config = _config_in_force(environ, cwd)
    if config is None:
        return []
    parser = ConfigParser(interpolation=None, inline_comment_prefixes=(";",), strict=False)
    try:
        parser.read_string(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, ConfigError) as error:
        raise UsageError(f"cannot read {config}", str(error).splitlines()[0], "ansible-config view") from error
    value = parser.get("defaults", "collections_path", fallback="")
    entries = [entry.strip() for entry in value.split(os.pathsep) if entry.strip()]
    return [str(config.parent / _expand(entry)) for entry in entries]


def _config_in_force(environ: Mapping[str, str], cwd: Path) -> Path | None:
    """Return the ansible.cfg that Ansible would read, in its order of search."""
    named = environ.get("ANSIBLE_CONFIG")
    if named:
        chosen = cwd / _expand(named)
        candidates = [chosen / "ansible.cfg" if chosen.is_dir() else chosen]
    else:
        candidates = []
    if not cwd.stat().st_mode & S_IWOTH:  # Ansible ignores a file that anybody may have put there
        candidates.append(cwd / "ansible.cfg")
    candidates += [Path(_expand("~/.ansible.cfg")), Path("/etc/ansible/ansible.cfg")]
    return next((path for path in candidates if path.is_file() and os.access(path, os.R_OK)), None)


def _expand(entry: str) -> str:
    try:
        return str(Path(entry).expanduser())
    except RuntimeError:  # no such user
        return entry
