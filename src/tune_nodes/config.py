"""Settings in layers: defaults, the machine's file, the user's, this directory's, the environment, the command line.

Every value remembers where it came from (``tune-nodes config show --show-sources``).
"""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from tune_nodes.errors import UsageError
from tune_nodes.fleet.waves import parse_size
from tune_nodes.profiles import document
from tune_nodes.profiles.document import Document
from tune_nodes.profiles.load import DEFAULT as DEFAULT_PROFILE
from tune_nodes.profiles.model import MAX_WINDOW, MIN_WINDOW
from tune_nodes.profiles.problems import Problem, complain, from_validation

PREFIX = "TUNE_NODES_"
FILE_VARIABLE = "TUNE_NODES_CONFIG"
SYSTEM_FILE = Path("/etc/tune-nodes/config.yml")
LOCAL_FILE = "tune-nodes.yml"
#: Settings whose variable or option is not named by the whole key or its last part.
_SHORT = {"cluster.kubeconfig": "kubeconfig"}
_OPTIONS = {"cluster.mode": "cluster", "timeouts.connect": "timeout"}


def _words(value: Any) -> Any:
    """A single text stands for a list of one; numbers are taken as they are written."""
    listed = value if isinstance(value, list) else [value]
    return [str(item) if isinstance(item, int) and not isinstance(item, bool) else item for item in listed]


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _size(value: str) -> str:
    try:
        return str(parse_size(value, "size"))
    except UsageError as err:
        raise ValueError(f"{value[:40]!r} is neither a number of nodes nor a percentage such as 25%") from err


