"""Observes the statements of an engine, also those that the driver executes without SQLAlchemy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy as sa

# Called with the text of a statement, and how often it is executed.
OnStatement = Callable[[str, int], object]


def _ignore(_text: str, _count: int) -> None:
    return


@contextmanager
def observed_statements(
    engine: sa.Engine, *, before: OnStatement = _ignore, after: OnStatement = _ignore
) -> Iterator[None]:
    """Call `before` and `after` with each statement that is executed in the block, in this process."""
    execute = psycopg.RawCursor.execute

    def execute_raw(self: Any, query: str, parameters: Any = None, **options: Any) -> Any:
        before(query, 1)
        result = execute(self, query, parameters, **options)
        after(query, 1)
        return result

    def listener(observe: OnStatement) -> Callable[..., None]:
        def on_execute(
            _connection: object, _cursor: object, text: str, parameters: Any, _context: object, many: bool
        ) -> None:
            observe(text, len(parameters) if many else 1)

        return on_execute

    listeners = {"before_cursor_execute": listener(before), "after_cursor_execute": listener(after)}
    for name, listen in listeners.items():
        sa.event.listen(engine, name, listen)
    try:
        psycopg.RawCursor.execute = execute_raw
        yield
    finally:
        psycopg.RawCursor.execute = execute
        for name, listen in listeners.items():
            sa.event.remove(engine, name, listen)
