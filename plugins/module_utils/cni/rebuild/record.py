# SPDX-License-Identifier: Apache-2.0
"""How far the rebuild of this node's CNI state has come: one file on the node, replaced in one step.

Whoever carries on, from whichever controller, learns from it what is done. It is written before a step that changes
something where the step could not be told from nothing afterwards, and after it where doing it twice is harmless.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Optional

from ...errors import NodeError
from ...files import make_dir, read_bytes, remove, write_atomic
from ...host import Host
from ...transaction.store import check_id

DIRECTORY = "/var/lib/tune-nodes/rebuild"
#: In this order; the last two are ends.
BEGUN, FENCED, CLEARING, CLEARED, OPEN, DONE, UNDONE = PHASES = (
    "begun",
    "fenced",
    "clearing",
    "cleared",
    "open",
    "done",
    "undone",
)
ENDS = (DONE, UNDONE)
KEEP = 20
_SUFFIX = ".json"


@dataclass
class Record:
    """One rebuild.

    Attributes:
        run: the run that began it; it names everything that is kept of it, and marks the cordon.
        phase: one of PHASES: what is done.
        cni, conf, network: the CNI that is rebuilt, its configuration file and network.
        conf_dir: where the runtime reads configurations.
        fence, program: the file and the program that keep new sandboxes from starting, "" where there are none.
        boot_id: of the boot in which it began.
        agents: uids of the agent's pods that were stopped: they must be replaced, not only run on.
        kept: names of the quarantines that hold what was taken away, in that order.
        counts: kind -> how many artefacts of it were taken away.
    """

    run: str
    phase: str = BEGUN
    cni: str = ""
    conf: str = ""
    network: str = ""
    conf_dir: str = ""
    fence: str = ""
    program: str = ""
    boot_id: str = ""
    agents: List[str] = field(default_factory=list)
    kept: List[str] = field(default_factory=list)
    counts: Dict[str, int] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.phase in ENDS

    def to_dict(self) -> Dict[str, Any]:
        """Return a JSON-able mapping."""
        return asdict(self)

    def at_least(self, phase: str) -> bool:
        """Tell whether it has come this far."""
        return PHASES.index(self.phase) >= PHASES.index(phase)


def parse(data: bytes) -> Optional[Record]:
    """Return the record in a file, None for what is none (pure)."""
    try:
        raw = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(raw, dict) or raw.get("phase") not in PHASES:
        return None
    texts = ("run", "phase", "cni", "conf", "network", "conf_dir", "fence", "program", "boot_id")
    if not all(isinstance(raw.get(name), str) for name in texts) or not raw["run"]:
        return None
    agents, kept, counts = raw.get("agents"), raw.get("kept"), raw.get("counts")
    if not (isinstance(agents, list) and isinstance(kept, list) and isinstance(counts, dict)):
        return None
    if not all(isinstance(one, str) for one in (*agents, *kept)):
        return None
    numbers = {str(kind)[:20]: count for kind, count in counts.items() if isinstance(count, int)}
    return Record(agents=agents, kept=kept, counts=numbers, **{name: raw[name] for name in texts})


def save(host: Host, record: Record) -> None:
    """Make a record durable. Raises NodeError."""
    make_dir(host.path("/var/lib/tune-nodes"), 0o700)
    make_dir(host.path(DIRECTORY), 0o700)
    document = json.dumps(record.to_dict(), indent=1, sort_keys=True).encode("utf-8")
    write_atomic(_path(host, record.run), document, 0o600)


def load(host: Host, run: str) -> Optional[Record]:
    """Return the record of a run, None where this node has none.

    Raises:
        NodeError: it is there and not understood.
    """
    path = _path(host, run)
    data = read_bytes(path)
    if data is None:
        return None
    found = parse(data)
    if found is None or found.run != run:
        raise NodeError(
            "the record of an earlier rebuild is not understood", path, "look at it, then move it away", code="refused"
        )
    return found


def unfinished(host: Host) -> Optional[Record]:
    """Return the rebuild that was begun on this node and not ended, None for none. Raises NodeError, see load."""
    for run in reversed(_runs(host)):
        found = load(host, run)
        if found is not None and not found.over:
            return found
    return None


def prune(host: Host) -> None:
    """Forget the oldest rebuilds that are over, with their backups."""
    for run in _runs(host)[:-KEEP]:
        found = parse(read_bytes(_path(host, run)) or b"")
        if found is not None and found.over:
            remove(_path(host, run))
            remove(host.path(DIRECTORY, run + ".tar.gz"))


def _path(host: Host, run: str) -> str:
    return host.path(DIRECTORY, check_id(run) + _SUFFIX)


def _runs(host: Host) -> List[str]:
    """Return the runs with a record, oldest first."""
    base = host.path(DIRECTORY)
    try:
        names = [name for name in os.listdir(base) if name.endswith(_SUFFIX) and not name.startswith(".")]
        names.sort(key=lambda name: os.lstat(os.path.join(base, name)).st_mtime_ns)
    except OSError:
        return []
    return [name[: -len(_SUFFIX)] for name in names]
