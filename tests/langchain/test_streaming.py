"""Pages of the LangChain retriever: streamed, traced, and left at any moment."""

import asyncio
import gc
import itertools
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import anyio
import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.runnables import RunnableConfig, RunnableLambda, RunnableParallel, RunnablePassthrough

from nextk import Index
from nextk.errors import ClientError, RefusedError, TransportError
from nextk.langchain import ResumableRetriever
from nextk.types import Data
from nextk.until import Accepted
from tests.support.letter_models import contents
from tests.support.sentence_index import QUESTION, TEXTS, open_queries, sentences
from tests.support.transports import Recording

Pages = Callable[..., Any]
KINDS = ["start", "stream", "end"]


@pytest.fixture(params=["sync", "async"])
def pages(request: pytest.FixtureRequest) -> Pages:
    """Calls `stream` or `astream` and lists the pages; leaves the loop after `most` of them."""

    async def run(runnable: Any, *args: Any, most: int | None = None, **keywords: Any) -> list[Any]:
        if request.param == "sync":
            return list(itertools.islice(runnable.stream(*args, **keywords), most))
        found = []
        async with aclosing(runnable.astream(*args, **keywords)) as stream:
            if most == 0:
                return []
            async for page in stream:
                found.append(page)
                if len(found) == most:
                    break
        return found

    return run


class Runs(BaseCallbackHandler):
    """Notes what a trace would show."""

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.ended: list[tuple[uuid.UUID, list[str | None]]] = []
        self.failed: list[tuple[uuid.UUID, type[BaseException]]] = []

    def on_retriever_start(self, serialized: Any, query: str, **keywords: Any) -> None:
        """Note it."""
        self.started.append({"query": query, **keywords})

    def on_retriever_end(self, documents: Any, *, run_id: uuid.UUID, **keywords: Any) -> None:
        """Note the documents' ids."""
        self.ended.append((run_id, [document.id for document in documents]))

    def on_retriever_error(self, error: BaseException, *, run_id: uuid.UUID, **keywords: Any) -> None:
        """Note the kind of error."""
        self.failed.append((run_id, type(error)))

    @property
    def ids(self) -> list[uuid.UUID]:
        """The ids of the runs, as they started."""
        return [run["run_id"] for run in self.started]


def ids(documents: list[Document]) -> list[str | None]:
    """The ids of documents."""
    return [document.id for document in documents]


