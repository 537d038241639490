# SPDX-License-Identifier: Apache-2.0
"""sysctl.d as systemd-sysctl reads it, and the one file of ours in it.

Source: sysctl.d(5), src/sysctl/sysctl.c and src/basic/conf-files.c of systemd 252. A name found in an earlier
directory masks the same name in later ones; files are read sorted by name, whichever directory they are in; the last
assignment of a key wins; an explicit key, also one without a value (``-key``), wins over every glob.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ..host import Host, read_text
from .entry import EXACT
from .model import normalise_path, parse_setting, segments

#: Where systemd-sysctl looks, the first directory first.
DIRECTORIES = ("etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d")
#: Our file. It holds exact values only: systemd-sysctl would write a floor as an exact value.
FILE_NAME = "90-tune-nodes.conf"
#: Read last by procps' `sysctl --system`, and not at all by systemd-sysctl unless a link in sysctl.d names it.
PROCPS_FILE = "etc/sysctl.conf"

_BLANK = " \t\n\r"
_LINE_END = re.compile(r"\r\n|\n\r|\n|\r|\0")
_BRACE_LIMIT = 64

_HEADER = (
    "# Made by tune-nodes, which replaces it whole: do not edit.",
    "# Exact values only; floors and ceilings are kept in /etc/tune-nodes/ and applied by tune-nodes-boot.service.",
)


@dataclass(frozen=True)
class Assignment:
    """One line of a sysctl.d file. ``value`` is None for an exclusion (``-key``)."""

    path: str  # below /proc/sys, "/" between segments; may hold a glob
    value: Optional[str]
    line: int  # from 1
    ignore_failure: bool = False

    @property
    def is_glob(self) -> bool:
        """Whether systemd treats the key as a pattern."""
        return any(char in self.path for char in "*?[")


@dataclass
class ConfigFile:
    """One file systemd-sysctl reads, with its assignments in order."""

    path: str  # below the root, with a leading "/"
    assignments: List[Assignment] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name by which files are sorted."""
        return os.path.basename(self.path)


def parse(text: str) -> List[Assignment]:
    """Parse a sysctl.d file; lines that systemd would warn about and ignore are left out."""
    found = []
    for number, raw in enumerate(_LINE_END.split(text), 1):
        line = raw.strip(_BLANK)
        if not line or line[0] in "#;":
            continue
        key, equals, value = line.partition("=")
        dash = key.startswith("-")
        if not equals and not dash:
            continue
        path = normalise_path((key[1:] if dash else key).strip(_BLANK))
        if path:
            found.append(Assignment(path, value.strip(_BLANK) if equals else None, number, bool(dash and equals)))
    return found


def config_paths(host: Host) -> List[str]:
    """Return the files systemd-sysctl reads, in its order, as paths below the host's root."""
    found: Dict[str, str] = {}
    for directory in DIRECTORIES:
        try:
            names = os.listdir(host.path(directory))
        except OSError:
            continue
        for name in names:
            if name.endswith(".conf") and not name.startswith("."):
                found.setdefault(name, "/" + directory + "/" + name)
    return [found[name] for name in sorted(found, key=os.fsencode)]


def load(host: Host) -> List[ConfigFile]:
    """Read every sysctl.d file in order. One that cannot be read (a link to nowhere) counts as empty."""
    return [ConfigFile(path, parse(read_text(host.path(path)) or "")) for path in config_paths(host)]


def procps_file(host: Host) -> Optional[ConfigFile]:
    """Return /etc/sysctl.conf where only procps reads it, None where there is none or a link makes systemd read it."""
    path = host.path(PROCPS_FILE)
    text = read_text(path)
    if text is None:
        return None
    real = os.path.realpath(path)
    if any(os.path.realpath(host.path(other)) == real for other in config_paths(host)):
        return None
    return ConfigFile("/" + PROCPS_FILE, parse(text))


def _braces(pattern: str) -> List[str]:
    """Expand ``{a,b}`` as glob(3) does with GLOB_BRACE; what is not a group stays as it is."""
    done: List[str] = []
    todo = [pattern]
    while todo and len(done) + len(todo) <= _BRACE_LIMIT:
        text = todo.pop()
        group = re.search(r"\{([^{}]*,[^{}]*)\}", text)
        if group is None:
            done.append(text)
            continue
        todo.extend(text[: group.start()] + part + text[group.end() :] for part in group.group(1).split(","))
    return done


