"""Storing and removing by the LangChain retriever."""

import asyncio
import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

from nextk import Index
from nextk.errors import ClientError, MissingExtraError, RefusedError
from nextk.langchain import ResumableRetriever
from nextk.retrievers.writing import open_embedded
from nextk.stores import content_id
from nextk.types import SparseVector
from tests.support.letter_models import Initials, Letters, contents, loops_to_keep_free
from tests.support.sentence_index import QUESTION, TEXTS
from tests.support.transports import Recording

Colour = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Colour:
    """Calls a method in one of the two colours; the second one must not block the loop."""

    async def run(subject: Any, name: str, *args: Any, **keywords: Any) -> Any:
        if request.param == "sync":
            return getattr(subject, name)(*args, **keywords)
        loops_to_keep_free.add(id(asyncio.get_running_loop()))
        try:
            return await getattr(subject, f"a{name}")(*args, **keywords)
        finally:
            loops_to_keep_free.clear()

    return run


@pytest.fixture
def texts() -> Iterator[Index]:
    """An empty index that embeds text."""
    with Index.embedded(embedding="static", sparse_embedding="bm25") as index:
        yield index


@pytest.fixture
def vectors() -> Iterator[Index]:
    """An empty index that embeds nothing."""
    with Index.embedded(dimension=4) as index:
        yield index


def stored(index: Index, namespace: str = "") -> dict[str, Any]:
    """Every record by its id."""
    found = index.range("", 1_000, True, True, namespace, include_data=True)
    return {record.id: record for record in found.vectors}


