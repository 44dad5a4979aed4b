"""LangChain's indexing API over the vector store: what it counts, and what the store then holds."""

import asyncio
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager, aindex, index

from nextk.langchain import ResumableVectorStore
from tests.support.letter_models import Letters
from tests.support.vector_stores import Colour, stored

CLEANUPS = [None, "incremental", "full", "scoped_full"]
COUNTS = ("num_added", "num_updated", "num_skipped", "num_deleted")


class CountedTime(InMemoryRecordManager):
    """A record manager whose time is a number that grows with every look at it."""

    def __init__(self) -> None:
        super().__init__("test")
        self._ticks = itertools.count(1)

    def get_time(self) -> float:
        """Return the next number."""
        return float(next(self._ticks))

    async def aget_time(self) -> float:
        """Return the next number."""
        return self.get_time()


def key_of(document: Document) -> str:
    """Return the id of a document: its source and its text, as a key encoder of the user's."""
    return f"{document.metadata['source']}: {document.page_content}"


@dataclass
class Model:
    """A model of the indexing API's promises, with a dict for the store and run numbers for the record manager.

    Attributes:
        held: The documents by their keys.
        seen: The last run in which each of them came.
        run: The number of the run.
    """

    held: dict[str, Document] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    run: int = 0

    def index(
        self, documents: list[Document], cleanup: str | None, *, batch_size: int, force_update: bool
    ) -> dict[str, int]:
        """Index documents. Returns the counts."""
        self.run += 1
        counts = dict.fromkeys(COUNTS, 0)
        for start in range(0, len(documents), batch_size):
            batch = {key_of(each): each for each in documents[start : start + batch_size]}
            known = len(batch.keys() & self.held.keys())
            counts["num_added"] += len(batch) - known
            counts["num_updated"] += known if force_update else 0
            counts["num_skipped"] += len(documents[start : start + batch_size]) - len(batch)
            counts["num_skipped"] += 0 if force_update else known
            self.held.update(batch)
            self.seen.update(dict.fromkeys(batch, self.run))
            if cleanup == "incremental":
                counts["num_deleted"] += self._clean(batch.values())
        if cleanup == "full":
            counts["num_deleted"] += self._clean(list(self.held.values()))
        elif cleanup == "scoped_full":
            counts["num_deleted"] += self._clean(documents)
        return counts

    def _clean(self, documents: Iterable[Document]) -> int:
        """Remove what has not come in this run, among the sources of the documents."""
        sources = {each.metadata["source"] for each in documents}
        gone = [
            key for key, each in self.held.items() if each.metadata["source"] in sources and self.seen[key] < self.run
        ]
        for key in gone:
            del self.held[key]
        return len(gone)


def documents_of(store: ResumableVectorStore) -> dict[str, Document]:
    """Return every document of a store by its id."""
    documents = store.get_by_ids(list(stored(store.index)))
    return {each.id: each.model_copy(update={"id": None}) for each in documents if each.id is not None}


DOCUMENTS = st.lists(
    st.builds(
        lambda text, source: Document(text, metadata={"source": source, "length": len(text)}),
        st.sampled_from(["sea", "sky", "grass", "Meer", "\u00e9t\u00e9", "' OR 1=1", "sea "]),
        st.sampled_from(["a.txt", "b.txt", "c"]),
    ),
    max_size=9,
)
RUNS = st.lists(
    st.tuples(DOCUMENTS, st.sampled_from(CLEANUPS), st.integers(1, 5), st.booleans()), min_size=1, max_size=4
)


class TestCounts:
    """Any runs, one after the other, over one store."""

    @pytest.mark.parametrize("colour", ["blocking", "asynchronous"])
    @pytest.mark.parametrize("embedding", [None, Letters()], ids=["of-the-index", "of-the-caller"])
    @given(runs=RUNS)
    @settings(max_examples=40)
    def test_runs(self, colour: str, embedding: Any, runs: list[Any]) -> None:
        """Counts and contents are those of a dict, in every clean-up mode and batch size."""
        with ResumableVectorStore.from_texts([], embedding) as store:
            model, manager = Model(), CountedTime()
            for documents, cleanup, batch_size, force_update in runs:
                options = {"cleanup": cleanup, "batch_size": batch_size, "force_update": force_update}
                expected = model.index(documents, **options)
                options |= {"key_encoder": key_of, "source_id_key": "source", "cleanup_batch_size": 2}
                if colour == "blocking":
                    assert expected == index(documents, manager, store, **options)
                else:
                    assert expected == asyncio.run(aindex(documents, manager, store, **options))
                assert model.held == documents_of(store)


async def indexed(run: Colour, documents: list[Document], *arguments: Any, **options: Any) -> tuple[int, ...]:
    """Index documents in a colour. Returns the counts: added, updated, skipped, deleted."""
    if run.awaited:
        counts = await aindex(documents, *arguments, **options)
    else:
        counts = index(documents, *arguments, **options)
    return tuple(dict(counts)[name] for name in COUNTS)  # type: ignore[misc]


