"""Checks of arguments. Every layer reads enums, numbers and foreign sparse vectors by the rules in this file.

A refused argument raises `ClientError`, and the message begins with the name of the argument and what was given.
"""

import difflib
import math
import operator
import os
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypedDict, TypeVar, overload

from nextk.errors import ClientError

EnumT = TypeVar("EnumT", bound=Enum)

T = TypeVar("T")

NONE = "none"
"""The word for none of an enum's members, where leaving the argument out means something else."""


class NoOthers(TypedDict):
    """The type of `**unknown`, which has no keywords: type checkers refuse any, and a function can explain why."""


_PAIR = 2
_ID_BITS = 8_000  # as many as an id may have; Python writes no number of many more


@overload
def choose(kind: type[EnumT], given: EnumT | str, name: str) -> EnumT: ...
@overload
def choose(kind: type[EnumT], given: None, name: str) -> None: ...
def choose(kind: type[EnumT], given: EnumT | str | None, name: str) -> EnumT | None:
    """Read an enum argument.

    Args:
        kind: The enum.
        given: A member of the enum, or the value of a member in any letter case, also as a member of another enum;
            `None` stands for an argument that was left out.
        name: The name of the argument, for the error message.

    Returns:
        The member, or `None` if the argument was left out.

    Raises:
        ClientError: The enum has no such member. The message names the argument and lists the words that it takes.
    """
    if given is None or isinstance(given, kind):
        return given
    members = {str(member.value).lower(): member for member in kind}
    word = given.value if isinstance(given, Enum) else given
    found = members.get(str.lower(word)) if isinstance(word, str) else None
    if found is None:
        message = f"{name}={written(given)} is not one of {', '.join(map(repr, members))}"
        raise ClientError(message)
    return found


def written(given: object) -> str:
    """Return a value as an error writes it, whatever the value is.

    Args:
        given: The value.

    Returns:
        The text that `repr` makes, cut at 1,200 characters, with an escape in the place of each lone surrogate; where
        Python cannot write the value, because it is nested too deeply, is a whole number of too many digits, or has a
        method that raises, its type in angle brackets.
    """
    try:
        text = repr(given)
    except Exception:
        text = f"<{type(given).__name__}>"
    text = text if len(text) <= _WRITTEN else f"{text[:_WRITTEN]}..."
    return text.encode("utf-8", "backslashreplace").decode()


_WRITTEN = 1_200


def shown(given: object) -> str:
    """Return the text by which an error calls an argument that may be a model, whose own text may hold its secrets.

    Args:
        given: The argument.

    Returns:
        A text, a number, a boolean or `None` as Python writes it; of anything else no more than its type, as in
        `an object of the type Remote` or `the class Remote`.
    """
    if isinstance(given, type):
        return f"the class {given.__name__}"
    plain = given is None or type(given) in (str, int, float, bool)
    return written(given) if plain else f"an object of the type {type(given).__name__}"


def choose_or_none(kind: type[EnumT], given: EnumT | str | None, name: str) -> EnumT | None:
    """Read an enum argument that also takes the word `"none"`.

    Args:
        kind: The enum.
        given: The argument, as `choose` takes it, or `"none"` in any letter case.
        name: The name of the argument, for the error message.

    Returns:
        The member; `None` for `"none"`, and if the argument was left out.

    Raises:
        ClientError: The enum has no such member. The message names the argument and lists the words that it takes.
    """
    if isinstance(given, str) and given.lower() == NONE:
        return None
    try:
        return choose(kind, given, name)
    except ClientError as error:
        message = f"{error}, {NONE!r}"
        raise ClientError(message) from None


def did_you_mean(name: object, known: Iterable[str], hints: Mapping[str, str] = MappingProxyType({})) -> str:
    """Say what the caller of an unknown name may have meant, as the end of an error message.

    Args:
        name: The unknown name. Letter case and underscores do not matter, so that `topK` is near `top_k`.
        known: The names that are known.
        hints: What to say of names that are known from elsewhere, by name; without the parentheses. It comes before
            the nearest of the known names.

    Returns:
        `" (did you mean x?)"`, `" (<hint>)"`, or `": give one of ..."`, if no name is near.
    """
    names = list(known)
    hint = {_folded(each): said for each, said in hints.items()}.get(_folded(name))
    if hint is not None:
        return f" ({hint})"
    near = nearest(name, names)
    return f" (did you mean {near}?)" if near else f": give one of {', '.join(names)}"


def nearest(name: object, known: Iterable[str]) -> str | None:
    """Return the known name that an unknown one is most like, whatever its case and underscores; `None` if none is."""
    names = {_folded(each): each for each in known}
    near = difflib.get_close_matches(_folded(name), names, 1, 0.6)
    return names[near[0]] if near else None


def _folded(name: object) -> str:
    return (name if isinstance(name, str) else written(name)).lower().replace("_", "")


