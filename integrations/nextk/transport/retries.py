"""Decide what follows from an attempt at an operation: an answer, another attempt, or an error. No I/O happens here.

| what happened                              | start, fetch_next | the same, numbered     | everything else         |
| ------------------------------------------ | ----------------- | ---------------------- | ----------------------- |
| the connection was never made              | repeat            | repeat                 | repeat                  |
| 429                                        | repeat            | repeat                 | repeat                  |
| 409                                        | its error         | page: `PageUncertain`, | its error               |
|                                            |                   | start: its error       |                         |
| any other JSON refusal below 500           | its error         | its error              | its error               |
| a JSON refusal from 500 on                 | `PageUncertain`   | repeat                 | its error               |
| the connection broke, or timed out         | `PageUncertain`   | repeat                 | repeat                  |
| the answer is not JSON (a gateway's page)  | `PageUncertain`   | repeat                 | repeat                  |
| a redirect                                 | `PageUncertain`   | repeat                 | repeat                  |
| a result under a status from 400 on        | as a refusal      | below 500 its error,   | below 500 its error,    |
|                                            |                   | else repeat            | else repeat             |
| the answer is JSON of another shape        | `PageUncertain`   | `TransportError`       | `TransportError`        |
| the answer has more than `MAX_REPLY` bytes | `PageUncertain`   | `TransportError`       | `TransportError`        |
| a repeat brings a page without a number    |                   | `PageUncertain`        |                         |
| "no such query" for a repeated stop        |                   |                        | success: an earlier one |
|                                            |                   |                        | got through             |

Numbered operations are those whose repeat is `Repeat.NUMBERED`; `nextk.transport.numbering` says what they are. When no
attempt is left, a refusal becomes its error, and anything else a `TransportError`. An operation that is not `patient`
has one attempt.

The pause before a repeat is `retry_interval` at first and then doubles, up to a minute. Each pause is shortened at
random, by half at the most, so that clients that failed together do not come back together. After a 429 or a 503, it is
at least what the server's `Retry-After` asks for, up to a minute, too; the error that such a reply ends in says so by
its `retry_after`.
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
from nextk.operations import Operation, Page, Repeat

T = TypeVar("T")


MAX_REASON = 10_000
"""Characters of a server's reason that the text of an error shows at the most."""

_REDIRECT = "a redirect, which is not followed, since the token would go with it. Pass the URL that it leads to"

MAX_PAUSE = 60.0
"""Seconds that a pause between two attempts lasts at the most, unless `retry_interval` itself is longer."""

