"""The budget of a reply: what counts, and that a page which is refused for its size loses no row."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextk.bodies import Fetch, Range, VectorQuery
from nextk.engine.reply_budget import ReplyRefused, spend, within_budget
from nextk.engine.values import Match, SparseArrays
from nextk.errors import QueryNotFound
from nextk.server.codec import answer
from tests.support.bare_engine import Rig
from tests.support.numbered_search import KINDS, NAME, Searched, ids

AMPLE = 10**9
SHADOW = NAME.replace("0b54", "1b54")

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
MATCHES = st.builds(
    Match,
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
    st.none() | FLOATS.map(np.float32),
    st.none() | st.lists(FLOATS, max_size=5).map(lambda values: np.array(values, np.float32)),
    st.none()
    | st.lists(st.tuples(st.integers(-(2**31), 2**31 - 1), FLOATS), max_size=5).map(
        lambda entries: SparseArrays(
            np.array([index for index, _ in entries], np.int32), np.array([value for _, value in entries], np.float32)
        )
    ),
    st.none() | st.dictionaries(TEXTS, TEXTS, max_size=3).map(lambda metadata: orjson.dumps(metadata).decode()),
    st.none() | TEXTS,
)


class OneRecord:
    """An engine of which `random` returns one record."""

    def __init__(self, match: Match) -> None:
        self.match = match

    def random(self, _namespace: str) -> Match:
        """Count and return the record."""
        spend([self.match])
        return self.match


@given(MATCHES)
def test_no_record_takes_more_than_it_counts(match: Match) -> None:
    """The bytes of a record in a reply are at most those that it counts, and not so much fewer."""
    engine: Any = OneRecord(match)
    size = len(answer(engine, "random", b"").body) - len(b'{"result":}')
    assert 422 == answer(engine, "random", b"", max_reply=size - 1).status
    numbers = 0 if match.vector is None else len(match.vector)
    numbers += 0 if match.sparse_vector is None else 2 * len(match.sparse_vector.indices)
    assert 200 == answer(engine, "random", b"", max_reply=size + 170 + 13 * numbers).status


SMALL = st.floats(2.0**-20, 2.0**-16, width=32).map(lambda number: -number)


@given(FLOATS | SMALL, st.booleans())
def test_no_number_takes_more_than_it_counts(number: float, sparse: bool) -> None:
    """A thousand equal numbers take at most the bytes that they count, also small ones, which are the longest."""
    numbers = np.full(1_000, number, np.float32)
    entries = SparseArrays(np.full(1_000, -(2**31), np.int32), numbers)
    engine: Any = OneRecord(Match("a", sparse_vector=entries) if sparse else Match("a", vector=numbers))
    size = len(answer(engine, "random", b"").body) - len(b'{"result":}')
    assert 422 == answer(engine, "random", b"", max_reply=size - 1).status


def texts(count: int, sizes: list[int]) -> Rig:
    """A dense index of records with texts of these lengths, over and over."""
    rig = Rig(dimension=1)
    rig.upsert(
        *({"id": str(number), "vector": [1.0], "data": "x" * sizes[number % len(sizes)]} for number in range(count))
    )
    return rig


READS = {
    "query": lambda rig: rig.engine.query(
        "", VectorQuery.model_validate({"vector": [1.0], "topK": 100, "includeData": True})
    ),
    "range": lambda rig: rig.engine.range("", Range.model_validate({"limit": 100, "includeData": True})),
    "fetch": lambda rig: rig.engine.fetch("", Fetch.model_validate({"ids": list(range(100)), "includeData": True})),
    "fetch of one id": lambda rig: rig.engine.fetch(
        "", Fetch.model_validate({"ids": ["0"] * 100, "includeData": True})
    ),
    "fetch by prefix": lambda rig: rig.engine.fetch("", Fetch.model_validate({"prefix": "", "includeData": True})),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_reads_are_counted(read: Any) -> None:
    """Every read of records is refused if they take more than the budget, and without a budget none is."""
    with texts(100, [1_000]) as rig:
        assert within_budget(120_000, lambda: read(rig)) == read(rig)
        with pytest.raises(
            ReplyRefused, match="larger than 99000 bytes: request fewer records at a time, or leave"
        ) as it:
            within_budget(99_000, lambda: read(rig))
        assert 422 == it.value.status


@contextmanager
def counted_reads(rig: Rig) -> Iterator[dict[str, int]]:
    """Count the records that are read from the file."""
    read = {"count": 0}
    stored_rows = rig.engine._storage._stored_rows

    def counted(statement: str, values: Any, rows: Any) -> Any:
        found = stored_rows(statement, values, rows)
        read["count"] += len(found)
        return found

    rig.engine._storage._stored_rows = counted  # type: ignore[method-assign]
    yield read
    del rig.engine._storage._stored_rows


def test_a_refused_read_stops_early() -> None:
    """A page that is over the budget is not read to its end."""
    with texts(1_000, [10_000]) as rig, counted_reads(rig) as read:
        for request in READS.values():
            rig.engine._storage.record_cache.clear()
            with pytest.raises(ReplyRefused):
                within_budget(100_000, lambda request=request: request(rig))  # type: ignore[misc]
        assert read["count"] <= 64 * len(READS)


@pytest.mark.parametrize("budget", [10**6, None], ids=["budget", "no budget"])
def test_a_page_over_gaps_reads_little(budget: int | None) -> None:
    """A page that reads ahead over deleted records reads hardly more records than it has room for."""
    with texts(6_000, [1_000]) as rig:
        uuid, _ = rig.start(vector=[1.0], topK=1, includeData=True)
        rig.delete(ids=[str(number) for number in range(1, 2_500)])
        rig.engine._storage.record_cache.clear()
        with counted_reads(rig) as read:
            fetch = functools.partial(rig.fetch_next, uuid, 1)
            assert ["2500"] == ids(fetch() if budget is None else within_budget(budget, fetch))
        assert read["count"] <= 64
        rig.engine.stop(uuid)


def test_matches_that_are_put_back_do_not_count() -> None:
    """A page that reads ahead over deleted records counts its own matches alone."""
    with texts(3_000, [1_000]) as rig:
        uuid, _ = rig.start(vector=[1.0], topK=1, includeData=True)
        rig.delete(ids=[str(number) for number in range(1, 2_500)])
        assert ["2500"] == ids(within_budget(2_000, lambda: rig.fetch_next(uuid, 1)))
        assert ["2501", "2502"] == ids(within_budget(3_000, lambda: rig.fetch_next(uuid, 2)))
        rig.engine.stop(uuid)


STEPS = st.lists(
    st.tuples(st.integers(1, 12), st.booleans(), st.sampled_from([300, 1_000, 3_000, AMPLE]))
    | st.lists(st.integers(0, 29), min_size=1, max_size=6),
    max_size=20,
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(steps=STEPS, lengths=st.lists(st.integers(0, 600), min_size=1, max_size=7))
def test_refused_pages_lose_no_row(kind: str, steps: list[Any], lengths: list[int]) -> None:
    """After any refused and smaller requests, with and without numbers, pages are those of a search without refusals.

    Another query over the same index gets only the requests that were not refused, and the same deletions in between.
    """
    searched = Searched(kind)
    with searched.rig as rig:
        for number in range(30):
            rig.update(id=str(number), data="x" * lengths[number % len(lengths)])
        for name in (NAME, SHADOW):
            searched.start(name=name, includeData=True)
        number = 1
        for step in [*steps, (100, True, AMPLE), (100, False, AMPLE)]:
            if isinstance(step, list):
                rig.delete(ids=[str(each) for each in step])
                continue
            count, numbered, budget = step
            fetch = functools.partial(rig.fetch_next, NAME, count, number + 1 if numbered else None)
            try:
                page = within_budget(budget, fetch)
            except ReplyRefused:
                continue
            number += 1
            assert rig.fetch_next(SHADOW, count) == page
        assert [] == page
        for name in (NAME, SHADOW):
            rig.engine.stop(name)


@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_that_has_become_too_large(kind: str, numbered: bool) -> None:
    """A page that was sent stays the last one if its repetition is too large, so that the next one repeats no row."""
    searched = Searched(kind)
    with searched.rig as rig:
        for name in (NAME, SHADOW):
            searched.start(name=name, includeData=True)
        before = rig.fetch_next(NAME, 4, 2)
        assert before == rig.fetch_next(SHADOW, 4, 2)
        for id_ in ids(before):
            rig.update(id=id_, data="x" * 1_000)
        for _ in range(2):
            with pytest.raises(ReplyRefused):
                within_budget(2_000, lambda: rig.fetch_next(NAME, 4, 2))
        assert before == rig.fetch_next(NAME, 4, 2)
        assert rig.fetch_next(SHADOW, 3, 3) == rig.fetch_next(NAME, 3, 3 if numbered else None)
        for name in (NAME, SHADOW):
            rig.engine.stop(name)


@pytest.mark.parametrize("budget", [2_000, 200])
def test_a_record_that_alone_is_too_large(budget: int) -> None:
    """A record that no reply has room for is named, with words that say how a search gets past it."""
    with texts(9, [10, 10, 10_000]) as rig:
        uuid, _ = rig.start(vector=[1.0], topK=2, includeData=True)
        words = f'The record "2" alone takes more than the {budget} bytes of a reply: request it without'
        for count in (1, 2, 9):
            with pytest.raises(ReplyRefused, match=words) as caught:
                within_budget(budget, lambda count=count: rig.fetch_next(uuid, count))  # type: ignore[misc]
            assert "start the query again without them" in str(caught.value)
        rig.engine.stop(uuid)
        uuid, page = within_budget(9_000, lambda: rig.start(vector=[1.0], topK=9))
        assert 9 == len(page)
        rig.engine.stop(uuid)


def test_a_start_that_is_refused_opens_nothing() -> None:
    """A start whose first page is too large opens no query, also if it is repeated; a smaller one may have its uuid."""
    searched = Searched("dense")
    with searched.rig as rig:
        with pytest.raises(ReplyRefused):
            within_budget(300, lambda: searched.start(2))
        assert 0 == rig.engine.open_queries()
        assert ["0"] == ids(within_budget(300, lambda: searched.start(1))[1])
        with pytest.raises(ReplyRefused):
            within_budget(10, lambda: searched.start(1))
        with pytest.raises(QueryNotFound):
            rig.engine.require_open(NAME)
