"""Widening: a search goes on in another mode or through another filter, and repeats no id."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.embeddings import DeterministicFakeEmbedding

from nextk import Index
from nextk.errors import ClientError, NextKError
from nextk.langchain import ResumableRetriever as LangChainRetriever
from nextk.llama_index import ResumableRetriever as LlamaIndexRetriever
from nextk.sessions import Cursor, Report, RetrievalMode, SearchQuery
from nextk.testing import Fault, FaultPlan, PlannedFault, RequestKind, faulty
from nextk.until import MaxResults, MinScore, TokenBudget
from tests.support.searches import COLOURS, DRAIN, SHAPES, Bench, Some, drained, ids, open_session, search_of
from tests.support.sentence_index import QUESTION, TEXTS, sentences
from tests.support.transports import Awaitable, Recording

DENSE, SPARSE, HYBRID = RetrievalMode


@dataclass(frozen=True)
class Effect:
    """One widening.

    Attributes:
        first: The question before.
        change: The keywords of `widen`.
    """

    first: SearchQuery
    change: dict[str, Any]

    @property
    def second(self) -> SearchQuery:
        """The question after it."""
        mode, through = self.change.get("retrieval_mode"), self.change.get("filter")
        return replace(
            self.first,
            mode=self.first.mode if mode is None else RetrievalMode(mode),
            filter=self.first.filter if through is None else through,
        )


_BOTH = SHAPES["hybrid"].question
_FEW = "number < 9"
STEPS = {
    "dense to hybrid": Effect(replace(_BOTH, mode=DENSE), {"retrieval_mode": "hybrid"}),
    "dense to sparse": Effect(replace(_BOTH, mode=DENSE), {"retrieval_mode": SPARSE}),
    "sparse to dense": Effect(replace(_BOTH, mode=SPARSE), {"retrieval_mode": "DENSE"}),
    "looser filter": Effect(replace(_BOTH, filter=_FEW), {"filter": "number < 25"}),
    "no filter": Effect(replace(_BOTH, mode=DENSE, filter=_FEW), {"filter": ""}),
    "both": Effect(replace(_BOTH, mode=DENSE, filter=_FEW), {"retrieval_mode": "hybrid", "filter": "number < 25"}),
}


@pytest.fixture(params=[*STEPS.values()], ids=[*STEPS])
def step(request: pytest.FixtureRequest) -> Effect:
    """Each widening in turn."""
    widening: Effect = request.param
    return widening


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> str:
    """Either colour of a session."""
    return str(request.param)


@pytest.fixture(params=["hybrid", "hybrid-batch"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A hybrid index of each fusion order; afterwards nothing is open."""
    bench = Bench.build(SHAPES[request.param])
    yield bench
    bench.index.info()  # drops what was let go of
    assert 0 == bench.engine.open_queries()
    bench.index.close()


@pytest.fixture
def hybrid() -> Iterator[Bench]:
    """A hybrid index; afterwards nothing is open."""
    bench = Bench.build(SHAPES["hybrid"])
    yield bench
    bench.index.info()
    assert 0 == bench.engine.open_queries()
    bench.index.close()


@pytest.fixture(scope="module")
def texts() -> Iterator[Index]:
    """An index of sentences that embeds its text."""
    with sentences(TEXTS) as index:
        yield index


def cursor_of(search: Any) -> Cursor:
    """Where a session of either colour stands, as it comes out of a store."""
    cursor: Cursor = json.loads(json.dumps((search.inner if isinstance(search, Awaitable) else search).cursor()))
    return cursor


def everything(bench: Bench, question: SearchQuery) -> list[str]:
    """What one exhaustive plain query finds."""
    return ids(bench.index.query(top_k=1_000, **question.parameters()))


def paged(bench: Bench, question: SearchQuery, sizes: list[int]) -> list[str]:
    """What the bare query brings with pulls of these sizes, and what is left."""
    page, handle = bench.index.resumable_query(top_k=sizes[0], **question.parameters())
    with handle:
        rows = ids(page)
        for size in [*sizes[1:], 1_000, 1_000]:
            rows += ids(handle.fetch_next(size))
    return rows