class TestAddTexts:
    """Storing texts."""

    async def test_where_the_index_embeds(self, call: Colour, texts: Index) -> None:
        """The text is the data, the metadata the caller's, and the id made of both."""
        retriever = ResumableRetriever(index=texts, namespace="ns")
        ids = await call(retriever, "add_texts", ["The sky.", "Grass."], [{"a": 1}, {}])
        assert [content_id("The sky.", {"a": 1}), content_id("Grass.", {})] == ids
        records = stored(texts, "ns")
        assert [("The sky.", {"a": 1}), ("Grass.", {})] == [(records[key].data, records[key].metadata) for key in ids]
        assert "The sky." == retriever.invoke("sky")[0].page_content
        assert {} == stored(texts)

    async def test_where_the_retriever_embeds(self, call: Colour, vectors: Index) -> None:
        """The vectors are the models', and the text is where LangChain's own store keeps it."""
        retriever = ResumableRetriever(index=vectors, embedding=Letters(), sparse_embedding=Initials(), k=1)
        [key] = await call(retriever, "add_texts", ["see a sea"], [{"a": 1}])
        record = stored(vectors)[key]
        assert ({"text": "see a sea", "a": 1}, None) == (record.metadata, record.data)
        assert (Letters().embed_query("see a sea"), Initials().embed_query("see a sea")) == (
            record.vector,
            record.sparse_vector,
        )
        assert [Document("see a sea", id=key, metadata={"a": 1})] == retriever.invoke("see a sea")

    @pytest.mark.parametrize(("text_key", "metadata", "data"), [("body", {"body": "sea"}, None), ((), {}, "sea")])
    async def test_text_key(self, call: Colour, vectors: Index, text_key: Any, metadata: Any, data: Any) -> None:
        """The text goes where this retriever looks for it first; without a key it is the data."""
        retriever = ResumableRetriever(
            index=vectors, embedding=Letters(), sparse_embedding=Initials(), text_key=text_key
        )
        [key] = await call(retriever, "add_texts", ["sea"])
        record = stored(vectors)[key]
        assert (metadata, data) == (record.metadata, record.data)
        assert ["sea"] == contents(retriever.invoke("sea"))

    @pytest.mark.parametrize("only", ["embedding", "sparse_embedding"])
    async def test_one_model(self, call: Colour, only: str) -> None:
        """One model fills an index of its kind."""
        model: Any = {"embedding": Letters(), "sparse_embedding": Initials()}[only]
        kind = {"type": "dense", "dimension": 4} if only == "embedding" else {"type": "sparse"}
        with Index.embedded(**kind) as index:
            retriever = ResumableRetriever(index=index, **{only: model})
            await call(retriever, "add_texts", ["sea", "day"])
            assert ["day"] == contents(retriever.invoke("day", k=1))

    async def test_batches(self, call: Colour, vectors: Index) -> None:
        """Texts are embedded and sent batch by batch; of equal ones one is stored, and each has its id."""
        recording = Recording(vectors._transport)
        model = Counting()
        retriever = ResumableRetriever(index=Index._over(recording), embedding=model, sparse_embedding=Initials())
        ids = await call(retriever, "add_texts", ["a", "b", "a", "c", "d", "e"], batch_size=2)
        assert [2, 2, 1] == model.page_count
        assert ["upsert"] * 3 == recording.sent
        assert ids[0] == ids[2]
        assert set(ids) == set(stored(vectors))
        assert ids == await call(retriever, "add_texts", iter(["a", "b", "a", "c", "d", "e"]))
        assert 5 == len(stored(vectors))

    async def test_no_list_of_texts(self, call: Colour, texts: Index) -> None:
        """A value that is no list is refused, and the message names its type."""
        for given in (None, 5):
            with pytest.raises(ClientError, match=rf"^texts has to be a list, not {type(given).__name__}$"):
                await call(ResumableRetriever(index=texts), "add_texts", given)

    async def test_nothing(self, call: Colour, vectors: Index) -> None:
        """No texts are no request."""
        recording = Recording(vectors._transport)
        retriever = ResumableRetriever(index=Index._over(recording))
        assert [] == await call(retriever, "add_texts", [])
        assert [] == await call(retriever, "add_documents", [])
        assert [] == recording.sent

    async def test_how_far_it_came(self, call: Colour, texts: Index) -> None:
        """An exception says how many batches are stored; those are, whole, and the exception keeps its kind."""

        def embed(each: list[str]) -> list[list[float]]:
            return [[1.0] * (3 if "d" in each else 2)] * len(each)

        with Index.embedded(type="dense", embedding=embed) as index:
            retriever = ResumableRetriever(index=index, embedding=True)
            with pytest.raises(RefusedError, match=r"expected: 2\n1 of 3 batches") as caught:
                await call(retriever, "add_texts", list("abcde"), ids=range(1, 6), batch_size=2)
            [note] = caught.value.__notes__
            assert note.startswith("1 of 3 batches are stored (2 of 5 records), the next one whole or not at all; ")
            assert {"1", "2"} == stored(index).keys()

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["sea"], r"^1 texts, 1 metadatas and 2 ids"),
            (["sea", "sky", "sand"], r"^3 texts, 2 metadatas and 2 ids"),
            ("ab", r"^texts is one string"),
            ([b"sea", "sky"], r"^record 0 \(id '1'\): its text is b'sea', and has to be a string"),
        ],
    )
    async def test_wrong_texts(self, call: Colour, texts: Index, arguments: Any, complaint: str) -> None:
        """What cannot be stored is refused before anything is."""
        retriever = ResumableRetriever(index=texts)
        metadatas: list[Any] = [{} for _ in arguments][:2]
        with pytest.raises(ClientError, match=complaint):
            await call(retriever, "add_texts", arguments, metadatas, ids=["1", "2"])
        assert {} == stored(texts)

    @pytest.mark.parametrize(
        ("metadata", "complaint"),
        [
            ({"a": object()}, r"metadata.a is an object; give"),
            (
                {"text": 1},
                r"metadata has the key 'text', where the text is looked for: rename it, or set text_key=",
            ),
            ({"_pageContentLC": "x"}, r"metadata has the key '_pageContentLC'"),
        ],
    )
    async def test_wrong_metadata(self, call: Colour, texts: Index, metadata: dict[str, Any], complaint: str) -> None:
        """Metadata that would not come back as it is is refused, for all texts together."""
        retriever = ResumableRetriever(index=texts)
        for ids, name in ((None, "record 1: "), (["1", "2"], r"record 1 \(id '2'\): ")):
            with pytest.raises(ClientError, match=f"^{name}{complaint}"):
                await call(retriever, "add_texts", ["sky", "sea"], [{}, metadata], ids=ids, batch_size=1)
        assert {} == stored(texts)

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            (
                "x" * 60_000,
                r"^record 1 \(id '1'\): its text has 60,000 bytes, too many for the metadata, where .* 'text'",
            ),
            ("é" * 25_000, r"^record 1 \(id '1'\): its text has 50,000 bytes, too many "),
            ("a\0b", r"^record 1 \(id '1'\): its text holds the NUL character, which metadata, where .* under 'text'"),
        ],
        ids=["long", "long in bytes", "NUL"],
    )
    async def test_texts_that_metadata_cannot_hold(self, call: Colour, text: str, complaint: str) -> None:
        """It is said that the text is too much for metadata, and how it can be stored; that way it is, and is found."""
        with Index.embedded(type="dense", dimension=4) as index:
            many = ["sky", text, "sea"]
            retriever = ResumableRetriever(index=index, embedding=Letters())
            with pytest.raises(RefusedError, match=rf"{complaint}.*, or set text_key=\(\), so that the "):
                await call(retriever, "add_texts", many, ids=range(3), batch_size=1)
            assert {} == stored(index)
            retriever = ResumableRetriever(index=index, embedding=Letters(), text_key=(), k=3)
            await call(retriever, "add_texts", many, ids=range(3), batch_size=1)
            assert {*many} == {*contents(await call(retriever, "invoke", "sky"))}

    async def test_texts_that_are_too_long(self, call: Colour, texts: Index) -> None:
        """No index takes a text of more than a million bytes, and it is said which text that is before any is sent."""
        complaint = r"^record 1 \(id '1'\): its text has 1,000,001 bytes; at most 1,000,000 are allowed$"
        retriever = ResumableRetriever(index=texts)
        with pytest.raises(RefusedError, match=complaint):
            await call(retriever, "add_texts", ["sky", "x" * 1_000_001], ids=range(2), batch_size=1)
        assert {} == stored(texts)

    @pytest.mark.parametrize("text", ["x\ud800", "x"], ids=["text", "id"])
    async def test_lone_surrogates(self, call: Colour, texts: Index, text: str) -> None:
        """A text or an id that UTF-8 cannot express is named before any text is sent."""
        many, ids = ["sky", text], ["0", "1" if text != "x" else "1\udfff"]
        with pytest.raises(ClientError, match=r"^record 1 \(id '1.*'\): its (text|id) has lone surrogates"):
            await call(ResumableRetriever(index=texts), "add_texts", many, ids=ids, batch_size=1)
        assert {} == stored(texts)

    @pytest.mark.parametrize("size", [0, 1_001, True, 2.5])
    async def test_wrong_batch_size(self, call: Colour, texts: Index, size: Any) -> None:
        """A batch is 1 to 1,000 records."""
        with pytest.raises(ClientError, match=f"^batch_size={size}"):
            await call(ResumableRetriever(index=texts), "add_texts", ["sky"], batch_size=size)

    async def test_unknown_keywords(self, call: Colour, texts: Index) -> None:
        """A keyword that is not known is refused, not dropped."""
        with pytest.raises(TypeError, match="embedding_chunk_size"):
            await call(ResumableRetriever(index=texts), "add_texts", ["sky"], embedding_chunk_size=3)

    async def test_nobody_embeds(self, call: Colour, vectors: Index) -> None:
        """Without any model it is said which argument is missing."""
        with pytest.raises(ClientError, match=r"to store in it, give embedding="):
            await call(ResumableRetriever(index=vectors), "add_texts", ["sky"])

    @pytest.mark.parametrize(
        ("model", "complaint"),
        [
            (lambda _texts: [SparseVector([1], [1.0])] * 3, r"^sparse_embedding made 3 vectors of 1 texts"),
            (lambda _texts: [7], r"^sparse_embedding returned int"),
        ],
    )
    async def test_wrong_models(self, call: Colour, model: Any, complaint: str) -> None:
        """A model that makes something else than one vector for each text is found out."""
        with Index.embedded(type="sparse") as index:
            with pytest.raises(ClientError, match=complaint):
                await call(ResumableRetriever(index=index, sparse_embedding=model), "add_texts", ["sky"])
            assert {} == stored(index)

    async def test_a_model_of_questions_only(self, call: Colour) -> None:
        """A sparse model that embeds only questions can search, but not store."""

        class Questions:
            def embed_query(self, text: str) -> SparseVector:
                return Initials().embed_query(text)

        with Index.embedded(type="sparse") as index:
            retriever = ResumableRetriever(index=index, sparse_embedding=Questions())
            assert [] == retriever.invoke("sky")
            with pytest.raises(ClientError, match=r"has no embed_documents\(texts\)"):
                await call(retriever, "add_texts", ["sky"])

    @pytest.mark.parametrize(
        "model",
        [
            lambda texts: [SparseVector([7], [1.0]) for _ in texts],
            lambda texts: [{7: 1.0} for _ in texts],
            lambda texts: ([[7]] * len(texts), [[1.0]] * len(texts)),
        ],
        ids=["vectors", "dicts", "qdrant"],
    )
    async def test_makes_of_sparse_models(self, call: Colour, model: Any) -> None:
        """A sparse model may be a function, of any of the makes that search takes."""
        with Index.embedded(type="sparse") as index:
            retriever = ResumableRetriever(index=index, sparse_embedding=model)
            await call(retriever, "add_texts", ["sky", "sea"])
            assert [SparseVector([7], [1.0])] * 2 == [record.sparse_vector for record in stored(index).values()]


