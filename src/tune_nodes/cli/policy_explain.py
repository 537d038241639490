"""``tune-nodes policy explain`` and ``tune-nodes policy list``."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import typer

from tune_nodes.cli.choice import choose
from tune_nodes.cli.cluster import Context, Kubeconfig, chosen_kubeconfig
from tune_nodes.cli.options import Format, InCluster, Output
from tune_nodes.cli.output import Printer
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import NO_KUBECONFIG, KubeconfigError
from tune_nodes.cluster.objects import name_of
from tune_nodes.errors import UsageError
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.policy.discovery import read, snapshot, survey
from tune_nodes.policy.judging.decision import EGRESS, INGRESS, Decision, Traffic, Verdict
from tune_nodes.policy.judging.ports import PROTOCOLS, number
from tune_nodes.policy.judging.summary import summary
from tune_nodes.policy.judging.verdict import decide, judge, resolve
from tune_nodes.policy.model import Cidr, Peer, Pod, Policy, Snapshot
from tune_nodes.policy.surroundings import read_pods

#: An address that is nobody's (RFC 5737): the far end where none is asked about.
NOBODY = Cidr("192.0.2.1/32")
CLOSE = 3
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")
_WORDS = {True: "allowed", False: "denied", None: "cannot be judged"}


@dataclass(frozen=True)
class Port:
    """What ``--port`` names. ``text``: a number, or a name that the target's containers give it."""

    text: str
    protocol: str


def explain(
    out: Output,
    pod: Annotated[str, typer.Argument(metavar="POD", help="NAME, or NAMESPACE/NAME.")],
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Of pods that are named without theirs.")
    ] = "default",
    source: Annotated[
        str, typer.Option("--from", help="Who connects to it: a pod, an address or a range of addresses.")
    ] = "",
    target: Annotated[
        str, typer.Option("--to", help="What it connects to: a pod, an address or a range of addresses.")
    ] = "",
    port: Annotated[
        str,
        typer.Option(
            "--port",
            help="Of whoever is connected to: NUMBER, NAME, NUMBER/UDP.",
            show_default="the target's only named port",
        ),
    ] = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> int:
    """Say which network policies select a pod, in the order in which they count, and which rule decides a connection.

    It only reads. Ends with 0 whenever there is an answer, also where the answer is "denied".
    """
    if source and target:
        raise UsageError(
            "--from and --to are two questions", "a connection has the pod at one of its ends", "ask twice"
        )
    wanted = _port(port)
    with _opened(out, kubeconfig, context) as (cluster, printer):
        known, me, other = _ends(cluster, (pod, source or target), namespace)
        if other is None:
            _show_policies(printer, known, me)
            return 0
        other = resolve(known, other)
        start, end = (me, other) if target else (other, me)
        chosen, protocol = _chosen(wanted, end)
    traffic = Traffic(known, start, end, chosen, protocol)
    verdict = judge(known, start, end, chosen, protocol)
    if printer.human:
        _print(printer, traffic, verdict)
    else:
        printer.document(document(traffic, verdict))
    return 0


class _opened:
    """A cluster and a printer, as the options say; the cluster is closed at the end."""

    def __init__(self, out: Output, kubeconfig: str, context: str) -> None:
        settings = choose(out, cluster=InCluster(kubeconfig=kubeconfig, context=context)).settings
        path = chosen_kubeconfig(settings.cluster.kubeconfig, settings.inventory)
        if path is None:
            raise KubeconfigError(
                "no kubeconfig was given",
                "there is none beside the inventory and none in KUBECONFIG",
                "add --kubeconfig PATH",
                NO_KUBECONFIG,
            )
        self._printer = Printer(Format(settings.output), out.no_color)
        self._cluster = Cluster.open(path, settings.cluster.context)

    def __enter__(self) -> tuple[Cluster, Printer]:
        return self._cluster, self._printer

    def __exit__(self, *error: object) -> None:
        self._cluster.close()


def _port(text: str) -> Port:
    name, _, protocol = text.partition("/")
    protocol = protocol.upper() or "TCP"
    if protocol not in PROTOCOLS:
        raise UsageError(f"{one_line(text)!r} is no port", f"there are {', '.join(PROTOCOLS)}", "--port 53/UDP")
    return Port(name, protocol)


def _chosen(port: Port, target: Peer) -> tuple[int, str]:
    """Return number and protocol of the port in question. Raises UsageError where none is meant."""
    given = number(port.text)
    named = target.ports if isinstance(target, Pod) else ()
    if given:
        return given, port.protocol
    if not port.text and len(named) == 1:
        return named[0].number, named[0].protocol
    for one in named:
        if one.name == port.text:
            return one.number, one.protocol
    names = ", ".join(f"{one_line(one.name, 40)} ({one.number}/{one.protocol})" for one in named[:10])
    what = f"{one_line(port.text)!r} is no port of {target}" if port.text else "say which port"
    raise UsageError(what, f"it names {names}" if names else f"{target} names none", "add --port NUMBER[/PROTOCOL]")


