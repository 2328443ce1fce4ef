"""Rules for statements and comments that no linter knows."""

from __future__ import annotations

import ast
import re
from typing import TypeGuard

from support.source_tree import SOURCES, TESTS, name_of, nodes_of, text_of
from tidings_hub.log import mask_secrets


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


def test_no_message_loses_its_advice_to_the_mask_of_the_log() -> None:
    """A log line and a check of `tidings doctor` are masked: a message must not contain what looks like a secret."""
    masked = []
    for path in SOURCES:
        # A docstring, and a part of an f-string after which a value follows, are no whole messages.
        partial = {
            id(part)
            for node in nodes_of(path)
            for part in (node.values if isinstance(node, ast.JoinedStr) else [node.value] if is_text(node) else [])
        }
        for node in nodes_of(path):
            if not (isinstance(node, ast.Constant) and isinstance(node.value, str)) or id(node) in partial:
                continue
            if mask_secrets(node.value) != node.value:
                masked.append(f"{name_of(path)}:{node.lineno}: {mask_secrets(node.value)}")
    assert masked == []


def test_a_wait_that_fails_shows_the_state_at_its_end() -> None:
    """An f-string that reads a log is made before the wait: it shows none of what happened. Pass a function instead."""
    early = [
        f"{name_of(path)}:{keyword.value.lineno}"
        for path in TESTS
        for call in nodes_of(path)
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg == "why" and not isinstance(keyword.value, ast.Lambda)
        if any(isinstance(part, ast.Call) for part in ast.walk(keyword.value))
    ]
    assert early == [], early


def is_text(node: ast.AST) -> TypeGuard[ast.Expr]:
    """Whether this is a statement that is only a string: a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
