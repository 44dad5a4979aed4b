"""Texts of every shape are split in a time that is in proportion to their length, into passages of bounded length.

The texts are so long that a test would run for hours, beyond the limit of the suite for a test, if anything in the
splitter took time in proportion to the square of the length.
"""

import itertools
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk.cli.corpus import read_folder
from nextk.cli.splitting import PASSAGE_LIMIT, TITLE_LIMIT, split_text, without_title

LONG = 3_000_000
"""The number of characters of the texts that are one line."""
MANY = 300_000
"""The number of characters of the texts that are many lines."""

ONE_LINE = {
    "base64": "QUJD",
    "Chinese": "报销流程需要发票",
    "blanks": "a" + " " * 999,
    "tabs": "\t",
    "number signs": "#",
    "equals signs": "=",
    "dashes": "-",
    "alternating underlines": "=-~^*",
    "number signs and blanks": "# ",
    "number signs, letters and blanks": "# a#",
    "quotation marks": "> ",
    "backquotes": "`",
    "carriage returns": "\r",
    "form feeds": "\f",
    "line separators": "\u2028",
    "null characters": "\0",
    "combining marks": "\u0301",
    "joiners": "\u200d",
    "words of the limit": "x" * (PASSAGE_LIMIT - 1) + " ",
    "words beyond the limit": "x" * (PASSAGE_LIMIT + 1) + " y ",
}
MANY_LINES = {
    "letters": "a\n",
    "paragraphs": "a\n\n",
    "blank lines": " \n",
    "empty lines": "\n",
    "headings": "## a\n\n",
    "underlined headings": "Use\n===\n\n",
    "underlines": "===\n",
    "titles that are too long": f"# {'a' * TITLE_LIMIT}b\n",
    "fences": "```\n",
    "nested lists": "".join(f"{' ' * depth}- a\n" for depth in range(200)),
    "lines beyond the limit": "x" * (PASSAGE_LIMIT + 1) + "\ny\n",
}


def repeated(unit: str, length: int) -> str:
    """Repeat a text up to a length, between two letters, so that nothing is stripped from its ends."""
    return f"a\n{(unit * (length // len(unit) + 1))[:length]}\nb"


def check(text: str) -> None:
    """Split a text, and its beginnings as a title and as a heading; nothing visible is lost, and no piece too long."""
    pieces = split_text(text)
    assert max(map(len, pieces)) <= PASSAGE_LIMIT
    assert "".join(text.split()) == "".join("".join(pieces).split())
    for beginning in ("# ", "Use\n==="):
        markdown = beginning + text[2:]
        title, body = without_title(markdown)
        assert len(title) <= TITLE_LIMIT
        assert body in markdown
        assert max(map(len, split_text(markdown))) <= PASSAGE_LIMIT


@pytest.mark.parametrize("shape", ONE_LINE)
def test_one_long_line(shape: str) -> None:
    """A line of three million characters is split, whatever it consists of, also where it begins like a heading."""
    check(repeated(ONE_LINE[shape], LONG))


@pytest.mark.parametrize("shape", MANY_LINES)
def test_many_lines(shape: str) -> None:
    """A text of many thousands of lines is split, whatever they consist of."""
    check(repeated(MANY_LINES[shape], MANY))


@pytest.mark.parametrize(
    "text",
    ["# " + "QUJD" * 750_000, "Use\n" + "-" * LONG + "x", "# " + "# " * 1_500_000 + "x"],
    ids=["title", "underline", "number signs"],
)
def test_a_long_line_in_a_file(text: str, tmp_path: Path) -> None:
    """A Markdown file whose first line is almost a title of three million characters gives passages of bounded size."""
    (tmp_path / "a.md").write_text(f"{text}\n\nThe end of it.")
    passages = list(read_folder(tmp_path))
    assert {"a.md"} == {passage.title for passage in passages}
    assert max(len(passage.text) for passage in passages) <= PASSAGE_LIMIT + len("a.md\n\n")
    assert passages[-1].text.endswith("The end of it.")


@given(st.text(alphabet="aé漢\u0301\u0308\u200d👩🏽\ufe0f", max_size=200), st.integers(1, 60))
def test_a_letter_keeps_its_marks(text: str, limit: int) -> None:
    """A text without a break is cut before a letter, and not before a mark, unless nothing else is near."""
    pieces = split_text(text, limit)
    assert text == "".join(pieces)
    for left, right in itertools.pairwise(pieces):
        if unicodedata.category(right[0]).startswith("M") or "\u200d" in (left[-1], right[0]):
            assert len(left) == limit
            assert all(continues(left, end) for end in range(max(limit - 15, 1), limit))


def continues(text: str, position: int) -> bool:
    """Return whether a text must not be cut at a position."""
    return "\u200d" in text[position - 1 : position + 1] or unicodedata.category(text[position]).startswith("M")


def test_number_signs_that_belong_to_a_title() -> None:
    """Number signs close a heading only after a blank: those of a name such as C# stay."""
    assert "Notes on C#" == without_title("# Notes on C#\n\ntext")[0]
    assert "Notes on C#" == without_title("# Notes on C# ##\n\ntext")[0]
