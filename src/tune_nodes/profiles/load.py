"""Find profiles, follow ``extends``, check everything, and resolve to the layers a node's request carries."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs
from ansible_collections.tune.nodes.plugins.module_utils.model import digest
from ansible_collections.tune.nodes.plugins.module_utils.sysctl.model import canonical_key
from pydantic import ValidationError

from tune_nodes.errors import UsageError
from tune_nodes.profiles import document
from tune_nodes.profiles.check import check_settings
from tune_nodes.profiles.document import Document
from tune_nodes.profiles.model import Match, Probes, Profile, Variant
from tune_nodes.profiles.problems import Problem, complain, from_validation, nearest

DEFAULT = "kubernetes-node"
SHIPPED = Path(__file__).parent / "shipped"
SUFFIXES = (".yml", ".yaml")
MAX_PROFILES = 64

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_SHIPPED_PREFIX = "shipped:"


@dataclass(frozen=True)
class SearchDir:
    """A directory of profiles, and what to call it."""

    label: str
    path: Path


@dataclass(frozen=True)
class Found:
    """A profile file that exists."""

    name: str
    path: Path
    label: str  # "shipped", "./profiles", "user", "/etc", or "file" for a path


@dataclass(frozen=True)
class Loaded:
    """A profile file, read and checked by itself."""

    found: Found
    profile: Profile
    document: Document


@dataclass(frozen=True)
class ResolvedProfile:
    """A profile with everything it extends, as the nodes get it.

    ``layers`` are the request's, bases first. ``window`` is in seconds, None where no profile of the chain
    sets one. ``cluster`` holds what the chain says of mode, drain, drain_timeout. ``digest`` covers all of these.
    """

    name: str
    description: str
    layers: list[dict[str, Any]]
    probes: Probes
    window: int | None
    digest: str
    chain: list[str] = field(default_factory=list)  # names, bases first
    files: list[str] = field(default_factory=list)  # where each of them was read from
    cluster: dict[str, Any] = field(default_factory=dict)


def search_dirs(cwd: Path | None = None, env: Mapping[str, str] | None = None) -> list[SearchDir]:
    """Return where names are looked for, first match first: here, the user's, the machine's, shipped."""
    env = os.environ if env is None else env
    home = Path(env["XDG_CONFIG_HOME"]) if env.get("XDG_CONFIG_HOME") else platformdirs.user_config_path()
    here = cwd or Path.cwd()
    # Where anybody may write (/tmp), a profile that hides a shipped one is not the user's word.
    local = [] if here.stat().st_mode & stat.S_IWOTH else [SearchDir("./profiles", here / "profiles")]
    return [
        *local,
        SearchDir("user", home / "tune-nodes" / "profiles"),
        SearchDir("/etc", Path("/etc/tune-nodes/profiles")),
        SearchDir("shipped", SHIPPED),
    ]


def _files(directory: Path) -> Iterator[Path]:
    if not directory.is_dir():
        return
    try:
        entries = list(directory.iterdir())
    except OSError as err:
        raise UsageError(f"cannot look for profiles in {directory}", err.strerror or str(err)) from err
    yield from sorted(p for p in entries if p.suffix in SUFFIXES and _NAME.match(p.stem))


def available(dirs: Sequence[SearchDir] | None = None) -> list[Found]:
    """Return every profile by name; of a name that stands in two directories, the one that would be used."""
    found: dict[str, Found] = {}
    for directory in search_dirs() if dirs is None else dirs:
        for path in _files(directory.path):
            found.setdefault(path.stem, Found(path.stem, path, directory.label))
    return [found[name] for name in sorted(found)]


def find(reference: str, dirs: Sequence[SearchDir] | None = None, beside: Path | None = None) -> Found:
    """Return the file a reference means.

    Args:
        reference: a name, ``shipped:NAME``, or a path (it holds a slash or ends in .yml).
        dirs: where names are looked for (default: :func:`search_dirs`).
        beside: directory that relative paths start from (default: the current one).

    Raises:
        UsageError: nothing there; says what there is, and the nearest match.
    """
    if "/" in reference or reference.endswith(SUFFIXES):
        with contextlib.suppress(OSError, RuntimeError):  # a name too long for the system; ~ of nobody
            path = (beside or Path.cwd()) / Path(reference).expanduser()
            if path.is_file():
                return Found(path.stem, path, "file")
        raise UsageError(f"no profile file {reference[:200]!r}", next="tune-nodes profiles list")
    name = reference.removeprefix(_SHIPPED_PREFIX)
    if name != reference:
        dirs = [SearchDir("shipped", SHIPPED)]
    known = {found.name: found for found in available(dirs)}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, list(known), 1)
    raise UsageError(
        f"no profile named {reference[:80]!r}",
        f"there are {', '.join(known)}" if known else "there are none",
        f"did you mean {near[0]}?" if near else "tune-nodes profiles list",
    )


def load(found: Found) -> Loaded:
    """Read one profile file and check it by itself (``extends`` is not followed).

    Raises:
        UsageError: unreadable, not YAML, unknown fields or keys, wrong types, impossible values; each with
            file, line and key.
    """
    doc = document.load(found.path, _shown(found.path))
    try:
        profile = Profile.model_validate(doc.data)
    except ValidationError as err:
        raise complain(from_validation(err, doc, Profile), f"profile {found.name}") from err
    problems = check_settings(profile, doc)
    if profile.name and profile.name != found.name:
        why = f"the file's name makes it {found.name}"
        problems.insert(0, Problem(doc.where(("name",)), "name", f"says {profile.name}, but {why}"))
    if problems:
        raise complain(problems, f"profile {found.name}")
    return Loaded(found, profile, doc)


def _shown(path: Path) -> str:
    """Return a path as people know it: relative where it is below the current directory."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


