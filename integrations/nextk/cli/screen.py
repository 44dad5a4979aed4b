"""The output of the commands: tables and lines for a terminal, and JSON lines for programs. Needs rich."""

import json
import re
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

SNIPPET = 240
"""The largest number of characters of a text that are shown."""

WIDE = 100
"""The width, in columns, from which a terminal has room for texts beside their ids."""

_RULE = re.compile(r"^[ \t]*([=\-~^*])\1{2,}[ \t]*$", re.MULTILINE)  # what underlines a heading


class Screen(Console):
    """Standard output. Texts are shown as they are: rich reads no markup, numbers or emoji in them."""

    def __init__(self) -> None:
        super().__init__(markup=False, highlight=False, emoji=False, soft_wrap=False)

    def on_broken_pipe(self) -> None:
        """Raise `BrokenPipeError` for `main` to handle, where rich would exit by itself."""
        raise BrokenPipeError

    def say(self, *parts: str | tuple[str, str]) -> None:
        """Print one line of text, wrapped between words if it is too long.

        Args:
            parts: The parts of the line, each a text, or a pair of a text and its style.
        """
        for line in Text.assemble(*parts).wrap(self, self.width) or [Text()]:
            self._line(line)

    def copyable(self, command: str, meaning: str = "") -> None:
        """Print a command on a line of its own that is never wrapped, and its meaning on the line below."""
        self.print(Text(command), soft_wrap=True)
        if meaning:
            self.say((f"  {meaning}", "dim"))

    def show(self, table: Table) -> None:
        """Print a table without spaces at the ends of its lines."""
        for segments in self.render_lines(table, pad=False):
            self._line(Text.assemble(*((segment.text, segment.style or "") for segment in segments)))

    def _line(self, line: Text) -> None:
        line.rstrip()
        self.print(line, soft_wrap=True)


def progress() -> Progress:
    """Return a progress bar on standard error that disappears when it is done, so that standard output stays clean."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def columns(
    *names: str, right: tuple[str, ...] = (), filling: str = "", widest: Mapping[str, int] | None = None
) -> Table:
    """Return an empty table without frames, whose cells are cut rather than wrapped.

    Args:
        names: The headings.
        right: The headings of the columns that are aligned to the right.
        filling: The heading of the column that takes the remaining width, and is cut if that does not suffice.
        widest: The largest width of other columns in characters, by heading.
    """
    table = Table(box=None, pad_edge=False, header_style="dim", expand=bool(filling), padding=(0, 2, 0, 0))
    for name in names:
        justify: Literal["left", "right"] = "right" if name in right else "left"
        ratio, max_width = (1 if name == filling else None), (widest or {}).get(name)
        table.add_column(name, justify=justify, no_wrap=True, overflow="ellipsis", ratio=ratio, max_width=max_width)
    return table


def cell(text: str, style: str = "") -> Text:
    """Return a text as a cell of a table, on one line."""
    return Text(one_line(text), style)


def pull_labels(pull: int, size: int) -> list[str]:
    """Return one label per row of a pull: its size beside the first row, and nothing beside the others.

    Args:
        pull: The number of the pull; 0 is the first one.
        size: The number of rows of the pull.
    """
    return [f"next {size}" if pull else f"top {size}", *[""] * (size - 1)] if size else []


def name(id_: str, title: str) -> str:
    """Return id and title as one name, or the id alone if the title is in it already."""
    return id_ if not title or title in id_ else f"{id_}: {title}"


def body(text: str, title: str) -> str:
    """Return the text of a passage without the title at its beginning, which is shown beside it."""
    return text.removeprefix(title) if title else text


def excerpt(text: str, width: int, lines: int) -> str:
    """Return the beginning of a text, wrapped to at most `lines` lines of `width` characters."""
    return "\n".join(textwrap.wrap(one_line(text), width, max_lines=lines, placeholder="…"))


def one_line(text: str) -> str:
    """Return the beginning of a text on one line, without underlines of headings and control characters."""
    unruled = _RULE.sub("", text[: 2 * SNIPPET])
    visible = "".join(char for char in unruled if char.isprintable() or char.isspace())
    return " ".join(visible.split())[:SNIPPET]


def short_path(path: Path) -> str:
    """Return a path with `~` for the user's home folder."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(path)


def print_json(value: Mapping[str, Any]) -> None:
    """Print one line of JSON in ASCII, which every terminal and pipe can carry."""
    sys.stdout.write(json.dumps(value) + "\n")