def adds_up(report: Report) -> None:
    """The parts of a search make the whole, and every row that was pulled went somewhere."""
    for name in ("pulls", "pulled", "repeated", "kept"):
        assert getattr(report, name) == sum(getattr(phase, name) for phase in report.phases), name
    gone_somewhere = report.kept + sum(report.dropped.values()) + report.repeated + report.waiting
    assert report.pulled == gone_somewhere or (len(report.phases) > 1 and report.pulled > gone_somewhere)  # put back
    assert 0 == report.phases[0].began
    assert [phase.began for phase in report.phases] == sorted(phase.began for phase in report.phases)


class TestEveryStep:
    """Each kind of widening, on both fusion orders, in both colours."""

    @pytest.mark.parametrize("count", [1, 4, 100])
    async def test_never_again_and_all_of_it(self, bench: Bench, step: Effect, count: int, colour: str) -> None:
        """No id comes twice, everything of the wider search comes, and in its order; also after an exhausted phase."""
        search = search_of(bench.index, step.first, colour)
        first = await search.fetch_next(count)
        assert paged(bench, step.first, [count])[:count] == first
        assert (count == 100) == search.exhausted
        await search.widen(**step.change)
        assert not search.exhausted
        rest = await drained(search)
        assert len(first + rest) == len({*first, *rest})
        assert {*first, *everything(bench, step.second)} == {*first, *rest}
        if bench.shape is SHAPES["hybrid"] or step.second.mode in (DENSE, SPARSE):
            assert [id_ for id_ in everything(bench, step.second) if id_ not in first] == rest
        assert search.exhausted

    async def test_the_report(self, bench: Bench, step: Effect, colour: str) -> None:
        """Each phase is reported for itself: its mode, where it began, what it pulled, repeated and kept."""
        search = search_of(bench.index, step.first, colour)
        first = [*await search.fetch_next(3), *await search.fetch_next(4)]
        await search.widen(**step.change)
        for _ in range(4):
            adds_up(search.report)
            await search.fetch_next(2)
        rest = await drained(search)
        report: Report = search.report
        adds_up(report)
        one, two = report.phases
        assert (step.first.mode, step.second.mode) == (one.retrieval_mode, two.retrieval_mode)
        assert (0, 2, 7, 0, 7) == (one.began, one.pulls, one.pulled, one.repeated, one.kept)
        wider = everything(bench, step.second)
        assert (7, len(wider), len(set(first) & set(wider))) == (two.began, two.pulled, two.repeated)
        assert (len(rest) + 8, True, False, 0) == (two.kept, report.exhausted, report.changed, report.recovered)

    async def test_rows_that_wait_are_put_back(self, bench: Bench, step: Effect, colour: str) -> None:
        """What was pulled before and nobody has looked at comes as the wider search finds it, if it does."""
        search = search_of(bench.index, step.first, colour)
        first = await search.fetch_until(Some(2))
        assert search.report.waiting > 3
        await search.widen(**step.change)
        assert (0, 2, 0) == (search.report.waiting, search.report.phases[0].kept, search.report.phases[1].pulls)
        rest = await drained(search)
        adds_up(search.report)
        assert len(rest) == len({*first, *rest}) - 2
        assert {*everything(bench, step.second)} - {*first} == {*rest}
        if bench.shape is SHAPES["hybrid"]:  # else pages depend on their sizes
            assert [id_ for id_ in everything(bench, step.second) if id_ not in first] == rest

    async def test_nothing_is_sent_before_the_next_pull(self, bench: Bench, step: Effect, colour: str) -> None:
        """Widening by itself sends nothing; the next pull lets go of the old query before it starts the new one."""
        recording = Recording(bench.index._transport)
        search = search_of(Index._over(recording), step.first, colour)
        await search.fetch_next(3)
        before = list(recording.sent)
        await search.widen(**step.change)
        assert before == recording.sent
        await search.fetch_next(1)
        assert 1 == bench.engine.open_queries()
        assert ["resumable-query-end", "resumable-query"] == recording.sent[len(before) :][:2]
        await search.stop()

    async def test_before_the_first_pull(self, bench: Bench, step: Effect, colour: str) -> None:
        """A search that is widened before it began is the wider search."""
        search = search_of(bench.index, step.first, colour)
        await search.widen(**step.change)
        rows = await drained(search)
        assert set(everything(bench, step.second)) == set(rows)
        assert len(rows) == len(set(rows))
        assert [0, len(rows)] == [phase.kept for phase in search.report.phases]


