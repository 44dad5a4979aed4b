"""Stopping policies, alone and combined, over lists of matches: without an index and without I/O."""

import logging
import operator
import pickle
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nextk.until
from nextk.errors import ClientError, LimitReached, PageUncertain
from nextk.sessions import Limits, RowReader, SearchConfig, SearchQuery, Shortfall
from nextk.sessions.effects import Effect, Effects, FetchNext, Release, StartQuery
from nextk.sessions.link import SourceLink
from nextk.sessions.machine import SearchMachine
from nextk.testing import ManualClock
from nextk.types import QueryResult
from nextk.until import (
    Accepted,
    Candidate,
    DistinctBy,
    MaxResults,
    MinScore,
    Policy,
    PolicyState,
    RelativeScore,
    ScoreGap,
    TokenBudget,
    estimate_tokens,
)
from nextk.until.effects import CallCheck
from tests.support.list_source import ListSource

moderate = settings(deadline=None, max_examples=80)
ENDLESS = 10**6


def row(position: int, score: float = 0.5, size: int = 1, **metadata: Any) -> QueryResult:
    """Return the match `r<position>` with a text of `size` characters; without a text if `size` is 0."""
    return QueryResult(f"r{position}", score, metadata=metadata, data="x" * size if size else None)


def rows(count: int, **metadata: Any) -> list[QueryResult]:
    """Return `count` matches of falling scores."""
    return [row(position, 1 - position / (2 * count), **metadata) for position in range(count)]


def scored(scores: Sequence[float]) -> list[QueryResult]:
    """Return one match for each score."""
    return [row(position, score) for position, score in enumerate(scores)]


def sized(sizes: Sequence[int]) -> list[QueryResult]:
    """Return one match for each size, with a text of that many characters."""
    return [row(position, size=size) for position, size in enumerate(sizes)]


def marked(goods: Sequence[bool]) -> list[QueryResult]:
    """Return one match for each bool; the check `good` permits those of `True`."""
    return [row(position, good=good) for position, good in enumerate(goods)]


def names(matches: Sequence[QueryResult]) -> list[str]:
    """Return the ids of matches."""
    return [match.id for match in matches]


def positions(matches: Sequence[QueryResult]) -> list[int]:
    """Return the positions of matches in the order of the search."""
    return [int(match.id[1:]) for match in matches]


def good(items: list[Any]) -> list[bool]:
    """Permit the matches that are marked as good."""
    return [bool(item.metadata["good"]) for item in items]


def everything(items: list[Any]) -> list[bool]:
    """Permit every match."""
    return [True] * len(items)


def nothing(items: list[Any]) -> list[bool]:
    """Deny every match."""
    return [False] * len(items)


def source(item: Any) -> Any:
    """Return the source of a match."""
    return item.metadata.get("source")


def every_fifth(items: list[Any]) -> list[bool]:
    """Permit every fifth match."""
    return [position % 5 == 0 for position, _ in enumerate(items)]


class Paper:
    """A search over a list of matches. Its clock advances only while a page is fetched.

    Args:
        matches: The matches, in the order of the search.
        until: The policy of the search.
        slow: The seconds that each page takes.
        overrides: The bounds that the caller of `open` has given.
        config: The keywords of `SearchConfig`.
    """

    def __init__(
        self,
        matches: Sequence[QueryResult],
        until: Policy | None = None,
        *,
        slow: float = 0,
        overrides: dict[str, Any] | None = None,
        **config: Any,
    ) -> None:
        self.clock = ManualClock()
        self.sizes: list[int] = []
        self.checks: list[list[str]] = []
        self._left = list(matches)
        self._slow = slow
        reading: RowReader[QueryResult] = RowReader(
            lambda match: match if match.data else None, lambda item: str(item.data)
        )
        bounds = SearchConfig(until=until, clock=self.clock, **config).with_overrides(**(overrides or {}))
        self.machine = SearchMachine(SearchQuery(vector=[1.0]), reading, [], bounds, SourceLink(ListSource([])))
        self.search = self.machine.state

    def fetch_next(self, n: int) -> list[QueryResult]:
        """Fetch the next `n` matches."""
        return self._drive(self.machine.fetch_next(n))

    def fetch_until(self, policy: Policy | None = None) -> list[QueryResult]:
        """Fetch matches until a policy has enough."""
        return self._drive(self.machine.fetch_until(policy))

    def state(self) -> tuple[int, list[str], dict[str, int]]:
        """Return the number of kept matches, the ids of the waiting ones, and the drops by cause."""
        report = self.search.report
        return report.kept, names([match for match, _ in self.search.waiting]), dict(report.dropped)

    @property
    def reason(self) -> str | None:
        """The reason why the last call ended."""
        return self.search.report.stop_reason

    def _drive(self, steps: Effects[list[QueryResult]]) -> list[QueryResult]:
        try:
            step = next(steps)
            while True:
                try:
                    answer = self._do(step)
                except Exception as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            kept: list[QueryResult] = end.value
            return kept
        finally:
            steps.close()

    def _do(self, step: Effect) -> Any:
        match step:
            case StartQuery(size) | FetchNext(size):
                self.sizes.append(size)
                self.clock.advance(self._slow)
                page, self._left = self._left[:size], self._left[size:]
                return page
            case CallCheck(check, items):
                self.checks.append(names(items))
                return check(items)
            case Release():
                return []
        raise AssertionError(step)


def asked_for(n: int) -> dict[str, Any]:
    """Return the keywords of a configuration for a call that returns at most `n` results."""
    config = SearchConfig().capped(n)
    return {"guards": config.guards, "cap": config.cap}


FREE: dict[str, Any] = {"guards": Limits()}
"""The keywords of a configuration without any bound."""


class Scripted(Policy):
    """Keeps the matches at some positions, and has enough from some position on."""

    def __init__(self, label: str, keeps: frozenset[int], enough: int) -> None:
        self.label, self.keeping, self.enough_at = label, keeps, enough

    @property
    def name(self) -> str:
        """The label of the policy."""
        return self.label

    def new_state(self, memory: dict[str, Any]) -> PolicyState:
        """Make a state that follows the script."""
        return _ScriptedState(self)


class _ScriptedState(PolicyState):
    shown = -1

    def keeps(self, candidate: Candidate) -> bool:
        return int(candidate.id[1:]) in self.policy.keeping

    def enough(self) -> bool:
        self.shown += 1  # asked once after every match
        return bool(self.shown >= self.policy.enough_at)


ALL = frozenset(range(1_000))

# Each policy with whole arguments, and one that differs.
PAIRS: list[tuple[Policy, Policy]] = [
    (MaxResults(3), MaxResults(4)),
    (Accepted(3, good), Accepted(3, nothing)),
    (DistinctBy("source", 2, per_key=2), DistinctBy("source", 2)),
    (DistinctBy(source, 2), DistinctBy("source", 2)),
    (TokenBudget(9, count=len), TokenBudget(9)),
    (MinScore(0.5, patience=2), MinScore(0.5)),
    (RelativeScore(0.5), RelativeScore(0.6)),
    (ScoreGap(buffer=1, min_k=2), ScoreGap(buffer=1, min_k=3)),
    (MaxResults(3) | TokenBudget(9), MaxResults(3) & TokenBudget(9)),
    (MaxResults(3) & (MinScore(0.5) | Accepted(2, good)), MaxResults(3) & (MinScore(0.5) & Accepted(2, good))),
]


