"""Django: publications of a transaction are sent when it is committed.

    INSTALLED_APPS = ["tidings.contrib.django", …]
    TIDINGS = {"URL": "redis://localhost:6379/0"}

    from tidings.contrib.django import autopush, background, emit, notify, push_model

`emit`, `notify` and `push_model` wait for the commit. Models with `@autopush` are pushed when they are saved or
deleted. `emitter()` is the emitter itself, which sends immediately. See docs/django.md. `@background` lets a view
answer at once, and runs it as a job (docs/background-jobs.md).
"""

from tidings.contrib.django.background import background
from tidings.contrib.django.commit import emit, notify, push_model
from tidings.contrib.django.configured import emitter
from tidings.contrib.django.signals import autopush

__all__ = ["autopush", "background", "emit", "emitter", "notify", "push_model"]
