#!/usr/bin/env python3
"""Writes the blocking `Emitter` from the `AsyncEmitter`, so that signatures and docstrings are written once.

    python tools/async_to_sync.py            writes the generated files
    python tools/async_to_sync.py --check    fails if one of them is not current; `make check` runs this

`async` and `await` are left out, then names and sentences are replaced by the tables below. Two comments mark lines
that differ: a line that ends in `# async` is left out, and a line `# sync: <code>` becomes that code.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILES = {
    "adapters/tidings/async_emitter.py": "adapters/tidings/emitter.py",
    "adapters/tidings/async_node_requests.py": "adapters/tidings/node_requests.py",
}
NAMES = {
    "AsyncBatch": "Batch",
    "AsyncEmitter": "Emitter",
    "AsyncNodeQueries": "NodeQueries",
    "AsyncNodeRequests": "NodeRequests",
    "AsyncNotifier": "Notifier",
    "AsyncReceipt": "Receipt",
    "LoopPublishers": "ProcessPublisher",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "add_async_waiters": "add_waiters",
    "async_node_requests": "node_requests",
    "async_receipts_or_raise": "receipts_or_raise",
    "open_async_publisher": "open_publisher",
}
# Sentences of docstrings that are true of only one of the two.
SENTENCES = {
    """\
    `batch_max`: a batch of more publications raises TooLarge.
""": """\
    `batch_max`: a batch of more publications raises TooLarge.
    `publisher`: your own publisher. Then `url` is only what `repr` shows.
""",
    """\
    Create one emitter for the process. It connects at the first publish. Several event loops may use it, one after
    another (`asyncio.run` in a task queue) or in several threads: each has its own connections, until `close` or the
    end of the loop. A forked process runs a loop of its own: with that of its parent, a call raises BadConfig. A
    cancelled call may still be published. Without asyncio, use `Emitter`.
""": """\
    Create one emitter for the process. It connects at the first publish. Threads and greenlets may share it, and a
    forked child process opens its own connections. With asyncio, use `AsyncEmitter`.
""",
    "Close the connections of the running event loop.": "Close all connections.",
}


def to_sync(text: str, source: str) -> str:
    """The blocking form of the module `text`; `source` is its path from the root."""
    lines = [line for line in text.splitlines(keepends=True) if not line.rstrip().endswith("# async")]
    text = re.sub(r"^( *)# sync: ", r"\1", "".join(lines), flags=re.MULTILINE)
    text = re.sub(r"\b(async|await) ", "", text)
    for name, blocking in NAMES.items():
        text = re.sub(rf"\b{name}\b", blocking, text)
    for sentence, blocking in SENTENCES.items():
        text = text.replace(sentence, blocking)
    return f"# Generated from {Path(source).name}: change that file, then run `make sync`.\n{text}"


def check_tables(texts: list[str]) -> None:
    """Check that each entry of the tables has an effect on one of the sources.

    Raises:
        SystemExit: it has none.
    """
    for name in NAMES:
        if not any(re.search(rf"\b{name}\b", text) for text in texts):
            raise SystemExit(f"no source has {name!r}; correct NAMES in tools/async_to_sync.py")
    for sentence in SENTENCES:
        if not any(sentence in text for text in texts):
            raise SystemExit(f"no source has {sentence!r}; correct SENTENCES in tools/async_to_sync.py")


def formatted(text: str, path: str) -> str:
    """`text` as ruff sorts its imports and formats it."""
    for command in (["check", "--quiet", "--select", "I", "--fix"], ["format", "--quiet"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", path, "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        text = done.stdout
    return text


def main() -> int:
    """Write or check every generated file. Returns the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing, and fail if a file is not current")
    check = parser.parse_args().check
    texts = {source: (ROOT / source).read_text(encoding="utf-8") for source in FILES}
    check_tables(list(texts.values()))
    for source, target in FILES.items():
        text = formatted(to_sync(texts[source], source), target)
        path = ROOT / target
        if path.is_file() and text == path.read_text(encoding="utf-8"):
            continue
        if check:
            print(f"{target} is not current: change {source} and run `make sync`", file=sys.stderr)
            return 1
        path.write_text(text, encoding="utf-8")
        print(f"wrote {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
