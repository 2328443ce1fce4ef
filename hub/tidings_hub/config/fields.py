"""How settings are declared: the function `setting`, the base class of all groups, and the check of secrets."""

from __future__ import annotations

import re
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator

T = TypeVar("T")

# Words that documentation uses in place of a secret, or one character repeated.
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
    """Declare a setting: its description, its bounds, what happens at the bound, and the metric that counts it.

    `shown=False` keeps a value that may contain a password out of `repr`.
    """
    extra: dict[str, Any] = {"policy": policy, "metric": metric}
    field: Any = Field(default=default, description=about, ge=ge, le=le, json_schema_extra=extra, repr=shown)
    return field  # type: ignore[no-any-return]


class SettingsModel(BaseModel):
    """Base class of all settings: frozen, without unknown names, and errors do not show values."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True, str_strip_whitespace=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_as_number(cls, value: object, info: ValidationInfo) -> object:
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and {int, float} & {kind, *get_args(kind)} and bool not in {kind, *get_args(kind)}:
            raise ValueError("must be a number, not true or false")
        return value


def check_secret(secret: SecretStr, *, min_bytes: int) -> None:
    """Return if `secret` is good enough.

    Raises:
        ValueError: it is in quotes, too short, or a placeholder from documentation.
    """
    text = secret.get_secret_value()
    if text[:1] in ("'", '"') and text.endswith(text[0]):
        # As `docker run --env-file` passes `NAME="text"` on. Backends that read it elsewhere have it without quotes.
        raise ValueError("it is in quotes, which would be a part of it; write it without them")
    if len(text.encode()) < min_bytes:
        raise ValueError(
            f"a secret of fewer than {min_bytes} bytes; `openssl rand -base64 {min_bytes}` makes a good one"
        )
    if is_placeholder(text):
        raise ValueError(f"a placeholder, not a secret; `openssl rand -base64 {min_bytes}` makes a good one")


def is_placeholder(text: str) -> bool:
    """Whether `text` is a placeholder from documentation."""
    return _PLACEHOLDER.search(text) is not None