class Counting(Letters):
    """Notes how many texts it is asked to embed at a time."""

    def __init__(self) -> None:
        self.page_count: list[int] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One row for each text."""
        self.page_count.append(len(texts))
        return super().embed_documents(texts)


class TestAddDocuments:
    """Storing documents."""

    async def test_ids(self, call: Colour, texts: Index) -> None:
        """A document's own id is kept, unless another one is given; documents come back equal and are not changed."""
        retriever = ResumableRetriever(index=texts, retrieval_mode="dense", k=1)
        documents = [Document("sky", id="1", metadata={"a": [1]}), Document("sea")]
        assert ["1", content_id("sea", {})] == await call(retriever, "add_documents", documents)
        assert [documents[0]] == retriever.invoke("sky")
        assert ["x", content_id("sea", {})] == await call(retriever, "add_documents", documents, ids=["x", None])
        assert [Document("sky", id="1", metadata={"a": [1]}), Document("sea")] == documents

    async def test_wrong_ids(self, call: Colour, texts: Index) -> None:
        """There are as many ids as documents."""
        with pytest.raises(ClientError, match="1 documents and 2 ids"):
            await call(ResumableRetriever(index=texts), "add_documents", [Document("sky")], ids=["1", "2"])


class TestIds:
    """The ids that callers give."""

    @pytest.mark.parametrize(
        "ids",
        [lambda: range(3), lambda: iter([0, 1, 2]), lambda: np.arange(3), lambda: ["0", np.int64(1), 2]],
        ids=["range", "iterator", "array", "mixed"],
    )
    @pytest.mark.parametrize("way", ["add_texts", "add_documents", "from_texts", "from_documents"])
    async def test_whole_numbers(self, call: Colour, texts: Index, ids: Callable[[], Any], way: str) -> None:
        """A whole number is an id, 0 like any other: it is stored as its digits, from whatever iterable it comes."""
        contents_: list[Any] = ["sky", "sea", "sand"]
        if way.endswith("documents"):
            contents_ = [Document(text) for text in contents_]
        if way.startswith("add"):
            assert ["0", "1", "2"] == await call(ResumableRetriever(index=texts), way, contents_, ids=ids())
            records = stored(texts)
        else:
            with await call(ResumableRetriever, way, contents_, ids=ids()) as retriever:
                assert isinstance(retriever.index, Index)
                records = stored(retriever.index)
        assert {"0": "sky", "1": "sea", "2": "sand"} == {id_: record.data for id_, record in records.items()}

    async def test_running_again_adds_nothing(self, call: Colour, texts: Index) -> None:
        """Texts that are stored again under the same numbers replace those that were there."""
        for _ in range(2):
            await call(ResumableRetriever(index=texts), "add_texts", ["sky", "sea"], ids=range(2))
        assert {"0", "1"} == stored(texts).keys()

    async def test_none_is_made_of_the_content(self, call: Colour, texts: Index) -> None:
        """Only `None` stands for an id that is made of the content; of equal ids the last record stays."""
        ids = await call(ResumableRetriever(index=texts), "add_texts", ["sky", "sea", "sand"], ids=[0, None, "0"])
        assert ["0", content_id("sea", {}), "0"] == ids
        assert "sand" == stored(texts)["0"].data
        assert 2 == len(stored(texts))

    @pytest.mark.parametrize(
        ("ids", "complaint"),
        [
            (["1", ""], r"^ids\[1\]='' is no id"),
            (["1", False], r"^ids\[1\]=False is no id"),
            ([np.bool_(True), "1"], r"^ids\[0\]=.*True.* is no id"),
            (["1", 1.0], r"^ids\[1\]=1.0 is no id"),
            ([b"1", "2"], r"^ids\[0\]=b'1' is no id"),
            ("12", r"^ids='12' has to be a list"),
            (5, r"^ids=5 has to be a list"),
            (range(3), r"3 ids: give one for each"),
            (["1"], r"1 ids: give one for each"),
        ],
    )
    @pytest.mark.parametrize("way", ["add_texts", "add_documents"])
    async def test_everything_else(self, call: Colour, texts: Index, ids: Any, complaint: str, way: str) -> None:
        """A value that is no id is refused by its position, and so is a wrong number of ids; nothing is stored."""
        contents_: list[Any] = ["sky", "sea"] if way == "add_texts" else [Document("sky"), Document("sea")]
        with pytest.raises(ClientError, match=complaint):
            await call(ResumableRetriever(index=texts), way, contents_, ids=ids)
        assert {} == stored(texts)

    async def test_the_number_of_a_document(self, call: Colour, texts: Index) -> None:
        """A document's own id may be 0, and an id that is given wins over it even if it is 0."""
        documents = [Document("sky", id=0), Document("sea", id="x")]
        assert ["0", "x"] == await call(ResumableRetriever(index=texts), "add_documents", documents)
        assert ["0", "1"] == await call(ResumableRetriever(index=texts), "add_documents", documents, ids=[0, 1])

    @pytest.mark.parametrize("ids", [0, np.int64(0), [0], {0}, "0"], ids=repr)
    async def test_deleting(self, call: Colour, texts: Index, ids: Any) -> None:
        """A record is removed by its number, alone or in any iterable."""
        retriever = ResumableRetriever(index=texts)
        await call(retriever, "add_texts", ["sky", "sea"], ids=range(2))
        assert 1 == await call(retriever, "delete", ids)
        assert {"1"} == stored(texts).keys()


