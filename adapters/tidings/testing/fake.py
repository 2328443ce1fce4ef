"""`FakeHub`: an `Emitter` that records its publications in a list."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from tidings.emitter import Emitter
from tidings.errors import BadConfig, TidingsError
from tidings.number_checks import shown
from tidings.testing.recorder import Pushed, RecordedNotification, RecordingPublisher
from tidings.wire.channels import check_channel
from tidings.wire.control import Command
from tidings.wire.notification_fields import check_category, check_user
from tidings.wire.payload import encode_data

_NUMBERS = itertools.count(1)
_SHOWN_MAX: Final = 10
# The default history of a namespace: number of publications, and seconds.
_HISTORY: Final = (1000, 86_400)
_ANYTHING: Final = object()


class FakeHub(Emitter):
    """An emitter without clients that records everything.

    It makes all checks of an `Emitter`: channels, events, data, sizes, repeated ids. With `namespaces` every other
    namespace is unknown, as for a hub without rules for it; with `categories` every other category of notifications.
    An `AsyncEmitter(fake.url)` or another `Emitter(fake.url)` in the same process publishes here as well.
    """

    def __init__(
        self,
        *,
        namespaces: Iterable[str] | None = None,
        categories: Iterable[str] | None = None,
        publication_max_bytes: int = 65_536,
    ) -> None:
        self.url = f"memory://fake-hub-{next(_NUMBERS)}"
        self._recorder = RecordingPublisher(self.url)
        if namespaces is not None:
            self._recorder.store.write_rules(dict.fromkeys(["user", *_names(namespaces, "namespaces")], _HISTORY))
        if categories is not None:
            self._recorder.store.notifications.set_categories(map(check_category, _names(categories, "categories")))
        super().__init__(self.url, publication_max_bytes=publication_max_bytes, publisher=self._recorder)

    @property
    def orders(self) -> list[Command]:
        """The commands to nodes (`disconnect`, `revoke`, `subscribe`, `unsubscribe`), in order."""
        return list(self._recorder.orders)

    def pushed(self, channel: str | None = None, event: str | None = None) -> list[Pushed]:
        """The publications, in order; only those of one channel or one event, if given."""
        return [
            publication
            for publication in list(self._recorder.pushed)
            if channel in {None, publication.channel} and event in {None, publication.event}
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
        """The last matching publication. `data` is all of its data, `including` some keys of it.

        Raises:
            AssertionError: there is none, or not exactly `times`. The message lists what was published.
            BadChannel: not a channel.
        """
        check_channel(channel)
        expected = _ANYTHING if data is _ANYTHING else _as_json(data)
        expected_keys = {} if including is None else _as_json(dict(including))
        matches = [
            publication
            for publication in self.pushed(channel, event)
            if (expected is _ANYTHING or publication.data == expected) and _has_keys(publication.data, expected_keys)
        ]
        if not matches or (times is not None and len(matches) != times):
            count = "nothing" if not matches else f"{len(matches)} times, not {times},"
            expectation = _description(expected, expected_keys)
            raise AssertionError(f"{count} was pushed as {event!r} in {channel}{expectation}; {self._all()}")
        return matches[-1]

    def assert_nothing_pushed(self, channel: str | None = None) -> None:
        """Check that nothing was published, or nothing in one channel.

        Raises:
            AssertionError: something was published. The message lists it.
        """
        if self.pushed(channel):
            raise AssertionError(f"expected no publication{f' in {channel}' if channel else ''}; {self._all()}")

    def notified(self, user: str | None = None, category: str | None = None) -> list[RecordedNotification]:
        """The notifications, in order; only those of one user or one category, if given."""
        return [
            notification
            for notification in list(self._recorder.notified)
            if user in {None, notification.user} and category in {None, notification.category}
        ]

    def assert_notified(
        self,
        user: str,
        category: str,
        *,
        title: str | None = None,
        including: Mapping[str, object] | None = None,
        times: int | None = None,
    ) -> RecordedNotification:
        """The last matching notification. `title` is its title, `including` some keys of its data.

        Raises:
            AssertionError: there is none, or not exactly `times`. The message lists the notifications.
            BadChannel: not a user. BadRequest: not a category.
        """
        check_user(user)
        check_category(category)
        expected_keys = {} if including is None else _as_json(dict(including))
        matches = [
            notification
            for notification in self.notified(user, category)
            if title in {None, notification.title} and _has_keys(notification.data, expected_keys)
        ]
        if not matches or (times is not None and len(matches) != times):
            count = "no notification" if not matches else f"{len(matches)} notifications, not {times},"
            expectation = ("" if title is None else f" with title {title!r}") + _description(_ANYTHING, expected_keys)
            raise AssertionError(f"{count} {category!r} of user {user}{expectation}; {self._all_notifications()}")
        return matches[-1]

    def assert_nothing_notified(self, user: str | None = None) -> None:
        """Check that there was no notification, or none of one user.

        Raises:
            AssertionError: there was one. The message lists them.
        """
        if self.notified(user):
            of_user = f" of user {user}" if user else ""
            raise AssertionError(f"expected no notification{of_user}; {self._all_notifications()}")

    def fail_next(self, error: TidingsError, *, times: int = 1, published: bool = False) -> None:
        """Make the next `times` calls fail with `error`: `fail_next(Unavailable())`.

        With `published` the call takes effect and only its receipt is lost, as may happen with a `TimedOut`.
        """
        self._recorder.fail_next(error, times=times, takes_effect=published)

    def clear(self) -> None:
        """Discard recorded publications, notifications, commands and pending faults. Used ids stay used."""
        self._recorder.clear()

    def _all(self) -> str:
        publications = self.pushed()
        if not publications:
            return "nothing was pushed at all"
        lines = [f"  {pushed.event!r} in {pushed.channel}: {json.dumps(pushed.data)[:200]}" for pushed in publications]
        return "\n".join([f"pushed were ({len(lines)}, the last at the end):", *lines[-_SHOWN_MAX:]])

    def _all_notifications(self) -> str:
        notifications = self.notified()
        if not notifications:
            return "there was no notification at all"
        lines = [f"  {item.category!r} of user {item.user}: {item.title!r}" for item in notifications]
        return "\n".join([f"there were ({len(lines)}, the last at the end):", *lines[-_SHOWN_MAX:]])


def _names(names: Iterable[str], option: str) -> list[str]:
    """The names in an option. A text is iterable as well, but would be one name for each character."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise BadConfig(f"{option} is a list of names, not {shown(names)}")
    return list(names)


def _as_json(data: object) -> Any:
    return json.loads(encode_data(data))


def _has_keys(data: object, expected: Mapping[str, object]) -> bool:
    return not expected or (
        isinstance(data, dict) and all(name in data and data[name] == value for name, value in expected.items())
    )


def _description(expected: object, expected_keys: Mapping[str, object]) -> str:
    text = "" if expected is _ANYTHING else f" with {json.dumps(expected)[:200]}"
    return text + (f" including {json.dumps(expected_keys)[:200]}" if expected_keys else "")
