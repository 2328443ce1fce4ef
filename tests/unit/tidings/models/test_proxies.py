from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from celery.local import Proxy
from django.utils.functional import SimpleLazyObject
from werkzeug.local import LocalProxy

from tidings.models.proxies import unwrap
from tidings.testing import FakeHub


@dataclass
class User:
    id: int
    name: str


@pytest.mark.parametrize("proxy", [LocalProxy, SimpleLazyObject, Proxy])
def test_proxy_is_published_as_its_object(proxy: Any) -> None:
    with FakeHub() as hub:
        hub.register(User, channels=["people:{id}"])
        hub.push_model(proxy(lambda: User(7, "Ann")), version=1)
        pushed = hub.assert_pushed("people:7", "updated_model")
    assert (pushed.data["class"], pushed.data["model"]) == ("User", {"id": 7, "name": "Ann"})


def test_proxy_of_a_proxy_is_followed_to_the_end() -> None:
    user = User(7, "Ann")
    assert unwrap(LocalProxy(lambda: SimpleLazyObject(lambda: user))) is user


def test_error_of_a_proxy_without_an_object_passes() -> None:
    def fail() -> User:
        raise RuntimeError("Working outside of request context.")

    for proxy in (SimpleLazyObject(fail), Proxy(fail)):
        with pytest.raises(RuntimeError, match="outside of request context"):
            unwrap(proxy)


def test_other_objects_are_themselves() -> None:
    class Pretender:
        """As a Mock with a spec does."""

        @property
        def __class__(self) -> type[User]:
            return User

    for obj in (User(7, "Ann"), Pretender(), object(), 1, User):
        assert unwrap(obj) is obj