class TestDelete:
    """Removing records."""

    async def test_by_id(self, call: Colour, texts: Index) -> None:
        """Records are removed by id, however many; it is said how many were there."""
        recording = Recording(texts._transport)
        retriever = ResumableRetriever(index=Index._over(recording), namespace="ns")
        ids = retriever.add_texts(["sky", "sea", "sand"])
        recording.sent.clear()
        assert 1 == await call(retriever, "delete", ids[0])
        assert 2 == await call(retriever, "delete", [*ids, *(f"absent{number}" for number in range(1_500))])
        assert ["delete"] * 3 == recording.sent
        assert {} == stored(texts, "ns")
        assert 0 == await call(retriever, "delete", [])

    async def test_by_filter(self, call: Colour, texts: Index) -> None:
        """Records are removed by a filter; the retriever's own plays no part."""
        retriever = ResumableRetriever(index=texts, filter="a = 5")
        retriever.add_texts(["sky", "sea", "sand"], [{"a": 1}, {"a": 2}, {"a": 3}], namespace="ns")
        assert 2 == await call(retriever, "delete", filter="a >= 2", namespace="ns")
        assert ["sky"] == [record.data for record in stored(texts, "ns").values()]

    @pytest.mark.parametrize("keywords", [{}, {"filter": ""}, {"ids": ["1"], "filter": "a = 1"}])
    async def test_everything_at_once(self, call: Colour, texts: Index, keywords: dict[str, Any]) -> None:
        """What would remove everything, or is not clear, is refused."""
        with pytest.raises(ClientError, match="exactly one of the two"):
            await call(ResumableRetriever(index=texts), "delete", **keywords)