def numbered(start: int, end: int) -> list[Document]:
    """Return documents with numbers, each hundred from one source."""
    return [
        Document(f"{'e' * (number % 9)} {number}", metadata={"source": f"{number // 100}", "number": number})
        for number in range(start, end)
    ]


class TestIndexing:
    """Single promises, over each kind of index."""

    @pytest.mark.parametrize("cleanup", ["incremental", "full", "scoped_full"])
    async def test_large_batches(self, store: ResumableVectorStore, run: Colour, cleanup: str) -> None:
        """A batch of more than one request holds, and a clean-up of more than one, arrive whole."""
        manager = CountedTime()
        options: dict[str, Any] = {"cleanup": cleanup, "source_id_key": "source", "key_encoder": "sha256"}
        options |= {"batch_size": 2_500, "cleanup_batch_size": 1_300}
        assert (2_300, 0, 0, 0) == await indexed(run, numbered(0, 2_300), manager, store, **options)
        assert 2_300 == store.index.info().vector_count
        kept = [document for document in numbered(0, 2_300) if document.metadata["number"] % 100 == 7]
        assert (0, 0, 23, 2_277) == await indexed(run, kept, manager, store, **options)
        assert {each.metadata["number"] for each in kept} == {
            each.metadata["number"] for each in documents_of(store).values()
        }

    @pytest.mark.parametrize(
        "encoder",
        ["sha1", "sha256", "sha512", "blake2b", key_of],
        ids=lambda encoder: encoder if encoder is not key_of else "own",
    )
    @pytest.mark.filterwarnings("ignore:Using SHA-1")
    async def test_key_encoders(
        self, store: ResumableVectorStore, run: Colour, encoder: str | Callable[[Document], str]
    ) -> None:
        """Records stand under the keys of the record manager, by which they are found and removed."""
        manager = CountedTime()
        options: dict[str, Any] = {"key_encoder": encoder, "cleanup": "full"}
        assert (30, 0, 0, 0) == await indexed(run, numbered(0, 30), manager, store, **options)
        assert manager.records.keys() == stored(store.index).keys()
        assert (0, 0, 2, 28) == await indexed(run, numbered(8, 10), manager, store, **options)
        assert manager.records.keys() == stored(store.index).keys()
        found = await run(store, "similarity_search", "eeeeeeee 8", 1)
        assert ([8], numbered(8, 9)[0].page_content) == ([found[0].metadata["number"]], found[0].page_content)

    async def test_changed_metadata(self, store: ResumableVectorStore, run: Colour) -> None:
        """A key that is made of less than the content keeps its record until an update is forced."""
        manager, old = CountedTime(), Document("sea", metadata={"source": "a", "version": 1})
        new = Document("sea", metadata={"source": "a", "version": 2})
        options: dict[str, Any] = {"key_encoder": key_of}
        assert (1, 0, 0, 0) == await indexed(run, [old], manager, store, **options)
        assert (0, 0, 1, 0) == await indexed(run, [new], manager, store, **options)
        assert [old.metadata] == [each.metadata for each in documents_of(store).values()]
        assert (0, 1, 0, 0) == await indexed(run, [new], manager, store, force_update=True, **options)
        assert [new.metadata] == [each.metadata for each in documents_of(store).values()]

    async def test_a_namespace(self, store: ResumableVectorStore, run: Colour) -> None:
        """A store in a namespace is filled and cleaned there, and nothing is touched elsewhere."""
        await run(store, "add_texts", ["kept"], ids=["1"])
        inner = ResumableVectorStore(**{**store.retriever_settings(), "namespace": "inner"})
        manager, options = CountedTime(), {"cleanup": "full", "key_encoder": "sha256"}
        assert (5, 0, 0, 0) == await indexed(run, numbered(0, 5), manager, inner, **options)
        assert (0, 0, 0, 5) == await indexed(run, [], manager, inner, **options)
        assert ({}, ["1"]) == (stored(store.index, "inner"), list(stored(store.index)))

    async def test_a_document_that_cannot_be_stored(self, store: ResumableVectorStore, run: Colour) -> None:
        """The record manager learns of no document of a call that was refused, so that the next run repairs it."""
        manager, options = CountedTime(), {"cleanup": "full", "key_encoder": key_of}
        wrong = Document("sea", metadata={"source": "a", "n": float("inf")})
        with pytest.raises(Exception, match="record 1"):
            await indexed(run, [Document("sky", metadata={"source": "a"}), wrong], manager, store, **options)
        assert ({}, {}) == (manager.records, stored(store.index))
        wrong.metadata["n"] = 1.0
        assert (1, 0, 0, 0) == await indexed(run, [wrong], manager, store, **options)
