"""A lab: N nodes on this machine, brought up and down as one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tune_nodes.errors import TuneError, UsageError
from tune_nodes.lab import boot, filesystem, hop, inventory, network, requirements, state
from tune_nodes.lab.account import USER
from tune_nodes.lab.command import explain, run
from tune_nodes.lab.faults import EXCLUSIVE, FAULTS, HOPS, RUNTIME_ONLY, Fault, apply_hub_rules
from tune_nodes.lab.filesystem import NodeFiles
from tune_nodes.lab.model import LabState, Layout, NodeState, NodeStatus, check_name, check_size
from tune_nodes.lab.node import LabNode
from tune_nodes.lab.process import alive, stop_members

Progress = Callable[[str], None]


def _silent(message: str) -> None:
    pass


class Lab:
    """A lab by name. Nothing is touched before :meth:`up`.

    Args:
        name: names its nodes (``NAME-1`` ...), its directory and its namespaces (``tn-NAME-1`` ...).
        root: the directory of all labs, by default that of ``state.root_directory()``.
    """

    def __init__(self, name: str = "lab", root: Path | None = None) -> None:
        self.name = check_name(name)
        self.directory = (root or state.root_directory()) / self.name

    @property
    def key(self) -> Path:
        """Private key that opens all nodes."""
        return self.directory / "id_ed25519"

    @property
    def public_key(self) -> str:
        """Its public half."""
        return self.key.with_suffix(".pub").read_text().strip()

    @property
    def known_hosts(self) -> Path:
        """Host keys of the nodes."""
        return self.directory / "known_hosts"

    @property
    def password_file(self) -> Path:
        """The sudo password of the node that is reached as an ordinary user."""
        return self.directory / "ops.password"

    def node_directory(self, name: str) -> Path:
        """Where a node's own files lie."""
        return self.directory / "nodes" / name

    @property
    def state(self) -> LabState:
        """What is recorded. Raises UsageError where there is no such lab."""
        found = state.load(self.directory)
        if found is None:
            raise UsageError(f"there is no lab {self.name!r}", "", f"tune-nodes lab up --name {self.name}")
        return found

    @property
    def exists(self) -> bool:
        """Whether the lab is up, or was left half made."""
        return state.load(self.directory) is not None

    @property
    def nodes(self) -> list[LabNode]:
        """All nodes, by number."""
        return [LabNode(self, node.number) for node in self.state.nodes]

    def node(self, name: str) -> LabNode:
        """Return a node by name. Raises UsageError for a name that is not exactly one of this lab's."""
        known = self.state.nodes
        for node in known:
            if node.name == name:
                return LabNode(self, node.number)
        raise UsageError(f"{name!r} is not a node of lab {self.name!r}", f"it has {known[0].name} to {known[-1].name}")

    # -- up ------------------------------------------------------------------------------------------------------

    def up(
        self,
        nodes: int = 3,
        queues: int = 4,
        *,
        inventory_dir: Path | None = None,
        sudo: bool = True,
        progress: Progress = _silent,
    ) -> LabState:
        """Bring the lab up; a lab that is up already is only repaired (nodes that died, the inventory).

        Args:
            nodes: how many.
            queues: queues of each node's eth0; one is in use at first, so that there is something to tune.
            inventory_dir: where to write the inventory (none by default).
            sudo: reach the last of several nodes as an ordinary user with a sudo password.
            progress: gets a line for each step.

        Raises:
            UsageError: the machine cannot carry a lab, or the lab is up with another size.
            TuneError: a step failed; what was made is removed again.
        """
        check_size(nodes, queues)
        requirements.check(self.directory)
        target = inventory_dir.absolute() if inventory_dir is not None else None
        if target is not None:
            inventory.refuse_foreign(target, self.name)
        with state.locked(self.directory):
            try:
                found = self._remnant(progress)
                if found is None:
                    found = self._make(nodes, queues, sudo, progress)
                else:
                    self._repair(found, nodes, queues, progress)
                if target is not None:
                    self._write_inventory(found, target)
            finally:
                self._tidy()
        return found

    def _remnant(self, progress: Progress) -> LabState | None:
        """Return the lab that is up; remove one that cannot be repaired."""
        found = state.load(self.directory)
        if found is None:
            return None
        hub = network.netns_inodes([found.layout.hub])
        if found.boot_id == state.machine_boot_id() and found.complete and hub:
            return found
        progress("removing what was left of an earlier lab")
        self._remove(found)
        return None

    def _make(self, nodes: int, queues: int, sudo: bool, progress: Progress) -> LabState:
        names = Layout(self.name, 0)
        network.refuse_foreign([names.hub, *(names.netns(number) for number in range(1, nodes + 1))])
        made = self._allocate(nodes, queues, sudo)
        try:
            progress(f"network {made.layout.network}, {nodes} nodes with {queues} queues")
            self._secrets()
            network.make_hub(made.layout)
            network.add_cables(made.layout, [node.number for node in made.nodes], queues)
            progress("nodes")
            self._start(made, made.nodes)
            made.complete = True
            state.save(self.directory, made)
        except BaseException:
            self._remove(made)
            raise
        return made

    def _allocate(self, nodes: int, queues: int, sudo: bool) -> LabState:
        """Take a free address range and record the lab, before anything is made."""
        with state.locked(self.directory.parent):
            taken = set(_indexes(self.directory.parent))
            interfaces = {path.name for path in Path("/sys/class/net").iterdir()}
            layout = Layout(self.name, state.choose_index(self.name, taken, state.used_networks(), interfaces))
            made = LabState(
                name=self.name,
                index=layout.index,
                queues=queues,
                boot_id=state.machine_boot_id(),
                nodes=[
                    NodeState(
                        number=number,
                        name=layout.node(number),
                        address=str(layout.address(number)),
                        user=USER if sudo and number == nodes > 1 else "root",
                    )
                    for number in range(1, nodes + 1)
                ],
            )
            state.save(self.directory, made)
        return made

    def _secrets(self) -> None:
        owner = controller_user()
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"tune-nodes-{self.name}", "-f", str(self.key)])
        state.write_file(self.password_file, secrets.token_urlsafe(18) + "\n", 0o600, owner)
        if owner is not None:
            os.chown(self.key, *owner)

    def _start(self, made: LabState, nodes: list[NodeState]) -> None:
        """Start these nodes side by side; record them. Raises the first error when none is starting any more."""
        public_key = self.public_key
        pool = ThreadPoolExecutor(max_workers=min(16, 4 * (os.cpu_count() or 1)))
        try:
            keys = list(pool.map(lambda node: self._start_one(made, node, public_key), nodes))
        finally:  # what comes after an error or Ctrl-C takes the nodes down: none may still be starting
            pool.shutdown(cancel_futures=True)
        known = dict(line.split(" ", 1) for line in self._known_host_lines())
        known.update((node.address, key) for node, key in zip(nodes, keys, strict=True))
        state.write_file(self.known_hosts, "".join(f"{host} {key}\n" for host, key in known.items()))
        state.save(self.directory, made)

    def _known_host_lines(self) -> list[str]:
        return self.known_hosts.read_text().splitlines() if self.known_hosts.exists() else []

    def _start_one(self, made: LabState, node: NodeState, public_key: str) -> str:
        files = NodeFiles(self.node_directory(node.name))
        new = not files.directory.exists()
        if new:
            filesystem.lay_out(files, made.layout, node, public_key)
        host_key = boot.make_host_key(files, node.name)
        node.init = boot.start(files, made.layout, node, made.queues)
        if new and node.user == USER:
            password = self.password_file.read_text().strip()
            enter = ["nsenter", f"--target={node.init.pid}", "--mount", "--uts", "--net"]
            run([*enter, "chpasswd", "--crypt-method", "SHA512"], input=f"{USER}:{password}\n")
        return " ".join(host_key.split()[:2])

    def _repair(self, found: LabState, nodes: int, queues: int, progress: Progress) -> None:
        if (len(found.nodes), found.queues) != (nodes, queues):
            raise UsageError(
                f"lab {self.name!r} is up with {len(found.nodes)} nodes of {found.queues} queues",
                f"asked for: {nodes} nodes of {queues} queues",
                f"tune-nodes lab down --name {self.name}, then up again",
            )
        dead = [node for node in found.nodes if not _runs(node)]
        progress(f"up already, {len(dead)} nodes to start again" if dead else "up already")
        for node in found.nodes:
            if node.faults:
                progress(f"{node.name} is broken: {', '.join(sorted(node.faults))} (tune-nodes lab heal {node.name})")
        for node in dead:
            self._power_off(found, node)
        if dead:
            self._cable(found, dead)
            self._start(found, dead)

    def _write_inventory(self, found: LabState, target: Path) -> None:
        if found.inventory is not None and found.inventory != target:
            inventory.remove(found.inventory, self.name)
        found.inventory = target
        state.save(self.directory, found)
        files = inventory.documents(found, self.key, self.known_hosts, self.password_file)
        inventory.write(target, self.name, files, controller_user())

    # -- down ----------------------------------------------------------------------------------------------------

    def down(self) -> bool:
        """Remove all that the lab made; return whether there was anything."""
        if not self.directory.exists():
            return False
        requirements.check_root("tune-nodes lab down")
        with state.locked(self.directory):
            found = state.load(self.directory)
            if found is not None:
                self._remove(found)
            self._tidy()
        return found is not None

    def _remove(self, found: LabState) -> None:
        if found.boot_id == state.machine_boot_id():
            names = network.netns_names(found.layout, found.nodes)
            hub = network.netns_inodes([found.layout.hub])
            if hub and any(node.faults for node in found.nodes):
                # The ends of open connections must reach the controller: a multiplexer that believes it is still
                # connected would swallow the first words to the next lab at this address.
                apply_hub_rules(found.layout, [])
            stop_members(network.netns_inodes(names))
            if hub:
                network.remove_uplink(found.layout)
            network.remove_namespaces(names)
        if found.inventory is not None:
            inventory.remove(found.inventory, self.name)
        filesystem.remove(self.directory)

    def _tidy(self) -> None:
        """Remove the lab's directory and that of all labs where they are empty."""
        for directory in (self.directory, self.directory.parent):
            try:
                directory.rmdir()
            except FileNotFoundError:
                continue
            except OSError:  # not empty
                return

    # -- one node ------------------------------------------------------------------------------------------------

    def power_cycle(self, name: str) -> None:
        """Stop all of a node's processes, take its network away, and boot it again from its /etc and /var."""
        self.node(name)
        with state.locked(self.directory):
            found = self.state
            node = next(node for node in found.nodes if node.name == name)
            self._power_off(found, node)
            self._cable(found, [node])
            self._start(found, [node])

    def _cable(self, found: LabState, nodes: list[NodeState]) -> None:
        """Lead new cables to nodes that boot again, through the hops they had."""
        network.add_cables(found.layout, [node.number for node in nodes], found.queues)
        for number in (node.number for node in nodes if set(HOPS) & set(node.faults)):
            hop.rejoin(found.layout, number)

    def _power_off(self, found: LabState, node: NodeState) -> None:
        netns = found.layout.netns(node.number)
        stop_members(network.netns_inodes([netns]))
        network.remove_namespaces([netns])
        network.remove_port(found.layout, node.number)
        filesystem.new_boot(NodeFiles(self.node_directory(node.name)))
        node.init = None
        for fault in RUNTIME_ONLY:
            node.faults.pop(fault, None)
        state.save(self.directory, found)

    def break_(self, name: str, fault: str) -> None:
        """Inject a fault into a node; one that is active already stays. Raises UsageError for an unknown one."""
        chosen, node = self.check_fault(name, fault)
        with state.locked(self.directory):
            if fault in node.faults:
                return
            for group, why in EXCLUSIVE:
                if fault in group and (other := set(group) & set(node.faults)):
                    raise UsageError(f"{name} is {other.pop()} already", why, f"tune-nodes lab heal {name}")
            data = chosen.apply(node)
            found = self.state
            found.nodes[node.number - 1].faults[fault] = data
            state.save(self.directory, found)

    def heal(self, name: str, fault: str | None = None) -> list[str]:
        """Take back one fault of a node, or all; return those that were active."""
        node = self.node(name) if fault is None else self.check_fault(name, fault)[1]
        with state.locked(self.directory):
            active = [one for one in node.faults if fault in (None, one)]
            for one in active:
                FAULTS[one].heal(node, node.state.faults[one])
                found = self.state
                del found.nodes[node.number - 1].faults[one]
                state.save(self.directory, found)
        return active

    def check_fault(self, name: str, fault: str) -> tuple[Fault, LabNode]:
        """Return the fault and the node of these names. Raises UsageError where either does not exist."""
        if fault not in FAULTS:
            raise UsageError(f"{fault!r} is not a fault", f"there are: {', '.join(FAULTS)}")
        return FAULTS[fault], self.node(name)

    # -- status --------------------------------------------------------------------------------------------------

    def status(self) -> list[NodeStatus]:
        """Log in to every node over ssh and return how each is; no nodes where there is no lab."""
        if not self.exists:
            return []
        nodes = self.nodes
        with ThreadPoolExecutor(max_workers=min(16, len(nodes))) as pool:
            return list(pool.map(_status, nodes))


