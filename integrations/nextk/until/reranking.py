"""The policy that stops when a reranker's best matches no longer change, and a reranker that remembers its scores."""

import inspect
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

from nextk.arguments import elements_of, require_count, written
from nextk.errors import ClientError
from nextk.until.policy import BatchObserver, Candidate, Policy, PolicyState

T = TypeVar("T")
_Rerank: TypeAlias = Callable[[list[Any]], Iterable[float] | Awaitable[Iterable[float]]]


@dataclass(frozen=True)
class RerankStable(Policy):
    """Keeps every match, and stops when a reranker's best `n` matches have stayed the same for `patience` windows.

    Each match is reranked once, a window of matches at a time. Matches that another policy has dropped or a check has
    denied are never reranked. The call returns all matches in the order of the search. A `Ranking` remembers the
    reranker's scores and gives the matches in the reranker's order:

    ```python
    ranking = Ranking(lambda documents: model.score(question, documents))
    documents = search.fetch_until(RerankStable(10, ranking))
    best = ranking.best(documents, 10)
    ```

    As a search's own policy (`open(until=...)`) it reranks the matches of every call, and remembers the best matches
    from call to call. If the reranker raises, the call ends with that exception and hands out nothing. If it does not
    return one finite number for each match, the call ends with a `ClientError` and hands out nothing.

    Args:
        n: The number of best matches that have to stay the same, at least 1.
        rerank: A function that takes a list of what the retriever returns (`Document`s or nodes) and returns a score
            for each; higher is better. Scores of different lists have to be comparable, and the function has to know
            the question. It may be a coroutine function where the search is asynchronous.
        patience: The number of consecutive windows in which the best matches have to stay the same. Default: 2.
        window: The number of kept matches that make a window. At the end of a page a part of a window may be reranked.
            Default: 20.

    Raises:
        ClientError: `n`, `patience` or `window` is not a whole number of at least 1, or `rerank` cannot be called.
    """

    drops: ClassVar[bool] = False
    n: int
    rerank: _Rerank
    patience: int = 2
    window: int = 20

    def __post_init__(self) -> None:
        require_count(self.n, "n")
        require_count(self.patience, "patience")
        require_count(self.window, "window")
        _require_reranker(self.rerank)

    def new_state(self, memory: dict[str, Any]) -> PolicyState:
        """Make a state that asks the reranker during one call, and begins with the best matches in `memory`."""
        return _RerankStableState(self, memory)


class _RerankStableState(BatchObserver):
    def __init__(self, policy: RerankStable, memory: dict[str, Any]) -> None:
        super().__init__(policy)
        self.first_pull = policy.window
        self.observe = policy.rerank
        self._memory = memory
        self._best: list[tuple[float, str]] = [(score, id_) for score, id_ in memory.get("best", [])]
        self._stability = Stability(policy.patience, self._ids())
        self._scored = 0

    def next_batch(self, *, flush: bool) -> list[Candidate]:
        missing = self.policy.window - self._scored % self.policy.window
        return self.unobserved if flush or len(self.unobserved) == missing else []

    def learn(self, candidates: list[Candidate], answer: Any) -> None:
        self.unobserved = []
        scores = read_scores(answer, len(candidates))
        scored = self._best + [(score, candidate.id) for score, candidate in zip(scores, candidates, strict=True)]
        # The sort is stable: of equal scores, the earlier match comes first.
        self._best = sorted(scored, key=lambda pair: -pair[0])[: self.policy.n]
        self._memory["best"] = [list(pair) for pair in self._best]
        self._scored += len(candidates)
        if self._scored % self.policy.window == 0:
            self._stability.update(self._ids())

    def enough(self) -> bool:
        return self._stability.reached

    def _ids(self) -> list[str]:
        return [id_ for _, id_ in self._best]


class Stability:
    """Counts for how many consecutive windows the best items have stayed the same. Their order does not matter.

    Args:
        patience: The number of consecutive windows in which they have to stay the same.
        best: The best items before the first window; by default none.
    """

    def __init__(self, patience: int, best: Iterable[Hashable] = ()) -> None:
        self._patience = patience
        self._best = Counter(best)
        self._unchanged = 0

    def update(self, best: Iterable[Hashable]) -> None:
        """Compare the best items after a window with those after the window before it.

        Args:
            best: The best items after the window, in any order.
        """
        before, self._best = self._best, Counter(best)
        self._unchanged = self._unchanged + 1 if self._best == before else 0

    @property
    def reached(self) -> bool:
        """Whether the best items have stayed the same for `patience` windows."""
        return self._unchanged >= self._patience


