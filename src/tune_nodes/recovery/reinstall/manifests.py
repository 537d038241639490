"""Parts from the user's own manifests: what they installed the CNI by, or what helm template printed (I/O in)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tune_nodes.cluster import cni, objects
from tune_nodes.cluster.client import Cluster
from tune_nodes.errors import UsageError
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.policy.keeping.lookup import Lookup
from tune_nodes.recovery.reinstall import releases
from tune_nodes.recovery.reinstall.collect import image_rows
from tune_nodes.recovery.reinstall.parts import Key, Part, in_order, part_of
from tune_nodes.recovery.reinstall.record import Facts

MAX_BYTES = 32 << 20
_SECRET = ("v1", "Secret")
_HOOK = "helm.sh/hook"


def read(paths: Sequence[Path]) -> tuple[list[Part], list[str]]:
    """Return the parts of manifests, and a sentence for each thing in them that is left out.

    Raises:
        UsageError: a file cannot be read, is no YAML, or holds something that is no object; or nothing is in them.
    """
    parts: dict[Key, Part] = {}
    left = []
    for path in paths:
        for raw in _documents(path):
            part = part_of(raw)
            if part is None:
                raise UsageError(f"{path} holds something that is no object", "it has no apiVersion, kind or name")
            if objects.text(raw, "metadata", "annotations", _HOOK):
                left.append(f"{part.key}: a hook of Helm runs once, at an installation")
            elif (part.key.api_version, part.key.kind) == _SECRET:
                left.append(f"{part.key}: secrets are never recorded; keep it where you keep secrets")
            elif part.key in parts:
                raise UsageError(f"{part.key} stands in the manifests twice", "", "give each object once")
            else:
                parts[part.key] = part
    if not parts:
        raise UsageError(f"no object is in {', '.join(map(str, paths))}")
    return list(parts.values()), left


def _documents(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with path.open("rb") as handle:
            data = handle.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise UsageError(f"{path} is larger than {MAX_BYTES >> 20} MiB")
        documents = list(yaml.safe_load_all(data))
    except OSError as problem:
        raise UsageError(f"{path} cannot be read", problem.strerror or "") from problem
    except (yaml.YAMLError, ValueError, RecursionError) as problem:
        raise UsageError(f"{path} is no YAML", one_line(str(problem), 200)) from problem
    for one in documents:
        if one is None:
            continue
        try:
            plain = json.loads(json.dumps(one, allow_nan=False))  # YAML also has dates, bytes and loops
        except (TypeError, ValueError, RecursionError) as problem:
            raise UsageError(f"{path} holds what no API server takes", one_line(str(problem), 200)) from problem
        is_list = isinstance(plain, dict) and str(plain.get("kind", "")).endswith("List")
        for member in plain["items"] if is_list and isinstance(plain.get("items"), list) else [plain]:
            if not isinstance(member, dict):
                raise UsageError(f"{path} holds something that is no object")
            yield member


def collect(cluster: Cluster, paths: Sequence[Path], namespace: str = "") -> tuple[list[Part], Facts]:
    """Return the parts of manifests, each in its namespace, and what is known of them.

    Args:
        cluster: knows which kinds have namespaces.
        paths: of the manifests.
        namespace: of objects that name none, as Helm renders them; "" for kubectl's own default.

    Raises:
        UsageError: see :func:`read`; or the cluster does not know a kind.
    """
    parts, left = read(paths)
    placed = in_order(_placed(cluster, parts, namespace or "default"))
    twice = next((one.key for one, after in itertools.pairwise(placed) if one.key == after.key), None)
    if twice is not None:
        raise UsageError(f"{twice} stands in the manifests twice", "", "give each object once")
    workloads = [one.body for one in placed if one.key.is_daemonset]
    return placed, Facts(
        source=one_line(f"files: {', '.join(path.name for path in paths)}"),
        server=cluster.server,
        server_version=objects.text(cluster.api.version(), "gitVersion", limit=60),
        cni=sorted(set(cni.of_daemonsets(workloads).values())),
        images=image_rows(placed, {}),
        helm=releases.of(placed),
        left=left,
    )


def _placed(cluster: Cluster, parts: Sequence[Part], space: str) -> Iterator[Part]:
    """Yield parts with the namespace that their kind wants: the one they name, else ``space``; or none."""
    lookup = Lookup(cluster.api)
    defined = {
        f"{objects.text(one.body, 'spec', 'group')}/{objects.text(one.body, 'spec', 'names', 'kind')}": one
        for one in parts
        if one.key.kind == "CustomResourceDefinition"
    }
    for part in parts:
        key = part.key
        call = lookup.call(key.api_version, key.kind, "get", "default", key.name)
        if call is not None:
            namespaced = bool(call.namespace)
        else:
            definition = defined.get(f"{key.api_version.rpartition('/')[0]}/{key.kind}")
            if definition is None:
                raise UsageError(f"{key}: this cluster has no kind {key.kind} in {key.api_version}")
            namespaced = objects.text(definition.body, "spec", "scope") != "Cluster"
        yield _in(part, (key.namespace or space) if namespaced else "")


def _in(part: Part, namespace: str) -> Part:
    metadata = {name: value for name, value in part.body["metadata"].items() if name != "namespace"}
    if namespace:
        metadata["namespace"] = namespace
    key = Key(part.key.api_version, part.key.kind, namespace, part.key.name)
    return Part(key, {**part.body, "metadata": metadata}, part.raw)
