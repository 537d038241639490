"""``tune-nodes bundle``: what somebody who helps needs to see of a run, in one file without secrets."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from tune_nodes import collection
from tune_nodes.cli import checks, complete
from tune_nodes.cli.choice import printer_and_store
from tune_nodes.cli.options import Output
from tune_nodes.errors import UsageError

#: Settings whose values are secrets in themselves.
_SECRET_KEYS = re.compile(r"fastopen_key|stable_secret|_secret$")
_SECRET_TEXT = re.compile(
    r"(?i)(-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\b(?:pass(?:word|wd|phrase)?|secret|token|api_?key|authorization)\b\s*[=:]\s*(?:bearer\s+)?\S+)",
    re.DOTALL,
)
HIDDEN = "[removed]"


def scrub(value: Any) -> Any:
    """Return a JSON-able value without what looks like a secret (pure)."""
    if isinstance(value, str):
        return _SECRET_TEXT.sub(HIDDEN, value)
    if isinstance(value, list):
        return [scrub(item) for item in value]
    if isinstance(value, dict):
        if _SECRET_KEYS.search(str(value.get("key", ""))):
            value = {
                k: HIDDEN if k in ("before", "want", "after", "requested", "persist") else v for k, v in value.items()
            }
        return {key: scrub(item) for key, item in value.items()}
    return value


def _journal(text: str) -> str:
    lines = []
    for line in text.splitlines():
        try:
            lines.append(json.dumps(scrub(json.loads(line)), separators=(",", ":")))
        except ValueError:
            continue  # cut off when the run was killed
    return "".join(f"{line}\n" for line in lines)


def pack(path: Path, files: dict[str, str]) -> None:
    """Write a gzipped tar, whole or not at all. Raises UsageError."""
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
        with os.fdopen(descriptor, "wb") as handle, tarfile.open(fileobj=handle, mode="w:gz") as archive:
            for name, text in files.items():
                data = text.encode()
                entry = tarfile.TarInfo(f"{path.name.removesuffix('.tar.gz')}/{name}")
                entry.size = len(data)
                entry.mode = 0o644
                archive.addfile(entry, io.BytesIO(data))
        Path(temporary).replace(path)
    except OSError as problem:
        raise UsageError(f"cannot write {path}", problem.strerror or "", "choose another --out") from problem


def bundle(
    out: Output,
    run: Annotated[
        str, typer.Argument(help="A run's id, a part of it, or latest.", autocompletion=complete.runs)
    ] = "latest",
    out_file: Annotated[
        Path | None, typer.Option("--out", help="File to write.  [default: tune-nodes-RUN.tar.gz]")
    ] = None,
) -> int:
    """Pack a run, its journal and the doctor's findings into one file to send to somebody.

    Passwords are in none of these to begin with; what looks like a secret is removed. Names and addresses of nodes
    stay in it.
    """
    printer, store = printer_and_store(out)
    record = store.load(store.resolve(run))
    path = out_file or Path(f"tune-nodes-{record.id}.tar.gz")
    journal = store.runs / record.id / "events.jsonl"
    found = checks.everything([], "", store.root)
    pack(
        path,
        {
            "run.json": json.dumps(scrub(record.model_dump(mode="json", by_alias=True)), indent=1),
            "events.jsonl": _journal(journal.read_text(encoding="utf-8", errors="replace") if journal.exists() else ""),
            "doctor.json": json.dumps(scrub([asdict(check) for check in found]), indent=1),
            "version.txt": collection.describe() + "\n",
        },
    )
    printer.line(str(path))
    printer.note("it holds node names and addresses: look into it before you send it on")
    return 0