class TestFrom:
    """Retrievers over an index of their own."""

    async def test_texts(self, call: Colour, tmp_path: Path) -> None:
        """Texts are stored and found, and the retriever closes what it made."""
        retriever = await call(
            ResumableRetriever,
            "from_texts",
            iter(TEXTS),
            Letters(),
            sparse_embedding=Initials(),
            path=tmp_path / "i",
            k=3,
        )
        with retriever:
            assert len(TEXTS) == len(stored(retriever.index))
            assert 3 == len(await call(retriever, "invoke", QUESTION))
        with pytest.raises(ClientError, match="this index is closed"):
            retriever.invoke(QUESTION)

    async def test_documents(self, call: Colour) -> None:
        """A document's own id is kept, and a metadata key "text" is the user's."""
        documents = [Document("sky", id="1", metadata={"text": "caption"}), Document("sea", id="2")]
        with await call(ResumableRetriever, "from_documents", documents, namespace="ns") as retriever:
            assert documents == sorted(retriever.invoke("sky"), key=lambda document: str(document.id))

    @pytest.mark.parametrize("name", ["index", "url", "token"])
    async def test_an_index_is_given(self, call: Colour, name: str) -> None:
        """Whoever has an index is told what to do instead."""
        with pytest.raises(ClientError, match=rf"make ResumableRetriever\({name}=\.\.\.\) and call its add_texts"):
            await call(ResumableRetriever, "from_texts", ["sky"], **{name: None})

    @pytest.mark.parametrize("arguments", [{"ids": ["1" * 2_000]}, {"k": 0}, {"batch_size": 0}])
    async def test_the_file_is_let_go_of(self, call: Colour, arguments: dict[str, Any], tmp_path: Path) -> None:
        """Whatever goes wrong, the file is free again."""
        with pytest.raises((RefusedError, ValueError)):
            await call(ResumableRetriever, "from_texts", ["sky"], path=tmp_path / "i", **arguments)
        Index.embedded(tmp_path / "i", embedding="static").close()

    async def test_cancelled_while_opening(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where nobody waits any more for an index that is being opened, it is closed once it is open."""
        loop, began = asyncio.get_running_loop(), asyncio.Event()

        def opening(*args: Any, **keywords: Any) -> Index:
            loop.call_soon_threadsafe(began.set)
            return open_embedded(*args, **keywords)

        monkeypatch.setattr("nextk.langchain.writing.open_embedded", opening)
        task = asyncio.create_task(ResumableRetriever.afrom_texts(["sky"], path=tmp_path / "i"))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait(others)
        await asyncio.sleep(0)
        del others
        gc.collect()
        Index.embedded(tmp_path / "i", embedding="static").close()


class TestProgress:
    """The bar."""

    def test_shown_when_asked_for(self, texts: Index, capsys: pytest.CaptureFixture[str]) -> None:
        """A bar is shown on stderr, if it is asked for."""
        retriever = ResumableRetriever(index=texts)
        retriever.add_texts(["sky", "sea", "sand"], batch_size=2)
        assert ("", "") == capsys.readouterr()
        retriever.add_texts(["sky", "sea", "sand"], batch_size=2, show_progress=True)
        shown = capsys.readouterr()
        assert "" == shown.out
        assert "3/3" in shown.err

    async def test_without_rich(self, call: Colour, texts: Index, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without the library the command that installs it is named, and nothing is stored."""
        monkeypatch.setitem(__import__("sys").modules, "rich.progress", None)
        with pytest.raises(MissingExtraError, match=r"pip install 'nextk\[local\]'"):
            await call(ResumableRetriever(index=texts), "add_texts", ["sky"], show_progress=True)
        assert {} == stored(texts)


async def test_a_native_model_is_used(vectors: Index) -> None:
    """Where a model has asynchronous methods, they are called."""

    class Native(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            raise AssertionError

        def embed_query(self, text: str) -> list[float]:
            raise AssertionError

        async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
            return DeterministicFakeEmbedding(size=4).embed_documents(texts)

    class Sparse:
        def embed_query(self, text: str) -> SparseVector:
            raise AssertionError

        async def aembed_documents(self, texts: list[str]) -> list[SparseVector]:
            return Initials().embed_documents(texts)

    retriever = ResumableRetriever(index=vectors, embedding=Native(), sparse_embedding=Sparse())
    assert 2 == len(await retriever.aadd_texts(["sky", "sea"]))
    assert 2 == len(stored(vectors))
