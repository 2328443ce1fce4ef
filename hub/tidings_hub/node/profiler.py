"""`tidings serve --profile FILE`: where a node's time went, from pyinstrument's samples of its only thread.

Only this file imports pyinstrument. A sample is the stack of the greenlet that is running. So each kind of work has its
own branch: the pump below eventlet's hub, handlers and views below the greenlets of their pools.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from tidings.errors import BadConfig, MissingExtra

logger = logging.getLogger("tidings")

_INTERVAL_S: Final = 0.001
_SUFFIXES: Final = (".html", ".json", ".txt")


class Profiler:
    """Samples from `start` to `write`; the main greenlet calls both. `file` is HTML, JSON for speedscope, or text.

    Raises:
        MissingExtra: pyinstrument is not installed.
        BadConfig: the file cannot be written, or has another suffix.
    """

    def __init__(self, file: Path) -> None:
        try:
            from pyinstrument import Profiler as Sampler
        except ModuleNotFoundError as error:
            if error.name != "pyinstrument":
                raise
            raise MissingExtra("--profile needs pyinstrument: pip install 'tidings[profile]'") from None
        if file.suffix not in _SUFFIXES:
            raise BadConfig(f"--profile writes {', '.join(_SUFFIXES)}; {file} is none of them")
        try:
            file.touch()
        except OSError as error:
            raise BadConfig(f"--profile cannot write {file}: {error.strerror}") from error
        self._file = file
        # Greenlets are not asyncio tasks: the time that one of them waits is not time of the others.
        self._sampler = Sampler(interval=_INTERVAL_S, async_mode="disabled")

    def start(self) -> None:
        """Start sampling."""
        self._sampler.start()

    def write(self) -> None:
        """Stop sampling and write the profile."""
        from pyinstrument.renderers import ConsoleRenderer, HTMLRenderer, SpeedscopeRenderer

        self._sampler.stop()
        renderers = {".html": HTMLRenderer, ".json": SpeedscopeRenderer, ".txt": ConsoleRenderer}
        text = self._sampler.output(renderers[self._file.suffix]())
        self._file.write_text(text, encoding="utf-8")
        logger.info("the profile is in %s", self._file)


def for_worker(file: Path, index: int) -> Path:
    """The file of one of several workers: `profile.html` becomes `profile-0.html`."""
    return file.with_stem(f"{file.stem}-{index}")
