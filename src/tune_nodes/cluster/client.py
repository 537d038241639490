"""A cluster as the rest of the program uses it: facts, a cordon, a drain, and which permissions are missing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

from tune_nodes.cluster import cni, cordon, drain, objects, rights
from tune_nodes.cluster.api import Api, members
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.errors import FORBIDDEN, NOT_FOUND, ClusterError
from tune_nodes.cluster.model import AgentFacts, ClusterFacts, Drained, NodeFacts

#: Calls under way at once.
POOL = 8
#: Up to so many nodes are asked for one by one; beyond that the whole list costs less.
FEW = 20
#: Up to so many nodes ``facts`` lists all agents; beyond that ``agents`` is asked for those of a wave.
MANY = 500

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Cluster:
    """One cluster, through one context of a kubeconfig. Every method raises ClusterError; safe to use from threads.

    Args:
        api: the connection.
        user: who the server says we are, "" where it does not say.
    """

    def __init__(self, api: Api, user: str = "") -> None:
        self.api = api
        self.user = user
        self._namespaces: tuple[str, ...] | None = None

    @classmethod
    def open(cls, kubeconfig: Path, context: str = "", timeout: float = 10) -> Self:
        """Return a cluster that has answered and taken the credentials.

        Args:
            kubeconfig: the file.
            context: which of its contexts, "" for the current one.
            timeout: seconds for a connection, and for each silence of the server.

        Raises:
            KubeconfigError: the file or the context is unusable.
            ClusterError: the server cannot be reached, or refuses the credentials.
        """
        api = Api(kubeconfig, context, timeout)
        try:
            api.version()
            return cls(api, _who(api))
        except BaseException:
            api.close()
            raise

    def close(self) -> None:
        """Close the connections and forget the keys."""
        self.api.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def server(self) -> str:
        """The server's URL."""
        return self.api.server

    @property
    def context(self) -> str:
        """The context's name."""
        return self.api.context.name

    def facts(self) -> ClusterFacts:
        """Look at all that a run wants to know. Nodes must be readable; what else is not stands in ``not_seen``."""
        not_seen = []
        if self.api.insecure:
            not_seen.append(f"whether {self.server} is the cluster: its certificate is not checked")
        version = objects.text(self.api.version(), "gitVersion", limit=60)
        nodes: dict[str, NodeFacts] = {}
        annotated: set[str] = set()
        for page in self.api.pages(Call("list", "nodes")):  # one page in memory at a time: 5,000 nodes are 70 MB
            items = members(page)
            nodes |= {node.name: node for node in map(objects.node_facts, items) if node is not None}
            annotated |= cni.of_nodes(items)
        daemonsets, problem = self._daemonsets()
        not_seen += [f"the CNI's version: {problem}"] if problem else []
        names = cni.named(daemonsets, annotated)
        try:
            agents = tuple(self._agents(None)) if len(nodes) <= MANY else self._none_but_allowed()
        except ClusterError as error:
            if error.code != FORBIDDEN:
                raise
            agents = ()
            not_seen.append(f"whether kube-proxy and the CNI's agents run: {error.what}")
        return ClusterFacts(self.server, self.context, version, names, nodes, agents, tuple(not_seen))

    def _none_but_allowed(self) -> tuple[AgentFacts, ...]:
        """Return no agents: those of so many nodes are 100 MB and more. Raises ClusterError where none may be seen."""
        next(self.api.pages(Call("list", "pods", namespace=cni.SYSTEM), {"limit": "1"}))
        return ()

    def nodes(self, names: Collection[str] | None = None) -> dict[str, NodeFacts]:
        """Return Node objects by name, all or some; a name that has none is left out."""
        if names is None or len(names) > FEW:
            found = [objects.node_facts(item) for item in self.api.items(Call("list", "nodes"))]
        else:
            found = self._side_by_side(self._node, names)
        wanted = None if names is None else set(names)
        return {node.name: node for node in found if node is not None and (wanted is None or node.name in wanted)}

    def _node(self, name: str) -> NodeFacts | None:
        try:
            return objects.node_facts(self.api.get(Call("get", "nodes", name=name)))
        except ClusterError as problem:
            if problem.code == NOT_FOUND:
                return None
            raise

    def agents(self, nodes: Collection[str]) -> list[AgentFacts]:
        """Return the pods of DaemonSets on these nodes, in kube-system and where the CNI's agents are."""
        if self._namespaces is None:
            self._daemonsets()
        return self._agents(nodes)

    def _agents(self, nodes: Collection[str] | None) -> list[AgentFacts]:
        """``nodes``: None for all."""
        namespaces = self._namespaces or (cni.SYSTEM,)
        pods: Iterable[list[dict[str, Any]]]
        if nodes is None or len(nodes) > FEW:
            pods = self._side_by_side(lambda one: list(self.api.items(Call("list", "pods", namespace=one))), namespaces)
        else:
            pairs = [(node, namespace) for node in nodes for namespace in namespaces]
            pods = self._side_by_side(lambda pair: drain.pods_on(self.api, *pair), pairs)
        found = [objects.agent_facts(pod) for group in pods for pod in group]
        return [agent for agent in found if agent is not None and (nodes is None or agent.node in nodes)]

    def _daemonsets(self) -> tuple[dict[tuple[str, str], str], str]:
        """Return the CNIs' DaemonSets, and why they could not be listed; remember in which namespaces they are."""
        problem = ""
        try:
            found = cni.of_daemonsets(self.api.items(Call("list", "daemonsets", "apps")))
        except ClusterError as error:
            if error.code != FORBIDDEN:
                raise
            problem = error.what
            found = self._from_pods()
        self._namespaces = tuple(sorted({cni.SYSTEM, *(namespace for namespace, _ in found)}))
        return found, "" if found else problem

    def _from_pods(self) -> dict[tuple[str, str], str]:
        """Return the CNIs' DaemonSets by their pods, as far as those can be listed."""
        try:
            pages = self._side_by_side(
                lambda one: next(self.api.pages(Call("list", "pods", namespace=one)), {}), cni.NAMESPACES
            )
        except ClusterError as error:
            if error.code != FORBIDDEN:
                raise
            return {}
        pods = (pod for page in pages for pod in objects.mappings(page, "items"))
        return cni.of_daemonsets(pod for pod in pods if objects.daemonset_of(pod))

    def pod_names(self, uids: Collection[str], nodes: Collection[str]) -> dict[str, str]:
        """Return "namespace/name" by uid for pods on these nodes; a uid that none has is left out."""
        wanted = set(uids)
        if not wanted:
            return {}
        found = {}
        for group in self._side_by_side(lambda node: drain.pods_on(self.api, node), nodes):
            for pod in group:
                uid = objects.text(pod, "metadata", "uid")
                if uid in wanted:
                    found[uid] = f"{objects.text(pod, 'metadata', 'namespace')}/{objects.name_of(pod)}"
        return found

    def cordon(self, node: str, run: str) -> bool:
        """Close a node for new pods; see :func:`tune_nodes.cluster.cordon.cordon`."""
        return cordon.cordon(self.api, node, run)

    def uncordon(self, node: str, run: str) -> bool:
        """Open a node that this run closed; see :func:`tune_nodes.cluster.cordon.uncordon`."""
        return cordon.uncordon(self.api, node, run)

    def drain(
        self,
        node: str,
        timeout: float,
        cancelled: Callable[[], bool],
        grace: int | None = None,
        *,
        force: bool = False,
        delete_emptydir: bool = False,
    ) -> Drained:
        """Move a node's pods away; see :func:`tune_nodes.cluster.drain.drain`."""
        return drain.drain(self.api, node, timeout, cancelled, grace, force=force, delete_emptydir=delete_emptydir)

    def missing(self, level: rights.Level, purpose: str = "") -> list[str]:
        """Return the permissions of a level that we do not have: "create pods/eviction in all namespaces".

        Args:
            level: which.
            purpose: only those of its manifest for this ("mtu"); "" for those that a run needs.
        """
        return self.lacking(rights.optional(level, purpose) if purpose else rights.required(level))

    def lacking(self, wanted: Sequence[rights.Right]) -> list[str]:
        """Return which of these permissions we do not have."""
        answers = self._side_by_side(self._has, wanted)
        return [str(right) for right, has in zip(wanted, answers, strict=True) if not has]

    def _has(self, right: rights.Right) -> bool:
        call = Call("create", "selfsubjectaccessreviews", "authorization.k8s.io")
        answer = self.api.post(call, right.review(), safe=True)
        return objects.at(answer, "status", "allowed") is True

    @staticmethod
    def _side_by_side(ask: Callable[[_In], _Out], of: Collection[_In]) -> list[_Out]:
        """Ask for several things at once, a bounded number at a time; the first error is raised."""
        if len(of) < 2:
            return [ask(one) for one in of]
        with ThreadPoolExecutor(min(POOL, len(of))) as pool:
            return list(pool.map(ask, of))


def _who(api: Api) -> str:
    """Return who the server takes us for; servers before 1.28 do not say."""
    call = Call("create", "selfsubjectreviews", "authentication.k8s.io")
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        answer = api.post(call, body, safe=True)
    except ClusterError as problem:
        if problem.code in (NOT_FOUND, FORBIDDEN):
            return ""
        raise
    return objects.text(answer, "status", "userInfo", "username")
