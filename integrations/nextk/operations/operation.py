"""An operation: one request to an index, as plain values, and how its result is read."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import TypeAdapter

from nextk.arguments import written
from nextk.errors import ClientError

T = TypeVar("T")


class Repeat(Enum):
    """When an operation whose reply did not arrive may be sent again.

    `ALWAYS`: always, since to do it twice has the effect of doing it once.
    `UNLESS_SENT`: only if the server surely did not see it, since it opens or advances a resumable query.
    `NUMBERED`: always, and also when the server has failed: it gives the query that has the uuid of the start, or the
        page that has the number, again.
    `STOP`: always; the refusal "no such query" of a repeat means that an earlier attempt succeeded.
    """

    ALWAYS = "always"
    UNLESS_SENT = "unless sent"
    NUMBERED = "numbered"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """One request to an index.

    Attributes:
        path: Path and query string, percent-encoded, without a leading slash.
        body: The values of the body: an object, or a list of objects. Arrays and scalars of numpy are allowed. `None`
            for no body.
        parse: Turns the `result` of the reply into public types; raises `ValueError`, `TypeError` or `KeyError` if it
            is not of the documented shape.
        repeat: When the operation may be sent again.
        patient: Whether the transport sends it again and waits. `False` for one attempt only, whatever the transport
            was told: whoever sends the operation repeats it and waits.
        exact: Whether it has a query that wants exact order, which some servers do not know.
    """

    path: str
    body: Any
    parse: Callable[[Any], T]
    repeat: Repeat = Repeat.ALWAYS
    patient: bool = True
    exact: bool = False

    @property
    def command(self) -> str:
        """The first segment of the path."""
        return self.path.partition("?")[0].partition("/")[0]

    @property
    def starts(self) -> bool:
        """Whether the operation opens a resumable query, which stays open if its result is lost."""
        return self.command in ("resumable-query", "resumable-query-data")

    @property
    def continues(self) -> bool:
        """Whether the operation continues or stops a resumable query."""
        return self.command in ("resumable-query-next", "resumable-query-end")

    @property
    def own_uuid(self) -> str | None:
        """The uuid that the client has made for the query which this starts; `None` if there is none."""
        uuid = self.body.get("uuid") if self.starts else None
        return uuid if isinstance(uuid, str) else None


def target(command: str, namespace: str | None) -> str:
    """Return the path of a command in a namespace, percent-encoded segment by segment.

    Args:
        command: The command.
        namespace: The namespace; `None` or `""` for the default one.

    Raises:
        ClientError: The namespace is not text, or holds lone surrogates.
    """
    if namespace is None:
        return command
    try:
        segments = [quote(segment, safe="") for segment in str.split(namespace, "/")]
    except (UnicodeEncodeError, TypeError) as error:  # 0 and b"" must not mean the default namespace
        message = f"namespace={written(namespace)} is not text that can be sent"
        raise ClientError(message) from error
    if segments == [""]:
        return command
    # Dot segments would be folded away on the way; encoded they arrive.
    return "/".join([command, *(part.replace(".", "%2E") if set(part) == {"."} else part for part in segments)])


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """Return a function that reads a type from wire data; built once per type, when it is first needed."""
    return TypeAdapter(kind).validate_python


def reads(kind: Any) -> Callable[[Any], Any]:
    """Return a function that reads a type from the result of a reply.

    Args:
        kind: The type. What reads it is built when it is first needed.
    """

    def read(result: Any) -> Any:
        return _reader(kind)(result)

    return read


read_text: Callable[[Any], str] = reads(str)
"""Reads a text from the result of a reply."""


def read_nothing(_result: Any) -> None:
    """Leave the result of a reply unread."""
    return