_MAY_ASK = (429, 503)  # the statuses whose `Retry-After` is honoured


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
        retries: How often it may be sent again, if it is patient.
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
        self._left = max(0, retries) if operation.patient else 0
        self._interval = interval
        self._chance = chance
        self._repeats = 0
        self._sent_before = False

    def no_reply(
        self,
        error: Exception,
        reason: str | None = None,
        *,
        sent: bool,
        where: str = "this process",
        timed_out: bool = False,
    ) -> None:
        """Take note that no reply arrived. If this returns, the operation is to be sent again after `pause` seconds.

        Args:
            error: The failure.
            reason: What has failed, for the error's text; `None` for the type and the text of `error`.
            sent: Whether the server may have seen the request.
            where: Where the request went, for the error's text. Default "this process".
            timed_out: Whether the reply did not come in time, so that the request may still be on its way. Default
                `False`.

        Raises:
            PageUncertain: The server may have advanced, so the operation must not be sent again.
            TransportError: No attempts are left.
        """
        text = f"{self._operation.command} at {where}: {reason or f'{type(error).__name__}: {error}'}"
        if sent and self._operation.repeat is Repeat.UNLESS_SENT:
            uncertain = _uncertain(text)
            uncertain.may_be_on_its_way = timed_out
            raise uncertain from error
        hint = "" if sent else ". Is the server running, and the URL right?"
        final = TransportError(text + hint)
        self._sent_before |= sent
        final.sent = self._sent_before
        self._spend(final, error)

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
        asked = _seconds(retry_after, time.time()) if status in _MAY_ASK else None
        try:
            answer = self._read(status, envelope)
        except NextKError as error:
            error.retry_after = asked
            raise
        if answer is None and self._operation.repeat is not Repeat.STOP:
            self.pause = max(self.pause, asked or 0.0)
        return answer

    def _read(self, status: int, envelope: dict[str, Any] | None) -> Answer[T] | None:
        if envelope is not None and 200 <= status < 300 and "result" in envelope and "error" not in envelope:
            return Answer(self._parse(envelope["result"]))
        text, repeat = _reason(envelope, status), self._operation.repeat
        if status == 429:
            self._spend(self._refusal(status, text), None)
            return None
        if repeat is Repeat.UNLESS_SENT and status >= 500:
            raise _uncertain(f"{self._operation.command}: status {status}, {text}")
        if envelope is not None and ("error" in envelope or 400 <= status < 500):
            return self._refused(self._refusal(status, text))
        if repeat is Repeat.UNLESS_SENT:
            raise _uncertain(f"{self._operation.command}: status {status}, {text}")
        missing = _REDIRECT if 300 <= status < 400 else "not a JSON envelope"
        self._sent_before = True
        self._spend(TransportError(f"{self._operation.command}: status {status}, {missing}"), None)
        return None

    def _refused(self, error: RefusedError) -> Answer[T] | None:
        """Decide what follows from a refusal of the index itself, other than that there are too many requests."""
        repeat = self._operation.repeat
        if isinstance(error, QueryNotFound) and repeat is Repeat.STOP and self._sent_before:
            return Answer(self._operation.parse(None))
        if repeat is Repeat.NUMBERED and error.status >= 500:
            self._sent_before = True
            self._spend(error, None)
            return None
        if repeat is Repeat.NUMBERED and error.status == 409 and self._operation.continues:
            message = f"{error}. Somebody else has advanced this query: stop it and start anew, or use a session"
            raise PageUncertain(message) from error
        raise error

    def _refusal(self, status: int, text: str) -> RefusedError:
        error = _refusal(self._operation, status, text)
        error.after_loss = self._sent_before
        return error

    def _parse(self, result: Any) -> T:
        try:
            value = self._operation.parse(result)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            text = f"{self._operation.command}: the reply is not of the documented shape: {error}"
            self._give_up(text, error)
        if self._sent_before and isinstance(value, Page):
            require_number(value)
        return value

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


def require_number(page: Page) -> None:
    """Require that the reply to a repeated request for a page is the page of that number.

    Args:
        page: The reply.

    Raises:
        PageUncertain: The server has ignored the number. If it had served the page before, this is the one after it.
    """
    if not page.numbered:
        message = "a lost page was requested again by its number, and another server has answered, which ignores it"
        raise _uncertain(message)


def may_have_arrived(error: BaseException) -> bool:
    """Return whether the server may have done what a request asked for, although the request has failed.

    Args:
        error: What `Transport.send` has raised, for a start or for a page.
    """
    if isinstance(error, TransportError):
        return error.sent
    if isinstance(error, RefusedError):
        return error.after_loss or error.status >= 500
    return not isinstance(error, NextKError)  # interrupted on its way


def _seconds(retry_after: str | None, now: float) -> float | None:
    """Return the seconds that a `Retry-After` header asks for, `MAX_PAUSE` at the most.

    Returns:
        The seconds, or `None` if there is no header, or none that can be read.
    """
    text = (retry_after or "").strip()
    try:
        asked = float(text) if text.isascii() and text.isdecimal() else parsedate_to_datetime(text).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, asked), MAX_PAUSE)


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
    if operation.own_uuid is not None and status == 404 and lower.startswith("resumable query"):
        return QueryNotFound(f"{text}. It was stopped before its start was repeated", status)
    if operation.starts and (status == 429 or "active resumable" in lower):
        return TooManyQueries(f"{text}. Stop queries that are no longer needed, or let them expire", status)
    return RefusedError(text, status)
