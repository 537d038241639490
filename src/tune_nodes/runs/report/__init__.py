"""The report of a run: one self-contained HTML file, made of the same record that the store keeps."""

from __future__ import annotations

from .render import render_html, render_json, write_report, write_text

__all__ = ["render_html", "render_json", "write_report", "write_text"]
