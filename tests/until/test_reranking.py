"""`RerankStable` stops when the best matches of a reranker are settled, in blocking and asynchronous sessions."""

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextk.errors import ClientError
from nextk.sessions import Limits
from nextk.until import Accepted, DistinctBy, MaxResults, MinScore, Ranking, RerankStable
from tests.support.rerank_oracle import ranked, settled
from tests.support.searches import ROWS, SHAPES, Bench, open_async_session, open_session, run

moderate = settings(deadline=None, max_examples=60)
BENCH = Bench.build(SHAPES["dense"])
ORDER = run(open_session(BENCH.index, BENCH.shape.question)).ids
FREE = {"guards": Limits()}


@pytest.fixture
def bench() -> Any:
    """Yield an index of 30 records, and check afterwards that it holds no open query."""
    yield BENCH
    assert 0 == BENCH.engine.open_queries()


def search_of(bench: Bench, **options: Any) -> Any:
    """Open a session over the index, without guards; its items are ids."""
    return open_session(bench.index, bench.shape.question, **{**FREE, **options})


class Scorer:
    """A reranker of ids that knows the score of each, and records its batches."""

    def __init__(self, scores: dict[str, float]) -> None:
        self.scores = scores
        self.batches: list[list[str]] = []

    def __call__(self, ids: list[str]) -> list[float]:
        """Return the scores of ids."""
        self.batches.append(list(ids))
        return [self.scores[id_] for id_ in ids]

    async def awaited(self, ids: list[str]) -> list[float]:
        """Return the scores of ids, as a coroutine."""
        await asyncio.sleep(0)
        return self(ids)


def falling(ids: Sequence[str]) -> dict[str, float]:
    """Return scores that agree with the order of the search."""
    return {id_: float(-position) for position, id_ in enumerate(ids)}


scores_of_ids = st.lists(st.integers(0, 12).map(float), min_size=ROWS, max_size=ROWS).map(
    lambda scores: dict(zip(ORDER, scores, strict=True))
)


class TestStop:
    """When a call stops, and what has been reranked by then."""

    @moderate
    @given(
        scores=scores_of_ids,
        denied=st.sets(st.sampled_from(ORDER)),
        n=st.integers(1, 6),
        patience=st.integers(1, 3),
        window=st.integers(1, 8),
        turned=st.booleans(),
    )
    def test_oracle(
        self, scores: dict[str, float], denied: set[str], n: int, patience: int, window: int, turned: bool
    ) -> None:
        """The call ends at the first window after which the best n have settled, and ranks as reranking all would."""
        scorer = Scorer(scores)
        ranking = Ranking(scorer)
        policy = RerankStable(n, ranking, patience=patience, window=window)
        check = Accepted(10**6, lambda ids: [id_ not in denied for id_ in ids])
        permitted = [id_ for id_ in ORDER if id_ not in denied]
        with search_of(BENCH) as search:
            rows = search.fetch_until(check | policy if turned else policy | check)
            reason, exhausted = search.report.stop_reason, search.exhausted
        end = settled(scores, permitted, n, patience, window)
        assert permitted[:end] == rows
        assert ("exhausted" if end is None else "rerank_stable") == reason
        assert end is not None or exhausted
        assert rows == [id_ for batch in scorer.batches for id_ in batch]  # each once, and none that was denied
        assert ranked(scores, rows) == ranking.best(rows)
        assert ranked(scores, rows)[:n] == ranking.best(rows, n)
        assert max(map(len, scorer.batches), default=0) <= window
        assert 0 == BENCH.engine.open_queries()

    def test_as_soon_as_possible(self, bench: Bench) -> None:
        """If the reranker agrees with the search, one window and `patience` more are reranked."""
        scorer = Scorer(falling(ORDER))
        with search_of(bench) as search:
            rows = search.fetch_until(RerankStable(3, scorer, patience=2, window=5))
        assert ORDER[:15] == rows
        assert [5, 5, 5] == list(map(len, scorer.batches))

    def test_a_late_best_row(self, bench: Bench) -> None:
        """A late match that is among the best starts the patience again."""
        scorer = Scorer({**falling(ORDER), ORDER[8]: 1.0})
        with search_of(bench) as search:
            assert ORDER[:20] == search.fetch_until(RerankStable(3, scorer, patience=2, window=5))

    def test_a_bound_ends_it_within_a_window(self, bench: Bench) -> None:
        """If another policy stops in the middle of a window, every returned match has been reranked."""
        scorer = Scorer(falling(ORDER))
        ranking = Ranking(scorer)
        with search_of(bench) as search:
            rows = search.fetch_until(RerankStable(3, ranking, window=20) | MaxResults(7))
        assert ORDER[:7] == rows == ranking.best(rows)
        assert [-float(position) for position in range(7)] == [ranking.score(row) for row in rows]

    def test_a_guard_ends_it(self, bench: Bench) -> None:
        """If a guard stops in the middle of a window, every returned match has been reranked."""
        scorer = Scorer(falling(ORDER))
        ranking = Ranking(scorer)
        with search_of(bench, guards=Limits(max_results=13)) as search:
            rows = search.fetch_until(RerankStable(3, ranking, window=10, patience=9))
            assert "max_results" == search.report.stop_reason
        assert ORDER[:13] == ranking.best(rows)

    def test_only_rows_that_are_kept(self, bench: Bench) -> None:
        """The reranker is not called with matches that another policy drops."""
        scorer = Scorer(falling(ORDER))
        least = bench.index.query(vector=bench.shape.question.vector, top_k=12)[-1].score
        keys = DistinctBy(lambda id_: int(id_[1:]) % 10, 10**6)
        with search_of(bench) as search:
            rows = search.fetch_until(RerankStable(9, scorer, window=4) | keys | MinScore(least))
        assert rows == [id_ for batch in scorer.batches for id_ in batch]
        assert len(rows) < 12 <= search.report.pulled