class TestValues:
    """Policies are plain values."""

    @pytest.mark.parametrize(("policy", "other"), PAIRS, ids=lambda policy: policy.name)
    def test_values(self, policy: Policy, other: Policy) -> None:
        """Policies can be pickled; they are equal, and hash equally, if their class and parameters are equal."""
        again = pickle.loads(pickle.dumps(policy))  # noqa: S301 - our own bytes
        assert policy == again
        assert hash(policy) == hash(again)
        assert repr(policy) == repr(again)
        assert policy != other
        assert 2 == len({policy, again, other})

    @pytest.mark.parametrize(
        ("policy", "name"),
        [
            (MaxResults(1), "max_results"),
            (Accepted(1, good), "accepted"),
            (DistinctBy("source", 1), "distinct_by"),
            (TokenBudget(1), "token_budget"),
            (MinScore(0), "min_score"),
            (RelativeScore(1), "relative_score"),
            (ScoreGap(), "score_gap"),
        ],
    )
    def test_names(self, policy: Policy, name: str) -> None:
        """Reports call a policy by the name of its class in small letters."""
        assert name == policy.name

    def test_frozen(self) -> None:
        """A policy cannot be changed while a search uses it."""
        with pytest.raises(AttributeError):
            MaxResults(3).n = 4  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("name", "build"),
        [
            *[("n", lambda bad=bad: MaxResults(bad)) for bad in (0, -1, 1.0, "3", None, True, np.float64(3))],
            *[("n", lambda bad=bad: Accepted(bad, good)) for bad in (0, 2.5, None, True)],
            *[("n", lambda bad=bad: DistinctBy("source", bad)) for bad in (0, 2.5, None, True)],
            *[("n", lambda bad=bad: TokenBudget(bad)) for bad in (0, -5, 2.5, None, True)],
            *[("check", lambda bad=bad: Accepted(1, bad)) for bad in (None, 3, [True])],
            *[("key", lambda bad=bad: DistinctBy(bad, 1)) for bad in (None, 3, ["source"])],
            *[("per_key", lambda bad=bad: DistinctBy("source", 1, per_key=bad)) for bad in (0, 1.5, None, True)],
            *[("count", lambda bad=bad: TokenBudget(1, count=bad)) for bad in (None, 3)],
            *[("patience", lambda bad=bad: TokenBudget(1, patience=bad)) for bad in (0, 1.5, None)],
            *[("t", lambda bad=bad: MinScore(bad)) for bad in (float("nan"), float("inf"), "0.5", None, True)],
            ("t", lambda: MinScore(10**400)),
            *[("patience", lambda bad=bad: MinScore(0.5, patience=bad)) for bad in (0, 1.5, None)],
            *[
                ("ratio", lambda bad=bad: RelativeScore(bad))
                for bad in (0, -0.5, 1.01, float("nan"), "0.5", None, True)
            ],
            *[("patience", lambda bad=bad: RelativeScore(0.5, patience=bad)) for bad in (0, 1.5, None)],
            *[("buffer", lambda bad=bad: ScoreGap(buffer=bad)) for bad in (-1, 0.5, None, True)],
            *[("ignore_tail", lambda bad=bad: ScoreGap(ignore_tail=bad)) for bad in (-0.1, 1, float("nan"), None)],
            *[("min_k", lambda bad=bad: ScoreGap(min_k=bad)) for bad in (0, 0.5, None, True)],
            *[("window", lambda bad=bad: ScoreGap(window=bad)) for bad in (1, 9.5, None, True)],
            *[("max_results", lambda bad=bad: Limits(max_results=bad)) for bad in (0, -1, 1.5, "3", True)],
            *[("max_pulls", lambda bad=bad: Limits(max_pulls=bad)) for bad in (0, -1, 1.5, "3", True)],
            *[
                ("deadline", lambda bad=bad: Limits(deadline=bad))
                for bad in (-1, float("nan"), float("inf"), "3", True)
            ],
            ("deadline", lambda: Limits(deadline=0)),
            *[("until", lambda bad=bad: SearchConfig(until=bad)) for bad in (3, "max_results", MaxResults)],
            *[("max_idle", lambda bad=bad: SearchConfig(max_idle=bad)) for bad in (0, 1.5, None, True)],
            *[("cap", lambda bad=bad: SearchConfig(cap=bad)) for bad in (0, 1.5, "3", True)],
            *[("max_recovery", lambda bad=bad: SearchConfig(max_recovery=bad)) for bad in (-1, 1.5, True)],
            ("until", lambda: SearchConfig().with_overrides(until=10)),  # type: ignore[arg-type]
            ("max_results", lambda: SearchConfig().with_overrides(max_results=0)),
            ("max_pulls", lambda: SearchConfig().with_overrides(max_pulls=0)),
            ("deadline", lambda: SearchConfig().with_overrides(deadline=-1)),
            ("policy", lambda: Paper([]).fetch_until(10)),  # type: ignore[arg-type]
        ],
    )
    def test_impossible_parameters(self, name: str, build: Callable[[], object]) -> None:
        """An impossible parameter is refused by name as soon as it is given."""
        with pytest.raises(ClientError, match=rf"\b{name}="):
            build()

    @pytest.mark.parametrize("other", [3, None, "max_results", MaxResults])
    def test_only_policies_join(self, other: Any) -> None:
        """Only policies can be combined."""
        for join in (operator.or_, operator.and_):
            with pytest.raises(ClientError, match="is not a policy"):
                join(MaxResults(1), other)

    def test_there_has_to_be_a_policy(self) -> None:
        """`fetch_until` without any policy is refused."""
        with pytest.raises(ClientError, match=r"fetch_until\(\) needs a policy"):
            Paper(rows(3)).fetch_until()

    @pytest.mark.parametrize(
        ("text", "tokens"),
        [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("带薪年假", 3), ("отпуск", 3), ("a\ud800", 1)],
        ids=["empty", "one", "four", "five", "chinese", "russian", "surrogate"],
    )
    def test_estimate(self, text: str, tokens: int) -> None:
        """The estimate is one token for every four bytes of UTF-8, rounded up."""
        assert tokens == estimate_tokens(text)


class TestCounting:
    """Policies that count matches, permitted matches or keys."""

    @moderate
    @given(count=st.integers(0, 40), n=st.integers(1, 50))
    def test_max_results(self, count: int, n: int) -> None:
        """`MaxResults` returns the first `n` matches, and no more are pulled."""
        paper = Paper(rows(count))
        assert list(range(min(n, count))) == positions(paper.fetch_until(MaxResults(n)))
        assert ("max_results" if count >= n else "exhausted") == paper.reason
        assert n == paper.sizes[0]

    @moderate
    @given(goods=st.lists(st.booleans(), max_size=80), n=st.integers(1, 12))
    def test_accepted(self, goods: list[bool], n: int) -> None:
        """`Accepted` returns the first permitted matches, checks none twice, and checks many at once."""
        paper = Paper(marked(goods), **FREE)
        permitted = [position for position, yes in enumerate(goods) if yes]
        assert permitted[:n] == positions(paper.fetch_until(Accepted(n, good)))
        assert ("accepted" if len(permitted) >= n else "exhausted") == paper.reason
        checked = [id_ for batch in paper.checks for id_ in batch]
        assert [f"r{position}" for position in range(len(checked))] == checked
        assert len(paper.checks) <= len(paper.sizes)

    @moderate
    @given(
        sources=st.lists(st.sampled_from(["a", "b", "c", "d", None]), max_size=40),
        n=st.integers(1, 5),
        per_key=st.integers(1, 3),
        by_function=st.booleans(),
    )
    def test_distinct_by(self, sources: list[str | None], n: int, per_key: int, by_function: bool) -> None:
        """`DistinctBy` returns the best matches of each key until there are enough keys, and drops the others."""
        paper = Paper([row(position, source=one) for position, one in enumerate(sources)], **FREE)
        expected, counts = [], Counter[str]()
        for position, one in enumerate(sources):
            if one is not None and counts[one] < per_key:
                expected.append(position)
                counts[one] += 1
            if len(counts) == n:
                break
        kept = paper.fetch_until(DistinctBy(source if by_function else "source", n, per_key=per_key))
        assert expected == positions(kept)
        assert ("distinct_by" if len(+counts) == n else "exhausted") == paper.reason

    def test_keys_differ_by_kind(self) -> None:
        """The number 1, the text "1" and `True` are three keys."""
        paper = Paper([row(position, source=one) for position, one in enumerate([1, "1", True, 1, "1", True, 2])])
        assert [0, 1, 2, 6] == positions(paper.fetch_until(DistinctBy("source", 4)))

    def test_no_metadata(self) -> None:
        """A match without any metadata has no key."""
        paper = Paper([QueryResult("r0", 1, data="x"), row(1, source="a")])
        assert [1] == positions(paper.fetch_until(DistinctBy("source", 1)))
        assert {"distinct_by": 1} == paper.search.report.dropped

    @pytest.mark.parametrize("key", [["a"], {"a": 1}, ("a",), b"a", object()])
    def test_impossible_keys(self, key: Any) -> None:
        """A key that is no plain value ends the call with an error, and no match is lost."""
        paper = Paper(rows(3))
        with pytest.raises(ClientError, match="the key of row 'r0' is"):
            paper.fetch_until(DistinctBy(lambda _: key, 2))
        assert (0, ["r0", "r1"], {}) == paper.state()

    @moderate
    @given(
        sources=st.lists(st.sampled_from("abcdef"), max_size=40),
        n=st.integers(1, 3),
        wishes=st.lists(st.one_of(st.none(), st.integers(1, 5)), max_size=8),
    )
    def test_own_distinct_by_remembers(self, sources: list[str], n: int, wishes: list[int | None]) -> None:
        """As a search's own policy, `DistinctBy` returns no key twice, whichever calls are made."""
        paper = Paper(
            [row(position, source=one) for position, one in enumerate(sources)], DistinctBy("source", n), **FREE
        )
        firsts = list(dict.fromkeys(sources))
        served: list[str] = []
        for wish in wishes:
            page = [source(item) for item in (paper.fetch_until() if wish is None else paper.fetch_next(wish))]
            assert firsts[len(served) : len(served) + (n if wish is None else wish)] == page
            served += page

    def test_of_a_call_it_forgets(self) -> None:
        """As the policy of one call, `DistinctBy` does not know the keys of earlier calls."""
        paper = Paper([row(position, source="a") for position in range(4)])
        assert [[0], [1]] == [positions(paper.fetch_until(DistinctBy("source", 1))) for _ in range(2)]


