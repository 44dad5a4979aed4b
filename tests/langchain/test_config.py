"""The LangChain retriever as a runnable: wrapped, copied, and pickled into other processes."""

import copy
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import ConfigurableField, ConfigurableFieldSingleOption

from nextk import Index
from nextk.errors import ClientError, TransportError
from nextk.langchain import ResumableRetriever
from nextk.types import QueryResult, Vector
from nextk.until import Accepted, MaxResults
from tests.support.letter_models import Initials, Letters, contents
from tests.support.local_server import TOKEN, LocalServer
from tests.support.sentence_index import QUESTION, TEXTS, open_queries
from tests.support.transports import Recording


@pytest.fixture
def recording(index: Index) -> Recording:
    """A transport to the index that notes and fails."""
    return Recording(index._transport)


class TestRunnable:
    """What wraps a retriever."""

    async def test_bind(self, index: Index) -> None:
        """Bound arguments are those of the call; one that is not known is refused when it is called."""
        retriever = ResumableRetriever(index=index)
        bound = retriever.bind(k=2, filter="place < 9")
        expected = retriever.invoke(QUESTION, k=2, filter="place < 9")
        assert expected == bound.invoke(QUESTION) == await bound.ainvoke(QUESTION)
        policy = retriever.bind(until=MaxResults(7))
        assert 7 == len(policy.invoke(QUESTION)) == len(await policy.ainvoke(QUESTION))
        for call in (retriever.bind(top_k=2).invoke, retriever.bind(top_k=2).batch):
            with pytest.raises(TypeError, match="unexpected keyword argument 'top_k'"):
                call([QUESTION])  # type: ignore[arg-type]

    async def test_with_config(self, index: Index) -> None:
        """A config that is bound holds for every call."""
        named = ResumableRetriever(index=index, k=2).with_config(run_name="sky", tags=["t"])
        events = [event async for event in named.astream_events(QUESTION, version="v2", k=50)]
        assert {("sky", ("t",))} == {(event["name"], tuple(event["tags"])) for event in events}

    async def test_configurable_fields(self, index: Index) -> None:
        """Fields may be left to the config of each call."""
        retriever = ResumableRetriever(index=index, k=9)
        configurable = retriever.configurable_fields(
            k=ConfigurableField(id="k"),
            filter=ConfigurableField(id="filter"),
            namespace=ConfigurableField(id="tenant"),
            until=ConfigurableFieldSingleOption(
                id="until", options={"few": MaxResults(2), "even": Accepted(5, even)}, default="few"
            ),
        )
        chosen: Any = {"configurable": {"k": 3, "filter": "place < 30", "until": "even"}}
        expected = retriever.invoke(QUESTION, k=3, filter="place < 30", until=Accepted(5, even))
        assert 3 == len(expected)
        assert expected == configurable.invoke(QUESTION, chosen) == await configurable.ainvoke(QUESTION, chosen)
        assert 2 == len(configurable.invoke(QUESTION))
        assert [] == configurable.invoke(QUESTION, {"configurable": {"tenant": "absent"}})
        assert [3, 1] == [len(page) for page in configurable.stream(QUESTION, chosen, max_results=4)]

    def test_configurable_fields_share_connections(self) -> None:
        """A retriever that is made anew for a call searches through the connections of the first one."""
        with LocalServer() as server:
            url = server.add("i", embedding="static", type="dense")
            with ResumableRetriever(url=url, token=TOKEN, embedding=True) as retriever:  # type: ignore[arg-type]
                retriever.add_texts(TEXTS[:9])
                configurable: Any = retriever.configurable_fields(k=ConfigurableField(id="k"))
                made = [configurable.prepare({"configurable": {"k": k}})[0] for k in (2, 3)]
                assert [2, 3] == [len(each.invoke(QUESTION)) for each in made]
                connections: list[Any] = [each._current_connection() for each in (retriever, *made)]
                assert 1 == len({id(connection.index._transport) for connection in connections})

    def test_configurable_place(self) -> None:
        """Where the index is may be configured as well."""
        with LocalServer() as server:
            urls = [server.add(name, embedding="static", type="dense") for name in ("a", "b")]
            with ResumableRetriever(url=urls[0], token=TOKEN) as retriever:  # type: ignore[arg-type]
                retriever.add_texts(["sky"])
                configurable: Any = retriever.configurable_fields(url=ConfigurableField(id="url"))
                assert ["sky"] == contents(configurable.invoke("sky"))
                other, _ = configurable.prepare({"configurable": {"url": urls[1]}})
                with other:
                    assert [] == other.invoke("sky")

    async def test_with_retry(self, recording: Recording) -> None:
        """LangChain's retries repeat a call that failed."""
        attempts: list[str] = []

        def note(operation: Any) -> None:
            attempts.append(operation.command)
            if len(attempts) % 2:
                raise TransportError

        recording._note = note  # type: ignore[method-assign]
        retriever = ResumableRetriever(index=Index._over(recording), embedding=True, weighting="none")
        tried = retriever.with_retry(retry_if_exception_type=(TransportError,), wait_exponential_jitter=False)
        assert 4 == len(tried.invoke(QUESTION)) == len(await tried.ainvoke(QUESTION))
        assert 4 == len(attempts)

    async def test_with_fallbacks(self, index: Index, recording: Recording) -> None:
        """LangChain's fallbacks take over where a call fails."""
        recording.failures["query-data"] = TransportError()
        first = ResumableRetriever(index=Index._over(recording), embedding=True)
        both = first.with_fallbacks([ResumableRetriever(index=index, k=2)])
        assert 2 == len(both.invoke(QUESTION)) == len(await both.ainvoke(QUESTION))

    async def test_batch(self, index: Index) -> None:
        """Many questions at once get what each gets by itself, with a policy and without it."""
        retriever: Any = ResumableRetriever(index=index)
        questions = TEXTS[:12]
        for keywords in ({}, {"until": Accepted(6, even)}):
            expected = [retriever.invoke(question, **keywords) for question in questions]
            assert expected == retriever.batch(questions, {"max_concurrency": 3}, **keywords)
            assert expected == await retriever.abatch(questions, {"max_concurrency": 3}, **keywords)
            assert expected == await retriever.abatch(questions, **keywords)
        assert [expected[0], ClientError] == [
            found if isinstance(found, list) else type(found)
            for found in retriever.batch([questions[0], " "], return_exceptions=True, until=Accepted(6, even))
        ]

    async def test_max_concurrency(self, recording: Recording) -> None:
        """No more calls are under way at once than asked for."""
        now, most, lock = 0, 0, threading.Lock()
        send, asend = recording.send, recording.asend

        def counted(step: int) -> None:
            nonlocal now, most
            with lock:
                now += step
                most = max(most, now)

        def blocking(operation: Any) -> Any:
            counted(1)
            try:
                return send(operation)
            finally:
                counted(-1)

        async def asynchronous(operation: Any) -> Any:
            counted(1)
            try:
                return await asend(operation)
            finally:
                counted(-1)

        recording.send, recording.asend = blocking, asynchronous  # type: ignore[method-assign]
        retriever = ResumableRetriever(index=Index._over(recording), embedding=True)
        await retriever.abatch(TEXTS[:20], {"max_concurrency": 4})
        assert 4 == most
        retriever.batch(TEXTS[:20], {"max_concurrency": 4})
        assert 4 == most


