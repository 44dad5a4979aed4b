"""Pages that are requested by their number may be requested again."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextk.engine.open_queries import OpenQueries
from nextk.engine.open_query import QueryStart
from nextk.engine.pages import RepeatablePage
from nextk.engine.ranking import LazyRanking, Ranked
from nextk.engine.values import Match
from nextk.errors import QueryNotFound
from tests.support.bare_engine import Rig
from tests.support.numbered_search import KINDS, NAME, Searched, ids, refusal


@pytest.fixture(params=KINDS)
def searched(request: pytest.FixtureRequest) -> Iterator[Searched]:
    """An index of each kind; afterwards the query `NAME` is stopped, and no other one may be open."""
    searched = Searched(request.param)
    with searched.rig:
        yield searched
        searched.rig.engine.stop(NAME)


class TestRepeatedPages:
    """A page that is requested again by its number."""

    def test_without_writes(self, searched: Searched) -> None:
        """Every page is the same again, scores included, and the pages are those of a search without repeats."""
        sizes = [2, 5, 1, 7, 3]
        undisturbed = searched.rig.pages(sizes, **searched.query)
        _, first = searched.start()
        pages = [first]
        for number, size in enumerate(sizes[1:], 2):
            pages.append(searched.rig.fetch_next(NAME, size, number))
            for _ in range(2):
                assert pages[-1] == searched.rig.fetch_next(NAME, size, number)
        assert undisturbed == pages

    def test_the_first_page(self, searched: Searched) -> None:
        """The page of the start has the number 1."""
        _, first = searched.start()
        assert first == searched.rig.fetch_next(NAME, 2, 1)
        assert ["2", "3"] == searched.page(2)

    def test_unnumbered_requests_count(self, searched: Searched) -> None:
        """Requests without a number count, so that a page that was requested without one may be repeated by number."""
        searched.start()
        assert [["2", "3"], ["4", "5"], ["4", "5"], ["6", "7"]] == [searched.page(n) for n in (None, None, 3, None)]
        assert ["6", "7"] == searched.page(4)

    def test_gone_and_revoked_records(self, searched: Searched) -> None:
        """A page again has the records as they are now, without those that are gone or that the filter now excludes."""
        searched.start()
        assert ["2", "3", "4", "5", "6"] == searched.page(2, 5)
        searched.rig.delete(ids=["2"])
        searched.rig.update(id="4", metadata={"group": "secret"})
        searched.rig.upsert(searched.record(29, "5"), searched.record(0, "new"))
        assert ["3", "5", "6"] == searched.page(2, 5)
        searched.rig.upsert(searched.record(2, "2"))  # another record with that id
        searched.rig.update(id="4", metadata={"group": "red"})
        assert ["3", "4", "5", "6"] == searched.page(2, 5)
        assert ["7", "8"] == searched.page(3)

    def test_fields_are_read_anew(self) -> None:
        """A repeated page has the metadata of the moment, and the scores of the start."""
        searched = Searched("dense")
        with searched.rig as rig:
            searched.start(includeMetadata=True)
            before = rig.engine.fetch_next(NAME, 1, 2)
            rig.update(id="2", metadata={"group": "red", "new": True})
            [after] = rig.engine.fetch_next(NAME, 1, 2)
            assert ('{"group":"red","new":true}', before[0].score) == (after.metadata, after.score)
            rig.engine.stop(NAME)

    def test_nothing_left(self, searched: Searched) -> None:
        """A page of which nothing is left is filled anew, since an empty page would be taken for the end."""
        searched.start()
        assert ["2", "3"] == searched.page(2)
        searched.rig.delete(ids=["2", "3", "5"])
        assert [["4", "6"], ["4", "6"], ["7", "8"]] == [searched.page(number) for number in (2, 2, 3)]

    def test_nothing_left_of_the_first_page(self, searched: Searched) -> None:
        """The first page is filled anew, too, for a repeated start."""
        searched.start()
        searched.rig.delete(ids=["0", "1"])
        assert ["2", "3"] == ids(searched.start()[1])
        assert ["4", "5"] == searched.page(2)

    def test_the_end(self, searched: Searched) -> None:
        """An exhausted query has an empty page, again and again, and so it has if its records are gone."""
        searched.start()
        last = [str(number) for number in range(2, 30)]
        assert [last, last, [], [], []] == [searched.page(n, 100) for n in (2, 2, 3, 3, 4)]
        searched.rig.engine.reset("")
        assert [[], []] == [searched.page(n, 100) for n in (4, 5)]

    @pytest.mark.parametrize("way", ["renamed", "deleted", "replaced"])
    def test_namespaces(self, way: str) -> None:
        """A page can be repeated if its namespace got another name; if the namespace is gone, so are its records."""
        with Rig(dimension=1) as rig:
            for namespace in ("x", "y"):
                rig.upsert(*({"id": id_, "vector": [1.0]} for id_ in "abcd"), namespace=namespace)
            rig.start(vector=[1.0], topK=1, namespace="x", uuid=NAME)
            assert ["b", "c"] == ids(rig.fetch_next(NAME, 2, 2))
            if way == "renamed":
                rig.engine.rename_namespace("x", "z", replace=False)
            elif way == "deleted":
                rig.engine.delete_namespace("x")
            else:
                rig.engine.rename_namespace("y", "x", replace=True)
            rig.upsert({"id": "b", "vector": [1.0]}, namespace="x")
            expected = [["b", "c"], ["d"]] if way == "renamed" else [[], []]
            assert expected == [ids(rig.fetch_next(NAME, 2, number)) for number in (2, 3)]
            rig.engine.stop(NAME)

    def test_other_numbers_are_refused(self, searched: Searched) -> None:
        """Only the last page and the next one can be read; a refused request changes nothing."""
        searched.start()
        for number in (3, 99):
            text = f"page {number} cannot be read, because its last page is 1: start the search anew"
            assert (409, f"Resumable query with uuid {NAME}: {text}") == refusal(searched.page, number)
        assert ["2", "3"] == searched.page(2)
        assert 409 == refusal(searched.page, 1)[0]
        assert 409 == refusal(searched.page, 2, 3)[0]
        assert [["2", "3"], ["4", "5"]] == [searched.page(number) for number in (2, 3)]

    def test_two_at_once(self) -> None:
        """Threads that request the page with one number get the same page, and the query advances by one."""
        searched = Searched("dense", 500)
        with searched.rig as rig, ThreadPoolExecutor(8) as pool:
            searched.start()
            for number in range(2, 40):
                pages = list(pool.map(lambda number: searched.page(number, 5), [number] * 8))
                assert [pages[0]] * 8 == pages
            assert [str(number) for number in range(2 + 38 * 5, 2 + 39 * 5)] == searched.page(None, 5)
            rig.engine.stop(NAME)


class TestFailedPages:
    """A page that the storage could not read."""

    def test_a_failed_page_is_kept(self, searched: Searched) -> None:
        """A numbered page that fails is read by the next request with its number; no record is skipped."""
        sizes = [2, 5, 3, 4]
        undisturbed = searched.rig.pages(sizes, **searched.query)
        _, first = searched.start()
        pages = [first]
        for number, size in enumerate(sizes[1:], 2):
            searched.fails = True
            for _ in range(2):
                assert 500 == refusal(searched.page, number, size)[0]
            searched.fails = False
            pages.append(searched.rig.fetch_next(NAME, size, number))
        assert undisturbed == pages

    def test_it_comes_first(self, searched: Searched) -> None:
        """As long as a failed page was not read, no other page can be, and neither with another size."""
        searched.start()
        searched.fails = True
        assert 500 == refusal(searched.page, 2)[0]
        searched.fails = False
        for number, count in [(3, 2), (None, 2), (2, 1), (1, 2)]:
            assert 409 == refusal(searched.page, number, count)[0]
        assert [["2", "3"], ["4", "5"]] == [searched.page(2), searched.page(3)]

    def test_writes_before_it_is_read(self, searched: Searched) -> None:
        """A failed page is filled: what is gone until it is read is replaced by what follows."""
        searched.start()
        searched.fails = True
        assert 500 == refusal(searched.page, 2, 3)[0]
        searched.fails = False
        searched.rig.delete(ids=["2", "4"])
        searched.rig.update(id="5", metadata={})
        assert [["3", "6", "7"], ["3", "6", "7"], ["8"]] == [searched.page(*it) for it in [(2, 3), (2, 3), (3, 1)]]

    def test_a_repeat_that_fails(self, searched: Searched) -> None:
        """A repeated page or start that fails may be repeated once more, even if the page is to be filled anew."""
        _, first = searched.start()
        searched.fails = True
        assert [500, 500] == [refusal(searched.start)[0], refusal(searched.page, 1)[0]]
        searched.fails = False
        assert [first, first] == [searched.start()[1], searched.rig.fetch_next(NAME, 2, 1)]
        searched.page(2)
        searched.rig.delete(ids=["2", "3"])
        searched.fails = True
        assert 500 == refusal(searched.page, 2)[0]
        searched.fails = False
        assert [["4", "5"], ["6", "7"]] == [searched.page(2), searched.page(3)]

    def test_without_a_number(self) -> None:
        """A page that fails ends its query if it was requested without a number, as nobody can ask for it again."""
        searched = Searched("dense")
        with searched.rig:
            searched.start()
            searched.fails = True
            assert 500 == refusal(searched.page, None)[0]
            assert 404 == refusal(searched.page, 2)[0]

    def test_a_failed_start(self) -> None:
        """A start that fails opens nothing, whether it has a uuid or not; its repeat searches anew."""
        searched = Searched("dense")
        with searched.rig as rig:
            searched.fails = True
            assert [500, 500] == [refusal(searched.start)[0], refusal(searched.start, name=None)[0]]
            assert 0 == rig.engine.open_queries()
            searched.fails = False
            assert ["0", "1"] == ids(searched.start()[1])
            rig.engine.stop(NAME)

    @pytest.mark.parametrize("alive", [range(0, 200, 7), range(150, 200), range(3)], ids=["some", "late", "early"])
    def test_a_failure_at_any_read(self, alive: range) -> None:
        """Whichever of the reads of a page fails, and how often, the page is the one that it would have been."""

        def pages(fails: Callable[[], bool]) -> list[list[str]]:
            def load(rows: Sequence[int], limit: int) -> Mapping[int, Match]:
                if fails():
                    raise ZeroDivisionError
                return {row: Match(str(row)) for row in rows if row in alive}

            order, found = LazyRanking(np.arange(200), np.zeros(200, np.float32)), []
            for _ in range(4):
                page = RepeatablePage(4)
                while not page.complete:
                    try:
                        found.append([match.id for match in page.read(order, load)])
                    except ZeroDivisionError:
                        assert not page.torn
            return found

        undisturbed = pages(lambda: False)
        for failing in range(20):
            turns = iter(range(10_000))
            assert undisturbed == pages(lambda turns=turns, failing=failing: next(turns) == failing)  # type: ignore[misc]
            turns = iter(range(10_000))
            assert undisturbed == pages(lambda turns=turns: bool(next(turns) % 3))  # type: ignore[misc]

    def test_an_order_that_fails(self) -> None:
        """If rows are lost between the order and the page, the query ends, for there is nothing to go on with."""

        class Broken(LazyRanking):
            def take(self, count: int) -> Ranked:
                super().take(count)
                raise MemoryError

        queries = OpenQueries(1, lambda: 0.0)
        order = LazyRanking(np.arange(9), np.zeros(9, np.float32))
        queries.start(QueryStart(lambda: (lambda: order, load), 10, 1, NAME))
        order.__class__ = Broken
        with pytest.raises(MemoryError):
            queries.fetch_next(NAME, 1, 2)
        with pytest.raises(QueryNotFound):
            queries.fetch_next(NAME, 1, 2)


def load(rows: Sequence[int], limit: int) -> dict[int, Match]:
    """The records of numbers."""
    return {row: Match(str(row)) for row in rows}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("next"), st.integers(1, 6)),
        st.tuples(st.just("next without a number"), st.integers(1, 6)),
        st.tuples(st.just("repeat"), st.just(0)),
        st.tuples(st.just("delete"), st.integers(0, 29)),
        st.tuples(st.just("revoke"), st.integers(0, 29)),
    ),
    max_size=25,
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_any_sequence(kind: str, steps: list[tuple[str, int]]) -> None:
    """In any sequence of pages, repeats and writes, no id is on two pages, and none is served after it was taken away.

    A repeat brings the ids of its page that are left, in their order; it is filled anew only if none of them is left.
    """
    searched = Searched(kind)
    number, count, gone = 1, 2, set[str]()
    pages = {1: ids(searched.start(count)[1])}
    for step, argument in [*steps, ("repeat", 0)]:
        if step == "delete":
            searched.rig.delete(ids=[str(argument)])
        elif step == "revoke":
            searched.rig.upsert(searched.record(argument, group="blue"))
        if step in ("delete", "revoke"):
            gone.add(str(argument))
        elif step == "repeat":
            before, page = pages[number], searched.page(number, count)
            left = [id_ for id_ in before if id_ not in gone]
            assert page == left or not left
            pages[number] = page
        else:
            number, count = number + 1, argument
            pages[number] = searched.page(number if step == "next" else None, count)
        assert gone.isdisjoint(pages[number]) or step in ("delete", "revoke")
        served = [id_ for page in pages.values() for id_ in page]
        assert len(served) == len(set(served))
