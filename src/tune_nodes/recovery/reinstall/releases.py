"""Which Helm releases objects belong to, by what Helm wrote on them. The release's Secret is not read (pure)."""

from __future__ import annotations

from collections.abc import Iterable

from tune_nodes.cluster.objects import text
from tune_nodes.recovery.reinstall.parts import Part
from tune_nodes.recovery.reinstall.record import HelmRow

_NAME, _SPACE = "meta.helm.sh/release-name", "meta.helm.sh/release-namespace"
_CHART = "helm.sh/chart"


def of(parts: Iterable[Part]) -> list[HelmRow]:
    """Return the releases, each once. A chart's name and version stand where its objects have the usual label."""
    charts: dict[tuple[str, str], str] = {}
    for part in parts:
        name = text(part.raw, "metadata", "annotations", _NAME, limit=80)
        if name:
            key = (name, text(part.raw, "metadata", "annotations", _SPACE, limit=80))
            charts[key] = charts.get(key, "") or text(part.raw, "metadata", "labels", _CHART, limit=80)
    return [HelmRow(name=name, namespace=space, chart=chart) for (name, space), chart in sorted(charts.items())]


def advice(row: HelmRow) -> str:
    """Return how a release is put back, in words."""
    version = row.chart.rpartition("-")[2].lstrip("v") if row.chart and row.chart[-1:].isalnum() else ""
    wanted = version if version[:1].isdigit() else "VERSION"
    return (
        f"Helm release {row.namespace}/{row.name} (chart {row.chart or 'not named'}): with your values, "
        f"helm upgrade --install {row.name} CHART -n {row.namespace} --version {wanted} -f VALUES is the way; "
        "or record the rendered manifest"
    )
