"""What the settings are made of: how a field is declared, and the entries of its lists and tables."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr

T = TypeVar("T")

# What stands in documentation where a secret belongs, or a single sign repeated.
_PLACEHOLDER = re.compile(
    r"change.?(me|this|it)|place.?holder|your.{0,12}(key|secret|token)|example|sample|dummy|insecure|password|\A(.)\3*\Z",
    re.IGNORECASE,
)


def setting(
    default: T,
    about: str,
    *,
    policy: str = "",
    metric: str = "",
    ge: float | None = None,
    le: float | None = None,
    shown: bool = True,
) -> T:
    """A field: what it is, its bounds, what happens to who passes it, and which metric counts that.

    `shown` False keeps a value that may hold a password out of `repr`.
    """
    extra: dict[str, Any] = {"policy": policy, "metric": metric}
    made: Any = Field(default=default, description=about, ge=ge, le=le, json_schema_extra=extra, repr=shown)
    return made  # type: ignore[no-any-return]


class SettingsModel(BaseModel):
    """What all parts of the settings have in common: frozen, nothing unknown, no value shown in an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True, str_strip_whitespace=True
    )


def check_secret(secret: SecretStr, *, min_bytes: int) -> None:
    """Returns if `secret` can be one.

    Raises:
        ValueError: too short, or what documentation puts where a secret belongs.
    """
    text = secret.get_secret_value()
    if len(text.encode()) < min_bytes:
        raise ValueError(
            f"a secret of fewer than {min_bytes} bytes; `openssl rand -base64 {min_bytes}` makes a good one"
        )
    if is_placeholder(text):
        raise ValueError(f"a placeholder, not a secret; `openssl rand -base64 {min_bytes}` makes a good one")


def is_placeholder(text: str) -> bool:
    """Whether this is what documentation puts where a secret belongs."""
    return _PLACEHOLDER.search(text) is not None