def greedy(sizes: Sequence[int], budget: int, patience: int) -> tuple[list[int], list[int], int]:
    """Pack by brute force: return the positions that fit, those that were skipped, and the number looked at."""
    taken: list[int] = []
    skipped: list[int] = []
    missed = 0
    for position, size in enumerate(sizes):
        if sum(sizes[other] for other in taken) + size <= budget:
            taken.append(position)
            missed = 0
        else:
            skipped.append(position)
            missed += 1
        if sum(sizes[other] for other in taken) == budget or (taken and missed >= patience):
            return taken, skipped, position + 1
    return taken, skipped, len(sizes)


class TestTokenBudget:
    """`TokenBudget` packs a context window."""

    @moderate
    @given(
        sizes=st.lists(st.integers(1, 12), max_size=50),
        budget=st.integers(1, 40),
        patience=st.integers(1, 6),
    )
    def test_it_packs(self, sizes: list[int], budget: int, patience: int) -> None:
        """A budget is filled in the order of the search and never exceeded; skipped matches wait."""
        paper = Paper(sized(sizes), **FREE)
        taken, skipped, seen = greedy(sizes, budget, patience)
        kept = paper.fetch_until(TokenBudget(budget, count=len, patience=patience))
        assert taken == positions(kept)
        assert sum(sizes[position] for position in taken) <= budget
        _, waiting, dropped = paper.state()
        assert [f"r{position}" for position in skipped] == waiting[: len(skipped)]
        assert {} == dropped
        if seen < len(sizes):
            assert "token_budget" == paper.reason

    @moderate
    @given(sizes=st.lists(st.integers(1, 9), max_size=40), budgets=st.lists(st.integers(9, 30), min_size=1, max_size=6))
    def test_what_was_skipped_comes_first(self, sizes: list[int], budgets: list[int]) -> None:
        """The next call is offered the skipped matches first; no match is lost, and none comes twice."""
        paper = Paper(sized(sizes), **FREE)
        left = list(range(len(sizes)))
        for budget in budgets:
            taken, _, _ = greedy([sizes[position] for position in left], budget, ENDLESS)
            expected = [left[position] for position in taken]
            assert expected == positions(paper.fetch_until(TokenBudget(budget, count=len, patience=ENDLESS)))
            left = [position for position in left if position not in expected]
        assert left == positions(paper.fetch_next(100))
        assert paper.search.exhausted

    def test_a_bare_call_skips_nothing(self) -> None:
        """`fetch_next` has no budget, even if the search's own policy is one."""
        paper = Paper(sized([5, 50, 5, 50]), TokenBudget(12, count=len))
        assert [0, 2] == positions(paper.fetch_until())
        assert paper.search.exhausted
        assert [1, 3] == positions(paper.fetch_next(9))
        assert [] == paper.fetch_next(9)

    def test_oversized_rows_do_not_block_the_way(self) -> None:
        """Any number of matches that exceed the budget do not keep a search from the smaller ones behind them."""
        sizes = [90] * 4 + [1] * 4
        paper = Paper(sized(sizes))
        served: list[int] = []
        for _ in range(4):
            served += positions(paper.fetch_until(TokenBudget(2, count=len, patience=3)))
        assert [4, 5, 6, 7] == served

    def test_it_may_take_no_row(self) -> None:
        """If nothing fits, nothing is returned, and nothing is lost."""
        paper = Paper(sized([9, 9, 9]))
        assert [] == paper.fetch_until(TokenBudget(8, count=len))
        assert [0, 1, 2] == positions(paper.fetch_next(3))

    @pytest.mark.parametrize("tokens", [-1, 1.5, True, None, "3", np.int64(3)])
    def test_impossible_counts(self, tokens: Any) -> None:
        """A counter that does not return a count ends the call with an error, and no match is lost."""
        paper = Paper(rows(3))
        with pytest.raises(ClientError, match=r"the counter of TokenBudget returned .* for row 'r0'"):
            paper.fetch_until(TokenBudget(5, count=lambda _: tokens))
        assert [0, 1, 2] == positions(paper.fetch_next(3))


def while_near(scores: Sequence[float], least: float, patience: int) -> tuple[list[int], bool]:
    """Return the positions of near scores before `patience` far ones follow each other, and whether they did."""
    far = ["far" if score < least else "near" for score in scores]
    ends = [end for end in range(patience, len(far) + 1) if set(far[end - patience : end]) == {"far"}]
    end = ends[0] if ends else len(far)
    return [position for position in range(end) if far[position] == "near"], bool(ends)


def gap_cut(scores: Sequence[float], gap: ScoreGap) -> int:
    """Return how many matches adaptive-k takes: those before the first of the largest gaps, and the buffer."""
    window = scores[: gap.window]
    positions = [
        position
        for position in range(1, len(window))
        if gap.min_k <= position <= int(len(window) * (1 - gap.ignore_tail))
    ]
    gaps = {position: window[position - 1] - window[position] for position in positions}
    largest = max(gaps.values(), default=0)
    if largest <= 0:
        return len(window)
    return min(len(window), min(position for position in positions if gaps[position] == largest) + gap.buffer)


scores_of = st.lists(st.integers(0, 20).map(lambda twentieth: twentieth / 20), max_size=40)
falling = scores_of.map(lambda scores: sorted(scores, reverse=True))


class TestScores:
    """Policies that look at scores only."""

    @moderate
    @given(scores=scores_of, t=st.integers(0, 20).map(lambda twentieth: twentieth / 20), patience=st.integers(1, 4))
    def test_min_score(self, scores: list[float], t: float, patience: int) -> None:
        """`MinScore` keeps near matches, and stops after `patience` consecutive far ones, whatever the order."""
        paper = Paper(scored(scores), **FREE)
        expected, stopped = while_near(scores, t, patience)
        assert expected == positions(paper.fetch_until(MinScore(t, patience=patience)))
        assert ("min_score" if stopped else "exhausted") == paper.reason

    @moderate
    @given(scores=scores_of, ratio=st.sampled_from([0.25, 0.5, 0.75, 1.0]), patience=st.integers(1, 4))
    def test_relative_score(self, scores: list[float], ratio: float, patience: int) -> None:
        """`RelativeScore` keeps matches of a share of the first one's score, and stops after `patience` far ones."""
        paper = Paper(scored(scores), **FREE)
        expected, stopped = while_near(scores, ratio * scores[0] if scores else 0, patience)
        assert expected == positions(paper.fetch_until(RelativeScore(ratio, patience=patience)))
        assert ("relative_score" if stopped else "exhausted") == paper.reason

    def test_relative_to_the_search(self) -> None:
        """The best score is that of the search, not that of the call."""
        paper = Paper(scored([1.0, 0.6, 0.55, 0.45, 0.44, 0.43]))
        assert 2 == len(paper.fetch_next(2))
        assert [2] == positions(paper.fetch_until(RelativeScore(0.5)))

    def test_a_negative_best_score(self) -> None:
        """If the best score is below 0, the best match is kept all the same."""
        assert [0] == positions(Paper(scored([-1.0, -2.0, -3.0])).fetch_until(RelativeScore(0.5)))

    @moderate
    @given(
        scores=falling,
        gap=st.builds(
            ScoreGap,
            buffer=st.integers(0, 6),
            ignore_tail=st.sampled_from([0, 0.1, 0.25, 0.5, 0.9]),
            min_k=st.integers(1, 6),
            window=st.integers(2, 30),
        ),
    )
    def test_score_gap(self, scores: list[float], gap: ScoreGap) -> None:
        """`ScoreGap` returns the matches before the largest gap of its window that counts, and its buffer."""
        paper = Paper(scored(scores), **FREE)
        cut = gap_cut(scores, gap)
        assert list(range(cut)) == positions(paper.fetch_until(gap))
        assert ("score_gap" if cut else "exhausted") == paper.reason

    @pytest.mark.parametrize(
        ("gap", "cut"),
        [
            (ScoreGap(buffer=0, min_k=1), 1),
            (ScoreGap(buffer=2, min_k=1), 3),
            (ScoreGap(buffer=0), 4),
            (ScoreGap(buffer=0, ignore_tail=0, min_k=5), 9),
            (ScoreGap(buffer=9, ignore_tail=0, min_k=5), 10),
            (ScoreGap(buffer=0, min_k=1, window=2), 1),
            (ScoreGap(buffer=0, min_k=10), 10),
        ],
    )
    def test_examples(self, gap: ScoreGap, cut: int) -> None:
        """Each parameter changes the gap that is found in one list of scores."""
        assert cut == len(Paper(scored([0.99, 0.7, 0.69, 0.68, 0.5, 0.49, 0.48, 0.47, 0.46, 0.3])).fetch_until(gap))

    def test_scores_without_a_gap(self) -> None:
        """Matches of equal scores are kept to the end of the window."""
        paper = Paper(scored([0.5] * 80))
        assert 50 == len(paper.fetch_until(ScoreGap()))
        assert ([50], "score_gap") == (paper.sizes, paper.reason)

    def test_a_gap_counts_rows_on_the_way(self) -> None:
        """Matches that other policies drop, or that have no text, do not move the gap."""
        scores = [0.9, 0.89, 0.88, 0.87, 0.3, 0.29, 0.28, 0.27, 0.26, 0.25]
        gap = ScoreGap(buffer=0, min_k=1)
        denied = Paper([row(position, score, good=position != 1) for position, score in enumerate(scores)])
        assert [0, 2, 3] == positions(denied.fetch_until(gap | Accepted(9, good)))
        mute = Paper([row(position, score, size=position != 1) for position, score in enumerate(scores)])
        assert [0, 2, 3] == positions(mute.fetch_until(gap))

    @pytest.mark.parametrize("turned", [False, True])
    def test_every_one_is_shown_every_row(self, turned: bool) -> None:
        """A match that one policy of scores drops is still shown to the others, so two of them can agree to stop."""
        falling = scored([1 - position / 40 for position in range(40)])
        for one, two, expected in [
            (MinScore(0.8), RelativeScore(0.8), 9),
            (MinScore(0.8), MinScore(0.7), 9),
            (MinScore(0.9), ScoreGap(window=20, buffer=0), 5),
        ]:
            paper = Paper(falling)
            assert expected == len(paper.fetch_until(two & one if turned else one & two))
            assert paper.reason not in {None, "exhausted"}

    def test_a_gap_behind_a_threshold(self) -> None:
        """A match that a threshold drops does not move the gap."""
        scores = [0.9, 0.4, 0.89, 0.88, 0.2, 0.19, 0.18, 0.17, 0.16, 0.15]
        policy = MinScore(0.1) | ScoreGap(buffer=0, min_k=4)
        assert [0, 1, 2, 3] == positions(Paper(scored(scores)).fetch_until(policy))
        policy = MinScore(0.5, patience=9) | ScoreGap(buffer=1, min_k=4)
        assert [0, 2, 3] == positions(Paper(scored([*scores[:5], 0.85, *scores[5:]])).fetch_until(policy))


