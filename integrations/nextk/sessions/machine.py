"""One search, from its first pull to its end. No I/O.

    pull ──> rows wait ──> a call decides them: kept, dropped, or set aside for the next call

A call is a generator of effects. A session carries out each effect, blocking or awaiting, and sends the answer in.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from nextk.arguments import choose
from nextk.bodies import MAX_ROWS
from nextk.errors import ClientError, LimitReached
from nextk.sessions.config import GUARDS, UNBOUNDED, SearchConfig, require_size
from nextk.sessions.cursor import Position
from nextk.sessions.effects import Effects, Embed, FetchInfo, Release
from nextk.sessions.evaluation import NO_TEXT, Evaluation, RowReader
from nextk.sessions.policies import NO_POLICIES, PolicySet
from nextk.sessions.query import RetrievalMode, SearchQuery
from nextk.sessions.recovery import PhaseState, PullLog, Row
from nextk.sessions.report import Report
from nextk.until.policy import Policy, require_policy

log = logging.getLogger("nextk.sessions")

T = TypeVar("T")


class SearchMachine(Generic[T]):
    """Where one search stands, and what it does next.

    Args:
        template: The question; its text or vectors may be left to `Embed`.
        reader: How rows are read.
        texts: The question as the caller put it, for cursors.
        config: Policy, bounds, and what a fault may cost.
        position: Where to go on; `None` to begin.
    """

    def __init__(
        self,
        template: SearchQuery,
        reader: RowReader[T],
        texts: Sequence[str],
        config: SearchConfig,
        position: Position | None = None,
    ) -> None:
        self.texts = list(texts)
        self.template = template
        self.query = template if template.complete else None
        self._reader = reader
        self._config = config
        self._always_on = config.always_on
        self._unbounded = config.limits == UNBOUNDED
        self._seen: set[str] = set()
        self._rows: list[Row] = []  # not decided; those that were set aside come first
        self._set_aside = 0
        self._dropped: Counter[str] = Counter()
        self._memories: list[dict[str, Any]] = []
        self._stop_reason: str | None = None
        self._began: float | None = None  # seconds, by the clock of the terms
        self._index_fuses: bool | None = None
        self._phases: list[PhaseState] = []
        if position is None:
            self._add_phase(template.mode)
        else:
            self._restore(position)

    def _add_phase(self, mode: RetrievalMode | None, began: int = 0) -> PhaseState:
        pull_log = PullLog(len(self._phases), self._seen, self._rows, self._config.max_recovery)
        self._phases.append(PhaseState(mode, began, pull_log))
        return self._phases[-1]

    def _restore(self, position: Position) -> None:
        query = position.query(self.template)
        self.query = query if query.complete else None
        self.template = replace(self.template, mode=query.mode)
        self._dropped = Counter(position.dropped)
        self._memories = position.memories_of(self._policies())
        for report in position.reports():
            phase = self._add_phase(report.retrieval_mode, report.began)
            phase.kept = report.kept
            phase.log.page_count, phase.log.pulled, phase.log.repeated = report.pulls, report.pulled, report.repeated
        waiting = set(position.waiting)
        self._set_aside = position.set_aside
        pull_log = self._log
        pull_log.pulls = [(size, list(ids)) for size, ids in position.pulls]
        pull_log.recovered, pull_log.changed = position.recovered, position.changed
        pull_log.complete, pull_log.plain, pull_log.best = position.complete, position.plain, position.best
        # What waits is to be pulled again; until then a search whose last page was empty is not at its end.
        pull_log.exhausted = position.exhausted and not waiting
        self._seen.update(position.earlier)
        self._seen.update(id_ for id_ in pull_log.ids if id_ not in waiting)

    def adopt(self, rows: Sequence[Row], set_aside: int) -> None:
        """Go on with a query that is still open, and with the rows that wait."""
        self._rows += rows
        self._set_aside = set_aside
        self._seen.update(match.id for match, _ in rows)
        self._log.live = True

    def mark_lost(self) -> None:
        """The open query, if there is one, is not ours any more."""
        self._log.live = False

    @property
    def _log(self) -> PullLog:
        return self._phases[-1].log

    @property
    def rows(self) -> tuple[list[Row], int]:
        """What waits, and how many of it were set aside."""
        return self._rows, self._set_aside

    @property
    def index_exhausted(self) -> bool:
        """Whether the index has nothing left for this search."""
        return self._log.exhausted

    @property
    def is_parkable(self) -> bool:
        """Whether a query is open that stands where a cursor would say, and that holds every row that waits."""
        here = len(self._phases) - 1
        return self._log.live and all(provenance.phase == here for _, provenance in self._rows)

    @property
    def exhausted(self) -> bool:
        """Whether an empty page has come, and every row is decided or set aside."""
        return self._log.exhausted and len(self._rows) <= self._set_aside

    @property
    def served(self) -> int:
        """How many rows were handed out."""
        return sum(phase.kept for phase in self._phases)

    @property
    def report(self) -> Report:
        """What the search has done so far."""
        reports = tuple(phase.report for phase in self._phases)
        return Report(
            pulls=sum(phase.pulls for phase in reports),
            pulled=sum(phase.pulled for phase in reports),
            kept=sum(phase.kept for phase in reports),
            dropped=dict(self._dropped),
            waiting=len(self._rows) + len(self._unreplayed()),
            repeated=sum(phase.repeated for phase in reports),
            recovered=sum(phase.log.recovered for phase in self._phases),
            changed=any(phase.log.changed for phase in self._phases),
            exhausted=self.exhausted,
            complete=all(phase.log.complete for phase in self._phases),
            stop_reason=self._stop_reason,
            phases=reports,
        )

    def fetching(self, count: object, prefetch: int = 0) -> Effects[list[T]]:
        """The next so many rows; fewer at the end or at a bound, none after the end.

        Args:
            count: How many.
            prefetch: How many rows a pull brings at least; what is not wanted yet waits.

        Raises:
            ClientError: The number is not a whole one of at least 1.
            LimitReached: A bound of the search leaves nothing to hand out.
        """
        evaluation = self._evaluation(None, require_size(count), prefetch)
        return (yield from self._evaluate(evaluation, None))

    def fetching_until(self, policy: Policy | None) -> Effects[list[T]]:
        """Rows until a policy has enough, or a guard ends it.

        Raises:
            ClientError: There is no policy, or it cannot judge this search.
            LimitReached: A bound of the search leaves nothing to hand out.
        """
        stopping = self._config.until if policy is None else require_policy(policy, "policy")
        if stopping is None:
            message = "fetch_until() needs a policy: pass one, or open the search with until="
            raise ClientError(message)
        return (yield from self._evaluate(self._evaluation(stopping, None), stopping))

    def _evaluation(self, stopping: Policy | None, n: int | None, prefetch: int = 0) -> Evaluation[T]:
        config = self._config
        max_rows = None if stopping is None else config.guards.max_results
        if config.limits.max_results is not None:
            left = config.limits.max_results - self.served
            max_rows = left if max_rows is None else min(max_rows, left)
        has_policies = stopping is not None or bool(self._always_on)
        policies = PolicySet(config.until, config.always, stopping, self._memories) if has_policies else NO_POLICIES
        return Evaluation(self._rows, self._set_aside, self._reader, policies, n, max_rows, prefetch)

    def _evaluate(self, evaluation: Evaluation[T], stopping: Policy | None) -> Effects[list[T]]:
        began = self._config.clock()
        self._began = began if self._began is None else self._began
        pull_log, has_policies = self._log, bool(evaluation.policies)
        if has_policies:
            yield from self._refuse_fused(stopping)
        while True:
            if pull_log.lost and self._unreplayed():  # rows that wait, as far as the cursor goes: no pull of this call
                yield from self._catch_up()
            if not has_policies:
                evaluation.keep_all()
            elif pull_log.exhausted or not evaluation.needs_lookahead():
                yield from evaluation.examine()
            if evaluation.done or (pull_log.exhausted and not evaluation.needs_lookahead()):
                break
            if (bound := self._reached_bound(evaluation, began, stopping)) is not None:
                if evaluation.needs_lookahead():  # there will not be more to look at
                    yield from evaluation.examine()
                evaluation.stop_reason = evaluation.stop_reason or bound
                break
            yield from self._pull(evaluation, stopping)
        return (yield from self._conclude(evaluation))

    def _conclude(self, evaluation: Evaluation[T]) -> Effects[list[T]]:
        if self._log.exhausted:
            yield Release()  # before anything is decided: whoever is interrupted here gets the rows next time
        self._commit(evaluation)
        if not evaluation.kept:
            self._refuse_empty()
        return evaluation.kept

    def _pull(self, evaluation: Evaluation[T], stopping: Policy | None) -> Effects[None]:
        if self.query is None:
            yield from self._embed()
        pull_log = self._log
        max_rows = MAX_ROWS if pull_log.pulls else self._plain_size(stopping)
        size, waiting = evaluation.next_size(), len(self._rows)
        changed = pull_log.changed
        yield from pull_log.pull(size, max_rows)
        evaluation.pulled(size, len(self._rows) - waiting)
        if pull_log.changed > changed:
            log.warning("the search was asked anew and found other rows: the data has changed since it began")

    def _catch_up(self) -> Effects[None]:
        if self.query is None:
            yield from self._embed()
        yield from self._log.catch_up()

    def _embed(self) -> Effects[None]:
        self.query = yield Embed(self.template)

    def _plain_size(self, stopping: Policy | None) -> int:
        """How many rows to ask for where one page has to do: as many as may be handed out, if none will be dropped."""
        if any(leaf.drops for leaf in self._active_policies(stopping)):
            return MAX_ROWS
        max_rows = self._config.limits.max_results or (self._config.guards.max_results if stopping else None)
        return min(MAX_ROWS, max_rows or MAX_ROWS)

    def _active_policies(self, stopping: Policy | None) -> list[Policy]:
        return self._always_on + ([] if stopping is None else stopping.leaves())

    def _refuse_fused(self, stopping: Policy | None) -> Effects[None]:
        """Ranks are no nearness: a policy of scores would drop everything, or nothing, without a sign."""
        leaf = next((leaf for leaf in self._active_policies(stopping) if leaf.scores_only), None)
        if leaf is None:
            return
        if self.query is None:
            yield from self._embed()
        assert self.query is not None
        self._phases[-1].fused = self.query.fused
        has_policies = [self._phases[number] for number in {provenance.phase for _, provenance in self._rows}] + [
            self._phases[-1]
        ]
        if self._index_fuses is None and any(phase.fused is None for phase in has_policies):
            self._index_fuses = yield FetchInfo()
        if any(self._index_fuses if phase.fused is None else phase.fused for phase in has_policies):
            message = (
                f"{leaf.name} judges by scores, and those of a hybrid search are made of ranks: "
                'make the retriever with retrieval_mode="dense" or "sparse", widen(retrieval_mode=) an open search, '
                "or use another policy"
            )
            raise ClientError(message)

    def _reached_bound(self, evaluation: Evaluation[T], began: float, stopping: Policy | None) -> str | None:
        """The bound that forbids another pull: of a call until a policy has enough, or of the search as a whole."""
        if stopping is None and self._unbounded:
            return None
        now = self._config.clock()
        if stopping is not None:
            bound = self._config.guards.reached(
                results=len(evaluation.kept), pulls=evaluation.pulls, seconds=now - began
            )
            if bound is not None:
                return bound
        return self._reached_limit(len(evaluation.kept), now)

    def _reached_limit(self, more: int, now: float) -> str | None:
        pulls = sum(phase.log.page_count for phase in self._phases)
        seconds = 0.0 if self._began is None else now - self._began
        return self._config.limits.reached(results=self.served + more, pulls=pulls, seconds=seconds)

    def _refuse_empty(self) -> None:
        """Nothing at all, and not at the end: a bound of the search must not be taken for it."""
        if self._unbounded or self.exhausted:
            return
        bound = self._reached_limit(0, self._config.clock())
        if bound is not None:
            message = (
                f"{bound} is reached, a bound that was asked for when this search was opened: "
                "open or resume it with a larger one to go on"
            )
            raise LimitReached(message)

    def _commit(self, evaluation: Evaluation[T]) -> None:
        """What a call has decided becomes so."""
        self._rows[: evaluation.position] = evaluation.set_aside_rows
        self._set_aside = len(evaluation.set_aside_rows) + max(0, self._set_aside - evaluation.position)
        for number, phase in enumerate(self._phases):
            phase.kept += evaluation.kept_phases.count(number)
        if evaluation.dropped:
            self._dropped.update(evaluation.dropped)
        if NO_TEXT in evaluation.dropped:
            log.warning(
                "%d rows hold no text that this retriever can read: they are left out", evaluation.dropped[NO_TEXT]
            )
        if evaluation.policies:
            self._memories = evaluation.policies.memories
        self._stop_reason = evaluation.stop_reason or (None if evaluation.done else "exhausted")
        if evaluation.stop_reason in GUARDS:
            log.info(
                "%s ended a call: %d rows kept, dropped %s",
                evaluation.stop_reason,
                len(evaluation.kept),
                evaluation.dropped or "none",
            )

    def widening(self, mode: RetrievalMode | str | None, filter: str | None) -> Effects[None]:
        """Go on with the same question in another mode or through another filter.

        Raises:
            ClientError: Neither differs from what it is.
        """
        chosen = choose(RetrievalMode, mode, "retrieval_mode")
        mode = self.template.mode if chosen is None else chosen
        wider = replace(self.template, mode=mode, filter=self.template.filter if filter is None else filter)
        if (wider.mode, wider.filter) == (self.template.mode, self.template.filter):
            message = "widen() changes nothing: name another retrieval_mode= or another filter="
            raise ClientError(message)
        if self._set_aside and self._unreplayed():  # they would be lost with the leg that brings them
            yield from self._catch_up()
        # What was set aside is offered again. What nobody has looked at yet is put back, as if it had not been pulled.
        self._seen.difference_update(match.id for match, _ in self._rows[self._set_aside :])
        del self._rows[self._set_aside :]
        if self.query is not None:
            self._phases[-1].fused = self.query.fused
        query = replace(self.query or wider, mode=wider.mode, filter=wider.filter)
        self.template, self.query = wider, query if query.complete else None
        self._add_phase(wider.mode, self.served)

    def _unreplayed(self) -> list[str]:
        """The ids that wait according to the cursor that this search was taken up from, and are not pulled again."""
        if self._log.live or not self._log.pulls:
            return []
        waiting = {match.id for match, _ in self._rows}
        return [id_ for id_ in self._log.ids if id_ not in self._seen and id_ not in waiting]

    def _policies(self) -> list[str]:
        return [leaf.memory_name for leaf in self._always_on]

    def _modes_of(self, ids: set[str]) -> list[RetrievalMode | None]:
        """The modes that brought these rows, if it was only one."""
        modes = {self._phases[provenance.phase].mode for match, provenance in self._rows if match.id in ids}
        return list(modes) if len(modes) == 1 else []

    def position(self, index: str) -> Position:
        """Where the search stands, for a cursor.

        Rows of before `widen` that are set aside are not in it, nor noted as taken: the present leg finds them again.

        Raises:
            ClientError: It does not, because it searches another component; or a policy remembers what is not JSON.
        """
        here = set(self._log.ids)
        waiting = [match.id for match, _ in self._rows]
        unreachable = {id_ for id_ in waiting if id_ not in here}
        if unreachable and self.template.mode not in (None, RetrievalMode.HYBRID, *self._modes_of(unreachable)):
            message = (
                f"{len(unreachable)} rows of before widen() are set aside, and this search does not find them again, "
                f"so that no cursor can hold them: fetch_next({len(unreachable)}) first"
            )
            raise ClientError(message)
        return Position.of(
            index,
            self.template,
            self.query or self.template,
            self.report,
            texts=self.texts,
            pulls=self._log.pulls,
            waiting=[id_ for id_ in waiting if id_ in here] + self._unreplayed(),
            set_aside=self._set_aside - len(unreachable),
            earlier=sorted(self._seen - here - unreachable),
            best=self._log.best,
            plain=self._log.plain,
            index_exhausted=self._log.exhausted,
            memories=list(zip(self._policies(), self._memories, strict=False)),
        )