class TestOfASearch:
    """`RerankStable` as the search's own policy."""

    def test_it_remembers(self, bench: Bench) -> None:
        """The next call goes on from the best matches of the one before, also after a cursor went through JSON."""
        policy = RerankStable(3, Scorer(falling(ORDER)), patience=2, window=5)
        with search_of(bench, until=policy) as search:
            assert ORDER[:15] == search.fetch_until()
            cursor = json.loads(json.dumps(search.cursor()))
        with search_of(bench, until=policy, cursor=cursor) as search:
            assert ORDER[15:25] == search.fetch_until()  # nothing new: patience alone

    def test_a_bare_fetch_next(self, bench: Bench) -> None:
        """Every match that `fetch_next` returns has been reranked."""
        scorer = Scorer(falling(ORDER))
        with search_of(bench, until=RerankStable(3, scorer)) as search:
            rows = search.fetch_next(4)
        assert ORDER[:4] == rows == [id_ for batch in scorer.batches for id_ in batch]


class TestColours:
    """Blocking and asynchronous sessions."""

    @pytest.mark.parametrize("remembering", [False, True])
    @pytest.mark.parametrize("blocking", [False, True])
    async def test_asynchronously(self, bench: Bench, blocking: bool, remembering: bool) -> None:
        """An asynchronous search takes a coroutine function or a blocking one, with the same result."""
        scorer = Scorer({**falling(ORDER), ORDER[8]: 1.0})
        given: Any = scorer if blocking else scorer.awaited
        ranking = Ranking(given)
        policy = RerankStable(3, ranking if remembering else given, window=5)
        async with open_async_session(bench.index.to_async(), bench.shape.question) as search:
            rows = await search.fetch_until(policy)
        assert ORDER[:20] == rows
        if remembering:
            assert [ORDER[8], ORDER[0]] == ranking.best(rows, 2)

    @pytest.mark.parametrize("wrap", [lambda rerank: rerank, Ranking])
    def test_a_coroutine_in_a_blocking_search(self, bench: Bench, wrap: Callable[[Any], Any]) -> None:
        """A blocking search refuses a coroutine function, and no match is lost."""
        with search_of(bench) as search:
            with pytest.raises(ClientError, match="awaited"):
                search.fetch_until(RerankStable(3, wrap(Scorer(falling(ORDER)).awaited)))
            assert ORDER == search.fetch_next(ROWS)


