"""One search, from its first pull to its end: legs, the rows that wait, and what is said of it all. No I/O.

    pull ──> rows wait ──> a call decides them: kept, dropped, or set aside for the next call

A call is a generator of steps; a session, in its own colour, does what each asks for and sends the answer in.
"""

import itertools
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from nextk.errors import ClientError, LimitReached
from nextk.payloads import plain_list
from nextk.requests import MAX_ROWS
from nextk.retrieval.cursor import Position, fingerprint, leg_data, scope_of
from nextk.retrieval.panel import NOBODY, Panel
from nextk.retrieval.question import Question, RetrievalMode, choose
from nextk.retrieval.report import Leg, Report
from nextk.retrieval.run import NO_TEXT, Origin, Reading, Row, Run
from nextk.retrieval.steps import Abandon, Ask, Describe, Steps
from nextk.retrieval.terms import UNBOUNDED, Terms, require_size
from nextk.retrieval.trail import Trail
from nextk.types import QueryResult, SparseVector
from nextk.until.counting import MaxResults
from nextk.until.policy import Policy, require_policy

log = logging.getLogger("nextk.retrieval")

T = TypeVar("T")


class Search(Generic[T]):
    """Where one search stands, and what it does next.

    Args:
        blank: The question; its text or vectors may be left to `Ask`.
        reading: How rows are read.
        query: The question as the caller put it, for cursors.
        terms: Policy, bounds, and what a fault may cost.
        position: Where to go on; `None` to begin.
    """

    def __init__(
        self, blank: Question, reading: Reading[T], query: Sequence[str], terms: Terms, position: Position | None = None
    ) -> None:
        self.query = list(query)
        self.blank = blank
        self.question = blank if blank.complete else None
        self._reading = reading
        self._terms = terms
        self._unbounded = terms.limits == UNBOUNDED
        self._seen: set[str] = set()
        self._earlier: list[Leg] = []
        self._leg = Leg(retrieval_mode=blank.mode)
        self._kept = [0]  # of each leg
        self._origin: Origin | None = None  # of the present leg, once it has brought a row
        self._fused: bool | None = None
        self._dropped: Counter[str] = Counter()
        self._rows: list[Row] = []  # not decided; those that were set aside come first
        self._set_aside = 0
        self._memories: list[dict[str, Any]] = []
        self._stop_reason: str | None = None
        self._began: float | None = None
        self._base = Report()  # what earlier legs, or whoever made the cursor, saw
        self._trail = Trail(terms.max_recovery, self._seen)
        self._decided_earlier: list[str] = []
        if position is not None:
            self._restore(position)

    def _restore(self, position: Position) -> None:
        *self._earlier, self._leg = position.reports()
        asked = position.question(self.blank)
        self.question = asked if asked.complete else None
        self.blank = replace(self.blank, mode=asked.mode)
        self._kept = [leg.kept for leg in (*self._earlier, self._leg)]
        self._origin = None if position.best is None else Origin(len(self._earlier), position.best)
        self._dropped = Counter(position.dropped)
        self._memories = position.memories
        self._base = Report(recovered=position.recovered, changed=position.changed, complete=position.complete)
        self._decided_earlier = position.earlier
        waiting = set(position.waiting)
        self._seen.update(position.earlier)
        self._seen.update(id_ for _, ids in position.pulls for id_ in ids if id_ not in waiting)
        self._trail = Trail(self._terms.max_recovery, self._seen, position.pulls)
        self._trail.pulled, self._trail.repeated = self._leg.pulled, self._leg.repeated
        if waiting:
            self._trail.exhausted = False  # they are to be pulled again

    def attach(self, rows: list[Row], set_aside: int) -> None:
        """Go on with a query that is still open, and with the rows that wait."""
        self._trail.attach()
        self._rows, self._set_aside = rows, set_aside
        self._seen.update(match.id for match, _ in rows)

    def lose(self) -> None:
        """The open query, if there is one, is not ours any more."""
        self._trail.lose()

    @property
    def rows(self) -> tuple[list[Row], int]:
        """What waits, and how many of it were set aside."""
        return self._rows, self._set_aside

    @property
    def over(self) -> bool:
        """Whether the index has nothing left for this search."""
        return self._trail.exhausted

    @property
    def exhausted(self) -> bool:
        """Whether an empty page has come, and every row is decided or set aside."""
        return self._trail.exhausted and len(self._rows) == self._set_aside

    @property
    def served(self) -> int:
        """How many rows were handed out."""
        return sum(self._kept)

    @property
    def report(self) -> Report:
        """What the search has done so far."""
        legs = self._legs()
        return Report(
            pulls=sum(leg.pulls for leg in legs),
            pulled=sum(leg.pulled for leg in legs),
            kept=self.served,
            dropped=dict(self._dropped),
            waiting=len(self._rows),
            repeated=sum(leg.repeated for leg in legs),
            recovered=self._base.recovered + self._trail.recovered,
            changed=self._base.changed or self._trail.changed,
            exhausted=self.exhausted,
            complete=self._base.complete and self._trail.complete,
            stop_reason=self._stop_reason,
            legs=legs,
        )

    def _legs(self) -> tuple[Leg, ...]:
        trail = self._trail
        present = replace(self._leg, pulls=len(trail.sizes), pulled=trail.pulled, repeated=trail.repeated)
        return tuple(replace(leg, kept=kept) for leg, kept in zip((*self._earlier, present), self._kept, strict=True))

    def fetching(self, count: int) -> Steps[list[T]]:
        """The next so many rows; fewer at the end or at a bound, none after the end.

        Raises:
            ClientError: The number is below 1.
            LimitReached: A bound of the search leaves nothing to hand out.
        """
        require_size(count)
        run = self._run(None, count)
        kept = yield from self._gather(run, None)
        if not kept and not self.exhausted:
            message = f"{self._stop_reason} is reached, a bound that was set when this search was opened"
            raise LimitReached(message)
        return kept

    def fetching_until(self, policy: Policy | None) -> Steps[list[T]]:
        """Rows until a policy has enough, or a guard ends it.

        Raises:
            ClientError: There is no policy, or it cannot judge this search.
        """
        driving = self._terms.until if policy is None else require_policy(policy, "policy")
        if driving is None:
            message = "fetch_until() needs a policy: pass one, or open the search with until="
            raise ClientError(message)
        return (yield from self._gather(self._run(driving, None), driving))

    def _run(self, driving: Policy | None, wanted: int | None) -> Run[T]:
        terms = self._terms
        most = None if driving is None else terms.guards.max_results
        if terms.limits.max_results is not None:
            left = terms.limits.max_results - self.served
            most = left if most is None else min(most, left)
        judged = terms.until is not None or driving is not None
        panel = Panel(terms.until, driving, self._memories) if judged else NOBODY
        return Run(self._rows, self._reading, panel, wanted, most)

    def _gather(self, run: Run[T], driving: Policy | None) -> Steps[list[T]]:
        began = self._terms.clock()
        self._began = began if self._began is None else self._began
        if run.panel:
            yield from self._refuse_fused(driving)
        while True:
            if not run.panel:
                run.take_all()
            elif not run.looks_further() or self._trail.exhausted or self._spent(run, began, driving):
                yield from run.examine()
            if run.done or (self._trail.exhausted and not run.looks_further()):
                break
            if (bound := self._spent(run, began, driving)) is not None:
                run.stop_reason = bound
                break
            run.pulls += 1
            yield from self._pull(run.next_size(), driving)
        if self._trail.exhausted:
            yield Abandon()  # before anything is decided: whoever is interrupted here gets the rows next time
        return self._commit(run)

    def _pull(self, size: int, driving: Policy | None) -> Steps[None]:
        if self.question is None:
            yield from self._ask()
        most = MAX_ROWS if self._trail.sizes else self._room(driving)
        fresh: list[QueryResult] = yield from self._trail.pull(size, most)
        if fresh:
            self._origin = self._origin or Origin(len(self._earlier), fresh[0].score)
            self._rows += zip(fresh, itertools.repeat(self._origin), strict=False)

    def _room(self, driving: Policy | None) -> int:
        """How many rows to ask for where one page has to do: as many as may be handed out, if none will be dropped."""
        if self._terms.until is not None or (driving is not None and any(map(_drops, driving.leaves()))):
            return MAX_ROWS
        most = self._terms.limits.max_results or (self._terms.guards.max_results if driving else None)
        return min(MAX_ROWS, most or MAX_ROWS)

    def _ask(self) -> Steps[None]:
        if self.question is None:
            self.question = yield Ask(self.blank)

    def _refuse_fused(self, driving: Policy | None) -> Steps[None]:
        """Ranks are no nearness: a policy of scores would drop everything, or nothing, without a sign."""
        policies = [policy for policy in (self._terms.until, driving) if policy is not None]
        leaf = next((leaf for policy in policies for leaf in policy.leaves() if leaf.scores_only), None)
        if leaf is None:
            return
        yield from self._ask()
        assert self.question is not None
        if self._fused is None:
            fused = self.question.fused
            self._fused = (yield Describe()) if fused is None else fused
        if self._fused:
            message = (
                f"{leaf.name} judges by scores, and those of a hybrid search are made of ranks: "
                'search with retrieval_mode="dense" or "sparse", or use another policy'
            )
            raise ClientError(message)

    def _spent(self, run: Run[T], began: float, driving: Policy | None) -> str | None:
        terms = self._terms
        if driving is None and self._unbounded:
            return None
        now = terms.clock()
        if driving is not None:
            bound = terms.guards.spent(results=len(run.kept), pulls=run.pulls, seconds=now - began)
            if bound is not None:
                return bound
        pulls = sum(leg.pulls for leg in self._earlier) + len(self._trail.sizes)
        seconds = now - (began if self._began is None else self._began)
        return terms.limits.spent(results=self.served + len(run.kept), pulls=pulls, seconds=seconds)

    def _commit(self, run: Run[T]) -> list[T]:
        """What a call has decided becomes so."""
        self._rows[: run.place] = run.aside
        self._set_aside = len(run.aside)
        for leg in run.kept_by:
            self._kept[leg] += 1
        if run.dropped:
            self._dropped.update(run.dropped)
        if NO_TEXT in run.dropped:
            log.warning("%d rows hold no text that this retriever can read: they are left out", run.dropped[NO_TEXT])
        if run.panel:
            self._memories = run.panel.memories
        self._stop_reason = run.stop_reason or (None if run.done else "exhausted")
        return run.kept

    def widen(self, mode: RetrievalMode | str | None, filter: str | None) -> None:
        """Go on with the same question in another mode or through another filter.

        Raises:
            ClientError: Neither differs from what it is.
        """
        chosen = choose(RetrievalMode, mode, "retrieval_mode")
        mode = self.blank.mode if chosen is None else chosen
        wider = replace(self.blank, mode=mode, filter=self.blank.filter if filter is None else filter)
        if (wider.mode, wider.filter) == (self.blank.mode, self.blank.filter):
            message = "widen() changes nothing: name another retrieval_mode= or another filter="
            raise ClientError(message)
        report = self.report
        self._base = Report(recovered=report.recovered, changed=report.changed, complete=report.complete)
        undecided = {match.id for match, _ in self._rows}.union(self._owed())
        self._decided_earlier += [id_ for page in self._trail.pages for id_ in page if id_ not in undecided]
        self._earlier = list(report.legs)
        self._leg = Leg(retrieval_mode=wider.mode, began=self.served)
        self._kept.append(0)
        self._trail = Trail(self._terms.max_recovery, self._seen)
        self._origin = self._fused = None
        self.blank = wider
        asked = None if self.question is None else replace(self.question, mode=wider.mode, filter=wider.filter)
        self.question = asked if asked is not None and asked.complete else None

    def _owed(self) -> list[str]:
        """The ids that wait according to the cursor that this search was taken up from, and are not pulled again."""
        return [id_ for page in self._trail.pages for id_ in page if id_ not in self._seen]

    def position(self, index: str) -> Position:
        """Where the search stands, for a cursor.

        Rows of an earlier leg that still wait are not in it: the present leg brings those that it finds.
        """
        present = len(self._earlier)
        report = self.report
        asked = self.question or self.blank
        vector, sparse = asked.vector, asked.sparse_vector
        return Position(
            version=1,
            index=fingerprint(index),
            scope=scope_of(self.blank),
            query=self.query,
            data=asked.data,
            vector=None if vector is None else plain_list(vector, "vector"),
            sparse=None if sparse is None else _plain(sparse),
            legs=[leg_data(leg) for leg in report.legs],
            pulls=list(zip(self._trail.sizes, self._trail.pages, strict=True)),
            waiting=[match.id for match, origin in self._rows if origin.leg == present] + self._owed(),
            earlier=self._decided_earlier,
            best=None if self._origin is None else self._origin.best,
            dropped=dict(report.dropped),
            recovered=report.recovered,
            changed=report.changed,
            complete=report.complete,
            memories=self._memories,
        )

    @property
    def portable(self) -> bool:
        """Whether a cursor holds every row that waits."""
        return all(origin.leg == len(self._earlier) for _, origin in self._rows)


def _plain(vector: SparseVector) -> tuple[list[int], list[float]]:
    return plain_list(vector.indices, "indices"), plain_list(vector.values, "values")


def _drops(leaf: Policy) -> bool:
    return not isinstance(leaf, MaxResults)
