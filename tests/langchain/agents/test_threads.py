"""Agents over time: parallel calls, several runs, earlier checkpoints, other processes, and graphs of one's own."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ToolRetryMiddleware
from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from nextk import Index
from nextk.engine.factory import open_engine
from nextk.errors import SearchFailed
from nextk.langchain import ResumableRetriever
from nextk.langchain.agents import (
    ResumableSearchMiddleware,
    ResumableSearchState,
    create_resumable_search_tools,
    new_scope,
)
from nextk.testing import ManualClock
from nextk.transport.in_process import InProcessTransport, SharedEngine
from nextk.until import Accepted
from tests.support.fenced_texts import unmarked
from tests.support.langchain_agents import (
    OTHER,
    SEARCH_MORE_MORE,
    Line,
    ScriptedModel,
    agent_of,
    ask,
    flat,
    left_open,
    more,
    pages,
    ranking,
    replies,
    search,
    thread,
)
from tests.support.local_server import LocalServer
from tests.support.sentence_index import QUESTION, TEXTS, sentences
from tests.support.subprocesses import output


@pytest.fixture(scope="module")
def shared() -> Iterator[Index]:
    """An index that embeds text."""
    with sentences() as index:
        yield index


@pytest.fixture
def index(shared: Index) -> Iterator[Index]:
    """The same index; afterwards it holds no query but parked ones, and these can be stopped."""
    yield shared
    assert 0 == left_open(shared)


@pytest.fixture
def retriever(index: Index) -> ResumableRetriever:
    """A retriever of pages of four."""
    return ResumableRetriever(index=index, k=4)


@pytest.fixture
def order(retriever: ResumableRetriever) -> list[str]:
    """The ids of everything that the question finds, best first."""
    return ranking(retriever)


PARALLEL: tuple[Line, ...] = ([search(), search(OTHER), search()], [more(), more(OTHER), more()], "done")
TWO_RUNS: tuple[Line, ...] = ([search()], "first", [more()], [search()], "second")


def require_disjoint(result: dict[str, Any], order: list[str]) -> None:
    """No document is there twice; the identical searches share one ranking between them."""
    found = pages(result)
    assert [4] * 6 == list(map(len, found))
    assert 24 == len(set(flat(found)))
    other = set(found[1] + found[4])
    own = sorted(found[0] + found[2] + found[3] + found[5], key=order.index)
    assert set(order[:16]) <= set(own) | other
    assert all(page == sorted(page, key=order.index) for page in (found[0], found[2], found[3], found[5]))


class TestParallel:
    """Several calls in one step."""

    @pytest.mark.parametrize("saver", [False, True])
    def test_threads(self, retriever: ResumableRetriever, order: list[str], saver: bool) -> None:
        """Calls on threads run one after another."""
        agent = agent_of(PARALLEL, retriever, InMemorySaver() if saver else None)
        require_disjoint(agent.invoke(ask(), thread()), order)

    async def test_tasks(self, retriever: ResumableRetriever, order: list[str]) -> None:
        """Calls in an event loop run one after another."""
        require_disjoint(await agent_of(PARALLEL, retriever).ainvoke(ask()), order)

    def test_other_threads_of_conversation(self, retriever: ResumableRetriever, order: list[str]) -> None:
        """Conversations know nothing of each other."""
        agent = agent_of(SEARCH_MORE_MORE, retriever, InMemorySaver())
        results = agent.batch([ask()] * 4, [thread(str(number)) for number in range(4)])
        assert [[order[:4], order[4:8], order[8:12]]] * 4 == list(map(pages, results))

    async def test_many_at_once(self, retriever: ResumableRetriever, order: list[str]) -> None:
        """Conversations in an event loop know nothing of each other."""
        agent = agent_of(SEARCH_MORE_MORE, retriever, InMemorySaver())
        results = await asyncio.gather(*[agent.ainvoke(ask(), thread(str(number))) for number in range(4)])
        assert [[order[:4], order[4:8], order[8:12]]] * 4 == list(map(pages, results))


class Flaky:
    """A permission check that fails once, at the rows of one question."""

    def __init__(self, failures: int) -> None:
        self.left = failures

    def __call__(self, documents: list[Document]) -> list[bool]:
        """Permit everything, but for the failures."""
        if self.left and "fire" in documents[0].page_content:
            self.left -= 1
            message = "no directory"
            raise OSError(message)
        return [True] * len(documents)


class TestFaults:
    """What goes wrong on the way."""

    def test_half_a_step(self, index: Index, order: list[str]) -> None:
        """Of parallel calls one fails: it is made again, and leaves out what the others have shown."""
        retriever = ResumableRetriever(index=index, k=4, until=Accepted(4, Flaky(1)))
        agent = agent_of(PARALLEL, retriever, InMemorySaver())
        with pytest.raises(SearchFailed):
            agent.invoke(ask(), thread())
        require_disjoint(agent.invoke(None, thread()), order)

    def test_retries(self, index: Index, order: list[str]) -> None:
        """A middleware that tries again finds what there was to be found."""
        retriever = ResumableRetriever(index=index, k=4, until=Accepted(4, Flaky(1)))
        agent = create_agent(
            ScriptedModel(script=[[search(OTHER)], [more(OTHER)], "done"]),
            middleware=[ToolRetryMiddleware(max_retries=1, initial_delay=0), ResumableSearchMiddleware(retriever)],
        )
        assert ranking(ResumableRetriever(index=index), OTHER)[:8] == flat(pages(agent.invoke(ask())))

    async def test_cancelled(self, index: Index, order: list[str]) -> None:
        """A run that is cancelled in the middle of a call leaves nothing open, and the next one goes on from before."""
        reached = asyncio.Event()
        waits = [False, True, False]

        async def check(documents: list[Document]) -> list[bool]:
            if waits.pop(0) if waits else False:
                reached.set()
                await asyncio.Event().wait()
            return [True] * len(documents)

        agent = agent_of(
            SEARCH_MORE_MORE, ResumableRetriever(index=index, k=4, until=Accepted(4, check)), InMemorySaver()
        )
        run = asyncio.create_task(agent.ainvoke(ask(), thread()))
        await reached.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert 0 == left_open(index)
        assert order[:12] == flat(pages(await agent.ainvoke(None, thread())))

    def test_expired(self) -> None:
        """A search that the index has dropped meanwhile goes on all the same."""
        clock = ManualClock()
        engine = open_engine(None, {"embedding": "static", "sparse_embedding": "bm25"}, clock=clock)
        shared_engine = SharedEngine(None, engine)
        with Index._over(InProcessTransport(shared_engine, lambda: shared_engine)) as index:
            index.upsert([(f"t{number}", text) for number, text in enumerate(TEXTS)])
            retriever = ResumableRetriever(index=index, k=4)
            order = ranking(retriever)
            agent = agent_of([[search()], "first", [more()], "second"], retriever, InMemorySaver())
            agent.invoke(ask(), thread())
            clock.pass_max_idle()
            assert [order[:4], order[4:8]] == pages(agent.invoke(ask(), thread()))
            assert 0 == left_open(index)


class TestScope:
    """How far the memory of searches reaches."""

    def test_thread(self, retriever: ResumableRetriever, order: list[str]) -> None:
        """Within a thread a search goes on from one run to the next."""
        agent = agent_of(TWO_RUNS, retriever, InMemorySaver())
        agent.invoke(ask(), thread())
        assert [order[:4], order[4:8], order[8:12]] == pages(agent.invoke(ask("more"), thread()))

    def test_run(self, retriever: ResumableRetriever, order: list[str]) -> None:
        """If every run begins anew, ids of the run before are expired, and documents may come again."""
        agent = agent_of(TWO_RUNS, retriever, InMemorySaver(), scope="run")
        agent.invoke(ask(), thread())
        result = agent.invoke(ask("more"), thread())
        assert [order[:4], [], order[:4]] == pages(result)
        assert "expired" in replies(result)[1].text

    async def test_run_asynchronously(self, retriever: ResumableRetriever, order: list[str]) -> None:
        """In an event loop every run begins anew as well."""
        agent = agent_of(TWO_RUNS, retriever, InMemorySaver(), scope="run")
        await agent.ainvoke(ask(), thread())
        assert [order[:4], [], order[:4]] == pages(await agent.ainvoke(ask("more"), thread()))

    def test_a_run_that_was_interrupted(self, retriever: ResumableRetriever, order: list[str]) -> None:
        """A run that goes on after an interrupt is the same run."""
        agent = agent_of(SEARCH_MORE_MORE, retriever, InMemorySaver(), interrupt_before=["tools"], scope="run")
        agent.invoke(ask(), thread())
        for _ in range(3):
            result = agent.invoke(None, thread())
        assert [order[:4], order[4:8], order[8:12]] == pages(result)


class TestTimeTravel:
    """Earlier checkpoints."""

    def test_same_pages(self, retriever: ResumableRetriever) -> None:
        """From every checkpoint of the past the same pages come again, text for text, though the search went on.

        Only the mark of the fence is another one.
        """
        agent = agent_of(SEARCH_MORE_MORE, retriever, InMemorySaver())
        words = [unmarked(reply.text) for reply in replies(agent.invoke(ask(), thread()))]
        for state in list(agent.get_state_history(thread()))[:-1]:
            assert words == [unmarked(reply.text) for reply in replies(agent.invoke(None, state.config))]

    def test_parallel_calls(self, retriever: ResumableRetriever) -> None:
        """Parallel calls that are made again each find what they found, whichever of them comes first this time."""
        agent = agent_of(PARALLEL, retriever, InMemorySaver())
        words = [unmarked(reply.text) for reply in replies(agent.invoke(ask(), thread()))]
        past = [state for state in agent.get_state_history(thread()) if "tools" in state.next]
        for state, known in zip(past, (6, 3), strict=True):
            for _ in range(3):
                again = [unmarked(reply.text) for reply in replies(agent.invoke(None, state.config))]
                assert words[:known] == again[:known]

    def test_forks(self, retriever: ResumableRetriever, order: list[str]) -> None:
        """Two branches from one checkpoint each go on with the next page."""
        agent = agent_of([[search()], "done", [more()], "x", [more()], "x"], retriever, InMemorySaver())
        agent.invoke(ask(), thread())
        fork = agent.get_state(thread()).config
        for _ in range(2):
            assert [order[:4], order[4:8]] == pages(agent.invoke(ask("more"), fork))
        assert order[8:12] == pages(agent.invoke(ask("more"), thread()))[-1]


FIRST_HALF = """
import os, sys
from langgraph.checkpoint.sqlite import SqliteSaver
from tests.support.langchain_agents import agent_of, ask, more, search, thread
from nextk.langchain import ResumableRetriever