Words = Annotated[list[str], BeforeValidator(_words)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Timeouts(_Part):
    """How long to wait, in seconds."""

    connect: int = Field(default=10, ge=1, le=600, description="an ssh connection")
    inventory: int = Field(default=120, ge=1, le=3600, description="reading the inventory, dynamic sources included")


class Quarantine(_Part):
    """What happens to nodes on which an earlier run reverted."""

    skip: bool = Field(default=True, description="leave them out until they are cleared")


class ClusterPart(_Part):
    """The cluster the nodes belong to."""

    kubeconfig: str = Field(default="", description="its kubeconfig; else one beside the inventory, else KUBECONFIG")
    context: str = Field(default="", description="context of the kubeconfig; else its current one")
    mode: Literal["auto", "required", "off"] = Field(
        default="auto", description="auto: used where it can be; required: no run without it; off"
    )
    drain: bool = Field(default=False, description="move the pods off a node before it is changed")
    drain_timeout: float = Field(default=300, ge=1, le=86400, description="seconds that draining a wave may take")
    delete_emptydir_data: bool = Field(
        default=False, description="also move pods that keep data in an emptyDir, which is lost"
    )


class Settings(_Part):
    """Every setting; the names are those of the files, the environment (TUNE_NODES_*) and the long options."""

    inventory: Words = Field(default_factory=list, description="inventories where -i names none")
    profile: str = Field(default=DEFAULT_PROFILE, min_length=1, description="profile where -p names none")
    forks: int = Field(default=20, ge=1, le=1000, description="nodes worked on at once")
    canary: int = Field(default=1, ge=0, description="nodes in the first wave; 0: none")
    serial: Words = Field(default_factory=lambda: ["25%"], min_length=1, description="nodes in each further wave")
    max_unavailable: Annotated[str, BeforeValidator(_text)] = Field(default="", description="no wave is larger")
    fail_percent: float = Field(default=5, ge=0, le=100, description="share of failed nodes that stops a run")
    soak: float = Field(default=0, ge=0, le=86400, description="seconds to wait after each wave")
    window: int = Field(
        default=120, ge=MIN_WINDOW, le=MAX_WINDOW, description="seconds until an unconfirmed change undoes itself"
    )
    timeouts: Timeouts = Field(default_factory=Timeouts)
    output: Literal["table", "wide", "json", "yaml"] = Field(default="table", description="form of results")
    state_dir: Path = Field(
        default_factory=lambda: platformdirs.user_state_path("tune-nodes"), description="where runs are kept"
    )
    quarantine: Quarantine = Field(default_factory=Quarantine)
    cluster: ClusterPart = Field(default_factory=ClusterPart)

    @field_validator("serial")
    @classmethod
    def _sizes(cls, value: list[str]) -> list[str]:
        return [_size(item) for item in value]

    @field_validator("max_unavailable")
    @classmethod
    def _one_size(cls, value: str) -> str:
        return _size(value) if value else value

    @field_validator("state_dir")
    @classmethod
    def _home(cls, value: Path) -> Path:
        try:
            return value.expanduser()
        except RuntimeError as err:
            raise ValueError("there is no such user's home") from err


class Kind(StrEnum):
    """Where a value can come from, weakest first."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    FLAG = "flag"


@dataclass(frozen=True)
class Source:
    """Where a value came from."""

    kind: Kind
    where: str = ""  # "tune-nodes.yml:3", "TUNE_NODES_FORKS", "--forks"

    def __str__(self) -> str:
        return self.where or str(self.kind)


@dataclass(frozen=True)
class Config:
    """The settings in force. ``sources`` is keyed like ``rows``: "forks", "timeouts.connect"."""

    settings: Settings
    sources: dict[str, Source]
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def rows(self) -> list[tuple[str, Any, Source]]:
        """Return (key, JSON-able value, source) of every setting, in the order they are declared."""
        values = document.flatten(self.settings.model_dump(mode="json"))
        return [(key, value, self.sources[key]) for key, value in values.items()]

    def chosen(self, key: str) -> bool:
        """Say whether a key was set for this very call (option or environment), above any profile."""
        return self.sources[key].kind in (Kind.ENVIRONMENT, Kind.FLAG)


@dataclass
class _Layers:
    """Values and sources so far; each layer is checked by itself, so that a complaint names its own place."""

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)

    def add(self, flat: Mapping[str, Any], sources: Mapping[str, Source]) -> None:
        self.values.update(flat)
        self.sources.update(sources)

    def settings(self) -> Settings:
        return Settings.model_validate(_nested(self.values))


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested mappings of ``{"a.b": value}``."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        head, _, tail = key.partition(".")
        if tail:
            nested.setdefault(head, {})[tail] = value
        else:
            nested[head] = value
    return nested


def keys() -> list[str]:
    """Return every setting's name, dotted."""
    return list(document.flatten(Settings().model_dump(mode="json")))


def variable(key: str) -> str:
    """Return the environment variable of a setting: timeouts.connect is TUNE_NODES_TIMEOUTS_CONNECT."""
    return PREFIX + _SHORT.get(key, key).upper().replace(".", "_")


def option(key: str) -> str:
    """Return the option of a setting."""
    return "--" + _OPTIONS.get(key, key.rpartition(".")[2]).replace("_", "-")


def _add_file(layers: _Layers, doc: Document) -> None:
    try:
        Settings.model_validate(doc.data)
    except ValidationError as err:
        raise complain(from_validation(err, doc, Settings), doc.origin) from err
    flat = document.flatten(doc.data)
    sources = {key: Source(Kind.FILE, doc.where(tuple(key.split(".")))) for key in flat}
    layers.add(flat, sources)


def _add_named(layers: _Layers, kind: Kind, flat: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Add values that have a name of their own: variables or options."""
    try:
        Settings.model_validate(_nested(flat))
    except ValidationError as err:
        problems = []
        for error in err.errors(include_url=False, include_context=False):
            key = next((k for k in flat if tuple(k.split(".")) == error["loc"][: k.count(".") + 1]), "")
            message = str(error["msg"]).removeprefix("Value error, ")
            problems.append(Problem(names.get(key, str(kind)), "", message[:1].lower() + message[1:]))
        raise complain(problems, str(kind)) from err
    layers.add(flat, {key: Source(kind, names[key]) for key in flat})


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    """Return what the environment sets; lists are parted by blanks, as an inventory may hold commas."""
    lists = {name for name, info in Settings.model_fields.items() if info.annotation == list[str]}
    found: dict[str, Any] = {}
    for key in keys():
        text = env.get(variable(key), "")
        if text:
            found[key] = text.split() if key in lists else text
    return found


def _mistyped(env: Mapping[str, str]) -> list[str]:
    """Return a warning for each variable that looks like one of ours; others of the prefix are other programs'."""
    known = [variable(key) for key in keys()]
    warnings = []
    for name in sorted(env):
        if name.startswith(PREFIX) and name not in known and name != FILE_VARIABLE:
            near = difflib.get_close_matches(name, known, 1, cutoff=0.9)
            warnings += [f"{name} is not a setting; did you mean {near[0]}?"] if near else []
    return warnings


def _shared_by_all(directory: Path) -> bool:
    """Say whether anybody may put files into a directory (/tmp): what lies there is not the user's word."""
    try:
        return bool(directory.stat().st_mode & stat.S_IWOTH)
    except OSError:
        return False


def _files(env: Mapping[str, str], here: Path, named: Path | None) -> tuple[list[Path], list[str]]:
    """Return the files to read, weakest first, and warnings about one left out."""
    home = Path(env["XDG_CONFIG_HOME"]) if env.get("XDG_CONFIG_HOME") else platformdirs.user_config_path()
    files = [path for path in (SYSTEM_FILE, home / "tune-nodes" / "config.yml") if path.exists()]
    warnings = []
    local = here / LOCAL_FILE
    if local.exists() and _shared_by_all(here):
        warnings.append(f"{LOCAL_FILE} is not read: anybody may write to {here}")
    elif local.exists():
        files.append(local)
    if named is None and env.get(FILE_VARIABLE):
        named = Path(env[FILE_VARIABLE])
    if named is not None:
        files.append(here / named)
    return files, warnings


def load_config(
    flags: Mapping[str, Any] | None = None,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    file: Path | None = None,
) -> Config:
    """Return the settings in force.

    Args:
        flags: options of the command line by dotted key; None, "" and empty lists count as not given.
        env: the environment (default: this process's).
        cwd: where ``tune-nodes.yml`` is looked for (default: the current directory).
        file: a further file, stronger than the others (default: what TUNE_NODES_CONFIG names); it must exist.

    Raises:
        UsageError: an unknown setting, a wrong type, an impossible value; with file and line, variable or option.
    """
    env = os.environ if env is None else env
    here = cwd or Path.cwd()
    layers = _Layers(sources={key: Source(Kind.DEFAULT) for key in keys()})
    files, warnings = _files(env, here, file)
    for path in files:
        _add_file(layers, document.load(path, _shown(path, here)))
    _add_named(layers, Kind.ENVIRONMENT, _from_environment(env), {key: variable(key) for key in keys()})
    given = {key: value for key, value in (flags or {}).items() if value is not None and value not in ("", [], ())}
    _add_named(layers, Kind.FLAG, given, {key: option(key) for key in given})
    return Config(layers.settings(), layers.sources, tuple(map(str, files)), (*warnings, *_mistyped(env)))


def _shown(path: Path, here: Path) -> str:
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
