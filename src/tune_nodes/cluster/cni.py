"""Which CNI a cluster has, from its DaemonSets and, where those say nothing, its Nodes' annotations (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tune_nodes.cluster import objects

#: Where a cluster's own parts run, whatever the CNI.
SYSTEM = "kube-system"
#: Where CNIs keep their agents by default; asked one by one where DaemonSets cannot be listed.
NAMESPACES = (
    SYSTEM,
    "kube-flannel",
    "calico-system",
    "cilium",
    "kube-router",
    "openshift-multus",
    "openshift-ovn-kubernetes",
    "openshift-sdn",
    "ovn-kubernetes",
    "weave",
)
#: Name: how the image of its agent ends, before the tag (mirrors and rebuilt images keep the last part).
IMAGES = {
    "antrea": r"antrea-(agent-)?(ubuntu|ubi)",
    "aws-vpc-cni": r"amazon-k8s-cni",
    "azure-cni": r"azure-cns",
    "calico": r"calico/node|(mirrored-)?calico-node|hardened-calico",
    "cilium": r"cilium(-dev)?|mirrored-cilium-cilium|hardened-cilium|cilium-agent",
    "flannel": r"flannel|flanneld|mirrored-flannel(-flannel|cni-flannel)?|hardened-flannel",
    "gke-netd": r"netd(-amd64|-arm64)?",
    "kindnet": r"kindnetd",
    "kube-ovn": r"kube-ovn",
    "kube-router": r"(mirrored-)?kube-router",
    "multus": r"multus(-cni|-thick)?|hardened-multus-cni",
    "openshift-sdn": r"openshift-sdn",
    "ovn-kubernetes": r"ovn-kube(-[a-z0-9]+)?|ovn-kubernetes",
    "sriov-cni": r"sriov-cni",
    "terway": r"terway",
    "weave": r"weave-kube|weave-npc",
    "whereabouts": r"whereabouts(-cni)?",
}
#: Those that give a pod no network of their own.
HELPERS = frozenset({"multus", "sriov-cni", "whereabouts"})
_IMAGES = {name: re.compile(rf"(?:.*/)?(?:{pattern})\Z") for name, pattern in IMAGES.items()}
#: Name: the DaemonSet's, where its image's says nothing (vendors rename and pin images by digest).
APPS = {
    "anetd": "cilium",
    "antrea-agent": "antrea",
    "aws-node": "aws-vpc-cni",
    "azure-cns": "azure-cni",
    "calico-node": "calico",
    "canal": "canal",
    "cilium": "cilium",
    "kube-flannel-ds": "flannel",
    "kube-multus-ds": "multus",
    "kube-ovn-cni": "kube-ovn",
    "kube-router": "kube-router",
    "multus": "multus",
    "netd": "gke-netd",
    "ovnkube-node": "ovn-kubernetes",
    "rke2-canal": "canal",
    "sdn": "openshift-sdn",
    "weave-net": "weave",
}
_ARCHITECTURE = re.compile(r"-(amd64|arm|arm64|ppc64le|s390x)\Z")
#: Begin of an annotation that an agent puts on every Node: an agent inside another program has no DaemonSet (k3s).
ANNOTATIONS = {
    "flannel.alpha.coreos.com/": "flannel",
    "io.cilium.network": "cilium",
    "network.cilium.io/": "cilium",
    "k8s.ovn.org/": "ovn-kubernetes",
    "kube-router.io/": "kube-router",
    "node.antrea.io/": "antrea",
    "ovn.kubernetes.io/": "kube-ovn",
    "projectcalico.org/": "calico",
}


def of_daemonsets(daemonsets: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """Return the CNIs among DaemonSets.

    Args:
        daemonsets: objects, or pods of DaemonSets (their own images count, their owner's name is the app).

    Returns:
        (namespace, DaemonSet's name) to "flannel v0.28.10"; the version is the image's tag, left out where it has none.
    """
    found = {}
    for item in daemonsets:
        app = objects.daemonset_of(item) or objects.name_of(item)
        template = item if objects.at(item, "spec", "containers") else objects.at(item, "spec", "template")
        label = _label(app, _images(template))
        if app and label:
            found[objects.text(item, "metadata", "namespace"), app] = label
    return found


def _images(template: Any) -> list[str]:
    return [image for one in objects.mappings(template, "spec", "containers") if (image := objects.text(one, "image"))]


def _label(app: str, images: list[str]) -> str:
    """Return name and version of the CNI that these images are, "" for none."""
    seen: dict[str, str] = {}
    for image in images:
        path, tag = split_image(image)
        for name, pattern in _IMAGES.items():
            if pattern.match(path):
                seen.setdefault(name, tag)
    if "calico" in seen and "flannel" in seen:  # Canal: flannel moves the packets, Calico filters them
        seen = {"canal": seen["calico"]}
    by_name = APPS.get(_ARCHITECTURE.sub("", app), "")
    name = next(iter(seen), "") or by_name
    tag = seen.get(name, "") or (split_image(images[0])[1] if by_name and len(images) == 1 else "")
    return f"{name} {tag}".strip()


def split_image(image: str) -> tuple[str, str]:
    """Return an image's path without registry and digest, and its tag ("" for none)."""
    named = image.partition("@")[0]
    head, slash, last = named.rpartition("/")
    last, _, tag = last.partition(":")
    first, _, rest = head.partition("/")
    is_registry = "." in first or ":" in first or first == "localhost"
    return f"{rest if is_registry else head}{slash}{last}".lstrip("/"), tag


def of_nodes(items: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the CNIs that have put annotations on Nodes."""
    found = set()
    for item in items:
        for key in objects.texts(item, "metadata", "annotations"):
            found |= {name for begin, name in ANNOTATIONS.items() if key.startswith(begin)}
    return found


def named(daemonsets: Mapping[tuple[str, str], str], annotated: Iterable[str]) -> tuple[str, ...]:
    """Return every CNI once, sorted. Annotations, which outlive a CNI, count only where no DaemonSet is a network."""
    labels = set(daemonsets.values())
    networks = {label.partition(" ")[0] for label in labels} - HELPERS
    return tuple(sorted(labels | (set() if networks else set(annotated))))
