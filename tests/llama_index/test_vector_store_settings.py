"""The LlamaIndex vector store: what it is made of, and how it is copied, written down and closed."""

import copy
import json
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama_index.core import StorageContext
from llama_index.core.settings import Settings
from llama_index.core.vector_stores.types import VectorStoreQuery
from pydantic import ValidationError

from nextk import AsyncIndex, Index
from nextk.errors import ClientError
from nextk.llama_index import ResumableVectorStore
from tests.support.llama_index_colours import words_of
from tests.support.llama_index_stores import DIMENSION, NODES, Digests
from tests.support.local_server import TOKEN, LocalServer
from tests.support.sentence_index import QUESTION

pytestmark = pytest.mark.usefixtures("settings_without_model")


class TestSettings:
    """The arguments of the store."""

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ({"embed_model": "static"}, "embed_model='static' is not one of LlamaIndex's"),
            ({"embedding": "static"}, "is not True, which lets the index embed"),
            ({"embedding": True, "embed_model": Digests()}, "embedding=True leaves all embedding to the index"),
            ({"fusion": "sum"}, "fusion='sum' is not one of"),
            ({"weighting": "tf"}, "weighting='tf' is not one of"),
            ({"filter": {"a": 1}}, "filter="),
            ({"namespace": 5}, "namespace=5"),
            ({"batch_size": 1_001}, "batch_size=1001: one request stores at most 1,000 records"),
            ({"batch_size": 0}, "batch_size=0 must be"),
            ({"deadline": 0}, "deadline=0 leaves no time"),
            ({"text_key": 5}, "text_key=5"),
            ({"url": "http://127.0.0.1"}, "an index is given, so url= and token= are not used"),
        ],
        ids=lambda given: given if isinstance(given, str) else "-".join(given),
    )
    def test_wrong_arguments(self, index: Index, arguments: dict[str, Any], complaint: str) -> None:
        """An argument of another kind, or one that contradicts another, is refused by its name."""
        with pytest.raises(ClientError, match=complaint):
            ResumableVectorStore(index, **arguments)

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("name_space", "did you mean namespace"),
            ("collection_name", "give namespace="),
            ("similarity_top_k", "each query says how many it wants"),
            ("filters", "filter= holds for all of them"),
            ("embeddings", "give embed_model="),
            ("stores_text", "give one of index, url, token"),
        ],
    )
    def test_unknown_arguments(self, index: Index, name: str, hint: str) -> None:
        """An unknown argument is refused, with what may be meant."""
        wrong: dict[str, Any] = {name: 1}
        with pytest.raises(TypeError, match=rf"ResumableVectorStore\(\) got an .*{name}.*{hint}"):
            ResumableVectorStore(index, **wrong)

    def test_no_index(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without an index there has to be a URL, given or in the environment."""
        monkeypatch.delenv("UPSTASH_VECTOR_REST_URL", raising=False)
        with pytest.raises(ClientError, match="no url: pass url="):
            ResumableVectorStore()

    async def test_either_colour(self, index: Index) -> None:
        """Both colours of calls work over both colours of index, also inside a running loop."""
        query = VectorStoreQuery(query_str=QUESTION, similarity_top_k=3)
        expected = ResumableVectorStore(index).query(query).ids
        for either in (index, index.to_async()):
            store = ResumableVectorStore(either)
            assert expected == store.query(query).ids == (await store.aquery(query)).ids

    async def test_the_model_for_llama_index(self, index: Index) -> None:
        """`embed_model` is the store's own, or one that costs nothing if the index embeds, or that of `Settings`."""
        own = Digests()
        with Index.embedded(type="dense", dimension=DIMENSION) as vectors:
            assert own is ResumableVectorStore(vectors, embed_model=own).embed_model
            with pytest.raises(ClientError, match=r"set Settings\.embed_model"):
                _ = ResumableVectorStore(vectors).embed_model
            Settings.embed_model = own
            assert own is ResumableVectorStore(vectors).embed_model
        for embedding in (True, None):
            free = ResumableVectorStore(index, embedding=embedding).embed_model
            assert [[], []] == free.get_text_embedding_batch(["a", "b"])
            assert [[]] == await free.aget_text_embedding_batch(["a"])
            assert [] == free.get_query_embedding("a") == await free.aget_query_embedding("a")
            assert "EmbeddedByIndex" == free.to_dict()["class_name"]


@pytest.fixture
def served(local_server: LocalServer) -> Iterator[str]:
    """The URL of a dense index that holds two nodes."""
    local_server.add("written-down", type="dense", dimension=DIMENSION)
    url = local_server.index_url("written-down")
    with ResumableVectorStore(url=url, token=TOKEN, embed_model=Digests()) as store:
        store.add(NODES[:2])
    yield url
    engine: Any = local_server.engines.pop("written-down")
    assert 0 == engine.open_queries()
    engine.close()


@pytest.fixture
def environment(served: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of the index, for which the environment has the token."""
    monkeypatch.delenv("UPSTASH_VECTOR_REST_URL", raising=False)
    monkeypatch.setenv("UPSTASH_VECTOR_REST_TOKEN", TOKEN)
    return served


QUERY = VectorStoreQuery(query_str=NODES[1].text, similarity_top_k=1)


class TestWrittenDown:
    """Copies, pickles, dicts and secrets."""

    def test_no_secrets(self, served: str) -> None:
        """The token shows in nothing that the store is written down as, and all settings do."""
        settings: dict[str, Any] = {
            "url": served,
            "namespace": "n",
            "embedding": True,
            "fusion": "dbsf",
            "weighting": "none",
            "filter": "a = 1",
            "text_key": ["body"],
            "batch_size": 7,
            "deadline": None,
            "exact": True,
        }
        with ResumableVectorStore(token=TOKEN, **settings) as store:
            assert {**settings, "class_name": "ResumableVectorStore"} == store.to_dict() == json.loads(store.to_json())
            context = StorageContext.from_defaults(vector_store=store)
            shown = [store.to_json(), repr(store), str(store), store.model_dump_json()]
            shown += [json.dumps(context.vector_stores["default"].to_dict()), repr(vars(store)), repr(copy.copy(store))]
            assert [] == [each for each in shown if TOKEN in str(each)]
            assert TOKEN.encode() not in pickle.dumps(store)
            assert repr(store).startswith("ResumableVectorStore(Index(HttpTransport('http://127.0.0.1")

    def test_from_dict(self, environment: str) -> None:
        """A store that was written down as a dict takes its token from the environment, and further arguments."""
        with ResumableVectorStore(url=environment, token=TOKEN, fusion="RRF", weighting="IDF") as store:
            written = store.to_dict()
        with ResumableVectorStore.from_dict(written, embed_model=Digests()) as again:
            assert written == again.to_dict()
            assert [NODES[1].node_id] == again.query(QUERY).ids
        with ResumableVectorStore.from_json(json.dumps(written), embed_model=Digests()) as again:
            assert [NODES[1].node_id] == again.query(QUERY).ids

    async def test_pickle(self, environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A store by URL pickles with its models and without its token, which the environment gives at first use."""
        with ResumableVectorStore(
            url=environment, token=TOKEN, embed_model=Digests(), sparse_embedding=words_of, filter="place < 9"
        ) as store:
            store.query(QUERY)
            pickled = pickle.dumps(store)
        with pickle.loads(pickled) as again:  # noqa: S301 - our own
            assert store.to_dict() == again.to_dict()
            assert f"ResumableVectorStore(Index('{environment}'), namespace='')" == repr(again)
            assert [NODES[1].node_id] == again.query(QUERY).ids
        async with pickle.loads(pickled) as again:  # noqa: S301
            assert [NODES[1].node_id] == (await again.aquery(QUERY)).ids
        monkeypatch.delenv("UPSTASH_VECTOR_REST_TOKEN")
        async with pickle.loads(pickled) as unused:  # noqa: S301
            with pytest.raises(ClientError, match="no token: pass token=, or set UPSTASH_VECTOR_REST_TOKEN"):
                unused.query(QUERY)

    def test_what_cannot_be_pickled(self, index: Index) -> None:
        """A store over an index object is tied to this process, and says how to make one that is not."""
        with pytest.raises(ClientError, match="given an index object, which is tied to this process: make it by url="):
            pickle.dumps(ResumableVectorStore(index))

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, ResumableVectorStore.model_copy])
    def test_copies(self, index: Index, copied: Callable[[Any], Any]) -> None:
        """Copies search over the same connection and with the same models."""
        store = ResumableVectorStore(index, namespace="n", filter="place < 3")
        again = copied(store)
        assert (store, store.to_dict()) == (again, again.to_dict())
        assert store.client is again.client
        assert store.query(QUERY).ids == again.query(QUERY).ids

    def test_settings_stay(self, index: Index) -> None:
        """A setting cannot be changed in place, where it would have no effect."""
        store = ResumableVectorStore(index)
        with pytest.raises(ValidationError, match="frozen"):
            store.namespace = "other"

    async def test_closing(self, index: Index, served: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """An index that the store has opened is closed with it; one that was handed over stays open."""
        closed: list[str] = []
        close, aclose = Index.close, AsyncIndex.close

        def note(client: Index) -> None:
            closed.append("blocking")
            close(client)

        async def anote(client: AsyncIndex) -> None:
            closed.append("asynchronous")
            await aclose(client)

        monkeypatch.setattr(Index, "close", note)
        monkeypatch.setattr(AsyncIndex, "close", anote)
        with ResumableVectorStore(index) as store:
            pass
        async with store:
            pass
        assert ([], 1) == (closed, len(store.query(QUERY).ids or []))
        with ResumableVectorStore(url=served, token=TOKEN, embed_model=Digests()) as opened:
            assert [NODES[1].node_id] == opened.query(QUERY).ids
        async with opened:
            assert [NODES[1].node_id] == (await opened.aquery(QUERY)).ids
        assert ["blocking", "asynchronous"] == closed


def test_settings_do_not_change() -> None:
    """A copy with other settings would search as before, so that it is refused; a plain copy shares the connection."""
    with Index.embedded(dimension=DIMENSION) as index:
        store = ResumableVectorStore(index)
        with pytest.raises(ClientError, match="make another ResumableVectorStore"):
            store.model_copy(update={"namespace": "b"})
        assert store.model_copy().client is store.client
