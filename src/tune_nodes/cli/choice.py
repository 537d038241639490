"""From a command's options to the settings in force: files, environment and options in one."""

from __future__ import annotations

from typing import Any

from tune_nodes.cli.options import Format, InCluster, Output, Reach, Rollout, Wish
from tune_nodes.cli.output import Printer
from tune_nodes.config import Config, load_config
from tune_nodes.runs.store import RunStore


def flags(
    out: Output,
    reach: Reach | None = None,
    wish: Wish | None = None,
    rollout: Rollout | None = None,
    cluster: InCluster | None = None,
) -> dict[str, Any]:
    """Return the options that are settings, by the settings' names (pure)."""
    found: dict[str, Any] = {"output": out.output and str(out.output), "state_dir": out.state_dir}
    if reach is not None:
        found |= {"inventory": reach.inventory, "forks": reach.forks, "timeouts.connect": reach.timeout}
    if wish is not None:
        found |= {"profile": wish.profile, "window": wish.window}
    if rollout is not None:
        found |= {
            "canary": rollout.canary,
            "serial": [size for text in rollout.serial for size in text.split(",")],
            "max_unavailable": rollout.max_unavailable,
            "fail_percent": rollout.fail_percent,
            "soak": rollout.soak,
            "cluster.drain": rollout.drain,
            "cluster.drain_timeout": rollout.drain_timeout,
            "cluster.delete_emptydir_data": rollout.delete_emptydir_data,
        }
    if cluster is not None:
        found |= {
            "cluster.kubeconfig": cluster.kubeconfig,
            "cluster.context": cluster.context,
            "cluster.mode": cluster.cluster and str(cluster.cluster),
        }
    return found


def choose(
    out: Output,
    reach: Reach | None = None,
    wish: Wish | None = None,
    rollout: Rollout | None = None,
    cluster: InCluster | None = None,
) -> Config:
    """Return the settings in force. Raises UsageError for any that is wrong, whatever it came from."""
    return load_config(flags(out, reach, wish, rollout, cluster), file=out.config)


def printer_and_store(out: Output) -> tuple[Printer, RunStore]:
    """Return what a command needs that only reads the store."""
    settings = choose(out).settings
    return Printer(Format(settings.output), out.no_color), RunStore.open(settings.state_dir)