class _Chain:
    """Bases first, each file once; a file that is met again while its own bases are read is a cycle."""

    def __init__(self, dirs: Sequence[SearchDir] | None) -> None:
        self.loaded: list[Loaded] = []
        self._dirs = dirs
        self._open: list[Found] = []
        self._done: set[Path] = set()

    def add(self, found: Found) -> None:
        """Load a profile after everything it extends."""
        real = found.path.resolve()
        if real in self._done:
            return
        if real in [f.path.resolve() for f in self._open]:
            raise UsageError("profiles extend each other in a circle", self._circle(found, real))
        if len(self._open) + len(self._done) >= MAX_PROFILES:
            raise UsageError(f"more than {MAX_PROFILES} profiles extend each other", next="flatten some of them")
        self._open.append(found)
        loaded = load(found)
        for index, reference in enumerate(loaded.profile.extends):
            self.add(self._base(loaded, index, reference))
        self._open.pop()
        self._done.add(real)
        self.loaded.append(loaded)

    def _base(self, loaded: Loaded, index: int, reference: str) -> Found:
        try:
            return find(reference, self._dirs, loaded.found.path.parent)
        except UsageError as err:
            where = loaded.document.where(("extends", index))
            raise UsageError(f"{where}: extends: {err.what}", err.why, err.next) from err

    def _circle(self, found: Found, real: Path) -> str:
        start = [f.path.resolve() for f in self._open].index(real)
        return " -> ".join(f.name for f in (*self._open[start:], found))


def _layer(name: str, match: dict[str, Any] | None, part: Profile | Variant) -> dict[str, Any]:
    found: dict[str, Any] = {
        "profile": name,
        "match": match,
        "sysctl": [wish.raw(canonical_key(key)) for key, wish in part.sysctl.items()],
        "nic_queues": [wish.raw() for wish in part.nic_queues],
    }
    if part.mtu:
        found["mtu"] = [wish.raw() for wish in part.mtu]
    return found


def _both(outer: Match | None, inner: Match) -> dict[str, Any] | None:
    """A variant holds where its profile's match and its own do."""
    matches = [raw for raw in (outer.raw() if outer else None, inner.raw()) if raw]
    return {"all_of": matches} if len(matches) > 1 else (matches[0] if matches else None)


def layers(loaded: Loaded) -> list[dict[str, Any]]:
    """Return a profile's own layers: its settings, then each of its variants."""
    name, profile = loaded.found.name, loaded.profile
    match = profile.match.raw() if profile.match else None
    found = [_layer(name, match, profile)]
    for number, variant in enumerate(profile.variants, 1):
        label = f"{name} variant {number}"
        found.append(_layer(label, _both(profile.match, variant.match), variant))
    return [layer for layer in found if layer["sysctl"] or layer["nic_queues"] or layer.get("mtu")]


def _refuse_idle_drops(chain: Sequence[Loaded]) -> None:
    """A key that is taken out must have been there: else it is a typing error, and what should go would stay."""
    known: set[str] = set()
    for loaded in chain:
        for at, part in loaded.profile.parts():
            for key, wish in part.sysctl.items():
                if not wish.drop:
                    known.add(canonical_key(key))
                elif canonical_key(key) not in known:
                    where = loaded.document.where((*at, "sysctl", key))
                    hint = nearest(key, sorted(known))
                    raise complain(
                        [Problem(where, key, "is dropped, but no profile before this one sets it", hint)], ""
                    )


def _probes(chain: Sequence[Loaded]) -> Probes:
    """Return the probes: each field as the last profile that sets it has it."""
    merged: dict[str, Any] = {}
    for loaded in chain:
        if loaded.profile.probes:
            merged.update(loaded.profile.probes.model_dump(exclude_unset=True))
    return Probes.model_validate(merged)


def _cluster(chain: Sequence[Loaded]) -> dict[str, Any]:
    """Return what is said of the cluster: each field as the last profile that sets it has it."""
    merged: dict[str, Any] = {}
    for loaded in chain:
        if loaded.profile.cluster:
            merged.update(loaded.profile.cluster.model_dump(exclude_unset=True))
    return merged


def resolve(reference: str = DEFAULT, dirs: Sequence[SearchDir] | None = None) -> ResolvedProfile:
    """Return a profile ready for the nodes.

    Args:
        reference: a name, ``shipped:NAME``, or a path.
        dirs: where names are looked for (default: :func:`search_dirs`).

    Raises:
        UsageError: anything wrong with it or what it extends; nothing has been touched.
    """
    found = find(reference, dirs)
    chain = _Chain(dirs)
    chain.add(found)
    _refuse_idle_drops(chain.loaded)
    merged = [layer for loaded in chain.loaded for layer in layers(loaded)]
    probes = _probes(chain.loaded)
    windows = [loaded.profile.window for loaded in chain.loaded if loaded.profile.window is not None]
    window = windows[-1] if windows else None
    cluster = _cluster(chain.loaded)
    return ResolvedProfile(
        name=found.name,
        description=chain.loaded[-1].profile.description,
        layers=merged,
        probes=probes,
        window=window,
        digest=digest({"layers": merged, "probes": probes.model_dump(), "window": window, "cluster": cluster}),
        chain=[loaded.found.name for loaded in chain.loaded],
        files=[str(loaded.found.path) for loaded in chain.loaded],
        cluster=cluster,
    )
