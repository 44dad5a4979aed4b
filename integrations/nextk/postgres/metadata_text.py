r"""Metadata as they are stored in a column of jsonb, which holds numbers as decimals and no `\u0000`."""

import re

from nextk.errors import RefusedError

__all__ = ["refuse_nul", "to_jsonb"]

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|-?[0-9.]+[eE]\+?1[6-9](?![0-9])')
_LARGE = re.compile(r"[0-9][eE]\+?1[6-9]")


def to_jsonb(text: str) -> str:
    r"""Return the JSON to store for metadata, from which jsonb makes the values that were given.

    A whole float of 2**53 or more is spelled in full. Its usual spelling, such as `4.611686018427388e+18`, is only the
    shortest of those that become the same float, and as a decimal it is another whole number.

    Args:
        text: The metadata as JSON.

    Returns:
        The JSON to store.

    Raises:
        RefusedError: A text in the metadata contains `\u0000`. The status is 422.
    """
    if _NUL.search(text):
        raise _refusal("metadata")
    return _TOKEN.sub(lambda token: _in_full(token[0]), text) if _LARGE.search(text) else text


def refuse_nul(text: str, name: str) -> None:
    r"""Do nothing if PostgreSQL can store a text.

    Args:
        text: The text.
        name: The name of the field, such as `"data"`, for the message.

    Raises:
        RefusedError: The text contains `\u0000`. The status is 422.
    """
    if "\0" in text:
        raise _refusal(name)


def _in_full(token: str) -> str:
    return token if token.startswith('"') else f"{int(float(token))}.0"


def _refusal(name: str) -> RefusedError:
    message = f"Invalid {name}: PostgreSQL cannot store the character U+0000: remove it, or replace it, before writing"
    return RefusedError(message, 422)
