"""Which index and which command a request is for, read from its path. Pure."""

from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote

from nextk.dispatch import COMMANDS

UNKNOWN = "unknown"
"""Stands in logs and metrics for names that are not ours: the client's own words do not belong there."""


@dataclass(frozen=True, slots=True)
class RequestTarget:
    """Where a request goes.

    Attributes:
        index: The index it names, or `None` for the one at the root.
        rest: What follows, for `dispatch`: `command[/namespace][?flags]`, still percent-encoded.
    """

    index: str | None
    rest: str

    @classmethod
    def parse(cls, target: str) -> Self:
        """Take a request target apart: `/command...`, or `/indexes/NAME/command...`; leading slashes may be several."""
        rest = target.lstrip("/")
        if not rest.startswith("indexes/"):
            return cls(None, rest)
        path, mark, flags = rest.removeprefix("indexes/").partition("?")
        name, _, command = path.lstrip("/").partition("/")
        return cls(unquote(name), command.lstrip("/") + mark + flags)

    @property
    def command(self) -> str:
        """The command, for logs and metrics."""
        name = self.rest.partition("?")[0].partition("/")[0]
        return name if name in COMMANDS else UNKNOWN