url, token, path = sys.argv[1:]
retriever = ResumableRetriever(url=url, token=token, k=4)
with SqliteSaver.from_conn_string(path) as saver:
    agent = agent_of([[search()], [more()], [more()], "done"], retriever, saver, interrupt_before=["tools"])
    agent.invoke(ask(), thread())
    agent.invoke(None, thread())
    agent.invoke(None, thread())
retriever.close()
"""

SECOND_HALF = """
import json, sys
from langgraph.checkpoint.sqlite import SqliteSaver
from tests.support.langchain_agents import agent_of, ask, more, pages, search, thread
from nextk.langchain import ResumableRetriever

url, token, path = sys.argv[1:]
retriever = ResumableRetriever(url=url, token=token, k=4)
with SqliteSaver.from_conn_string(path) as saver:
    agent = agent_of([[search()], [more()], [more()], "done"], retriever, saver)
    result = agent.invoke(None, thread())
    print(json.dumps([pages(result), result["messages"][-1].text]))
retriever.close()
"""


class TestCheckpointers:
    """Checkpointers, in which a search waits for its next call."""

    @pytest.mark.parametrize(("end", "orphans"), [("retriever.close()", 0), ("os._exit(0)", 1)])
    def test_two_processes(
        self, local_server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, orphans: int
    ) -> None:
        """A run that is interrupted, or killed, goes on in another process: nothing repeated, nothing left out.

        Nothing stays open either, but what a killed process had left for its own next call, until that expires.
        """
        monkeypatch.setenv("LANGGRAPH_STRICT_MSGPACK", "true")
        name = f"agents-{orphans}"
        url = local_server.add(name, embedding="static", sparse_embedding="bm25")
        engine: Any = local_server.engines[name]
        with Index(url, local_server.token) as index:
            index.upsert([(f"t{number}", text, {"place": number}) for number, text in enumerate(TEXTS)])
            order = ranking(ResumableRetriever(index=index))
        where = url, local_server.token, tmp_path / "checkpoints.sqlite"
        output(FIRST_HALF.replace("retriever.close()", end), *where)
        assert orphans == engine.open_queries()
        expected = [[order[:4], order[4:8], order[8:12]], "done"]
        assert expected == json.loads(output(SECOND_HALF, *where))
        assert orphans == engine.open_queries()

    def test_sqlite(self, retriever: ResumableRetriever, order: list[str], tmp_path: Path) -> None:
        """One run has a SQLite checkpointer, the next run another one over the same file."""
        script: list[Line] = [[search()], "first", [more()], "second"]
        for _ in range(2):
            with SqliteSaver.from_conn_string(str(tmp_path / "checkpoints.sqlite")) as saver:
                result = agent_of(script, retriever, saver).invoke(ask(), thread())
        assert [order[:4], order[4:8]] == pages(result)

    async def test_async_sqlite(self, retriever: ResumableRetriever, order: list[str], tmp_path: Path) -> None:
        """One run has an asynchronous SQLite checkpointer, the next run another one over the same file."""
        script: list[Line] = [[search()], "first", [more()], "second"]
        for _ in range(2):
            async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "checkpoints.sqlite")) as saver:
                result = await agent_of(script, retriever, saver).ainvoke(ask(), thread())
        assert [order[:4], order[4:8]] == pages(result)

    def test_plain_data(self, retriever: ResumableRetriever) -> None:
        """The state goes through JSON and msgpack unchanged, without any type of ours."""
        agent = agent_of([[search(), search(OTHER)], "done"], retriever, InMemorySaver())
        agent.invoke(ask(), thread())
        state = agent.get_state(thread()).values["resumable_searches"]
        assert state == json.loads(json.dumps(state))
        assert state == ormsgpack.unpackb(ormsgpack.packb(state))


class TestOwnGraphs:
    """The tools without the middleware."""

    def graph(self, script: list[Line], retriever: ResumableRetriever, state: Any, **options: Any) -> Any:
        """A graph as LangGraph's pages show it."""
        tools = create_resumable_search_tools(retriever, **options)
        model = ScriptedModel(script=script).bind_tools(tools)
        graph = StateGraph(state)
        graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
        graph.add_node("tools", ToolNode(tools))
        graph.add_edge(START, "model")
        graph.add_conditional_edges("model", tools_condition)
        graph.add_edge("tools", "model")
        return graph

    def test_graph(self, retriever: ResumableRetriever, order: list[str]) -> None:
        """In a graph of one's own a search goes on as it does in an agent."""
        graph = self.graph(SEARCH_MORE_MORE, retriever, ResumableSearchState).compile()
        assert [order[:4], order[4:8], order[8:12]] == pages(graph.invoke(ask()))

    async def test_parallel(self, retriever: ResumableRetriever, order: list[str]) -> None:
        """Calls that one node makes at once run one after another, too, on threads and in an event loop."""
        graph = self.graph(list(PARALLEL), retriever, ResumableSearchState).compile()
        require_disjoint(graph.invoke(ask()), order)
        require_disjoint(await graph.ainvoke(ask()), order)

    def test_new_scope(self, retriever: ResumableRetriever, order: list[str]) -> None:
        """A node may forget the searches."""
        graph = self.graph(list(TWO_RUNS), retriever, ResumableSearchState)
        graph = graph.compile(InMemorySaver())
        graph.invoke(ask(), thread())
        graph.update_state(thread(), new_scope(), as_node="model")
        assert [order[:4], [], order[:4]] == pages(graph.invoke(ask(), thread()))

    def test_without_the_state(self, retriever: ResumableRetriever, caplog: pytest.LogCaptureFixture) -> None:
        """A graph whose state has no room for searches gets the first page, and the log says what is missing."""
        graph = self.graph([[search()], [more()], "done"], retriever, MessagesState).compile()
        first, second = pages(graph.invoke(ask()))
        assert (4, 0) == (len(first), len(second))
        assert "ResumableSearchState" in caplog.text

    def test_list_of_messages(self, retriever: ResumableRetriever, order: list[str]) -> None:
        """A node that is given nothing but messages shows the first page."""
        calls = [{"name": "search", "args": {"query": QUESTION}, "id": "1", "type": "tool_call"}]
        node = ToolNode(create_resumable_search_tools(retriever))
        graph = StateGraph(MessagesState)
        graph.add_node("tools", lambda _: {"messages": node.invoke([AIMessage("", tool_calls=calls)])})
        graph.add_edge(START, "tools")
        assert [order[:4]] == pages(graph.compile().invoke(ask()))