class TestPages:
    """What comes, and when."""

    async def test_pages_are_one_long_call(self, pages: Pages, index: Index) -> None:
        """The first page is what `invoke` returns, and the pages together are what one large call gives."""
        retriever = ResumableRetriever(index=index, k=25)
        found = await pages(retriever, QUESTION)
        assert [25, 25, 16] == [len(page) for page in found]
        assert retriever.invoke(QUESTION) == found[0]
        assert retriever.invoke(QUESTION, k=100) == list(itertools.chain(*found))

    async def test_one_pull_for_each_page(self, pages: Pages, index: Index) -> None:
        """A page is pulled when it is asked for; leaving the loop stops the search, and not starting asks nothing."""
        recording = Recording(index._transport)
        retriever = ResumableRetriever(index=Index._over(recording), embedding=True)
        assert [] == await pages(retriever, QUESTION, most=0)
        assert [] == recording.sent
        assert [4, 4, 4] == [len(page) for page in await pages(retriever, QUESTION, most=3)]
        expected = ["resumable-query-data", "resumable-query-next", "resumable-query-next", "resumable-query-end"]
        assert ["info", *expected] == recording.sent  # the weighting that the index wants

    async def test_arguments(self, pages: Pages, index: Index) -> None:
        """Size, filter and namespace come from the call, else from the retriever."""
        retriever = ResumableRetriever(index=index, k=3, filter="place < 7")
        assert [3, 3, 1] == [len(page) for page in await pages(retriever, QUESTION)]
        assert [5, 2] == [len(page) for page in await pages(retriever, QUESTION, k=5)]
        assert [3, 1] == [len(page) for page in await pages(retriever, QUESTION, filter="place > 61")]
        assert [] == await pages(retriever, QUESTION, namespace="absent")

    @pytest.mark.parametrize(
        ("own", "overrides", "expected"),
        [
            ({"max_results": 10}, {}, [4, 4, 2]),
            ({"max_results": 10}, {"max_results": 5}, [4, 1]),
            ({"max_results": 10}, {"max_results": 13}, [4, 4, 4, 1]),
            ({}, {"max_pulls": 2}, [4, 4]),
            ({}, {"deadline": 1e-9}, [4]),
            ({"max_pulls": 1, "deadline": 1e-9, "max_results": 8}, {}, [4, 4]),
        ],
    )
    async def test_bounds(
        self, pages: Pages, index: Index, own: dict[str, Any], overrides: dict[str, Any], expected: list[int]
    ) -> None:
        """Bounds that are asked for end the stream, and so does the retriever's own number of documents."""
        retriever = ResumableRetriever(index=index, **own)
        assert expected == [len(page) for page in await pages(retriever, QUESTION, **overrides)]

    async def test_it_ends_by_itself(self, pages: Pages) -> None:
        """A stream that nobody bounds brings 200 documents, so that a chain that drains it does not drain the index."""
        with sentences([f"sky {number}" for number in range(230)]) as index:
            retriever = ResumableRetriever(index=index, k=60)
            assert [60, 60, 60, 20] == [len(page) for page in await pages(retriever, "sky")]
            unbounded = retriever.model_copy(update={"max_results": None})
            assert [60, 60, 60, 50] == [len(page) for page in await pages(unbounded, "sky")]

    async def test_with_a_policy(self, pages: Pages, index: Index) -> None:
        """A page is what the policy takes for enough; what it does not keep is on none."""
        retriever = ResumableRetriever(index=index, until=Accepted(15, divisible))
        found = await pages(retriever, QUESTION)
        assert [15, 7] == [len(page) for page in found]
        assert retriever.invoke(QUESTION) == found[0]
        assert all(divisible(page) == [True] * len(page) for page in found)
        assert [9, 9, 4] == [len(page) for page in await pages(retriever, QUESTION, k=9)]
        plain = ResumableRetriever(index=index)
        assert found == await pages(plain, QUESTION, until=Accepted(15, divisible))

    async def test_a_policy_that_keeps_nothing(self, pages: Pages, index: Index) -> None:
        """An empty page ends the stream; none is handed out."""
        nothing = Accepted(5, lambda documents: [False] * len(documents))
        assert [] == await pages(ResumableRetriever(index=index, until=nothing, max_pulls=1), QUESTION)

    async def test_a_bound_before_anything_is_kept(self, pages: Pages, index: Index) -> None:
        """A bound ends the stream, also where nothing was kept so far; a run shows the attempt."""
        runs = Runs()
        rare = Accepted(5, lambda documents: [False] * len(documents))
        assert [] == await pages(
            ResumableRetriever(index=index), QUESTION, {"callbacks": [runs]}, until=rare, max_pulls=2
        )
        assert [(runs.ids[0], [])] == runs.ended

    @pytest.mark.parametrize("name", ["fetch_k", "top_k", "search_kwargs"])
    def test_unknown_keywords(self, index: Index, name: str) -> None:
        """A keyword that is not known is refused at once, not dropped."""
        retriever: Any = ResumableRetriever(index=index)
        for method in (retriever.stream, retriever.astream):
            with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
                method(QUESTION, **{name: 3})
        with pytest.raises(ClientError, match="until="):
            retriever.stream(QUESTION, until=3)


def sorted_items(found: dict[str, Any]) -> list[tuple[str, Any]]:
    """The items of a dict by key."""
    return sorted(found.items())


def divisible(documents: list[Document]) -> list[bool]:
    """Permit every third text."""
    return [document.metadata["place"] % 3 == 0 for document in documents]