class TestAccepted:
    """`Accepted` fails closed."""

    BAD: ClassVar[list[tuple[str, Callable[[int], Any]]]] = [
        ("None", lambda _: None),
        ("a bool", lambda _: True),
        ("a number", lambda count: count),
        ("too few", lambda count: [True] * (count - 1)),
        ("too many", lambda count: [True] * (count + 1)),
        ("none at all", lambda _: []),
        ("ones", lambda count: [1] * count),
        ("zeros", lambda count: [0] * count),
        ("texts", lambda count: ["yes"] * count),
        ("one text", lambda count: "y" * count),
        ("bytes", lambda count: b"\1" * count),
        ("a dict", lambda count: dict.fromkeys(range(count), True)),
        ("a set", lambda count: set(range(count))),
        ("a None among them", lambda count: [True] * (count - 1) + [None]),
        ("floats", lambda count: [1.0] * count),
        ("numpy numbers", lambda count: np.ones(count)),
        ("numpy objects", lambda count: np.array([None] * count, dtype=object)),
        ("an array of arrays", lambda count: np.ones((count, 1), dtype=bool)),
    ]

    @pytest.mark.parametrize("answer", [answer for _, answer in BAD], ids=[name for name, _ in BAD])
    def test_answers_that_are_none(self, answer: Callable[[int], Any]) -> None:
        """An answer that is not one bool for each match ends the call: nothing is returned, and nothing is lost."""
        paper = Paper(marked([True] * 12))
        with pytest.raises(ClientError, match="the check returned"):
            paper.fetch_until(Accepted(4, lambda items: answer(len(items))))
        assert (0, {}) == (paper.state()[0], paper.state()[2])
        assert list(range(12)) == positions(paper.fetch_next(99))

    @pytest.mark.parametrize(
        "answer",
        [
            list,
            tuple,
            np.array,
            iter,
            lambda answers: (one for one in answers),
            lambda answers: dict(enumerate(answers)).values(),
        ],
        ids=["list", "tuple", "array", "iterator", "generator", "view"],
    )
    def test_answers_that_are_bools(self, answer: Callable[[list[bool]], Any]) -> None:
        """One bool for each match, in whatever container, permits exactly the matches of `True`."""
        paper = Paper(marked([True, False, True, False, False, True]))
        assert [0, 2, 5] == positions(paper.fetch_until(Accepted(3, lambda items: answer(good(items)))))

    def test_a_generator_that_breaks(self) -> None:
        """A generator that fails in the middle permits nothing."""

        def answers(items: list[Any]) -> Iterator[bool]:
            yield True
            raise KeyError

        paper = Paper(marked([True] * 4))
        with pytest.raises(KeyError):
            paper.fetch_until(Accepted(4, answers))  # type: ignore[arg-type]
        assert [0, 1, 2, 3] == positions(paper.fetch_next(9))

    def test_a_check_may_use_up_its_list(self) -> None:
        """A check has to answer for all matches that it was given, whatever it does to the list."""

        def popping(items: list[Any]) -> list[bool]:
            answers = []
            while items:
                answers.append(bool(items.pop(0).metadata["good"]))
            return answers

        def emptying(items: list[Any]) -> list[bool]:
            items.clear()
            return []

        paper = Paper(marked([False, True, True, False]))
        with pytest.raises(ClientError, match="the check returned"):
            paper.fetch_until(Accepted(2, emptying))
        assert [1, 2] == positions(paper.fetch_until(Accepted(2, popping)))

    @pytest.mark.parametrize("broken", [1, 2, 3, 4])
    @pytest.mark.parametrize("error", [KeyError("policy server"), PageUncertain("of the check"), ClientError("no")])
    def test_all_or_nothing(self, broken: int, error: Exception) -> None:
        """A check that raises at any batch ends the call with its exception; the next call checks every match anew."""
        calls = 0

        def check(items: list[Any]) -> list[bool]:
            nonlocal calls
            calls += 1
            if calls == broken:
                raise error
            return good(items)

        paper = Paper(marked([position % 10 == 9 for position in range(100)]))
        with pytest.raises(type(error)) as raised:
            paper.fetch_until(Accepted(5, check))
        assert error is raised.value
        assert (0, {}) == (paper.state()[0], paper.state()[2])
        assert [9, 19, 29, 39, 49] == positions(paper.fetch_until(Accepted(5, check)))

    @moderate
    @given(
        goods=st.lists(st.booleans(), max_size=60),
        ours=st.booleans(),
        turned=st.booleans(),
        sizes=st.lists(st.integers(1, 9), max_size=4),
    )
    def test_nobody_sees_what_is_denied(self, goods: list[bool], ours: bool, turned: bool, sizes: list[int]) -> None:
        """No function of another policy sees a match that a check has denied, wherever either policy stands."""
        seen: list[str] = []

        def key(item: Any) -> str:
            seen.append(item.id)
            return str(item.id)

        def count(text: str) -> int:
            seen.append(text)
            return 1

        matches = [
            QueryResult(f"r{position}", 1, metadata={"good": yes}, data=f"r{position}")
            for position, yes in enumerate(goods)
        ]
        check, others = Accepted(8, good), DistinctBy(key, 8) & TokenBudget(8, count=count)
        if ours:
            paper = Paper(matches, others if turned else check, **FREE)
            for size in sizes:
                paper.fetch_next(size) if not turned else paper.fetch_until(check)
            paper.fetch_until(check if turned else others)
        else:
            paper = Paper(matches, **FREE)
            paper.fetch_until(others & check if turned else check & others)
        assert {f"r{position}" for position, yes in enumerate(goods) if yes} >= set(seen)

    @moderate
    @given(verdicts=st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60), ours=st.booleans())
    def test_checks_one_after_another(self, verdicts: list[tuple[bool, bool]], ours: bool) -> None:
        """A check is asked only about matches that the checks before it permitted; a match needs all permissions."""
        shown: list[int] = []

        def first(items: list[Any]) -> list[bool]:
            return [verdicts[position][0] for position in positions(items)]

        def second(items: list[Any]) -> list[bool]:
            shown.extend(positions(items))
            return [verdicts[position][1] for position in positions(items)]

        one, two = Accepted(5, first), Accepted(5, second)
        paper = Paper(rows(len(verdicts)), one if ours else None, **FREE)
        kept = paper.fetch_until(two if ours else one & two)
        assert [position for position, answers in enumerate(verdicts) if answers == (True, True)][:5] == positions(kept)
        assert all(verdicts[position][0] for position in shown)

    def test_scores_come_before_checks(self) -> None:
        """A policy of scores drops a match before a check is asked about it."""
        paper = Paper(scored([0.9, 0.2, 0.8, 0.1, 0.7]))
        assert [0, 2, 4] == positions(paper.fetch_until(MinScore(0.5) & Accepted(9, everything)))
        assert {"min_score": 2} == paper.search.report.dropped

    def test_verdicts_hold_for_one_call(self) -> None:
        """A match that was permitted, and waits, is checked again by the next call."""
        permitted = {"r0", "r1", "r2", "r3"}
        paper = Paper(sized([1, 1, 9, 1]), Accepted(9, lambda items: [item.id in permitted for item in items]))
        assert [0, 1] == positions(paper.fetch_until(TokenBudget(2, count=len)))
        permitted.discard("r2")
        assert [3] == positions(paper.fetch_next(9))
        assert {"accepted": 1} == paper.search.report.dropped

    def test_many_at_once(self) -> None:
        """A check of a thousand matches is called no more often than pages are pulled."""
        paper = Paper(marked([False] * 1_000))
        paper.fetch_until(Accepted(20, good))
        assert len(paper.checks) <= len(paper.sizes)


