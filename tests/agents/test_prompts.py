"""The texts that a model reads."""

import pytest

from nextk.agents import prompts
from nextk.agents.memory import CallPlan, Refusal
from tests.support.search_memories import CURSOR


class TestPrompts:
    """The texts that a model reads."""

    @pytest.mark.parametrize(
        ("calls", "shown", "exhausted", "expected"),
        [
            (0, frozenset(), True, "No results for"),
            (0, frozenset("x"), True, "No more results"),
            (1, frozenset(), True, "No more results"),
            (1, frozenset(), False, "Nothing further found yet"),
        ],
    )
    def test_nothing(self, calls: int, shown: frozenset[str], exhausted: bool, expected: str) -> None:
        """An empty page says whether the search is at its end."""
        plan = CallPlan("abc", "{q}", CURSOR, calls, 0, 3, 1, shown)
        assert prompts.results_page(plan, [], exhausted=exhausted, limit_reached=False, more_tool="more").startswith(
            expected
        )

    @pytest.mark.parametrize(
        ("exhausted", "limit_reached", "expected"),
        [(True, True, "last results"), (False, True, "more specific"), (False, False, 'search_id="abc"')],
    )
    def test_ending(self, exhausted: bool, limit_reached: bool, expected: str) -> None:
        """A page ends with what can be done next; numbers go on from page to page."""
        plan = CallPlan("abc", "{q}", CURSOR, 1, 3, 3, 4, frozenset())
        words = prompts.results_page(
            plan, ["{one}", "two"], exhausted=exhausted, limit_reached=limit_reached, more_tool="more"
        )
        assert words.startswith('Results for "{q}" (search id: abc):\n\n[4] {one}\n\n[5] two\n\n')
        assert expected in words.splitlines()[-1]

    @pytest.mark.parametrize("reason", list(Refusal))
    def test_refusals(self, reason: Refusal) -> None:
        """Every refusal says what to do, and an unknown id also what is known."""
        words = prompts.refusal(reason, search_tool="find", known=[("abc", "blue sky")])
        assert words
        assert (reason is Refusal.UNKNOWN) == ('abc ("blue sky")' in words)
