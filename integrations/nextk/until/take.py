"""Policies over anything: documents, nodes or texts from any iterable, without an index and without a session.

`take` is for rows that come from somewhere else: from a retriever, from a store that pages by itself, from a generator.
It knows LangChain's and LlamaIndex's rows by their attributes, and imports neither. Public by way of `nextk.until`.
"""

import inspect
import math
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from nextk.arguments import iterator_of, require_count, shown
from nextk.errors import ClientError
from nextk.until.decisions import Decisions
from nextk.until.effects import CallCheck, acall_check, adrive, call_check, drive
from nextk.until.policy import Candidate, Policy, require_policy
from nextk.until.policy_set import PolicySet

T = TypeVar("T")

_PAIR = 2
_PAGE = 10
"""The number of items that are observed together if a policy does not say how many it needs."""
_KINDS = "give documents, nodes or texts, or (document, score) tuples"


def take(items: Iterable[T], policy: Policy, *, batch: int = 1) -> list[T]:
    """Return the items that a policy keeps, in their order, until it has enough.

    ```python
    take(store.similarity_search(question, k=100), Accepted(10, check) | TokenBudget(6_000))
    ```

    Items are drawn one by one, and none after the policy has enough. Three kinds of policies need more items at a time:

    - `Accepted` is asked about as many items as are still missing, which are all needed if it permits them. Joined by
      `|` with a policy that stops earlier, it may have been shown items that are then not returned.
    - `RerankStable` draws a window of items at a time.
    - `ScoreGap` looks ahead: it draws its window before it decides about the first item.

    An iterator or generator is left where the policy had enough, and is not closed: taking from it again goes on behind
    the last item that was drawn. Items that did not fit into a `TokenBudget` are left out. An iterable without an end
    is drawn from until the policy has enough, so join a policy that may never have enough with `MaxResults`, or take
    from `itertools.islice`.

    Args:
        items: The items, best first: LangChain `Document`s, LlamaIndex nodes with or without a score, matches of an
            `Index`, texts, or tuples of one of these and its score. Scores are higher for nearer items, as those of
            LangChain's `similarity_search_with_relevance_scores` are; many stores' `similarity_search_with_score`
            returns distances instead. Functions of policies are given the document without its score, and the id of an
            item without one is its position. Items are not compared: one that comes twice is taken twice.
        policy: A policy of `nextk.until`, or several joined with `|` and `&`.
        batch: The number of items that are drawn at a time at least. Larger batches make fewer calls of a check or of a
            reranker, and may draw items that are not needed. Default: 1.

    Returns:
        The items that every policy keeps, as they were given: a tuple stays a tuple. They are all that there are if the
        policy never had enough.

    Raises:
        ClientError: `items` cannot be iterated over, or is one document, text or mapping by itself; an item is of
            another kind; `policy` is not a policy, or compares scores and an item has none; `batch` is not a whole
            number of at least 1; or the function of a policy has to be awaited, or gave no usable answer. Exceptions of
            the iterable and of the functions are raised unchanged. In each case nothing is returned, and items of an
            iterator that were drawn are gone from it.
    """
    iterator = _iterator(items)
    taking = _Taking[T](policy, batch)

    def carry_out(effect: _Draw | CallCheck) -> Any:
        if isinstance(effect, CallCheck):
            return call_check(effect.check, effect.items, "use atake()")
        return list(islice(iterator, effect.count))

    return drive(taking.run(), carry_out)


async def atake(items: Iterable[T] | AsyncIterable[T], policy: Policy, *, batch: int = 1) -> list[T]:
    """Return the items that a policy keeps, in their order, until it has enough; for an event loop.

    It draws, keeps and raises as `take` does. Functions of policies may be coroutine functions; blocking ones run on a
    thread.

    Args:
        items: The items, as `take` describes them, from an iterable or an asynchronous iterable. A blocking iterable is
            drawn from within the event loop. An asynchronous generator is not closed.
        policy: A policy of `nextk.until`, or several joined with `|` and `&`.
        batch: The number of items that are drawn at a time at least. Default: 1.

    Returns:
        The items that every policy keeps, as they were given.

    Raises:
        ClientError: For the reasons given at `take`, except that functions may have to be awaited.
    """
    iterator = aiter(items) if isinstance(items, AsyncIterable) else _iterator(items)
    taking = _Taking[T](policy, batch)

    async def carry_out(effect: _Draw | CallCheck) -> Any:
        if isinstance(effect, CallCheck):
            return await acall_check(effect.check, effect.items)
        if isinstance(iterator, AsyncIterator):
            return await _next_of(iterator, effect.count)
        return list(islice(iterator, effect.count))

    return await adrive(taking.run(), carry_out)


@dataclass(frozen=True, slots=True)
class _Draw:
    """Draw the next `count` items. The answer is a list of them, which is shorter at the end."""

    count: int


