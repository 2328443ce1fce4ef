"""How long files, classes and functions are, and how many files a folder has."""

from __future__ import annotations

import ast
from collections import Counter

from support.source_tree import ROOT, SOURCES, TESTS, classes, functions, name_of, text_of

LINES_MAX = 300
CLASS_LINES_MAX = 300
FUNCTION_LINES_MAX = 50
FILES_MAX = 25

# Longer files, each with the reason why it is one file.
LONG_FILES = {
    "hub/tidings_hub/cli.py": "one table: every command and its flags, and each command's function",
    "hub/tidings_hub/engine/connection.py": "one class whose slots the fan-out reads; its methods are short",
    "hub/tidings_hub/brokers/memory.py": "one class: the broker interface in one process, each method a few lines",
    "hub/tidings_hub/brokers/redis.py": "one class: the broker interface on one Redis, each method a few lines",
    "hub/tidings_hub/brokers/reader.py": "one greenlet: connect, resubscribe, repair, read",
    "hub/tidings_hub/metrics.py": "one table: every metric",
    "hub/tidings_hub/runtime.py": "the only file that knows eventlet, and it must stay one file",
}
LONG_FUNCTIONS = {
    "hub/tidings_hub/cli.py:parser": "one table: every command and its flags",
}
LONG_CLASSES = {}


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 40
    assert len(TESTS) > 20


def test_no_file_is_long_without_a_reason() -> None:
    long = {name_of(path) for path in SOURCES if len(text_of(path).splitlines()) > LINES_MAX}
    assert long - set(LONG_FILES) == set(), "split it, or give a reason in LONG_FILES"
    assert set(LONG_FILES) - long == set(), "it is short now: take it from LONG_FILES"


def test_no_class_is_long_without_a_reason() -> None:
    long = {
        f"{name_of(path)}:{node.name}"
        for path in SOURCES
        for node in classes(path)
        if (node.end_lineno or 0) - node.lineno + 1 > CLASS_LINES_MAX
    }
    assert long - set(LONG_CLASSES) == set(), "split it, or give a reason in LONG_CLASSES"
    assert set(LONG_CLASSES) - long == set(), "it is short now: take it from LONG_CLASSES"


def test_no_function_is_long_without_a_reason() -> None:
    long = set()
    for path in SOURCES:
        for node in functions(path):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if body and (node.end_lineno or 0) - body[0].lineno + 1 > FUNCTION_LINES_MAX:
                long.add(f"{name_of(path)}:{node.name}")
    assert long - set(LONG_FUNCTIONS) == set(), "split it, or give a reason in LONG_FUNCTIONS"
    assert set(LONG_FUNCTIONS) - long == set(), "it is short now: take it from LONG_FUNCTIONS"


def test_no_folder_has_many_files() -> None:
    counts = Counter(name_of(path.parent) for path in [*SOURCES, *TESTS])
    assert [folder for folder, count in counts.items() if count > FILES_MAX] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150