def require_kind(given: object, kind: type[T], name: str) -> T:
    """Return an argument that is an instance of a class.

    Args:
        given: The argument.
        kind: The class.
        name: The name of the argument, for the error message.

    Raises:
        ClientError: The argument is something else. The message names the argument and the class.
    """
    if not isinstance(given, kind):
        message = f"{name}={shown(given)} has to be of the type {kind.__name__}"
        raise ClientError(message)
    return given


def require_callable(given: object, name: str) -> None:
    """Require that an argument is a function, or another object that can be called.

    Args:
        given: The argument.
        name: The name of the argument, for the error message.

    Raises:
        ClientError: It cannot be called. The message names the argument.
    """
    if not callable(given):
        message = f"{name}={shown(given)} cannot be called: give a function"
        raise ClientError(message)


def elements_of(given: object) -> list[Any] | None:
    """Return the elements of an iterable; `None` if it cannot be iterated over; see `iterator_of`."""
    iterator = iterator_of(given)
    return None if iterator is None else list(iterator)


def iterator_of(given: object) -> Iterator[Any] | None:
    """Return an iterator over an iterable; `None` if it cannot be iterated over, as an array without axes cannot."""
    try:
        return iter(given) if isinstance(given, Iterable) else None
    except TypeError:
        return None


def require_count(value: object, name: str, least: int = 1, most: int | None = None) -> None:
    """Require that an argument is a whole number, and neither too small nor too large.

    Args:
        value: The argument. Only an `int` is a whole number here: neither a `bool` nor a number of numpy's is one.
        name: The name of the argument, for the error message.
        least: The smallest number that is allowed.
        most: The largest number that is allowed; `None` for no limit.

    Raises:
        ClientError: The argument is not a whole number, or is out of bounds. The message names the argument.
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):  # type: ignore[operator]
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        message = f"{name}={written(value)} must be a whole number, {bounds}"
        raise ClientError(message)


def require_number(value: object, name: str, low: float = -math.inf, high: float = math.inf) -> None:
    """Require that an argument is a finite number within a range.

    Args:
        value: The argument, an `int` or a `float`; a `bool` is not a number here.
        name: The name of the argument, for the error message.
        low: The smallest number that is allowed.
        high: The largest number that is allowed.

    Raises:
        ClientError: The argument is not a number, is NaN or infinite, does not fit a float, or lies outside of the
            range. The message names the argument.
    """
    try:
        number = not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # an int beyond all floats
        number = False
    if not number or not low <= value <= high:  # type: ignore[operator]
        bounds = "finite" if math.isinf(low) else f"at least {low}" if math.isinf(high) else f"from {low} to {high}"
        message = f"{name}={written(value)} must be a number, {bounds}"
        raise ClientError(message)


def real_path(given: str | os.PathLike[str], name: str) -> Path:
    """Return the path that an argument names, absolute, with `~` and symbolic links replaced by what they stand for.

    Args:
        given: The argument.
        name: The name of the argument, for the error message.

    Raises:
        ClientError: The argument is no path, or one that no file can have.
    """
    try:
        return Path(given).expanduser().resolve()
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        message = f"{name}={shown(given)} cannot be used: {error}"
        raise ClientError(message) from error


def require_id(value: object, name: str = "id") -> str:
    """Return an id as text.

    Args:
        value: A text that is not empty, or a whole number, also one of numpy's, which becomes its decimal digits: 0 is
            the id `"0"`. A bool is no number here.
        name: The name of the argument, for the error message.

    Raises:
        ClientError: The value is empty, or is neither a text nor a whole number.
    """
    if isinstance(value, str):
        text = str.__str__(value)
    else:
        number = _whole_number(value)
        text = "" if number is None or number.bit_length() > _ID_BITS else str(number)
    if not text:
        message = f"{name}={written(value)} is no id: give a text that is not empty, or a whole number"
        raise ClientError(message)
    return text


def id_list(ids: object) -> list[Any]:
    """Return ids as a list. The ids themselves are not checked.

    Args:
        ids: One id, which is a text or a whole number, also one of numpy's; or an iterable of ids.

    Raises:
        ClientError: It is neither. Bytes and mappings are not taken for lists of ids.
    """
    if isinstance(ids, str) or _whole_number(ids) is not None:
        return [ids]
    listed = None if isinstance(ids, bytes | bytearray | memoryview | Mapping) else elements_of(ids)
    if listed is not None:
        return listed
    message = f"ids={written(ids)} must be an id or a list of ids"
    raise ClientError(message)


def _whole_number(value: object) -> int | None:
    """Return a whole number of any library as an `int`; `None` if it is none, or is a bool."""
    if isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", None) == "b":
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def sparse_parts(given: object) -> tuple[Any, Any] | None:
    """Take a sparse vector of any library apart. The parts themselves are not checked.

    Args:
        given: A mapping from index to value, an object with the attributes `indices` and `values`, or a tuple of the
            indices and the values.

    Returns:
        The indices and the values, in the order in which they were given; or `None` if `given` is none of these.
    """
    if isinstance(given, Mapping):
        return list(given.keys()), list(given.values())
    if hasattr(given, "indices") and hasattr(given, "values"):
        return given.indices, given.values
    if isinstance(given, tuple) and len(given) == _PAIR:
        return given
    return None
