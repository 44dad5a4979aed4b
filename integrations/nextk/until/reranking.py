"""Feeding a reranker until its best rows are settled."""

import inspect
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

from nextk.arguments import require_count
from nextk.errors import ClientError
from nextk.until.policy import BatchObserver, Candidate, Policy, PolicyState

T = TypeVar("T")
Rerank: TypeAlias = Callable[[list[Any]], Iterable[float] | Awaitable[Iterable[float]]]


@dataclass(frozen=True)
class RerankStable(Policy):
    """Until the best `n` rows, as a reranker scores them, are the same rows for `patience` windows.

    Rows are reranked as they come, each once, a window at a time and never one that another policy has dropped or that
    a check has denied. All of them are kept, in the order of the search. To have them in the reranker's, remember what
    it said:

    ```python
    ranking = Ranking(lambda documents: model.score(question, documents))
    documents = search.fetch_until(RerankStable(10, ranking))
    best = ranking.best(documents, 10)
    ```

    As a search's own policy (`open(until=...)`) it reranks what any call hands out, and remembers the best rows from
    call to call. A reranker that raises ends the call with its exception, and nothing of it is handed out; so does an
    answer that is not one number for each row.

    Args:
        n: How many of the best rows have to stay.
        rerank: Takes a list of what the retriever returns (`Document`s, nodes) and returns a score for each, higher is
            better and comparable from one list to the next; blocking, or a coroutine function where the search is
            asynchronous. It knows the question by itself.
        patience: For how many windows, one after another, they have to stay.
        window: How many rows that were kept make a window. At the end of a page a part of one may be reranked.

    Raises:
        ClientError: A number is not a whole one of at least 1, or `rerank` cannot be called.
    """

    drops: ClassVar[bool] = False
    n: int
    rerank: Rerank
    patience: int = 2
    window: int = 20

    def __post_init__(self) -> None:
        require_count(self.n, "n")
        require_count(self.patience, "patience")
        require_count(self.window, "window")
        _require_reranker(self.rerank)

    def new_state(self, memory: dict[str, Any]) -> PolicyState:
        """Ask the reranker."""
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
        self._best = sorted(scored, key=lambda one: -one[0])[: self.policy.n]  # of equals, the search's better one
        self._memory["best"] = [list(one) for one in self._best]
        self._scored += len(candidates)
        if self._scored % self.policy.window == 0:
            self._stability.update(self._ids())

    def enough(self) -> bool:
        return self._stability.reached

    def _ids(self) -> list[str]:
        return [id_ for _, id_ in self._best]


class Stability:
    """Whether the best of what is reranked have stayed the same, in whatever order.

    Args:
        patience: For how many windows they have to.
        best: Those of before the first window.
    """

    def __init__(self, patience: int, best: Iterable[Hashable] = ()) -> None:
        self._patience = patience
        self._best = Counter(best)
        self._unchanged = 0

    def update(self, best: Iterable[Hashable]) -> None:
        """Compare the best after a window with those after the one before."""
        before, self._best = self._best, Counter(best)
        self._unchanged = self._unchanged + 1 if self._best == before else 0

    @property
    def reached(self) -> bool:
        """Whether they have stayed for long enough."""
        return self._unchanged >= self._patience


class Ranking(Generic[T]):
    """A reranker that remembers what it said of each row; made for one question, and used in its place.

    It holds on to the rows that it has scored.

    Args:
        rerank: As for `RerankStable`.

    Raises:
        ClientError: `rerank` cannot be called.
    """

    def __init__(self, rerank: Callable[[list[T]], Iterable[float] | Awaitable[Iterable[float]]]) -> None:
        _require_reranker(rerank)
        self._rerank = rerank
        self._scores: dict[int, tuple[T, float]] = {}  # with the row, so that nothing else gets its number

    def __call__(self, items: list[T]) -> Any:
        """Score rows; the answer of a coroutine function has to be awaited.

        Raises:
            ClientError: It is not one number for each row.
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

    def score(self, row: T) -> float:
        """What it said of a row.

        Raises:
            ClientError: It was not asked about this one. Rows are known by identity: a copy is another row.
        """
        if id(row) not in self._scores:
            message = "a row was not scored by this ranking: give rows that a search with it has returned"
            raise ClientError(message)
        return self._scores[id(row)][1]

    def best(self, rows: Iterable[T], n: int | None = None) -> list[T]:
        """The best of some rows, best first; of equals, the earlier one.

        Args:
            rows: What one or several calls have returned.
            n: How many; absent: all of them.

        Raises:
            ClientError: One of them was not scored, or `n` is not a whole number of at least 1.
        """
        if n is not None:
            require_count(n, "n")
        return sorted(rows, key=lambda row: -self.score(row))[:n]


def read_scores(answer: object, count: int) -> list[float]:
    """What a reranker said of `count` rows.

    Raises:
        ClientError: It is not one finite number for each.
    """
    if isinstance(answer, str | bytes | dict | set | frozenset) or not isinstance(answer, Iterable):
        message = f"the reranker returned {type(answer).__name__}: it has to return a list of scores, one for each row"
        raise ClientError(message)
    said = list(answer)
    if len(said) != count:
        message = f"the reranker returned {len(said)} scores for {count} rows: it has to return one for each row"
        raise ClientError(message)
    return [_number(one) for one in said]


def _number(one: object) -> float:
    try:
        # float() would also read "0.5", and an array of one number.
        odd = isinstance(one, str | bytes | bool) or getattr(one, "ndim", 0) > 0
        number = math.nan if odd else float(one)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        said = one if isinstance(one, float) else type(one).__name__  # its type alone: it may be a row
        message = f"the reranker returned {said} as a score: it has to be a finite number"
        raise ClientError(message)
    return number


def _require_reranker(rerank: object) -> None:
    if not callable(rerank):
        message = f"rerank={rerank!r} cannot be called: give a function from list to list[float]"
        raise ClientError(message)
