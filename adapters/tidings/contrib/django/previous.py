"""The rows of Django objects as they were before they were saved, and the channels that showed them.

A list of a channel shows a row until it receives the deletion. So a row whose channel changes is deleted in its
previous channels. They are those of the row before it is written: the object may have been loaded long ago.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from tidings.contrib.changes import channels_of
from tidings.contrib.django.rows import read_row
from tidings.errors import TidingsError
from tidings.models.rules import Rule, channel_templates, template_names

_logger = logging.getLogger("tidings")


@dataclass(frozen=True, slots=True)
class RowBefore:
    """A row before it was saved, and its channels."""

    obj: Any
    channels: list[str]


def may_move(instance: Any, rule: Rule, update_fields: Collection[str] | None) -> bool:
    """Whether saving this object may change its channels. A function, or a property, may depend on any field."""
    if rule.channels is None or instance.pk is None:
        return False
    if callable(rule.channels):
        return True
    meta = instance._meta  # noqa: SLF001
    fields = {field.attname: field for field in meta.concrete_fields}
    names = {name for template in channel_templates(rule.channels) for name in template_names(template)}
    keys = {field.attname for field in getattr(meta, "pk_fields", [meta.pk])} | {"pk"}
    if not (names := names - keys):
        # The row of another key is another row.
        return False
    if update_fields is None or not names <= fields.keys():
        return True
    return any(fields[name].name in update_fields or name in update_fields for name in names)


def read_previous(instance: Any, rule: Rule, using: str) -> RowBefore | None:
    """Lock and read the row of an object that is about to be saved. None: there is none."""
    row = read_row(instance, using, lock=True, no_key=True)
    return None if row is None else previous_of(row, rule)


def previous_of(row: Any, rule: Rule) -> RowBefore:
    """An object with the values of a row before a change."""
    return RowBefore(row, _channels(row, rule))


def _channels(row: Any, rule: Rule) -> list[str]:
    try:
        return channels_of(rule, row)
    except TidingsError:
        # It has never been published: a template had no value.
        return []
    except Exception as error:  # noqa: BLE001
        # The application's own code. It must not keep the row from being changed.
        name = type(row).__name__
        _logger.warning("lists may keep a changed %s: channels of its previous row raised %s", name, repr(error)[:100])
        return []
