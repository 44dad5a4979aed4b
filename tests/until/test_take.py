"""Policies over any iterable: the items of a session, drawn one by one, in both colours."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import count, islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode

from nextk import Index, Vector
from nextk.errors import ClientError
from nextk.sessions import Limits, RetrievalSession, RowReader, SearchConfig, SearchQuery
from nextk.types import QueryResult
from nextk.until import (
    Accepted,
    BatchObserver,
    DistinctBy,
    MaxResults,
    MinScore,
    Policy,
    PolicyState,
    Ranking,
    RelativeScore,
    RerankStable,
    ScoreGap,
    TokenBudget,
    atake,
    take,
)

ROWS = 60
QUERY = SearchQuery(vector=[1.0, 0.0])
COLOURS = ["blocking", "asynchronous"]


class Drawn:
    """An iterable in both colours that counts how many of its items were drawn, and notes whether it was closed."""

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = items
        self.count = 0
        self.closed = False

    def __iter__(self) -> Iterator[Any]:
        """Yield the items to blocking code."""
        try:
            for item in self.items:
                self.count += 1
                yield item
        except GeneratorExit:
            self.closed = True
            raise

    async def stream(self) -> AsyncIterator[Any]:
        """Yield the items to an event loop."""
        for item in self:
            await asyncio.sleep(0)
            yield item


def taken(colour: str, items: Any, policy: Any, **options: Any) -> list[Any]:
    """Take in blocking code, or in an event loop of its own and from an asynchronous iterable."""
    if colour == "blocking":
        return take(items, policy, **options)
    return asyncio.run(atake(items.stream() if isinstance(items, Drawn) else items, policy, **options))


def drawn_for(colour: str, items: Sequence[Any], policy: Policy, **options: Any) -> int:
    """Return how many items are drawn for a policy."""
    source = Drawn(items)
    taken(colour, source, policy, **options)
    return source.count


def document(number: int, **metadata: Any) -> Document:
    """Return the document `d<number>`, whose text is longer for some numbers."""
    return Document("x" * (1 + number * 7 % 5), id=f"d{number}", metadata={"number": number, **metadata})


DOCUMENTS = [document(number, source=f"s{number // 3}") for number in range(ROWS)]


def even(items: list[Any]) -> list[bool]:
    """Permit documents of even numbers."""
    return [item.metadata["number"] % 2 == 0 for item in items]


def reversed_numbers(items: list[Any]) -> list[float]:
    """Score a document the higher, the lower its number is."""
    return [-float(item.metadata["number"]) for item in items]


# ---------------------------------------------------------------------------------------------------------------------
# The same items as those of a session


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    """An index of rows at growing, uneven distances from the query."""
    with Index.embedded(type="dense", dimension=2) as index:
        for number in range(ROWS):
            angle = 2 * number / ROWS + (0.4 if number > 11 else 0)
            text, metadata = DOCUMENTS[number].page_content, DOCUMENTS[number].metadata
            index.upsert([Vector(f"d{number}", [math.cos(angle), math.sin(angle)], metadata, text)])
        yield index


def node_of(match: QueryResult) -> NodeWithScore:
    """Return a match as LlamaIndex has it."""
    return NodeWithScore(node=TextNode(id_=match.id, text=match.data or "", metadata=match.metadata), score=match.score)


def document_of(match: QueryResult) -> Document:
    """Return a match as LangChain has it."""
    return Document(match.data or "", id=match.id, metadata=match.metadata or {})


def llm_text(node: NodeWithScore) -> str:
    """Return the text of a node as a session counts it."""
    return node.get_content(MetadataMode.LLM)


READERS: dict[str, RowReader[Any]] = {
    "matches": RowReader(lambda match: match, lambda match: match.data),
    "documents": RowReader(document_of, lambda document: document.page_content),
    "nodes": RowReader(node_of, llm_text),
}


def leaves() -> st.SearchStrategy[Policy]:
    """Return single policies of every kind."""
    small = st.integers(1, 12)
    checks = st.sampled_from([even, lambda items: [True] * len(items), lambda items: [False] * len(items)])
    return st.one_of(
        st.builds(MaxResults, small),
        st.builds(Accepted, small, checks),
        st.builds(DistinctBy, st.just("source"), small, st.integers(1, 3)),
        st.builds(TokenBudget, small, st.just(len), st.integers(1, 4)),
        st.builds(MinScore, st.floats(0.3, 1), st.integers(1, 3)),
        st.builds(RelativeScore, st.floats(0.3, 1)),
        st.builds(ScoreGap, st.integers(0, 3), st.just(0.1), st.integers(1, 5), st.integers(2, 30)),
        st.builds(RerankStable, st.integers(1, 3), st.just(reversed_numbers), st.integers(1, 2), st.integers(1, 9)),
    )


def policies() -> st.SearchStrategy[Policy]:
    """Return policies, alone and joined."""
    return st.recursive(
        leaves(),
        lambda parts: st.one_of(
            st.builds(lambda a, b: a | b, parts, parts), st.builds(lambda a, b: a & b, parts, parts)
        ),
        max_leaves=3,
    )


@settings(deadline=None, max_examples=60)
@given(
    policy=policies(), form=st.sampled_from(sorted(READERS)), colour=st.sampled_from(COLOURS), batch=st.integers(1, 7)
)
def test_the_items_of_a_session(index: Index, policy: Policy, form: str, colour: str, batch: int) -> None:
    """Whatever the policy, the rows of an index give what a session over the index returns, in the same order."""
    reader, config = READERS[form], SearchConfig(guards=Limits())
    with RetrievalSession(index, QUERY, reader, config=config) as search:
        expected = search.fetch_until(policy)
    matches = index.query(vector=[1.0, 0.0], top_k=ROWS, include_metadata=True, include_data=True)
    pairs = form == "documents"
    items = [(reader.convert(match), match.score) if pairs else reader.convert(match) for match in matches]
    given = taken(colour, Drawn(items), policy, batch=batch)
    assert expected == [item[0] for item in given] if pairs else expected == given


@settings(deadline=None, max_examples=60)
@given(policy=policies(), colour=st.sampled_from(COLOURS), length=st.integers(0, ROWS))
def test_what_is_not_drawn_is_not_needed(policy: Policy, colour: str, length: int) -> None:
    """The items that were drawn give the same result as all items: the policy had enough without the others."""
    source = Drawn([(document, 1 - position / 70) for position, document in enumerate(DOCUMENTS[:length])])
    given = taken(colour, source, policy)
    assert given == take(source.items[: source.count], policy)
    assert given == [item for item in source.items if item in given]


# ---------------------------------------------------------------------------------------------------------------------
# How many items are drawn


@pytest.mark.parametrize("colour", COLOURS)
def test_no_draw_in_vain(colour: str) -> None:
    """Exactly the items up to the one that completes the result are drawn."""
    assert drawn_for(colour, DOCUMENTS, MaxResults(3)) == 3
    assert drawn_for(colour, DOCUMENTS, Accepted(5, even)) == 9  # 0, 2, 4, 6 and 8
    assert drawn_for(colour, DOCUMENTS, DistinctBy("source", 4)) == 10  # three documents of each source
    assert drawn_for(colour, DOCUMENTS, DistinctBy("source", 2) & MaxResults(3)) == 7
    assert drawn_for(colour, DOCUMENTS, TokenBudget(6, len)) == 4  # texts of 1, 3 and 2; the one of 5 does not fit
    scored = [(each, 1 - position / 10) for position, each in enumerate(DOCUMENTS)]
    assert drawn_for(colour, scored, MinScore(0.75, patience=2)) == 5  # 1.0, .9, .8 and two that are lower


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 12), goods=st.lists(st.booleans(), max_size=40), colour=st.sampled_from(COLOURS))
def test_a_check_sees_what_it_needs(n: int, goods: list[bool], colour: str) -> None:
    """A check is asked about no item after the last one that is returned, and about each item once, in order."""
    items = [document(number, good=good) for number, good in enumerate(goods)]
    shown: list[Document] = []

    def check(documents: list[Document]) -> list[bool]:
        shown.extend(documents)
        return [each.metadata["good"] for each in documents]

    permitted = [position for position, good in enumerate(goods) if good]
    needed = permitted[n - 1] + 1 if len(permitted) >= n else len(goods)
    source = Drawn(items)
    assert [items[position] for position in permitted[:n]] == taken(colour, source, Accepted(n, check))
    assert needed == source.count
    assert items[:needed] == shown


@pytest.mark.parametrize("colour", COLOURS)
def test_what_looks_ahead_draws_its_window(colour: str) -> None:
    """`ScoreGap` draws its window, and `RerankStable` whole windows, however few results they need."""
    scored = [(each, 0.9 if position < 5 else 0.1) for position, each in enumerate(DOCUMENTS)]
    assert drawn_for(colour, scored, ScoreGap(buffer=0, window=20)) == 20
    assert drawn_for(colour, DOCUMENTS, RerankStable(2, reversed_numbers, patience=2, window=7)) == 21
    assert drawn_for(colour, DOCUMENTS, RerankStable(2, reversed_numbers, window=7) | MaxResults(4)) == 4


@pytest.mark.parametrize("colour", COLOURS)
def test_larger_batches(colour: str) -> None:
    """A `batch` draws that many items at a time, so that a check is called less often and may see some in vain."""
    calls: list[int] = []

    def check(documents: list[Document]) -> list[bool]:
        calls.append(len(documents))
        return [each.metadata["number"] % 10 == 9 for each in documents]

    assert drawn_for(colour, DOCUMENTS, Accepted(2, check), batch=16) == 32
    assert calls == [16, 16]
    calls.clear()
    assert drawn_for(colour, DOCUMENTS, Accepted(2, check)) == 20
    assert len(calls) > 10


@pytest.mark.parametrize("colour", COLOURS)
def test_it_goes_on_behind_the_last_item(colour: str) -> None:
    """An iterator is not closed, and taking from it again goes on where the policy had enough."""
    source = Drawn(DOCUMENTS)
    if colour == "blocking":
        iterator = iter(source)
        first, second = take(iterator, MaxResults(2)), take(iterator, Accepted(2, even))
    else:

        async def twice() -> tuple[list[Any], list[Any]]:
            stream = source.stream()
            return await atake(stream, MaxResults(2)), await atake(stream, Accepted(2, even))

        first, second = asyncio.run(twice())
    assert [0, 1, 2, 4] == [each.metadata["number"] for each in first + second]
    assert source.count == 5
    if colour == "blocking":
        assert not source.closed


@pytest.mark.parametrize("colour", COLOURS)
def test_an_iterable_without_an_end(colour: str) -> None:
    """Taking from an iterable without an end ends when the policy has enough."""
    if colour == "blocking":
        numbers = (document(number) for number in count())
        assert ["d500", "d1000"] == [
            each.id for each in take(numbers, Accepted(2, lambda rows: [_is_round(row) for row in rows]))
        ]
        return

    async def endless() -> AsyncIterator[Document]:
        for number in count():
            yield document(number)

    async def both() -> list[Document]:
        return await atake(endless(), Accepted(2, lambda rows: [_is_round(row) for row in rows]), batch=50)

    assert ["d500", "d1000"] == [each.id for each in asyncio.run(both())]


def _is_round(row: Document) -> bool:
    return bool(row.metadata["number"] % 500 == 0 and row.metadata["number"] > 0)


# ---------------------------------------------------------------------------------------------------------------------
# Items


@pytest.mark.parametrize("colour", COLOURS)
def test_texts(colour: str) -> None:
    """Texts are items by themselves: they have a length, and no metadata."""
    assert ["a", "bb"] == taken(colour, ["a", "bb", "ccc", "ddd"], TokenBudget(3, len))
    assert [] == taken(colour, ["a", "bb"], DistinctBy("source", 1))
    assert ["a", "bb"] == taken(
        colour, ["a", "ccc", "bb"], Accepted(9, lambda texts: [len(text) < 3 for text in texts])
    )


@pytest.mark.parametrize("colour", COLOURS)
def test_tuples_stay_tuples(colour: str) -> None:
    """A document with a score is returned with it; the functions of policies are given the document alone."""
    shown: list[Any] = []

    def check(documents: list[Any]) -> list[bool]:
        shown.extend(documents)
        return [True] * len(documents)

    pairs = [(DOCUMENTS[0], 0.9), (DOCUMENTS[1], 0.8), (DOCUMENTS[2], 0.1)]
    assert pairs[:2] == taken(colour, pairs, MinScore(0.5) & Accepted(2, check))
    assert DOCUMENTS[:2] == shown[:2]


@pytest.mark.parametrize("colour", COLOURS)
def test_ranking(colour: str) -> None:
    """Every document that is returned was scored by the reranker, also those of the last part of a window."""
    ranking = Ranking(reversed_numbers)
    found = taken(colour, DOCUMENTS[:11], RerankStable(2, ranking, window=4))
    assert DOCUMENTS[:11] == found
    assert DOCUMENTS[:3] == ranking.best(found, 3)


class LastIds(Policy):
    """Notes the ids that it is shown, and keeps everything."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def new_state(self, memory: dict[str, Any]) -> PolicyState:
        """Return the state of one call."""
        return _LastIds(self)