class TestLeaving:
    """However a stream is left, its query is stopped; the fixture looks."""

    def test_break(self, index: Index) -> None:
        """Leaving the loop is enough."""
        for page in ResumableRetriever(index=index).stream(QUESTION):
            assert 4 == len(page)
            break
        gc.collect()
        assert 0 == open_queries(index)

    def test_exception(self, index: Index) -> None:
        """An exception in the loop, or thrown into the stream, stops it."""
        retriever = ResumableRetriever(index=index)

        def consume() -> None:
            for _ in retriever.stream(QUESTION):
                raise KeyError

        with pytest.raises(KeyError):
            consume()
        gc.collect()
        assert 0 == open_queries(index)
        stream: Any = retriever.stream(QUESTION)
        next(stream)
        assert 1 == open_queries(index)
        with pytest.raises(KeyError):
            stream.throw(KeyError())

    def test_close(self, index: Index) -> None:
        """Closing a stream stops its query; it may be closed before it starts, and twice."""
        stream: Any = ResumableRetriever(index=index).stream(QUESTION)
        stream.close()
        stream = ResumableRetriever(index=index).stream(QUESTION)
        next(stream)
        stream.close()
        stream.close()

    async def test_break_in_a_loop(self, index: Index) -> None:
        """A stream that is only dropped is stopped by the event loop."""
        async for _ in ResumableRetriever(index=index).astream(QUESTION):
            break
        gc.collect()
        while open_queries(index):  # noqa: ASYNC110 - nothing tells when a dropped generator is closed
            await asyncio.sleep(0)

    async def test_cancelled_in_the_loop(self, index: Index) -> None:
        """A task that is cancelled between two pages leaves its stream to be closed as one that is dropped."""
        reached = asyncio.Event()

        async def consume() -> None:
            async with aclosing(ResumableRetriever(index=index).astream(QUESTION)) as stream:  # type: ignore[type-var]
                async for _ in stream:
                    reached.set()
                    await asyncio.Event().wait()

        task = asyncio.create_task(consume())
        await reached.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert 0 == open_queries(index)

    async def test_cancelled_in_a_pull(self, index: Index) -> None:
        """A task that is cancelled while a page is being pulled stops its stream."""
        reached = asyncio.Event()

        async def consume() -> None:
            async for _ in ResumableRetriever(index=index).astream(QUESTION, {"callbacks": [Waiting(reached)]}):
                pass

        task = asyncio.create_task(consume())
        await reached.wait()
        assert 1 == open_queries(index)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert 0 == open_queries(index)

    async def test_cancelled_scope(self, index: Index) -> None:
        """A scope of anyio that is cancelled in the loop stops the stream, and traces see the run end."""
        runs = Runs()
        with anyio.CancelScope() as scope:
            async with aclosing(ResumableRetriever(index=index).astream(QUESTION, {"callbacks": [runs]})) as stream:  # type: ignore[type-var]
                async for _ in stream:
                    scope.cancel()
                    await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert (1, 0) == (len(runs.ended), len(runs.failed))

    async def test_cancelled_pull(self, index: Index) -> None:
        """A run whose pull is cancelled ends as one that failed."""
        runs, recording = Runs(), Recording(index._transport)
        started = asyncio.Event()

        async def asend(operation: Any) -> Any:
            started.set()
            await asyncio.Event().wait()

        recording.asend = asend  # type: ignore[method-assign]
        retriever = ResumableRetriever(index=Index._over(recording), embedding=True)
        search = retriever.aopen(QUESTION, config={"callbacks": [runs]})
        task = asyncio.create_task(search.fetch_next(3))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await search.stop()
        assert [(runs.ids[0], asyncio.CancelledError)] == runs.failed
        assert [] == runs.ended


class Waiting(AsyncCallbackHandler):
    """Says when the second page is asked for, and holds it up."""

    raise_error = True

    def __init__(self, reached: asyncio.Event) -> None:
        self.reached = reached
        self.runs = 0

    async def on_retriever_start(self, *args: Any, **keywords: Any) -> None:
        """Hold the second one up."""
        self.runs += 1
        if self.runs == 2 and not self.reached.is_set():
            self.reached.set()
            await asyncio.Event().wait()


