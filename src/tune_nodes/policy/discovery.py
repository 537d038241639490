"""Which kinds of policies a server serves, their objects, and all that decides about connections in one look."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from tune_nodes.cluster import cni
from tune_nodes.cluster.api import Api
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import NOT_FOUND, SERVER, ClusterError
from tune_nodes.cluster.objects import at, mappings, text
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.policy import surroundings
from tune_nodes.policy.judging import engines
from tune_nodes.policy.kinds import CALICO, CALICO_CRD, KNOWN, NOT_HANDLED
from tune_nodes.policy.model import Kind, Policy, Snapshot, policy_of

#: Lists under way at once.
POOL = 8
#: Calico's API server shows every NetworkPolicy of Kubernetes once more under such a name.
_SHOWN_TWICE = "knp.default."
_VERSION = re.compile(r"v(\d{1,4})(?:(alpha|beta)(\d{1,4}))?\Z")
_STABILITY = {"alpha": 0, "beta": 1, None: 2}
_WORD = re.compile(r"[a-z0-9][-a-z0-9.]{0,252}\Z")


@dataclass(frozen=True)
class Found:
    """What discovery found.

    Args:
        kinds: those that are handled.
        not_handled: "networkpolicies.crd.antrea.io": served, part of the decision, and not handled.
        silent: sentences on groups whose own API server does not answer.
    """

    kinds: tuple[Kind, ...] = ()
    not_handled: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()


def rank(version: str) -> tuple[int, int, int]:
    """Return a key by which versions of a group sort, the most stable and newest last: v1alpha1 < v1beta2 < v1 < v2."""
    found = _VERSION.match(version)
    if not found:
        return (-1, 0, 0)
    return (_STABILITY[found[2]], int(found[1]), int(found[3] or 0))


def discover(api: Api) -> list[Kind]:
    """Return the kinds that the server serves, each in its newest version. Raises ClusterError."""
    return list(survey(api).kinds)


def survey(api: Api) -> Found:
    """Ask the server what it serves of the groups that have policies: one call, and one for each of their versions.

    Raises:
        ClusterError: the server cannot be asked, or a group that is handled does not answer. Where pods reach nothing,
            the API servers that run as pods do not answer: Calico's then does not count, for its objects are served
            without it too; nor do those of kinds that are not handled.
    """
    wanted = set(KNOWN) | set(NOT_HANDLED)
    served = {group: versions for group, versions in groups(api.read("/apis")).items() if group in wanted}
    pairs = [(group, version) for group, versions in served.items() for version in versions]
    spared = {group for group in served if group not in KNOWN or (group == CALICO and CALICO_CRD in served)}
    with ThreadPoolExecutor(POOL) as pool:
        answers = list(pool.map(lambda pair: _resources(api, *pair, spare=pair[0] in spared), pairs))
    silent = [f"{'/'.join(pair)}: {said}" for pair, said in zip(pairs, answers, strict=True) if isinstance(said, str)]
    found = kinds_of((pair, answer) for pair, answer in zip(pairs, answers, strict=True) if isinstance(answer, Mapping))
    return replace(found, silent=tuple(silent))


def _resources(api: Api, group: str, version: str, *, spare: bool) -> Mapping[str, Any] | str:
    """Return what a version of a group has; what is wrong with it where it may be spared."""
    try:
        return api.read(f"/apis/{group}/{version}")
    except ClusterError as problem:
        if problem.code == NOT_FOUND:  # the last kind of a group was removed meanwhile
            return {}
        if spare and problem.code == SERVER:
            return f"its API server does not answer ({problem.why})"
        raise


def groups(answer: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the versions of each group that ``/apis`` lists, newest first (pure)."""
    found: dict[str, list[str]] = {}
    for group in mappings(answer, "groups"):
        name = group.get("name")
        versions = [one.get("version") for one in mappings(group, "versions")]
        if isinstance(name, str) and _WORD.match(name):
            usable = {version for version in versions if isinstance(version, str) and _VERSION.match(version)}
            found[name] = sorted(usable, key=rank, reverse=True)
    return found


