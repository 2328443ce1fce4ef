"""`FakeHub`: an `Emitter` whose hub is a list."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from tidings.emitter import Emitter
from tidings.errors import TidingsError
from tidings.testing.recorder import Pushed, RecordingPublisher
from tidings.wire.channels import check_channel
from tidings.wire.control import Command
from tidings.wire.payload import encode_data

_NUMBERS = itertools.count(1)
_SHOWN: Final = 10
# As a hub's namespaces by default: how much is kept, and for how long.
_KEPT: Final = (1000, 86_400)
_ANYTHING: Final = object()


class FakeHub(Emitter):
    """An emitter that publishes to nobody and remembers everything.

    All that an `Emitter` checks is checked: channels, events, data, sizes, ids that repeat. With `namespaces` every
    other namespace is unknown, as it is to a hub without rules for it. An `AsyncEmitter(fake.url)` or another
    `Emitter(fake.url)` in the same process publishes here as well.
    """

    def __init__(self, *, namespaces: Iterable[str] | None = None, publication_max_bytes: int = 65_536) -> None:
        self.url = f"memory://fake-hub-{next(_NUMBERS)}"
        self._recorder = RecordingPublisher(self.url)
        if namespaces is not None:
            self._recorder.store.write_rules(dict.fromkeys(["user", *namespaces], _KEPT))
        super().__init__(self.url, publication_max_bytes=publication_max_bytes, publisher=self._recorder)

    @property
    def orders(self) -> list[Command]:
        """What nodes were asked to do (`disconnect`, `revoke`, `subscribe`, `unsubscribe`), in order."""
        return list(self._recorder.orders)

    def pushed(self, channel: str | None = None, event: str | None = None) -> list[Pushed]:
        """What was published (in one channel, under one event), in order."""
        return [
            one for one in list(self._recorder.pushed) if channel in {None, one.channel} and event in {None, one.event}
        ]

    def assert_pushed(
        self,
        channel: str,
        event: str,
        data: object = _ANYTHING,
        *,
        including: Mapping[str, object] | None = None,
        times: int | None = None,
    ) -> Pushed:
        """The last publication that fits. `data` is all of its data, `including` some keys of it.

        Raises:
            AssertionError: there is none, or not exactly `times`; the message has what was published instead.
            BadChannel: what no emitter could have published to.
        """
        check_channel(channel)
        wanted = _ANYTHING if data is _ANYTHING else _as_json(data)
        some = {} if including is None else _as_json(dict(including))
        found = [
            one
            for one in self.pushed(channel, event)
            if (wanted is _ANYTHING or one.data == wanted) and _has(one.data, some)
        ]
        if not found or (times is not None and len(found) != times):
            count = "nothing" if not found else f"{len(found)} times, not {times},"
            raise AssertionError(f"{count} was pushed as {event!r} in {channel}{_about(wanted, some)}; {self._all()}")
        return found[-1]

    def assert_nothing_pushed(self, channel: str | None = None) -> None:
        """Returns if nothing was published (in one channel).

        Raises:
            AssertionError: something was; the message says what.
        """
        if self.pushed(channel):
            raise AssertionError(f"expected no publication{f' in {channel}' if channel else ''}; {self._all()}")

    def fail_next(self, error: TidingsError, *, times: int = 1, published: bool = False) -> None:
        """Have the next `times` calls fail with `error`: `fail_next(Unavailable())`.

        `published` True is what a `TimedOut` may hide: the publication is there, and its receipt was lost.
        """
        self._recorder.fail_next(error, times=times, done=published)

    def clear(self) -> None:
        """Forget what was published and ordered, and faults that did not happen yet. Ids that were used stay used."""
        self._recorder.clear()

    def _all(self) -> str:
        found = self.pushed()
        if not found:
            return "nothing was pushed at all"
        lines = [f"  {one.event!r} in {one.channel}: {json.dumps(one.data)[:200]}" for one in found[-_SHOWN:]]
        return "\n".join([f"pushed were ({len(found)}, the last at the end):", *lines])


def _as_json(data: object) -> Any:
    return json.loads(encode_data(data))


def _has(data: object, some: Mapping[str, object]) -> bool:
    return not some or (
        isinstance(data, dict) and all(name in data and data[name] == value for name, value in some.items())
    )


def _about(wanted: object, some: Mapping[str, object]) -> str:
    said = "" if wanted is _ANYTHING else f" with {json.dumps(wanted)[:200]}"
    return said + (f" including {json.dumps(some)[:200]}" if some else "")