class TestSeveral:
    """Step after step."""

    @settings(max_examples=100, deadline=None)
    @given(
        steps=st.lists(
            st.tuples(
                st.sampled_from([None, DENSE, SPARSE, HYBRID]),
                st.sampled_from([None, "", "number < 9", "number < 20", "number > 12"]),
                st.lists(st.integers(1, 12), max_size=3),
                st.booleans(),
            ),
            max_size=4,
        ),
        name=st.sampled_from(["hybrid", "hybrid-batch"]),
        how=st.sampled_from(["go on", "cursor", "detach"]),
    )
    def test_any_sequence(
        self, steps: list[tuple[RetrievalMode | None, str | None, list[int], bool]], name: str, how: str
    ) -> None:
        """Whatever is widened to what, no id comes twice, and all that the last phase finds comes."""
        bench = Bench.build(SHAPES[name])
        question, search = _BOTH, open_session(bench.index, _BOTH)
        served = search.fetch_next(3)
        for mode, through, pulls, waiting in steps:
            wider = replace(
                question, mode=mode or question.mode, filter=question.filter if through is None else through
            )
            if wider == question:
                with pytest.raises(ClientError, match="changes nothing"):
                    search.widen(retrieval_mode=mode, filter=through)
                continue
            search.widen(retrieval_mode=mode, filter=through)
            question = wider
            for size in pulls:
                served += search.fetch_next(size)
            if waiting:
                served += search.fetch_until(Some(1))
            if how != "go on":
                cursor = search.detach() if how == "detach" else search.cursor()
                search.stop()
                search = open_session(bench.index, question, cursor=json.loads(json.dumps(cursor)))
        with search:
            served += search.fetch_next(DRAIN)
            while page := search.fetch_next(DRAIN):
                served += page
        assert len(served) == len(set(served)) == search.report.kept
        assert set(everything(bench, question)) <= set(served)
        bench.index.info()
        assert 0 == bench.engine.open_queries()
        bench.index.close()

    async def test_there_and_back(self, bench: Bench, colour: str) -> None:
        """Back in the mode that it came from, a search goes on behind what it has served."""
        search = search_of(bench.index, replace(_BOTH, mode=DENSE), colour)
        rows = await search.fetch_next(4)
        for mode in (SPARSE, DENSE):
            await search.widen(retrieval_mode=mode)
            rows += await search.fetch_next(4)
        rest = await drained(search)
        dense = everything(bench, replace(_BOTH, mode=DENSE))
        assert [id_ for id_ in dense if id_ not in rows] == rest
        assert [DENSE, SPARSE, DENSE] == [phase.retrieval_mode for phase in search.report.phases]
        adds_up(search.report)


