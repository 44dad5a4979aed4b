r"""Writing texts into filters, so that each of them names itself and nothing else.

In a string of the filter language, a backslash escapes the quote that encloses the string, and every other backslash
stands for itself. Servers and clients disagree on escapes, so this module writes none, and no backslash that any of
them could read as one: not before a quote, another backslash or the end. A text that needs more is named by GLOB, in
which a class of one character, such as `[\]` or `[*]`, stands for that character.
"""

import re

__all__ = ["is_balanced", "quoted", "quoted_patterns", "verbatim"]

_AMBIGUOUS = re.compile(r"""\\(?=[\\'"]|\Z)""")
_SPECIAL = re.compile(rf"[*?\[]|{_AMBIGUOUS.pattern}")
_STRING_OR_PARENTHESIS = re.compile(r"""'.*?(?<!\\)'|".*?(?<!\\)"|[()'"]""", re.DOTALL)


def quoted(text: str) -> str | None:
    """Write a text as a string of the filter language.

    Returns:
        The text between quotes, or `None` if no string can name it surely: it holds both kinds of quotes, or a
        backslash before a quote, before another backslash or at its end.
    """
    quote = '"' if "'" in text else "'"
    return None if quote in text or _AMBIGUOUS.search(text) else f"{quote}{text}{quote}"


def verbatim(text: str) -> str:
    """Return the GLOB pattern that matches one text and no other."""
    return _SPECIAL.sub(r"[\g<0>]", text)


def quoted_patterns(pattern: str) -> list[str]:
    """Write a GLOB pattern as strings of the filter language.

    Args:
        pattern: The pattern. Its classes hold no quotes, and none of its backslashes stands before a quote, before
            another backslash or at the end; `verbatim` makes such patterns.

    Returns:
        The pattern between quotes. If it holds both kinds of quotes, two patterns, in each of which `?` replaces the
        quotes of one kind. Every text that the pattern matches is matched by both; if the pattern holds no star, no
        other text is.
    """
    if "'" in pattern and '"' in pattern:
        return ["'" + pattern.replace("'", "?") + "'", '"' + pattern.replace('"', "?") + '"']
    quote = '"' if "'" in pattern else "'"
    return [f"{quote}{pattern}{quote}"]


def is_balanced(filter: str) -> bool:
    """Return whether parentheses around a filter would enclose all of it.

    They would not if the filter closed a parenthesis that it has not opened, or left a parenthesis or a string open.
    """
    depth = 0
    for part in _STRING_OR_PARENTHESIS.finditer(filter):
        depth += (part[0] == "(") - (part[0] == ")")
        if depth < 0 or part[0] in ("'", '"'):
            return False
    return depth == 0
