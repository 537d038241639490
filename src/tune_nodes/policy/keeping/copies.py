"""A backup kept in the cluster as Secrets, so that it outlives this machine."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import CONFLICT, NOT_FOUND, ClusterError
from tune_nodes.cluster.objects import text
from tune_nodes.errors import TuneError, UsageError
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.policy import permissions
from tune_nodes.policy.keeping import document
from tune_nodes.policy.keeping.backup import Backup
from tune_nodes.runs.store import RUN_ID

LABEL, CHUNK = "tune-nodes/policy-backup", "tune-nodes/chunk"
SUM, COUNT = "tune-nodes/sha256", "tune-nodes/chunks"
KEY = "part"
#: Bytes of one Secret's data; the server takes 1 MiB with names and labels.
PART = 900 * 1024
MOST = 500


def to_secrets(cluster: Cluster, backup: Backup, namespace: str) -> list[str]:
    """Copy a backup to Secrets of a namespace, and read them back. Called again, it finishes what was cut off.

    Returns:
        The Secrets' names.

    Raises:
        ClusterError: code forbidden: none was made. Else those that were made stay, and are no whole copy.
        TuneError: what was read back is something else.
    """
    secrets = [Call(verb, "secrets", namespace=namespace) for verb in ("create", "get")]
    permissions.require_calls(cluster, secrets)
    files = document.read(backup.directory)
    parts = _parts(files)
    total = hashlib.sha256(b"".join(parts)).hexdigest()
    names = []
    for number, part in enumerate(parts):
        body = _secret(backup.id, namespace, number, len(parts), total, part)
        try:
            cluster.api.post(Call("create", "secrets", namespace=namespace), body)
        except ClusterError as problem:
            if problem.code != CONFLICT:
                raise
        names.append(body["metadata"]["name"])
    if _files(cluster, namespace, backup.id) != files:
        raise TuneError(f"the Secrets of the backup {backup.id} in {namespace} hold something else than was written")
    return names


def from_secrets(cluster: Cluster, namespace: str, id: str, directory: Path) -> Backup:
    """Bring a backup's copy from Secrets to ``directory/ID``, as a backup that can be restored.

    Raises:
        UsageError: there is none, it is not whole, or the directory cannot be written.
        ClusterError: the Secrets cannot be read.
    """
    if not RUN_ID.fullmatch(id):
        raise UsageError(f"{one_line(id, 80)!r} is not a backup's id", next="tune-nodes policy backups")
    target = directory / id
    files = _files(cluster, namespace, id)
    if not target.exists():
        document.write(target, files)
    backup = Backup.load(target)
    if document.read(target) != files:
        raise UsageError(f"{target} is another backup than the one in {namespace}", "", "move it away")
    return backup


def _parts(files: Mapping[str, bytes]) -> list[bytes]:
    text_of = json.dumps({name: data.decode() for name, data in files.items()}, sort_keys=True)
    packed = gzip.compress(text_of.encode(), mtime=0)
    return [packed[start : start + PART] for start in range(0, len(packed), PART)]


def _secret(id: str, namespace: str, number: int, count: int, total: str, part: bytes) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": _name(id, number),
            "namespace": namespace,
            "labels": {LABEL: id, CHUNK: str(number), "app.kubernetes.io/managed-by": "tune-nodes"},
            "annotations": {SUM: total, COUNT: str(count)},
        },
        "type": "Opaque",
        "immutable": True,
        "data": {KEY: base64.b64encode(part).decode()},
    }


def _name(id: str, number: int) -> str:
    return f"tune-nodes-policies-{id}-{number}"


def _files(cluster: Cluster, namespace: str, id: str) -> dict[str, bytes]:
    """Read the Secrets by their names: to list those of a namespace is a right that nobody should need."""
    first = _get(cluster, namespace, _name(id, 0))
    if first is None:
        raise UsageError(f"there is no copy of the backup {id} in the namespace {one_line(namespace, 80)}")
    found = {0: first}
    for number in range(1, min(_count(first), MOST)):
        item = _get(cluster, namespace, _name(id, number))
        if item is not None:
            found[number] = item
    return unpacked(found, id)


def _get(cluster: Cluster, namespace: str, name: str) -> dict[str, Any] | None:
    try:
        return cluster.api.get(Call("get", "secrets", namespace=namespace, name=name))
    except ClusterError as problem:
        if problem.code == NOT_FOUND:
            return None
        raise


def _count(item: Mapping[str, Any]) -> int:
    count = text(item, "metadata", "annotations", COUNT)
    return int(count[:4]) if count.isascii() and count.isdigit() else 0


def unpacked(items: Mapping[int, Mapping[str, Any]], id: str) -> dict[str, bytes]:
    """Return the files that Secrets by their number hold. Raises UsageError where one is missing or changed (pure)."""
    first = next(iter(items.values()))
    said, total = _count(first), text(first, "metadata", "annotations", SUM)
    if not 0 < said <= MOST or set(items) != set(range(said)):
        raise UsageError(f"the copy of the backup {id} is not whole", f"{len(items)} of {said} Secrets are there")
    try:
        packed = b"".join(base64.b64decode(items[number]["data"][KEY]) for number in range(len(items)))
        if hashlib.sha256(packed).hexdigest() != total:
            raise ValueError("its sum is another")
        unzip = zlib.decompressobj(wbits=31)
        data = unzip.decompress(packed, document.MAX_BYTES)
        if unzip.unconsumed_tail or not unzip.eof:
            raise ValueError("it is larger than a backup can be, or cut off")
        found = json.loads(data)
        return {name: found[name].encode() for name in document.FILES}
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError, zlib.error) as problem:
        raise UsageError(f"the copy of the backup {id} is damaged", one_line(str(problem), 100)) from None
