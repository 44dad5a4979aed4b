"""The weighting that an index remembers, and that both retrievers take where they are told none."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nextk import AsyncIndex, Index, langchain, llama_index
from nextk.errors import ClientError, TransportError
from nextk.types import Data, QueryMode, WeightingStrategy
from tests.support.transports import Opener, Recording

TEXTS = ["the rare zebra", "common common common horse", "common horse", "common cat", "common dog", "zebra horse"]
QUESTION = "common zebra horse"


def texts_of(found: list[Any]) -> list[str]:
    """Return the ids of documents or nodes, in order."""
    return [str(getattr(each, "id", None) or each.node_id) for each in found]


def by_langchain(index: Index | AsyncIndex, **settings: Any) -> Any:
    """Make a LangChain retriever that finds every text."""
    return langchain.ResumableRetriever(index=index, embedding=True, k=6, **settings)


def by_llama_index(index: Index | AsyncIndex, **settings: Any) -> Any:
    """Make a LlamaIndex retriever that finds every text."""
    return llama_index.ResumableRetriever(index, embedding=True, similarity_top_k=6, **settings)


def ask(retriever: Any) -> list[str]:
    """Return the ids that one call finds."""
    call = retriever.invoke if isinstance(retriever, langchain.ResumableRetriever) else retriever.retrieve
    return texts_of(call(QUESTION))


async def aask(retriever: Any) -> list[str]:
    """Return the ids that one asynchronous call finds."""
    call = retriever.ainvoke if isinstance(retriever, langchain.ResumableRetriever) else retriever.aretrieve
    return texts_of(await call(QUESTION))


@pytest.fixture(params=[by_langchain, by_llama_index], ids=["langchain", "llama-index"])
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """The constructor of each framework's retriever."""
    made: Callable[..., Any] = request.param
    return made