class _LastIds(PolicyState):
    def keeps(self, candidate: Any) -> bool:
        self.policy.ids.append(candidate.id)
        return True


@pytest.mark.parametrize("colour", COLOURS)
def test_ids(colour: str) -> None:
    """A policy sees the id of a document, node or match, and the position of an item that has none."""
    items = [
        Document("a", id="own"),
        Document("b"),
        TextNode(id_="node", text="c"),
        NodeWithScore(node=TextNode(id_="scored", text="d"), score=0.5),
        QueryResult("match", 0.5, data="e"),
        "f",
        (Document("g", id="pair"), 0.5),
    ]
    policy = LastIds()
    assert items == taken(colour, items, policy)
    assert ["own", "1", "node", "scored", "match", "5", "pair"] == policy.ids


class PlainNode:
    """A node of no framework, whose content knows no modes."""

    metadata = None

    def get_content(self) -> str:
        """Return the content."""
        return "12345"


@pytest.mark.parametrize("colour", COLOURS)
def test_texts_of_items(colour: str) -> None:
    """A token budget counts the text of each kind of item; a match without a text has none."""
    items = [Document("12345"), PlainNode(), QueryResult("m", 0.5), TextNode(text="123"), ("123456", None)]
    counted: list[str] = []

    def length(text: str) -> int:
        counted.append(text)
        return len(text)

    assert items == taken(colour, items, TokenBudget(100, length))
    assert ["12345", "12345", "", "123", "123456"] == counted


