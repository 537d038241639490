"""A backup is whole, or it is none."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from backup_made import write
from hypothesis import given, settings
from hypothesis import strategies as some
from policy_objects import policy

from tune_nodes.errors import TuneError, UsageError
from tune_nodes.policy.keeping import backup as backups
from tune_nodes.policy.keeping import document
from tune_nodes.policy.keeping.backup import Backup

PEER = {"ingress": [{"from": [{"podSelector": {}}]}]}
POLICIES = [
    policy("NetworkPolicy", "deny", {"podSelector": {}}, finalizers=["example.com/x"]),
    policy("NetworkPolicy", "web", PEER, ownerReferences=[{"kind": "Shop", "name": "s", "uid": "1"}]),
    policy("CiliumClusterwideNetworkPolicy", "world", {"egressDeny": [{"toEntities": ["world"]}]}),
]


@pytest.fixture
def made(tmp_path: Path) -> Backup:
    return write(POLICIES, tmp_path / "kept")


def test_what_is_in_it(made: Backup) -> None:
    assert [one.ref for one in made.policies] == [
        "NetworkPolicy shop/web",
        "CiliumClusterwideNetworkPolicy world",
        "NetworkPolicy shop/deny",
    ]
    assert made.manifest.server_version == "v1.34.4"
    assert [row.resource_version for row in made.manifest.kinds] == ["99", "99"]
    web, _, deny = made.manifest.objects
    assert (web.uid, web.resource_version, web.wave, web.owners) == ("uid-web", "7", "allows", ["Shop s"])
    assert deny.finalizers == ["example.com/x"]
    raw, cleaned = made.by_ref["NetworkPolicy shop/deny"]
    assert raw.raw["metadata"]["uid"] == "uid-deny"
    assert cleaned["metadata"] == {"name": "deny", "namespace": "shop"}


def test_only_its_owner_can_read_it(made: Backup) -> None:
    assert made.directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in made.directory.iterdir()} == {0o600}
    assert sorted(path.name for path in made.directory.iterdir()) == sorted((*document.FILES, document.SUMS))
    assert [path.name for path in made.directory.parent.iterdir()] == [made.id], "nothing half made is left"


def test_it_serves_without_this_program(made: Backup) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", document.SUMS], cwd=made.directory, capture_output=True, check=False
    )
    assert done.returncode == 0
    listed = json.loads((made.directory / document.CLEANED).read_text())
    assert (listed["apiVersion"], listed["kind"], len(listed["items"])) == ("v1", "List", 3)
    assert all({"apiVersion", "kind"} <= set(item) for item in listed["items"])


def test_it_holds_what_is_there_now_not_what_was_looked_at(tmp_path: Path) -> None:
    newer = policy("NetworkPolicy", "web", {"podSelector": {}}, resourceVersion="8")
    backup = write(POLICIES, tmp_path, now=[POLICIES[0], newer])
    assert [(one.name, one.resource_version) for one in backup.policies] == [("deny", "7"), ("web", "8")]


@pytest.mark.parametrize("name", [*document.FILES, document.SUMS])
def test_a_missing_file(made: Backup, name: str) -> None:
    (made.directory / name).unlink()
    with pytest.raises(UsageError, match="is no backup"):
        Backup.load(made.directory)


@pytest.mark.parametrize("name", document.FILES)
@pytest.mark.parametrize("change", [b"", b"\n", b"x"])
def test_a_changed_file(made: Backup, name: str, change: bytes) -> None:
    path = made.directory / name
    path.write_bytes(path.read_bytes()[:-1] + change if change != b"\n" else path.read_bytes() + change)
    with pytest.raises(UsageError, match="is damaged") as caught:
        Backup.load(made.directory)
    assert name in caught.value.why


def signed(directory: Path, name: str, data: bytes) -> None:
    """Change a file, and the sums with it."""
    files = {one: (directory / one).read_bytes() for one in document.FILES} | {name: data}
    shutil.rmtree(directory)
    document.write(directory, files)


def test_an_object_under_another_name(made: Backup) -> None:
    text = (made.directory / document.RAW).read_text().replace('"name": "web"', '"name": "bew"')
    signed(made.directory, document.RAW, text.encode())
    with pytest.raises(UsageError, match="is another object"):
        Backup.load(made.directory)


def test_a_cleaned_object_that_says_something_else(made: Backup) -> None:
    text = (made.directory / document.CLEANED).read_text().replace('"egressDeny"', '"egress"')
    signed(made.directory, document.CLEANED, text.encode())
    with pytest.raises(UsageError, match="is not what it was when the backup was made"):
        Backup.load(made.directory)


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ('"schema_number": 1', '"schema_number": 2', "schema number 2"),
        ('"kind": 1', '"kind": 9', "a kind that it does not have"),
        ('"scope"', '"scopes"', "Field required"),
    ],
)
def test_a_manifest_of_another_kind(made: Backup, before: str, after: str, why: str) -> None:
    text = (made.directory / document.MANIFEST).read_text()
    assert before in text
    signed(made.directory, document.MANIFEST, text.replace(before, after).encode())
    with pytest.raises(UsageError) as caught:
        Backup.load(made.directory)
    assert why in caught.value.why


@settings(max_examples=40)
@given(some.sampled_from(document.FILES), some.binary(max_size=60))
def test_junk_is_no_backup(tmp_path_factory: pytest.TempPathFactory, name: str, junk: bytes) -> None:
    made = write(POLICIES, tmp_path_factory.mktemp("junk"))
    signed(made.directory, name, junk)
    with pytest.raises(UsageError):
        Backup.load(made.directory)


def test_a_directory_that_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        write(POLICIES, tmp_path / "file")


def test_a_copy_is_never_written_over(made: Backup, tmp_path: Path) -> None:
    copied = made.copy_to(tmp_path / "usb")
    assert Backup.load(copied).policies == made.policies
    with pytest.raises(UsageError, match="never overwritten"):
        made.copy_to(tmp_path / "usb")


def test_which_backup_is_meant(made: Backup, tmp_path: Path) -> None:
    home = made.directory.parent
    (home / ".20261124-000000-abcdef.1234").mkdir()  # one that was being written
    (home / "20261124-000000-abcdef").mkdir()
    assert backups.find(home, "latest") == made.directory
    assert backups.find(home, made.id) == backups.find(home, made.id[-6:]) == made.directory
    assert backups.find(home, str(tmp_path / "x")) == tmp_path / "x"
    for wrong in ("nope", "2"):
        with pytest.raises(TuneError, match=r"there is no (single )?backup"):
            backups.find(home, wrong)
    with pytest.raises(UsageError, match="no backup yet"):
        backups.find(tmp_path / "empty", "latest")
