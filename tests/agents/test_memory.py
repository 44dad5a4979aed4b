"""What the search tools remember, and how it changes."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextk.agents import prompts as text
from nextk.agents.memory import (
    CallPlan,
    MemoryUpdate,
    MemoryView,
    Refusal,
    SearchEntry,
    SearchMemory,
    ToolLimits,
    Unshown,
    apply_update,
    digest_of,
    empty_memory,
    id_of,
    plan_more,
    plan_search,
    update_after,
)
from nextk.langchain.agents.reducer import merge
from nextk.langchain.agents.steps import ToolStep, ToolSteps
from nextk.until import Candidate

RULES = ToolLimits(page_size=3, max_results=10, max_searches=2)
CURSOR: dict[str, Any] = {"version": 1}


def entry(query: str = "q", *, turn: int = 1, count: int = 3, over: bool = False) -> SearchEntry:
    """A search that has been pulled from."""
    return {"query": query, "cursor": None if over else CURSOR, "turn": turn, "count": count}


def patch(*shown: str, keep: int = 2, **searches: SearchEntry) -> MemoryUpdate:
    """A change."""
    return {"searches": searches, "shown": list(shown), "keep": keep}


def book(*shown: str, **searches: SearchEntry) -> SearchMemory:
    """A book."""
    return {"searches": searches, "shown": list(shown)}


class TestIds:
    """What the model calls a search."""

    @pytest.mark.parametrize("query", ["Blue  Sky", " blue sky\n", "BLUE SKY", "\uff42lue sky"])
    def test_same(self, query: str) -> None:
        """Queries that differ in nothing that matters have one id."""
        assert id_of("blue sky", empty_memory()) == id_of(query, empty_memory())

    def test_collision(self) -> None:
        """An id that another query has is made longer, and stays so."""
        first = id_of("a", empty_memory())
        taken = book(**{first: entry("b")})
        longer = id_of("a", taken)
        assert (longer.startswith(first), len(first) + 1) == (True, len(longer))
        taken["searches"][longer] = entry("a")
        assert longer == id_of("a", taken)

    @given(st.text(min_size=1))
    @settings(max_examples=50)
    def test_opaque(self, query: str) -> None:
        """An id is five letters that make no words, whatever the query."""
        id_ = id_of(query, empty_memory())
        assert 5 == len(id_)
        assert not set(id_) & set("aeiou01l")


class TestPlan:
    """What a call is to do."""

    def test_begin(self) -> None:
        """A query that was not put before begins a search, and leaves out what others have shown."""
        plan = plan_search(MemoryView(book("x", "y"), frozenset("z")), "new", RULES)
        assert CallPlan(id_of("new", empty_memory()), "new", None, 0, 0, 3, 3, frozenset("xyz")) == plan

    def test_again(self) -> None:
        """The same query goes on, and the model is told so."""
        id_ = id_of("q", empty_memory())
        plan = plan_search(MemoryView(book(**{id_: entry()})), "Q ", RULES)
        assert CallPlan(id_, "q", CURSOR, 1, 3, 3, 1, frozenset(), repeated=True) == plan

    @pytest.mark.parametrize("spelling", ["abc", " ABC ", '"abc"', "`abc`"])
    def test_more(self, spelling: str) -> None:
        """An id is known in the spellings that models are prone to."""
        plan = plan_more(MemoryView(book(abc=entry())), spelling, RULES)
        assert CallPlan("abc", "q", CURSOR, 1, 3, 3, 1, frozenset()) == plan

    @pytest.mark.parametrize(("count", "expected"), [(7, 3), (8, 2), (9, 1)])
    def test_bound(self, count: int, expected: int) -> None:
        """The last page of a bounded search is as short as the bound wants it."""
        plan = plan_more(MemoryView(book(abc=entry(count=count))), "abc", RULES)
        assert isinstance(plan, CallPlan)
        assert expected == plan.size

    @pytest.mark.parametrize(
        ("found", "expected"),
        [
            (plan_search(MemoryView(empty_memory()), " \n", RULES), Refusal.BLANK),
            (plan_more(MemoryView(empty_memory()), "abc", RULES), Refusal.UNKNOWN),
            (plan_more(MemoryView(book(abc=entry(over=True))), "abc", RULES), Refusal.OVER),
            (plan_more(MemoryView(book(abc=entry(count=10))), "abc", RULES), Refusal.LIMIT),
        ],
    )
    def test_refusals(self, found: CallPlan | Refusal, expected: Refusal) -> None:
        """Where there is nothing to do, it is said why."""
        assert expected == found

    def test_unbounded(self) -> None:
        """Without a bound a search shows whatever there is."""
        plan = plan_more(MemoryView(book(abc=entry(count=10_000))), "abc", ToolLimits(3, None, 2))
        assert isinstance(plan, CallPlan)

    def test_policy(self) -> None:
        """A call leaves out what was shown before."""
        state = Unshown(frozenset("a")).new_state({})
        assert [False, True] == [state.keeps(Candidate(id_, 1.0)) for id_ in "ab"]


class TestMerge:
    """The reducer."""

    def test_lru(self) -> None:
        """The search that was not used for longest is forgotten first; what it has shown is not."""
        before = book("x", a=entry("a"), b=entry("b"))
        after = apply_update(apply_update(before, patch("y", a=entry("a", turn=2))), patch("z", c=entry("c")))
        assert (["a", "c"], ["x", "y", "z"]) == (list(after["searches"]), after["shown"])

    def test_books_are_separate(self) -> None:
        """Two pairs of tools know nothing of each other, and each is forgotten alone."""
        books = merge(merge({}, {"one": patch("x", a=entry())}), {"two": patch("x", a=entry())})
        assert {"two"} == merge(books, {"one": None}).keys()
        assert {} == merge({}, {"one": None})

    @given(st.permutations([1, 2, 3, 4]))
    @settings(max_examples=24)
    def test_any_order(self, turns: list[int]) -> None:
        """Of parallel calls on one search the last one stays, and everything shown is known, in whatever order."""
        merged = empty_memory()
        for turn in turns:
            merged = apply_update(merged, patch(f"d{turn}", a=entry(turn=turn, count=turn)))
        assert 4 == merged["searches"]["a"]["turn"]
        assert {"d1", "d2", "d3", "d4"} == set(merged["shown"])

    def test_nothing_is_changed_in_place(self) -> None:
        """A checkpoint stays as it was."""
        before = {"search": book("x", a=entry())}
        copy = json.loads(json.dumps(before))
        merge(before, {"search": patch("y", b=entry())})
        assert copy == before

    def test_patch(self) -> None:
        """A call counts its documents, and at the end its cursor is let go."""
        plan = CallPlan("abc", "q", CURSOR, 1, 3, 3, 1, frozenset())
        expected = patch("x", "y", abc={"query": "q", "cursor": None, "turn": 2, "count": 5})
        assert expected == update_after(plan, ["x", "y"], None, RULES)


class TestSteps:
    """The calls of one step."""

    def test_turns(self) -> None:
        """Each call sees what the ones before it have changed."""
        step = ToolStep()
        step.record("1", patch("x", a=entry()))
        assert MemoryView(apply_update(empty_memory(), patch("x", a=entry()))) == step.view("2", empty_memory())

    def test_a_call_that_is_made_again(self) -> None:
        """It sees what it saw the first time, and what calls after it have shown it leaves out."""
        step = ToolStep()
        for call in "123":
            step.record(call, patch(f"d{call}", a=entry(turn=int(call))))
        assert MemoryView(apply_update(empty_memory(), patch("d1", a=entry())), frozenset(["d3"])) == step.view(
            "2", empty_memory()
        )

    def test_keys(self) -> None:
        """One key is one step, no key is always another one, and old steps are forgotten."""
        steps = ToolSteps()
        first = steps.step("a")
        assert first is steps.step("a")
        assert steps.step(None) is not steps.step(None)
        for number in range(128):
            steps.step(str(number))
        assert first is not steps.step("a")

    def test_digest(self) -> None:
        """Memories that differ have different names."""
        assert digest_of(empty_memory()) == digest_of(empty_memory())
        assert digest_of(empty_memory()) != digest_of(book("x"))


class TestText:
    """What the model reads."""

    @pytest.mark.parametrize(
        ("turn", "shown", "exhausted", "expected"),
        [
            (0, frozenset(), True, "No results for"),
            (0, frozenset("x"), True, "No more results"),
            (1, frozenset(), True, "No more results"),
            (1, frozenset(), False, "Nothing further found yet"),
        ],
    )
    def test_nothing(self, turn: int, shown: frozenset[str], exhausted: bool, expected: str) -> None:
        """An empty page says whether it is the end."""
        plan = CallPlan("abc", "{q}", CURSOR, turn, 0, 3, 1, shown)
        assert text.page(plan, [], exhausted=exhausted, limit=False, more="more").startswith(expected)

    @pytest.mark.parametrize(
        ("exhausted", "limit", "expected"),
        [(True, True, "last results"), (False, True, "more specific"), (False, False, 'search_id="abc"')],
    )
    def test_ending(self, exhausted: bool, limit: bool, expected: str) -> None:
        """A page ends with what can be done next; numbers go on from page to page."""
        plan = CallPlan("abc", "{q}", CURSOR, 1, 3, 3, 4, frozenset())
        words = text.page(plan, ["{one}", "two"], exhausted=exhausted, limit=limit, more="more")
        assert words.startswith('Results for "{q}" (search id: abc):\n\n[4] {one}\n\n[5] two\n\n')
        assert expected in words.splitlines()[-1]

    @pytest.mark.parametrize("why", list(Refusal))
    def test_refusals(self, why: Refusal) -> None:
        """Every refusal says what to do, and an unknown id also what is known."""
        words = text.refusal(why, search="find", known=[("abc", "blue sky")])
        assert words
        assert (why is Refusal.UNKNOWN) == ('abc ("blue sky")' in words)
