"""Stop a search that was detached and that nobody is going to continue."""

from nextk.client import Index
from nextk.handle import AsyncResumableQueryHandle
from nextk.sessions.cursor import Cursor
from nextk.sessions.pool import pool_of


async def stop_parked(index: Index, cursor: Cursor) -> None:
    """Stop the query that is parked for a cursor, if there still is one in this process.

    Args:
        index: The index that is searched.
        cursor: From `detach()`.
    """
    transport = index._transport  # noqa: SLF001 - what it holds open
    parked = pool_of(transport).claim(cursor["digest"])
    if parked is not None:
        try:
            await AsyncResumableQueryHandle(transport, parked.uuid).__aexit__(None, None, None)
        finally:
            parked.slot.release()
