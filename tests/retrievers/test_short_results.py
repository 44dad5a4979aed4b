"""Results are as many as were asked for, or the log, the trace and the report say why they are not."""

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.documents import BaseDocumentCompressor
from langchain_core.runnables import ConfigurableField, RunnableLambda
from langchain_core.tracers.context import collect_runs
from llama_index.core.instrumentation.events.retrieval import RetrievalEndEvent
from llama_index.core.llms import MockLLM
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters
from llama_index_instrumentation import get_dispatcher

from nextk import Index, langchain, llama_index
from nextk.engine.engine import EmbeddedEngine
from nextk.engine.factory import open_engine
from nextk.errors import LimitReached
from nextk.llama_index import ShortfallEvent
from nextk.testing import Fault, FaultPlan, PlannedFault, RequestKind, faulty
from nextk.transport.in_process import InProcessTransport, SharedEngine
from nextk.types import Data
from nextk.until import Accepted, DistinctBy, MaxResults, Policy, TokenBudget
from tests.support.llama_index_events import Listening
from tests.support.local_server import LocalServer
from tests.support.transports import Recording

ROWS = 2_400
SILENT = get_response_synthesizer(llm=MockLLM())
"""A synthesizer for query engines that only retrieve."""
RARE = frozenset({2_100, 2_200, 2_300})
"""Rows behind everything that ten pulls bring, or two pages of 1,000 without the last one."""


def embed(texts: list[str]) -> np.ndarray:
    """Return a vector for each text, a number, that lies the farther from that of `"0"` the larger the number is."""
    angles = np.array([float(text) for text in texts]) * 3 / ROWS
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def engine(local_server: LocalServer) -> Iterator[EmbeddedEngine]:
    """An engine with 2,400 numbered records, which is served as well."""
    made = open_engine(None, {"type": "dense", "embedding": embed}, name="numbers")
    assert isinstance(made, EmbeddedEngine)
    local_server.engines["numbers"] = made
    with Index(local_server.index_url("numbers"), local_server.token) as index:
        for start in range(0, ROWS, 800):
            index.upsert([Data(str(number), str(number), {"number": number}) for number in range(start, start + 800)])
    yield made
    del local_server.engines["numbers"]
    made.close()


@pytest.fixture(params=["in-process", "http"])
async def index(
    request: pytest.FixtureRequest, engine: EmbeddedEngine, local_server: LocalServer
) -> AsyncIterator[Index]:
    """The records in this process and over HTTP; afterwards no query is open."""
    if request.param == "http":
        opened = Index(local_server.index_url("numbers"), local_server.token)
    else:
        shared = SharedEngine(None, engine)
        opened = Index._over(InProcessTransport(shared, lambda: shared))
    yield opened
    if request.param == "http":
        await opened.to_async().close()
        opened.close()
    assert 0 == engine.open_queries()


@dataclass(frozen=True)
class Caller:
    """Makes a retriever of one of the frameworks and calls it, blocking or awaiting."""

    framework: str
    native: bool

    def retriever(self, index: Index, k: int | None = None, **options: Any) -> Any:
        """Return a retriever whose calls return `k` results."""
        if self.framework == "langchain":
            return langchain.ResumableRetriever(index=index, embedding=True, k=k, **options)
        return llama_index.ResumableRetriever(index, embedding=True, similarity_top_k=k, **options)

    async def call(self, retriever: Any) -> list[int]:
        """Return the numbers that one call of it brings."""
        method = {
            ("langchain", False): "invoke",
            ("langchain", True): "ainvoke",
            ("llama_index", False): "retrieve",
            ("llama_index", True): "aretrieve",
        }[self.framework, self.native]
        found = getattr(retriever, method)("0")
        return numbers(await found if self.native else found)


@pytest.fixture(params=[(name, native) for name in ("langchain", "llama_index") for native in (False, True)], ids=str)
def caller(request: pytest.FixtureRequest) -> Caller:
    """Each framework in each colour."""
    return Caller(*request.param)


def number_of(item: Any) -> int:
    """Return the number of a document or node."""
    return int(item.metadata["number"])


def numbers(items: list[Any]) -> list[int]:
    """Return the numbers of documents or nodes."""
    return [number_of(item) for item in items]


def permit(wanted: Callable[[int], bool]) -> Callable[[list[Any]], list[bool]]:
    """Return a check that permits some numbers."""
    return lambda items: [wanted(number_of(item)) for item in items]


def even(number: int) -> bool:
    """Permit every second number."""
    return number % 2 == 0