class TestTraces:
    """What a trace shows of a stream."""

    async def test_a_run_for_each_page(self, pages: Pages, index: Index) -> None:
        """Every page is a run of its own, with its documents; name, tags and metadata are the caller's."""
        runs, run_id = Runs(), uuid.uuid4()
        retriever = ResumableRetriever(index=index, tags=["own"], metadata={"own": 1})
        config: RunnableConfig = {
            "callbacks": [runs],
            "run_name": "sky",
            "tags": ["asked"],
            "metadata": {"asked": 1},
            "run_id": run_id,
        }
        found = await pages(retriever, QUESTION, config, most=3)
        assert [ids(page) for page in found] == [documents for _, documents in runs.ended]
        assert runs.ids == [id_ for id_, _ in runs.ended]
        assert (run_id, 3) == (runs.ids[0], len(set(runs.ids)))
        for run in runs.started:
            assert (QUESTION, "sky", {"own", "asked"}) == (run["query"], run["name"], set(run["tags"]))
            assert {"own": 1, "asked": 1, "ls_retriever_name": "resumable"}.items() <= run["metadata"].items()
        assert [] == runs.failed

    async def test_run_id_as_an_argument(self, pages: Pages, index: Index) -> None:
        """As for `invoke`, the id of the first run may be an argument."""
        runs, run_id = Runs(), uuid.uuid4()
        await pages(ResumableRetriever(index=index), QUESTION, {"callbacks": [runs]}, run_id=run_id, most=2)
        assert run_id == runs.ids[0] != runs.ids[1]

    async def test_an_error(self, pages: Pages, index: Index) -> None:
        """An error ends its run, once, and the stream."""
        runs = Runs()
        with pytest.raises(RefusedError):
            await pages(ResumableRetriever(index=index, filter="("), QUESTION, {"callbacks": [runs]})
        assert [(runs.ids[0], RefusedError)] == runs.failed
        assert [] == runs.ended

    async def test_the_end(self, pages: Pages, index: Index) -> None:
        """The pull that finds nothing more is a run without documents."""
        runs = Runs()
        assert [[4, 4, 4]] == [
            [
                len(page)
                for page in await pages(
                    ResumableRetriever(index=index), QUESTION, {"callbacks": [runs]}, filter="place < 12"
                )
            ]
        ]
        assert [4, 4, 4, 0] == [len(documents) for _, documents in runs.ended]

    async def test_below_a_parent(self, pages: Pages, index: Index) -> None:
        """Within a runnable, the runs are its children; a config need not be handed on."""
        runs, retriever = Runs(), ResumableRetriever(index=index)

        def blocking(query: str) -> int:
            return len(list(retriever.stream(query, max_results=8)))

        async def asynchronous(query: str) -> int:
            return len([page async for page in retriever.astream(query, max_results=8)])

        parent = uuid.uuid4()
        answer = await RunnableLambda(blocking, asynchronous).ainvoke(QUESTION, {"callbacks": [runs], "run_id": parent})
        assert 2 == answer
        assert [parent] * 2 == [run["parent_run_id"] for run in runs.started]

    async def test_events(self, index: Index) -> None:
        """`astream_events` shows every page: its start, its documents, its end."""
        retriever = ResumableRetriever(index=index, max_results=10)
        run_id = uuid.uuid4()
        events = [
            event
            async for event in retriever.astream_events(
                QUESTION, {"run_id": run_id, "run_name": "sky", "tags": ["t"]}, version="v2"
            )
        ]
        found = {kind: [event for event in events if event["event"] == f"on_retriever_{kind}"] for kind in KINDS}
        expected = [ids(page) for page in retriever.stream(QUESTION)]
        assert expected == [ids(event["data"]["chunk"]) for event in found["stream"]]
        assert expected == [ids(event["data"]["output"]) for event in found["end"]]
        runs = [event["run_id"] for event in found["start"]]
        assert runs == [event["run_id"] for event in found["end"]]
        assert (str(run_id), 3) == (runs[0], len(set(runs)))
        assert {("sky", ("t",))} == {(event["name"], tuple(event["tags"])) for event in events}
        assert len(events) == sum(map(len, found.values()))

    async def test_events_below_a_parent(self, index: Index) -> None:
        """Where a runnable streams, its events show every page as a part of its own run."""
        retriever = ResumableRetriever(index=index, max_results=10)

        async def asynchronous(query: str) -> int:
            return len([page async for page in retriever.astream(query)])

        events = RunnableLambda(asynchronous).astream_events(QUESTION, version="v2")
        found = [event async for event in events if event["event"].startswith("on_retriever")]
        assert [f"on_retriever_{kind}" for kind in KINDS] * 3 == [event["event"] for event in found]
        assert 3 == len({event["run_id"] for event in found})
        expected = [ids(page) for page in retriever.stream(QUESTION)]
        assert expected == [ids(event["data"]["chunk"]) for event in found[1::3]]

    async def test_events_of_a_stream_that_is_left(self, index: Index) -> None:
        """Leaving the events stops the search."""
        async with aclosing(ResumableRetriever(index=index).astream_events(QUESTION, version="v2")) as events:  # type: ignore[type-var]
            async for event in events:
                if event["event"] == "on_retriever_stream":
                    break

    @pytest.mark.filterwarnings("ignore:astream_log is deprecated")
    async def test_log(self, index: Index) -> None:
        """`astream_log`, the older way, gets every page as well."""
        retriever = ResumableRetriever(index=index, max_results=10)
        found = [
            operation["value"]
            async for patch in retriever.astream_log(QUESTION)
            for operation in patch.ops
            if operation["path"] == "/streamed_output/-"
        ]
        assert list(retriever.stream(QUESTION)) == found


