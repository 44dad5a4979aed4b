"""What the commands print: tables and lines on a terminal, JSON lines for programs. Needs rich."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

SNIPPET = 200
"""Characters of a text that are shown at the most."""


class Screen(Console):
    """Standard output. Texts are shown as they are: brackets and numbers in them mean nothing."""

    def __init__(self) -> None:
        super().__init__(markup=False, highlight=False, emoji=False, soft_wrap=False)

    def on_broken_pipe(self) -> None:
        """Leave it to `main`, which knows how a command ends."""
        raise BrokenPipeError

    def say(self, *parts: str | tuple[str, str]) -> None:
        """Print one line of text; a pair is a text and its style. Too long a line is wrapped between words."""
        self.print(Text.assemble(*parts))


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


def columns(*names: str, right: tuple[str, ...] = (), ratio: Mapping[str, int] | None = None) -> Table:
    """An empty table without frames, whose rows are one line each.

    Args:
        names: The headings.
        right: Those of them whose cells are aligned to the right.
        ratio: How those of them that may be cut share the width that is left.
    """
    table = Table(box=None, pad_edge=False, header_style="dim", expand=ratio is not None, padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(
            name,
            justify="right" if name in right else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=(ratio or {}).get(name),
        )
    return table


def cell(text: str, style: str = "") -> Text:
    """A text as a cell of a table."""
    return Text(one_line(text), style)


def one_line(text: str) -> str:
    """The beginning of a text with every run of blanks as one; what could control the terminal is left out."""
    visible = "".join(char for char in text[: 2 * SNIPPET] if char.isprintable() or char.isspace())
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
