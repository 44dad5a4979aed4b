"""From how many records on the dense searches of a namespace have a pool."""

from collections.abc import Mapping
from typing import Any

from nextk.arguments import require_count, require_kind
from nextk.errors import ClientError

__all__ = ["POOLED_BYTES", "default_pool_from", "require_pool_keywords"]

POOLED_BYTES = 48 * 2**20
"""The size of the vectors of a namespace from which a pool takes less time than a scan of them, by measurement."""


def default_pool_from(dimension: int) -> int:
    """Return the number of records from which a namespace has a pool if nobody says otherwise.

    Args:
        dimension: The length of the vectors, which take 4 bytes a number; at least 1.
    """
    return -(-POOLED_BYTES // (4 * dimension))


def require_pool_keywords(keywords: Mapping[str, Any]) -> tuple[int | None, bool]:
    """Return the keywords `pool_from` and `exact` of an opening: a number or `None`, and whether there are no pools.

    Args:
        keywords: The keywords of `Index.embedded` by name; `None` stands for a keyword that was left out.

    Raises:
        ClientError: One of them has a value that is not allowed, or they contradict each other.
    """
    pool_from: int | None = keywords.get("pool_from")
    given = keywords.get("exact")
    exact = given is not None and require_kind(given, bool, "exact")
    if pool_from is not None:
        require_count(pool_from, "pool_from")
        if exact:
            message = f"exact=True has no pools, and pool_from={pool_from} asks for them: leave one of them out"
            raise ClientError(message)
    return pool_from, exact
