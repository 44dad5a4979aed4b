r"""GLOB as a regular expression of PostgreSQL.

PostgreSQL runs a regular expression without trying anything again, so no text takes long. But it takes long to read an
expression with many classes over many characters: 0.2 s for 300 classes that exclude one character each, all different,
and 50 s for 1,000. Such a pattern is refused.
"""

import re
from collections.abc import Iterable

from nextk.engine.filter.glob import CharacterClass, runs_of
from nextk.errors import RefusedError

__all__ = ["regex"]

_MAX_ARCS = 50_000  # classes times the characters at their ends; PostgreSQL takes up to 0.1 s for so many


def regex(pattern: str) -> str | None:
    r"""Return the regular expression for a pattern of GLOB, for texts without `\0` and a dot that is any character.

    Args:
        pattern: The pattern.

    Returns:
        The expression, or `None` if the pattern matches no text that PostgreSQL can hold.

    Raises:
        RefusedError: PostgreSQL would take too long to read the expression. The status is 422.
    """
    runs = runs_of(pattern)
    if runs is None:
        return None
    parts = [[_expression(each) for each in run] for run in runs]
    if any(part is None for run in parts for part in run):
        return None
    _check_arcs([each for run in runs for each in run])
    return f"^{'.*'.join(''.join(filter(None, run)) for run in parts)}$"


def _check_arcs(classes: Iterable[CharacterClass]) -> None:
    several = [each for each in classes if each.ranges and not each.character]
    ends = {end for each in several for pair in each.ranges for end in pair}
    if len(several) * len(ends) > _MAX_ARCS:
        message = (
            f"Invalid filter. A pattern of GLOB has {len(several)} classes such as [a-z] over {len(ends)} different "
            "characters, which PostgreSQL would read for too long: divide it into several patterns joined by AND"
        )
        raise RefusedError(message, 422)


def _expression(part: CharacterClass) -> str | None:
    r"""Return the expression for one character of a pattern, or `None` if only `\0` would match."""
    if part.character:
        return None if part.character == "\0" else re.escape(part.character)
    ranges = [(max(low, "\x01"), high) for low, high in part.ranges if high != "\0"]
    if not ranges:
        return "." if part.negated or not part.ranges else None
    inside = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in ranges)
    return f"[{'^' * part.negated}{inside}]"
