"""The memory of the search tools, the plans that are made of it, and how it changes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextk.agents.memory import (
    CallPlan,
    MemoryView,
    Refusal,
    ToolLimits,
    apply_update,
    empty_memory,
    memory_digest,
    plan_more,
    plan_search,
    search_id_of,
    update_after,
)
from nextk.errors import ClientError
from tests.support.search_memories import CURSOR, LIMITS, entry, memory, update


class TestIds:
    """The ids by which the model knows searches."""

    @pytest.mark.parametrize("query", ["Blue  Sky", " blue sky\n", "BLUE SKY", "\uff42lue sky"])
    def test_same(self, query: str) -> None:
        """Queries that differ in nothing that matters have one id."""
        assert search_id_of("blue sky", empty_memory()) == search_id_of(query, empty_memory())

    def test_collision(self) -> None:
        """An id that another query has is made longer, and stays so."""
        first = search_id_of("a", empty_memory())
        taken = memory(**{first: entry("b")})
        longer = search_id_of("a", taken)
        assert (longer.startswith(first), len(first) + 1) == (True, len(longer))
        taken["searches"][longer] = entry("a")
        assert longer == search_id_of("a", taken)

    @given(st.text(min_size=1))
    @settings(max_examples=50)
    def test_opaque(self, query: str) -> None:
        """An id is five letters that make no words, whatever the query."""
        id_ = search_id_of(query, empty_memory())
        assert 5 == len(id_)
        assert not set(id_) & set("aeiou01l")


class TestPlan:
    """The plan of a call."""

    def test_begin(self) -> None:
        """A query that was not put before begins a search, and leaves out what others have shown."""
        plan = plan_search(MemoryView(memory("x", "y"), frozenset("z")), "new", LIMITS)
        assert CallPlan(search_id_of("new", empty_memory()), "new", None, 0, 0, 3, 3, frozenset("xyz")) == plan

    def test_again(self) -> None:
        """The same query goes on, and the model is told so."""
        id_ = search_id_of("q", empty_memory())
        plan = plan_search(MemoryView(memory(**{id_: entry()})), "Q ", LIMITS)
        assert CallPlan(id_, "q", CURSOR, 1, 3, 3, 1, frozenset(), repeated=True) == plan

    @pytest.mark.parametrize("spelling", ["abc", " ABC ", '"abc"', "`abc`"])
    def test_more(self, spelling: str) -> None:
        """An id is known in every spelling that models like to write."""
        plan = plan_more(MemoryView(memory(abc=entry())), spelling, LIMITS)
        assert CallPlan("abc", "q", CURSOR, 1, 3, 3, 1, frozenset()) == plan

    @pytest.mark.parametrize(("count", "expected"), [(7, 3), (8, 2), (9, 1)])
    def test_bound(self, count: int, expected: int) -> None:
        """The last page of a bounded search is no longer than the bound allows."""
        plan = plan_more(MemoryView(memory(abc=entry(shown_count=count))), "abc", LIMITS)
        assert isinstance(plan, CallPlan)
        assert expected == plan.page_size

    @pytest.mark.parametrize(
        ("found", "expected"),
        [
            (plan_search(MemoryView(empty_memory()), " \n", LIMITS), Refusal.BLANK),
            (plan_more(MemoryView(empty_memory()), "abc", LIMITS), Refusal.UNKNOWN),
            (plan_more(MemoryView(memory(abc=entry(exhausted=True))), "abc", LIMITS), Refusal.EXHAUSTED),
            (plan_more(MemoryView(memory(abc=entry(shown_count=10))), "abc", LIMITS), Refusal.MAX_RESULTS),
        ],
    )
    def test_refusals(self, found: CallPlan | Refusal, expected: Refusal) -> None:
        """A call that cannot show a page says why."""
        assert expected == found

    def test_unbounded(self) -> None:
        """Without a bound a search shows whatever there is."""
        plan = plan_more(MemoryView(memory(abc=entry(shown_count=10_000))), "abc", ToolLimits(3, None, 2))
        assert isinstance(plan, CallPlan)


class TestUpdates:
    """How a memory changes."""

    def test_lru(self) -> None:
        """The search that was not used for longest is forgotten first; what it has shown is not."""
        before = memory("x", a=entry("a"), b=entry("b"))
        after = apply_update(apply_update(before, update("y", a=entry("a", calls=2))), update("z", c=entry("c")))
        assert (["a", "c"], ["x", "y", "z"]) == (list(after["searches"]), after["shown"])

    @given(st.permutations([1, 2, 3, 4]))
    @settings(max_examples=24)
    def test_any_order(self, numbers: list[int]) -> None:
        """Of parallel calls of one search the last one stays, and everything shown is known, in whatever order."""
        merged = empty_memory()
        for number in numbers:
            merged = apply_update(merged, update(f"d{number}", a=entry(calls=number, shown_count=number)))
        assert 4 == merged["searches"]["a"]["calls"]
        assert {"d1", "d2", "d3", "d4"} == set(merged["shown"])

    def test_update(self) -> None:
        """A call counts its documents, and at the end its cursor is let go."""
        plan = CallPlan("abc", "q", CURSOR, 1, 3, 3, 1, frozenset())
        expected = update("x", "y", abc={"query": "q", "cursor": None, "calls": 2, "shown_count": 5})
        assert expected == update_after(plan, ["x", "y"], None, LIMITS)

    def test_digest(self) -> None:
        """Memories that differ have different digests."""
        assert memory_digest(empty_memory()) == memory_digest(empty_memory())
        assert memory_digest(empty_memory()) != memory_digest(memory("x"))


@pytest.mark.parametrize("name", ["page_size", "max_results", "max_searches"])
def test_limits(name: str) -> None:
    """A bound below 1 is refused by its name."""
    numbers = {"page_size": 3, "max_results": 10, "max_searches": 2, name: 0}
    with pytest.raises(ClientError, match=name):
        ToolLimits(**numbers)
