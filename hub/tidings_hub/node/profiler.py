"""`tidings serve --profile FILE`: where a node's time went, by pyinstrument's samples of its one thread.

The only file that imports pyinstrument. A sample is the stack of whichever greenlet runs, so each kind of work has
a branch of its own: the pump's below eventlet's hub, handlers and views each below their pool's greenlet.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from tidings.errors import BadConfig, MissingExtra

logger = logging.getLogger("tidings")

_INTERVAL_S: Final = 0.001
_KINDS: Final = (".html", ".json", ".txt")


class Profiler:
    """Samples from `start` to `write`, both called by the main greenlet; `file` is HTML, JSON for speedscope, or text.

    Raises:
        MissingExtra: pyinstrument is not installed. BadConfig: the file cannot be written, or is of no such kind.
    """

    def __init__(self, file: Path) -> None:
        try:
            from pyinstrument import Profiler
        except ImportError:
            raise MissingExtra("--profile needs pyinstrument: pip install 'tidings[profile]'") from None
        if file.suffix not in _KINDS:
            raise BadConfig(f"--profile writes {', '.join(_KINDS)}; {file} is none of them")
        try:
            file.touch()
        except OSError as error:
            raise BadConfig(f"--profile cannot write {file}: {error.strerror}") from error
        self._file = file
        # Greenlets are no tasks of asyncio: what one of them waits for is no time of the others.
        self._profiler = Profiler(interval=_INTERVAL_S, async_mode="disabled")

    def start(self) -> None:
        """Sample from now on."""
        self._profiler.start()

    def write(self) -> None:
        """Stop, and write what was seen."""
        from pyinstrument.renderers import ConsoleRenderer, HTMLRenderer, SpeedscopeRenderer

        self._profiler.stop()
        renderers = {".html": HTMLRenderer, ".json": SpeedscopeRenderer, ".txt": ConsoleRenderer}
        text = self._profiler.output(renderers[self._file.suffix]())
        self._file.write_text(text, encoding="utf-8")
        logger.info("the profile is in %s", self._file)


def for_worker(file: Path, index: int) -> Path:
    """The file of one of several workers: `profile.html` becomes `profile-0.html`."""
    return file.with_stem(f"{file.stem}-{index}")
