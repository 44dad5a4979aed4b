"""Models of the caller's own that count letters, for tests of the LangChain adapter, and helpers of these tests."""

import asyncio

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from nextk.types import SparseVector


class Letters(Embeddings):
    """A dense model that counts three letters and refuses to block an event loop."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return one row for each text."""
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Return the counts and a 1, so that no vector is zero."""
        refuse_to_block()
        return [float(text.count(letter)) for letter in "aes"] + [1.0]


class Initials:
    """A sparse model of the first letters of a text's words, which refuses to block an event loop."""

    def embed_documents(self, texts: list[str]) -> list[SparseVector]:
        """Return one vector for each text."""
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> SparseVector:
        """Return the weight 1 for each initial."""
        refuse_to_block()
        initials = sorted({ord(word[0]) for word in text.lower().split()})
        return SparseVector(initials, [1.0] * len(initials))


loops_to_keep_free: set[int] = set()


def refuse_to_block() -> None:
    """Fail if called in a thread whose event loop must not be blocked."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    assert id(loop) not in loops_to_keep_free, "the event loop was blocked"


def contents(documents: list[Document]) -> list[str]:
    """Return the texts of documents."""
    return [document.page_content for document in documents]