class _Taking(Decisions[tuple[Candidate, T], T]):
    """The decisions about the items of one iterable.

    Args:
        policy: The policy.
        batch: The number of items that are drawn at a time at least.
    """

    def __init__(self, policy: Policy, batch: int) -> None:
        require_policy(policy, "policy")
        require_count(batch, "batch")
        policies = PolicySet(None, None, policy, [])
        self._drawn: list[tuple[Candidate, T]] = []
        super().__init__(self._drawn, policies, max(policies.missing(), batch))
        self._needs_scores = next((leaf.name for leaf in policy.leaves() if leaf.scores_only), None)
        self._least = batch
        self._count = 0
        self._best: float | None = None

    def run(self) -> Generator[_Draw | CallCheck, Any, list[T]]:
        """Draw items and decide about them until there are enough, or none is left."""
        ended = False
        while not (ended or self.done):
            count = self._next_count()
            items: list[T] = yield _Draw(count)
            ended = len(items) < count
            self._add(items)
            if ended or not self.needs_lookahead():
                yield from self.examine()
        return self.kept

    def _next_count(self) -> int:
        """Return the number of items to draw: those that are needed for sure, if a function is asked about many."""
        if self.needs_lookahead():
            return self.policies.lookahead - len(self._drawn)
        if self.policies.observers:
            return max(self.policies.first_pull or _PAGE, self._least)
        return max(self.policies.missing(), self._least) if self.policies.checks else self._least

    def _add(self, items: list[T]) -> None:
        """Let items wait for a decision. Those that are decided are forgotten: an iterable may have any number."""
        del self._drawn[: self.position]
        self._denied.clear()
        self.position = self._checked = 0
        for item in items:
            self._drawn.append((self._candidate_of(item), item))
            self._count += 1

    def _candidate_of(self, item: object) -> Candidate:
        """Return an item as policies see it.

        Raises:
            ClientError: It is no item, or has no score although a policy compares scores.
        """
        name = f"items[{self._count}]"
        row, score = _parts_of(item, name)
        if score is None and self._needs_scores is not None:
            message = (
                f"{self._needs_scores} compares scores, and {name} has none: give nodes with scores, or "
                "(document, score) tuples such as similarity_search_with_relevance_scores() returns"
            )
            raise ClientError(message)
        score = math.nan if score is None else score
        self._best = score if self._best is None else self._best
        metadata = getattr(row, "metadata", None)
        return Candidate(
            _id_of(row) or str(self._count),
            score,
            row,
            best_score=self._best,
            metadata=metadata if isinstance(metadata, Mapping) else None,
            text_of=_text_of,
        )

    def _score(self, match: tuple[Candidate, T]) -> float:
        return match[0].score

    def _read(self, position: int) -> Candidate:
        return self._drawn[position][0]

    def _keep(self, position: int, candidate: Candidate) -> None:  # noqa: ARG002
        self.kept.append(self._drawn[position][1])


async def _next_of(iterator: AsyncIterator[T], count: int) -> list[T]:
    """Return the next `count` items of an asynchronous iterator; fewer at its end."""
    items: list[T] = []
    while len(items) < count:
        try:
            items.append(await anext(iterator))
        except StopAsyncIteration:
            break
    return items


def _iterator(items: object) -> Iterator[Any]:
    """Return an iterator over the items of `take`.

    Raises:
        ClientError: They cannot be iterated over by blocking code, or are one item.
    """
    if isinstance(items, AsyncIterable):
        message = f"items={shown(items)} is an asynchronous iterable: use atake()"
        raise ClientError(message)
    one = isinstance(items, str | bytes | Mapping) or _is_row(items)
    iterator = None if one else iterator_of(items)
    if iterator is None:
        if inspect.iscoroutine(items):
            items.close()
        message = f"items={shown(items)} is no list of items, and no other iterable of them: {_KINDS}"
        raise ClientError(message)
    return iterator


def _is_row(item: object) -> bool:
    """Return whether something is a text, a document, a node, or a match of an index."""
    if isinstance(item, str) or isinstance(getattr(item, "page_content", None), str):
        return True
    return callable(getattr(item, "get_content", None)) or (hasattr(item, "data") and hasattr(item, "score"))


def _parts_of(item: object, name: str) -> tuple[object, float | None]:
    """Return the row that an item is, or that it holds, and its score; `None` if it has no score that is a number.

    Raises:
        ClientError: The item is of another kind.
    """
    row, score = item, getattr(item, "score", None)
    if isinstance(item, tuple) and len(item) == _PAIR:
        row, score = item
    if not _is_row(row):
        message = f"{name}={shown(item)} is none of the items that policies know: {_KINDS}"
        raise ClientError(message)
    return row, _number_of(score)


def _number_of(score: object) -> float | None:
    if isinstance(score, str | bytes | bool):
        return None
    try:
        number = float(score)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _id_of(row: object) -> str | None:
    own = getattr(row, "node_id", None) or getattr(row, "id", None)
    return None if own is None else str(own)


def _text_of(row: Any) -> str:
    """Return the text that a row adds to a prompt; that of a node is the one that LlamaIndex shows to a model."""
    if isinstance(row, str):
        return row
    if isinstance(getattr(row, "page_content", None), str):
        return str(row.page_content)
    if not hasattr(row, "get_content"):
        return row.data or ""
    modes = "metadata_mode" in inspect.signature(row.get_content).parameters
    return str(row.get_content(metadata_mode="llm") if modes else row.get_content())
