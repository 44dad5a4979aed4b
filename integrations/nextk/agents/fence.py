"""The fence around everything in a model's text that is not ours: the texts of documents, their labels, and queries.

    [1] <doc-7w2pqz title="Sky" source="sky.md" page="3">
    The sky is blue because air scatters blue light more than red.
    </doc-7w2pqz>

A document can hold any words: those of our notices, a search id, or a fence that an earlier call has shown. Therefore
each call draws a mark of its own, which occurs in nothing that the call shows. Only our own tags carry it.
"""

import secrets
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from nextk.agents.memory import LETTERS

MARK_LENGTH = 6
"""The number of letters of a mark, unless the texts hold such a mark already."""
_MAX_LENGTH, _KEPT_END = 120, 40
_JOINERS = "\u200c\u200d"  # without these some scripts cannot be read


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The part of a document that a model reads.

    Attributes:
        text: The text.
        labels: Where the text comes from, by `"title"`, `"source"` and `"page"`, each on one line.
    """

    text: str
    labels: Mapping[str, str] = field(default_factory=dict)


def random_letter() -> str:
    """Return a letter that nobody can guess."""
    return secrets.choice(LETTERS)


@dataclass(frozen=True, slots=True)
class Fence:
    """The tags of one call.

    Attributes:
        mark: The letters that distinguish these tags from all others.
    """

    mark: str

    @classmethod
    def around(cls, contents: Iterable[str], letter: Callable[[], str] = random_letter) -> "Fence":
        """Return a fence whose mark occurs in none of the contents.

        Args:
            contents: Everything that is going to stand inside the fence.
            letter: Returns the letters of the mark one by one.
        """
        everything = "\n".join(contents)
        mark = "".join(letter() for _ in range(MARK_LENGTH))
        while mark in everything:
            mark += letter()
        return cls(mark)

    def tag(self, name: str) -> str:
        """Return an opening tag without labels, as a notice names it.

        Args:
            name: What stands inside the tag.
        """
        return f"<{name}-{self.mark}>"

    def inline(self, name: str, text: str) -> str:
        """Return a text between two tags, within a line.

        Args:
            name: What stands inside the tags.
            text: The text, on one line.
        """
        return f"<{name}-{self.mark}>{text}</{name}-{self.mark}>"

    def block(self, name: str, excerpt: Excerpt) -> str:
        """Return an excerpt between two tags, each on a line of its own, with its labels in the first one.

        Args:
            name: What stands inside the tags.
            excerpt: The excerpt; its text stays as it is.
        """
        labels = "".join(f' {label}="{_escape(value)}"' for label, value in excerpt.labels.items())
        return f"<{name}-{self.mark}{labels}>\n{excerpt.text}\n</{name}-{self.mark}>"


def one_line(text: str) -> str:
    """Return a text on one line, without invisible characters, and with an ellipsis in its middle if it is long.

    Args:
        text: The text, as a document or a model has written it.
    """
    visible = "".join(" " if _is_invisible(character) else character for character in text)
    line = " ".join(visible.split())
    if len(line) <= _MAX_LENGTH:
        return line
    return f"{line[: _MAX_LENGTH - _KEPT_END - 1]}…{line[-_KEPT_END:]}"


def _is_invisible(character: str) -> bool:
    """Return whether a character ends a line, controls something, or cannot be seen."""
    return character not in _JOINERS and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _escape(value: str) -> str:
    """Return the value of a label so that it ends neither its quotes nor its tag."""
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
