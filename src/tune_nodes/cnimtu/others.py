"""The MTUs of Cilium, kube-router and Weave in the API (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from tune_nodes.cluster.objects import at, mappings
from tune_nodes.cnimtu.model import OK, PENDING, UNSUPPORTED, Held, NodeStack, Setting
from tune_nodes.cnimtu.values import document, rendered, size, with_size

#: Bytes that Weave's fast datapath costs with encryption (its documentation: 8916 on a network of 9000), and what it
#: gives where nothing is set.
WEAVE_COST, WEAVE_DEFAULT = 84, 1376


def cilium(stacks: Sequence[NodeStack], held: Sequence[Held]) -> list[Setting]:
    """Return Cilium's ``mtu``: the interface's, which pods' devices have too; routes in pods hold the smaller one.

    Source: docs.cilium.io, cilium-agent's command reference, ``--mtu``.
    """
    found = []
    for one in held:
        pods, now = stacks[0].pods, size(at(one.raw, "data", "mtu"))
        number = any(stack.number for stack in stacks)
        if now == pods:
            found.append(Setting("mtu", one, now, now, OK, "it is what the interface has"))
        elif now is None and not number:
            found.append(Setting("mtu", one, None, None, OK, "automatic: what the interface has"))
        else:
            want = pods if number else None
            reason = f"it should be {pods}" + ("" if number else ", which is what the agent finds by itself")
            patch = {"data": {"mtu": str(want) if want else None}}
            found.append(Setting("mtu", one, now, want, PENDING, reason, patch=patch))
    return found


def kube_router(stacks: Sequence[NodeStack], held: Sequence[Held]) -> list[Setting]:
    """Return kube-router's: ``mtu`` of the bridge in its CNI configuration; ``--auto-mtu``, its default, overrules it.

    Its init container copies the configuration only where a node has none; a node that has one keeps it.
    """
    automatic = not any(_says_no(one) for one in held if one.kind == "DaemonSet")
    found = []
    for one in held:
        conf = document(at(one.raw, "data", "cni-conf.json"))
        plugins = conf.get("plugins")
        if one.kind != "ConfigMap" or not (isinstance(plugins, list) and plugins and isinstance(plugins[0], dict)):
            continue
        key, now, pods = "cni-conf.json mtu", size(plugins[0].get("mtu")), stacks[0].pods
        number = any(stack.number for stack in stacks)
        if automatic and number:
            reason = f"pods should have {pods}, and --auto-mtu overrules what is set here"
            note = "give kube-router --auto-mtu=false first"
            found.append(Setting(key, one, now, pods, UNSUPPORTED, reason, note))
        elif automatic:
            found.append(Setting(key, one, now, now, OK, "--auto-mtu: kube-router finds it when it starts"))
        elif now == pods:
            found.append(Setting(key, one, now, now, OK, "it is what pods should have"))
        else:
            changed = [with_size(plugins[0], "mtu", pods), *plugins[1:]]
            patch = {"data": {"cni-conf.json": rendered({**conf, "plugins": changed})}}
            note = "a node that has 10-kuberouter.conflist keeps it: remove that file, then restart kube-router"
            found.append(Setting(key, one, now, pods, PENDING, f"pods should have {pods}", note, patch))
    return found


def _says_no(held: Held) -> bool:
    words: list[object] = []
    for container in mappings(held.raw, "spec", "template", "spec", "containers"):
        for part in ("args", "command"):
            listed = container.get(part)
            words += listed if isinstance(listed, list) else []
    return any(isinstance(word, str) and word.lower() in ("--auto-mtu=false", "--auto-mtu=0") for word in words)


def weave(stacks: Sequence[NodeStack], held: Sequence[Held]) -> list[Setting]:
    """Return Weave's ``WEAVE_MTU``. It stands in a DaemonSet, which is not changed from here."""
    found = []
    least = min((layer.want for stack in stacks for layer in stack.interfaces), default=0)
    most = least - WEAVE_COST
    for one in held:
        for container in mappings(one.raw, "spec", "template", "spec", "containers"):
            if container.get("name") != "weave":
                continue
            sizes = [size(env.get("value")) for env in mappings(container, "env") if env.get("name") == "WEAVE_MTU"]
            now = next(iter(sizes), None)
            has = now or WEAVE_DEFAULT
            if has == most or (has < most and not now):
                found.append(Setting("WEAVE_MTU", one, now, now, OK, f"{has} fits; {most} would too"))
                continue
            reason = f"the interface's {least} less {WEAVE_COST} bytes is {most}"
            note = f"kubectl -n kube-system set env daemonset/weave-net -c weave WEAVE_MTU={most}"
            found.append(Setting("WEAVE_MTU", one, now, most, UNSUPPORTED, reason, note))
    return found