def rare(number: int) -> bool:
    """Permit three numbers, all of them far behind."""
    return number in RARE


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings in the log."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


class TestAskedFor:
    """An explicit number of results is what a call returns, if there are so many."""

    @pytest.mark.parametrize(
        ("until", "expected"),
        [
            (Accepted(300, permit(even)), range(0, 600, 2)),
            (Accepted(900, permit(even)) | MaxResults(2_000), range(0, 600, 2)),
            (TokenBudget(100_000), range(300)),
            (MaxResults(2_000), range(300)),
            (DistinctBy("number", 1_000), range(300)),
        ],
        ids=["accepted", "accepted_or_max", "tokens", "max", "distinct"],
    )
    async def test_beyond_the_guard(
        self, index: Index, caller: Caller, until: Policy, expected: range, caplog: pytest.LogCaptureFixture
    ) -> None:
        """300 results come in spite of the guard of 200, whatever policy decides which; that is no shortfall."""
        assert list(expected) == await caller.call(caller.retriever(index, 300, until=until))
        assert [] == warnings_of(caplog)

    async def test_beyond_ten_pulls(self, index: Index, caller: Caller) -> None:
        """The search goes on for what is asked for, also behind the tenth pull."""
        assert sorted(RARE) == await caller.call(caller.retriever(index, 3, until=Accepted(10, permit(rare))))

    @pytest.mark.parametrize(
        ("k", "sent"),
        [
            (1_000, ["query-data"]),
            (1_001, ["resumable-query-data", "resumable-query-next", "resumable-query-end"]),
            (2_150, ["resumable-query-data", *["resumable-query-next"] * 2, "resumable-query-end"]),
        ],
    )
    async def test_beyond_one_query(self, index: Index, caller: Caller, k: int, sent: list[str]) -> None:
        """Up to 1,000 results are one plain query; more come in pages, each row once and in order."""
        recording = Recording(index._transport)
        assert list(range(k)) == await caller.call(caller.retriever(Index._over(recording), k))
        assert ["info", *sent] == recording.sent  # info tells the weighting that the index wants

    async def test_a_late_fault(self, index: Index, caller: Caller) -> None:
        """A reply that is lost behind the first 1,000 rows costs no row, unless the caller bounds what it may cost."""
        for options in ({}, {"max_recovery": 1_500}):
            plan = FaultPlan(PlannedFault(Fault.DROP_REPLY, RequestKind.PAGE, 3))
            retriever = caller.retriever(faulty(index, plan, numbered_pages=False), 2_300, **options)
            if options:
                with pytest.raises(LimitReached, match="max_recovery"):
                    await caller.call(retriever)
            else:
                assert list(range(2_300)) == await caller.call(retriever)

    async def test_a_late_fault_with_a_policy(self, index: Index, caller: Caller) -> None:
        """A reply that is lost late in a call with a policy costs no row, if a `k` has lifted the guard on pulls."""
        plan = FaultPlan(PlannedFault(Fault.DROP_REPLY, RequestKind.NEXT, 11))
        retriever = caller.retriever(
            faulty(index, plan, numbered_pages=False), 1_000, until=Accepted(1_000, permit(even))
        )
        assert list(range(0, 2_000, 2)) == await caller.call(retriever)

    async def test_guards_of_policies(self, index: Index, caller: Caller) -> None:
        """Guards that are set for calls with a policy bound no call without one, whether it is one query or paged."""
        for k in (900, 1_100):
            assert list(range(k)) == await caller.call(caller.retriever(index, k, max_results=20, max_pulls=1))

    async def test_beyond_the_end(self, index: Index, caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
        """If there are fewer rows than asked for, all come, and that is no shortfall."""
        assert list(range(ROWS)) == await caller.call(caller.retriever(index, 5_000))
        assert [] == warnings_of(caplog)

    @pytest.mark.parametrize(
        ("bound", "returned"),
        [({"max_results": 20}, 20), ({"max_pulls": 1}, 300), ({"deadline": 1e-9}, 300)],
        ids=str,
    )
    async def test_bounds_of_the_caller(
        self, index: Index, caller: Caller, bound: dict[str, Any], returned: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A bound that is set beside the number holds, as a deadline does, and the log says which one it was."""
        until = Accepted(600, permit(lambda number: number < 300))
        retriever = caller.retriever(index, 500, until=until, **bound)
        assert list(range(returned)) == await caller.call(retriever)
        [warning] = warnings_of(caplog)
        (name, value), *_ = bound.items()
        assert warning.startswith(f"{name}={value:g} ended a search before it had enough: {returned} rows kept")

    async def test_the_deadline_of_pages(self, index: Index, caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
        """The deadline holds for a call that is paged because of its number alone."""
        assert list(range(1_000)) == await caller.call(caller.retriever(index, 2_000, deadline=1e-9))
        assert 1 == len(warnings_of(caplog))


class TestLangChainCalls:
    """The other ways of LangChain to ask for a number."""

    @pytest.mark.parametrize("k", [300, 1_500])
    async def test_every_way(self, index: Index, k: int) -> None:
        """A call, a batch, a chain and a configured field take the number alike, in both colours."""
        retriever = langchain.ResumableRetriever(index=index, embedding=True)
        until: dict[str, Any] = {"until": TokenBudget(100_000)} if k == 300 else {}
        found = [
            retriever.invoke("0", k=k, **until),
            await retriever.ainvoke("0", k=k, **until),
            *retriever.batch(["0", "0"], k=k, **until),
            *await retriever.abatch(["0"], k=k, **until),
            *(RunnableLambda(str) | retriever.bind(k=k, **until)).stream(0),
            *[page async for page in (RunnableLambda(str) | retriever.bind(k=k, **until)).astream(0)],
            retriever.configurable_fields(k=ConfigurableField(id="k")).invoke("0", {"configurable": {"k": k}}, **until),
        ]
        assert [list(range(k))] * 8 == [numbers(documents) for documents in found]

    async def test_bounds_of_the_call(self, index: Index, caplog: pytest.LogCaptureFixture) -> None:
        """A bound of the call itself holds beside its number, even if it has the default value."""
        retriever = langchain.ResumableRetriever(index=index, embedding=True)
        found = retriever.invoke("0", k=300, until=TokenBudget(100_000), max_results=200)
        assert list(range(200)) == numbers(found)
        assert 1 == len(warnings_of(caplog))

    async def test_streams(self, index: Index, caplog: pytest.LogCaptureFixture) -> None:
        """A page has as many documents as are asked for, also beyond the bound of a stream; other pages keep it."""
        retriever = langchain.ResumableRetriever(index=index, embedding=True)
        assert [list(range(300))] == [numbers(page) for page in retriever.stream("0", k=300)]
        assert [list(range(1_200))] == [numbers(page) async for page in retriever.astream("0", k=1_200)]
        pages = retriever.stream("0", k=300, until=TokenBudget(100_000), max_results=500)
        assert [300, 200] == [len(page) for page in pages]
        assert [50] * 4 == [len(page) for page in retriever.stream("0", k=50)]
        assert ["max_results=500"] == [warning.split()[0] for warning in warnings_of(caplog)]

    @pytest.mark.parametrize("mode", ["filter", "rerank"])
    async def test_compression(self, index: Index, mode: Any, caplog: pytest.LogCaptureFixture) -> None:
        """A compressor is shown as many documents as there have to be, and as it takes to see that they stay."""
        retriever = langchain.ResumableCompressionRetriever(
            base_compressor=_Everything(),
            base_retriever=langchain.ResumableRetriever(index=index, embedding=True),
            min_documents=300,
            mode=mode,
            window=70,
        )
        assert list(range(300)) == numbers(retriever.invoke("0")) == numbers(await retriever.ainvoke("0"))
        assert [] == warnings_of(caplog)
        assert list(range(200)) == numbers(retriever.invoke("0", max_results=200))
        assert 1 == len(warnings_of(caplog))


class Odd(BaseNodePostprocessor):
    """Keeps the odd numbers."""

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return [node for node in nodes if number_of(node) % 2]


def but(number: int) -> MetadataFilters:
    """Filters that the index cannot be told: every number but one."""
    return MetadataFilters(filters=[MetadataFilter(key="number", operator=FilterOperator.NE, value=number)])


class TestLlamaIndexCalls:
    """The other ways of LlamaIndex to ask for a number."""

    @pytest.mark.parametrize("native", [False, True])
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"filters": but(7)}, [number for number in range(301) if number != 7]),
            (
                {
                    "filters": MetadataFilters(
                        filters=[MetadataFilter(key="number", operator=FilterOperator.NIN, value=[0, 2])]
                    )
                },
                [1, *range(3, 302)],
            ),
            ({"node_postprocessors": [Odd()]}, range(1, 600, 2)),
            ({"node_ids": [str(number) for number in RARE]}, sorted(RARE)),
        ],
        ids=["ne", "nin", "postprocessors", "node_ids"],
    )
    async def test_checked_here(self, index: Index, options: Any, expected: Any, native: bool) -> None:
        """Nodes that are dropped by what is checked here are made up for, up to the number or the last row."""
        caller = Caller("llama_index", native)
        assert list(expected) == await caller.call(caller.retriever(index, 300, **options))

    @pytest.mark.parametrize("top_k", [300, 1_500])
    async def test_every_way(self, index: Index, top_k: int) -> None:
        """A bundle, another number that is set later, and an engine over the retriever return as many."""
        retriever = llama_index.ResumableRetriever(index, embedding=True, filters=but(ROWS))
        retriever.similarity_top_k = top_k
        engine = RetrieverQueryEngine(retriever, SILENT)
        refilling = llama_index.RefillingQueryEngine(retriever, SILENT, min_nodes=2)
        bundle = QueryBundle("0")
        found = [
            retriever.retrieve(bundle),
            await retriever.aretrieve(bundle),
            engine.retrieve(bundle),
            await engine.aretrieve(bundle),
            refilling.retrieve(bundle),
            await refilling.aretrieve(bundle),
        ]
        assert [list(range(top_k))] * 6 == [numbers(nodes) for nodes in found]

    async def test_refilling(self, index: Index, caplog: pytest.LogCaptureFixture) -> None:
        """As many nodes as have to pass are retrieved at least; if a bound comes first, one warning says so."""
        retriever = llama_index.ResumableRetriever(index, embedding=True)
        for post, passed in (([], range(300)), ([Odd()], range(1, 300, 2))):
            engine = llama_index.RefillingQueryEngine(retriever, SILENT, list(post), min_nodes=300)
            assert list(passed) == numbers(await engine.aretrieve(QueryBundle("0")))
            assert list(passed) == numbers(engine.retrieve(QueryBundle("0")))
        warnings = warnings_of(caplog)
        assert 2 == len(warnings)
        assert all(one.startswith("150 nodes of 300 passed: max_results=300 ended a search") for one in warnings)


class TestShortCalls:
    """A bound came before a policy had enough."""

    async def test_the_log(self, index: Index, caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
        """One warning has the counts, the bound and what to do, and none of the texts, ids or questions."""
        retriever = caller.retriever(index, until=Accepted(10, permit(rare)))
        assert [] == await caller.call(retriever)
        assert [
            "max_pulls=10 ended a search before it had enough: 0 rows kept, 1310 pulled in 10 pages, "
            "1310 dropped by accepted. To get more, give a larger max_pulls=, "
            "or put into filter= what the index can check by itself"
        ] == warnings_of(caplog)

    @pytest.mark.parametrize(
        "policy",
        [Accepted(2, permit(even)), Accepted(9_000, permit(rare)), TokenBudget(9)],
        ids=["policy", "end", "budget"],
    )
    async def test_enough(self, index: Index, caller: Caller, policy: Policy, caplog: pytest.LogCaptureFixture) -> None:
        """A call that its policy ends, or the end of the index, warns of nothing."""
        await caller.call(caller.retriever(index, until=policy, max_pulls=None))
        assert [] == warnings_of(caplog)

    @pytest.mark.parametrize("method", ["invoke", "stream", "session", "compression"])
    @pytest.mark.parametrize("native", [False, True])
    async def test_langchain_traces(
        self, index: Index, method: str, native: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The run of a short call has the sentence in its metadata, and handlers get an event with the counts."""
        told: list[tuple[str, Any]] = []
        handler = _handler(told, native=native)
        retriever = langchain.ResumableRetriever(index=index, embedding=True)
        with collect_runs() as collected:
            await _short_langchain(retriever, method, native, {"callbacks": [handler, collected]})
        [warning] = warnings_of(caplog)
        run = collected.traced_runs[0]
        assert run.metadata["nextk_shortfall"] in warning
        assert {("nextk_shortfall", "max_pulls")} == {(name, data["reason"]) for name, data in told}
        assert 0 == told[-1][1]["kept"] or method == "compression"
        later = retriever.invoke("0", {"callbacks": [collected]})
        assert 4 == len(later)
        assert "nextk_shortfall" not in (collected.traced_runs[-1].metadata or {})

    def test_pages_have_metadata_of_their_own(self, index: Index) -> None:
        """Of the runs of one search, those that are short say so, and those after them do not."""
        retriever = langchain.ResumableRetriever(index=index, embedding=True, max_pulls=1)
        with collect_runs() as collected, retriever.open("0") as search:
            search.fetch_until(MaxResults(2))
            search.fetch_until(Accepted(1, permit(rare)))
            search.fetch_until(MaxResults(2))
        assert [False, True, False] == ["nextk_shortfall" in (run.metadata or {}) for run in collected.traced_runs]

    async def test_events_of_langchain(self, index: Index) -> None:
        """`astream_events` shows the event before the end of the run, and the sentence in the metadata of the end."""
        retriever = langchain.ResumableRetriever(index=index, embedding=True, until=Accepted(10, permit(rare)))
        events = [event async for event in retriever.astream_events("0", version="v2")]
        kinds = [event["event"] for event in events]
        assert kinds.index("on_custom_event") < kinds.index("on_retriever_end")
        assert "max_pulls" in events[kinds.index("on_retriever_end")]["metadata"]["nextk_shortfall"]

    @pytest.mark.parametrize("method", ["retrieve", "session", "engine"])
    @pytest.mark.parametrize("native", [False, True])
    async def test_llama_index_events(
        self, index: Index, method: str, native: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A short retrieval dispatches one event with the sentence and the counts, before the event of its end."""
        listening = Listening(seen=[])
        root = get_dispatcher()
        root.add_event_handler(listening)
        try:
            await _short_llama_index(llama_index.ResumableRetriever(index, embedding=True), method, native)
        finally:
            root.event_handlers.remove(listening)
        [warning] = warnings_of(caplog)
        short, *_, end = [one for one in listening.seen if isinstance(one, ShortfallEvent | RetrievalEndEvent)]
        assert isinstance(short, ShortfallEvent)
        assert isinstance(end, RetrievalEndEvent)
        assert ("max_pulls", "ShortfallEvent") == (short.reason, short.class_name())
        assert short.message in warning
        assert 1 == sum(isinstance(one, ShortfallEvent) for one in listening.seen)


def _handler(told: list[tuple[str, Any]], *, native: bool) -> BaseCallbackHandler:
    """A handler of LangChain's that notes custom events."""

    class Blocking(BaseCallbackHandler):
        """Notes custom events."""

        def on_custom_event(self, name: str, data: Any, **_: Any) -> None:
            """Note."""
            told.append((name, data))

    class Native(AsyncCallbackHandler):
        """Notes custom events."""

        async def on_custom_event(self, name: str, data: Any, **_: Any) -> None:
            """Note."""
            told.append((name, data))

    return Native() if native else Blocking()


async def _short_langchain(retriever: Any, method: str, native: bool, config: Any) -> None:
    """Make a call of LangChain's that is short because of `max_pulls`."""
    options = {"until": Accepted(10, permit(rare)), "max_pulls": 2}
    if method == "session":
        bounded = retriever.model_copy(update={"max_pulls": 2})
        if native:
            async with bounded.aopen("0", config=config) as search:
                await search.fetch_until(options["until"])
        else:
            with bounded.open("0", config=config) as search:
                search.fetch_until(options["until"])
        return
    if method == "compression":
        retriever = langchain.ResumableCompressionRetriever(base_compressor=_Nothing(), base_retriever=retriever)
        method, options = "invoke", {"max_pulls": 2}
    call = getattr(retriever, ("a" if native else "") + method)("0", config, **options)
    if method == "stream":
        assert [] == ([page async for page in call] if native else list(call))
    else:
        assert [] == (await call if native else call)


class _Everything(BaseDocumentCompressor):
    """A compressor that drops nothing."""

    def compress_documents(self, documents: Any, query: str, callbacks: Any = None) -> Any:
        """Keep all."""
        return documents


class _Nothing(BaseDocumentCompressor):
    """A compressor that drops everything."""

    def compress_documents(self, documents: Any, query: str, callbacks: Any = None) -> Any:
        """Drop."""
        return []


async def _short_llama_index(retriever: Any, method: str, native: bool) -> None:
    """Make a call of LlamaIndex's that is short because of `max_pulls`."""
    until = Accepted(10, permit(rare))
    bounded: Any = llama_index.ResumableRetriever(retriever.index, embedding=True, max_pulls=2, until=until)
    if method == "session":
        if native:
            async with bounded.aopen("0") as search:
                await search.fetch_until(until)
        else:
            with bounded.open("0") as search:
                search.fetch_until(until)
        return
    if method == "engine":
        bounded = llama_index.RefillingQueryEngine(bounded, SILENT, min_nodes=2)
    call = getattr(bounded, "aretrieve" if native else "retrieve")(QueryBundle("0"))
    assert [] == (await call if native else call)