@pytest.mark.parametrize("colour", COLOURS)
def test_one_item_twice(colour: str) -> None:
    """Items are not compared: the same one is taken as often as it comes, unless a policy keeps one of each id."""
    same = [DOCUMENTS[0]] * 3
    assert same == taken(colour, same, MaxResults(5))
    assert same[:1] == taken(colour, same, DistinctBy(lambda each: each.id, 5))


@pytest.mark.parametrize("colour", COLOURS)
def test_nothing(colour: str) -> None:
    """No items give an empty result under every policy, also under those that need scores."""
    for policy in (MaxResults(1), MinScore(0.5), ScoreGap(), Accepted(1, even), RerankStable(1, reversed_numbers)):
        assert [] == taken(colour, [], policy)


# ---------------------------------------------------------------------------------------------------------------------
# Refusals and failures


@pytest.mark.parametrize("colour", COLOURS)
def test_scores_that_are_missing(colour: str) -> None:
    """A policy of scores refuses items without a score that is a number, and names the first of them."""
    for item in (DOCUMENTS[0], "text", NodeWithScore(node=TextNode(text="a")), (DOCUMENTS[0], math.nan), ("a", "0.5")):
        for policy in (MinScore(0.1), RelativeScore(0.5), ScoreGap(window=2)):
            with pytest.raises(ClientError, match=rf"{policy.name} compares scores, and items\[1\] has none: give"):
                taken(colour, [("text", 0.5), item], policy | MaxResults(9))
        assert [item] == taken(colour, [item], MaxResults(3))


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(
    "items",
    ["text", b"bytes", {"a": 1}, 7, None, DOCUMENTS[0], TextNode(text="a")],
    ids=lambda items: type(items).__name__,
)
def test_no_list_of_items(colour: str, items: Any) -> None:
    """A text, a mapping or a document by itself, and what cannot be iterated over, is refused in words."""
    with pytest.raises(ClientError, match="is no list of items, and no other iterable of them: give documents"):
        taken(colour, items, MaxResults(1))


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(
    "item",
    [7, None, b"bytes", {"text": "a"}, ("a", 1, 2), (7, 0.5)],
    ids=["int", "none", "bytes", "dict", "triple", "pair"],
)
def test_items_of_other_kinds(colour: str, item: Any) -> None:
    """An item of another kind is refused by its position, before a policy sees it."""
    with pytest.raises(ClientError, match=r"items\[2\]=.* is none of the items that policies know: give documents"):
        taken(colour, ["a", "b", item], MaxResults(9))


