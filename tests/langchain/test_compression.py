"""`ResumableCompressionRetriever` goes on through any compressor until there is enough or the best are settled."""

import asyncio
import logging
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline, EmbeddingsFilter
from langchain_core.callbacks import BaseCallbackHandler, Callbacks
from langchain_core.documents import BaseDocumentCompressor, BaseDocumentTransformer, Document
from langchain_core.runnables import RunnableLambda
from langchain_text_splitters import CharacterTextSplitter
from pydantic import Field, SecretStr, ValidationError

from nextk import Index
from nextk.errors import ClientError
from nextk.langchain import ResumableCompressionRetriever, ResumableRetriever
from nextk.until import Accepted, DistinctBy, MaxResults, MinScore
from tests.support.letter_models import Letters
from tests.support.rerank_oracle import ranked, settled
from tests.support.sentence_index import QUESTION, TEXTS, open_queries, sentences

moderate = settings(deadline=None, max_examples=60)
IDS = [f"t{position}" for position in range(len(TEXTS))]


class Compressor(BaseDocumentCompressor):
    """Notes what it is shown; what becomes of that is said by the subclasses."""

    shown: list[list[str]] = Field(default_factory=list)
    callbacks: list[Any] = Field(default_factory=list)
    fatal: int = 0  # which call raises, from 1

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks = None
    ) -> Sequence[Document]:
        """Compress them."""
        assert QUESTION == query
        self.shown.append([str(document.id) for document in documents])
        self.callbacks.append(callbacks)
        if len(self.shown) == self.fatal:
            raise ZeroDivisionError
        return self.compressed(list(documents))

    def compressed(self, documents: list[Document]) -> list[Document]:
        """What becomes of documents."""
        return documents


class Keep(Compressor):
    """Keeps some ids."""

    ids: frozenset[str]

    def compressed(self, documents: list[Document]) -> list[Document]:
        """Those of them."""
        return [document for document in documents if document.id in self.ids]


class Rank(Compressor):
    """Reranks by scores of its own, which it writes into the metadata, as LangChain's rerankers do."""

    scores: dict[str, float]
    drops_ids: bool = False
    top_n: int | None = None

    def compressed(self, documents: list[Document]) -> list[Document]:
        """All of them, or the best; equal ones in the order that they came in."""
        best = sorted(documents, key=lambda document: -self.scores[str(document.id)])[: self.top_n]
        if not self.drops_ids:
            for position, document in enumerate(best):
                assert "relevance_score" not in document.metadata
                document.metadata["relevance_score"] = position
            return best
        return [Document(page_content=document.page_content, metadata={"was": document.id}) for document in best]


@pytest.fixture(scope="module")
def shared() -> Iterator[Index]:
    """A hybrid index of 66 sentences."""
    with sentences(TEXTS) as index:
        yield index


@pytest.fixture
def base(shared: Index) -> Iterator[ResumableRetriever]:
    """A retriever over it without guards; afterwards no query is open."""
    yield ResumableRetriever(index=shared, max_results=None, max_pulls=None, deadline=None)
    assert 0 == open_queries(shared)


@pytest.fixture(scope="module")
def order(shared: Index) -> list[str]:
    """Every id, in the order of the search."""
    with ResumableRetriever(index=shared).open(QUESTION) as search:
        return [str(document.id) for document in search]


@pytest.fixture(scope="module")
def free(shared: Index) -> Iterator[ResumableRetriever]:
    """The retriever `base`, shared by all examples of a property."""
    yield ResumableRetriever(index=shared, max_results=None, max_pulls=None, deadline=None)
    assert 0 == open_queries(shared)


def ids(documents: Sequence[Document]) -> list[str]:
    """The ids of documents."""
    return [str(document.id) for document in documents]


def both(retriever: ResumableCompressionRetriever, **overrides: Any) -> list[Document]:
    """The documents that it returns, which are equal in both colours."""
    documents = retriever.invoke(QUESTION, **overrides)
    assert documents == asyncio.run(retriever.ainvoke(QUESTION, **overrides))
    return documents


def permitting(permitted: set[str]) -> Accepted:
    """A check that wants one document, and permits these."""
    return Accepted(1, lambda documents: [document.id in permitted for document in documents])