def _ends(cluster: Cluster, texts: tuple[str, str], namespace: str) -> tuple[Snapshot, Pod, Peer | None]:
    """Read the cluster and find both ends in it."""
    cidr = _cidr(texts[1])
    spaces = {_split(text, namespace)[0] for text in texts if text and _cidr(text) is None}
    wide = cidr is not None and cidr.network.num_addresses > 1
    known = snapshot(cluster, pods_in=None if wide else spaces)
    if cidr is not None and not wide:  # the one pod that has this address, wherever it is
        query = {"fieldSelector": f"status.podIP={cidr.network.network_address}"}
        known = replace(known, pods=tuple(dict.fromkeys([*known.pods, *read_pods(cluster.api, "", query)])))
    me = _pod(cluster, known, texts[0], namespace)
    if not texts[1]:
        return known, me, None
    return known, me, cidr or _pod(cluster, known, texts[1], namespace)


def _cidr(text: str) -> Cidr | None:
    try:
        return Cidr(str(ipaddress.ip_network(text, strict=False)))
    except ValueError:
        return None


def _split(text: str, namespace: str) -> tuple[str, str]:
    """Return namespace and name. Raises UsageError for what can be no pod's."""
    space, _, name = text.rpartition("/")
    space = space or namespace
    if not (_NAME.match(space) and _NAME.match(name)):
        raise UsageError(
            f"{one_line(text)!r} is neither a pod nor an address", "", "NAME, NAMESPACE/NAME or an address"
        )
    return space, name


def _pod(cluster: Cluster, known: Snapshot, text: str, namespace: str) -> Pod:
    space, name = _split(text, namespace)
    found = next((pod for pod in known.pods if (pod.namespace, pod.name) == (space, name)), None)
    if found is not None:
        return found
    if space not in known.namespaces:
        near = _close(space, known.namespaces)
        raise UsageError(
            f"there is no namespace {space}", f"close to it: {near}" if near else "", "kubectl get namespaces"
        )
    elsewhere = [pod.ref for pod in read_pods(cluster.api, "", {"fieldSelector": f"metadata.name={name}"})]
    near = ", ".join(sorted(elsewhere)[:CLOSE]) or _close(
        name, [pod.name for pod in known.pods if pod.namespace == space]
    )
    why = f"did you mean {near}?" if near else f"it has {sum(pod.namespace == space for pod in known.pods)} pods"
    raise UsageError(f"there is no pod {name} in the namespace {space}", why, f"kubectl get pods -n {space}")


def _close(name: str, names: Iterable[str]) -> str:
    return ", ".join(difflib.get_close_matches(name, [one_line(one, 253) for one in names], CLOSE))


def _end(peer: Peer) -> str:
    if not isinstance(peer, Pod):
        return str(peer)
    place = f" on {one_line(peer.node, 80)}" if peer.node else ""
    return f"{one_line(peer.ref, 300)} ({', '.join(peer.ips) or 'no address yet'}{place})"


def _enforced(known: Snapshot) -> str:
    names = ", ".join(one_line(name, 60) for name in known.cni) or "an unknown network"
    return f"{names}; enforced by {known.engine}" if known.engine else f"{names}; enforced by nobody"


def _print(printer: Printer, traffic: Traffic, verdict: Verdict) -> None:
    printer.line(f"from  {_end(traffic.source)}")
    printer.line(f"to    {_end(traffic.target)}, port {traffic.port}/{traffic.protocol}")
    printer.line(f"in    {_enforced(traffic.snapshot)}")
    steps = [(one.direction, step) for one in (verdict.egress, verdict.ingress) for step in one.steps]
    if steps:
        printer.line()
        rows = [(way, one_line(step.policy.ref, 300), one_line(step.text, 300)) for way, step in steps]
        printer.rows(("WAY", "POLICY", "WHAT IT DOES"), rows, whole=1)
    printer.line()
    for decision in (verdict.egress, verdict.ingress):
        printer.line(f"{decision.direction}: {_WORDS[decision.allowed]}: {one_line(decision.rule, 500)}")
    printer.line(f"the connection is {_said(verdict)}")
    _print_not_judged(printer, verdict.not_judged)


def _said(verdict: Verdict) -> str:
    if verdict.allowed is None:
        return f"not judged: {verdict.deciding.direction} cannot be told"
    if verdict.allowed:
        return "allowed"
    who = verdict.deciding.decided_by
    return f"denied on {verdict.deciding.direction}" + (f" by {one_line(who.ref, 300)}" if who else "")


def _print_not_judged(printer: Printer, sentences: Sequence[str]) -> None:
    printer.line()
    printer.line("Not judged here:")
    for sentence in sentences:
        printer.line(f"- {one_line(sentence, 300)}")


