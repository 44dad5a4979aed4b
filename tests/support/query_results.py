"""Words that the contract tests share."""

from collections.abc import Sequence
from typing import Any

import pytest

from nextk.handle import AsyncResumableQueryHandle
from nextk.types import FetchResult, QueryResult, SparseVector


def sparse(entries: dict[int, float]) -> SparseVector:
    """A sparse vector from its entries."""
    return SparseVector(list(entries), list(entries.values()))


def scored(*pairs: tuple[str, float]) -> list[Any]:
    """Expected matches, their scores within the fixtures' tolerance."""
    return [(id_, pytest.approx(score, abs=1e-6)) for id_, score in pairs]


def seen(matches: Sequence[QueryResult]) -> list[Any]:
    """The ids and scores of a page."""
    return [(match.id, match.score) for match in matches]


def ids(records: Sequence[QueryResult] | Sequence[FetchResult] | Sequence[FetchResult | None]) -> list[str | None]:
    """The ids of a page; `None` for an empty slot."""
    return [None if record is None else record.id for record in records]


async def pages(handle: AsyncResumableQueryHandle, *sizes: int) -> list[list[str | None]]:
    """The ids of the next pages, of these sizes; the handle is stopped afterwards."""
    found = [ids(await handle.fetch_next(size)) for size in sizes]
    await handle.stop()
    return found
