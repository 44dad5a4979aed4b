"""An event loop whose time jumps to the next thing that happens, and blocking code that runs in it.

Blocking code runs in a greenlet: where it would wait, it hands what it waits for to the task that runs it, so that many
blocking clients take turns in one thread.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future
from types import TracebackType
from typing import Any, TypeVar, TypeVarTuple

from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class SimulatedLoop(asyncio.BaseEventLoop):
    """An event loop without threads, sockets and real time. When nothing is ready, its time is that of the next timer.

    So whatever takes no time is finished before any time passes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._selector = _Selector(self)

    def time(self) -> float:
        """Return the seconds that have passed."""
        return self._now

    def pass_time(self, seconds: float) -> None:
        """Let time pass.

        Args:
            seconds: The number of seconds.
        """
        self._now += seconds

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> "asyncio.Future[T]":
        """Run a blocking function in a task of this loop instead of a thread."""
        return self.create_task(blocking(func, *args))

    def _process_events(self, event_list: list[Any]) -> None:
        """There are no events of sockets."""

    def _write_to_self(self) -> None:
        """No thread calls from outside."""


class _Selector:
    """Waits until a timer of the loop is due."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        assert timeout is not None, "every task waits, and nothing will ever happen"
        self._loop.pass_time(timeout)
        return []


class InlineExecutor(Executor):
    """Runs a function at once, in the thread that submits it.

    Args:
        count: How many functions may run at the same time, which says nothing here.
        name: The name of the threads that there would be.
    """

    def __init__(self, count: int, name: str) -> None:
        super().__init__()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        """Run a function, and return a future that is done."""
        done: Future[T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)
        return done


async def blocking(function: Callable[..., T], *arguments: Any) -> T:
    """Run blocking code. Each `wait` in it lets the other tasks go on.

    Args:
        function: The function.
        arguments: Its arguments.
    """
    code = greenlet(function)
    asked = code.switch(*arguments)
    while not code.dead:
        try:
            answer = await asked
        except asyncio.CancelledError:
            asked = _interrupted(code)
        except BaseException as error:
            asked = code.throw(error)
        else:
            asked = code.switch(answer)
    result: T = asked
    return result


def _interrupted(code: greenlet) -> Any:
    """Interrupt blocking code as the keyboard does, since its task is cancelled. Returns what it waits for next."""
    try:
        return code.throw(KeyboardInterrupt())
    except KeyboardInterrupt:
        raise asyncio.CancelledError from None


def wait(awaitable: Awaitable[T]) -> T:
    """Wait for something in blocking code that `blocking` runs.

    Args:
        awaitable: The awaitable to wait for.
    """
    parent = getcurrent().parent
    assert parent is not None, "blocking code of the simulation runs in `blocking`"
    result: T = parent.switch(awaitable)
    return result


def sleep(seconds: float) -> None:
    """Let seconds pass in blocking code that `blocking` runs.

    Args:
        seconds: The number of seconds.
    """
    wait(asyncio.sleep(seconds))


class Awaited:
    """A blocking object whose methods are awaited.

    Args:
        inner: The object.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        async def call(*arguments: Any) -> Any:
            return await blocking(found, *arguments)

        return call

    async def __aenter__(self) -> "Awaited":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await blocking(self._inner.__exit__, kind, error, traceback)