class TestRefused:
    """What cannot be widened, or not so."""

    @pytest.mark.parametrize(
        "change",
        [
            {},
            {"retrieval_mode": None, "filter": None},
            {"retrieval_mode": "dense"},
            {"retrieval_mode": "DENSE"},
            {"filter": _FEW},
            {"retrieval_mode": DENSE, "filter": _FEW},
        ],
        ids=repr,
    )
    async def test_nothing_changes(self, hybrid: Bench, change: dict[str, Any], colour: str) -> None:
        """A widening that changes nothing is refused, and the search goes on."""
        question = replace(_BOTH, mode=DENSE, filter=_FEW)
        search = search_of(hybrid.index, question, colour)
        rows = await search.fetch_next(3)
        with pytest.raises(ClientError, match="changes nothing"):
            await search.widen(**change)
        assert everything(hybrid, question) == rows + await drained(search)
        assert 1 == len(search.report.phases)

    @pytest.mark.parametrize("mode", ["", "densest", 1])
    async def test_no_mode(self, hybrid: Bench, mode: Any, colour: str) -> None:
        """What is no mode is refused by name."""
        search = search_of(hybrid.index, _BOTH, colour)
        with pytest.raises(ClientError, match="retrieval_mode="):
            await search.widen(retrieval_mode=mode)

    async def test_a_stopped_search(self, hybrid: Bench, colour: str) -> None:
        """A stopped search cannot be widened."""
        search = search_of(hybrid.index, _BOTH, colour)
        await search.stop()
        with pytest.raises(ClientError, match="open a new one"):
            await search.widen(filter=_FEW)

    @pytest.mark.parametrize("mode", [SPARSE, HYBRID])
    async def test_a_missing_model(self, hybrid: Bench, mode: RetrievalMode, colour: str) -> None:
        """A mode whose model is missing is refused by the pull that needs it; widened back, the search goes on."""
        question = replace(_BOTH, sparse_vector=None, mode=DENSE)
        expected = everything(hybrid, question)
        search = search_of(hybrid.index, question, colour)
        rows = await search.fetch_until(Some(2))
        await search.widen(retrieval_mode=mode)
        with pytest.raises(ClientError, match="lacks"):
            await search.fetch_next(1)
        await search.widen(retrieval_mode=DENSE)
        assert expected == rows + await drained(search)

    async def test_a_refused_filter(self, hybrid: Bench, colour: str) -> None:
        """A filter that the index refuses is its error at the next pull; the search can be widened again."""
        search = search_of(hybrid.index, _BOTH, colour)
        rows = await search.fetch_next(3)
        await search.widen(filter="number <")
        with pytest.raises(NextKError):
            await search.fetch_next(1)
        await search.widen(filter="number < 100")
        assert everything(hybrid, _BOTH) == rows + await drained(search)


