"""Write passages to an index batch by batch, and find and remove the passages of a folder."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from nextk.cli.corpus import Passage
from nextk.client import Index
from nextk.errors import ClientError
from nextk.types import Data, FetchResult

T = TypeVar("T")

MODELS: dict[str, Any] = {"type": "hybrid", "embedding": "static", "sparse_embedding": "bm25", "weighting": "idf"}
"""The keywords of the indexes that the command line makes: they embed text by themselves, without a network."""

_BATCH = 250  # passages in one upsert, which is on disk when it returns: about 0.07 s of work


def fill(
    index: Index,
    passages: Iterable[Passage],
    *,
    namespace: str = "",
    root: str = "",
    on_stored: Callable[[list[Passage]], None] = lambda _: None,
) -> set[str]:
    """Upsert passages with the text as `data`, and title and parent as metadata, as both adapters read them.

    Args:
        index: The index to write to. It must embed text.
        passages: The passages. They are read batch by batch.
        namespace: The namespace to write to.
        root: The path that the passages were read from, stored in their metadata; `""` stores none.
        on_stored: A function that is called with the passages of every batch when they are on disk.

    Returns:
        The ids of the passages.
    """
    ids: set[str] = set()
    provenance = {"root": root} if root else {}
    for batch in batches(passages, _BATCH):
        rows = [Data(each.id, each.text, {"title": each.title, "parent": each.parent, **provenance}) for each in batch]
        index.upsert(rows, namespace)
        ids.update(each.id for each in batch)
        on_stored(batch)
    return ids


def ids_of_root(index: Index, root: str, name: str, *, namespace: str = "") -> set[str]:
    """Find the passages of a root in an index, and make sure that no other records have ids like theirs.

    Args:
        index: The index to look in. It may contain the passages of other roots.
        root: The absolute path of the folder or file.
        name: The name with which the ids of the root's passages begin.
        namespace: The namespace to look in.

    Returns:
        The ids of the root's passages.

    Raises:
        ClientError: Ids that begin with `name` belong to another root, so that writing could replace its records.
    """
    ids: set[str] = set()
    for record in _records(index, name, namespace):
        if record.id != name and not record.id.startswith((f"{name}/", f"{name}#")):
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
    """Delete any number of records by id, 1,000 in one request."""
    for batch in batches(sorted(ids), 1000):
        index.delete(batch, namespace)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of `size`; the last list may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _records(index: Index, prefix: str, namespace: str) -> Iterator[FetchResult]:
    """Yield the records whose ids begin with a prefix, with their metadata."""
    cursor = ""
    while True:
        page = index.range(cursor, 1000, include_metadata=True, namespace=namespace, prefix=prefix or None)
        yield from page.vectors
        cursor = page.next_cursor
        if not cursor:
            return
