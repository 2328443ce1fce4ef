"""Rules for statements and comments that no linter knows."""

from __future__ import annotations

import ast
import re

from support.source_tree import SOURCES, TESTS, name_of, nodes_of, text_of


def test_no_error_is_swallowed() -> None:
    violations = []
    for path in [*SOURCES, *TESTS]:
        for node in nodes_of(path):
            if isinstance(node, ast.ExceptHandler):
                is_bare = node.type is None
                is_silent = all(isinstance(line, ast.Pass) or ast.unparse(line) == "..." for line in node.body)
                if is_bare or is_silent:
                    violations.append(f"{name_of(path)}:{node.lineno}")
    assert violations == []


def test_comments_carry_no_unnamed_todo() -> None:
    pattern = re.compile(r"#.*\b(TODO|FIXME|XXX|HACK)\b(?!.*(issue|#)\s*\d)")
    own = "tests/house/test_code.py"
    names = [name_of(path) for path in [*SOURCES, *TESTS] if name_of(path) != own and pattern.search(text_of(path))]
    assert names == []
