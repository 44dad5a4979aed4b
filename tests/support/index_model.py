"""A namespace as a dict and an open query as a list: what an index should hold, and what its pages may be."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tests.support import engine_oracle

Scored: TypeAlias = list[tuple[str, float]]

ONE_SHOT_DEPTH = 100
"""The candidates that a plain query of batch order fuses from each ranking, at least."""


@dataclass(frozen=True)
class Content:
    """The content of a record, as one write stores it.

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
    """

    id: str
    position: int
    content: Content


@dataclass(eq=False)
class Namespace:
    """The records of a namespace by id.

    Attributes:
        records: The records.
        inserted: The number of insertions so far.
    """

    records: dict[str, Held] = field(default_factory=dict)
    inserted: int = 0

    def write(self, id_: str, content: Content) -> None:
        """Insert a record, or replace it at its position."""
        held = self.records.get(id_)
        if held is None:
            self.records[id_] = Held(id_, self.inserted, content)
            self.inserted += 1
        else:
            held.content = content

    def delete(self, ids: Sequence[str]) -> int:
        """Delete those of the records that exist. Returns how many these are."""
        gone = [self.records.pop(id_) for id_ in dict.fromkeys(ids) if id_ in self.records]
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


class Visibility:
    """Which records an open query may serve.

    Args:
        namespace: The namespace that is searched.
        group: The group that the filter of the query lets through, or `None` without a filter.
    """

    def __init__(self, namespace: Namespace, group: str | None) -> None:
        self._namespace = namespace
        self._group = group

    def visible(self, held: Held) -> bool:
        """Return whether a record still exists and still passes the filter."""
        return self._namespace.records.get(held.id) is held and self._group in (None, held.content.group)


class FixedOrder:
    """The pages of a query whose order is fixed at its start: a dense, a sparse or a globally fused one.

    A page has the records that come next in the order, are still there and still pass the filter. Those that were
    passed over because they did not are not served later.

    Args:
        ranking: The records with their scores at the start.
        visibility: Which records may be served.
    """

    def __init__(self, ranking: Ranked, visibility: Visibility) -> None:
        self._left = ranking
        self._visibility = visibility

    def best(self, count: int) -> Scored:
        """Return the page of a plain query for `count` matches at the start."""
        return [(held.id, score) for held, score in self._left[:count]]

    def require(self, page: Scored, count: int) -> None:
        """Raise `AssertionError` unless `page` is the next page of a request for `count` matches."""
        visible = [place for place, (held, _) in enumerate(self._left) if self._visibility.visible(held)]
        expected = [(self._left[place][0].id, self._left[place][1]) for place in visible[:count]]
        assert expected == page, f"{page} is not {expected}"
        self._left = self._left[visible[count - 1] + 1 :] if len(visible) >= count else []


class PoolOrder:
    """The pages of a dense query that has a pool: each is sorted, and a record that belongs on one may come later.

    A page has fewer records than were requested only if none is left. A record that once was gone, or did not pass the
    filter, may have been passed over.

    Args:
        ranking: The records with their scores at the start.
        visibility: Which records may be served.
    """

    def __init__(self, ranking: Ranked, visibility: Visibility) -> None:
        self._places = {held.id: (-score, held.position) for held, score in ranking}
        self._left = {held.id: held for held, _ in ranking}
        self._passed_over: set[str] = set()
        self._visibility = visibility

    def require(self, page: Scored, count: int) -> None:
        """Raise `AssertionError` unless `page` may be the next page of a request for `count` matches."""
        visible = {id_ for id_, held in self._left.items() if self._visibility.visible(held)}
        self._passed_over |= self._left.keys() - visible
        ids = [id_ for id_, _ in page]
        assert set(ids) <= visible, f"{set(ids) - visible} are gone, or came already"
        assert len(set(ids)) == len(ids)
        assert [(id_, -self._places[id_][0]) for id_ in sorted(ids, key=self._places.__getitem__)] == page
        assert len(page) == count or set(ids) >= visible - self._passed_over
        for id_ in ids:
            del self._left[id_]


class BatchOrder:
    """The pages of a hybrid query of which every page fuses its own candidates.

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

    def best(self, count: int) -> Scored:
        """Return the page of a plain query for `count` matches at the start."""
        [page] = engine_oracle.batch_pages(self._legs, self._algorithm, [max(count, ONE_SHOT_DEPTH)])
        return [(self._left[position].id, score) for position, score in page][:count]

    def require(self, page: Scored, count: int) -> None:
        """Raise `AssertionError` unless `page` is the next page of a request for `count` matches."""
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


def fixed_at_start(namespace: Namespace, question: Question, metric: str, fusion_order: str) -> FixedOrder | BatchOrder:
    """Return the order that a search of a namespace has if it starts now."""
    legs, visibility = question.legs(namespace, metric), Visibility(namespace, question.group)
    if len(legs) == 1:
        return FixedOrder(legs[0], visibility)
    if fusion_order == "batch":
        return BatchOrder(legs, question.algorithm, visibility)
    held = {each.position: each for leg in legs for each, _ in leg}
    fused = engine_oracle.global_order([positions(leg) for leg in legs], question.algorithm)
    return FixedOrder([(held[position], score) for position, score in fused], visibility)
