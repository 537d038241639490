"""The objects in which CNIs keep their MTUs, as the server has them (I/O in)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tune_nodes.cluster.api import Api
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.errors import NOT_FOUND, ClusterError
from tune_nodes.cluster.objects import name_of
from tune_nodes.cnimtu.model import Held

SYSTEM = "kube-system"


def config_map(api: Api, name: str, *namespaces: str) -> list[Held]:
    """Return the ConfigMaps of a name in these namespaces."""
    calls = [Call("get", "configmaps", namespace=namespace, name=name) for namespace in namespaces]
    return _there(api, calls, "ConfigMap")


def _there(api: Api, calls: Iterable[Call], kind: str) -> list[Held]:
    found = []
    for call in calls:
        try:
            found.append(Held(call, kind, api.get(call)))
        except ClusterError as problem:
            if problem.code != NOT_FOUND:
                raise
    return found


def _flannel(api: Api) -> list[Held]:
    return [
        *config_map(api, "kube-flannel-cfg", "kube-flannel", SYSTEM),
        *config_map(api, "canal-config", SYSTEM),
    ]


def _calico(api: Api) -> list[Held]:
    operator = Call("get", "installations", "operator.tigera.io", name="default", version="v1")
    found = [*_there(api, [operator], "Installation"), *config_map(api, "calico-config", SYSTEM)]
    group, version = "crd.projectcalico.org", "v1"
    try:
        felix = list(api.items(Call("list", "felixconfigurations", "crd.projectcalico.org", version=version)))
    except ClusterError as problem:
        if problem.code != NOT_FOUND:
            raise
        felix = []
    for raw in felix:
        call = Call("get", "felixconfigurations", group, name=name_of(raw), version=version)
        found.append(Held(call, "FelixConfiguration", raw))
    return found


def _cilium(api: Api) -> list[Held]:
    return config_map(api, "cilium-config", SYSTEM, "cilium")


def _kube_router(api: Api) -> list[Held]:
    return [*config_map(api, "kube-router-cfg", SYSTEM), *_daemonset(api, "kube-router")]


def _weave(api: Api) -> list[Held]:
    return _daemonset(api, "weave-net")


def _daemonset(api: Api, name: str) -> list[Held]:
    items = api.items(Call("list", "daemonsets", "apps", SYSTEM))
    return [
        Held(Call("get", "daemonsets", "apps", SYSTEM, name), "DaemonSet", raw) for raw in items if name_of(raw) == name
    ]


_READERS: dict[str, Callable[[Api], list[Held]]] = {
    "flannel": _flannel,
    "calico": _calico,
    "cilium": _cilium,
    "kube-router": _kube_router,
    "weave": _weave,
}
#: CNIs whose objects are known.
KNOWN = tuple(_READERS)


def read(api: Api, cni: str) -> list[Held]:
    """Return the objects in which this CNI keeps its MTU; [] for a CNI that is not known, or keeps none here.

    Raises:
        ClusterError: they cannot be read.
    """
    reader = _READERS.get(cni)
    return reader(api) if reader else []