BAD: list[Any] = [
    None,
    3.0,
    "ab",
    {0: 1.0, 1: 2.0},
    {0.1, 0.2},
    [0.1],
    [0.1, 0.2, 0.3],
    [0.1, None],
    [0.1, "0.2"],
    [0.1, True],
    [0.1, math.nan],
    [0.1, math.inf],
    [0.1, 1j],
    [0.1, 10**400],
    [[0.1], [0.2]],
    np.ones((2, 1)),
]


class TestBadInput:
    """Errors say what is wrong, and no match is lost."""

    @pytest.mark.parametrize("answer", BAD, ids=repr)
    def test_answers(self, bench: Bench, answer: Any) -> None:
        """An answer that is not one finite number for each match ends the call, which has decided nothing."""
        with search_of(bench) as search:
            with pytest.raises(ClientError, match="reranker returned"):
                search.fetch_until(RerankStable(1, lambda _: answer, window=2))
            assert ORDER == search.fetch_next(ROWS)

    def test_numbers_of_numpy(self, bench: Bench) -> None:
        """A numpy array of numbers is a valid answer."""
        with search_of(bench) as search:
            rows = search.fetch_until(RerankStable(1, lambda ids: np.zeros(len(ids), np.float32), window=2))
        assert ORDER[:6] == rows

    @pytest.mark.parametrize("fatal", [1, 2, 3])
    def test_a_reranker_that_raises(self, bench: Bench, fatal: int) -> None:
        """The reranker's exception comes unchanged, at any window, and the next call starts where this one did."""
        scorer = Scorer({**falling(ORDER), ORDER[8]: 1.0})

        def failing(ids: list[str]) -> list[float]:
            if len(scorer.batches) + 1 == fatal:
                raise ZeroDivisionError
            return scorer(ids)

        with search_of(bench, until=RerankStable(3, failing, window=5)) as search:
            with pytest.raises(ZeroDivisionError):
                search.fetch_until()
            assert (0, 0) == (search.report.kept, len(search.report.dropped))
            fatal = 0
            assert ORDER[:20] == search.fetch_until()

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            ({"n": 0}, "n=0"),
            ({"n": True}, "n=True"),
            ({"patience": 0}, "patience=0"),
            ({"window": 1.5}, "window=1.5"),
            ({"rerank": "model"}, "rerank='model'"),
        ],
    )
    def test_parameters(self, arguments: dict[str, Any], named: str) -> None:
        """Impossible parameters are refused by name."""
        with pytest.raises(ClientError, match=named):
            RerankStable(**{"n": 1, "rerank": len, **arguments})

    def test_rankings(self) -> None:
        """A ranking ranks the items that it has scored, and refuses others."""
        ranking: Ranking[Any] = Ranking(lambda items: [0.5 for _ in items])
        first, second = ["a"], ["a"]  # equal, but not the same
        ranking([first])
        assert [first] == ranking.best([first])
        with pytest.raises(ClientError, match="was not scored"):
            ranking.best([first, second])
        with pytest.raises(ClientError, match="n=0"):
            ranking.best([first], 0)
        with pytest.raises(ClientError, match="cannot be called"):
            Ranking(None)  # type: ignore[arg-type]

    def test_values(self) -> None:
        """Policies of equal parameters are equal, and have the name of their class."""
        assert RerankStable(3, len) == RerankStable(3, len)  # type: ignore[arg-type]
        assert RerankStable(3, len) != RerankStable(3, len, patience=3)  # type: ignore[arg-type]
        assert "rerank_stable" == RerankStable(3, len).name  # type: ignore[arg-type]
