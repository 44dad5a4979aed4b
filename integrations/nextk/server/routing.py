"""Read from the path of a request which index and which command it is for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote

from nextk.dispatch import COMMANDS

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
"""The methods that every command accepts, since the clients in use do not agree on one."""

BACKUP = "backup"
"""The path of an index at which the server sends a copy of it; no command of the protocol."""

UNKNOWN = "unknown"
"""The name in logs and metrics for an index or a command that does not exist, instead of the client's own words."""


@dataclass(frozen=True, slots=True)
class RequestTarget:
    """The index and the command that a request is for.

    Attributes:
        index: The name of the index, or `None` for the index at the root. Bytes that are no UTF-8 are in it as lone
            surrogates, so that it is like no other name.
        rest: The part of the target that `dispatch` reads: `command[/namespace][?flags]`, still percent-encoded.
    """

    index: str | None
    rest: str

    @classmethod
    def parse(cls, target: str) -> Self:
        """Parse a request target, `/command...` or `/indexes/NAME/command...`, which may begin with several slashes."""
        rest = target.lstrip("/")
        if not rest.startswith("indexes/"):
            return cls(None, rest)
        path, mark, flags = rest.removeprefix("indexes/").partition("?")
        name, _, command = path.lstrip("/").partition("/")
        return cls(unquote(name, errors="surrogateescape"), command.lstrip("/") + mark + flags)

    @property
    def command(self) -> str:
        """The name of the command for logs and metrics, or `UNKNOWN` if there is no such command."""
        name = self.rest.partition("?")[0].partition("/")[0]
        return name if name in COMMANDS or self.is_backup else UNKNOWN

    @property
    def methods(self) -> Sequence[str]:
        """The methods that the path answers."""
        return ("GET",) if self.is_backup else METHODS

    @property
    def is_backup(self) -> bool:
        """Whether the request is for a backup of the index."""
        return self.rest.partition("?")[0] == BACKUP
