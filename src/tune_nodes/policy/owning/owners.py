"""Who else writes a policy, and would put it back: GitOps tools, generators, package managers, controllers (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tune_nodes.cluster.objects import mappings, name_of, text
from tune_nodes.policy.keeping.clean import references

if TYPE_CHECKING:
    from tune_nodes.policy.model import Policy

ARGO, FLUX, HELM, KYVERNO, CONTROLLER = "Argo CD", "Flux", "Helm", "Kyverno", "controller"

TRACKING = "argocd.argoproj.io/tracking-id"
INSTANCE = "app.kubernetes.io/instance"
MANAGED_BY = "app.kubernetes.io/managed-by"
_FLUX = {"kustomize.toolkit.fluxcd.io": "Kustomization", "helm.toolkit.fluxcd.io": "HelmRelease"}
_HELM = "meta.helm.sh"
_KYVERNO = "generate.kyverno.io"
#: Names under which these programs write fields.
_MANAGERS = {
    "argocd-controller": ARGO,
    "argocd-application-controller": ARGO,
    "argocd-server": ARGO,
    "kustomize-controller": FLUX,
    "helm-controller": FLUX,
    "helm": HELM,
    "kyverno": KYVERNO,
    "kyverno-background-controller": KYVERNO,
}


@dataclass(frozen=True)
class Owner:
    """A program or object that a policy belongs to.

    Args:
        system: one of this module's constants.
        kind: "Application", "Kustomization", "HelmRelease", "ClusterPolicy", "release", or an owner object's kind.
        namespace: of that, "" where it is not said or there is none.
        name: "" where it is not said.
        text: a sentence: who it is, and what it does when the policy is deleted.
        api_version: of an owner object: "apps/v1".
        uid: of an owner object.
    """

    system: str
    kind: str
    namespace: str
    name: str
    text: str
    api_version: str = ""
    uid: str = ""

    @property
    def shown(self) -> str:
        """The owner in a few words: "Argo CD Application shop"."""
        where = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return " ".join(word for word in (self.system, self.kind, where) if word)


def of(policy: Policy) -> tuple[Owner, ...]:
    """Return whom a policy belongs to, () for nobody but those who wrote it by hand."""
    return of_object(policy.raw, policy.kind.group, policy.kind.kind)


def of_object(raw: Mapping[str, Any], group: str, kind: str) -> tuple[Owner, ...]:
    """Return whom an object belongs to.

    Args:
        raw: as the server returned it.
        group: of its kind; a tracking id is one only on the object that it names.
        kind: "NetworkPolicy".
    """
    found = [*_argo(raw, group, kind), *_flux(raw), *_kyverno(raw), *_helm(raw)]
    known = {owner.system for owner in found}
    found += [owner for owner in _by_label_or_field(raw, guess=not found) if owner.system not in known]
    return (*found, *_references(raw))


def _argo(raw: Mapping[str, Any], group: str, kind: str) -> Iterator[Owner]:
    """Yield the Application of a tracking id: ``APP:GROUP/KIND:NAMESPACE/NAME``, APP also as ``NAMESPACE_APP``."""
    parts = text(raw, "metadata", "annotations", TRACKING, limit=800).split(":")
    if len(parts) < 3:
        return
    here = f"{group}/{kind}", f"{text(raw, 'metadata', 'namespace')}/{name_of(raw)}"
    named = parts[1], ":".join(parts[2:])
    if named[0] != here[0] or named[1].rpartition("/")[2] != here[1].rpartition("/")[2]:
        return  # copied from another object: Argo CD does not count it either
    namespace, _, name = parts[0].rpartition("_")
    yield _argo_owner(namespace, name)


def _argo_owner(namespace: str, name: str, perhaps: bool = False) -> Owner:
    app = f"Argo CD's Application {f'{namespace}/' if namespace else ''}{name}" if name else "an Argo CD Application"
    sentence = f"{app} manages it: with selfHeal it comes back at once, else at the next sync"
    return Owner(ARGO, "Application", namespace, name, f"perhaps {sentence}" if perhaps else sentence)


def _flux(raw: Mapping[str, Any]) -> Iterator[Owner]:
    for prefix, kind in _FLUX.items():
        name = text(raw, "metadata", "labels", f"{prefix}/name")
        if name:
            namespace = text(raw, "metadata", "labels", f"{prefix}/namespace")
            sentence = f"Flux's {kind} {namespace}/{name} manages it: it comes back when that is next reconciled"
            yield Owner(FLUX, kind, namespace, name, sentence)


def _kyverno(raw: Mapping[str, Any]) -> Iterator[Owner]:
    name = text(raw, "metadata", "labels", f"{_KYVERNO}/policy-name")
    if name:
        namespace = text(raw, "metadata", "labels", f"{_KYVERNO}/policy-namespace")
        kind = "Policy" if namespace else "ClusterPolicy"
        sentence = f"Kyverno's {kind} {name} generates it: with synchronize it comes back at once"
        yield Owner(KYVERNO, kind, namespace, name, sentence)


def _helm(raw: Mapping[str, Any]) -> Iterator[Owner]:
    name = text(raw, "metadata", "annotations", f"{_HELM}/release-name")
    if name:
        namespace = text(raw, "metadata", "annotations", f"{_HELM}/release-namespace")
        sentence = f"the Helm release {namespace}/{name} made it: it comes back when that is next upgraded"
        yield Owner(HELM, "release", namespace, name, sentence)


def _by_label_or_field(raw: Mapping[str, Any], guess: bool) -> Iterator[Owner]:
    """Yield what only shows by who wrote the fields, or (``guess``) by a label that Helm's charts use too."""
    managers = {
        system: None
        for entry in mappings(raw, "metadata", "managedFields")
        if (system := _MANAGERS.get(text(entry, "manager"))) is not None
    }
    instance = text(raw, "metadata", "labels", INSTANCE)
    if ARGO in managers:
        yield _argo_owner("", instance)
    elif instance and guess and not managers and text(raw, "metadata", "labels", MANAGED_BY) != "Helm":
        yield _argo_owner("", instance, perhaps=True)
    for system in managers:
        if system != ARGO:
            yield Owner(system, "", "", "", f"{system} writes it, and may put it back; it is not said by which object")


def _references(raw: Mapping[str, Any]) -> Iterator[Owner]:
    for one in references(raw):
        kind, name = text(one, "kind"), text(one, "name")
        if kind and name:
            does = "its controller puts it back" if one.get("controller") is True else "it is collected with its owner"
            sentence = f"it belongs to the {kind} {name}: {does}"
            version, uid = text(one, "apiVersion"), text(one, "uid")
            yield Owner(CONTROLLER, kind, text(raw, "metadata", "namespace"), name, sentence, version, uid)