class TestInChains:
    """A chain answers the same, streamed or not."""

    async def test_a_chain(self, pages: Pages, index: Index) -> None:
        """Whoever comes next gets what `invoke` returns, not every page there is."""
        retriever = ResumableRetriever(index=index, k=3)
        expected = contents(retriever.invoke(QUESTION))
        assert [expected] == await pages(retriever | contents, QUESTION)
        parallel: Any = RunnableParallel(context=retriever | contents, question=RunnablePassthrough()) | sorted_items
        [*parts] = await pages(parallel, QUESTION)
        assert [parallel.invoke(QUESTION)] == parts
        lower: Any = RunnableLambda(str.lower) | retriever
        assert [retriever.invoke(QUESTION.lower())] == await pages(lower, QUESTION)

    async def test_with_a_policy(self, pages: Pages, index: Index) -> None:
        """A policy holds in a chain, too."""
        retriever = ResumableRetriever(index=index, until=Accepted(12, divisible))
        assert [contents(retriever.invoke(QUESTION))] == await pages(retriever | contents, QUESTION)

    async def test_an_input_in_parts(self, index: Index) -> None:
        """A question that comes in parts is put together; without any part there is no answer."""
        retriever = ResumableRetriever(index=index)
        expected = [retriever.invoke(QUESTION)]
        assert expected == list(retriever.transform(iter([QUESTION[:9], QUESTION[9:]])))
        assert [] == list(retriever.transform(iter([])))

        async def parts(*texts: str) -> AsyncIterator[str]:
            for text in texts:
                yield text

        assert expected == [page async for page in retriever.atransform(parts(QUESTION[:9], QUESTION[9:]))]
        assert [] == [page async for page in retriever.atransform(parts())]

    async def test_events(self, index: Index) -> None:
        """`astream_events` of a chain shows the retriever's one run."""
        retriever = ResumableRetriever(index=index)
        events = [event async for event in (retriever | contents).astream_events(QUESTION, version="v2")]
        ends = [event for event in events if event["event"] == "on_retriever_end"]
        assert [retriever.invoke(QUESTION)] == [event["data"]["output"] for event in ends]

    async def test_as_another_runnable(self, pages: Pages, index: Index) -> None:
        """Bound, configured, with retries and fallbacks, it still streams page after page."""
        retriever = ResumableRetriever(index=index, k=25)
        expected = list(retriever.stream(QUESTION))
        broken = retriever.model_copy(update={"filter": "("})
        for runnable in (
            retriever.with_config(tags=["t"]),
            retriever.bind(),
            retriever.with_retry(),
            broken.with_fallbacks([retriever]),
        ):
            assert expected == await pages(runnable, QUESTION)
        assert [[30, 30, 6]] == [[len(page) for page in await pages(retriever.bind(k=30), QUESTION)]]