class TestCursors:
    """Position data of a widened search."""

    @pytest.mark.parametrize("before", [3, 100])
    @pytest.mark.parametrize("after", [[], [5, 1, 100]], ids=repr)
    async def test_it_goes_on(self, bench: Bench, step: Effect, before: int, after: list[int], colour: str) -> None:
        """Resumed with the wider question, the rest is the rest; with the narrower view it is refused."""
        search = search_of(bench.index, step.first, colour)
        await search.fetch_next(before)
        await search.widen(**step.change)
        for size in after:
            await search.fetch_next(size)
        cursor, report = cursor_of(search), search.report
        expected = await drained(search)
        for mode in (step.second.mode, step.first.mode):  # the mode is the cursor's
            again = search_of(bench.index, replace(step.second, mode=mode), colour, cursor=cursor)
            assert report.phases == again.report.phases
            assert expected == await drained(again)
            adds_up(again.report)
        if step.first.filter != step.second.filter:
            with pytest.raises(ClientError, match="filter"):
                search_of(bench.index, step.first, colour, cursor=cursor)

    async def test_detached(self, bench: Bench, step: Effect, colour: str) -> None:
        """A widened search that is detached and taken up needs no replay."""
        search = search_of(bench.index, step.first, colour)
        await search.fetch_next(3)
        await search.widen(**step.change)
        await search.fetch_next(2)
        await search.fetch_until(Some(1))
        expected = await drained(search_of(bench.index, step.second, colour, cursor=cursor_of(search)))
        again = search_of(bench.index, step.second, colour, cursor=await search.detach())
        assert expected == await drained(again)
        assert 0 == again.report.recovered

    async def test_detached_before_the_wider_pull(self, bench: Bench, step: Effect, colour: str) -> None:
        """A search that is detached right after a widening goes on with the wider search, not with the old query."""
        search = search_of(bench.index, step.first, colour)
        first = await search.fetch_next(3)
        await search.widen(**step.change)
        rest = await drained(search_of(bench.index, step.second, colour, cursor=await search.detach()))
        assert len(first + rest) == len({*first, *rest})
        assert {*first, *everything(bench, step.second)} == {*first, *rest}

    @pytest.mark.parametrize("detached", [False, True])
    async def test_widened_after_a_resume(self, bench: Bench, step: Effect, colour: str, *, detached: bool) -> None:
        """A resumed search that is widened before its first pull is the wider search, and no id comes again."""
        search = search_of(bench.index, step.first, colour)
        first = await search.fetch_next(4)
        cursor = await search.detach() if detached else cursor_of(search)
        await search.stop()
        search = search_of(bench.index, step.first, colour, cursor=cursor)
        await search.widen(**step.change)
        rest = await drained(search)
        assert len(first + rest) == len({*first, *rest})
        assert {*first, *everything(bench, step.second)} == {*first, *rest}
        assert [4, len(rest)] == [phase.kept for phase in search.report.phases]
        bench.index.info()
        assert 0 == bench.engine.open_queries()

    @pytest.mark.parametrize("detached", [False, True])
    async def test_rows_of_the_narrower_leg_wait(
        self, bench: Bench, step: Effect, colour: str, *, detached: bool
    ) -> None:
        """Taken after rows were put back, a cursor brings everything of the wider search, and no id again."""
        search = search_of(bench.index, step.first, colour)
        rows = await search.fetch_until(Some(2))
        await search.widen(**step.change)
        rows += await search.fetch_next(1)
        cursor = await search.detach() if detached else cursor_of(search)
        await search.stop()
        rows += await drained(search_of(bench.index, step.second, colour, cursor=cursor))
        assert len(rows) == len(set(rows))
        assert set(everything(bench, step.second)) <= set(rows)

    async def test_resumed_with_rows_that_wait_then_widened(self, bench: Bench, step: Effect, colour: str) -> None:
        """Widened right after a resume, a search brings everything of the wider search, and no id again."""
        search = search_of(bench.index, step.first, colour)
        first = await search.fetch_until(Some(2))
        cursor = cursor_of(search)
        await search.stop()
        search = search_of(bench.index, step.first, colour, cursor=cursor)
        await search.widen(**step.change)
        rest = await drained(search)
        assert {*first, *everything(bench, step.second)} == {*first, *rest}
        assert len(first + rest) == len({*first, *rest})

    async def test_set_aside_rows_of_another_component(self, hybrid: Bench, colour: str) -> None:
        """Rows that were set aside, and that the search does not find in its new mode, are to be fetched before."""
        search = search_of(hybrid.index, replace(_BOTH, mode=DENSE), colour)
        await search.fetch_until(TokenBudget(1, count=lambda text: 1 if text.endswith("1") else 9))
        await search.widen(retrieval_mode=SPARSE)
        aside = search.report.waiting
        assert aside
        with pytest.raises(ClientError, match="are set aside"):
            cursor_of(search)
        assert aside == len(await search.fetch_next(aside))
        assert cursor_of(search)
        await search.stop()


class TestFaults:
    """Things go wrong after a widening."""

    @pytest.mark.parametrize("fault", Fault)
    @pytest.mark.parametrize("step", [STEPS["dense to hybrid"], STEPS["both"]], ids=["mode", "both"])
    async def test_at_every_page(self, bench: Bench, step: Effect, fault: Fault, colour: str) -> None:
        """Any fault at any page of a widened search changes nothing."""

        async def pages(plan: FaultPlan) -> list[list[str]]:
            search = search_of(faulty(bench.index, plan), step.first, colour)
            async with search:
                pages = [await search.fetch_next(3), await search.fetch_next(2)]
                await search.widen(**step.change)
                while not search.exhausted:
                    pages.append(await search.fetch_next(7))
                adds_up(search.report)
                assert not search.report.changed
            return pages

        calm = FaultPlan()
        expected = await pages(calm)
        for place in range(1, calm.count(RequestKind.PAGE) + 1):
            plan = FaultPlan(PlannedFault(fault, RequestKind.PAGE, place), clock=bench.clock, delay=0)
            assert expected == await pages(plan), place
            assert [fault] == [strike.fault for strike in plan.injected]
        bench.open_queries_after_idling()  # lost starts


