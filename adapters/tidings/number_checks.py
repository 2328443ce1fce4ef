"""Checks of numbers that applications pass: a wrong one is an error where it is passed, not when it is used."""

from __future__ import annotations

from tidings.errors import BadConfig, CallerError

# A poll takes milliseconds in 32 bits.
SECONDS_MAX = 1_000_000
# Durations that nothing waits for, and times in seconds since 1970. Times in milliseconds are larger.
TIME_MAX_S = 100_000_000_000
# Bits of an integer that a message shows.
_SHOWN_BITS = 200


def check_seconds(
    value: object,
    name: str,
    *,
    most_s: float = SECONDS_MAX,
    is_zero_valid: bool = False,
    error: type[CallerError] = BadConfig,
) -> float:
    """`value`, if it is a number of seconds above 0 (or 0, if `is_zero_valid`) and at most `most_s`.

    Raises:
        CallerError: it is not, of the class `error`. Booleans, NaN and text are no numbers of seconds.
    """
    # NaN is in no range.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and 0 <= value <= most_s and (value > 0 or is_zero_valid):  # type: ignore[operator]  # a number here
        return value  # type: ignore[return-value]
    least = "from 0" if is_zero_valid else "above 0"
    raise error(f"{name} is {shown(value)}; it is a number of seconds {least}, at most {most_s:,}")


def check_count(
    value: object, name: str, *, least: int = 1, most: int = 2**31 - 1, error: type[CallerError] = BadConfig
) -> int:
    """`value`, if it is a whole number from `least` to `most`.

    Raises:
        CallerError: it is not, of the class `error`. Booleans, floats and text are no whole numbers.
    """
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise error(f"{name} is {shown(value)}; it is a whole number from {least:,} to {most:,}")


def shown(value: object) -> str:
    """`value` for a message. Python does not convert very large integers to text."""
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        return "too large"
    return f"{value!a:.40}" if isinstance(value, int | float | str | None) else f"a {type(value).__name__}"
