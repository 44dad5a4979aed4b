"""Stop a search that was detached and that nobody is going to continue."""

from nextk.client import Index
from nextk.handle import AsyncResumableQueryHandle
from nextk.retrieval.budget import budget_of
from nextk.retrieval.cursor import Cursor


async def stop_parked(index: Index, cursor: Cursor) -> None:
    """Stop the query that is parked for a cursor, if there still is one in this process.

    Args:
        index: The index that is searched.
        cursor: From `detach()`.
    """
    carrier = index._carrier  # noqa: SLF001 - what it holds open
    parked = budget_of(carrier).claim(cursor["digest"])
    if parked is not None:
        try:
            await AsyncResumableQueryHandle(carrier, parked.uuid).__aexit__(None, None, None)
        finally:
            parked.permit.release()
