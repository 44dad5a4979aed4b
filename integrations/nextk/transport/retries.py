"""What became of an operation, and what follows: an answer, a repeat, or an error. Decisions only, no I/O.

| what happened                                | start, fetch_next        | stop, and everything else          |
| -------------------------------------------- | ------------------------ | ---------------------------------- |
| the connection was never made                | repeat                   | repeat                             |
| 429                                          | repeat                   | repeat                             |
| a JSON refusal below 500                     | its error                | its error                          |
| a JSON refusal from 500 on                   | `PageUncertain`          | its error                          |
| the connection broke, or timed out           | `PageUncertain`          | repeat                             |
| the answer is not JSON (a gateway's page)    | `PageUncertain`          | repeat                             |
| a result under a status from 400 on          | as a refusal             | below 500 its error, else repeat   |
| the answer is JSON of another shape          | `PageUncertain`          | `TransportError`                   |
| "no such query" for a repeated stop          |                          | success: an earlier one got through |
"""

import json
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from nextk.errors import (
    AuthenticationError,
    ClientError,
    NextKError,
    PageUncertain,
    QueryNotFound,
    RefusedError,
    TooManyQueries,
    TransportError,
)
from nextk.operations import Operation, Repeat
from nextk.types import SupportsToList

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What the operation was sent for."""

    value: T


class Attempts(Generic[T]):
    """The attempts at one operation.

    Args:
        operation: What is being sent.
        retries: How often it may be sent again.
    """

    def __init__(self, operation: Operation[T], retries: int) -> None:
        self._operation = operation
        self._left = max(0, retries)
        self._sent_before = False

    def no_reply(self, error: Exception, *, sent: bool, where: str = "this process") -> None:
        """No reply arrived: return to try again.

        Args:
            error: What went wrong.
            sent: Whether the server may have seen the request.
            where: Where it went, for the error.

        Raises:
            PageUncertain: The page's fate is unknown.
            TransportError: There were attempts enough.
        """
        text = f"{self._operation.command} at {where}: {type(error).__name__}: {error}"
        if sent and self._operation.repeat is Repeat.UNLESS_SENT:
            raise _uncertain(text) from error
        hint = "" if sent else ". Is the server running, and the URL right?"
        self._spend(TransportError(text + hint), error)
        self._sent_before |= sent

    def reply(self, status: int, body: bytes) -> Answer[T] | None:
        """A reply arrived: its answer, or `None` to try again.

        Raises:
            RefusedError: The server refused.
            PageUncertain: The page's fate is unknown.
            TransportError: The reply is unusable, and there were attempts enough.
        """
        envelope = _object(body)
        text = _reason(envelope, status)
        if status == 429:
            self._spend(_refusal(self._operation, status, text), None)
            return None
        refused = envelope is not None and ("error" in envelope or 400 <= status < 500)
        if self._operation.repeat is Repeat.UNLESS_SENT and status >= 500:
            raise _uncertain(f"{self._operation.command}: status {status}, {text}")
        if refused:
            return self._refused(_refusal(self._operation, status, text))
        if envelope is not None and "result" in envelope and status < 400:
            return Answer(self._parse(envelope["result"]))
        if self._operation.repeat is Repeat.UNLESS_SENT:
            raise _uncertain(f"{self._operation.command}: status {status}, {text}")
        self._spend(TransportError(f"{self._operation.command}: status {status}, not a JSON envelope"), None)
        self._sent_before = True
        return None

    def _refused(self, error: RefusedError) -> Answer[T] | None:
        if isinstance(error, QueryNotFound) and self._operation.repeat is Repeat.STOP and self._sent_before:
            return Answer(self._operation.parse(None))
        raise error

    def _parse(self, result: Any) -> T:
        try:
            return self._operation.parse(result)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            text = f"{self._operation.command}: the reply is not of the documented shape: {error}"
            if self._operation.repeat is Repeat.UNLESS_SENT:
                raise _uncertain(text) from error
            raise TransportError(text) from error

    def _spend(self, final: NextKError, cause: Exception | None) -> None:
        if not self._left:
            raise final from cause
        self._left -= 1


def encode(operation: Operation[Any]) -> bytes:
    """The body as JSON.

    Raises:
        ClientError: It holds what JSON has no word for (NaN, infinity, or an object of another kind), or is nested too
            deeply.
    """
    if operation.body is None:
        return b""
    try:
        text = json.dumps(operation.body, allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_plain)
        return text.encode()
    except (ValueError, TypeError, RecursionError) as error:
        message = f"{operation.command}: the request cannot be written as JSON: {error}"
        raise ClientError(message) from error


def _plain(value: object) -> object:
    """A number or an array of a numeric library, as the standard library's."""
    if isinstance(value, SupportsToList):
        return value.tolist()
    message = f"{value!r} of type {type(value).__name__} is no JSON"
    raise TypeError(message)


def _object(body: bytes) -> dict[str, Any] | None:
    """The reply as a JSON object, or `None` if something else came in its place."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _reason(envelope: dict[str, Any] | None, status: int) -> str:
    """What the reply says went wrong; a proxy has other words for it than the server."""
    for key in ("error", "detail", "message"):
        if envelope and key in envelope:
            return str(envelope[key])
    return f"HTTP status {status} without a reason"


def _uncertain(text: str) -> PageUncertain:
    return PageUncertain(f"{text}. The server may have advanced: stop this query and start anew, or use a session")


def _refusal(operation: Operation[Any], status: int, text: str) -> RefusedError:
    """The error that says best what the server's refusal means."""
    lower = text.lower()
    if status == 401 or lower.startswith(("unauthorized", "forbidden")):
        return AuthenticationError(text, status)
    if operation.continues and (status == 404 or "does not exist" in lower or "not found" in lower):
        return QueryNotFound(f"{text}. It was stopped, or idle for longer than its max_idle", status)
    if operation.starts and (status == 429 or "active resumable" in lower):
        return TooManyQueries(f"{text}. Stop queries that are no longer needed, or let them expire", status)
    return RefusedError(text, status)
