"""Writes, searches, compactions and reopenings in any order, against a model of plain Python."""

import itertools
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from nextk.bodies import VectorQuery
from nextk.engine.values import Match
from nextk.errors import QueryNotFound, RefusedError
from tests.support.bare_engine import Rig, row
from tests.support.engine_oracle import float32
from tests.support.index_model import (
    BatchOrder,
    Content,
    FixedOrder,
    Held,
    Namespace,
    PoolOrder,
    Question,
    Visibility,
    fixed_at_start,
)
from tests.support.pools import eager_keeping, small_pools
from tests.support.small_arrays import small_arrays

# Few vectors, so that many records have equal scores: equal, scaled, opposite and zero ones, and some of any numbers.
VECTORS: list[list[float]] = [
    [1.0, 2.0, 0.0],
    [2.0, 4.0, 0.0],
    [0.5, 1.0, 0.0],
    [-1.0, -2.0, 0.0],
    [0.0, 0.0, 0.0],
    [0.0, 0.25, 1.0],
    [1.0, 0.0, 0.0],
    [float32(0.1), float32(-0.7), float32(0.3)],
    [float32(0.3), float32(-2.1), float32(0.9)],
    [float32(1e-20), 0.0, float32(1e-20)],
]
ENTRIES: list[list[tuple[int, float]]] = [
    [],
    [(1, 1.0)],
    [(1, 2.0), (2, 0.5)],
    [(2, 0.5), (1, 2.0)],
    [(3, -1.0), (1, float32(0.7))],
    [(2, 1.0), (2, 1.0)],
    [(2, 0.0), (-5, float32(1.3))],
]
GROUPS = ["red", "green", "blue"]
MAX_OPEN_QUERIES = 10_000  # of which one namespace may have half; no sequence opens as many
KINDS: dict[str, dict[str, Any]] = {
    "dense cosine": {"similarity": "cosine"},
    "dense euclidean": {"similarity": "euclidean"},
    "dense dot product": {"similarity": "dot_product"},
    "dense cosine pool": {"similarity": "cosine", "pool_from": 1},
    "dense euclidean pool": {"similarity": "euclidean", "pool_from": 1},
    "dense dot product pool": {"similarity": "dot_product", "pool_from": 1},
    "sparse": {},
    "hybrid global": {"fusion_order": "global"},
    "hybrid batch": {"fusion_order": "batch"},
}

IDS = st.sampled_from(["a", "ab", "abc", "b", "ba", "c", "d"])
ANY_IDS = IDS | st.integers(0, 40).map("n{}".format)
NAMES = st.sampled_from(["", "", "", "x", "y"])
CONTENTS = list(itertools.product(VECTORS, ENTRIES, GROUPS))
PICKS = st.integers(0, len(CONTENTS) - 1)
FEW_RECORDS = st.lists(st.tuples(ANY_IDS, PICKS), min_size=1, max_size=5)
MANY_RECORDS = st.builds(
    lambda first, picks: [(f"n{number}", pick) for number, pick in enumerate(picks, first)],
    st.integers(0, 30),
    st.lists(PICKS, min_size=10, max_size=40),
)
BATCHES = FEW_RECORDS | MANY_RECORDS
SELECTIONS = st.one_of(
    st.builds(lambda ids: {"ids": ids}, st.lists(ANY_IDS, min_size=1, max_size=6)),
    st.builds(lambda prefix: {"prefix": prefix}, st.sampled_from(["a", "ab", "n1", "n", "z"])),
    st.builds(lambda group: {"filter": f"group = '{group}'"}, st.sampled_from(GROUPS)),
)
CHOICES = st.integers(0, 9)
LEGS = st.sampled_from(["both", "both", "dense", "sparse"])
QUESTIONS = st.tuples(
    st.integers(0, len(VECTORS) - 1),
    st.integers(1, len(ENTRIES) - 1),
    st.sampled_from([None, None, *GROUPS]),
    st.sampled_from(["RRF", "DBSF"]),
    st.booleans(),
    LEGS,
)
FEW_QUESTIONS = st.lists(QUESTIONS, min_size=1, max_size=4)
Asked = tuple[int, int, str | None, str, bool, str]