def _runs(node: NodeState) -> bool:
    """Return whether a node can be logged in to: its init lives, and the sshd that it came with."""
    return node.init is not None and alive(node.init) and boot.sshd_pid(node.init) is not None


def _indexes(root: Path) -> Iterator[int]:
    """Yield the places that labs hold; one whose state cannot be read still shows by its route and interface."""
    for path in root.iterdir():
        try:
            found = state.load(path)
        except TuneError:
            continue
        if found is not None:
            yield found.index


def _status(node: LabNode) -> NodeStatus:
    up, ok, detail = alive(node.state.init), False, "no init: its namespaces are gone"
    if up:
        try:
            done = run(node.ssh_argv(["true"], ["-o", "ConnectTimeout=3"]), timeout=8, check=False)
            ok, detail = done.returncode == 0, explain(done.stderr, ["ok"])
        except TuneError as error:
            detail = error.what
    return NodeStatus(
        node=node.name,
        address=node.address,
        user=node.user,
        up=up,
        ssh=ok,
        detail="" if ok else detail,
        sshd_pid=node.sshd,
        faults=node.faults,
    )


def controller_user() -> tuple[int, int] | None:
    """Return uid and gid of the user behind sudo, who must read key and inventory; None for root."""
    uid, gid = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    return (int(uid), int(gid)) if uid.isdigit() and gid.isdigit() and int(uid) else None
