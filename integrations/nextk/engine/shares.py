"""Fair shares of the open queries of an index: who may open one more, and which query makes room for it.

A share is one kind of client in one namespace. No share holds more than half of the queries that may be open, so that
nobody can keep everybody else out. Where there is no room, a query that has been idle for a while is dropped; the
session that reads it notices, and goes on with a new query. This module only decides. It knows no lock and no clock.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

from nextk.errors import TooManyQueries

EVICTABLE_AFTER = 60.0
"""The idle seconds up to which a query is never dropped to make room for another one."""


class Share(NamedTuple):
    """The queries that are counted together.

    Attributes:
        owner: The kind of client. The engine compares it, and gives it no meaning.
        namespace: The namespace that is searched, by its name at the start.
    """

    owner: str
    namespace: str


NO_SHARE = Share("", "")
"""The share of queries that are not told apart."""


def share_limit(cap: int) -> int:
    """Return the number of queries that one share may have open: half of the cap, rounded up.

    Args:
        cap: The number of queries that may be open at the same time.
    """
    return (cap + 1) // 2


def query_to_evict(
    shares: Mapping[str, Share], idle_seconds: Callable[[str], float], new: Share, cap: int
) -> str | None:
    """Decide which query has to go, so that a share may open one more.

    It is the longest idle one of the share itself if the share holds its half, and otherwise of the largest shares.

    Args:
        shares: The share of each open query, by the name of the query, in the order in which they were opened.
        idle_seconds: Returns the idle seconds of an open query; 0 for one that is being read.
        new: The share that wants to open a query.
        cap: The number of queries that may be open at the same time.

    Returns:
        The name of the query; `None` if there is room.

    Raises:
        TooManyQueries: There is no room, and none of these queries has been idle for more than `EVICTABLE_AFTER`.
    """
    sizes = Counter(shares.values())
    limit = f"{cap}"
    if sizes[new] >= share_limit(cap) and cap > 1:
        crowded = {new}
        limit = f"{share_limit(cap)} in one namespace, half of {cap}"
    elif len(shares) >= cap:
        largest = max(sizes.values())
        crowded = {share for share, size in sizes.items() if size == largest}
    else:
        return None
    longest = max((name for name, share in shares.items() if share in crowded), key=idle_seconds)
    if idle_seconds(longest) > EVICTABLE_AFTER:
        return longest
    message = f"Exceeded max active resumable query limit: {limit}"
    raise TooManyQueries(message, 403)
