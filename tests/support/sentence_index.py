"""An index of sentences that embeds its text, for tests of sessions and retrievers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nextk import Index
from nextk.types import Data

WORDS = ["sky", "sea", "grass", "snow", "sand", "rain", "cloud", "river", "stone", "leaf", "wind", "fire"]
TEXTS = [f"The {a} is near the {b}." for a in WORDS for b in WORDS if a < b]
QUESTION = "where is the cloud and the sky?"


@contextmanager
def sentences(texts: Sequence[str] = TEXTS) -> Iterator[Index]:
    """A hybrid index in memory that holds the texts as `t0`, `t1`, ..., each with its place as metadata."""
    with Index.embedded(embedding="static", sparse_embedding="bm25") as index:
        index.upsert([Data(f"t{place}", text, {"place": place}) for place, text in enumerate(texts)])
        yield index


def open_queries(index: Index) -> int:
    """How many resumable queries an embedded index holds."""
    transport: Any = index._transport
    count: int = transport._shared_engine.engine.open_queries()
    return count
