# SPDX-License-Identifier: Apache-2.0
"""What a reverter does once it is alone: wait for the deadline, then finish what is due."""

from __future__ import annotations

import json
import time
from typing import Optional

from ..errors import NodeError
from ..families import TUNING
from ..host import observe_host
from .restore import resolve
from .store import Store, now

_POLL = 0.5  # seconds; a confirmed transaction lets its reverter go within that


def run_resolve(root: str = "/") -> int:
    """Finish what is due: the timer's and the boot unit's work.

    Returns:
        0.

    Raises:
        NodeError: something could not be finished; the timer's service tries again.
    """
    host = observe_host(root)
    store = Store(host)
    if not any(tx.due(host) for tx in store.unfinished()):
        return 0
    with store.lock_for_resolve():
        for row in resolve(store, TUNING, host):
            print(json.dumps(row))
    return 0


def _deadline(store: Store, tx_id: str) -> Optional[float]:
    """Return a transaction's deadline, None once it is finished. Read anew each time: a join moves it."""
    try:
        tx = store.get(tx_id)
    except NodeError:
        return None
    # A confirm or revert under way gets the rest of the window to finish by itself.
    return None if tx.terminal else tx.deadline


def run_watch(tx_id: str, root: str = "/") -> int:
    """Be the reverter of one transaction until it is finished, by whomever."""
    store = Store(observe_host(root))
    pause = 1.0
    while True:
        deadline = _deadline(store, tx_id)
        if deadline is None:
            return 0
        left = deadline - now()
        if left > 0:
            time.sleep(min(_POLL, left))
            continue
        try:
            run_resolve(root)
        except NodeError:
            time.sleep(pause)  # tried again: nobody reads this process's output
            pause = min(60.0, pause * 2)
