"""The searches of a thread: books by the name of their tool, joined by a reducer."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from nextk.retrieval.book import Patch, empty, patched

Books: TypeAlias = dict[str, Any]
"""The books of a thread, by the name of the tool that searches; as an update, patches, or `None` to begin anew."""


def merge(books: Books, update: Mapping[str, Patch | None]) -> Books:
    """The reducer of the state.

    Args:
        books: As they are.
        update: A patch for each book that changes; `None` to forget it.
    """
    merged = dict(books or {})
    for name, patch in update.items():
        if patch is None:
            merged.pop(name, None)
        else:
            merged[name] = patched(merged.get(name) or empty(), patch)
    return merged
