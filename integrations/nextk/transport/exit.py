"""The end of the process: stop the resumable queries that are still open on servers."""

import asyncio
import atexit
import contextlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from nextk.errors import ClientError
from nextk.operations import Operation
from nextk.transport import CLOSE_TIMEOUT
from nextk.transport.connections import Route
from nextk.transport.deadlines import Deadline
from nextk.transport.encoding import encode
from nextk.transport.exchange import areceived, request_of
from nextk.transport.orphans import Orphans, orphan_all
from nextk.transport.replies import HttpReply

log = logging.getLogger("nextk.transport")

T = TypeVar("T")

_MAX_STOPS = 8  # requests to one server at a time when the process ends
_ROUNDS = 3  # in which queries are stopped that daemon threads have opened in the meantime
_watched_pid = 0  # the process of multiprocessing whose end we watch


@atexit.register
def _stop_queries_at_exit() -> None:
    """Stop all queries that are still open, as far as `CLOSE_TIMEOUT` for all of them together allows.

    The look-up of a server's name is not bounded by that, since it blocks and a process that ends can start no thread.
    """
    deadline = time.monotonic() + CLOSE_TIMEOUT
    for _ in range(_ROUNDS):
        orphan_all()
        queues = list(Orphans.waiting.values())
        if not queues:
            return
        try:
            _stop_together(queues, deadline)
        except Exception as error:  # the end of a process is no place for a traceback
            log.info("queries cannot be stopped at the end of the process: %r", error)
    for queue in list(Orphans.waiting.values()):
        if queue:
            queue.abandon("the process ends")


def _stop_together(queues: list[Orphans], deadline: float) -> None:
    """Empty some queues in an event loop of its own: a process that ends can start no thread.

    All servers are asked at the same time, so that a silent one takes no time from the others. An interruption by the
    keyboard ends it at once.
    """
    loop = asyncio.SelectorEventLoop()
    # An interrupted connection fails in callbacks, too, and the end of a process is no place for a traceback.
    loop.set_exception_handler(lambda _, context: log.info("a query cannot be stopped: %s", context.get("message")))
    try:
        loop.set_default_executor(_InlineExecutor())
        stopping = loop.create_task(_stop_all(queues, deadline))
        try:
            loop.run_until_complete(stopping)
        except KeyboardInterrupt:
            warnings.simplefilter("ignore", ResourceWarning)  # of a connection that was just being made
            stopping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(stopping)
    finally:
        loop.close()


async def _stop_all(queues: list[Orphans], deadline: float) -> None:
    """Empty some queues at the same time, and give up at the deadline."""
    tasks = [asyncio.create_task(_empty(queue, deadline)) for queue in queues]
    try:
        await asyncio.wait(tasks, timeout=deadline - time.monotonic())
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _empty(queue: Orphans, deadline: float) -> None:
    """Stop the queries of one server: the first one alone, and those after it together once the server has answered."""
    try:
        client = Route(queue.server.url).aopen()
    except ClientError as error:  # the environment has changed
        queue.abandon(error)
        return
    async with client:

        async def send(operation: Operation[None]) -> HttpReply:
            left = Deadline(max(deadline - time.monotonic(), 0.001))
            request = request_of(queue.server, client, operation, encode(operation), left)
            return await areceived(await client.send(request, stream=True))

        await queue.astop_first(send, deadline)
        await asyncio.gather(*(queue.adrain(send, deadline) for _ in range(min(len(queue), _MAX_STOPS))))


class _InlineExecutor(ThreadPoolExecutor):
    """Runs a function at once, in the thread that submits it: an event loop looks up the names of hosts that way."""

    def submit(self, function: Callable[..., T], /, *arguments: Any, **options: Any) -> "Future[T]":
        done: Future[T] = Future()
        done.set_result(function(*arguments, **options))  # an error reaches the coroutine that waits for the answer
        return done


def stop_queries_of_worker() -> None:
    """Have the queries stopped at the end of a process of `multiprocessing`, which calls no function of `atexit`."""
    global _watched_pid  # noqa: PLW0603 - once for each process
    if _watched_pid == os.getpid() or "multiprocessing.util" not in sys.modules:  # it is loaded in such a process
        return
    from multiprocessing import parent_process, util

    _watched_pid = os.getpid()
    if parent_process() is not None:
        util.Finalize(None, _stop_queries_at_exit, exitpriority=0)
