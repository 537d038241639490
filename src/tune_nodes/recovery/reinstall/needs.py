"""What a workload stands on: its account, ConfigMaps, Secrets and images (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tune_nodes.cluster import cni
from tune_nodes.cluster.objects import at, mappings, text

_DIGEST = re.compile(r"@(sha256:[0-9a-f]{64})\Z")


@dataclass(frozen=True)
class Needs:
    """Names, all in the workload's own namespace."""

    account: str
    config_maps: frozenset[str]
    secrets: frozenset[str]
    priority: str


def of(spec: Mapping[str, Any]) -> Needs:
    """Return what a pod's specification refers to."""
    maps, secrets = set(_mounted(spec, "configMap", "name")), set(_mounted(spec, "secret", "secretName"))
    for one in containers(spec):
        for source in mappings(one, "envFrom"):
            maps.add(text(source, "configMapRef", "name"))
            secrets.add(text(source, "secretRef", "name"))
        for variable in mappings(one, "env"):
            maps.add(text(variable, "valueFrom", "configMapKeyRef", "name"))
            secrets.add(text(variable, "valueFrom", "secretKeyRef", "name"))
    secrets |= {text(one, "name") for one in mappings(spec, "imagePullSecrets")}
    account = text(spec, "serviceAccountName") or "default"
    return Needs(account, frozenset(maps - {""}), frozenset(secrets - {""}), text(spec, "priorityClassName"))


def _mounted(spec: Mapping[str, Any], kind: str, key: str) -> Iterator[str]:
    for volume in mappings(spec, "volumes"):
        yield text(volume, kind, key)
        for source in mappings(volume, "projected", "sources"):
            yield text(source, kind, "name")


def containers(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return a pod's containers, those that run first among them."""
    return [*mappings(spec, "initContainers"), *mappings(spec, "containers")]


def images(spec: Mapping[str, Any]) -> list[str]:
    """Return a pod's images, each once."""
    return list(dict.fromkeys(image for one in containers(spec) if (image := text(one, "image", limit=500))))


def is_pinned(image: str) -> bool:
    """Say whether an image's name says which version it is: by a digest, or a tag other than ``latest``."""
    return bool(_DIGEST.search(image)) or cni.split_image(image)[1] not in ("", "latest")


def digests(pods: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return image to the digest that nodes run it by, where all nodes run the same; a made-up name says nothing."""
    found: dict[str, set[str]] = {}
    for pod in pods:
        names = {text(one, "name"): text(one, "image", limit=500) for one in containers(_spec(pod))}
        for kind in ("initContainerStatuses", "containerStatuses"):
            for status in mappings(pod, "status", kind):
                image, id = names.get(text(status, "name"), ""), text(status, "imageID", limit=500)
                digest = _DIGEST.search(id)
                if image and digest and cni.split_image(id)[0].endswith(cni.split_image(image)[0]):
                    found.setdefault(image, set()).add(digest[1])
    return {image: next(iter(those)) for image, those in found.items() if len(those) == 1}


def _spec(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    found = at(pod, "spec")
    return found if isinstance(found, Mapping) else {}
