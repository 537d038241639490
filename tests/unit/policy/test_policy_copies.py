"""A copy in Secrets is whole, or it is none."""

from __future__ import annotations

import base64
import hashlib
import random
from pathlib import Path
from typing import Any

import pytest
from backup_made import write
from hypothesis import given, settings
from hypothesis import strategies as some
from policy_objects import policy

from tune_nodes.errors import UsageError
from tune_nodes.policy.keeping import copies, document

ID = "20261124-081530-a1b2c3"


def stored(files: dict[str, bytes]) -> dict[int, dict[str, Any]]:
    """Return the Secrets that would be made, by their number."""
    parts = copies._parts(files)
    total = hashlib.sha256(b"".join(parts)).hexdigest()
    return {n: copies._secret(ID, "shop", n, len(parts), total, part) for n, part in enumerate(parts)}


@pytest.fixture
def large() -> dict[str, bytes]:
    """Files that do not pack well."""
    noise = base64.b64encode(random.Random(7).randbytes(2_000_000))
    return {document.MANIFEST: b"{}", document.RAW: noise, document.CLEANED: b"[]"}


def test_a_backup(tmp_path: Path) -> None:
    files = document.read(write([policy("NetworkPolicy", "deny")], tmp_path).directory)
    assert copies.unpacked(stored(files), ID) == files


def test_each_secret_is_small_enough(large: dict[str, bytes]) -> None:
    secrets = stored(large)
    assert len(secrets) > 2
    for secret in secrets.values():
        assert len(base64.b64decode(secret["data"]["part"])) <= copies.PART < 1 << 20
        assert secret["immutable"] is True
        assert secret["metadata"]["labels"][copies.LABEL] == ID
    assert copies.unpacked(secrets, ID) == large


@pytest.mark.parametrize("number", [0, 1])
def test_one_that_is_missing(large: dict[str, bytes], number: int) -> None:
    secrets = stored(large)
    del secrets[number]
    with pytest.raises(UsageError, match="is not whole"):
        copies.unpacked(secrets, ID)


def test_one_that_was_changed(large: dict[str, bytes]) -> None:
    secrets = stored(large)
    secrets[1]["data"]["part"] = secrets[0]["data"]["part"]
    with pytest.raises(UsageError, match="is damaged"):
        copies.unpacked(secrets, ID)


@settings(max_examples=40)
@given(some.binary(max_size=80), some.text(max_size=6))
def test_junk(data: bytes, count: str) -> None:
    secret = {
        "metadata": {"annotations": {copies.SUM: hashlib.sha256(data).hexdigest(), copies.COUNT: count}},
        "data": {"part": base64.b64encode(data).decode()},
    }
    with pytest.raises(UsageError):
        copies.unpacked({0: secret}, ID)
    secret["metadata"]["annotations"][copies.COUNT] = "1"
    with pytest.raises(UsageError, match="is damaged"):
        copies.unpacked({0: secret}, ID)
