"""The LlamaIndex vector store: what it is made of, and how it is copied, written down and closed."""

from typing import Any

import pytest
from llama_index.core.settings import Settings
from llama_index.core.vector_stores.types import VectorStoreQuery

from nextk import Index
from nextk.errors import ClientError
from nextk.llama_index import ResumableVectorStore
from tests.support.llama_index_stores import DIMENSION, Digests
from tests.support.sentence_index import QUESTION

pytestmark = pytest.mark.usefixtures("settings_without_model")


class TestSettings:
    """What the store is made of."""

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
