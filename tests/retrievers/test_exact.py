"""Both frameworks' retrievers with `exact=True`: exact order over an index, and a clear word over any other store."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from numpy.typing import NDArray

from nextk import Index, langchain, llama_index
from nextk.engine.pool import ranking
from nextk.errors import ClientError
from nextk.types import Data
from tests.support.letter_models import Letters
from tests.support.pools import small_pools

pytest.importorskip("faiss")

ROWS, SIZES = 600, (2, 1, 3, 2, 20, 40)
VECTORS = np.random.default_rng(5).normal(size=(ROWS, 16)).astype(np.float32)
QUERY = np.random.default_rng(6).normal(size=(2, 16)).astype(np.float32)[1]
NEAREST = [str(row) for row in np.argsort(-(VECTORS @ QUERY) / np.linalg.norm(VECTORS, axis=1), kind="stable")]
QUESTION = "?"
FRAMEWORKS = pytest.mark.parametrize("framework", [langchain, llama_index], ids=["langchain", "llama_index"])


def embedded(texts: list[str]) -> NDArray[np.float32]:
    """Return the vector of the row that each text names, or of the question."""
    return np.array([QUERY if text == QUESTION else VECTORS[int(text)] for text in texts])


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """An index whose searches have pools of so few candidates, without the rule of their tail, that many come late."""
    monkeypatch.setattr(ranking, "_TAIL", 1.0)
    with small_pools(), Index.embedded(type="dense", embedding=embedded, pool_from=100) as index:
        index.upsert([Data(str(row), str(row)) for row in range(ROWS)])
        index.query(data=QUESTION)
        transport: Any = index._transport
        transport._shared_engine.engine._pools.wait()
        yield index
        assert 0 == transport._shared_engine.engine.open_queries()


def pulled(retriever: Any) -> list[str]:
    """Return the ids of the first results of an opened search, page by page."""
    with retriever.open(QUESTION) as search:
        found = [result for size in SIZES for result in search.fetch_next(size)]
    return [getattr(result, "id", None) or result.node.node_id for result in found]


@FRAMEWORKS
def test_order(index: Index, framework: Any) -> None:
    """A search with `exact=True` brings the results in exact order, and one without it does not."""
    own = {"embedding": True}
    assert NEAREST[: sum(SIZES)] == pulled(framework.ResumableRetriever(index=index, exact=True, **own))
    assert NEAREST[: sum(SIZES)] != pulled(framework.ResumableRetriever(index=index, **own))


@FRAMEWORKS
async def test_one_call(index: Index, framework: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call without a policy wants exact order, too, in both colours."""
    wishes, query = list[bool](), Index.query

    def noted(self: Index, *args: Any, **keywords: Any) -> Any:
        wishes.append(keywords["exact"])
        return query(self, *args, **keywords)

    monkeypatch.setattr(Index, "query", noted)
    retriever = framework.ResumableRetriever(index=index, embedding=True, exact=True)
    call = retriever.invoke if framework is langchain else retriever.retrieve
    assert [True, 4 if framework is langchain else 2] == [len(call(QUESTION)) > 0, len(call(QUESTION))]
    assert [True, True] == wishes
    other = await (retriever.ainvoke(QUESTION) if framework is langchain else retriever.aretrieve(QUESTION))
    assert len(other) == len(call(QUESTION))


def test_makers(index: Index) -> None:
    """The makers of retrievers and both vector stores hand the setting on."""
    with langchain.ResumableRetriever.from_texts(["1"], embedded, exact=True) as made:
        assert made.exact
    store = langchain.ResumableVectorStore(index, embedding=True, exact=True)
    assert store.as_retriever().exact
    assert langchain.ResumableRetriever.from_vectorstore(store).exact
    assert not langchain.ResumableRetriever.from_vectorstore(store, exact=False).exact
    with llama_index.ResumableRetriever.from_nodes([], embedded, exact=True) as retriever:
        assert retriever.to_config()["exact"]
    nodes = llama_index.ResumableVectorStore(index, embedding=True, exact=True)
    for other in (
        llama_index.ResumableRetriever.from_vector_store(nodes),
        llama_index.ResumableRetriever.from_index(VectorStoreIndex.from_vector_store(nodes, nodes.embed_model)),
        llama_index.ResumableRetriever(index, **{**retriever.to_config(), "url": None}, embedding=True),
    ):
        assert NEAREST[: sum(SIZES)] == pulled(other)


def test_other_stores() -> None:
    """Over a store that ranks as it does, `exact=True` is refused when the retriever is made."""
    with pytest.raises(ClientError, match=r"exact=True is for an index.*leave exact= out"):
        langchain.ResumableRetriever.from_vectorstore(InMemoryVectorStore(Letters()), exact=True)
    with pytest.raises(ClientError, match=r"exact= is for an index.*leave exact= out"):
        llama_index.ResumableRetriever.from_index(VectorStoreIndex([], embed_model=MockEmbedding(4)), exact=True)


@FRAMEWORKS
def test_wrong_value(index: Index, framework: Any) -> None:
    """A value that is no flag is refused."""
    with pytest.raises(ValueError, match="exact"):
        framework.ResumableRetriever(index=index, embedding=True, exact="yes")