def selects(selection: dict[str, Any], held: Held) -> bool:
    """Return whether a record is deleted by its id, by a prefix of it, or by a filter."""
    if "ids" in selection:
        return held.id in selection["ids"]
    if "prefix" in selection:
        return held.id.startswith(selection["prefix"])
    return bool(selection["filter"] == f"group = '{held.content.group}'")


class IndexMachine(RuleBasedStateMachine):
    """An index on disk against dicts: whatever happens, its searches are those of the model.

    Args:
        kind: One of `KINDS`.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.opened = ExitStack()
        self.type, self.schema = kind.partition(" ")[0], dict(KINDS[kind])
        if self.type != "sparse":
            self.schema["dimension"] = 3

    @initialize(
        block=st.sampled_from([1, 4, 16]),
        batch=MANY_RECORDS,
        questions=FEW_QUESTIONS,
    )
    def begin(self, block: int, batch: list[tuple[str, int]], questions: list[Asked]) -> None:
        """Create an index on disk with small arrays, some records, and some open queries."""
        self.opened.enter_context(small_arrays(block))
        self.opened.enter_context(small_pools(4))
        self.opened.enter_context(eager_keeping())
        self.path = Path(self.opened.enter_context(tempfile.TemporaryDirectory())) / "index"
        self.rig = self.open()
        self.opened.callback(lambda: self.rig.engine.close())
        self.namespaces = {"": Namespace()}
        self.queries: dict[str, tuple[FixedOrder | PoolOrder | BatchOrder, Namespace]] = {}
        self.written = itertools.count()
        self.steps = 0
        self.write("", batch)
        self.start("", questions, 1)

    def open(self, **options: Any) -> Rig:
        """Open the index. It need not survive a crash of the machine, which spares most of the time."""
        rig = Rig(self.type, path=self.path, max_open_queries=MAX_OPEN_QUERIES, **{**self.schema, **options})
        rig.engine._storage._connection.execute("PRAGMA synchronous = OFF")
        return rig

    # Writing

    def content(self, pick: int) -> Content:
        """Return the content of a record that is about to be written."""
        vector, entries, group = CONTENTS[pick % len(CONTENTS)]
        return Content(
            None if self.type == "sparse" else vector,
            None if self.type == "dense" else entries,
            group,
            f"text {next(self.written)}",
        )

    def store(self, name: str, batch: list[tuple[str, Content]]) -> None:
        """Write records on both sides; the last of several with the same id wins."""
        self.rig.upsert(*(content.body(id_) for id_, content in batch), namespace=name)
        namespace = self.namespaces.setdefault(name, Namespace())
        for id_, content in dict(batch).items():
            namespace.write(id_, content)

    @rule(name=NAMES, batch=BATCHES)
    def write(self, name: str, batch: list[tuple[str, int]]) -> None:
        """Write records, new ones or others in their place."""
        self.store(name, [(id_, self.content(pick)) for id_, pick in batch])

    @rule(name=NAMES, id_=ANY_IDS, group=st.sampled_from(GROUPS))
    def update(self, name: str, id_: str, group: str) -> None:
        """Change the metadata of a record; everything else stays, and so does its position."""
        namespace = self.namespaces.get(name, Namespace())
        held = namespace.records.get(id_)
        assert (held is not None) == self.rig.update(namespace=name, id=id_, metadata={"group": group})
        if held is not None:
            former = held.content
            namespace.write(id_, Content(former.vector, former.entries, group, former.data))

    @rule(name=NAMES, first=PICKS, step=st.integers(0, 50))
    def rewrite_all(self, name: str, first: int, step: int) -> None:
        """Write every record three times over, which leaves more versions behind than there are records."""
        ids = list(self.namespaces.get(name, Namespace()).records)
        for turn in range(3) if ids else ():
            picks = itertools.count(first + turn, step)
            self.store(name, [(id_, self.content(pick)) for id_, pick in zip(ids, picks, strict=False)])

    @rule(name=NAMES, selection=SELECTIONS)
    def delete(self, name: str, selection: dict[str, Any]) -> None:
        """Delete records by their ids, by a prefix of them, or by a filter."""
        namespace = self.namespaces.get(name, Namespace())
        gone = [id_ for id_, held in namespace.records.items() if selects(selection, held)]
        assert namespace.delete(gone) == self.rig.delete(namespace=name, **selection)

    @rule(name=NAMES, new=NAMES, replace=st.booleans())
    def rename(self, name: str, new: str, replace: bool) -> None:
        """Rename a namespace; its open queries follow it, and those of one that it replaces end."""
        taken = new in self.namespaces and new != name and not replace
        if not name or not new or name not in self.namespaces or taken:
            with pytest.raises(RefusedError):
                self.rig.engine.rename_namespace(name, new, replace=replace)
            return
        assert (name != new) == self.rig.engine.rename_namespace(name, new, replace=replace)
        if name != new:
            self.namespaces.get(new, Namespace()).records.clear()
            self.namespaces[new] = self.namespaces.pop(name)

    @precondition(lambda self: self.may_end_queries)
    @rule(name=NAMES, way=st.sampled_from(["drop", "reset", "reset all"]))
    def clear(self, name: str, way: str) -> None:
        """Delete a namespace, or the records of one or of all; open queries have no further pages."""
        if way != "drop":
            self.rig.engine.reset(name if way == "reset" else None)
            for each in {name} & self.namespaces.keys() if way == "reset" else self.namespaces:
                self.namespaces[each].records.clear()
        elif name and name in self.namespaces:
            self.rig.engine.delete_namespace(name)
            self.namespaces.pop(name).records.clear()
        else:
            with pytest.raises(RefusedError):
                self.rig.engine.delete_namespace(name)

    # Searching

    def question(self, asked: Asked) -> Question:
        """A search for what the index has."""
        vector, entries, group, algorithm, weighted, legs = asked
        dense = self.type == "dense" or (self.type == "hybrid" and legs != "sparse")
        sparse = self.type == "sparse" or (self.type == "hybrid" and legs != "dense")
        return Question(
            VECTORS[vector] if dense else None,
            ENTRIES[entries] if sparse else None,
            group,
            algorithm,
            weighted and sparse,
        )

    def make_pool(self, name: str) -> None:
        """Search once and wait for the codes, or else it would depend on the time whether a search has a pool."""
        if "pool_from" in self.schema:
            self.rig.query(namespace=name, vector=VECTORS[0], topK=1)
            self.rig.engine._pools.wait()

    def order(self, namespace: Namespace, question: Question) -> FixedOrder | PoolOrder | BatchOrder:
        """The order that a search has from now on."""
        metric, fusion_order = self.schema.get("similarity", "cosine"), self.schema.get("fusion_order", "global")
        if "pool_from" in self.schema:
            [ranking] = question.legs(namespace, metric)
            return PoolOrder(ranking, Visibility(namespace, question.group))
        return fixed_at_start(namespace, question, metric, fusion_order)

    @rule(name=NAMES, asked=QUESTIONS, top_k=st.integers(1, 50))
    def query(self, name: str, asked: Asked, top_k: int) -> None:
        """A plain query has the best matches as they are now."""
        question = self.question(asked)
        self.make_pool(name)
        order = self.order(self.namespaces.get(name, Namespace()), question)
        page = self.rig.query(namespace=name, **question.body(top_k))
        if isinstance(order, PoolOrder):
            order.require(page, top_k)
        else:
            assert order.best(top_k) == page

    @rule(name=NAMES, questions=FEW_QUESTIONS, top_k=st.integers(1, 5))
    def start(self, name: str, questions: list[Asked], top_k: int) -> None:
        """A start fixes the order of a search."""
        for question in map(self.question, questions):
            body = VectorQuery.model_validate(question.body(top_k))
            self.make_pool(name)
            order = self.order(self.namespaces.get(name, Namespace()), question)
            uuid, page = self.rig.engine.start(name, body, 3_600)
            if name in self.namespaces:
                self.queries[uuid] = order, self.namespaces[name]
                self.accept(uuid, page, top_k)
            else:
                assert ("", []) == (uuid, page)

    @precondition(lambda self: self.queries)
    @rule(choice=CHOICES, sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4), to_the_end=st.booleans())
    def fetch_next(self, choice: int, sizes: list[int], to_the_end: bool) -> None:
        """A page continues where the last one ended, and after an empty page there are no more."""
        uuid = self.chosen(choice)
        for size in itertools.cycle(sizes) if to_the_end else sizes:
            page = self.rig.engine.fetch_next(uuid, size)
            self.accept(uuid, page, size)
            if not page:
                assert [] == self.rig.engine.fetch_next(uuid, 50)
                break

    def chosen(self, choice: int) -> str:
        """One of the open queries."""
        return list(self.queries)[choice % len(self.queries)]

    def accept(self, uuid: str, page: list[Match], count: int) -> None:
        """Require that a page is the next one, with the records as they are now."""
        order, namespace = self.queries[uuid]
        order.require([row(match) for match in page], count)
        for match in page:
            content = namespace.records[match.id].content
            assert (content.data, f'{{"group":"{content.group}"}}') == (match.data, match.metadata)

    @precondition(lambda self: self.queries)
    @rule(choice=CHOICES)
    def stop(self, choice: int) -> None:
        """A query that is stopped is unknown from then on."""
        uuid = self.chosen(choice)
        del self.queries[uuid]
        self.rig.engine.stop(uuid)
        self.require_unknown(uuid)

    def require_unknown(self, uuid: str) -> None:
        """Require that a query has ended."""
        with pytest.raises(QueryNotFound):
            self.rig.engine.fetch_next(uuid, 1)
        with pytest.raises(QueryNotFound):
            self.rig.engine.stop(uuid)

    @precondition(lambda self: self.may_end_queries)
    @rule(questions=FEW_QUESTIONS, batch=st.none() | BATCHES)
    def reopen(self, questions: list[Asked], batch: list[tuple[str, int]] | None) -> None:
        """After reopening, all records are there and all queries have ended, whoever has written in the meantime."""
        self.rig.engine.close()
        if batch is not None:
            self.rig = self.open(pool_from=None)  # it knows nothing of the codes that are kept
            self.write("", batch)
            self.rig.engine.close()
        self.rig = self.open()
        for uuid in self.queries:
            self.require_unknown(uuid)
        self.queries.clear()
        self.start("", questions, 1)
        self.steps = 0

    @property
    def may_end_queries(self) -> bool:
        """Whether queries have been open for some steps: to end them all the time would leave little to see."""
        return self.steps > 12

    @invariant()
    def pull(self) -> None:
        """After every step, the next of the open queries yields a page."""
        self.steps += 1
        if self.queries:
            self.fetch_next(self.steps, [1 + self.steps % 3], to_the_end=False)

    @invariant()
    def counts(self) -> None:
        """The numbers of records and of open queries are right."""
        assert len(self.queries) == self.rig.engine.open_queries()
        expected = {name: len(namespace.records) for name, namespace in self.namespaces.items()}
        assert expected == self.rig.engine.stats().counts

    def teardown(self) -> None:
        """Close the index, and remove it."""
        self.opened.close()


@pytest.mark.timeout(600)  # to make a failing sequence short takes minutes
@pytest.mark.parametrize("kind", KINDS)
def test_any_sequence(kind: str) -> None:
    """Whatever is done in whatever order, every answer is that of the model.

    The order of an open query is fixed at its start. Records that are deleted later, or whose metadata no longer pass
    its filter, are left out. Records that are replaced keep their places, and come with their new content. No id comes
    twice, and every record that was left alone comes in its exact place; with a pool, on a page that is sorted.
    """
    few = settings(deadline=None, max_examples=15, stateful_step_count=40)
    run_state_machine_as_test(lambda: IndexMachine(kind), settings=few)  # type: ignore[arg-type]  # any factory will do
