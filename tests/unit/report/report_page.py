"""A report read back as a browser would: tags, links, ids and text."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "link", "br", "input", "hr"}


@dataclass
class Page(HTMLParser):
    """What stands in a page. Raises AssertionError where tags do not balance."""

    ids: list[str] = field(default_factory=list)
    links: list[dict[str, str]] = field(default_factory=list)
    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __hash__(self) -> int:
        return id(self)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag and expect its end."""
        self.handle_startendtag(tag, attrs)
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        found = {name: value or "" for name, value in attrs}
        assert len(found) == len(attrs), f"attribute twice in {tag}"
        self.tags.append((tag, found))
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a":
            self.links.append(found)

    def handle_endtag(self, tag: str) -> None:
        """Close a tag."""
        assert self._open, f"</{tag}> without a beginning"
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note what a reader sees; not style and script."""
        if not self._open or self._open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        """The page's words, blanks joined."""
        return " ".join(" ".join(self.words).split())

    def named(self, tag: str) -> list[dict[str, str]]:
        """Return the attributes of every tag of this name."""
        return [attrs for name, attrs in self.tags if name == tag]


def read(html: str) -> Page:
    """Parse a page; it must be complete."""
    page = Page()
    page.feed(html)
    page.close()
    assert page._open == []
    return page
