"""A namespace as a dict and an open query as a list: what an index should hold, and what its pages may be."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tests.support import engine_oracle
from tests.support.small_arrays import COMPACT_FROM

Scored: TypeAlias = list[tuple[str, float]]

APPROXIMATION = 1e-5
"""How far the score by which a record is ranked may lie from its exact score, relative to 1 or to the larger score.

This concerns only a record that was written again after the start of a query, and whose former vector may have been
dropped by a compaction since.
"""

ONE_SHOT_DEPTH = 100
"""The candidates that a plain query of batch order fuses from each ranking, at least."""


@dataclass(frozen=True)
class Content:
    """What one write stores.

    Attributes:
        vector: The dense vector, or `None` if the index has none.
        entries: The sparse vector, or `None` if the index has none.
        group: The metadata, by which filters select.
        data: The text, which differs from write to write.
    """

    vector: list[float] | None
    entries: list[tuple[int, float]] | None
    group: str
    data: str

    def body(self, id_: str) -> dict[str, Any]:
        """The record as JSON has it."""
        body: dict[str, Any] = {"id": id_, "metadata": {"group": self.group}, "data": self.data}
        if self.vector is not None:
            body["vector"] = self.vector
        if self.entries is not None:
            body["sparseVector"] = wire(self.entries)
        return body


@dataclass(eq=False)
class Held:
    """A record from its first insertion to its deletion; another one with the same id is another object.

    Attributes:
        id: The id.
        position: The number of records of the namespace that were inserted before it.
        content: What the last write has stored.
        writes: The number of times it was written.
    """

    id: str
    position: int
    content: Content
    writes: int = 1


@dataclass(eq=False)
class Namespace:
    """The records of a namespace by id.

    Attributes:
        records: The records.
        inserted: The number of insertions so far.
        superseded: The number of versions of records that were replaced or deleted so far.
    """

    records: dict[str, Held] = field(default_factory=dict)
    inserted: int = 0
    superseded: int = 0

    def write(self, id_: str, content: Content) -> None:
        """Insert a record, or replace it at its position."""
        held = self.records.get(id_)
        if held is None:
            self.records[id_] = Held(id_, self.inserted, content)
            self.inserted += 1
        else:
            held.content, held.writes = content, held.writes + 1
            self.superseded += 1

    def delete(self, ids: Sequence[str]) -> int:
        """Delete those of the records that exist. Returns how many these are."""
        gone = [self.records.pop(id_) for id_ in dict.fromkeys(ids) if id_ in self.records]
        self.superseded += len(gone)
        return len(gone)

    def passing(self, group: str | None) -> list[Held]:
        """The records that a filter lets through, by position."""
        passing = (held for held in self.records.values() if group in (None, held.content.group))
        return sorted(passing, key=lambda held: held.position)


@dataclass(frozen=True)
class Question:
    """A search.

    Attributes:
        vector: The dense vector, or `None`.
        entries: The sparse vector, or `None`.
        group: The group that a filter lets through, or `None` without a filter.
        algorithm: The fusion algorithm.
        weighted: Whether the sparse vector is weighted by inverse document frequency.
    """

    vector: list[float] | None
    entries: list[tuple[int, float]] | None
    group: str | None
    algorithm: str
    weighted: bool

    def body(self, top_k: int) -> dict[str, Any]:
        """The query as JSON has it."""
        return {
            "topK": top_k,
            "includeData": True,
            "includeMetadata": True,
            "filter": "" if self.group is None else f"group = '{self.group}'",
            "vector": self.vector,
            "sparseVector": None if self.entries is None else wire(self.entries),
            "fusionAlgorithm": self.algorithm,
            "weightingStrategy": "IDF" if self.weighted else None,
        }

    def legs(self, namespace: Namespace, metric: str) -> list["Ranked"]:
        """The full ranking of each component of the query."""
        held = {each.position: each for each in namespace.passing(self.group)}
        rankings = []
        if self.vector is not None:
            vectors = {position: each.content.vector or [] for position, each in held.items()}
            rankings.append(engine_oracle.dense(metric, self.vector, vectors))
        if self.entries is not None:
            entries = {position: each.content.entries or [] for position, each in held.items()}
            among = {each.position: each.content.entries or [] for each in namespace.records.values()}
            rankings.append(engine_oracle.sparse(self.entries, entries, weighted=self.weighted, among=among))
        return [[(held[position], score) for position, score in ranking] for ranking in rankings]


Ranked: TypeAlias = list[tuple[Held, float]]
"""Records, best first, with their scores."""


def wire(entries: Sequence[tuple[int, float]]) -> dict[str, list[Any]]:
    """A sparse vector as JSON has it."""
    return {"indices": [index for index, _ in entries], "values": [value for _, value in entries]}


def positions(ranking: Ranked) -> engine_oracle.Ranking:
    """A ranking with positions in the place of records."""
    return [(held.position, score) for held, score in ranking]


def names(records: Iterable[Held]) -> list[str]:
    """The ids of records."""
    return [held.id for held in records]


class Visibility:
    """Which records an open query may serve, and which of them it may rank by an estimate.

    Args:
        namespace: The namespace that is searched, as it is at the start of the query.
        group: The group that the filter of the query lets through, or `None` without a filter.
    """

    def __init__(self, namespace: Namespace, group: str | None) -> None:
        self._namespace = namespace
        self._group = group
        self._writes = {held: held.writes for held in namespace.records.values()}

    def visible(self, held: Held) -> bool:
        """Return whether a record still exists and still passes the filter."""
        return self._namespace.records.get(held.id) is held and self._group in (None, held.content.group)

    def estimated(self, held: Held) -> bool:
        """Return whether a record was written since the start of the query, and a compaction may have come since."""
        return self._namespace.superseded >= COMPACT_FROM and held.writes > self._writes[held]


class FixedOrder:
    """The pages of a query whose order is fixed at its start: a dense, a sparse or a globally fused one.

    A page has the records that come next in the order, are still there and still pass the filter. Those that were
    passed over because they did not are not served later. A record that the engine may rank by an estimate stands near
    its place; all others stand in their exact order.

    Args:
        ranking: The records with their scores at the start.
        visibility: Which records may be served.
        rescored: Whether the engine reads vectors again when it puts records in order.
    """

    def __init__(self, ranking: Ranked, visibility: Visibility, *, rescored: bool) -> None:
        self._left = {held: (place, score) for place, (held, score) in enumerate(ranking)}
        self._visibility = visibility
        self._rescored = rescored
        self._perhaps: set[Held] = set()  # hidden at a page that may have passed them, so they may still come or not

    def best(self, count: int) -> Scored:
        """Return the page of a plain query for `count` matches at the start."""
        return [(held.id, score) for held, (_, score) in self._left.items()][:count]

    def require(self, page: Scored, count: int) -> None:
        """Raise `AssertionError` unless `page` is the next page of a request for `count` matches."""
        visible = {held.id: held for held in self._left if self._visibility.visible(held)}
        require_distinct(page, visible)
        served = [visible[id_] for id_, _ in page]
        behind = [held for held in visible.values() if held not in served and held not in self._perhaps]
        assert len(page) == count or (len(page) < count and not behind), f"{page} leaves out {names(behind)}"
        for held, (_, shown) in zip(served, page, strict=True):
            score = self._left[held][1]
            assert abs(shown - score) <= self._slack(held), f"{held.id} has the score {shown} instead of {score}"
        for index, held in enumerate(served):
            late = [other for other in [*served[index + 1 :], *behind] if not self._may_precede(held, other)]
            assert not late, f"{names(late)} should precede {held.id} in {page}"
        self._pass(served, exhausted=len(page) < count)

    def _slack(self, held: Held) -> float:
        """Return how far the score by which a record is ranked may lie from its exact score."""
        estimated = self._rescored and self._visibility.estimated(held)
        return APPROXIMATION * max(1.0, abs(self._left[held][1])) if estimated else 0.0

    def _may_precede(self, held: Held, other: Held) -> bool:
        (place, score), (its_place, its_score) = self._left[held], self._left[other]
        slack = self._slack(held) + self._slack(other)
        return score + slack >= its_score if slack else place < its_place

    def _pass(self, served: list[Held], *, exhausted: bool) -> None:
        """Forget the records of a page, and those that were hidden when their turn came."""
        if exhausted:
            self._left.clear()
        elif served:
            last = served[-1]
            passed = {*served, *(held for held in self._left if not self._may_precede(last, held))}
            left = [held for held in self._left if held not in passed]
            hidden = {held for held in left if not self._visibility.visible(held)}
            self._perhaps |= {held for held in hidden if self._may_precede(held, last)}
            self._left = {held: self._left[held] for held in left}


class BatchOrder:
    """The pages of a hybrid query of which every page fuses its own candidates.

    Once a record may be ranked by an estimate, which moves others as well, only the ids of the pages are checked.

    Args:
        legs: The ranking of each component at the start.
        algorithm: The fusion algorithm.
        visibility: Which records may be served.
    """

    def __init__(self, legs: Sequence[Ranked], algorithm: str, visibility: Visibility) -> None:
        self._legs = [positions(leg) for leg in legs]
        self._algorithm = algorithm
        self._visibility = visibility
        self._left = {held.position: held for leg in legs for held, _ in leg}
        self._taken: list[int] = []
        self._estimated = False
        self._perhaps: set[str] = set()  # hidden at a page that may have passed them, so they may still come or not

    def best(self, count: int) -> Scored:
        """Return the page of a plain query for `count` matches at the start."""
        [page] = engine_oracle.batch_pages(self._legs, self._algorithm, [max(count, ONE_SHOT_DEPTH)])
        return [(self._left[position].id, score) for position, score in page][:count]

    def require(self, page: Scored, count: int) -> None:
        """Raise `AssertionError` unless `page` is the next page of a request for `count` matches."""
        self._estimated |= any(self._visibility.estimated(held) for held in self._left.values())
        if self._estimated:
            self._require_ids(page, count)
        else:
            expected = self._next(count)
            assert expected == page, f"{page} is not {expected}"

    def _next(self, count: int) -> Scored:
        """Fuse page after page of what is missing, as long as some of the records are hidden."""
        page: Scored = []
        while len(page) < count:
            self._taken.append(count - len(page))
            fused = engine_oracle.batch_pages(self._legs, self._algorithm, self._taken)[-1]
            if not fused:
                break
            taken = [(self._left.pop(position), score) for position, score in fused]
            page += [(held.id, score) for held, score in taken if self._visibility.visible(held)]
        return page

    def _require_ids(self, page: Scored, count: int) -> None:
        visible = {held.id: held for held in self._left.values() if self._visibility.visible(held)}
        require_distinct(page, visible)
        served = {visible[id_] for id_, _ in page}
        behind = visible.keys() - self._perhaps - set(names(served))
        assert len(page) == count or (len(page) < count and not behind), f"{page} leaves out {behind}"
        self._left = {position: held for position, held in self._left.items() if held not in served}
        self._perhaps |= {held.id for held in self._left.values()} - visible.keys()


def require_distinct(page: Scored, allowed: Mapping[str, Held]) -> None:
    """Raise `AssertionError` if a page has an id twice, or one that is not allowed."""
    ids = [id_ for id_, _ in page]
    assert len(set(ids)) == len(ids), f"{ids} has an id twice"
    assert set(ids) <= allowed.keys(), f"{ids} has others than {list(allowed)}"


def fixed_at_start(namespace: Namespace, question: Question, metric: str, fusion_order: str) -> FixedOrder | BatchOrder:
    """Return the order that a search of a namespace has if it starts now."""
    legs, visibility = question.legs(namespace, metric), Visibility(namespace, question.group)
    if len(legs) == 1:
        return FixedOrder(legs[0], visibility, rescored=question.vector is not None)
    if fusion_order == "batch":
        return BatchOrder(legs, question.algorithm, visibility)
    held = {each.position: each for leg in legs for each, _ in leg}
    fused = engine_oracle.global_order([positions(leg) for leg in legs], question.algorithm)
    return FixedOrder([(held[position], score) for position, score in fused], visibility, rescored=False)
