"""One search, from its first pull to its end: legs, the rows that wait, and what is said of it all. No I/O.

    pull ──> rows wait ──> a call decides them: kept, dropped, or set aside for the next call

A call is a generator of steps; a session, in its own colour, does what each asks for and sends the answer in.
"""

import logging
import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from nextk.errors import ClientError, LimitReached
from nextk.requests import MAX_ROWS
from nextk.retrieval.cursor import Position
from nextk.retrieval.panel import NOBODY, Panel
from nextk.retrieval.question import Question, RetrievalMode, choose
from nextk.retrieval.report import Report
from nextk.retrieval.run import NO_TEXT, Reading, Run
from nextk.retrieval.steps import Abandon, Ask, Describe, Steps
from nextk.retrieval.terms import GUARDS, UNBOUNDED, Terms
from nextk.retrieval.trail import LegState, Row, Trail
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
        self._standing = terms.standing
        self._unbounded = terms.limits == UNBOUNDED
        self._seen: set[str] = set()
        self._rows: list[Row] = []  # not decided; those that were set aside come first
        self._set_aside = 0
        self._dropped: Counter[str] = Counter()
        self._memories: list[dict[str, Any]] = []
        self._stop_reason: str | None = None
        self._began: float | None = None  # seconds, by the clock of the terms
        self._index_fuses: bool | None = None
        self._legs: list[LegState] = []
        if position is None:
            self._add_leg(blank.mode)
        else:
            self._restore(position)

    def _add_leg(self, mode: RetrievalMode | None, began: int = 0) -> LegState:
        trail = Trail(len(self._legs), self._seen, self._rows, self._terms.max_recovery)
        self._legs.append(LegState(mode, began, trail))
        return self._legs[-1]

    def _restore(self, position: Position) -> None:
        asked = position.question(self.blank)
        self.question = asked if asked.complete else None
        self.blank = replace(self.blank, mode=asked.mode)
        self._dropped = Counter(position.dropped)
        self._memories = position.memories_of(self._policies())
        for report in position.reports():
            leg = self._add_leg(report.retrieval_mode, report.began)
            leg.kept = report.kept
            leg.trail.asked, leg.trail.pulled, leg.trail.repeated = report.pulls, report.pulled, report.repeated
        waiting = set(position.waiting)
        self._set_aside = position.set_aside
        trail = self._trail
        trail.pulls = [(size, list(ids)) for size, ids in position.pulls]
        trail.recovered, trail.changed = position.recovered, position.changed
        trail.complete, trail.plain, trail.best = position.complete, position.plain, position.best
        # What waits is to be pulled again; until then a search whose last page was empty is not at its end.
        trail.exhausted = position.exhausted and not waiting
        self._seen.update(position.earlier)
        self._seen.update(id_ for id_ in trail.ids if id_ not in waiting)

    def attach(self, rows: Sequence[Row], set_aside: int) -> None:
        """Go on with a query that is still open, and with the rows that wait."""
        self._rows += rows
        self._set_aside = set_aside
        self._seen.update(match.id for match, _ in rows)
        self._trail.attached = True

    def lose(self) -> None:
        """The open query, if there is one, is not ours any more."""
        self._trail.attached = False

    @property
    def _trail(self) -> Trail:
        return self._legs[-1].trail

    @property
    def rows(self) -> tuple[list[Row], int]:
        """What waits, and how many of it were set aside."""
        return self._rows, self._set_aside

    @property
    def over(self) -> bool:
        """Whether the index has nothing left for this search."""
        return self._trail.exhausted

    @property
    def portable(self) -> bool:
        """Whether a query is open that stands where a cursor would say, and that holds every row that waits."""
        here = len(self._legs) - 1
        return self._trail.attached and all(origin.leg == here for _, origin in self._rows)

    @property
    def exhausted(self) -> bool:
        """Whether an empty page has come, and every row is decided or set aside."""
        return self._trail.exhausted and len(self._rows) <= self._set_aside

    @property
    def served(self) -> int:
        """How many rows were handed out."""
        return sum(leg.kept for leg in self._legs)

    @property
    def report(self) -> Report:
        """What the search has done so far."""
        legs = list(self._legs)
        reports = tuple(leg.report for leg in legs)
        return Report(
            pulls=sum(leg.pulls for leg in reports),
            pulled=sum(leg.pulled for leg in reports),
            kept=sum(leg.kept for leg in reports),
            dropped=dict(self._dropped),
            waiting=len(self._rows) + len(self._owed()),
            repeated=sum(leg.repeated for leg in reports),
            recovered=sum(leg.trail.recovered for leg in legs),
            changed=any(leg.trail.changed for leg in legs),
            exhausted=self.exhausted,
            complete=all(leg.trail.complete for leg in legs),
            stop_reason=self._stop_reason,
            legs=reports,
        )

    def fetching(self, count: object, ahead: int = 0) -> Steps[list[T]]:
        """The next so many rows; fewer at the end or at a bound, none after the end.

        Args:
            count: How many.
            ahead: How many rows a pull brings at least; what is not wanted yet waits.

        Raises:
            ClientError: The number is not a whole one of at least 1.
            LimitReached: A bound of the search leaves nothing to hand out.
        """
        run = self._run(None, _require_size(count), ahead)
        return (yield from self._gather(run, None))

    def fetching_until(self, policy: Policy | None) -> Steps[list[T]]:
        """Rows until a policy has enough, or a guard ends it.

        Raises:
            ClientError: There is no policy, or it cannot judge this search.
            LimitReached: A bound of the search leaves nothing to hand out.
        """
        driving = self._terms.until if policy is None else require_policy(policy, "policy")
        if driving is None:
            message = "fetch_until() needs a policy: pass one, or open the search with until="
            raise ClientError(message)
        return (yield from self._gather(self._run(driving, None), driving))

    def _run(self, driving: Policy | None, wanted: int | None, ahead: int = 0) -> Run[T]:
        terms = self._terms
        most = None if driving is None else terms.guards.max_results
        if terms.limits.max_results is not None:
            left = terms.limits.max_results - self.served
            most = left if most is None else min(most, left)
        judged = driving is not None or bool(self._standing)
        panel = Panel(terms.until, terms.always, driving, self._memories) if judged else NOBODY
        return Run(self._rows, self._set_aside, self._reading, panel, wanted, most, ahead)

    def _gather(self, run: Run[T], driving: Policy | None) -> Steps[list[T]]:
        began = self._terms.clock()
        self._began = began if self._began is None else self._began
        trail, judged = self._trail, bool(run.panel)
        if judged:
            yield from self._refuse_fused(driving)
        while True:
            if trail.lost and self._owed():  # rows that wait, as far as the cursor goes: no pull of this call
                yield from self._rejoin()
            if not judged:
                run.take_all()
            elif trail.exhausted or not run.looks_further():
                yield from run.examine()
            if run.done or (trail.exhausted and not run.looks_further()):
                break
            bound = self._spent(run, began, driving)
            if bound is not None:
                if run.looks_further():  # there will not be more to look at
                    yield from run.examine()
                run.stop_reason = run.stop_reason or bound
                break
            yield from self._pull(run, driving)
        return (yield from self._conclude(run))

    def _conclude(self, run: Run[T]) -> Steps[list[T]]:
        if self._trail.exhausted:
            yield Abandon()  # before anything is decided: whoever is interrupted here gets the rows next time
        self._commit(run)
        if not run.kept:
            self._refuse_emptiness()
        return run.kept

    def _pull(self, run: Run[T], driving: Policy | None) -> Steps[None]:
        if self.question is None:
            yield from self._ask()
        trail = self._trail
        most = MAX_ROWS if trail.pulls else self._room(driving)
        size, waiting = run.next_size(), len(self._rows)
        changed = trail.changed
        yield from trail.pull(size, most)
        run.pulled(size, len(self._rows) - waiting)
        if trail.changed > changed:
            log.warning("the search was asked anew and found other rows: the data has changed since it began")

    def _rejoin(self) -> Steps[None]:
        if self.question is None:
            yield from self._ask()
        yield from self._trail.rejoin()

    def _ask(self) -> Steps[None]:
        self.question = yield Ask(self.blank)

    def _room(self, driving: Policy | None) -> int:
        """How many rows to ask for where one page has to do: as many as may be handed out, if none will be dropped."""
        if any(leaf.drops for leaf in self._judging(driving)):
            return MAX_ROWS
        most = self._terms.limits.max_results or (self._terms.guards.max_results if driving else None)
        return min(MAX_ROWS, most or MAX_ROWS)

    def _judging(self, driving: Policy | None) -> list[Policy]:
        return self._standing + ([] if driving is None else driving.leaves())

    def _refuse_fused(self, driving: Policy | None) -> Steps[None]:
        """Ranks are no nearness: a policy of scores would drop everything, or nothing, without a sign."""
        leaf = next((leaf for leaf in self._judging(driving) if leaf.scores_only), None)
        if leaf is None:
            return
        if self.question is None:
            yield from self._ask()
        assert self.question is not None
        self._legs[-1].fused = self.question.fused
        judged = [self._legs[number] for number in {origin.leg for _, origin in self._rows}] + [self._legs[-1]]
        if self._index_fuses is None and any(leg.fused is None for leg in judged):
            self._index_fuses = yield Describe()
        if any(self._index_fuses if leg.fused is None else leg.fused for leg in judged):
            message = (
                f"{leaf.name} judges by scores, and those of a hybrid search are made of ranks: "
                'make the retriever with retrieval_mode="dense" or "sparse", widen(retrieval_mode=) an open search, '
                "or use another policy"
            )
            raise ClientError(message)

    def _spent(self, run: Run[T], began: float, driving: Policy | None) -> str | None:
        """The bound that forbids another pull: of a call until a policy has enough, or of the search as a whole."""
        if driving is None and self._unbounded:
            return None
        now = self._terms.clock()
        if driving is not None:
            bound = self._terms.guards.spent(results=len(run.kept), pulls=run.pulls, seconds=now - began)
            if bound is not None:
                return bound
        return self._limit(len(run.kept), now)

    def _limit(self, more: int, now: float) -> str | None:
        pulls = sum(leg.trail.asked for leg in self._legs)
        seconds = 0.0 if self._began is None else now - self._began
        return self._terms.limits.spent(results=self.served + more, pulls=pulls, seconds=seconds)

    def _refuse_emptiness(self) -> None:
        """Nothing at all, and not at the end: a bound of the search must not be taken for it."""
        if self._unbounded or self.exhausted:
            return
        bound = self._limit(0, self._terms.clock())
        if bound is not None:
            message = (
                f"{bound} is reached, a bound that was asked for when this search was opened: "
                "open or resume it with a larger one to go on"
            )
            raise LimitReached(message)

    def _commit(self, run: Run[T]) -> None:
        """What a call has decided becomes so."""
        self._rows[: run.place] = run.aside
        self._set_aside = len(run.aside) + max(0, self._set_aside - run.place)
        for number, leg in enumerate(self._legs):
            leg.kept += run.kept_by.count(number)
        if run.dropped:
            self._dropped.update(run.dropped)
        if NO_TEXT in run.dropped:
            log.warning("%d rows hold no text that this retriever can read: they are left out", run.dropped[NO_TEXT])
        if run.panel:
            self._memories = run.panel.memories
        self._stop_reason = run.stop_reason or (None if run.done else "exhausted")
        if run.stop_reason in GUARDS:
            log.info("%s ended a call: %d rows kept, dropped %s", run.stop_reason, len(run.kept), run.dropped or "none")

    def widening(self, mode: RetrievalMode | str | None, filter: str | None) -> Steps[None]:
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
        if self._set_aside and self._owed():  # they would be lost with the leg that brings them
            yield from self._rejoin()
        # What was set aside is offered again. What nobody has looked at yet is put back, as if it had not been pulled.
        self._seen.difference_update(match.id for match, _ in self._rows[self._set_aside :])
        del self._rows[self._set_aside :]
        if self.question is not None:
            self._legs[-1].fused = self.question.fused
        asked = replace(self.question or wider, mode=wider.mode, filter=wider.filter)
        self.blank, self.question = wider, asked if asked.complete else None
        self._add_leg(wider.mode, self.served)

    def _owed(self) -> list[str]:
        """The ids that wait according to the cursor that this search was taken up from, and are not pulled again."""
        if self._trail.attached or not self._trail.pulls:
            return []
        waiting = {match.id for match, _ in self._rows}
        return [id_ for id_ in self._trail.ids if id_ not in self._seen and id_ not in waiting]

    def _policies(self) -> list[str]:
        return [leaf.memory_name for leaf in self._standing]

    def _modes_of(self, ids: set[str]) -> list[RetrievalMode | None]:
        """The modes that brought these rows, if it was only one."""
        modes = {self._legs[origin.leg].mode for match, origin in self._rows if match.id in ids}
        return list(modes) if len(modes) == 1 else []

    def position(self, index: str) -> Position:
        """Where the search stands, for a cursor.

        Rows of before `widen` that are set aside are not in it, nor noted as taken: the present leg finds them again.

        Raises:
            ClientError: It does not, because it searches another component; or a policy remembers what is not JSON.
        """
        here = set(self._trail.ids)
        waiting = [match.id for match, _ in self._rows]
        stranded = {id_ for id_ in waiting if id_ not in here}
        if stranded and self.blank.mode not in (None, RetrievalMode.HYBRID, *self._modes_of(stranded)):
            message = (
                f"{len(stranded)} rows of before widen() are set aside, and this search does not find them again, so "
                f"that no cursor can hold them: fetch_next({len(stranded)}) first"
            )
            raise ClientError(message)
        return Position.of(
            index,
            self.blank,
            self.question or self.blank,
            self.report,
            query=self.query,
            pulls=self._trail.pulls,
            waiting=[id_ for id_ in waiting if id_ in here] + self._owed(),
            set_aside=self._set_aside - len(stranded),
            earlier=sorted(self._seen - here - stranded),
            best=self._trail.best,
            plain=self._trail.plain,
            over=self._trail.exhausted,
            memories=list(zip(self._policies(), self._memories, strict=False)),
        )


def _require_size(count: object) -> int:
    try:
        size = operator.index(count)  # type: ignore[arg-type]
    except TypeError:
        size = 0
    if isinstance(count, bool) or size < 1:
        message = f"fetch_next({count!r}): ask for at least 1, a whole number"
        raise ClientError(message)
    return size
