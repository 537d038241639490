"""Reading one context of a kubeconfig. Complaints name the file and the key, never a value: values are secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from tune_nodes.cluster.errors import NO_KUBECONFIG, KubeconfigError
from tune_nodes.fleet.untrusted import one_line

MAX_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True)
class Context:
    """One context with what it refers to, as the file has it.

    Args:
        file: where it was read; relative paths in it start from its directory.
        name: the context's.
        server: "https://192.0.2.10:6443".
        cluster: the entry of ``clusters``.
        user: the entry of ``users``; empty where the context names none.
    """

    file: Path
    name: str
    server: str
    cluster: Mapping[str, Any]
    user: Mapping[str, Any]

    def path(self, text: str) -> Path:
        """Return a path that the file names."""
        return self.file.parent / text


def read_context(file: Path, name: str = "") -> Context:
    """Read one context.

    Args:
        file: the kubeconfig.
        name: which context, "" for the current one.

    Raises:
        KubeconfigError: unreadable, not YAML, or it lacks what the context refers to.
    """
    document = _document(file)
    chosen = name or _text(document.get("current-context"))
    names = [_text(entry.get("name")) for entry in _entries(document, "contexts")]
    known = f"it has {', '.join(one_line(known, 60) for known in names[:10]) or 'none'}"
    if not chosen:
        raise KubeconfigError(f"{file} has no current context", known, "give --context NAME")
    context = _named(document, "contexts", "context", chosen)
    if context is None:
        raise KubeconfigError(f"{file} has no context {one_line(chosen)!r}", known, "give --context NAME")
    cluster = _referred(file, document, "cluster", chosen, context)
    user = _referred(file, document, "user", chosen, context) if context.get("user") else {}
    return Context(file, chosen, _server(file, chosen, cluster), cluster, user)


def _document(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as handle:
            raw = handle.read(MAX_BYTES + 1)
    except FileNotFoundError as err:
        raise KubeconfigError(f"there is no kubeconfig {file}", code=NO_KUBECONFIG) from err
    except OSError as err:
        raise KubeconfigError(f"the kubeconfig {file} cannot be read", err.strerror or "") from err
    if len(raw) > MAX_BYTES:
        raise _broken(file, f"it is larger than {MAX_BYTES // 1024 // 1024} MiB")
    try:
        document = yaml.safe_load(raw.decode("utf-8"))
    except UnicodeDecodeError as err:
        raise _broken(file, "it is not UTF-8 text") from err
    except yaml.MarkedYAMLError as err:
        # The mark's own text would show the line, which may hold a token.
        where = f"line {err.problem_mark.line + 1}: " if err.problem_mark else ""
        raise _broken(file, f"{where}{one_line(err.problem or 'it is not YAML', 100)}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise _broken(file, "it is not YAML") from None
    if not isinstance(document, dict):
        raise _broken(file, "it is empty" if document is None else "it is not a mapping")
    return document


def _broken(file: Path, why: str) -> KubeconfigError:
    return KubeconfigError(f"the kubeconfig {file} is not one", why, f"kubectl --kubeconfig {file} config view")


def _entries(document: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    entries = document.get(kind)
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _named(document: Mapping[str, Any], kind: str, key: str, name: str) -> dict[str, Any] | None:
    for entry in _entries(document, kind):
        if entry.get("name") == name:
            value = entry.get(key)
            return value if isinstance(value, dict) else {}
    return None


def _referred(
    file: Path, document: Mapping[str, Any], key: str, context: str, refers: Mapping[str, Any]
) -> dict[str, Any]:
    name = _text(refers.get(key))
    found = _named(document, f"{key}s", key, name) if name else None
    if found is None:
        what = f"names the {key} {one_line(name)!r}, which the file does not have" if name else f"names no {key}"
        raise _broken(file, f"its context {one_line(context)!r} {what}")
    return found


def _server(file: Path, context: str, cluster: Mapping[str, Any]) -> str:
    server = _text(cluster.get("server"))
    try:
        parts = urlsplit(server)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and server.isprintable()
        _ = parts.port  # a junk port raises here
    except ValueError:
        good = False
    if not good or "@" in server:
        raise _broken(
            file, f"the cluster of its context {one_line(context)!r} has no server of the form https://HOST:PORT"
        )
    return server.rstrip("/")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
