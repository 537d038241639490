"""``tune-nodes policy``: what network policies decide, and getting traffic back where they cut it."""

from __future__ import annotations

import typer

from tune_nodes.cli import policy_backup, policy_baseline, policy_explain, policy_reset, policy_restore
from tune_nodes.cli.help import examples
from tune_nodes.cli.options import Expanded

app = typer.Typer(
    no_args_is_help=True,
    help="What network policies decide about a pod, and an emergency reset with a way back.",
    epilog=examples("tune-nodes policy explain shop/web-0", "tune-nodes policy reset -n shop --dry-run"),
)

app.command(
    "reset",
    epilog=examples(
        "tune-nodes policy reset -n shop --ttl 30m",
        "tune-nodes policy reset --pod shop/web-0 --from shop/client --port 8080 --dry-run",
    ),
)(Expanded(policy_reset.reset))
app.command(
    "baseline",
    epilog=examples("tune-nodes policy baseline -n shop", "tune-nodes policy baseline -n shop --out proposal"),
)(Expanded(policy_baseline.baseline))
for _name, _command, _lines in (*policy_explain.COMMANDS, *policy_backup.COMMANDS, *policy_restore.COMMANDS):
    app.command(_name, epilog=examples(*_lines))(Expanded(_command))
