"""Effects: the calls that policies need, and how a generator of effects is driven in either colour. Private.

Code that decides does no I/O. It is a generator that yields effects; whoever drives it carries out each one, blocking
or awaiting, and sends the answer back in.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from nextk.errors import ClientError

E = TypeVar("E")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class CallCheck:
    """Call a policy's function with a list of results. The answer is what it returned, awaited if it is awaitable."""

    check: Callable[[list[Any]], Any]
    items: list[Any]


def call_check(check: Callable[[list[Any]], Any], items: list[Any], remedy: str) -> Any:
    """Call a policy's function in blocking code.

    Args:
        check: The function.
        items: The list that it is given.
        remedy: The asynchronous call to use for a function that has to be awaited, for the error.

    Returns:
        The answer of the function.

    Raises:
        ClientError: The function has to be awaited.
    """
    with _note_policy_error():
        answer = check(items)
        if inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            message = f"the check has to be awaited: give a blocking one, or {remedy}"
            raise ClientError(message)
        return answer


async def acall_check(check: Callable[[list[Any]], Any], items: list[Any]) -> Any:
    """Await a policy's function if it is a coroutine function, and call any other one on a thread.

    Args:
        check: The function.
        items: The list that it is given.

    Returns:
        The answer of the function, awaited if it is awaitable.
    """
    with _note_policy_error():
        if inspect.iscoroutinefunction(check):
            return await check(items)
        answer = await asyncio.to_thread(_call_on_thread, check, items)
        return await answer if inspect.isawaitable(answer) else answer


def _call_on_thread(check: Callable[[list[Any]], Any], items: list[Any]) -> Any:
    try:
        return check(items)
    except StopIteration as error:  # a future does not take it, and awaiting it would never end
        message = "the check raised StopIteration"
        raise RuntimeError(message) from error


@contextmanager
def _note_policy_error() -> Iterator[None]:
    """Add a note to an exception of a policy's function, which reaches the caller otherwise unchanged."""
    try:
        yield
    except Exception as error:
        error.add_note("raised by a policy's function, which is given a list of rows; the call has decided nothing")
        raise


def drive(effects: Generator[E, Any, R], carry_out: Callable[[E], Any]) -> R:
    """Run a generator of effects in blocking code.

    Args:
        effects: Yields effects; is sent the answer of each, or thrown the exception that carrying it out raised.
        carry_out: Carries out an effect and returns the answer.

    Returns:
        The result of the generator, which is closed whatever happens.
    """
    try:
        effect = next(effects)
        while True:
            try:
                answer = carry_out(effect)
            except Exception as error:
                effect = effects.throw(error)
            else:
                effect = effects.send(answer)
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        effects.close()


async def adrive(effects: Generator[E, Any, R], carry_out: Callable[[E], Awaitable[Any]]) -> R:
    """Run a generator of effects in an event loop.

    Args:
        effects: Yields effects; is sent the answer of each, or thrown the exception that carrying it out raised.
        carry_out: Carries out an effect; the answer is awaited.

    Returns:
        The result of the generator, which is closed whatever happens.
    """
    try:
        effect = next(effects)
        while True:
            try:
                answer = await carry_out(effect)
            except Exception as error:
                effect = effects.throw(error)
            else:
                effect = effects.send(answer)
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        effects.close()