def kinds_of(answers: Iterable[tuple[tuple[str, str], Mapping[str, Any]]]) -> Found:
    """Return what the lists of resources hold, each kind in its newest version (pure).

    Args:
        answers: ((group, version), what ``/apis/GROUP/VERSION`` says).
    """
    served: dict[tuple[str, str], Kind] = {}
    others: set[str] = set()
    for (group, version), answer in sorted(answers, key=lambda one: rank(one[0][1])):
        for row in mappings(answer, "resources"):
            resource, kind = row.get("name"), row.get("kind")
            if not isinstance(resource, str) or "list" not in _verbs(row):
                continue
            known = KNOWN.get(group, {}).get(resource)
            if known and isinstance(kind, str):
                name = one_line(kind, 80)
                namespaced = row.get("namespaced") is True
                served[group, resource] = Kind(group, version, resource, name, namespaced, known.engine, known.role)
            elif resource in NOT_HANDLED.get(group, ()):
                others.add(f"{resource}.{group}")
    if any(group == CALICO for group, _ in served):  # the same objects under both groups
        served = {key: kind for key, kind in served.items() if key[0] != CALICO_CRD}
        others = {one for one in others if not one.endswith(f".{CALICO_CRD}")}
    return Found(tuple(served[key] for key in sorted(served)), tuple(sorted(others)))


def _verbs(row: Mapping[str, Any]) -> Collection[str]:
    verbs = at(row, "verbs")
    return [verb for verb in verbs if isinstance(verb, str)] if isinstance(verbs, list) else ()


def read(api: Api, kinds: Iterable[Kind], namespace: str | None = None) -> list[Policy]:
    """Return the objects of these kinds, 500 a page, several kinds at a time.

    Args:
        api: the connection.
        kinds: which.
        namespace: only those in it, and all that belong to none; None for everything.

    Raises:
        ClusterError: one of the kinds cannot be listed; code forbidden names the missing right.
    """
    with ThreadPoolExecutor(POOL) as pool:
        return [policy for found in pool.map(lambda kind: _read(api, kind, namespace or ""), kinds) for policy in found]


def _read(api: Api, kind: Kind, namespace: str) -> list[Policy]:
    found: dict[tuple[str, str], Policy] = {}  # a list that was begun anew repeats objects
    try:
        for item in api.items(kind.call("list", namespace)):
            policy = policy_of(kind, item)
            if policy and not (kind.engine == "calico" and policy.name.startswith(_SHOWN_TWICE)):
                found[policy.namespace, policy.name] = policy
    except ClusterError as problem:
        if problem.code != NOT_FOUND:  # the kind was removed since it was discovered
            raise
    return list(found.values())


def snapshot(cluster: Cluster, namespace: str | None = None, pods_in: Collection[str] | None = None) -> Snapshot:
    """Read a cluster; several lists at a time, 500 objects a page.

    Args:
        cluster: an opened one.
        namespace: read only its policies, and those that belong to no namespace; None for all.
        pods_in: read only the pods of these namespaces; None for all.

    Raises:
        ClusterError: policies, pods, namespaces or nodes may not be read, or the server failed. What else may not be
            read is said in ``not_judged``.
    """
    api = cluster.api
    found = survey(api)
    with ThreadPoolExecutor(POOL) as pool:
        policies = pool.submit(read, api, found.kinds, namespace)
        pods = [
            pool.submit(surroundings.read_pods, api, one)
            for one in (("",) if pods_in is None else sorted(set(pods_in)))
        ]
        namespaces = pool.submit(surroundings.read_namespaces, api)
        nodes = pool.submit(surroundings.read_nodes, api)
        daemonsets = pool.submit(surroundings.read_daemonsets, api)
        version = pool.submit(api.version)
        settings = pool.submit(surroundings.read_settings, api)
        servers = pool.submit(surroundings.read_apiservers, api)
        machines, annotated = nodes.result()
        labels, problems = daemonsets.result()
        makers = cni.named(labels, annotated)
        engine, why = engines.enforcer(makers, text(version.result(), "gitVersion", limit=60))
        sentences = [
            *problems,
            *why,
            *found.silent,
            *(f"{kind}: this kind is not handled" for kind in found.not_handled),
        ]
        known, missing = settings.result() if engine == "cilium" else ({}, [])
        addresses, unknown = servers.result() if engine == "cilium" else ((), [])
        return Snapshot(
            kinds=found.kinds,
            policies=tuple(policies.result()),
            pods=tuple(pod for part in pods for pod in part.result()),
            namespaces=namespaces.result(),
            nodes=machines,
            engine=engine,
            cni=makers,
            apiservers=addresses,
            settings=known,
            not_judged=(*sentences, *missing, *unknown, *surroundings.kept_from_judging(known)),
        )
