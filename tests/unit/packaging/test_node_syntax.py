"""Node code must run on every node that Ansible 2.19 reaches: Python 3.8, standard library, no packaging tricks."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[3]
PLUGINS = REPO / "plugins"
NODE_SIDE = sorted((PLUGINS / "module_utils").rglob("*.py"))
GLUE = PLUGINS / "module_utils" / "ansible_glue.py"  # between AnsibleModule and the node side; for modules only
MODULES = sorted((PLUGINS / "modules").glob("*.py"))
#: Modules that speak to a cluster where its kubeconfig is, with the Python package.
ON_THE_CONTROLLER = ("cni_mtu.py", "cni_reinstall.py", "policy_reset.py")
FLOOR = (3, 8)
VERMIN = str(Path(sys.executable).with_name("vermin"))

# In the standard library of 3.8, gone by 3.13: a node may have either.
REMOVED = frozenset(
    [
        "aifc",
        "audioop",
        "asynchat",
        "asyncore",
        "cgi",
        "cgitb",
        "chunk",
        "crypt",
        "distutils",
        "imghdr",
        "imp",
        "lib2to3",
        "mailcap",
        "msilib",
        "nis",
        "nntplib",
        "ossaudiodev",
        "pipes",
        "smtpd",
        "sndhdr",
        "spwd",
        "sunau",
        "telnetlib",
        "uu",
        "xdrlib",
    ]
)
STDLIB = (sys.stdlib_module_names | {"__future__"}) - REMOVED
BUILTIN_GENERICS = {"dict", "frozenset", "list", "set", "tuple", "type"}


def name(path: Path) -> str:
    return str(path.relative_to(PLUGINS))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path), feature_version=FLOOR)


def imports(tree: ast.Module) -> Iterator[tuple[int, int, str]]:
    """Yield line, level (0: absolute) and module of each import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, 0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.level, node.module or ""


def annotations(tree: ast.Module) -> set[int]:
    """Return the ids of all nodes inside annotations: those are never evaluated under the __future__ import."""
    found: set[int] = set()
    for node in ast.walk(tree):
        roots = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        found.update(id(child) for root in roots if isinstance(root, ast.AST) for child in ast.walk(root))
    return found


def test_there_is_node_code() -> None:
    assert NODE_SIDE


@pytest.mark.parametrize("path", NODE_SIDE + MODULES, ids=name)
def test_grammar_is_python_38(path: Path) -> None:
    parse(path)


def test_standard_library_is_python_38s() -> None:
    """What the grammar does not show: functions, methods and arguments that came later."""
    command = [VERMIN, "--no-config-file", "--target=3.8-", "--violations", "--no-tips", "-vvv"]
    done = subprocess.run(
        [*command, *map(str, NODE_SIDE + MODULES)], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", NODE_SIDE + MODULES, ids=name)
def test_annotations_are_not_evaluated(path: Path) -> None:
    tree = parse(path)
    futures = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    code = [node for node in tree.body if not isinstance(node, ast.Expr)]  # an empty __init__.py needs no import
    assert not code or "annotations" in futures


@pytest.mark.parametrize("path", NODE_SIDE + MODULES, ids=name)
def test_no_builtin_is_subscripted_at_run_time(path: Path) -> None:
    tree = parse(path)
    ignored = annotations(tree)
    found = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and id(node) not in ignored
        and isinstance(node.value, ast.Name)
        and node.value.id in BUILTIN_GENERICS
    ]
    assert not found, f"lines {found}: use typing.Dict, List, ... outside annotations"


@pytest.mark.parametrize("path", NODE_SIDE, ids=name)
def test_node_side_imports_only_itself_and_the_standard_library(path: Path) -> None:
    """Absolute imports name the standard library; relative ones lead to a file, and stay inside module_utils."""
    wrong = []
    for line, level, module in imports(parse(path)):
        if level == 0:
            if module.split(".")[0] not in STDLIB and not (path == GLUE and module == "ansible.module_utils.basic"):
                wrong.append(f"line {line}: {module}")
            continue
        base = path.parents[level - 1].joinpath(*module.split(".")) if module else path.parents[level - 1]
        inside = base.is_relative_to(PLUGINS / "module_utils") and base.name != GLUE.stem
        if not inside or not (base.with_suffix(".py").is_file() or (base / "__init__.py").is_file()):
            wrong.append(f"line {line}: {'.' * level}{module}")
    assert not wrong


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_import_only_ansibles_module_utils_and_the_node_side(path: Path) -> None:
    allowed = ("ansible.module_utils.", "ansible_collections.tune.nodes.plugins.module_utils.")
    allowed += ("tune_nodes.",) if path.name in ON_THE_CONTROLLER else ()
    wrong = [
        f"line {line}: {'.' * level}{module}"
        for line, level, module in imports(parse(path))
        if not (level == 2 and module.startswith("module_utils"))
        and not (level == 0 and (module.startswith(allowed) or module.split(".")[0] in STDLIB))
    ]
    assert not wrong


@pytest.mark.parametrize("path", NODE_SIDE, ids=name)
def test_imports_can_be_found_by_reading(path: Path) -> None:
    """AnsiballZ and the zipapp pack what import statements name: an import by function would be left behind."""
    tree = parse(path)
    modules = {module.split(".")[0] for _, level, module in imports(tree) if level == 0}
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not modules & {"importlib", "pkgutil", "runpy"}
    assert not called & {"__import__", "eval", "exec"}


def test_every_package_has_an_init() -> None:
    folders = {path.parent for path in NODE_SIDE} - {PLUGINS}
    assert [name(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("path", NODE_SIDE + MODULES, ids=name)
def test_licence_is_on_the_first_line(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    head = lines[1:2] if lines[:1] and lines[0].startswith("#!") else lines[:1]
    assert not lines or head == ["# SPDX-License-Identifier: Apache-2.0"]
