"""What is wrong with a setting, in plain words: pydantic's own texts are for developers of its models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# By the type of pydantic's error. The names in braces are in its context.
_TEXTS = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must be a table",
    "finite_number": "must be a number that is finite",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number, and not so large",
    "int_type": "must be a whole number",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be a list",
    "enum": "must be one of {expected}",
    "literal_error": "must be one of {expected}",
    "missing": "is missing",
    "model_attributes_type": "must be a table",
    "model_type": "must be a table",
    "path_type": "must be a path, as text",
    "string_type": "must be text",
    "string_unicode": "must be text in UTF-8",
    "tuple_type": "must be a list",
}


def error_text(details: Mapping[str, Any]) -> str:
    """The text for one of pydantic's errors. It never contains the value, which may be a secret."""
    text = _TEXTS.get(details["type"])
    if text is not None:
        return text.format_map(details.get("ctx") or {})
    message: str = details["msg"]
    return message.removeprefix("Value error, ").replace("Input should be", "must be")
