"""What the commands print: tables and lines on a terminal, JSON lines for programs. Needs rich."""

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
"""Characters of a text that are shown at the most."""

WIDE = 100
"""Columns of a terminal that has room for texts beside their ids."""

_RULE = re.compile(r"^[ \t]*([=\-~^*])\1{2,}[ \t]*$", re.MULTILINE)  # what underlines a heading


class Screen(Console):
    """Standard output. Texts are shown as they are: brackets and numbers in them mean nothing."""

    def __init__(self) -> None:
        super().__init__(markup=False, highlight=False, emoji=False, soft_wrap=False)

    def on_broken_pipe(self) -> None:
        """Leave it to `main`, which knows how a command ends."""
        raise BrokenPipeError

    def say(self, *parts: str | tuple[str, str]) -> None:
        """Print one line of text; a pair is a text and its style. Too long a line is wrapped between words."""
        for line in Text.assemble(*parts).wrap(self, self.width) or [Text()]:
            self._line(line)

    def copyable(self, command: str, meaning: str = "") -> None:
        """Print a command on a line of its own that nothing breaks, and below it what it does."""
        self.print(Text(command), soft_wrap=True)
        if meaning:
            self.say((f"  {meaning}", "dim"))

    def show(self, table: Table) -> None:
        """Print a table without blanks at the ends of its lines."""
        for segments in self.render_lines(table, pad=False):
            self._line(Text.assemble(*((segment.text, segment.style or "") for segment in segments)))

    def _line(self, line: Text) -> None:
        line.rstrip()
        self.print(line, soft_wrap=True)


def progress() -> Progress:
    """A progress bar on standard error, gone when it is done, so that standard output stays clean."""
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
    """An empty table without frames, whose cells are cut rather than wrapped.

    Args:
        names: The headings.
        right: Those of them whose cells are aligned to the right.
        filling: The one whose cells are cut where the width does not do.
        widest: How wide others become at the most, in characters.
    """
    table = Table(box=None, pad_edge=False, header_style="dim", expand=bool(filling), padding=(0, 2, 0, 0))
    for name in names:
        justify: Literal["left", "right"] = "right" if name in right else "left"
        ratio, most = (1 if name == filling else None), (widest or {}).get(name)
        table.add_column(name, justify=justify, no_wrap=True, overflow="ellipsis", ratio=ratio, max_width=most)
    return table


def cell(text: str, style: str = "") -> Text:
    """A text as a cell of a table."""
    return Text(one_line(text), style)


def pull_labels(pull: int, size: int) -> list[str]:
    """What stands beside the rows of the first pull (0) or a later one: its size, once."""
    return [f"next {size}" if pull else f"top {size}", *[""] * (size - 1)] if size else []


def name(id_: str, title: str) -> str:
    """Id and title; one of them where it says the other."""
    return id_ if not title or title in id_ else f"{id_}: {title}"


def body(text: str, title: str) -> str:
    """A passage's text less its title, which stands in front of it and is shown already."""
    return text.removeprefix(title) if title else text


def excerpt(text: str, width: int, lines: int) -> str:
    """The beginning of a text on a few lines of a width."""
    return "\n".join(textwrap.wrap(one_line(text), width, max_lines=lines, placeholder="…"))


def one_line(text: str) -> str:
    """The beginning of a text with every run of blanks as one, without rules, and without what controls a terminal."""
    unruled = _RULE.sub("", text[: 2 * SNIPPET])
    visible = "".join(char for char in unruled if char.isprintable() or char.isspace())
    return " ".join(visible.split())[:SNIPPET]


def short_path(path: Path) -> str:
    """A path as the user would write it."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(path)


def print_json(value: Mapping[str, Any]) -> None:
    """Print one line of JSON; ASCII, so that it survives any terminal and pipe."""
    sys.stdout.write(json.dumps(value) + "\n")