def even(documents: list[Document]) -> list[bool]:
    """Permit every second text."""
    return [document.metadata["place"] % 2 == 0 for document in documents]


class TestCopies:
    """Copies and pickles."""

    def test_model_copy(self, index: Index) -> None:
        """A copy with other settings searches by those, and leaves the first as it is."""
        retriever = ResumableRetriever(index=index, k=3)
        other = retriever.model_copy(update={"k": 5, "filter": "place < 9", "until": Accepted(4, even)})
        assert retriever.invoke(QUESTION, k=5, filter="place < 9", until=Accepted(4, even)) == other.invoke(QUESTION)
        assert 3 == len(retriever.invoke(QUESTION))

    def test_deepcopy(self, index: Index) -> None:
        """A deep copy searches the same index, and shares no setting."""
        retriever = ResumableRetriever(index=index, metadata={"a": [1]})
        other = copy.deepcopy(retriever)
        assert retriever.index is other.index
        assert other.metadata is not None
        other.metadata["a"].append(2)
        assert {"a": [1]} == retriever.metadata
        assert retriever.invoke(QUESTION) == other.invoke(QUESTION)

    def test_an_open_search_is_not_copied(self, index: Index) -> None:
        """Sessions and streams belong to nobody's copy: each goes on by itself."""
        retriever = ResumableRetriever(index=index)
        with retriever.open(QUESTION) as search:
            first = search.fetch_next(4)
            with copy.deepcopy(retriever).open(QUESTION) as other:
                assert first == other.fetch_next(4)
            assert 4 == len(search.fetch_next(4))

    def test_pickle(self) -> None:
        """Every setting is pickled, policies and models with them, and the copy finds the index by its URL."""
        with LocalServer() as server:
            url = server.add("i", type="dense", dimension=4)
            retriever = ResumableRetriever(
                url=url,
                token=TOKEN,  # type: ignore[arg-type]
                embedding=Letters(),
                k=2,
                until=MaxResults(9) & Accepted(2, even),
                text_key="body",
                document_mapper=by_id,
                tags=["t"],
            )
            with retriever, pickle.loads(pickle.dumps(retriever)) as other:  # noqa: S301 - our own
                assert {**vars(retriever), "embedding": None} == {**vars(other), "embedding": None}
                assert isinstance(other.embedding, Letters)
                retriever.add_texts(["sea", "sky"], [{"place": 0}, {"place": 1}])
                assert 1 == len(other.invoke("sea"))
                assert retriever.invoke("sea") == other.invoke("sea")

    def test_pickle_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the environment says is not pickled, so no token travels."""
        monkeypatch.setenv("UPSTASH_VECTOR_REST_URL", "http://127.0.0.1:1")
        monkeypatch.setenv("UPSTASH_VECTOR_REST_TOKEN", "secret-token")
        pickled = pickle.dumps(ResumableRetriever(embedding=True))
        assert b"secret-token" not in pickled
        monkeypatch.setenv("UPSTASH_VECTOR_REST_URL", "http://127.0.0.1:2")
        assert "Index(HttpTransport('http://127.0.0.1:2'))" == repr(pickle.loads(pickled)._current_connection())  # noqa: S301

    def test_pickle_over_an_index(self, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
        """An index object stays in its process: it is said what to do instead, and that works."""
        retriever = ResumableRetriever(index=index, k=3)
        with pytest.raises(ClientError, match=r"model_copy\(update=\{'index': None\}\)"):
            pickle.dumps(retriever)
        monkeypatch.setenv("UPSTASH_VECTOR_REST_URL", "http://127.0.0.1:1")
        monkeypatch.setenv("UPSTASH_VECTOR_REST_TOKEN", "t")
        other = pickle.loads(pickle.dumps(retriever.model_copy(update={"index": None})))  # noqa: S301 - our own
        assert (3, None) == (other.k, other.index)
        assert 3 == len(retriever.invoke(QUESTION))


def by_id(match: QueryResult) -> Document | None:
    """A document of its id alone; none of the record `hidden`."""
    return None if match.id == "hidden" else Document("", id=match.id, metadata=match.metadata or {})


class TestDocumentMapper:
    """Documents by a function of the caller's."""

    @pytest.fixture
    def retriever(self) -> Iterator[ResumableRetriever]:
        """A retriever over three records without a text."""
        with Index.embedded(type="sparse") as index:
            index.upsert([Vector(name, None, {"a": 1}, None, ([115], [1.0])) for name in ("x", "hidden", "y")])
            yield ResumableRetriever(index=index, sparse_embedding=Initials(), document_mapper=by_id)
            assert 0 == open_queries(index)

    async def test_everywhere(self, retriever: ResumableRetriever) -> None:
        """The function makes every document; where it makes none, the row is left out."""
        expected = [Document("", id="x", metadata={"a": 1}), Document("", id="y", metadata={"a": 1})]
        assert expected == retriever.invoke("sky") == await retriever.ainvoke("sky")
        assert [expected] == list(retriever.stream("sky"))
        with retriever.open("sky") as search:
            assert expected == search.fetch_next(5)
            assert {"no_text": 1} == search.report.dropped

    def test_contradiction(self, retriever: ResumableRetriever) -> None:
        """The score is the function's to place."""
        with pytest.raises(ClientError, match="leave out score_key="):
            ResumableRetriever(index=retriever.index, document_mapper=by_id, score_key="score")


def test_ls_params(index: Index) -> None:
    """Traces name the retriever, the store, and the embedding by class and model."""

    class Named(Letters):
        model = "letters-3"

    retriever = ResumableRetriever(index=index, embedding=Named(), name="SkyRetriever", retrieval_mode="dense")
    assert {
        "ls_retriever_name": "sky",
        "ls_vector_store_provider": "nextk",
        "ls_embedding_provider": "Named",
        "ls_embedding_model": "letters-3",
    } == retriever._get_ls_params()
