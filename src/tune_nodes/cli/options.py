"""Options that several commands share: each group is a dataclass, expanded into a command's own parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from tune_nodes.cli import complete
from tune_nodes.cli.help import paragraphs

ANSIBLE = "Reaching the nodes (as ansible-playbook; more after --)"
ROLLOUT = "Rollout"
CLUSTER = "Cluster"
OUTPUT = "Output"


class Mode(StrEnum):
    """Whether the cluster is used."""

    AUTO = "auto"
    REQUIRED = "required"
    OFF = "off"


class Format(StrEnum):
    """How results are printed on stdout."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True, kw_only=True)
class Output:
    """What is printed and where state is kept."""

    output: Annotated[
        Format | None,
        typer.Option(
            "--output", "-o", help="How results are printed on stdout.", show_default="table", rich_help_panel=OUTPUT
        ),
    ] = None
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            help="More; -vvv adds tracebacks.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = 0
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.", rich_help_panel=OUTPUT)] = False
    no_color: Annotated[bool, typer.Option("--no-color", help="No colour.", rich_help_panel=OUTPUT)] = False
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            envvar="TUNE_NODES_CONFIG",
            help="A further configuration file; see: tune-nodes config show.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    state_dir: Annotated[
        Path | None,
        typer.Option(
            "--state-dir",
            envvar="TUNE_NODES_STATE_DIR",
            help="Where runs are kept.",
            show_default="the user's state directory",
            rich_help_panel=OUTPUT,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How Ansible reaches the nodes; letters and meaning are ansible-playbook's."""

    inventory: Annotated[
        list[str],
        typer.Option(
            "--inventory",
            "-i",
            envvar="TUNE_NODES_INVENTORY",
            help="A name below inventories/, a path, or a host list with a comma. Repeatable.",
            rich_help_panel=ANSIBLE,
            autocompletion=complete.inventories,
        ),
    ] = field(default_factory=list)
    limit: Annotated[
        str, typer.Option("--limit", "-l", help="Only these nodes: Ansible's host pattern.", rich_help_panel=ANSIBLE)
    ] = ""
    user: Annotated[str, typer.Option("--user", "-u", help="ssh as this user.", rich_help_panel=ANSIBLE)] = ""
    private_key: Annotated[
        str, typer.Option("--private-key", "--key-file", help="ssh with this key.", rich_help_panel=ANSIBLE)
    ] = ""
    become: Annotated[bool, typer.Option("--become", "-b", help="Become root (sudo).", rich_help_panel=ANSIBLE)] = False
    ask_become_pass: Annotated[
        bool, typer.Option("--ask-become-pass", "-K", help="Ask for sudo's password.", rich_help_panel=ANSIBLE)
    ] = False
    ask_pass: Annotated[
        bool, typer.Option("--ask-pass", "-k", help="Ask for ssh's password.", rich_help_panel=ANSIBLE)
    ] = False
    ask_vault_pass: Annotated[
        bool, typer.Option("--ask-vault-pass", "-J", help="Ask for the vault's password.", rich_help_panel=ANSIBLE)
    ] = False
    vault_password_file: Annotated[
        list[str], typer.Option("--vault-password-file", help="Vault password file.", rich_help_panel=ANSIBLE)
    ] = field(default_factory=list)
    vault_id: Annotated[
        list[str], typer.Option("--vault-id", help="Vault identity LABEL@SOURCE.", rich_help_panel=ANSIBLE)
    ] = field(default_factory=list)
    extra_vars: Annotated[
        list[str],
        typer.Option("--extra-vars", "-e", help="Variables: key=value, JSON, or @file.", rich_help_panel=ANSIBLE),
    ] = field(default_factory=list)
    forks: Annotated[
        int | None,
        typer.Option(
            "--forks",
            "-f",
            min=1,
            max=1000,
            help="Nodes worked on at once.",
            show_default="20",
            rich_help_panel=ANSIBLE,
        ),
    ] = None
    timeout: Annotated[
        int | None,
        typer.Option(
            "--timeout",
            "-T",
            min=1,
            max=600,
            help="Seconds to wait for an ssh connection.",
            show_default="10",
            rich_help_panel=ANSIBLE,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class InCluster:
    """The cluster that the nodes belong to."""

    kubeconfig: Annotated[
        str,
        typer.Option(
            "--kubeconfig",
            help="Its kubeconfig.",
            show_default="one beside the inventory, else KUBECONFIG",
            rich_help_panel=CLUSTER,
        ),
    ] = ""
    context: Annotated[
        str,
        typer.Option(
            "--context", help="Context of the kubeconfig.", show_default="its current one", rich_help_panel=CLUSTER
        ),
    ] = ""
    cluster: Annotated[
        Mode | None,
        typer.Option(
            "--cluster",
            help="auto: used where it can be; required: no run without it; off.",
            show_default="auto, or the profile's",
            rich_help_panel=CLUSTER,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the nodes shall be."""

    profile: Annotated[
        str,
        typer.Option(
            "--profile",
            "-p",
            envvar="TUNE_NODES_PROFILE",
            help="A profile's name, or a path.",
            show_default="kubernetes-node",
            autocompletion=complete.profiles,
        ),
    ] = ""
    tags: Annotated[list[str], typer.Option("--tags", "-t", help="Only these settings: sysctl, nic. Repeatable.")] = (
        field(default_factory=list)
    )
    window: Annotated[
        int | None,
        typer.Option(
            "--window",
            min=20,
            max=3600,
            help="Seconds after which a node undoes a change that was not confirmed.",
            show_default="120, or the profile's",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """How a change goes over the fleet."""

    canary: Annotated[
        int | None,
        typer.Option(
            "--canary", min=0, help="Nodes in the first wave; 0: none.", show_default="1", rich_help_panel=ROLLOUT
        ),
    ] = None
    serial: Annotated[
        list[str],
        typer.Option(
            "--serial",
            help="Nodes in each further wave: 5 or 25%. Repeat it to grow; the last one stays.",
            show_default="25%",
            rich_help_panel=ROLLOUT,
        ),
    ] = field(default_factory=list)
    max_unavailable: Annotated[
        str,
        typer.Option("--max-unavailable", help="No wave is larger: 5 or 10%.", rich_help_panel=ROLLOUT),
    ] = ""
    fail_percent: Annotated[
        float | None,
        typer.Option(
            "--fail-percent",
            min=0,
            max=100,
            help="Stop when this share of the nodes tried so far failed. In the canary any failure stops.",
            show_default="5",
            rich_help_panel=ROLLOUT,
        ),
    ] = None
    soak: Annotated[
        float | None,
        typer.Option(
            "--soak",
            min=0,
            help="Seconds to wait after each wave before looking at it again.",
            show_default="0",
            rich_help_panel=ROLLOUT,
        ),
    ] = None
    drain: Annotated[
        bool | None,
        typer.Option(
            "--drain/--no-drain",
            help="Move the pods off a node before it is changed, as their PodDisruptionBudgets allow.",
            show_default="no drain, or the profile's",
            rich_help_panel=ROLLOUT,
        ),
    ] = None
    drain_timeout: Annotated[
        float | None,
        typer.Option(
            "--drain-timeout",
            min=1,
            max=86400,
            help="Seconds it may take.",
            show_default="300",
            rich_help_panel=ROLLOUT,
        ),
    ] = None
    delete_emptydir_data: Annotated[
        bool | None,
        typer.Option(
            "--delete-emptydir-data",
            help="Also move pods that keep data in an emptyDir, which is lost.",
            show_default=False,
            rich_help_panel=ROLLOUT,
        ),
    ] = None
    yes: Annotated[
        bool,
        typer.Option("--yes", "-y", envvar="TUNE_NODES_YES", help="Do not ask.", rich_help_panel=ROLLOUT),
    ] = False


Command = Callable[..., int | None]


class Expanded:
    """A command whose option groups are expanded: Typer sees one parameter for each of their fields."""

    def __init__(self, function: Command) -> None:
        self._function = function
        self._groups: dict[str, type] = {}
        self.__name__ = function.__name__
        self.__doc__ = paragraphs(function.__doc__ or "")
        self.__signature__ = inspect.Signature(self._parameters(function))
        self.__annotations__ = {p.name: p.annotation for p in self.__signature__.parameters.values()}

    def _parameters(self, function: Command) -> list[inspect.Parameter]:
        hints = get_type_hints(function, include_extras=True)
        found = []
        for parameter in inspect.signature(function).parameters.values():
            hint = hints[parameter.name]
            if isinstance(hint, type) and is_dataclass(hint):
                self._groups[parameter.name] = hint
                found += _of_group(hint)
            else:
                found.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hint))
        return found

    def __call__(self, **values: Any) -> int | None:
        """Gather the groups again and run the command."""
        for name, group in self._groups.items():
            values[name] = group(**{f.name: values.pop(f.name) for f in fields(group)})
        return self._function(**values)


def _of_group(group: type) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    rows = []
    for one in fields(group):
        default = one.default if one.default_factory is MISSING else one.default_factory()
        rows.append(
            inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[one.name])
        )
    return rows