@pytest.fixture(
    params=[langchain.ResumableRetriever.from_texts, llama_index.ResumableRetriever.from_nodes],
    ids=["texts", "nodes"],
)
def build(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """The method of each framework's retriever that makes an index."""
    made: Callable[..., Any] = request.param
    return made


def filled(weighting: str | None = None) -> Index:
    """Return a sparse index in memory."""
    index = Index.embedded(sparse_embedding="bm25", weighting=weighting)
    index.upsert([Data(text, text) for text in TEXTS])
    return index


@pytest.fixture
def weighted() -> Iterator[Index]:
    """An index that wants to be weighted, whose rankings with and without weighting differ."""
    with filled("idf") as index:
        yield index


def ranking(index: Index, weighting: WeightingStrategy | None) -> list[str]:
    """Return the ids that the index itself finds."""
    return [match.id for match in index.query(data=QUESTION, top_k=6, weighting_strategy=weighting)]


class TestRetrievers:
    """The weighting of a retriever."""

    async def test_unset(self, make: Callable[..., Any], weighted: Index) -> None:
        """An unset weighting is that of the index, in one call, in a session, and in both colours."""
        retriever, expected = make(weighted), ranking(weighted, WeightingStrategy.IDF)
        assert ranking(weighted, None) != expected
        assert expected == ask(retriever) == await aask(make(weighted))
        with retriever.open(QUESTION) as search:
            assert expected == texts_of(search.fetch_next(2) + search.fetch_next(4))
        async with make(weighted).aopen(QUESTION) as asearch:
            assert expected == texts_of(await asearch.fetch_next(6))

    async def test_none(self, make: Callable[..., Any], weighted: Index) -> None:
        """The word none overrides the weighting of the index, and costs no request."""
        recording = Recording(weighted._transport)
        retriever = make(Index._over(recording), weighting="none")
        assert ranking(weighted, None) == ask(retriever) == await aask(retriever)
        assert "info" not in recording.sent

    def test_idf(self, make: Callable[..., Any]) -> None:
        """A weighting that is set holds over an index that wants none."""
        with filled() as index:
            assert ranking(index, None) == ask(make(index))
            assert ranking(index, WeightingStrategy.IDF) == ask(make(index, weighting="idf"))

    def test_unknown(self, make: Callable[..., Any], weighted: Index) -> None:
        """A weighting that is none of the words is refused, and the words are named."""
        with pytest.raises(ValueError, match=r"'idf'.*'none'"):
            make(weighted, weighting="tf")

    async def test_asked_once(self, make: Callable[..., Any], weighted: Index) -> None:
        """The index is asked at the first search, and never again by the same retriever."""
        recording = Recording(weighted._transport)
        retriever = make(Index._over(recording))
        assert "info" not in recording.sent
        for _ in range(2):
            ask(retriever)
            with retriever.open(QUESTION) as search:
                search.fetch_next(1)
        await aask(retriever)
        assert 1 == recording.sent.count("info")

    def test_dense(self, make: Callable[..., Any]) -> None:
        """A search without sparse vectors asks for no weighting."""
        with Index.embedded(embedding="static", sparse_embedding="bm25", weighting="idf") as index:
            index.upsert([Data(text, text) for text in TEXTS])
            recording = Recording(index._transport)
            ask(make(Index._over(recording), retrieval_mode="dense"))
            assert "info" not in recording.sent

    def test_failing_info(self, make: Callable[..., Any], weighted: Index, monkeypatch: pytest.MonkeyPatch) -> None:
        """An index that does not answer raises its own error with a note, and the search goes on once it answers."""
        retriever = make(weighted)
        with retriever.open(QUESTION) as search:
            with monkeypatch.context() as patch:

                def fail() -> None:
                    message = "gone"
                    raise TransportError(message)

                patch.setattr(weighted, "info", fail)
                with pytest.raises(TransportError, match="gone") as caught:
                    search.fetch_next(6)
                assert 'weighting="none"' in caught.value.__notes__[0]
            assert ranking(weighted, WeightingStrategy.IDF) == texts_of(search.fetch_next(6))

    def test_config(self, weighted: Index) -> None:
        """The settings of a LlamaIndex retriever tell an unset weighting from none."""
        for weighting in (None, "none", "idf"):
            assert weighting == by_llama_index(weighted, weighting=weighting).to_config()["weighting"]


class TestCursors:
    """A cursor goes on with the weighting that its search began with."""

    def test_from_texts(self, tmp_path: Path) -> None:
        """A cursor of a retriever that made its index goes on in one that only opened it, with the same ranking."""
        made = langchain.ResumableRetriever.from_texts(TEXTS, path=tmp_path / "i", ids=TEXTS)
        with made, made.open(QUESTION) as search:
            whole = texts_of(search.fetch_next(6))
        with Index.embedded(tmp_path / "i") as index:
            retriever = by_langchain(index)
            with retriever.open(QUESTION) as search:
                first, cursor = texts_of(search.fetch_next(2)), search.cursor()
            with by_langchain(index).resume(cursor) as search:
                assert whole == first + texts_of(search.fetch_next(4))

    def test_pinned(self, make: Callable[..., Any], weighted: Index) -> None:
        """An unset weighting takes that of the cursor; a set one has to be that of the cursor."""
        for weighting, other in (("none", "idf"), ("idf", "none"), (None, "none")):
            retriever = make(weighted, weighting=weighting)
            with retriever.open(QUESTION) as search:
                first, cursor = texts_of(search.fetch_next(2)), search.cursor()
            with make(weighted).resume(cursor) as search:
                assert ask(retriever) == first + texts_of(search.fetch_next(4))
            with pytest.raises(ClientError, match="another weighting"):
                make(weighted, weighting=other).resume(cursor)

    def test_before_the_first_pull(self, make: Callable[..., Any], weighted: Index) -> None:
        """A cursor of a search that has pulled nothing leaves the weighting to the index, as its search did."""
        with make(weighted).open(QUESTION) as search:
            cursor = search.cursor()
        with make(weighted).resume(cursor) as search:
            assert ranking(weighted, WeightingStrategy.IDF) == texts_of(search.fetch_next(6))

    @pytest.mark.parametrize("mode", ["sparse", "hybrid"])
    async def test_widened_from_dense(self, make: Callable[..., Any], mode: str) -> None:
        """A dense search has no weighting, so the index is asked for it when the search is widened."""
        texts = [*TEXTS, *(f"common common horse {number}" for number in range(20)), "a quagga", "quagga and zebra"]
        question = f"{QUESTION} quagga"
        with Index.embedded(embedding="static", sparse_embedding="bm25", weighting="idf") as index:
            index.upsert([Data(text, text) for text in texts])
            found: dict[str | None, list[list[str]]] = {}
            for weighting in ("idf", None, "none"):
                retriever = make(index, retrieval_mode="dense", weighting=weighting)
                with retriever.open(question) as search:
                    search.fetch_next(1)
                    search.widen(retrieval_mode=mode)
                    cursor = search.cursor()
                    found[weighting] = [texts_of(search.fetch_next(2) + search.fetch_next(3))]
                async with retriever.aopen(question) as search:
                    await search.fetch_next(1)
                    await search.widen(retrieval_mode=mode)
                    found[weighting].append(texts_of(await search.fetch_next(2) + await search.fetch_next(3)))
                with retriever.resume(cursor) as search:
                    found[weighting].append(texts_of(search.fetch_next(2) + search.fetch_next(3)))
            assert found["idf"] == found[None]
            assert found["none"] != found["idf"]

    def test_widened(self, make: Callable[..., Any]) -> None:
        """A cursor of a dense search that is resumed and widened takes the weighting of the index."""
        with Index.embedded(embedding="static", sparse_embedding="bm25", weighting="idf") as index:
            index.upsert([Data(text, text) for text in TEXTS])
            retriever = make(index, retrieval_mode="dense")
            with retriever.open(QUESTION) as search:
                search.fetch_next(1)
                cursor = search.cursor()
                search.widen(retrieval_mode="sparse")
                expected = texts_of(search.fetch_next(5))
            with retriever.resume(cursor) as search:
                search.widen(retrieval_mode="sparse")
                assert expected == texts_of(search.fetch_next(5))


class TestIndex:
    """The weighting as a property of an index."""

    @pytest.mark.parametrize(
        ("stored", "keywords", "wanted"),
        [
            (None, {}, "IDF"),
            (None, {"weighting": "none"}, "NONE"),
            (None, {"weighting": "idf"}, "IDF"),
            ("none", {}, "NONE"),
            ("none", {"weighting": "idf"}, "NONE"),
            ("idf", {}, "IDF"),
            ("idf", {"weighting": "none"}, "IDF"),
        ],
    )
    @pytest.mark.parametrize("exists", [False, True])
    def test_made_by_a_retriever(
        self,
        tmp_path: Path,
        build: Callable[..., Any],
        stored: str | None,
        keywords: dict[str, str],
        wanted: str,
        exists: bool,
    ) -> None:
        """A retriever that opens or makes an index decides its weighting if it is unset, and never changes it."""
        if exists or stored:
            Index.embedded(
                tmp_path / "i", embedding="static", sparse_embedding="bm25", weighting=stored and stored.title()
            ).close()
        for _ in range(2):
            with build([], path=tmp_path / "i", **keywords) as retriever:
                assert wanted == retriever.index.info().weighting
        with Index.embedded(tmp_path / "i") as index:
            assert wanted == index.info().weighting

    def test_own_model(self, tmp_path: Path, build: Callable[..., Any]) -> None:
        """A retriever that makes an index of sparse vectors of a model of one's own leaves its weighting unset."""
        with build([], path=tmp_path / "i", sparse_embedding=own_sparse) as retriever:
            assert retriever.index.info().weighting is None
        with Index.embedded(tmp_path / "i", sparse_embedding=own_sparse, weighting="idf") as index:
            assert "IDF" == index.info().weighting

    def test_unknown_word(self, build: Callable[..., Any]) -> None:
        """A retriever that makes an index refuses a weighting that is none of the words."""
        with pytest.raises(ValueError, match=r"'idf'.*'none'"):
            build([], weighting="tf")

    def test_retrievers_of_an_index_that_wants_none(self, tmp_path: Path, build: Callable[..., Any]) -> None:
        """A retriever without a weighting over a stored `"none"` searches unweighted."""
        path = tmp_path / "i"
        with Index.embedded(path, embedding="static", sparse_embedding="bm25", weighting="none") as index:
            index.upsert([Data(text, text) for text in TEXTS])
            count = {"k": 6} if build == langchain.ResumableRetriever.from_texts else {"similarity_top_k": 6}
            with build([], path=path, retrieval_mode="sparse", **count) as retriever:
                plain, weighted = (
                    [
                        match.id
                        for match in index.query(
                            data=QUESTION, top_k=6, query_mode=QueryMode.SPARSE, weighting_strategy=weighting
                        )
                    ]
                    for weighting in (None, WeightingStrategy.IDF)
                )
                assert plain == ask(retriever) != weighted

    def test_same_model(self, tmp_path: Path) -> None:
        """A retriever that makes its index accepts another model where it is told that it is the same."""
        for build in (langchain.ResumableRetriever.from_texts, llama_index.ResumableRetriever.from_nodes):
            path = tmp_path / build.__name__
            build([], path=path, sparse_embedding=own_sparse).close()
            with pytest.raises(ClientError, match="same_model=True"):
                build([], path=path, sparse_embedding=another_sparse)
            build([], path=path, sparse_embedding=another_sparse, same_model=True).close()

    @pytest.mark.parametrize("word", ["idf", "none"])
    def test_reopening(self, tmp_path: Path, word: str) -> None:
        """An unset weighting is that of the first opening that names one; then no other one opens the index."""
        path, other = tmp_path / "i", "none" if word == "idf" else "idf"
        Index.embedded(path, type="sparse").close()
        with Index.embedded(path) as index:
            assert index.info().weighting is None
        Index.embedded(path, weighting=word).close()
        Index.embedded(path, weighting=word.upper()).close()
        with Index.embedded(path) as index:
            assert word.upper() == index.info().weighting
            with pytest.raises(ClientError, match=f"weighting='{word}'.*'{other}'"):
                Index.embedded(path, weighting=other)
        with pytest.raises(ClientError, match=f"weighting='{word}'.*'{other}'"):
            Index.embedded(path, weighting=other)

    def test_dense(self, tmp_path: Path) -> None:
        """A dense index has nothing to weight, when it is made and when it is opened again."""
        with pytest.raises(ClientError, match="weighting"):
            Index.embedded(type="dense", weighting="idf")
        Index.embedded(tmp_path / "i", type="dense").close()
        with pytest.raises(ClientError, match="weighting"):
            Index.embedded(tmp_path / "i", weighting="idf")
        Index.embedded(tmp_path / "i", weighting="none").close()
        Index.embedded(type="dense", weighting="none").close()

    @pytest.mark.parametrize("own", ["embedding", "sparse_embedding"])
    def test_one_own_model(self, tmp_path: Path, own: str) -> None:
        """A hybrid index is opened with its own model and a weighting; its file knows of the other model."""
        models: dict[str, Any] = {"embedding": "static", "sparse_embedding": "bm25"}
        models[own] = own_dense if own == "embedding" else own_sparse
        Index.embedded(tmp_path / "i", **models).close()
        with Index.embedded(tmp_path / "i", weighting="idf", **{own: models[own]}) as index:
            info = index.info()
        assert ("HYBRID", "IDF") == (info.index_type, info.weighting)

    @pytest.mark.parametrize(("weighting", "told"), [(None, None), ("none", "NONE"), ("idf", "IDF")])
    async def test_info(self, open_index: Opener, weighting: str | None, told: str | None) -> None:
        """`info` tells an unset weighting from none."""
        assert told == (await open_index("sparse", weighting=weighting).info()).weighting

    async def test_info_and_queries(self, open_index: Opener) -> None:
        """`info` tells the weighting, and a query of the index itself is weighted only as it says."""
        index = open_index("sparse", sparse_embedding="bm25", weighting="idf")
        await index.upsert([Data(text, text) for text in TEXTS])
        assert "IDF" == (await index.info()).weighting
        with filled() as plain:
            expected = ranking(plain, None)
        assert expected == [match.id for match in await index.query(data=QUESTION, top_k=6)]


def own_dense(texts: list[str]) -> list[list[float]]:
    """Return equal dense vectors."""
    return [[1.0, 2.0] for _ in texts]


def own_sparse(texts: list[str]) -> list[dict[int, float]]:
    """Return equal sparse vectors."""
    return [{1: 1.0} for _ in texts]


def another_sparse(texts: list[str]) -> list[dict[int, float]]:
    """Return equal sparse vectors."""
    return own_sparse(texts)