def trees(leaf: st.SearchStrategy[Policy], max_leaves: int) -> st.SearchStrategy[Policy]:
    """Generate combinations of policies in every way."""

    def join(inner: st.SearchStrategy[Policy]) -> st.SearchStrategy[Policy]:
        return st.builds(operator.or_, inner, inner) | st.builds(operator.and_, inner, inner)

    return st.recursive(leaf, join, max_leaves=max_leaves)


patience = st.integers(1, 4)
any_leaf: st.SearchStrategy[Policy] = st.one_of(
    st.builds(MaxResults, st.integers(1, 8)),
    st.builds(Accepted, st.integers(1, 6), st.just(good)),
    st.builds(DistinctBy, st.just("source"), st.integers(1, 4), st.integers(1, 2)),
    st.builds(TokenBudget, st.integers(1, 40), st.just(len), st.just(ENDLESS)),
    st.builds(MinScore, st.integers(0, 20).map(lambda twentieth: twentieth / 20), patience),
    st.builds(RelativeScore, st.sampled_from([0.3, 0.5, 0.8]), patience),
    st.builds(ScoreGap, st.integers(0, 3), st.sampled_from([0, 0.1, 0.5]), st.integers(1, 4), st.integers(2, 12)),
)
any_row = st.tuples(
    st.integers(0, 20),
    st.integers(1, 12),
    st.sampled_from(["a", "b", "c", "d", None]),
    st.sampled_from([True, True, False]),
)


class ContractOracle:
    """Computes match by match what the contract says of a call, without pulls and batches."""

    def __init__(self, matches: Sequence[QueryResult], until: Policy | None) -> None:
        self.waiting = list(matches)
        self.best = matches[0].score if matches else 0.0
        self.leaves = until.leaves() if until else []
        self.memories: list[dict[str, Any]] = [{} for _ in self.leaves]
        self.until = until
        self.dropped: Counter[str] = Counter()
        self.reason: str | None = None

    def call(self, policy: Policy | None, n: int = ENDLESS) -> list[QueryResult]:
        """Return the matches of one call."""
        own = [(leaf, leaf.new_state(memory)) for leaf, memory in zip(self.leaves, self.memories, strict=True)]
        driving = (
            own if policy is self.until else [(leaf, leaf.new_state({})) for leaf in policy.leaves()] if policy else []
        )
        active = own if driving is own else own + driving
        if n < ENDLESS:
            driving = []
        for _, state in driving:
            state.preview([match.score for match in self.waiting[: state.lookahead]])
        kept: list[QueryResult] = []
        aside: list[QueryResult] = []
        position, self.reason = 0, "exhausted"
        while position < len(self.waiting):
            match = self.waiting[position]
            position += 1
            candidate = Candidate(
                match.id,
                match.score,
                match,
                best_score=self.best,
                metadata=match.metadata,
                text_of=lambda item: item.data,
            )
            if (cause := self._cause(active, candidate)) is not None:
                self.dropped[cause] += 1
            elif False in {state.fits(candidate) for _, state in driving}:  # all of them are asked
                aside.append(match)
            else:
                for _, state in active:
                    state.kept += 1
                    state.add(candidate)
                kept.append(match)
            leaf_reasons = [leaf.name if state.enough() else None for leaf, state in driving]
            reason = policy.stop_reason(iter(leaf_reasons)) if policy is not None and driving else None
            if reason is not None or len(kept) == n:
                self.reason = reason
                break
        self.waiting[:position] = aside
        return kept

    @staticmethod
    def _cause(active: list[tuple[Policy, PolicyState]], candidate: Candidate) -> str | None:
        near = [(leaf, state.keeps(candidate)) for leaf, state in active if leaf.scores_only]
        if (far := next((leaf.name for leaf, yes in near if not yes), None)) is not None:
            return far
        for leaf, _ in active:
            if isinstance(leaf, Accepted) and not candidate.metadata["good"]:
                return leaf.name
        rest = ((leaf, state) for leaf, state in active if not leaf.scores_only and not isinstance(leaf, Accepted))
        return next((leaf.name for leaf, state in rest if not state.keeps(candidate)), None)


