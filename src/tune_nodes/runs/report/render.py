"""Lay a run out as HTML, and write it so that a reader never meets half a file."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.ext import Extension
from markupsafe import Markup

from tune_nodes.errors import TuneError

from ..atomic import write_atomic
from ..models import RunRecord
from .looks import OUTCOMES, STATUSES, status_look
from .plans import Row, tally
from .text import clean, clip, pieces, plain
from .verdict import Verdict
from .view import settings_line, view

_INDENT = re.compile(r"^[ \t]+", re.MULTILINE)


class Dense(Extension):
    """Drop the indentation of templates: in a report of 5,000 nodes it would be a third of the file."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Return the template's source without leading blanks."""
        return _INDENT.sub("", source)


def render_html(run: RunRecord) -> str:
    """Return the whole report as one HTML document that loads nothing from anywhere.

    Every text of the run is taken as untrusted: it is escaped, stripped of terminal codes and clipped, and a content
    security policy allows no script but the report's own.
    """
    env = _environment()
    style, script = _asset("report.css"), _asset("report.js")
    return env.get_template("report.html.j2").render(
        v=view(run), style=Markup(style), script=Markup(script), csp=_policy(style, script)
    )


def render_json(run: RunRecord) -> str:
    """Return the run as the JSON document that ``schemas/run.schema.json`` describes."""
    return run.model_dump_json(by_alias=True, indent=2) + "\n"


def write_report(run: RunRecord, path: Path) -> Path:
    """Write the HTML report of a run and return its path.

    Raises:
        TuneError: the file cannot be written; an earlier file at that path is left as it was.
    """
    return write_text(render_html(run), path)


def write_text(text: str, path: Path) -> Path:
    """Write a text file whole or not at all, with the permissions that the user's umask gives new files.

    Raises:
        TuneError: the file cannot be written; an earlier file at that path is left as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text, 0o666 & ~_umask())
    except OSError as error:
        why = error.strerror or str(error)
        raise TuneError(f"the report could not be written to {path}", why, "choose a place with --out FILE") from error
    return path


def _umask() -> int:
    """Return the process's umask; it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@cache
def _environment() -> Environment:
    env = Environment(
        loader=PackageLoader("tune_nodes.runs.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
        extensions=[Dense],
    )
    env.filters.update(clip=clip, plain=plain, pieces=pieces, settings=settings_line, tally=_tally)
    env.globals.update(look=status_look, glyphs=_glyphs(), icon_of=_icon_of)
    return env


def _finalize(value: Any) -> Any:
    """Clean every text that a template prints; markup of our own passes."""
    return clean(value) if type(value) is str else value


def _tally(rows: list[Row]) -> list[tuple[str, int]]:
    return list(tally(rows).items())


def _icon_of(verdict: Verdict) -> str:
    return {"good": "pass", "warn": "note", "bad": "failed"}[verdict.tone]


def _glyphs() -> list[str]:
    return sorted({look.id for look in (*OUTCOMES.values(), *STATUSES.values())})


@cache
def _asset(name: str) -> str:
    return (files("tune_nodes.runs.report") / "templates" / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Return a content security policy under which only our own style and script count."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
