"""GLOB, with the meaning that SQLite gives it, at a cost that no pattern can drive up.

A pattern is divided at its stars into *runs*, each of which matches texts of one length. The first run belongs at the
beginning of the text, and the last one at its end. For every other run its first occurrence after the run before it is
as good as any later one, so nothing is ever tried again.

Upper and lower case differ. `*` matches any text, `?` any character, `[abc]`, `[a-z]` and `[^a-z]` one character. There
is no escape: a class such as `[*]` matches what would mean something else outside of it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["CharacterClass", "matcher", "runs_of"]

_PART = re.compile(r"(?P<star>\*+)|(?P<any>\?)|\[(?P<not>\^?+)(?P<first>\]?+)(?P<set>[^\]]*+)\]|.", re.DOTALL)
_RANGE = re.compile(r"(.)(?:-(.))?", re.DOTALL)
_MAX_SEARCHED = 32  # characters; `re` compares a longer run with every part of a text for too long

_Codes: TypeAlias = NDArray[np.uint32]


@lru_cache(maxsize=256)
def matcher(pattern: str) -> Callable[[str], bool]:
    """Return a function that says whether a text matches a pattern as a whole."""
    runs = runs_of(pattern)
    if runs is None:
        return _matches_nothing
    return _Pattern([_Literal.of(run) or _ClassRun(run) for run in runs]).matches


def _matches_nothing(text: str) -> bool:  # noqa: ARG001 - of the type of the others
    return False


@dataclass(frozen=True, slots=True)
class CharacterClass:
    """A part of a pattern that matches one character: one in any of the ranges or, if negated, in none of them.

    Attributes:
        ranges: The first and the last character of each range.
        negated: Whether the class matches the other characters. Without ranges it then matches every one, as `?` does.
    """

    ranges: tuple[tuple[str, str], ...]
    negated: bool = False

    @property
    def character(self) -> str:
        """The only character that the class contains, or `""` if there are several."""
        (low, high), *others = self.ranges or (("", ""),)
        return low if low == high and not others and not self.negated else ""

    def regex(self) -> str:
        """Return a regular expression for the class."""
        if not self.ranges:
            return "."
        ranges = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in self.ranges)
        return f"[{'^' * self.negated}{ranges}]"

    def contains(self, codes: _Codes) -> NDArray[np.bool_]:
        """Return whether the class contains each of the characters, which are given by their code points."""
        found = np.zeros(len(codes), np.bool_)
        for low, high in self.ranges:
            found |= codes == ord(low) if low == high else (codes >= ord(low)) & (codes <= ord(high))
        return ~found if self.negated else found


_ANY = CharacterClass((), negated=True)


def runs_of(pattern: str) -> list[list[CharacterClass]] | None:
    """Return the runs of a pattern: one more than it has groups of stars.

    Returns:
        The classes of each run, or `None` if the pattern has a `[` that is never closed, and so matches nothing.
    """
    runs: list[list[CharacterClass]] = [[]]
    for part in _PART.finditer(pattern):
        if part["star"]:
            runs.append([])
        elif part["any"]:
            runs[-1].append(_ANY)
        elif part["set"] is not None:
            first = [(part["first"], part["first"])] if part["first"] else []
            runs[-1].append(CharacterClass((*first, *_ranges(part["set"])), bool(part["not"])))
        elif part[0] == "[":
            return None
        else:
            runs[-1].append(CharacterClass(((part[0], part[0]),)))
    return runs


def _ranges(inside: str) -> list[tuple[str, str]]:
    """Read the inside of `[...]`. A range that runs backwards contains only its first character."""
    return [(low, max(low, high)) for low, high in _RANGE.findall(inside)]


class _Literal:
    """A run that matches one text.

    Args:
        text: The text.
    """

    def __init__(self, text: str) -> None:
        self.length = len(text)
        self._text = text

    @classmethod
    def of(cls, run: list[CharacterClass]) -> "_Literal | None":
        """Return the literal of a run, or `None` if the run matches several texts."""
        characters = [each.character for each in run]
        return cls("".join(characters)) if all(characters) else None

    def is_at(self, text: str, start: int) -> bool:
        """Return whether the run matches a text at a position."""
        return text.startswith(self._text, start)

    def find(self, text: str, start: int, end: int) -> int:
        """Return the first position between two positions at which the run matches, or -1."""
        return text.find(self._text, start, end)


class _ClassRun:
    """A run with a `?` or a class.

    Args:
        run: The classes of its characters.
    """

    def __init__(self, run: list[CharacterClass]) -> None:
        self.length = len(run)
        self._run = run
        self._regex = re.compile("".join(each.regex() for each in run), re.DOTALL)

    def is_at(self, text: str, start: int) -> bool:
        """Return whether the run matches a text at a position."""
        return self._regex.match(text, start) is not None

    def find(self, text: str, start: int, end: int) -> int:
        """Return the first position between two positions at which the run matches, or -1."""
        if self.length > _MAX_SEARCHED:
            return self._find_in_array(text, start, end)
        found = self._regex.search(text, start, end)
        return -1 if found is None else found.start()

    def _find_in_array(self, text: str, start: int, end: int) -> int:
        """Try all positions at once, one character of the run after the other."""
        count = end - start - self.length + 1
        if count <= 0:
            return -1
        codes = np.frombuffer(text[start:end].encode("utf-32-le", "surrogatepass"), "<u4")
        matching = np.ones(count, np.bool_)
        for offset, each in enumerate(self._run):
            if each != _ANY:
                matching &= each.contains(codes[offset : offset + count])
                if not matching.any():
                    return -1
        return start + int(matching.argmax())


class _Pattern:
    """A pattern that may match.

    Args:
        runs: The runs between its stars, at least one.
    """

    def __init__(self, runs: list[_Literal | _ClassRun]) -> None:
        self._head, *self._middle = runs
        self._tail = self._middle.pop() if self._middle else None

    def matches(self, text: str) -> bool:
        """Return whether a text matches the pattern as a whole."""
        start = self._head.length
        if self._tail is None:
            return len(text) == start and self._head.is_at(text, 0)
        end = len(text) - self._tail.length
        if end < start or not self._head.is_at(text, 0) or not self._tail.is_at(text, end):
            return False
        for run in self._middle:
            found = run.find(text, start, end)
            if found < 0:
                return False
            start = found + run.length
        return True
