# SPDX-License-Identifier: Apache-2.0
"""No new sandbox gets a network while the state is rebuilt, and those that end still give theirs back.

A runtime takes the first configuration by name and runs the plugins of the one in use for DEL too. So the fence is a
copy of the configuration in use, named to sort first, with one plugin more in front: it refuses ADD and lets DEL pass.
Without the copy, pods would hang in Terminating and leases would stay (k8snetworkplumbingwg/multus-cni#1146).
"""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Mapping, Optional, Sequence

from ...errors import NodeError
from ...files import fsync_dir, read_bytes, write_atomic, write_error
from ...host import Host
from .. import command, cri
from ..command import Run

#: "-" sorts before every digit, and so before 00-multus.conf.
CONF = "0-tune-nodes-rebuild.conflist"
PLUGIN = "tune-nodes-fence"
#: What Cilium's agent makes of the name of a configuration that is not its own.
RENAMED = ".cilium_bak"
#: Code 11 is "try again later" (CNI specification, section "Error").
SCRIPT = b"""#!/bin/sh
# tune-nodes: while this node's CNI state is rebuilt no sandbox may start; those that end give back what they have.
cat >/dev/null
case "$CNI_COMMAND" in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}' ;;
ADD) echo '{"cniVersion":"0.4.0","code":11,"msg":"tune-nodes rebuilds the CNI state of this node; try again later"}'
     exit 1 ;;
esac
"""


def placeholder(text: str) -> Optional[str]:
    """Return the fence for a configuration file's content, None for what is no configuration (pure)."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not isinstance(document.get("name"), str):
        return None
    plugins = document.get("plugins")
    if isinstance(document.get("type"), str):
        plugins = [document]
    if not isinstance(plugins, list) or not plugins:
        return None
    head: Dict[str, Any] = {key: document[key] for key in ("cniVersion", "disableCheck") if key in document}
    return json.dumps(dict(head, name=document["name"], plugins=[{"type": PLUGIN}, *plugins]), indent=1) + "\n"


def place(directories: Sequence[str], host: Host) -> str:
    """Return where the fence's program goes: the first directory of plugins that is there.

    Raises:
        NodeError: there is none, or a program of another has its name.
    """
    there = [path for path in directories if os.path.isdir(host.path(path))]
    if not there:
        raise NodeError("no sandbox can be kept from starting", "there is no directory of CNI plugins", code="refused")
    path = os.path.join(there[0], PLUGIN)
    data = read_bytes(host.path(path))
    if data not in (None, SCRIPT):
        raise NodeError("%s is there and is not ours" % path, "", "move it away", code="refused")
    return path


def names_first(directory: str, host: Host) -> None:
    """Make sure that the fence would sort first. Raises NodeError."""
    try:
        names = os.listdir(host.path(directory))
    except OSError as exc:
        raise NodeError("%s cannot be read" % directory, exc.strerror or "", code="refused") from exc
    before = sorted(name for name in names if name < CONF and name.endswith((".conf", ".conflist", ".json")))
    if before:
        why = "%s/%s sorts before anything else" % (directory, before[0])
        raise NodeError("no sandbox can be kept from starting", why, "move it away", code="refused")


def put_up(conf: str, conf_dir: str, program: str, host: Host) -> None:
    """Put up the fence: first its program, then the configuration that names it. Raises NodeError."""
    text = (read_bytes(host.path(conf)) or b"").decode("utf-8", "replace")
    fence = placeholder(text)
    if fence is None:
        raise NodeError("%s is no CNI configuration any more" % conf, code="refused")
    names_first(conf_dir, host)
    write_atomic(host.path(program), SCRIPT, 0o755)
    write_atomic(host.path(conf_dir, CONF), fence.encode("utf-8"), 0o644)


def take_down(conf_dir: str, host: Host) -> None:
    """Take the fence's configuration away; nothing where it is gone. Raises NodeError."""
    for name in (CONF, CONF + RENAMED):
        _unlink(host.path(conf_dir, name))


def drop_program(program: str, host: Host) -> None:
    """Take the fence's program away, once no runtime uses it any more. Raises NodeError."""
    if program and read_bytes(host.path(program)) == SCRIPT:
        _unlink(host.path(program))


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
        fsync_dir(os.path.dirname(path))
    except FileNotFoundError:
        return
    except OSError as exc:
        raise write_error(path, exc) from exc


def in_use(host: Host, run: Run = command.run) -> Optional[bool]:
    """Tell whether the runtime has the fence in use now, None where it does not say which plugins it uses."""
    try:
        how = cri.runtime(host)
        if how.program != "crictl":
            return None
        done = run(["crictl", "-r", "unix://" + how.socket, "-t", "%ds" % cri.LIMIT, "info"], cri.LIMIT + 5.0)
    except NodeError:
        return None
    return None if done.code else names_fence(done.out.decode("utf-8", "replace"))


def names_fence(text: str) -> Optional[bool]:
    """Tell whether ``crictl info`` names the fence among the plugins in use, None where it names none (pure)."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    networks = _at(document, "cniconfig", "Networks")
    found: Optional[bool] = None
    for network in networks if isinstance(networks, list) else []:
        plugins = _at(network, "Config", "Plugins")
        for plugin in plugins if isinstance(plugins, list) else []:
            kind = _at(plugin, "Network", "type")
            if isinstance(kind, str) and kind != "loopback":
                found = bool(found) or kind == PLUGIN
    return found


def _at(value: Any, *path: str) -> Any:
    for step in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(step)
    return value