class TestFilter:
    """Refilling until enough have survived."""

    @moderate
    @given(
        survivors=st.frozensets(st.sampled_from(IDS)),
        permitted=st.sets(st.sampled_from(IDS)),
        least=st.integers(1, 12),
        most=st.integers(1, 70),
    )
    def test_oracle(
        self,
        free: ResumableRetriever,
        order: list[str],
        survivors: frozenset[str],
        permitted: set[str],
        least: int,
        most: int,
    ) -> None:
        """There are never fewer than wanted where so many exist within the bounds; in order, and none is left out."""
        compressor = Keep(ids=survivors)
        retriever = ResumableCompressionRetriever(
            base_compressor=compressor, base_retriever=free, min_documents=least, max_results=most
        )
        found = ids(both(retriever, until=permitting(permitted)))
        within = [id_ for id_ in order if id_ in permitted][:most]
        surviving = [id_ for id_ in within if id_ in survivors]
        assert surviving[: len(found)] == found
        assert len(found) >= min(least, len(surviving))
        pages = compressor.shown[: len(compressor.shown) // 2]  # the blocking call's; then the other's
        shown = [id_ for page in pages for id_ in page]
        assert pages == compressor.shown[len(pages) :]
        assert within[: len(shown)] == shown  # each once, and none that is not permitted
        assert all(len([id_ for id_ in page if id_ in survivors]) < least for page in pages[:-1])

    def test_what_langchain_does_not(self, base: ResumableRetriever, order: list[str]) -> None:
        """LangChain's own is left with what survives of its four; this one goes on to the end, or until it has four."""
        compressor = Keep(ids=frozenset(order[3:40:9]))
        plain = ContextualCompressionRetriever(base_compressor=compressor, base_retriever=base)
        assert [order[3]] == ids(plain.invoke(QUESTION))
        retriever = ResumableCompressionRetriever(base_compressor=compressor, base_retriever=base)
        assert order[3:40:9][:4] == ids(both(retriever))[:4]

    def test_no_more_than_needed(self, base: ResumableRetriever, order: list[str]) -> None:
        """Where all survive, one page is pulled, and shown once."""
        compressor = Compressor()
        retriever = ResumableCompressionRetriever(base_compressor=compressor, base_retriever=base, min_documents=7)
        assert order[:7] == ids(retriever.invoke(QUESTION))
        assert [order[:7]] == compressor.shown

    def test_pages_grow(self, base: ResumableRetriever) -> None:
        """Pages double while too little survives, so the rare is found in a few."""
        compressor = Keep(ids=frozenset())
        retriever = ResumableCompressionRetriever(base_compressor=compressor, base_retriever=base)
        assert [] == retriever.invoke(QUESTION)
        assert [4, 8, 16, 32, 6] == list(map(len, compressor.shown))

    @pytest.mark.parametrize("owner", ["compression", "base", "call"])
    @pytest.mark.parametrize(("bound", "shown"), [("max_results", 2), ("max_pulls", 12)])
    def test_bounds(self, base: ResumableRetriever, bound: str, shown: int, owner: str) -> None:
        """Bounds may be set on either retriever or asked for in a call, and end it with what there is."""
        compressor = Keep(ids=frozenset())
        base = base.model_copy(update={bound: 2} if owner == "base" else {})
        bounds: dict[str, Any] = {bound: 2} if owner == "compression" else {}
        retriever = ResumableCompressionRetriever(base_compressor=compressor, base_retriever=base, **bounds)
        assert [] == both(retriever, **({bound: 2} if owner == "call" else {}))
        assert 2 * shown == sum(map(len, compressor.shown))

    def test_too_few_are_explained(self, base: ResumableRetriever, caplog: pytest.LogCaptureFixture) -> None:
        """The log says why there are fewer documents than wanted: once, and as a warning only if it was a bound."""
        caplog.set_level(logging.INFO, "nextk")
        nothing = Keep(ids=frozenset())
        assert [] == ResumableCompressionRetriever(base_compressor=nothing, base_retriever=base).invoke(QUESTION)
        bounded = ResumableCompressionRetriever(base_compressor=nothing, base_retriever=base, max_results=20)
        assert [] == bounded.invoke(QUESTION)
        assert [logging.INFO, logging.WARNING] == [record.levelno for record in caplog.records]
        assert "0 documents of 4, after 66 rows: exhausted" == caplog.messages[0]
        assert caplog.messages[1].startswith("0 documents of 4: max_results=20 ended a search before it had enough: ")

    def test_a_count_of_the_base_does_not_end_it(self, base: ResumableRetriever, order: list[str]) -> None:
        """How many the base retriever wants plays no part; what it keeps does."""
        compressor = Keep(ids=frozenset(order[10:20]))
        base = base.model_copy(update={"k": 1, "until": MaxResults(2) | DistinctBy("place", 1)})
        retriever = ResumableCompressionRetriever(base_compressor=compressor, base_retriever=base, min_documents=5)
        assert order[10:15] == ids(both(retriever))

    def test_low_scores_end_it(self, base: ResumableRetriever) -> None:
        """Where scores have sunk below the base retriever's least one, nothing more is pulled for the compressor."""
        dense = base.model_copy(update={"retrieval_mode": "dense", "score_key": "score"})
        near = dense.invoke(QUESTION, k=5)
        compressor = Compressor()
        retriever = ResumableCompressionRetriever(base_compressor=compressor, base_retriever=dense, min_documents=6)
        found = retriever.invoke(QUESTION, until=MinScore(near[-1].metadata["score"]))
        assert ids(near) == ids(found)
        assert [ids(near)] == compressor.shown  # one page


class TestRerank:
    """Reranking until the best are settled."""

    @moderate
    @given(
        scores=st.lists(st.integers(0, 40).map(float), min_size=len(IDS), max_size=len(IDS)),
        permitted=st.sets(st.sampled_from(IDS)),
        drops_ids=st.booleans(),
        n=st.integers(1, 6),
        patience=st.integers(1, 3),
        window=st.integers(1, 25),
        most=st.integers(1, 70),
    )
    def test_oracle(
        self,
        free: ResumableRetriever,
        order: list[str],
        scores: list[float],
        permitted: set[str],
        drops_ids: bool,
        n: int,
        patience: int,
        window: int,
        most: int,
    ) -> None:
        """It stops at the first window after which the best n have stayed, and brings those of reranking all so far."""
        compressor = Rank(scores=dict(zip(IDS, scores, strict=True)), drops_ids=drops_ids)
        retriever = ResumableCompressionRetriever(
            base_compressor=compressor,
            base_retriever=free,
            mode="rerank",
            min_documents=n,
            patience=patience,
            window=window,
            max_results=most,
        )
        found = both(retriever, until=permitting(permitted))
        within = [id_ for id_ in order if id_ in permitted][:most]
        end = settled(compressor.scores, within, n, patience, window)
        best = ranked(compressor.scores, within[:end])[:n]
        assert best == [document.metadata["was"] if drops_ids else document.id for document in found]
        assert all(set(page) <= permitted for page in compressor.shown)
        assert within[:end] == (compressor.shown[-1] if compressor.shown else [])

    def test_what_it_is_given(self, base: ResumableRetriever, order: list[str]) -> None:
        """It is given all documents so far, as they were: what it wrote into them before is gone."""
        compressor = Rank(scores={id_: -float(position) for position, id_ in enumerate(order)})
        retriever = ResumableCompressionRetriever(base_compressor=compressor, base_retriever=base, mode="rerank")
        found = retriever.invoke(QUESTION)
        assert [order[:20], order[:40], order[:60]] == compressor.shown
        assert order[:4] == ids(found)
        assert [0, 1, 2, 3] == [document.metadata["relevance_score"] for document in found]

    def test_the_rest_of_a_window(self, base: ResumableRetriever, order: list[str]) -> None:
        """What a bound, or the end of the index, leaves of a window is reranked as well."""
        compressor = Rank(
            scores={id_: float(position) for position, id_ in enumerate(order)}
        )  # the last one is the best
        retriever = ResumableCompressionRetriever(base_compressor=compressor, base_retriever=base, mode="rerank")
        assert order[: -1 - 4 : -1] == ids(both(retriever))
        assert order[24:20:-1] == ids(both(retriever, max_results=25))

    def test_a_compressor_that_also_filters(self, base: ResumableRetriever, order: list[str]) -> None:
        """As long as it returns fewer than wanted nothing is settled, and the search goes on."""
        retriever = ResumableCompressionRetriever(
            base_compressor=Keep(ids=frozenset(order[40:60:3])),
            base_retriever=base,
            mode="rerank",
            window=5,
            patience=1,
        )
        assert order[40:60:3][:4] == ids(both(retriever))

    @pytest.mark.parametrize("mode", ["filter", "rerank"])
    def test_its_own_top_n(self, base: ResumableRetriever, mode: Any) -> None:
        """A compressor that returns fewer than wanted, whatever it is given, is refused: at once, and for one call."""
        compressor = Rank(scores={}, top_n=3)
        with pytest.raises(ClientError, match="top_n=3"):
            ResumableCompressionRetriever(base_compressor=compressor, base_retriever=base, mode=mode)
        retriever = ResumableCompressionRetriever(
            base_compressor=compressor, base_retriever=base, mode=mode, min_documents=3
        )
        with pytest.raises(ClientError, match="top_n=3"):
            retriever.invoke(QUESTION, min_documents=5)
        assert [] == compressor.shown


class Shout(BaseDocumentTransformer):
    """Rewrites texts in place, and drops ids."""

    def transform_documents(self, documents: Sequence[Document], **kwargs: Any) -> Sequence[Document]:
        """In capitals."""
        return [Document(page_content=document.page_content.upper()) for document in documents]


class TestRewriting:
    """Documents that a compressor makes anew."""

    @pytest.mark.parametrize("mode", ["filter", "rerank"])
    def test_as_it_returns_them(self, base: ResumableRetriever, mode: Any) -> None:
        """New texts, new metadata and missing ids are handed on as they are."""
        compressor = DocumentCompressorPipeline(transformers=[Shout()])
        retriever = ResumableCompressionRetriever(base_compressor=compressor, base_retriever=base, mode=mode)
        expected = [document.page_content.upper() for document in base.invoke(QUESTION, k=4)]
        found = both(retriever)
        assert [(text, None, {}) for text in expected] == [(one.page_content, one.id, one.metadata) for one in found]

    @pytest.mark.parametrize("mode", ["filter", "rerank"])
    def test_parts(self, base: ResumableRetriever, mode: Any) -> None:
        """The parts of one document count as documents."""
        splitter = CharacterTextSplitter(separator=" is ", chunk_size=1, chunk_overlap=0)
        retriever = ResumableCompressionRetriever(
            base_compressor=DocumentCompressorPipeline(transformers=[splitter]),
            base_retriever=base,
            mode=mode,
            min_documents=8,
        )
        documents = base.invoke(QUESTION, k=8)
        parts = [part for document in documents for part in document.page_content.split(" is ")]
        count = 16 if mode == "filter" else 8
        assert parts[:count] == [document.page_content for document in both(retriever)]

    def test_embeddings(self, base: ResumableRetriever) -> None:
        """LangChain's filter by embeddings refills."""
        compressor = EmbeddingsFilter(embeddings=Letters(), similarity_threshold=0.95, k=None)
        retriever = ResumableCompressionRetriever(base_compressor=compressor, base_retriever=base, min_documents=5)
        assert 5 <= len(both(retriever))


class Trace(BaseCallbackHandler):
    """Notes runs: their kind and their parent."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, Any, Any]] = []

    def on_retriever_start(self, serialized: Any, query: str, **kwargs: Any) -> None:
        """Of a retriever."""
        self.runs.append(("retriever", kwargs["run_id"], kwargs["parent_run_id"]))

    def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        """Of whatever the compressor runs."""
        self.runs.append(("chain", kwargs["run_id"], kwargs["parent_run_id"]))


class Running(Compressor):
    """Runs a chain of its own, under the callbacks that it was given."""

    def compressed(self, documents: list[Document]) -> list[Document]:
        """All of them."""
        chain = RunnableLambda(lambda documents: documents)
        chain.invoke(documents, {"callbacks": self.callbacks[-1]})
        return documents


class TestRuns:
    """What LangChain sees, and what goes wrong."""

    @pytest.mark.parametrize("colour", ["sync", "async"])
    def test_traces(self, base: ResumableRetriever, colour: str) -> None:
        """The search and what the compressor runs are children of the one run."""
        trace = Trace()
        retriever = ResumableCompressionRetriever(base_compressor=Running(), base_retriever=base)
        if colour == "sync":
            retriever.invoke(QUESTION, {"callbacks": [trace]})
        else:
            asyncio.run(retriever.ainvoke(QUESTION, {"callbacks": [trace]}))
        (outer, run_id, parent), *children = trace.runs
        assert ("retriever", None) == (outer, parent)
        assert [("retriever", run_id), ("chain", run_id)] == [(kind, above) for kind, _, above in children]

    @pytest.mark.parametrize("mode", ["filter", "rerank"])
    @pytest.mark.parametrize("fatal", [1, 2])
    @pytest.mark.parametrize("colour", ["sync", "async"])
    def test_a_compressor_that_raises(
        self, base: ResumableRetriever, order: list[str], mode: Any, fatal: int, colour: str
    ) -> None:
        """Its exception comes as it is, from whichever page; nothing is left open, and the next call brings all."""
        compressor = Keep(ids=frozenset(order[3:]), fatal=fatal)
        retriever = ResumableCompressionRetriever(
            base_compressor=compressor, base_retriever=base, mode=mode, min_documents=3, window=2
        )
        invoke = retriever.invoke if colour == "sync" else lambda query: asyncio.run(retriever.ainvoke(query))
        with pytest.raises(ZeroDivisionError):
            invoke(QUESTION)
        assert 0 == open_queries(base.index)  # type: ignore[arg-type]
        assert fatal == len(compressor.shown)
        assert order[3:6] == ids(invoke(QUESTION))[:3]

    def test_a_check_that_raises(self, base: ResumableRetriever) -> None:
        """The compressor sees nothing of a page whose check has failed."""

        def check(documents: list[Document]) -> list[bool]:
            raise ZeroDivisionError

        compressor = Compressor()
        retriever = ResumableCompressionRetriever(base_compressor=compressor, base_retriever=base)
        with pytest.raises(ZeroDivisionError):
            retriever.invoke(QUESTION, until=Accepted(4, check))
        assert [] == compressor.shown

    @pytest.mark.parametrize("answer", [None, "text", [None], [("a", 1)], {}])
    def test_no_documents(self, base: ResumableRetriever, answer: Any) -> None:
        """A compressor that does not return documents is told so."""

        class Odd(Compressor):
            def compressed(self, documents: list[Document]) -> list[Document]:
                return answer  # type: ignore[no-any-return]

        retriever = ResumableCompressionRetriever(base_compressor=Odd(), base_retriever=base)
        with pytest.raises(ClientError, match="compressor returned"):
            retriever.invoke(QUESTION)

    async def test_cancelled(self, base: ResumableRetriever) -> None:
        """A cancelled call leaves nothing open."""
        began = asyncio.Event()

        class Slow(Compressor):
            async def acompress_documents(
                self, documents: Sequence[Document], query: str, callbacks: Callbacks = None
            ) -> Sequence[Document]:
                began.set()
                await asyncio.Event().wait()
                return documents

        retriever = ResumableCompressionRetriever(base_compressor=Slow(), base_retriever=base)
        task = asyncio.create_task(retriever.ainvoke(QUESTION))
        await began.wait()
        assert 1 == open_queries(base.index)  # type: ignore[arg-type]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    def test_batch(self, base: ResumableRetriever, order: list[str]) -> None:
        """Several calls at once do not meet."""
        retriever = ResumableCompressionRetriever(base_compressor=Compressor(), base_retriever=base)
        assert [order[:4]] * 8 == [ids(found) for found in retriever.batch([QUESTION] * 8)]


class TestArguments:
    """Fields and keywords."""

    @pytest.mark.parametrize(
        "fields",
        [{"mode": "both"}, {"min_documents": 0}, {"patience": 0}, {"window": 0}, {"max_pulls": 0}, {"k": 3}],
        ids=str,
    )
    def test_fields(self, base: ResumableRetriever, fields: dict[str, Any]) -> None:
        """Impossible and unknown fields are refused."""
        with pytest.raises(ValidationError):
            ResumableCompressionRetriever(base_compressor=Compressor(), base_retriever=base, **fields)

    @pytest.mark.parametrize(
        ("overrides", "error"),
        [
            ({"k": 3}, TypeError),
            ({"min_documents": 0}, ClientError),
            ({"max_results": 0}, ClientError),
            ({"deadline": -1}, ClientError),
            ({"until": 3}, ClientError),
        ],
        ids=str,
    )
    def test_keywords(self, base: ResumableRetriever, overrides: dict[str, Any], error: type[Exception]) -> None:
        """So are keywords of a call."""
        retriever = ResumableCompressionRetriever(base_compressor=Compressor(), base_retriever=base)
        with pytest.raises(error):
            retriever.invoke(QUESTION, **overrides)

    def test_keywords_of_a_call(self, base: ResumableRetriever) -> None:
        """A call may ask for another number, filter and namespace."""
        retriever = ResumableCompressionRetriever(base_compressor=Compressor(), base_retriever=base)
        found = both(retriever, min_documents=2, filter="place >= 60")
        assert 2 == len(found) == len([one for one in found if one.metadata["place"] >= 60])
        assert [] == both(retriever, namespace="nobody's")

    def test_pickle(self) -> None:
        """Its configuration pickles, as that of its base does."""
        base = ResumableRetriever(url="http://127.0.0.1:1", token=SecretStr("none"))
        retriever = ResumableCompressionRetriever(base_compressor=Keep(ids=frozenset("a")), base_retriever=base)
        again = pickle.loads(pickle.dumps(retriever))  # noqa: S301 - our own
        assert (again.base_compressor, again.mode) == (retriever.base_compressor, retriever.mode)
