"""Split texts between paragraphs, lines and words, and never between a heading and the text below it.

A folder may hold any text: a line of base64, a log without an empty line, a dump of blanks. Everything here takes time
in proportion to the length of the text, whatever its shape. So lines are compared with the methods of `str`, and no
pattern is searched for that could begin in many places and end in many others.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence

__all__ = ["PASSAGE_LIMIT", "TITLE_LIMIT", "split_text", "without_title"]

PASSAGE_LIMIT = 1_200
"""The largest number of characters of a source in one passage: about 200 words, few enough to be about one thing."""
TITLE_LIMIT = 200
"""The largest number of characters of a title, which every passage of its source repeats."""

_UNDERLINES = "=-~^*"
_SHORTEST_UNDERLINE = 3
_DEEPEST_HEADING = 6  # number signs
_FENCES = ("```", "~~~")
_DEEPEST_FENCE = 3  # blanks before it; what is further to the right is an indented block
_NOTABLE = ("# ", " ", *_FENCES)  # the beginnings of a title, and of a fence
_LONGEST_CHARACTER = 16  # code points of one character and its marks that are kept together
_JOINER = "\u200d"  # joins several emoji into one


def split_text(text: str, limit: int = PASSAGE_LIMIT) -> list[str]:
    """Split a text at empty lines; a paragraph that is too long is split between lines, then words, then characters.

    Neighbouring pieces are joined again while they fit. A heading (of Markdown, or underlined) stays with the text
    below it. Where a text without a break has to be cut, as Chinese may have to be, a letter keeps its combining marks.

    Args:
        text: The text to split. Several empty lines in a row count as one.
        limit: The largest number of characters of a piece, at least 1.

    Returns:
        The pieces in order, none of which is longer than `limit`. A text of whitespace alone has none.
    """
    return _merged((_split_section(section, limit) for section in _sections(_paragraphs(text))), limit)


def without_title(markdown: str) -> tuple[str, str]:
    """Take the title from a Markdown text: the first `# heading` that is not in fenced code.

    A heading of more than `TITLE_LIMIT` characters is taken for a part of the text, as no title is so long.

    Args:
        markdown: The text.

    Returns:
        The title, or `""` if there is none, and the text. The heading is removed from the text if it was at the top.
    """
    fence = ""
    lines = markdown.split("\n")
    for position, line in enumerate(lines):
        if not line.startswith(_NOTABLE):
            continue
        if found := next(filter(line[: _DEEPEST_FENCE + 3].lstrip(" ").startswith, _FENCES), ""):
            fence = "" if fence == found else fence or found
        elif not fence and (title := _title(line)):
            below = "\n".join(lines[position + 1 :])
            at_top = below.strip() and not any(map(str.strip, lines[:position]))
            return title, below if at_top else markdown
    return "", markdown


def _title(line: str) -> str:
    """Return the text of a `# heading`, or `""` if the line is none or is too long for a title."""
    if not line.startswith("# "):
        return ""
    title = line[1:].strip()
    unclosed = title.rstrip("#")
    if not unclosed or unclosed[-1].isspace():  # number signs after a blank close a heading; those of "C#" are its own
        title = unclosed.rstrip()
    return title if len(title) <= TITLE_LIMIT else ""


def _paragraphs(text: str) -> Iterator[str]:
    lines: list[str] = []
    for line in text.strip().split("\n"):
        if line and not line.isspace():
            lines.append(line)
        elif lines:
            yield "\n".join(lines)
            lines = []
    if lines:
        yield "\n".join(lines)


def _is_heading(paragraph: str) -> bool:
    """Return whether a paragraph is a heading and nothing else: "## Use", or "Use" with an underline."""
    first, _, rest = paragraph.partition("\n")
    if rest:
        underline = rest.rstrip(" \t")
        return (
            len(underline) >= _SHORTEST_UNDERLINE and underline[0] in _UNDERLINES and not underline.strip(underline[0])
        )
    text = first.lstrip("#")
    return text.startswith((" ", "\t")) and 1 <= len(first) - len(text) <= _DEEPEST_HEADING


def _sections(paragraphs: Iterable[str]) -> Iterator[list[str]]:
    """Group every paragraph with the headings directly above it."""
    section: list[str] = []
    for paragraph in paragraphs:
        section.append(paragraph)
        if not _is_heading(paragraph):
            yield section
            section = []
    if section:
        yield section


def _split_section(section: Sequence[str], limit: int) -> list[str]:
    *headings, body = section
    whole = "\n\n".join(section)
    room = limit - len(whole) + len(body)
    if len(whole) <= limit:
        return [whole]
    if room < limit // 2:  # its headings are too long for any special care
        return list(_pieces(whole, limit))
    first, *others = _pieces(body, room)
    return ["\n\n".join([*headings, first]), *others]


def _pieces(text: str, limit: int) -> Iterator[str]:
    """Cut a text into pieces that are as long as possible, and leave out those of whitespace alone."""
    start = 0
    while len(text) - start > limit:
        end, following = _cut(text, start, limit)
        if not text[start:end].isspace() and start < end:
            yield text[start:end]
        start = following
    if text[start:].strip():
        yield text[start:]


def _cut(text: str, start: int, limit: int) -> tuple[int, int]:
    """Return where a piece ends and where the next one begins: at the last line's end, else blank, that is near enough.

    A text without either is cut between two characters.
    """
    for borders in ("\n", " \t"):
        last = max(text.rfind(border, start, start + limit + 1) for border in borders)
        if last >= 0:
            return last, last + 1
    end = start + limit
    candidates = range(end, end - min(limit, _LONGEST_CHARACTER), -1)
    end = next((position for position in candidates if not _continues(text, position)), end)
    return end, end


def _continues(text: str, position: int) -> bool:
    """Return whether the code point at a position belongs to the character before it."""
    joined = _JOINER in text[position - 1 : position + 1]
    return joined or unicodedata.category(text[position]).startswith("M")


def _merged(parts: Iterable[Sequence[str]], limit: int) -> list[str]:
    """Join the first piece of each part to the piece before it if both fit."""
    merged: list[str] = []
    for first, *others in parts:
        if merged and len(merged[-1]) + 2 + len(first) <= limit:
            merged[-1] += f"\n\n{first}"
        else:
            merged.append(first)
        merged += others
    return merged
