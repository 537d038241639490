# SPDX-License-Identifier: Apache-2.0
"""The RSS table over a change of channels. No device here has one, so the kernel's part is played by a stand-in."""

from __future__ import annotations

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from ansible_collections.tune.nodes.plugins.module_utils.host import Host
from ansible_collections.tune.nodes.plugins.module_utils.nic import apply
from ansible_collections.tune.nodes.plugins.module_utils.nic.ethtool import Channels, Ethtool, Rss


class Device(Ethtool):
    """A device of eight queues whose driver does to the table what ``driver`` says when channels change."""

    def __init__(self, queues: int, table: list[int], driver: list[int], refuses: bool = False) -> None:
        super().__init__()
        self.queues, self.table, self.after, self.refuses = queues, tuple(table), tuple(driver), refuses
        self.used = self.table  # what the hardware goes by, which the driver may not have told

    def channels(self, name: str) -> Channels:
        return Channels(0, 0, 1, 8, 0, 0, 1, self.queues)

    def set_channels(self, name: str, wanted: Channels) -> None:
        assert wanted.other == 1  # not ours to change
        self.queues, self.table = wanted.combined, self.after
        self.used = tuple(even(self.queues))

    def rss(self, name: str, context: int = 0) -> Rss:
        return Rss(self.table, bytes(40), 1, 0)

    def set_rss(self, name: str, rss: Rss) -> None:
        assert rss.key == b"", "the key was not touched"
        self.table = self.used = rss.table

    def reset_rss(self, name: str) -> None:
        if self.refuses:
            raise NodeError("refused", code="unsupported")
        self.table = self.used = tuple(index % self.queues for index in range(len(self.table)))


def even(queues: int) -> list[int]:
    return [index % queues for index in range(16)]


@pytest.mark.parametrize(
    ("before", "table", "want", "driver", "expected"),
    [
        (4, even(4), 8, even(8), even(8)),  # the driver spread it
        (4, even(4), 8, even(4), even(8)),  # left stale: spread anew
        (8, even(8), 4, even(4), even(4)),
        (4, [0] * 12 + [1] * 4, 8, [0] * 12 + [1] * 4, [0] * 12 + [1] * 4),  # by hand, kept
        (4, [0] * 12 + [1] * 4, 8, even(8), [0] * 12 + [1] * 4),  # by hand, reset by the driver: put back
        (4, even(2), 2, even(2), even(2)),
    ],
)
def test_the_table_after_a_change(
    before: int, table: list[int], want: int, driver: list[int], expected: list[int]
) -> None:
    device = Device(before, table, driver)
    with device:
        apply._write_channels("eth0", f"combined={want}", device)
        assert (device.queues, list(device.table)) == (want, expected)


def test_a_table_the_driver_keeps_and_its_device_forgot_is_written_again() -> None:
    # virtio_net (Linux 6.1): the device drops RSS when the number of queue pairs is set, `ethtool -x` shows no change.
    by_hand = [0] * 12 + [1] * 4
    device = Device(2, by_hand, by_hand)
    with device:
        apply._write_channels("eth0", "combined=4", device)
        assert list(device.used) == by_hand


def test_a_driver_that_will_not_spread_over_all_keeps_its_own() -> None:
    device = Device(4, even(4), even(4), refuses=True)
    with device:
        apply._write_channels("eth0", "combined=8", device)
        assert (device.queues, list(device.table)) == (8, even(4))


@pytest.mark.parametrize("key", ["lo/rps/rx-0", "lo/xps/tx-0"])
def test_a_mask_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(NodeError) as caught:
        apply.write(key, "many", Host())
    assert caught.value.code == "usage"
