"""The Python files of the project as syntax trees, for the rules in tests/house."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
HUB = ROOT / "hub" / "tidings_hub"
NOTIFICATIONS = ROOT / "hub" / "tidings_notifications"
SOURCES = sorted([*(ROOT / "adapters").rglob("*.py"), *(ROOT / "hub").rglob("*.py")])
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if "node_modules" not in path.parts)


def name_of(path: Path) -> str:
    """The path relative to the root of the project."""
    return path.relative_to(ROOT).as_posix()


@cache
def text_of(path: Path) -> str:
    """The content of a file."""
    return path.read_text(encoding="utf-8")


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(text_of(path))


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """All nodes of the syntax tree of a file."""
    return tuple(ast.walk(tree_of(path)))


@cache
def imports(path: Path) -> tuple[tuple[str, bool], ...]:
    """Every module that a file imports at run time, and whether importing the file imports that module."""

    def walk(node: ast.AST, at_top: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from ((alias.name, at_top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.level == 0:
                yield str(child.module), at_top
            yield from walk(child, at_top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))

    return tuple(walk(tree_of(path), at_top=True))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """All functions and methods of a file."""
    return (node for node in nodes_of(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def classes(path: Path) -> Iterator[ast.ClassDef]:
    """All classes of a file."""
    return (node for node in nodes_of(path) if isinstance(node, ast.ClassDef))


def is_protocol(node: ast.ClassDef) -> bool:
    """Whether a class is a `typing.Protocol`."""
    return any(ast.unparse(base).partition("[")[0] == "Protocol" for base in node.bases)
