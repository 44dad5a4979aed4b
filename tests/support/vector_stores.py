"""LangChain vector stores of nextk over each kind of index, called in the colour of the transport under test."""

import asyncio
from dataclasses import dataclass
from typing import Any

from nextk import Index
from nextk.langchain import ResumableVectorStore
from tests.support.letter_models import Initials, Letters, loops_to_keep_free
from tests.support.transports import Awaitable, Opener

KINDS = ["dense-models", "hybrid-models", "dense-index", "hybrid-index"]
"""Who embeds, models of the caller's or those of the index, and what the index holds."""
SPARSE_KINDS = ["sparse-models", "sparse-index"]

_SCHEMAS: dict[str, dict[str, Any]] = {
    "dense-models": {"dimension": 4},
    "hybrid-models": {"dimension": 4},
    "sparse-models": {},
    "dense-index": {"embedding": "static"},
    "hybrid-index": {"embedding": "static", "sparse_embedding": "bm25"},
    "sparse-index": {"sparse_embedding": "bm25"},
}


@dataclass(frozen=True)
class Colour:
    """Calls methods of a store, blocking or not; what does not block must not block the event loop either."""

    awaited: bool

    async def __call__(self, subject: Any, name: str, *args: Any, **keywords: Any) -> Any:
        """Call a method by the name of its blocking form."""
        if not self.awaited:
            return getattr(subject, name)(*args, **keywords)
        twin = f"_a{name[1:]}" if name.startswith("_") else f"a{name}"
        loops_to_keep_free.add(id(asyncio.get_running_loop()))
        try:
            return await getattr(subject, twin)(*args, **keywords)
        finally:
            loops_to_keep_free.clear()


def colour_of(open_index: Opener) -> Colour:
    """Return the colour of a transport."""
    return Colour(open_index.way.startswith("async"))


def store_over(open_index: Opener, kind: str, **keywords: Any) -> ResumableVectorStore:
    """Return a store over a new, empty index of a kind."""
    opened: Any = open_index(kind.split("-")[0], **_SCHEMAS[kind])
    index = opened.inner if isinstance(opened, Awaitable) else opened
    return ResumableVectorStore(index, **{**models_of(kind), **keywords})


def models_of(kind: str) -> dict[str, Any]:
    """Return the models of a store over an index of a kind, as its arguments."""
    if kind.endswith("index"):
        return {"embedding": True}
    dense = {} if kind.startswith("sparse") else {"embedding": Letters()}
    return dense if kind.startswith("dense") else {**dense, "sparse_embedding": Initials()}


def stored(index: Index, namespace: str = "") -> dict[str, tuple[Any, ...]]:
    """Return every record by its id: its vectors, its metadata and its data."""
    found = index.range("", 1_000, True, True, namespace, include_data=True)
    return {each.id: (each.vector, each.sparse_vector, each.metadata, each.data) for each in found.vectors}