class TestSessions:
    """What a trace shows of a search that is opened."""

    def test_every_call_is_a_run(self, index: Index) -> None:
        """Each call on the session is a run under the config that was given."""
        runs, run_id = Runs(), uuid.uuid4()
        retriever = ResumableRetriever(index=index, tags=["own"])
        config: RunnableConfig = {"callbacks": [runs], "run_name": "sky", "tags": ["asked"], "run_id": run_id}
        with retriever.open(QUESTION, config=config) as search:
            found = [
                search.fetch_next(3),
                search.fetch_until(Accepted(2, divisible)),
                *itertools.islice(search.pages(5), 2),
            ]
            assert "<TracedSession" in repr(search)
        assert [ids(page) for page in found] == [documents for _, documents in runs.ended]
        assert (run_id, 4) == (runs.ids[0], len(set(runs.ids)))
        assert [("sky", {"own", "asked"})] * 4 == [(run["name"], set(run["tags"])) for run in runs.started]

    async def test_in_an_event_loop(self, index: Index) -> None:
        """Every call is a run in an event loop as well, with handlers of both colours."""
        runs, seen = Runs(), []

        class Native(AsyncCallbackHandler):
            async def on_retriever_end(self, documents: Any, **keywords: Any) -> None:
                seen.append(len(documents))

        retriever = ResumableRetriever(index=index)
        async with retriever.aopen(QUESTION, config={"callbacks": [runs, Native()]}) as search:
            await search.fetch_next(3)
            await search.fetch_until(Accepted(2, divisible))
            async for _ in search.pages(5):
                break
            cursor = search.cursor()
        async with retriever.aresume(cursor, config={"callbacks": [runs, Native()]}) as search:
            await search.fetch_next(1)
        assert [3, 2, 5, 1] == seen == [len(documents) for _, documents in runs.ended]

    def test_resumed(self, index: Index) -> None:
        """A search that goes on elsewhere is traced under the config given there, with the question of before."""
        runs, retriever = Runs(), ResumableRetriever(index=index)
        with retriever.open(QUESTION) as search:
            search.fetch_next(3)
            cursor = search.detach()
        assert [] == runs.started
        with retriever.resume(cursor, config={"callbacks": [runs]}) as search:
            page = search.fetch_next(2)
        assert [QUESTION] == [run["query"] for run in runs.started]
        assert [(runs.ids[0], ids(page))] == runs.ended

    async def test_the_surrounding_config(self, index: Index) -> None:
        """Within a runnable a config need not be given: the runs are that one's children."""
        runs, retriever = Runs(), ResumableRetriever(index=index)

        def blocking(query: str) -> int:
            with retriever.open(query) as search:
                return len(search.fetch_next(3))

        async def asynchronous(query: str) -> int:
            async with retriever.aopen(query) as search:
                return len(await search.fetch_next(3))

        both: Any = RunnableLambda(blocking, asynchronous)
        parents = [uuid.uuid4(), uuid.uuid4()]
        assert 3 == both.invoke(QUESTION, {"callbacks": [runs], "run_id": parents[0]})
        assert 3 == await both.ainvoke(QUESTION, {"callbacks": [runs], "run_id": parents[1]})
        assert parents == [run["parent_run_id"] for run in runs.started]

    async def test_errors(self, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
        """A call that fails is a run that failed; the next one is a run of its own."""
        monkeypatch.setattr("nextk.sessions.patience.FIRST_PAUSE", 0.001)
        runs, recording = Runs(), Recording(index._transport)
        retriever = ResumableRetriever(index=Index._over(recording), embedding=True)
        recording.failures["resumable-query-data"] = TransportError("down")
        with retriever.open(QUESTION, config={"callbacks": [runs]}) as search:
            with pytest.raises(TransportError):
                search.fetch_next(3)
            recording.failures.clear()
            assert 3 == len(search.fetch_next(3))
        assert ([TransportError], [3]) == (
            [kind for _, kind in runs.failed],
            [len(documents) for _, documents in runs.ended],
        )

    def test_one_run_for_a_call_with_a_policy(self, index: Index) -> None:
        """`invoke` with a policy is one run, however many pages it pulls."""
        runs = Runs()
        retriever = ResumableRetriever(index=index, until=Accepted(20, divisible))
        documents = retriever.invoke(QUESTION, {"callbacks": [runs]})
        assert [(runs.ids[0], ids(documents))] == runs.ended

    def test_written_to_meanwhile(self) -> None:
        """A stream goes through what was there when it began."""
        with sentences(TEXTS[:10]) as index:
            stream = ResumableRetriever(index=index, k=5).stream(QUESTION)
            first = next(stream)
            index.upsert([Data("new", QUESTION)])
            assert 10 == len(set(ids([*first, *itertools.chain(*stream)])))