def _glob_regex(pattern: str) -> str:
    out = []
    index = 0
    while index < len(pattern):
        char = pattern[index]
        index += 1
        if char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            end = pattern.find("]", index + (2 if pattern[index : index + 1] in ("!", "^") else 1))
            if end < 0:
                out.append(re.escape(char))
                continue
            body = pattern[index:end]
            negated = body[:1] in ("!", "^")
            members = re.sub(r"([\\\[\]^&~|])", r"\\\1", body[1:] if negated else body)
            out.append("[%s%s]" % ("^/" if negated else "", members))
            index = end + 1
        else:
            out.append(re.escape(char))
    return "".join(out)


def glob_matches(pattern: str, path: str) -> bool:
    """Say whether a sysctl.d glob matches a path below /proc/sys; a pattern that makes no sense matches nothing."""
    for plain in _braces(pattern):
        try:
            if re.fullmatch(_glob_regex(plain), path):
                return True
        except re.error:
            continue
    return False


@dataclass(frozen=True)
class Found:
    """What sysctl.d would set a key to, and where that stands."""

    file: str
    line: int
    value: Optional[str]  # None: the key is excluded

    def to_dict(self) -> Dict[str, Any]:
        """Return the JSON-able form."""
        return {"file": self.file, "line": self.line, "value": self.value}


def effective(files: Sequence[ConfigFile], key: str) -> Optional[Found]:
    """Return what systemd-sysctl does with a canonical key, None if no file names it.

    An explicit line wins over every glob; of explicit lines the last; of globs the last to be set, where one that is
    repeated with the same value keeps its first place.
    """
    path = "/".join(segments(key))
    explicit: Optional[Found] = None
    globs: Dict[str, Found] = {}
    for config in files:
        for item in config.assignments:
            here = Found(config.path, item.line, item.value)
            if not item.is_glob:
                if item.path == path:
                    explicit = here
            elif glob_matches(item.path, path):
                kept = globs.get(item.path)
                if kept is not None and kept.value == item.value:
                    continue
                globs.pop(item.path, None)
                globs[item.path] = here
    if explicit is not None:
        return explicit
    setting = [found for found in globs.values() if found.value is not None]
    return setting[-1] if setting else None


def later_than_ours(files: Sequence[ConfigFile], key: str) -> Optional[Found]:
    """Return the line that wins over our explicit line for a key, None if ours stands.

    Ours beats every glob; only an explicit line (or exclusion) in a file sorted after ours counts.
    """
    path = "/".join(segments(key))
    found: Optional[Found] = None
    for config in files:
        if os.fsencode(config.name) <= os.fsencode(FILE_NAME):
            continue
        for item in config.assignments:
            if item.path == path and not item.is_glob:
                found = Found(config.path, item.line, item.value)
    return found


def _comment(text: str) -> str:
    """Return one comment line's text: a reason from a profile must not become a line of its own."""
    flat = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(flat.split())[:200]


def render_sysctl_d(settings: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of our sysctl.d file for raw settings; those that are not of class exact are left out.

    A key that may be absent when systemd-sysctl runs (late module, interface) is written ``-key = value``, so that
    the unit does not fail at boot; udev applies it again when the interface appears.

    Returns:
        The file's text, "" where no setting belongs in it.

    Raises:
        NodeError: code ``usage``, where a setting is not one that parse_setting takes.
    """
    rows = []
    for raw in settings:
        setting = parse_setting(raw)
        if setting.cls != EXACT:
            continue
        parts = segments(setting.key)
        late = bool(setting.module) or (len(parts) == 5 and parts[3] not in ("all", "default"))
        reason = _comment(setting.reason)
        lines = ["# " + reason] if reason else []
        lines.append("%s%s = %s" % ("-" if late else "", setting.key, setting.value))
        rows.append((setting.key, "\n".join(lines)))
    if not rows:
        return ""
    return "\n".join([*_HEADER, "", *(text for _key, text in sorted(rows))]) + "\n"


def parse_rendered(text: str) -> Dict[str, str]:
    """Return canonical key -> value of a file :func:`render_sysctl_d` made; globs and exclusions are left out."""
    found: Dict[str, str] = {}
    for item in parse(text):
        if item.value is not None and not item.is_glob:
            found[".".join(part.replace(".", "/") for part in item.path.split("/"))] = item.value
    return found
