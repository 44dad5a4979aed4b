"""Sessions under any sequence of pulls, faults and writes: what is promised, checked against a model."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nextk.errors import PageUncertain, QueryNotFound
from nextk.retrieval import RetrievalSession
from nextk.testing import Fault, FaultPlan, Moment, faulty
from searches import DRAIN, ROWS, SHAPES, Bench, ids, open_session

NUMBERS = st.integers(0, ROWS + 9)


class SearchMachine(RuleBasedStateMachine):
    """One search after another over an index that is written to, while things go wrong.

    The model of a search: what it would serve undisturbed, what has been written since it started, what it has served.
    """

    @initialize(name=st.sampled_from(sorted(SHAPES)))
    def build(self, name: str) -> None:
        """An index, and a search that has not started."""
        self.bench = Bench.build(SHAPES[name])
        self.depends_on_sizes = name == "hybrid-batch"
        self.plan = FaultPlan(clock=self.bench.clock, delay=0)
        self.seed = 0
        self.calm_stops = 0  # until so many have been sent, no further one is to fail
        self.open()

    def open(self) -> None:
        """A new search, and an empty model of it."""
        index = faulty(self.bench.index, self.plan)
        self.search: RetrievalSession[str] = open_session(index, self.bench.shape.question)
        self.expected: list[str] | None = None
        self.written: set[str] = set()
        self.served: list[str] = []

    @rule(size=st.integers(1, 12))
    def pull(self, size: int) -> None:
        """Rows that were never served; as many as asked for, unless the search is over."""
        if self.expected is None:
            parameters = self.bench.shape.question.parameters()
            self.expected = ids(self.bench.index.query(top_k=1_000, **parameters))
        try:
            rows = self.search.fetch_next(size)
        except (PageUncertain, QueryNotFound):
            return  # several faults in a row; asked again, it goes on
        assert len(rows) == size or (self.search.exhausted and len(rows) < size)
        self.served += rows

    @rule(fault=st.sampled_from(Fault), at=st.sampled_from([Moment.PAGE, Moment.NEXT, Moment.STOP]))
    def go_wrong(self, fault: Fault, at: Moment) -> None:
        """Let the next request fail; of the stops never so many in a row that repeating one does not help."""
        if at is Moment.STOP:
            if self.plan.count(at) < self.calm_stops:
                return
            self.calm_stops = self.plan.count(at) + 2
        self.plan.strike(fault, at)

    @rule()
    def idle(self) -> None:
        """Nobody pulls for a long time."""
        self.bench.clock.pass_max_idle()

    @rule(number=NUMBERS)
    def upsert(self, number: int) -> None:
        """A record is new, or has other vectors."""
        self.seed += 1
        self.bench.index.upsert([self.bench.shape.record(number, self.seed)])
        self.written.add(f"r{number}")

    @rule(number=NUMBERS)
    def delete(self, number: int) -> None:
        """A record is no more."""
        self.bench.index.delete(f"r{number}")
        self.written.add(f"r{number}")

    @precondition(lambda self: self.expected is not None)
    @rule()
    def stop(self) -> None:
        """The search ends, and another one begins."""
        self.search.stop()
        self.search.stop()
        assert self.plan.open <= self.plan.lost
        self.open()

    @invariant()
    def once(self) -> None:
        """No id twice, the report agrees, and an undisturbed order stays."""
        assert len(self.served) == len(set(self.served)) == self.search.report.kept
        if self.expected is not None and not self.written and not self.depends_on_sizes:
            assert self.expected[: len(self.served)] == self.served

    @invariant()
    def complete(self) -> None:
        """Once the search is exhausted, everything was served that was there all the time."""
        if self.search.exhausted:
            assert set(self.expected or ()) - self.written <= set(self.served)
            assert self.plan.open <= self.plan.lost
        if not self.search.report.recovered:
            assert set(self.served) <= set(self.expected or ())

    @invariant()
    def little_is_open(self) -> None:
        """One query at the most, besides those whose start was lost."""
        assert len(self.plan.open - self.plan.lost) <= 1

    def teardown(self) -> None:
        """Asked on, every search ends; then nothing is left open."""
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
        assert 0 == self.bench.open_queries_after_idling()
        self.bench.index.close()


SearchMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
TestSearchMachine = SearchMachine.TestCase
