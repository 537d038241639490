"""Put the Ansible collection into the wheel, beside the Python package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TARGET = "ansible_collections/tune/nodes"
FILES = ("galaxy.yml", "README.md", "LICENSE")
FOLDERS = ("meta", "plugins", "roles", "playbooks")
DEVELOPMENT_ONLY = ("ruff.toml",)


class CollectionHook(BuildHookInterface[Any]):
    """Adds the collection to a standard wheel.

    An editable wheel gets none: a copy made at install time would go stale at the next edit, so an
    editable install uses the checkout itself (see ``tune_nodes.collection``).
    """

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fill ``force_include`` (source path to path in the wheel).

        Args:
            version: "standard" or "editable".
            build_data: hatchling's mutable description of the build.

        Raises:
            FileNotFoundError: the collection is not complete.
        """
        if self.target_name != "wheel" or version != "standard":
            return
        root = Path(self.root)
        for source in [root / name for name in FILES] + collection_files(root):
            if not source.is_file():
                raise FileNotFoundError(f"the collection lacks {source.name}: nothing to build the wheel from")
            build_data["force_include"][str(source)] = f"{TARGET}/{source.relative_to(root).as_posix()}"


def collection_files(root: Path) -> list[Path]:
    """Return the files under the collection's folders that belong to users: no caches, no linter settings."""
    found = (path for folder in FOLDERS for path in (root / folder).rglob("*") if path.is_file())
    return sorted(path for path in found if _belongs(path.relative_to(root)))


def _belongs(path: Path) -> bool:
    hidden = any(part.startswith(".") or part == "__pycache__" for part in path.parts)
    return not hidden and path.suffix != ".pyc" and path.name not in DEVELOPMENT_ONLY
