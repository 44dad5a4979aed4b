"""Filling an index with passages, batch by batch."""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from nextk.cli.corpus import Passage
from nextk.client import Index
from nextk.types import Data

T = TypeVar("T")

MODELS: dict[str, Any] = {"type": "hybrid", "embedding": "static", "sparse_embedding": "bm25"}
"""What the command line makes: an index that embeds text by itself, without a network."""

_BATCH = 250  # passages in one upsert, each durable at its end: about 0.07 s of work


def fill(
    index: Index,
    passages: Iterable[Passage],
    *,
    namespace: str = "",
    on_progress: Callable[[int], None] = lambda _: None,
) -> set[str]:
    """Upsert passages: the text as `data`, title and parent as metadata, as both adapters read them.

    Args:
        index: It embeds text.
        passages: Read as they are needed.
        namespace: Where to put them.
        on_progress: Called after every batch with the number of passages in it.

    Returns:
        Their ids.
    """
    ids: set[str] = set()
    for batch in batches(passages, _BATCH):
        rows = [Data(each.id, each.text, {"title": each.title, "parent": each.parent}) for each in batch]
        index.upsert(rows, namespace)
        ids.update(each.id for each in batch)
        on_progress(len(batch))
    return ids


def remove_leftovers(index: Index, ids: set[str], *, namespace: str = "") -> int:
    """Remove the later passages of sources that have fewer of them now than when they were last read.

    Args:
        index: Just filled.
        ids: Everything that was read this time; other sources are left alone.
        namespace: Where they are.

    Returns:
        How many passages are gone.
    """
    sources = {_source(id_) for id_ in ids}
    stale = [id_ for id_ in _all_ids(index, namespace) if id_ not in ids and _source(id_) in sources]
    for batch in batches(stale, 1000):
        index.delete(batch, namespace)
    return len(stale)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut items into lists of `size`, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _source(id_: str) -> str:
    """The source of a passage: its id without the number that all but the first passage have."""
    return re.sub(r"#\d+\Z", "", id_)


def _all_ids(index: Index, namespace: str) -> Iterator[str]:
    cursor = ""
    while True:
        stretch = index.range(cursor, 1000, namespace=namespace)
        yield from (record.id for record in stretch.vectors)
        cursor = stretch.next_cursor
        if not cursor:
            return
