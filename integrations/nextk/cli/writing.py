"""Filling an index with passages, batch by batch."""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from nextk.cli.corpus import Passage
from nextk.client import Index
from nextk.errors import ClientError
from nextk.types import Data, FetchResult

T = TypeVar("T")

MODELS: dict[str, Any] = {"type": "hybrid", "embedding": "static", "sparse_embedding": "bm25"}
"""What the command line makes: an index that embeds text by itself, without a network."""

_BATCH = 250  # passages in one upsert, each durable at its end: about 0.07 s of work


def fill(
    index: Index,
    passages: Iterable[Passage],
    *,
    namespace: str = "",
    root: str = "",
    on_progress: Callable[[int], None] = lambda _: None,
) -> set[str]:
    """Upsert passages: the text as `data`, title and parent as metadata, as both adapters read them.

    Args:
        index: It embeds text.
        passages: Read as they are needed.
        namespace: Where to put them.
        root: Where they come from: metadata, too, unless blank.
        on_progress: Called after every batch with the number of passages in it.

    Returns:
        Their ids.
    """
    ids: set[str] = set()
    origin = {"root": root} if root else {}
    for batch in batches(passages, _BATCH):
        rows = [Data(each.id, each.text, {"title": each.title, "parent": each.parent, **origin}) for each in batch]
        index.upsert(rows, namespace)
        ids.update(each.id for each in batch)
        on_progress(len(batch))
    return ids


def ids_of_root(index: Index, root: str, name: str, *, namespace: str = "") -> set[str]:
    """Find what an index already holds of a root, and that nothing else has its ids.

    Args:
        index: It may hold the passages of other roots.
        root: The absolute path of the folder or file.
        name: What the root's ids begin with.
        namespace: Where to look.

    Returns:
        The ids of the root's passages.

    Raises:
        ClientError: There are ids that begin with `name` and are not the root's: writing could replace them.
    """
    ids: set[str] = set()
    for record in _records(index, name, namespace):
        if not re.match(rf"{re.escape(name)}(?:[/#]|\Z)", record.id):
            continue
        owner = (record.metadata or {}).get("root")
        if owner != root:
            whose = f"{name!r} of {owner}" if owner else f"{record.id!r}, which `nextk ingest` did not write"
            message = (
                f"the index already holds {whose}, and {root} would get the same ids. "
                "Give it a --namespace or an --index of its own"
            )
            raise ClientError(message)
        ids.add(record.id)
    return ids


def remove(index: Index, ids: set[str], *, namespace: str = "") -> None:
    """Delete records by id, however many."""
    for batch in batches(sorted(ids), 1000):
        index.delete(batch, namespace)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut items into lists of `size`, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _records(index: Index, prefix: str, namespace: str) -> Iterator[FetchResult]:
    """The records whose ids begin with a prefix, and their metadata."""
    cursor = ""
    while True:
        page = index.range(cursor, 1000, include_metadata=True, namespace=namespace, prefix=prefix or None)
        yield from page.vectors
        cursor = page.next_cursor
        if not cursor:
            return