class Ranking(Generic[T]):
    """A reranker that remembers the score of each match. Make one for each question, and pass it as `rerank`.

    It holds references to all matches that it has scored.

    Args:
        rerank: A function that takes a list of matches and returns a score for each; higher is better. It may be a
            coroutine function where the search is asynchronous.

    Raises:
        ClientError: `rerank` cannot be called.
    """

    def __init__(self, rerank: Callable[[list[T]], Iterable[float] | Awaitable[Iterable[float]]]) -> None:
        _require_reranker(rerank)
        self._rerank = rerank
        self._scores: dict[int, tuple[T, float]] = {}  # with the match, so that nothing else gets its number

    def __call__(self, items: list[T]) -> Any:
        """Score matches, and remember the scores.

        Args:
            items: The matches, as the retriever returns them.

        Returns:
            A list of one score for each match; an awaitable of that if `rerank` is a coroutine function.

        Raises:
            ClientError: `rerank` did not return one finite number for each match.
        """
        if inspect.iscoroutinefunction(self._rerank):
            return self._later(items)
        return self._remember(items, self._rerank(list(items)))

    async def _later(self, items: list[T]) -> list[float]:
        answer: Any = self._rerank(list(items))
        return self._remember(items, await answer)

    def _remember(self, items: list[T], answer: object) -> list[float]:
        scores = read_scores(answer, len(items))
        self._scores |= {id(item): (item, score) for item, score in zip(items, scores, strict=True)}
        return scores

    def score(self, item: T) -> float:
        """Return the score of a match.

        Args:
            item: A match that this ranking has scored: the same object, since a copy counts as another match.

        Raises:
            ClientError: This ranking has not scored the match.
        """
        if id(item) not in self._scores:
            message = "a row was not scored by this ranking: give rows that a search with it has returned"
            raise ClientError(message)
        return self._scores[id(item)][1]

    def best(self, items: Iterable[T], n: int | None = None) -> list[T]:
        """Return the best of some matches, best first; of equal scores, the earlier match first.

        Args:
            items: The matches that one or several calls have returned.
            n: The number of matches to return. Default: all of them.

        Raises:
            ClientError: This ranking has not scored one of the matches, or `n` is not a whole number of at least 1.
        """
        if n is not None:
            require_count(n, "n")
        rows = elements_of(items)
        if rows is None:
            message = f"items={written(items)} has to be a list of rows that this ranking has scored"
            raise ClientError(message)
        return sorted(rows, key=lambda item: -self.score(item))[:n]


def read_scores(answer: object, count: int) -> list[float]:
    """Read the answer of a reranker.

    Args:
        answer: What the reranker has returned.
        count: The number of matches that it was given.

    Returns:
        One finite number for each match.

    Raises:
        ClientError: The answer is not one finite number for each match. The message shows no match.
    """
    scores = None if isinstance(answer, str | bytes | dict | set | frozenset) else elements_of(answer)
    if scores is None:
        message = f"the reranker returned {type(answer).__name__}: it has to return a list of scores, one for each row"
        raise ClientError(message)
    if len(scores) != count:
        message = f"the reranker returned {len(scores)} scores for {count} rows: it has to return one for each row"
        raise ClientError(message)
    return [_number(score) for score in scores]


def _number(one: object) -> float:
    try:
        # float() would also read "0.5", and an array of one number.
        odd = isinstance(one, str | bytes | bool) or getattr(one, "ndim", 0) > 0
        number = math.nan if odd else float(one)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        shown = one if isinstance(one, float) else type(one).__name__  # its type alone: it may be a match
        message = f"the reranker returned {shown} as a score: it has to be a finite number"
        raise ClientError(message)
    return number


def _require_reranker(rerank: object) -> None:
    if not callable(rerank):
        message = f"rerank={written(rerank)} cannot be called: give a function from list to list[float]"
        raise ClientError(message)
