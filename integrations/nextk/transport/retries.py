"""Decide what follows from an attempt at an operation: an answer, another attempt, or an error. No I/O happens here.

| what happened                                | start, fetch_next        | stop, and everything else          |
| -------------------------------------------- | ------------------------ | ---------------------------------- |
| the connection was never made                | repeat                   | repeat                             |
| 429                                          | repeat                   | repeat                             |
| a JSON refusal below 500                     | its error                | its error                          |
| a JSON refusal from 500 on                   | `PageUncertain`          | its error                          |
| the connection broke, or timed out           | `PageUncertain`          | repeat                             |
| the answer is not JSON (a gateway's page)    | `PageUncertain`          | repeat                             |
| a redirect                                   | `PageUncertain`          | repeat                             |
| a result under a status from 400 on          | as a refusal             | below 500 its error, else repeat   |
| the answer is JSON of another shape          | `PageUncertain`          | `TransportError`                   |
| the answer has more than `MAX_REPLY` bytes   | `PageUncertain`          | `TransportError`                   |
| "no such query" for a repeated stop          |                          | success: an earlier one got through |

The pause before a repeat is `retry_interval` at first and then doubles, up to a minute. Each pause is shortened at
random, by half at the most, so that clients that failed together do not come back together. After a 429, it is at least
what the server's `Retry-After` asks for, up to a minute, too.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Generic, NoReturn, TypeVar

from nextk.errors import (
    AuthenticationError,
    NextKError,
    PageUncertain,
    QueryNotFound,
    RefusedError,
    TooManyQueries,
    TransportError,
)
from nextk.operations import Operation, Repeat

T = TypeVar("T")


MAX_REASON = 10_000
"""Characters of a server's reason that the text of an error shows at the most."""

_REDIRECT = "a redirect, which is not followed, since the token would go with it. Pass the URL that it leads to"

