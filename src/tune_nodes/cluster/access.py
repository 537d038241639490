"""Which kubeconfig is used. Never ``~/.kube/config`` by itself: it may be that of any cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tune_nodes.cluster.errors import NO_KUBECONFIG, KubeconfigError
from tune_nodes.fleet.untrusted import one_line

#: The file that belongs to an inventory: it lies beside it.
NAME = "kubeconfig"


def find_kubeconfig(explicit: str, sources: Sequence[str], env: Mapping[str, str]) -> Path | None:
    """Return the kubeconfig to use, or None where none was given.

    Args:
        explicit: what an option or the configuration names, "" for nothing; it must exist.
        sources: the inventory's sources: paths, or host lists with a comma.
        env: the environment; of ``KUBECONFIG``'s list the first file that exists counts.

    Raises:
        KubeconfigError: the named one does not exist.
    """
    if explicit:
        named = _expanded(explicit)
        if not named.is_file():
            why = "it is a directory" if named.is_dir() else "there is no such file"
            raise KubeconfigError(
                f"the kubeconfig {one_line(explicit)} cannot be used",
                why,
                "give --kubeconfig PATH, or --cluster off to go on without the cluster",
                NO_KUBECONFIG,
            )
        return named
    for candidate in (*_beside(sources), *_listed(env)):
        if candidate.is_file():
            return candidate
    return None


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # ~ of nobody
        return Path(text)


def _beside(sources: Sequence[str]) -> list[Path]:
    paths = [Path(source) for source in sources if "," not in source]
    return [(path if path.is_dir() else path.parent) / NAME for path in paths]


def _listed(env: Mapping[str, str]) -> list[Path]:
    return [_expanded(part) for part in env.get("KUBECONFIG", "").split(":") if part]