@pytest.mark.parametrize("colour", COLOURS)
def test_other_arguments(colour: str) -> None:
    """A policy and a batch of a wrong kind are refused, and the message names the argument."""
    with pytest.raises(ClientError, match="policy=5 is not a policy"):
        taken(colour, DOCUMENTS, 5)
    with pytest.raises(ClientError, match="batch=0 must be a whole number, at least 1"):
        taken(colour, DOCUMENTS, MaxResults(1), batch=0)


def test_asynchronous_things_in_blocking_code() -> None:
    """`take` refuses an asynchronous iterable, a coroutine, and a check that has to be awaited; it names `atake`."""

    async def check(documents: list[Any]) -> list[bool]:
        return [True] * len(documents)

    async def documents() -> list[Any]:
        return DOCUMENTS

    with pytest.raises(ClientError, match=r"is an asynchronous iterable: use atake\(\)"):
        take(Drawn(DOCUMENTS).stream(), MaxResults(1))  # type: ignore[arg-type]
    with pytest.raises(ClientError, match="the type coroutine is no list of items"):
        take(documents(), MaxResults(1))  # type: ignore[arg-type]
    with pytest.raises(ClientError, match=r"the check has to be awaited: give a blocking one, or use atake\(\)"):
        take(DOCUMENTS, Accepted(1, check))
    assert DOCUMENTS[:1] == asyncio.run(atake(DOCUMENTS, Accepted(1, check)))


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(
    ("check", "error"),
    [
        (lambda _: True, "has to return a list of bools"),
        (lambda _: [True], "returned 1 verdicts on 2 rows"),
        (lambda documents: [each.page_content for each in documents], "returned str as a verdict"),
        (lambda documents: [documents.metadata["number"] == 0], "failed on the list that it was given"),
    ],
    ids=["one bool", "too few", "texts", "one document"],
)
def test_it_fails_closed(colour: str, check: Callable[[list[Any]], Any], error: str) -> None:
    """A check that does not answer with one bool for each item ends the call, which returns nothing."""
    with pytest.raises(ClientError, match=error):
        taken(colour, DOCUMENTS, Accepted(2, check))