MAX_PAUSE = 60.0
"""Seconds that a pause between two attempts lasts at the most, unless `retry_interval` itself is longer."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """The value that an operation was sent for.

    Attributes:
        value: What `Operation.parse` made of the reply.
    """

    value: T


class Attempts(Generic[T]):
    """The attempts at one operation: how many are left, and how long to wait before the next one.

    Args:
        operation: The operation that is being sent.
        retries: How often it may be sent again.
        interval: Seconds before the second attempt; the pauses double from there on. Default 0, for no pauses.
        chance: Returns a random number from 0 to 1 for each pause. Default `random.random`.

    Attributes:
        pause: Seconds to wait before the next attempt, once `reply` or `no_reply` has asked for one.
    """

    def __init__(
        self,
        operation: Operation[T],
        retries: int,
        interval: float = 0.0,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.pause = 0.0
        self._operation = operation
        self._left = max(0, retries)
        self._interval = interval
        self._chance = chance
        self._repeats = 0
        self._sent_before = False

    def no_reply(self, error: Exception, reason: str | None = None, *, sent: bool, where: str = "this process") -> None:
        """Take note that no reply arrived. If this returns, the operation is to be sent again after `pause` seconds.

        Args:
            error: The failure.
            reason: What has failed, for the error's text; `None` for the type and the text of `error`.
            sent: Whether the server may have seen the request.
            where: Where the request went, for the error's text. Default "this process".

        Raises:
            PageUncertain: The server may have advanced, so the operation must not be sent again.
            TransportError: No attempts are left.
        """
        text = f"{self._operation.command} at {where}: {reason or f'{type(error).__name__}: {error}'}"
        if sent and self._operation.repeat is Repeat.UNLESS_SENT:
            raise _uncertain(text) from error
        hint = "" if sent else ". Is the server running, and the URL right?"
        self._spend(TransportError(text + hint), error)
        self._sent_before |= sent

    def no_use(self, error: Exception) -> NoReturn:
        """Take note that a reply arrived which cannot be read, and which would not be another one the next time.

        Args:
            error: Why it cannot be read.

        Raises:
            PageUncertain: The server may have advanced.
            TransportError: The operation is none that advances the server.
        """
        self._give_up(f"{self._operation.command}: {error}", error)

    def reply(
        self, status: int, envelope: dict[str, Any] | None, *, retry_after: str | None = None
    ) -> Answer[T] | None:
        """Read a reply.

        Args:
            status: Its HTTP status.
            envelope: Its JSON object; `None` if the body is anything else.
            retry_after: Its header `Retry-After`, in seconds or as a date of HTTP. Default `None`, for none.

        Returns:
            The answer, or `None` if the operation is to be sent again after `pause` seconds.

        Raises:
            RefusedError: The server refused.
            PageUncertain: The server may have advanced without a usable reply.
            TransportError: The reply is unusable, and no attempts are left.
        """
        text = _reason(envelope, status)
        if status == 429:
            self._spend(_refusal(self._operation, status, text), None)
            if self._operation.repeat is not Repeat.STOP:
                self.pause = max(self.pause, min(_seconds(retry_after, time.time()), MAX_PAUSE))
            return None
        refused = envelope is not None and ("error" in envelope or 400 <= status < 500)
        if self._operation.repeat is Repeat.UNLESS_SENT and status >= 500:
            raise _uncertain(f"{self._operation.command}: status {status}, {text}")
        if refused:
            return self._refused(_refusal(self._operation, status, text))
        if envelope is not None and "result" in envelope and 200 <= status < 300:
            return Answer(self._parse(envelope["result"]))
        if self._operation.repeat is Repeat.UNLESS_SENT:
            raise _uncertain(f"{self._operation.command}: status {status}, {text}")
        missing = _REDIRECT if 300 <= status < 400 else "not a JSON envelope"
        self._spend(TransportError(f"{self._operation.command}: status {status}, {missing}"), None)
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
            self._give_up(text, error)

    def _give_up(self, text: str, cause: Exception) -> NoReturn:
        """Raise the error for a reply that a repeat would not improve."""
        kind = _uncertain(text) if self._operation.repeat is Repeat.UNLESS_SENT else TransportError(text)
        raise kind from cause

    def _spend(self, final: NextKError, cause: Exception | None) -> None:
        if not self._left:
            raise final from cause
        self._left -= 1
        # The end of a query must not hold up whoever leaves a `with` block, so its pauses do not grow.
        repeats = 0 if self._operation.repeat is Repeat.STOP else self._repeats
        self.pause = pause_before(repeats, self._interval, self._chance())
        self._repeats += 1


def pause_before(repeat: int, interval: float, chance: float) -> float:
    """Return the seconds to wait before an attempt is repeated.

    Args:
        repeat: How many repeats there were before this one.
        interval: The longest pause before the first repeat, in seconds. Each repeat doubles it, up to `MAX_PAUSE`.
        chance: A number from 0 to 1; 0 gives half of the longest pause, 1 the whole of it.
    """
    longest: float = max(interval, min(interval * 2 ** min(repeat, 32), MAX_PAUSE))
    return longest * (1 + chance) / 2


def _seconds(retry_after: str | None, now: float) -> float:
    """Return the seconds that a `Retry-After` header asks for; 0 if there is none, or none that can be read."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return 0.0


def _reason(envelope: dict[str, Any] | None, status: int) -> str:
    """Return what the reply says went wrong; a proxy has other words for it than the server."""
    for key in ("error", "detail", "message"):
        if envelope and key in envelope:
            return _shown(envelope[key])
    return _REDIRECT if 300 <= status < 400 else f"HTTP status {status} without a reason"


def _shown(reason: object) -> str:
    """Return a reason as text: it may be as long as a whole reply, or nested more deeply than can be written."""
    try:
        text = str(reason)
    except RecursionError:
        return "the reason is nested too deeply to be shown"
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}..."


def _uncertain(text: str) -> PageUncertain:
    return PageUncertain(f"{text}. The server may have advanced: stop this query and start anew, or use a session")


def _refusal(operation: Operation[Any], status: int, text: str) -> RefusedError:
    """Return the error whose class and text fit the server's refusal."""
    lower = text.lower()
    if status == 401 or lower.startswith(("unauthorized", "forbidden")):
        return AuthenticationError(text, status)
    if operation.continues and (status == 404 or "does not exist" in lower or "not found" in lower):
        return QueryNotFound(f"{text}. It was stopped, or idle for longer than its max_idle", status)
    if operation.starts and (status == 429 or "active resumable" in lower):
        return TooManyQueries(f"{text}. Stop queries that are no longer needed, or let them expire", status)
    return RefusedError(text, status)
