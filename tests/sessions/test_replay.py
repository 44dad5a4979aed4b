"""Which requests a replay makes, and what it concludes from the answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk.bodies import MAX_ROWS
from nextk.sessions.pulls import Pull
from nextk.sessions.replay import Difference, ReplayPlan, difference, may_ask_on, pages_passed

SIZES = st.lists(st.integers(1, MAX_ROWS), min_size=1, max_size=12)


def full(sizes: list[int]) -> list[Pull]:
    """Return pulls that have brought as many matches as they requested."""
    ids = iter(range(sum(sizes)))
    return [(size, [f"r{next(ids)}" for _ in range(size)]) for size in sizes]


class TestMergedPlan:
    """Pages whose order does not depend on their sizes come by few requests."""

    def test_one_start(self) -> None:
        """Sixty pages of ten, and the one that was lost, come by one start."""
        plan = ReplayPlan.merging(full([10] * 60), 10)
        assert ([610], 10, True) == (plan.sizes, plan.extra, plan.merged)

    @given(sizes=SIZES, count=st.integers(0, MAX_ROWS))
    def test_sums(self, sizes: list[int], count: int) -> None:
        """The requests ask for exactly what came before, and for the lost page if that costs no further request."""
        plan = ReplayPlan.merging(full(sizes), count)
        assert sum(plan.sizes) == sum(sizes) + plan.extra
        assert all(1 <= size <= MAX_ROWS for size in plan.sizes)
        assert len(plan.sizes) == -(-sum(sizes) // MAX_ROWS)
        assert plan.extra in (0, count)
        assert plan.extra == count or plan.sizes[-1] + count > MAX_ROWS
        assert len(plan.expected) == len(plan.sizes)
        known = [id_ for _, ids in full(sizes) for id_ in ids]
        for position, expected in enumerate(plan.expected):
            assert expected is None or expected == known[position * MAX_ROWS : (position + 1) * MAX_ROWS]

    def test_pages_that_were_not_full(self) -> None:
        """Where a page brought fewer matches than it requested, nobody knows which ids each request brings."""
        assert [None, None] == ReplayPlan.merging([(800, ["a"]), (800, ["b"])], 0).expected

    def test_page_by_page(self) -> None:
        """Pages that depend on their sizes are requested again in these sizes."""
        pulls = full([3, 1, 7])
        plan = ReplayPlan.page_by_page(pulls)
        assert ([3, 1, 7], [ids for _, ids in pulls], 0, False) == (
            plan.sizes,
            plan.expected,
            plan.extra,
            plan.merged,
        )


class TestPagesSkipped:
    """The ids of the page that comes next tell whether a server without numbers had passed the lost one."""

    @given(st.data())
    def test_every_case(self, data: st.DataObject) -> None:
        """However many of the lost requests the server had answered, the page that came says how many."""
        size, pages = data.draw(st.integers(1, 4)), data.draw(st.integers(2, 6))
        pulls = full([size] * (pages + 1))
        plan = ReplayPlan.page_by_page(pulls[:-1])
        position = data.draw(st.integers(1, pages - 1))
        lost = data.draw(st.integers(1, pages - position))
        passed = data.draw(st.integers(0, lost))
        assert may_ask_on(plan, position, lost, set())
        known = position + passed < pages
        assert (passed if known else None) == pages_passed(plan, position, lost, pulls[position + passed][1])

    @pytest.mark.parametrize("ids", [[], ["r4", "r5"]])
    def test_behind_the_plan(self, ids: list[str]) -> None:
        """A page behind the last one that is known may have another size than is needed, so it is not taken."""
        plan = ReplayPlan.page_by_page(full([2, 2]))
        assert pages_passed(plan, 1, 1, ids) is None
        assert 0 == pages_passed(plan, 1, 1, ["r2", "r3"])

    @pytest.mark.parametrize("ids", [["r2", "x"], ["r3", "r2"], ["r4", "r3"]])
    def test_other_data(self, ids: list[str]) -> None:
        """A page that shares ids with a known one and is another one tells nothing."""
        plan = ReplayPlan.page_by_page(full([2, 2, 2]))
        assert pages_passed(plan, 1, 1, ids) is None

    def test_it_is_not_asked_in_vain(self) -> None:
        """Pages of several sizes, pages whose matches are needed, and unknown pages are requested from the start."""
        plan = ReplayPlan.page_by_page(full([2, 2, 3]))
        assert may_ask_on(plan, 0, 1, set())
        assert not may_ask_on(plan, 1, 1, set())
        assert may_ask_on(plan, 0, 1, {"r2", "r6"})
        assert not may_ask_on(plan, 0, 1, {"r1"})
        assert not may_ask_on(plan, 2, 2, set())
        merged = ReplayPlan.merging(full([900, 900]), 10)
        assert not may_ask_on(merged, 0, 1, set())


class TestDifference:
    """A replay says how its matches differ from those before."""

    @pytest.mark.parametrize(
        ("found", "extra", "kind"),
        [
            ("abc", 0, Difference.NONE),
            ("abcde", 2, Difference.NONE),
            ("abcd", 0, Difference.ADDED_OR_REORDERED),
            ("acb", 0, Difference.ADDED_OR_REORDERED),
            ("xabc", 1, Difference.ADDED_OR_REORDERED),
            ("ab", 0, Difference.MISSING),
            ("abx", 0, Difference.MISSING),
            ("", 5, Difference.MISSING),
        ],
    )
    def test_kinds(self, found: str, extra: int, kind: Difference) -> None:
        """Ids that are missing, ids in another order and ids that nobody requested are told apart."""
        assert kind is difference("abc", found, extra)
