"""Whether anybody still waits for the call that runs in a thread, so that long work on it can be given up."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

from nextk.errors import RefusedError

__all__ = ["GivenUp", "abandonable", "is_abandoned", "require_wanted"]

T = TypeVar("T")


class GivenUp(RefusedError):
    """A call was given up, since nobody waits for it any more, or the server that makes it is being stopped."""


_is_abandoned: ContextVar[Callable[[], bool]] = ContextVar("is_abandoned", default=lambda: False)


def abandonable(abandoned: Callable[[], bool], call: Callable[[], T]) -> T:
    """Make a call that may be given up.

    Args:
        abandoned: Returns whether nobody waits for the result any more. It is called often, from this thread. If it
            raises an error, the call is given up because of that.
        call: The call.
    """
    token = _is_abandoned.set(abandoned)
    try:
        return call()
    finally:
        _is_abandoned.reset(token)


def is_abandoned() -> bool:
    """Return whether nobody waits for the call that runs in this thread any more."""
    return _is_abandoned.get()()


def require_wanted() -> None:
    """Raise `GivenUp` if nobody waits for the call that runs in this thread any more. The status is 503."""
    if is_abandoned():
        message = "The request was given up, because its caller does not wait for it any more"
        raise GivenUp(message, 503)