@pytest.mark.parametrize("colour", COLOURS)
def test_exceptions_go_through(colour: str) -> None:
    """An exception of a check or of the iterable reaches the caller unchanged; that of a check has a note."""

    def check(documents: list[Any]) -> list[bool]:
        raise LookupError(documents[0].id)

    def broken() -> Iterator[Document]:
        yield from islice(DOCUMENTS, 2)
        raise OSError("lost")

    with pytest.raises(LookupError, match="d0") as caught:
        taken(colour, DOCUMENTS, Accepted(2, check))
    assert ["raised by a policy's function, which is given a list of rows; the call has decided nothing"] == (
        caught.value.__notes__
    )
    with pytest.raises(OSError, match="lost"):
        taken(colour, broken(), MaxResults(3))
    assert DOCUMENTS[:2] == taken(colour, broken(), MaxResults(2))


class Observed(Policy):
    """Has enough once a function has seen some items; it does not say how many it needs."""

    drops = False

    def __init__(self, n: int) -> None:
        self.n = n
        self.batches: list[int] = []

    def new_state(self, memory: dict[str, Any]) -> PolicyState:
        """Return the state of one call."""
        return _Observed(self)


class _Observed(BatchObserver):
    def __init__(self, policy: Observed) -> None:
        super().__init__(policy)
        self.observe = len
        self.seen = 0

    def learn(self, candidates: list[Any], answer: int) -> None:
        self.unobserved = []
        self.policy.batches.append(answer)
        self.seen += answer

    def enough(self) -> bool:
        return bool(self.seen >= self.policy.n)


@pytest.mark.parametrize("colour", COLOURS)
def test_observers_see_pages(colour: str) -> None:
    """A policy of one's own that observes items, and does not say how many it needs, is shown ten at a time."""
    policy = Observed(25)
    assert DOCUMENTS[:30] == taken(colour, DOCUMENTS, policy)
    assert [10, 10, 10] == policy.batches


def test_cancellation_is_not_swallowed() -> None:
    """A cancelled `atake` ends at once, and what was not drawn can still be drawn from the stream."""

    async def cancelled() -> list[Any]:
        stream, called, never = Drawn(DOCUMENTS).stream(), asyncio.Event(), asyncio.Event()

        async def check(documents: list[Any]) -> list[bool]:
            called.set()
            await never.wait()
            return [True] * len(documents)

        task = asyncio.ensure_future(atake(stream, Accepted(2, check)))
        await called.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await atake(stream, MaxResults(1))

    assert DOCUMENTS[2:3] == asyncio.run(cancelled())