def document(traffic: Traffic, verdict: Verdict) -> dict[str, Any]:
    """Return an answer as JSON; ``allowed`` is null where it cannot be told."""
    deciding = verdict.deciding
    return {
        "schema": 1,
        "from": _peer_row(traffic.source),
        "to": _peer_row(traffic.target),
        "port": traffic.port,
        "protocol": traffic.protocol,
        "engine": traffic.snapshot.engine or None,
        "cni": [one_line(name, 80) for name in traffic.snapshot.cni],
        "allowed": verdict.allowed,
        "decided_by": None if deciding.decided_by is None else one_line(deciding.decided_by.ref, 600),
        "rule": one_line(deciding.rule, 600),
        EGRESS: _decision_row(verdict.egress),
        INGRESS: _decision_row(verdict.ingress),
        "not_judged": [one_line(sentence, 600) for sentence in verdict.not_judged],
    }


def _peer_row(peer: Peer) -> dict[str, Any]:
    if not isinstance(peer, Pod):
        return {"addresses": str(peer.network)}
    return {"namespace": peer.namespace, "pod": peer.name, "node": peer.node or None, "addresses": list(peer.ips)}


def _decision_row(decision: Decision) -> dict[str, Any]:
    steps = [{**_policy_row(step.policy), "does": one_line(step.text, 600)} for step in decision.steps]
    by = None if decision.decided_by is None else one_line(decision.decided_by.ref, 600)
    return {"allowed": decision.allowed, "decided_by": by, "rule": one_line(decision.rule, 600), "policies": steps}


def _policy_row(policy: Policy) -> dict[str, Any]:
    return {
        "kind": policy.kind.text,
        "api_version": policy.kind.api_version,
        "namespace": policy.namespace or None,
        "name": policy.name,
    }


def _show_policies(printer: Printer, known: Snapshot, pod: Pod) -> None:
    """Show what selects a pod where no connection is asked about."""
    found, rules = [], []
    for way, traffic in ((EGRESS, Traffic(known, pod, NOBODY, 1)), (INGRESS, Traffic(known, NOBODY, pod, 1))):
        decision = decide(traffic, way)
        found += [(way, step.policy) for step in decision.steps]
        rules += [] if decision.steps else [f"{way}: {decision.rule}"]
    if not printer.human:
        rows = [{"direction": way, **_policy_row(one), "does": summary(one)} for way, one in found]
        sentences = [one_line(sentence, 600) for sentence in known.not_judged]
        engine = known.engine or None
        printer.document(
            {"schema": 1, "pod": _peer_row(pod), "engine": engine, "policies": rows, "not_judged": sentences}
        )
        return
    printer.line(_end(pod))
    printer.line(_enforced(known))
    if found:
        printer.rows(
            ("WAY", "POLICY", "WHAT IT IS"),
            [(way, one_line(one.ref, 300), summary(one)) for way, one in found],
            whole=1,
        )
    for rule in rules:
        printer.line(one_line(rule, 300))
    for sentence in known.not_judged:
        printer.note(f"not judged: {one_line(sentence, 300)}")
    printer.note("for a verdict ask about a connection: --from POD or --to POD, and --port")


def list_(
    out: Output,
    namespace: Annotated[
        str,
        typer.Option("--namespace", "-n", help="Only its policies, and those of no namespace.", show_default="all"),
    ] = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> int:
    """List the policies of every kind that the server serves: tiers and sets of addresses too. It only reads."""
    with _opened(out, kubeconfig, context) as (cluster, printer):
        found = survey(cluster.api)
        if namespace and not _exists(cluster, namespace):
            raise UsageError(f"there is no namespace {one_line(namespace)}", "", "kubectl get namespaces")
        policies = read(cluster.api, found.kinds, namespace or None)
    policies.sort(key=lambda one: (one.namespace, one.kind.text, one.name))
    others = [*found.silent, *(f"{kind}: this kind is not handled" for kind in found.not_handled)]
    if not printer.human:
        rows = [{**_policy_row(one), "role": one.kind.role, "does": summary(one)} for one in policies]
        kinds = [kind.qualified for kind in found.kinds]
        printer.document({"schema": 1, "kinds": kinds, "policies": rows, "not_judged": others})
        return 0
    if policies:
        printer.rows(("POLICY", "WHAT IT IS"), [(one_line(one.ref, 300), summary(one)) for one in policies])
    else:
        printer.note("there is no policy")
    for sentence in others:
        printer.note(f"not judged: {one_line(sentence, 300)}")
    return 0


def _exists(cluster: Cluster, namespace: str) -> bool:
    query = {"fieldSelector": f"metadata.name={namespace}"}
    return any(name_of(item) == namespace for item in cluster.api.items(Call("list", "namespaces"), query))


#: Name, function, and lines for the help page.
COMMANDS: tuple[tuple[str, Callable[..., int], tuple[str, ...]], ...] = (
    (
        "explain",
        explain,
        (
            "tune-nodes policy explain shop/web-0",
            "tune-nodes policy explain shop/web-0 --from shop/client-0 --port 8080",
        ),
    ),
    ("list", list_, ("tune-nodes policy list", "tune-nodes policy list -n shop -o json")),
)
