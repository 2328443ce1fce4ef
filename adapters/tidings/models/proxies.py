"""Proxies of frameworks that stand for a model: Flask's `current_user`, Django's `request.user`."""

from __future__ import annotations

from typing import Any


def unwrap(obj: object) -> object:
    """The object that a proxy stands for; any other object itself. Imports no framework.

    Source: `werkzeug.local.LocalProxy` (also of Flask-Login and Celery), `django.utils.functional.LazyObject`.
    """
    # Any: classes that we do not import. Both pretend to be of the class of their object.
    proxy: Any = obj
    if proxy.__class__ is type(proxy):
        return obj
    get_current_object = getattr(proxy, "_get_current_object", None)
    if callable(get_current_object):
        return unwrap(get_current_object())
    # Reading its class has evaluated Django's proxy.
    wrapped = getattr(obj, "__dict__", {}).get("_wrapped", obj)
    return obj if wrapped is obj else unwrap(wrapped)
