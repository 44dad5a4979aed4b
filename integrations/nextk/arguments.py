"""Checks of arguments: every layer reads enums, whole numbers and other numbers by the same rules and messages."""

import math
from enum import Enum
from typing import TypeVar

from nextk.errors import ClientError

EnumT = TypeVar("EnumT", bound=Enum)


def choose(kind: type[EnumT], given: EnumT | str | None, name: str) -> EnumT | None:
    """Read an enum argument.

    Args:
        kind: The enum.
        given: One of its members, or the member's value in any letter case; `None` for an absent argument.
        name: What the argument is called, for the error.

    Returns:
        The member, or `None` for an absent argument.

    Raises:
        ClientError: There is none; the message names the argument and the words it takes.
    """
    if given is None or isinstance(given, kind):
        return given
    members = {str(member.value).lower(): member for member in kind}
    try:
        return members[str(given).lower()]
    except KeyError:
        message = f"{name}={given!r} is not one of {', '.join(map(repr, members))}"
        raise ClientError(message) from None


def require_count(value: object, name: str, least: int = 1) -> None:
    """Refuse what is not a whole number of at least `least`.

    Raises:
        ClientError: It is not; the message names the argument.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        message = f"{name}={value!r} must be a whole number, at least {least}"
        raise ClientError(message)


def require_number(value: object, name: str, low: float = -math.inf, high: float = math.inf) -> None:
    """Refuse what is not a finite number between two others, both included.

    Raises:
        ClientError: It is not; the message names the argument.
    """
    try:
        number = not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # an int beyond all floats
        number = False
    if not number or not low <= value <= high:  # type: ignore[operator]
        bounds = "finite" if math.isinf(low) else f"from {low} to {high}"
        message = f"{name}={value!r} must be a number, {bounds}"
        raise ClientError(message)
