"""Recovery in any sequence of pulls, faults, writes and resumes, checked against a model of what is promised."""

import json
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nextk.errors import QueryNotFound, TransportError
from nextk.sessions import Cursor, RetrievalSession
from nextk.testing import Fault, FaultPlan, RequestKind, faulty
from nextk.until import Policy, PolicyState
from tests.support.searches import DRAIN, ROWS, SHAPES, Bench, ids, open_session

NUMBERS = st.integers(0, ROWS + 9)


@dataclass(frozen=True)
class One(Policy):
    """Keeps one row of the page that it pulls: the others wait."""

    def new_state(self, memory: dict[str, Any]) -> PolicyState:
        """Begin a call."""
        return _One(self)


class _One(PolicyState):
    def enough(self) -> bool:
        return self.kept == 1


@dataclass(frozen=True)
class Model:
    """What is known of one search.

    Attributes:
        began: How much had been written when it did.
        expected: What it would serve undisturbed; `None` before its first pull.
        served: What it has served.
    """

    began: int
    expected: list[str] | None = None
    served: tuple[str, ...] = ()


class SearchMachine(RuleBasedStateMachine):
    """One search after another over an index that is written to, while things go wrong.

    The model of a search: what it would serve undisturbed, what has been written since it started, what it has served.
    A search that is taken up from a cursor goes on from the model that belongs to the cursor.
    """

    @initialize(name=st.sampled_from(sorted(SHAPES)), numbered=st.booleans())
    def build(self, name: str, *, numbered: bool) -> None:
        """An index, which numbers its pages or does not, and a search that has not started."""
        self.bench = Bench.build(SHAPES[name])
        self.depends_on_sizes = name == "hybrid-batch"
        self.plan = FaultPlan(clock=self.bench.clock, delay=0)
        self.index = faulty(self.bench.index, self.plan, numbered_pages=numbered)
        self.seed = 0
        self.in_pauses: list[tuple[str, int]] = []  # the writes that come between a fault and what follows it
        self.calm_stops = 0  # until so many have been sent, no further one is to fail
        self.log: list[str] = []  # the ids that were written
        self.cursors: list[tuple[Cursor, Model]] = []
        self.parked: set[str] = set()  # the digests under which a query may be parked
        self.open()

    def open(self) -> None:
        """A new search, and an empty model of it."""
        self.search: RetrievalSession[str] = open_session(self.index, self.bench.shape.question, sleep=self.pause)
        self.model = Model(len(self.log))

    def pause(self, _seconds: float) -> None:
        """While the search waits, the index is written to, and its queries may be dropped."""
        while self.in_pauses:
            kind, number = self.in_pauses.pop()
            if kind == "drop":
                self.bench.clock.pass_max_idle()
            elif kind == "upsert":
                self.upsert(number)
            else:
                self.delete(number)

    @property
    def written(self) -> set[str]:
        """What has been written since the search began."""
        return set(self.log[self.model.began :])

    def first_pull(self) -> None:
        """What the search would serve undisturbed is known from its first pull on."""
        if self.model.expected is None:
            parameters = self.bench.shape.question.parameters()
            self.model = replace(self.model, expected=ids(self.bench.index.query(top_k=1_000, **parameters)))

    @rule(size=st.integers(1, 12))
    def pull(self, size: int) -> None:
        """Rows that were never served; as many as asked for, unless the search is over."""
        self.first_pull()
        try:
            rows = self.search.fetch_next(size)
        except (TransportError, QueryNotFound):
            return  # many faults in a row; asked again, it goes on
        assert len(rows) == size or (self.search.exhausted and len(rows) < size)
        self.model = replace(self.model, served=(*self.model.served, *rows))

    @rule()
    def pull_one_of_a_page(self) -> None:
        """One row is handed out, and others wait."""
        self.first_pull()
        try:
            rows = self.search.fetch_until(One())
        except (TransportError, QueryNotFound):
            return
        assert len(rows) == 1 or self.search.exhausted
        self.model = replace(self.model, served=(*self.model.served, *rows))

    @rule(fault=st.sampled_from(Fault), at=st.sampled_from([RequestKind.PAGE, RequestKind.NEXT, RequestKind.STOP]))
    def go_wrong(self, fault: Fault, at: RequestKind) -> None:
        """Let the next request fail; of the stops never so many in a row that repeating one does not help."""
        if at is RequestKind.STOP:
            if self.plan.count(at) < self.calm_stops:
                return
            self.calm_stops = self.plan.count(at) + 2
        self.plan.inject(fault, at)

    @rule(kind=st.sampled_from(["upsert", "delete", "drop"]), number=NUMBERS)
    def write_in_a_pause(self, kind: str, number: int) -> None:
        """Let the index be written to, or drop its queries, when the search next waits."""
        self.in_pauses.append((kind, number))

    @rule()
    def idle(self) -> None:
        """Nobody pulls for a long time."""
        self.bench.clock.pass_max_idle()

    @rule(number=NUMBERS)
    def upsert(self, number: int) -> None:
        """A record is new, or has other vectors."""
        self.seed += 1
        self.bench.index.upsert([self.bench.shape.record(number, self.seed)])
        self.log.append(f"r{number}")

    @rule(number=NUMBERS)
    def delete(self, number: int) -> None:
        """A record is no more."""
        self.bench.index.delete(f"r{number}")
        self.log.append(f"r{number}")

    @precondition(lambda self: self.model.expected is not None)
    @rule()
    def stop(self) -> None:
        """The search ends, and another one begins."""
        self.search.stop()
        self.search.stop()
        self.open()

    @rule()
    def remember(self) -> None:
        """A cursor is kept; the search goes on."""
        self.cursors.append((self.search.cursor(), self.model))

    @precondition(lambda self: self.cursors)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        """The search ends, and one goes on from any earlier cursor, as it comes out of a store."""
        self.search.stop()
        self.take_up(*data.draw(st.sampled_from(self.cursors)))

    @rule(at_once=st.booleans())
    def detach(self, at_once: bool) -> None:
        """The search is detached; it is taken up again at once, or another one begins and it may be later."""
        cursor = self.search.detach()
        self.parked.add(cursor["digest"])
        self.cursors.append((cursor, self.model))
        if at_once:
            self.take_up(cursor, self.model)
        else:
            self.open()

    def take_up(self, cursor: Cursor, model: Model) -> None:
        """Go on from a cursor."""
        stored = json.loads(json.dumps(cursor))
        self.search = open_session(self.index, self.bench.shape.question, cursor=stored, sleep=self.pause)
        self.model = model
        assert cursor == self.search.cursor()

    @invariant()
    def once(self) -> None:
        """No id twice, the report agrees, and an undisturbed order stays."""
        served, expected = self.model.served, self.model.expected
        assert len(served) == len(set(served)) == self.search.report.kept
        if expected is not None and not self.written and not self.depends_on_sizes:
            assert expected[: len(served)] == list(served)
            assert not self.search.report.changed

    @invariant()
    def complete(self) -> None:
        """Once the search is exhausted, everything was served that was there all the time."""
        expected = set(self.model.expected or ())
        if self.search.exhausted:
            assert expected - self.written <= set(self.model.served)
        if not (self.search.report.recovered or self.search.report.recovery.faults):  # a lost start comes later, too
            assert set(self.model.served) <= expected

    @invariant()
    def little_is_open(self) -> None:
        """One query at the most, besides those whose start was lost, that are parked, or are to be stopped next."""
        own = int(not self.search.exhausted)
        orphans = len(self.bench.index._transport.orphans)
        assert self.bench.engine.open_queries() <= own + len(self.plan.lost) + len(self.parked) + orphans

    def teardown(self) -> None:
        """Asked on, every search ends; then nothing is left open but what is parked."""
        if not hasattr(self, "bench"):
            return
        for _ in range(200):
            self.pull(DRAIN)
            self.once()
            if self.search.exhausted:
                break
        assert self.search.exhausted
        self.complete()
        self.search.stop()
        for leave in self.bench.index._transport.closing_hooks:  # as when the index is closed
            leave()
        self.bench.index.info()
        assert self.bench.engine.open_queries() <= len(self.plan.lost)
        assert 0 == self.bench.open_queries_after_idling()
        self.bench.index.close()


SearchMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestSearchMachine = SearchMachine.TestCase
