"""Complaints about files people write: file, line, the offending key, what is wrong, the nearest match."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from tune_nodes.errors import UsageError
from tune_nodes.profiles.document import Document, Location

SHOWN = 20


@dataclass(frozen=True)
class Problem:
    """One complaint."""

    where: str  # file:line
    key: str  # sysctl.net.core.somaxconn.class
    message: str
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.key}: {self.message}" if self.key else f"{self.where}: {self.message}"
        return f"{text} ({self.hint})" if self.hint else text


def complain(problems: Sequence[Problem], what: str, next: str = "") -> UsageError:
    """Return the error for one or many problems; ``data["problems"]`` has them all."""
    data = {"problems": [asdict(p) for p in problems]}
    if len(problems) == 1:
        return UsageError(str(problems[0]), next=next, data=data)
    lines = [str(p) for p in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"and {len(problems) - SHOWN} more")
    return UsageError(f"{what}: {len(problems)} problems", "; ".join(lines), next, data)


def nearest(word: str, known: Sequence[str]) -> str:
    """Return "did you mean X?", or what is known where nothing is near."""
    near = difflib.get_close_matches(word, known, 1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _model_at(model: type[BaseModel], location: Location) -> type[BaseModel]:
    """Return the model that holds what stands at a location (indexes and mapping keys are passed over)."""
    for step in location:
        info = model.model_fields.get(str(step))
        if info is not None:
            model = next(_models(info.annotation), model)
    return model


def _plain(error: Mapping[str, Any], location: Location, model: type[BaseModel]) -> tuple[str, str]:
    if error["type"] == "extra_forbidden":
        fields = _model_at(model, location[:-1]).model_fields
        return "unknown field", nearest(str(location[-1]), [info.alias or name for name, info in fields.items()])
    if error["type"] == "missing":
        return "is missing", ""
    message = str(error["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:], ""


def from_validation(err: ValidationError, doc: Document, model: type[BaseModel]) -> list[Problem]:
    """Turn pydantic's errors about a document into problems with file and line."""
    found = []
    for error in err.errors(include_url=False, include_context=False):
        location: Location = tuple(error["loc"])
        message, hint = _plain(error, location, model)
        found.append(Problem(doc.where(location), ".".join(map(str, location)), message, hint))
    return found
