"""A reader of the texts that search tools give to a model: it separates our notices from what is fenced."""

import re
from dataclasses import dataclass

_TAG = re.compile(r"<(?:doc|query)-([a-z0-9]+)>")


@dataclass(frozen=True)
class FencedText:
    """A text for a model, taken apart.

    Attributes:
        notices: Everything outside of the tags, with `MARK` in place of the mark.
        blocks: The number and the text of each document.
        queries: The id and the query of each search that is listed.
    """

    notices: str
    blocks: list[tuple[int, str]]
    queries: list[tuple[str, str]]


def read_fenced(text: str) -> FencedText:
    """Read a text as a model has to: the first tag that it names is the mark of everything that is fenced."""
    first = _TAG.search(text)
    if first is None:
        return FencedText(text, [], [])
    mark = first[1]
    block = re.compile(rf"\[(\d+)\] <doc-{mark}(?: [^\n]*)?>\n(.*?)\n</doc-{mark}>", re.DOTALL)
    query = re.compile(rf"^(\w+) <query-{mark}>([^\n]*?)</query-{mark}>$", re.MULTILINE)
    blocks = [(int(number), content) for number, content in block.findall(text)]
    rest = block.sub("", text)
    return FencedText(query.sub("", rest).replace(mark, "MARK"), blocks, query.findall(rest))


def unmarked(text: str) -> str:
    """Return a text with `MARK` in place of the mark, which differs from call to call."""
    first = _TAG.search(text)
    return text if first is None else text.replace(first[1], "MARK")
