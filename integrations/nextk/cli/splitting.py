"""Split texts between paragraphs, lines and words, and never between a heading and the text below it."""

import re
from collections.abc import Iterable, Iterator, Sequence

__all__ = ["PASSAGE_LIMIT", "split_text", "without_title"]

PASSAGE_LIMIT = 1_200
"""The largest number of characters of a source in one passage: about 200 words, few enough to be about one thing."""

_HEADING = re.compile(r"#{1,6}[ \t].*|.*\S.*\n(?P<line>[=\-~^*])(?P=line){2,}[ \t]*")  # "## Use", or "Use" underlined
_FENCE = re.compile(r" {0,3}(```|~~~)")


def split_text(text: str, limit: int = PASSAGE_LIMIT) -> list[str]:
    """Split a text at empty lines; a paragraph that is too long is split between lines, then words, then characters.

    Neighbouring pieces are joined again while they fit. A heading (of Markdown, or underlined) stays with the text
    below it.

    Args:
        text: The text to split. Several empty lines in a row count as one.
        limit: The largest number of characters of a piece, at least 1.

    Returns:
        The pieces in order. A text of whitespace alone has none.
    """
    paragraphs = re.sub(r"\n\s*\n", "\n\n", text).strip()
    if not paragraphs:
        return []
    return _merged((_split_section(section, limit) for section in _sections(paragraphs.split("\n\n"))), limit, "\n\n")


def without_title(markdown: str) -> tuple[str, str]:
    """Take the title from a Markdown text: the first `# heading` that is not in fenced code.

    Args:
        markdown: The text.

    Returns:
        The title, or `""` if there is none, and the text. The heading is removed from the text if it was at the top.
    """
    fence = ""
    lines = markdown.splitlines(keepends=True)
    for position, line in enumerate(lines):
        if found := _FENCE.match(line):
            fence = "" if fence == found[1] else fence or found[1]
        elif not fence and (heading := re.match(r"# +(.*?)[ #]*$", line)) and heading[1]:
            above, below = "".join(lines[:position]), "".join(lines[position + 1 :])
            at_top = below.strip() and not above.strip()
            return heading[1].strip(), below if at_top else markdown
    return "", markdown


def _sections(paragraphs: Iterable[str]) -> Iterator[list[str]]:
    """Group every paragraph with the headings directly above it."""
    section: list[str] = []
    for paragraph in paragraphs:
        section.append(paragraph)
        if not _HEADING.fullmatch(paragraph):
            yield section
            section = []
    if section:
        yield section


def _split_section(section: Sequence[str], limit: int) -> list[str]:
    *headings, body = section
    whole = "\n\n".join(section)
    room = limit - len(whole) + len(body)
    if len(whole) <= limit or room < limit // 2:  # it fits, or its headings are too long for any special care
        return _split(whole, limit, ("\n", " "))
    first, *others = _split(body, room, ("\n", " "))
    return ["\n\n".join([*headings, first]), *others]


def _split(text: str, limit: int, borders: tuple[str, ...]) -> list[str]:
    if len(text) <= limit:
        return [text]
    if not borders:
        return [text[start : start + limit] for start in range(0, len(text), limit)]
    border, finer = borders[0], borders[1:]
    return _merged((_split(part, limit, finer) for part in text.split(border)), limit, border)


def _merged(parts: Iterable[Sequence[str]], limit: int, border: str) -> list[str]:
    """Join the first piece of each part to the piece before it if both fit, and drop pieces of whitespace alone."""
    merged: list[str] = []
    for pieces in parts:
        for position, piece in enumerate(pieces):
            if merged and position == 0 and len(merged[-1]) + len(border) + len(piece) <= limit:
                merged[-1] += border + piece
            else:
                merged.append(piece)
    return [piece for piece in merged if piece and not piece.isspace()]