class TestJoined:
    """Combinations with `|` and `&`, and calls of every kind one after another."""

    @moderate
    @given(data=st.data(), count=st.integers(0, 12))
    def test_joining(self, data: st.DataObject, count: int) -> None:
        """`|` and `&` combine the stops alone; a match is kept only if every leaf keeps it."""
        ends: dict[str, int] = {}
        keeps: list[frozenset[int]] = []

        def draw(depth: int) -> tuple[Policy, Callable[[int], str | None]]:
            if depth == 0 or data.draw(st.booleans()):
                label = f"p{len(keeps)}"
                keeps.append(data.draw(st.frozensets(st.integers(0, 12), min_size=6)))
                ends[label] = data.draw(st.integers(0, 12))
                leaf = Scripted(label, keeps[-1], ends[label])
                return leaf, lambda position: label if position >= ends[label] else None
            (one, first), (two, second) = draw(depth - 1), draw(depth - 1)
            if data.draw(st.booleans()):
                return one | two, lambda position: first(position) or second(position)

            def both(position: int) -> str | None:
                a, b = first(position), second(position)
                return f"{a} & {b}" if a and b else None

            return one & two, both

        policy, reason_at = draw(3)
        last = next((position for position in range(count) if reason_at(position)), None)
        seen = range(count if last is None else last + 1)
        paper = Paper(rows(count), **FREE)
        assert [position for position in seen if all(position in keep for keep in keeps)] == positions(
            paper.fetch_until(policy)
        )
        assert ("exhausted" if last is None else reason_at(last)) == paper.reason

    @settings(deadline=None, max_examples=100)
    @given(
        facts=st.lists(any_row, min_size=6, max_size=50),
        until=st.none() | trees(any_leaf, 3),
        calls=st.lists(st.integers(1, 9) | trees(any_leaf, 4) | st.none(), min_size=2, max_size=6),
    )
    def test_any_calls(self, facts: list[Any], until: Policy | None, calls: list[int | Policy | None]) -> None:
        """Whatever the order of calls, each match is kept once, dropped once, or waits, as the contract says."""
        matches = [
            row(position, score / 20, size, source=key, good=yes)
            for position, (score, size, key, yes) in enumerate(facts)
        ]
        paper, oracle = Paper(matches, until, **FREE), ContractOracle(matches, until)
        served: list[int] = []
        for call in [*calls, ENDLESS - 1]:
            if isinstance(call, int):
                expected, actual = oracle.call(None if until is None else until, call), paper.fetch_next(call)
            else:
                policy = call or until or MaxResults(3)
                expected, actual = oracle.call(policy), paper.fetch_until(policy if call or not until else None)
            assert names(expected) == names(actual)
            assert sorted(positions(actual)) == positions(actual)
            assert oracle.reason == paper.reason
            assert dict(oracle.dropped) == dict(paper.search.report.dropped)
            waiting = [match.id for match, _ in paper.search.waiting]
            assert names(oracle.waiting)[: len(waiting)] == waiting
            served += positions(actual)
        assert len(served) == len(set(served))
        assert len(facts) == len(served) + sum(paper.search.report.dropped.values())
        assert paper.search.exhausted

    def test_counts_are_over_kept_rows(self) -> None:
        """Every policy counts the matches that were kept, and none that another policy has dropped."""
        paper = Paper(marked([False, True, False, True, False, True]))
        assert [1, 3] == positions(paper.fetch_until(MaxResults(2) | Accepted(9, good)))
        paper = Paper(
            [row(position, source="ab"[position // 3], good=position % 2 == 1, size=3) for position in range(6)]
        )
        policy = TokenBudget(6, count=len) | DistinctBy("source", 9, per_key=9) | Accepted(9, good)
        assert [1, 3] == positions(paper.fetch_until(policy))

    @pytest.mark.parametrize("call", ["next", "other", "same kind"])
    def test_the_own_policy_always_applies(self, call: str) -> None:
        """A match that the search's own policy does not keep is never returned, whatever is called."""
        paper = Paper(marked([position % 2 == 1 for position in range(12)]), Accepted(1, good))
        if call == "next":
            kept = paper.fetch_next(3)
        else:
            kept = paper.fetch_until(MaxResults(3) if call == "other" else Accepted(3, everything))
        assert [1, 3, 5] == positions(kept)

    def test_the_policy_of_a_call_is_of_that_call(self) -> None:
        """The policy of one call drops matches for that call alone, and its count ends with the call."""
        paper = Paper(marked([False, True] * 5))
        assert [1] == positions(paper.fetch_until(Accepted(1, good)))
        assert [2, 3, 4] == positions(paper.fetch_next(3))
        assert [5] == positions(paper.fetch_until(Accepted(1, good)))

    def test_rows_without_text(self) -> None:
        """A match in which the retriever finds no text is shown only to policies of scores."""
        paper = Paper([row(0, size=0, source="a"), row(1, source="a"), row(2, size=0, source="b"), row(3, source="b")])
        policy = Accepted(9, everything) & DistinctBy("source", 9) & TokenBudget(9)
        assert [1, 3] == positions(paper.fetch_until(policy))
        assert {"no_text": 2} == paper.search.report.dropped
        assert {"r1", "r3"} == {id_ for batch in paper.checks for id_ in batch}


class TestBounds:
    """The guards of each call, and the limits of a search."""

    def test_at_most_200_rows(self) -> None:
        """A call that a policy ends returns at most 200 matches; the next call goes on."""
        paper = Paper(rows(500))
        for policy in (Accepted(ENDLESS, everything), MaxResults(ENDLESS)):
            assert 200 == len(paper.fetch_until(policy))
            assert "max_results" == paper.reason
        assert max(paper.sizes) <= 200
        assert list(range(400, 500)) == positions(paper.fetch_until(TokenBudget(ENDLESS)))

    def test_at_most_10_pulls(self) -> None:
        """A call fetches at most ten pages, each twice as large as the one before, up to 200 matches."""
        paper = Paper(rows(5_000))
        for attempt in (1, 2):
            assert [] == paper.fetch_until(Accepted(20, nothing))
            assert [20, 40, 80, 160, *[200] * 6] * attempt == paper.sizes
            assert "max_pulls" == paper.reason
        assert {"accepted": 3_000} == paper.search.report.dropped

    def test_20_permitted_of_2_percent(self) -> None:
        """Twenty permitted matches, each the last of fifty, come in one call."""
        paper = Paper(marked([position % 50 == 49 for position in range(3_000)]))
        assert 20 == len(paper.fetch_until(Accepted(20, good)))
        assert "accepted" == paper.reason
        assert len(paper.sizes) <= 10

    @pytest.mark.parametrize(
        ("policy", "first"),
        [
            (MaxResults(7), 7),
            (Accepted(7, good), 7),
            (DistinctBy("source", 7), 7),
            (ScoreGap(window=30), 30),
            (TokenBudget(ENDLESS), 10),
            (MaxResults(5_000), 200),
        ],
    )
    def test_first_pulls(self, policy: Policy, first: int) -> None:
        """The first pull brings as many matches as are known to be needed, otherwise ten, and never more than 200."""
        paper = Paper([row(position, source=position, good=True) for position in range(300)])
        paper.fetch_until(policy)
        assert first == paper.sizes[0]

    def test_ten_seconds(self) -> None:
        """A call begins no pull after ten seconds; the clock of the next call begins anew."""
        paper = Paper(rows(2_000), slow=4)
        for calls in (1, 2):
            assert [] == paper.fetch_until(Accepted(20, nothing))
            assert (3 * calls, "deadline") == (len(paper.sizes), paper.reason)

    def test_guards_are_configurable(self) -> None:
        """The guards can be changed and switched off."""
        assert 3 == len(Paper(rows(99), guards=Limits(max_results=3)).fetch_until(Accepted(20, everything)))
        paper = Paper(rows(99), guards=Limits(max_pulls=2))
        assert ([], 2) == (paper.fetch_until(Accepted(20, nothing)), len(paper.sizes))
        paper = Paper(rows(99), guards=Limits(deadline=5), slow=3)
        assert ([], 2) == (paper.fetch_until(Accepted(20, nothing)), len(paper.sizes))
        assert 999 == len(Paper(rows(999), **FREE).fetch_until(TokenBudget(ENDLESS)))

    def test_what_was_pulled_is_handed_out_at_a_guard(self) -> None:
        """A call that a guard ends returns the matches that it has kept."""
        paper = Paper(marked([position == 1 for position in range(99)]), guards=Limits(max_pulls=2))
        assert [1] == positions(paper.fetch_until(Accepted(2, good)))
        assert "max_pulls" == paper.reason

    def test_bare_calls_have_no_guards(self) -> None:
        """`fetch_next` has no guards, even if the search has a policy of its own."""
        paper = Paper(marked([position % 50 == 49 for position in range(5_000)]), Accepted(3, good), slow=60)
        assert 100 == len(paper.fetch_next(100))
        assert len(paper.sizes) > 10

    @pytest.mark.parametrize(
        ("overrides", "slow", "pages", "pulls"),
        [
            ({"max_results": 7}, 0, [[0, 1, 2, 3, 4], [5, 6]], 2),
            ({"max_pulls": 2}, 0, [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]], 2),
            ({"deadline": 10}, 6, [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]], 2),
        ],
    )
    @pytest.mark.parametrize("until", [None, Accepted(9, everything)], ids=["plain", "with a policy"])
    def test_limits(
        self, until: Policy | None, overrides: dict[str, Any], slow: float, pages: list[list[int]], pulls: int
    ) -> None:
        """A bound that the caller set for the search ends it by `LimitReached`, never by an empty page."""
        paper = Paper(rows(30), until, slow=slow, overrides=overrides)
        assert pages == [positions(paper.fetch_next(5)) for _ in pages]
        for _ in range(2):
            with pytest.raises(LimitReached, match=next(iter(overrides))):
                paper.fetch_next(5)
        assert (pulls, False) == (len(paper.sizes), paper.search.exhausted)

    @pytest.mark.parametrize(
        ("overrides", "slow"), [({"max_pulls": 2}, 0), ({"deadline": 10}, 6), ({"max_results": 20}, 0)]
    )
    def test_limits_of_calls_until(self, overrides: dict[str, Any], slow: float) -> None:
        """`fetch_until` keeps the bounds of the search: it returns what it has, and the next call raises."""
        paper = Paper(rows(99), slow=slow, overrides=overrides)
        served = 0
        while page := paper.fetch_until(MaxResults(10)) if served < 20 else []:
            served += len(page)
        assert 20 == served
        with pytest.raises(LimitReached, match=next(iter(overrides))):
            paper.fetch_until(MaxResults(10))

    def test_limits_while_everything_is_dropped(self) -> None:
        """A bound that is reached before any match was kept raises, and dropped matches stay dropped."""
        paper = Paper(rows(99), Accepted(9, nothing), overrides={"max_pulls": 3})
        with pytest.raises(LimitReached, match="max_pulls"):
            paper.fetch_next(5)
        assert 3 == len(paper.sizes)
        assert {"accepted": sum(paper.sizes)} == paper.search.report.dropped

    def test_rows_that_wait_cost_no_pull(self) -> None:
        """Matches that were pulled are returned even if no further pull is allowed."""
        paper = Paper(sized([5, 9, 1, 1, 1, 1, 1, 1, 1, 1]), overrides={"max_pulls": 1})
        assert [0] == positions(paper.fetch_until(TokenBudget(5, count=len)))
        assert [[1, 2, 3, 4, 5], [6, 7, 8, 9]] == [positions(paper.fetch_next(5)) for _ in range(2)]
        with pytest.raises(LimitReached, match="max_pulls"):
            paper.fetch_next(1)

    def test_a_limit_at_the_end(self) -> None:
        """A search that ends within its bounds is exhausted, and does not raise `LimitReached`."""
        paper = Paper(rows(4), overrides={"max_results": 5, "max_pulls": 9})
        assert 4 == len(paper.fetch_next(5))
        assert [] == paper.fetch_next(5)
        assert "exhausted" == paper.reason

    def test_asking_replaces_the_guards(self) -> None:
        """Bounds of the caller replace the guards of each call, even if they are higher."""
        paper = Paper(rows(900), overrides={"max_results": 450})
        assert 450 == len(paper.fetch_until(MaxResults(500)))

    @moderate
    @given(
        wishes=st.lists(st.integers(1, 9) | trees(any_leaf, 3), min_size=1, max_size=12),
        max_results=st.none() | st.integers(1, 30),
        max_pulls=st.none() | st.integers(1, 6),
    )
    def test_limits_hold(self, wishes: list[int | Policy], max_results: int | None, max_pulls: int | None) -> None:
        """Whatever is called, no bound is exceeded, and no match is lost or repeated."""
        matches = [
            row(position, 1 - position / 80, source=position % 7, good=position % 3 > 0) for position in range(40)
        ]
        paper = Paper(matches, overrides={"max_results": max_results, "max_pulls": max_pulls})
        served: list[str] = []
        for wish in wishes:
            try:
                served += names(paper.fetch_next(wish) if isinstance(wish, int) else paper.fetch_until(wish))
            except LimitReached:
                assert max_results is not None or max_pulls is not None
        kept, waiting, dropped = paper.state()
        assert kept == len(served) <= (max_results or 40)
        assert len(paper.sizes) <= (max_pulls or ENDLESS)
        assert len(served) + len(waiting) == len({*served, *waiting})
        assert paper.search.report.pulled == kept + len(waiting) + sum(dropped.values())


class TestCap:
    """The number of results that the caller of one call has asked for."""

    @pytest.mark.parametrize(
        ("guards", "given", "expected"),
        [
            ({}, [], (None, None)),
            ({"max_results": 20}, [], (20, None)),
            ({"max_pulls": 3}, [], (None, 3)),
            ({"max_results": None, "max_pulls": None}, [], (None, None)),
            ({}, ["max_results"], (200, None)),
            ({}, ["max_pulls", "deadline"], (None, 10)),
        ],
    )
    def test_it_takes_the_place_of_default_guards(
        self, guards: dict[str, Any], given: list[str], expected: tuple[int | None, int | None]
    ) -> None:
        """A number of results lifts the guards that nobody has set; those that are set hold, and so does a deadline."""
        config = SearchConfig(guards=replace(SearchConfig().guards, **guards)).capped(300, given)
        assert (*expected, 10) == (config.guards.max_results, config.guards.max_pulls, config.guards.deadline)
        assert min(300, expected[0] or 300) == config.max_results
        assert config.capped(None) is config

    @pytest.mark.parametrize(
        ("guard", "n", "expected"), [(200, 300, 300), (200, 7, 200), (20, 300, 20), (None, 9, None)]
    )
    def test_room(self, guard: int | None, n: int, expected: int | None) -> None:
        """The default guard on results leaves room for a number that is needed; another guard stays as it is."""
        config = SearchConfig(guards=Limits(max_results=guard)).with_room_for(n)
        assert expected == config.guards.max_results

    @pytest.mark.parametrize(("n", "sizes"), [(300, [300]), (1_000, [1_000]), (2_500, [1_000, 1_000, 500])])
    def test_pages(self, n: int, sizes: list[int]) -> None:
        """As many matches as are missing are pulled, in pages of at most 1,000."""
        paper = Paper(rows(3_000), **asked_for(n))
        assert list(range(n)) == positions(paper.fetch_until(MaxResults(n)))
        assert sizes == paper.sizes

    def test_a_rare_match_is_found(self) -> None:
        """With a number of results, a search goes on behind its tenth pull."""
        paper = Paper(marked([position in (70, 4_000) for position in range(5_000)]), **asked_for(2))
        assert [70, 4_000] == positions(paper.fetch_until(Accepted(2, good)))
        assert len(paper.sizes) > 10


class TestShortfall:
    """Calls that a bound ends before there is enough, which say so."""

    @pytest.mark.parametrize(
        ("policy", "options", "expected"),
        [
            (Accepted(20, nothing), {}, Shortfall("max_pulls", 10, 10, 1_500, 0, {"accepted": 1_500})),
            (Accepted(20, nothing), {"slow": 4}, Shortfall("deadline", 10, 3, 140, 0, {"accepted": 140})),
            (MaxResults(300), {}, Shortfall("max_results", 200, 1, 200, 200)),
            (TokenBudget(ENDLESS), {"guards": Limits(max_pulls=2)}, Shortfall("max_pulls", 2, 2, 30, 30)),
            (MinScore(0), {"guards": Limits(max_results=7)}, Shortfall("max_results", 7, 1, 7, 7)),
            (MaxResults(9), {"overrides": {"max_results": 4}}, Shortfall("max_results", 4, 1, 4, 4)),
            (MaxResults(5), {"cap": 9, "guards": Limits(max_results=4)}, Shortfall("max_results", 4, 1, 4, 4)),
        ],
    )
    def test_a_bound_came_first(
        self, policy: Policy, options: dict[str, Any], expected: Shortfall, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The report says which bound it was and what had come; the log warns once, and shows no match."""
        paper = Paper(rows(5_000), **options)
        paper.fetch_until(policy)
        assert expected == paper.search.report.shortfall
        assert [(logging.WARNING, str(expected))] == [(line.levelno, line.getMessage()) for line in caplog.records]

    @pytest.mark.parametrize(
        ("policy", "options", "reason"),
        [
            (Accepted(3, everything), {}, "accepted"),
            (MaxResults(3), {"guards": Limits(max_results=3)}, "max_results"),
            (MaxResults(200), {}, "max_results"),
            (MaxResults(8), {"cap": 5}, "max_results"),
            (Accepted(8, everything), {"cap": 5, "guards": Limits(max_results=5)}, "max_results"),
            (Accepted(99, everything), {}, "exhausted"),
            (TokenBudget(ENDLESS), {}, "exhausted"),
        ],
    )
    def test_there_was_enough(
        self, policy: Policy, options: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A call that its policy ends, the cap or the end of the index is not short, and nothing is logged."""
        paper = Paper(rows(300 if policy == MaxResults(200) else 40), **options)
        paper.fetch_until(policy)
        assert (reason, None, []) == (paper.reason, paper.search.report.shortfall, caplog.records)

    def test_the_next_call_begins_anew(self) -> None:
        """A shortfall is that of the last call; its total has the counts of the whole search."""
        paper = Paper(rows(99), guards=Limits(max_pulls=1))
        paper.fetch_until(MaxResults(3))
        paper.fetch_until(Accepted(5, nothing))
        report = paper.search.report
        assert Shortfall("max_pulls", 1, 1, 5, 0, {"accepted": 5}) == report.shortfall
        assert Shortfall("max_pulls", 1, 2, 8, 3, {"accepted": 5}) == report.total_shortfall
        paper.fetch_until(MaxResults(3))
        assert None is paper.search.report.shortfall is paper.search.report.total_shortfall

    def test_the_log_can_be_left_to_the_caller(self, caplog: pytest.LogCaptureFixture) -> None:
        """Without warnings the shortfall is in the report alone."""
        paper = Paper(rows(99), warns=False, guards=Limits(max_pulls=1))
        paper.fetch_until(Accepted(5, nothing))
        assert (True, []) == (paper.search.report.shortfall is not None, caplog.records)

    def test_a_bare_call_with_a_policy_warns(self, caplog: pytest.LogCaptureFixture) -> None:
        """If a limit of the search leaves `fetch_next` short while a policy drops matches, the log warns as well."""
        paper = Paper(rows(99), until=Accepted(5, nothing), overrides={"max_pulls": 2})
        with pytest.raises(LimitReached):
            paper.fetch_next(10)
        paper = Paper(rows(99), until=Accepted(5, every_fifth), overrides={"max_pulls": 2})
        assert 0 < len(paper.fetch_next(50)) < 50
        assert ["max_pulls=2"] == [record.getMessage().split()[0] for record in caplog.records]

    def test_bare_calls_do_not_warn(self, caplog: pytest.LogCaptureFixture) -> None:
        """`fetch_next` is bounded only if the caller says so: the report tells of it, or `LimitReached` does."""
        paper = Paper(rows(99), overrides={"max_results": 7})
        assert 7 == len(paper.fetch_next(10))
        assert Shortfall("max_results", 7, 1, 7, 7) == paper.search.report.shortfall
        with pytest.raises(LimitReached):
            paper.fetch_next(10)
        with pytest.raises(LimitReached):
            paper.fetch_until(MaxResults(3))
        assert [] == caplog.records

    @pytest.mark.parametrize(
        ("shortfall", "sentence"),
        [
            (
                Shortfall("max_pulls", 10, 10, 1_500, 3, {"accepted": 1_490, "no_text": 7}),
                "max_pulls=10 ended a search before it had enough: 3 rows kept, 1500 pulled in 10 pages, "
                "1490 dropped by accepted, 7 dropped by no_text. To get more, give a larger max_pulls=, "
                "or put into filter= what the index can check by itself",
            ),
            (
                Shortfall("max_results", 5_000_000, 0, 0, 5_000_000),
                "max_results=5000000 ended a search before it had enough: 5000000 rows kept, 0 pulled in 0 pages, "
                "none dropped. To get more, give a larger max_results=",
            ),
            (
                Shortfall("deadline", 2.5, 1, 9, 9),
                "deadline=2.5 ended a search before it had enough: 9 rows kept, 9 pulled in 1 page, none dropped. "
                "To get more, give a longer deadline=",
            ),
        ],
    )
    def test_the_sentence(self, shortfall: Shortfall, sentence: str) -> None:
        """A shortfall reads as one sentence that names the bound, counts by cause, and says what to do."""
        assert sentence == str(shortfall)


class Remembering(Policy):
    """Counts its calls in its memory, and keeps everything."""

    def new_state(self, memory: dict[str, Any]) -> PolicyState:
        """Count this call."""
        memory["calls"] = memory.get("calls", 0) + 1
        return PolicyState(self)


class Breaking(Policy):
    """Raises an exception in one of the methods of its state."""

    def __init__(self, where: str, error: Exception) -> None:
        self.where, self.error = where, error

    def new_state(self, memory: dict[str, Any]) -> PolicyState:
        """Make a state that raises in the given method."""
        state = PolicyState(self)
        state.lookahead = 1

        def fail(*_: Any) -> Any:
            if state.kept >= 2 or self.where in ("preview", "new_state"):
                raise self.error
            return self.where != "enough"

        if self.where == "new_state":
            fail()
        setattr(state, self.where, fail)
        return state


class TestOwn:
    """Policies that users write."""

    def test_all_they_need_is_public(self) -> None:
        """Every public class that is a policy or a state of one can be imported from the package."""
        modules = [module for name, module in sys.modules.items() if name.startswith("nextk.until.")]
        classes = [one for module in modules for one in vars(module).values() if isinstance(one, type)]
        found = {one.__name__ for one in classes if issubclass(one, Policy | PolicyState)}
        assert {name for name in found if not name.startswith("_")} <= set(nextk.until.__all__)
        assert not [name for name in nextk.until.__all__ if name.startswith("_") or not hasattr(nextk.until, name)]

    def test_the_docstring(self) -> None:
        """The example in the contract works as printed."""
        found = re.search(r"```python\n(.*?)```", str(nextk.until.policy.__doc__), re.DOTALL)
        assert found
        scope: dict[str, Any] = {"Policy": Policy, "PolicyState": PolicyState}
        exec(found[1], scope)  # noqa: S102 - our own documentation
        matches = [row(position, year=2000 + year) for position, year in enumerate([20, 19, 21, 18, 22, 23])]
        paper = Paper(matches)
        assert [0, 2, 4] == positions(paper.fetch_until(scope["Fresh"](3, 2020)))
        assert ("fresh", {"fresh": 2}) == (paper.reason, paper.search.report.dropped)
        paper = Paper(matches, scope["Fresh"](9, 2020))
        assert [0, 2] == positions(paper.fetch_until(MaxResults(2)))
        assert [4, 5] == positions(paper.fetch_next(9))
        assert [0, 2] == positions(Paper(matches).fetch_until(MaxResults(2) | scope["Fresh"](9, 2020)))

    def test_the_overview(self) -> None:
        """The calls in the package's overview work as printed."""
        found = re.search(r"```python\n(.*?)```", str(nextk.until.__doc__), re.DOTALL)
        assert found
        paper = Paper(rows(90))
        exec(found[1], {"search": paper, "check": everything})  # noqa: S102 - our own documentation
        assert 60 == paper.search.report.kept

    def test_memory(self) -> None:
        """A search's own policy remembers from call to call, that of one call does not; failed calls leave no trace."""
        paper = Paper(rows(30), Remembering() | MaxResults(2))
        paper.fetch_until()
        paper.fetch_next(1)
        with pytest.raises(ClientError):
            paper.fetch_until(Accepted(1, lambda _: []))
        paper.fetch_until(Remembering() | MaxResults(1))
        assert [{"calls": 3}, {}] == [policy.memory for policy in paper.search.position("").policies]

    @pytest.mark.parametrize("where", ["new_state", "preview", "keeps", "fits", "add", "enough"])
    @pytest.mark.parametrize("error", [KeyError("mine"), TypeError("mine"), LimitReached("mine")])
    @pytest.mark.parametrize("ours", [False, True])
    def test_exceptions(self, where: str, error: Exception, ours: bool) -> None:
        """An exception of a policy reaches the caller unchanged, and the call has decided nothing."""
        paper = Paper(rows(8), Remembering())
        policy = Breaking(where, error)
        with pytest.raises(type(error)) as raised:
            paper.fetch_until(policy & MaxResults(4) if ours else MaxResults(4) & policy)
        assert error is raised.value
        assert (0, {}) == (paper.state()[0], paper.state()[2])
        assert list(range(8)) == positions(paper.fetch_next(9))
        assert [{"calls": 1}] == [policy.memory for policy in paper.search.position("").policies]

    def test_what_a_candidate_is(self) -> None:
        """A state sees id, score, best score, metadata, item and text of each match, in the order of the search."""
        seen: list[Any] = []

        class Looking(Policy):
            def new_state(self, memory: dict[str, Any]) -> PolicyState:
                state = PolicyState(self)

                def keeps(one: Candidate) -> bool:
                    seen.append((one.id, one.score, one.best_score, one.metadata, one.item, one.text))
                    return True

                state.keeps = keeps  # type: ignore[method-assign, assignment]
                return state

        matches = [row(0, 0.9, 2, year=1), row(1, 0.8, 3)]
        Paper(matches).fetch_until(Looking())
        assert [("r0", 0.9, 0.9, {"year": 1}, matches[0], "xx"), ("r1", 0.8, 0.9, {}, matches[1], "xxx")] == seen

    def test_looking_ahead(self) -> None:
        """A state with a lookahead is shown that many scores before the first match, or as many as there are."""
        seen: list[list[float]] = []

        class Window(Policy):
            def new_state(self, memory: dict[str, Any]) -> PolicyState:
                state = PolicyState(self)
                state.lookahead = 4
                state.preview = lambda scores: seen.append(list(scores))  # type: ignore[method-assign]
                state.enough = lambda: state.kept == 3  # type: ignore[method-assign]
                return state

        paper = Paper(scored([0.9, 0.8, 0.7, 0.6, 0.5]))
        assert [[0, 1, 2], [3, 4]] == [positions(paper.fetch_until(Window())) for _ in range(2)]
        assert [[0.9, 0.8, 0.7, 0.6], [0.6, 0.5]] == seen


REASONS: list[tuple[Policy, str]] = [
    (MaxResults(2), "max_results"),
    (Accepted(2, good), "accepted"),
    (DistinctBy("source", 2), "distinct_by"),
    (TokenBudget(2, count=len), "token_budget"),
    (MinScore(0.9), "min_score"),
    (RelativeScore(0.9), "relative_score"),
    (ScoreGap(window=9), "score_gap"),
    (MaxResults(9) | TokenBudget(2, count=len), "token_budget"),
    (TokenBudget(2, count=len) | MaxResults(2), "token_budget"),
    (MaxResults(2) & Accepted(3, good), "max_results & accepted"),
    (MaxResults(2) & (Accepted(9, good) | TokenBudget(2, count=len)), "max_results & token_budget"),
    (Accepted(ENDLESS, good), "exhausted"),
]


@pytest.mark.parametrize(("policy", "reason"), REASONS)
@pytest.mark.parametrize("ours", [False, True])
def test_stop_reasons(policy: Policy, reason: str, ours: bool) -> None:
    """A report names the policy that ended the last call, or `exhausted`; a full page has no reason."""
    matches = [row(position, 1 - position / 40, source=position, good=True) for position in range(40)]
    paper = Paper(matches, policy if ours else None)
    assert paper.fetch_until(None if ours else policy)
    assert reason == paper.reason
    if reason not in {"exhausted", "distinct_by"} and not policy.leaves()[0].scores_only:
        assert [None] == [paper.reason for _ in paper.fetch_next(1)]