class TestPolicies:
    """Policies over a widened search."""

    async def test_its_best_score_is_the_legs_own(self, hybrid: Bench, colour: str) -> None:
        """A policy of scores that was allowed on a dense phase is refused on a hybrid one, and nothing is lost."""
        search = search_of(hybrid.index, replace(_BOTH, mode=DENSE), colour, until=MinScore(-10))
        rows = await search.fetch_next(3)
        await search.widen(retrieval_mode="hybrid")
        with pytest.raises(ClientError, match="ranks"):
            await search.fetch_next(3)
        await search.widen(retrieval_mode="dense")
        assert everything(hybrid, replace(_BOTH, mode=DENSE)) == rows + await drained(search)

    async def test_set_aside_rows_are_offered_again(self, bench: Bench, step: Effect, colour: str) -> None:
        """Rows that did not fit before a widening are offered again after it."""
        search = search_of(bench.index, step.first, colour)
        rows = await search.fetch_until(TokenBudget(2, count=lambda text: 1 if text.endswith("1") else 50))
        waiting = search.report.waiting
        await search.widen(**step.change)
        assert 0 < search.report.waiting <= waiting
        rows += await search.fetch_until(MaxResults(5))
        rows += await drained(search)
        assert len(rows) == len(set(rows))
        assert set(everything(bench, step.second)) <= set(rows)


class TestAdapters:
    """Through a retriever."""

    @pytest.mark.parametrize("adapter", [LangChainRetriever, LlamaIndexRetriever])
    async def test_a_dense_page_then_hybrid(self, texts: Index, adapter: Any) -> None:
        """A dense first page, then hybrid candidates, then more through a looser filter: each text once."""
        retriever = adapter(index=texts, embedding=True, retrieval_mode="dense", filter="place < 40")
        with retriever.open(QUESTION) as search:
            rows = search.fetch_next(5)
            search.widen(retrieval_mode="hybrid")
            rows += search.fetch_next(10)
            search.widen(filter="")
            cursor = search.cursor()
            rest = search.fetch_next(100)
        with retriever.resume(cursor, filter="") as again:
            assert set(map(text_of, rest)) == set(map(text_of, again.fetch_next(100)))
        with pytest.raises(ClientError, match="filter"):
            retriever.resume(cursor)
        found = [text_of(row) for row in rows + rest]
        assert (len(TEXTS), set(TEXTS)) == (len(found), set(found))
        async with retriever.aopen(QUESTION) as native:
            same = await native.fetch_next(5)
            await native.widen(retrieval_mode="hybrid")
            same += await native.fetch_next(10)
        assert list(map(text_of, rows)) == list(map(text_of, same))

    async def test_a_missing_model_is_named(self, texts: Index) -> None:
        """A retriever without a sparse model names the argument that is missing, and its rows are not lost."""
        retriever = LangChainRetriever(index=texts, embedding=DeterministicFakeEmbedding(size=256))
        with retriever.open(QUESTION) as search:
            search.fetch_next(2)
            search.widen(retrieval_mode="sparse")
            with pytest.raises(ClientError, match="sparse_embedding="):
                search.fetch_next(2)
        async with retriever.aopen(QUESTION) as native:
            await native.fetch_next(2)
            await native.widen(retrieval_mode="sparse")
            with pytest.raises(ClientError, match="sparse_embedding="):
                await native.fetch_next(2)


def text_of(row: Any) -> str:
    """The text of a document or a node."""
    return str(row.page_content if hasattr(row, "page_content") else row.node.get_content())
