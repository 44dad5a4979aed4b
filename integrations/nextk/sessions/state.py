"""The state of one search: its phases, the matches that wait, and the ids that were seen. Private.

    pull ──> matches wait ──> a call decides each: kept, dropped, or set aside for the next call

The state is written into a cursor as a `Position`, and restored from one. `nextk.sessions.machine` changes it.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nextk.errors import ClientError
from nextk.sessions.config import SearchConfig
from nextk.sessions.cursor import PolicyData, Position
from nextk.sessions.link import BaseLink
from nextk.sessions.pulls import PhaseState, PulledMatch, PullLog
from nextk.sessions.query import RetrievalMode, SearchQuery
from nextk.sessions.recovery import Puller
from nextk.sessions.recovery_state import RecoveryState
from nextk.sessions.replay import is_hybrid
from nextk.sessions.report import Report
from nextk.sessions.shortfall import Shortfall
from nextk.sessions.source import ScoreKind, SourceTraits


class SearchState:
    """Where one search stands.

    Args:
        template: The query; its text or vectors may be missing until the first pull.
        texts: The texts of the query as the caller wrote them, for cursors.
        config: The policy of the search, its limits, and how much a recovery may cost.
        link: The link to what is searched, of which the traits and the counts are read.
        position: The position at which to go on; `None` for a new search.

    Attributes:
        template: The query without the text or vectors that `Embed` filled in.
        query: The complete query; `None` until its text or vectors are there.
        waiting: The matches that were pulled and are not decided. Those that were set aside come first.
        set_aside: The number of waiting matches that an earlier call has set aside.
        seen: The ids of all matches that were pulled.
        dropped: The number of matches that were dropped, by cause.
        memories: What each policy of the search remembers between calls.
        stop_reason: Why the last call ended.
        shortfall: What the last call has brought if a limit ended it before there was enough.
        phases: The phases of the search, the present one last.
        recovery: The state that all recoveries of the search share.
    """

    def __init__(
        self,
        template: SearchQuery,
        texts: Sequence[str],
        config: SearchConfig,
        link: BaseLink,
        position: Position | None = None,
    ) -> None:
        self.template = template
        self.query = template if template.complete else None
        self.waiting: list[PulledMatch] = []
        self.set_aside = 0
        self.seen: set[str] = set()
        self.dropped: Counter[str] = Counter()
        self.memories: list[dict[str, Any]] = []
        self.stop_reason: str | None = None
        self.shortfall: Shortfall | None = None
        self.phases: list[PhaseState] = []
        self._texts = list(texts)
        self._policies = config.always_on
        self._link = link
        self._limit_before: int | None = None
        self._refetched_before = 0  # before the cursor at which this search goes on
        self.recovery = RecoveryState(config.max_recovery, config.clock, config.chance, link, exact=template.exact)
        if position is None:
            self._add_phase(template.mode)
        else:
            self._restore(position)

    def _add_phase(self, mode: RetrievalMode | None, began: int = 0) -> PhaseState:
        pull_log = PullLog(len(self.phases), self.seen, self.waiting)
        self.phases.append(PhaseState(mode, began, pull_log))
        return self.phases[-1]

    def _restore(self, position: Position) -> None:
        query = position.query(self.template)
        self.query = query if query.complete else None
        self.template = replace(self.template, mode=query.mode)
        self.dropped = Counter(position.dropped)
        self._refetched_before, self._limit_before = position.refetched, position.limit
        self.memories = position.memories_of(self._policies)
        for report in position.reports():
            phase = self._add_phase(report.retrieval_mode, report.began)
            phase.kept = report.kept
            phase.log.page_count, phase.log.pulled, phase.log.repeated = report.pulls, report.pulled, report.repeated
        waiting = set(position.waiting)
        self.set_aside = position.set_aside
        pull_log = self.log
        pull_log.pulls = [(count, list(ids)) for count, ids in position.pulls]
        pull_log.recovered, pull_log.changed = position.recovered, position.changed
        pull_log.reordered, self.recovery.counts = position.reordered, position.recovery_report()
        pull_log.complete, pull_log.plain, pull_log.best = position.complete, position.plain, position.best
        # The waiting matches have to be pulled again; until then, a search whose last page was empty is not at its end.
        pull_log.exhausted = position.exhausted and not waiting
        self.seen.update(position.earlier)
        self.seen.update(id_ for id_ in pull_log.ids if id_ not in waiting)

    def adopt(self, waiting: Sequence[PulledMatch], set_aside: int) -> None:
        """Go on with a query that is still open.

        Args:
            waiting: The matches that it had brought and that were not decided.
            set_aside: The number of them that were set aside, the first ones.
        """
        self.waiting += waiting
        self.set_aside = set_aside
        self.seen.update(match.id for match, _ in waiting)
        self.log.mark_live()

    def mark_lost(self) -> None:
        """Note that the open query, if there is one, does not belong to this search any more."""
        self.log.mark_lost()

    def widen(self, template: SearchQuery) -> None:
        """Begin a new phase with another mode or filter.

        Matches that were set aside are offered again. The other waiting ones are forgotten as if they had not been
        pulled, so the new phase may find them.
        """
        self.seen.difference_update(match.id for match, _ in self.waiting[self.set_aside :])
        del self.waiting[self.set_aside :]
        self.note_fused()
        query = replace(
            self.query or template, mode=template.mode, filter=template.filter, store_filter=template.store_filter
        )
        self.template, self.query = template, query if query.complete else None
        self._add_phase(template.mode, self.kept)

    @property
    def log(self) -> PullLog:
        """The pulls of the present phase."""
        return self.phases[-1].log

    def puller(self, deadline: float | None) -> Puller:
        """Return what pulls the next page of the present phase.

        Args:
            deadline: The time at which to give up after a fault; `None` for none.
        """
        self.note_fused()
        return Puller(self.log, self.recovery, deadline)

    @property
    def traits(self) -> SourceTraits:
        """The traits of the source."""
        return self._link.traits

    def with_filter(self, template: SearchQuery, filter: Any) -> SearchQuery:
        """Return a query through another filter, in the language of the source.

        Args:
            template: The query.
            filter: The filter, `""` for none; `None` for the present one.
        """
        if filter is None:
            return template
        if self._link.filter_field == "filter":
            return replace(template, filter=filter)
        return replace(template, store_filter=None if isinstance(filter, str) and not filter else filter)

    def note_fused(self) -> None:
        """Note for the present phase whether its scores are fused ranks, as far as the source and the query tell."""
        if self.log.fused is not None:
            return
        if self.traits.scores is not None:
            self.log.fused = self.traits.scores is ScoreKind.RANKS
        elif self.query is not None:
            self.log.fused = self.query.fused

    def is_fused(self, log: PullLog) -> bool:
        """Return whether the scores of a phase are fused ranks. What depends on the index has to be known by now."""
        if log.fused is not None:
            return log.fused
        return self.recovery.info is not None and is_hybrid(self.recovery.info)

    @property
    def index_exhausted(self) -> bool:
        """Whether the index has nothing left for this search."""
        return self.log.exhausted

    @property
    def exhausted(self) -> bool:
        """Whether an empty page has come, and every match is decided or set aside."""
        return self.log.exhausted and len(self.waiting) <= self.set_aside

    @property
    def is_parkable(self) -> bool:
        """Whether a query is open that stands where a cursor would say, and that brought every waiting match."""
        present = len(self.phases) - 1
        at_page = self.log.live and self.log.outstanding is None
        return at_page and all(provenance.phase == present for _, provenance in self.waiting)

    @property
    def kept(self) -> int:
        """The number of results that were handed out."""
        return sum(phase.kept for phase in self.phases)

    @property
    def report(self) -> Report:
        """A summary of what the search has done so far."""
        reports = tuple(phase.report for phase in self.phases)
        return Report(
            pulls=sum(phase.pulls for phase in reports),
            pulled=sum(phase.pulled for phase in reports),
            kept=sum(phase.kept for phase in reports),
            dropped=dict(self.dropped),
            waiting=len(self.waiting) + len(self.waiting_to_be_pulled),
            repeated=sum(phase.repeated for phase in reports),
            recovered=sum(phase.log.recovered for phase in self.phases),
            changed=any(phase.log.changed for phase in self.phases),
            reordered=any(phase.log.reordered for phase in self.phases),
            exhausted=self.exhausted,
            complete=all(phase.log.complete for phase in self.phases),
            continuation=self.traits.continuation,
            refetched=self._refetched_before + self._link.refetched,
            limit=self._link.limit or self._limit_before,
            stop_reason=self.stop_reason,
            shortfall=self.shortfall,
            phases=reports,
            recovery=self.recovery.counts,
        )

    @property
    def waiting_to_be_pulled(self) -> list[str]:
        """The ids of matches that wait according to the resumed cursor, and that have not been pulled again yet."""
        if self.log.live or not self.log.pulls:
            return []
        unread = self.log.unread
        return [id_ for id_ in self.log.ids if id_ in unread]

    def position(self, identity: str) -> Position:
        """Return where the search stands, for a cursor.

        Matches from before `widen` that are set aside are neither in it nor noted as seen, so that the present phase
        finds them again.

        Args:
            identity: The identity of the index.

        Raises:
            ClientError: The present phase does not find these matches, because it searches another component; or a
                policy remembers data that is not JSON.
        """
        ids_of_phase = set(self.log.ids)
        waiting = [match.id for match, _ in self.waiting]
        unreachable = {id_ for id_ in waiting if id_ not in ids_of_phase}
        if unreachable and self.template.mode not in (None, RetrievalMode.HYBRID, *self._modes_of(unreachable)):
            message = (
                f"{len(unreachable)} rows of before widen() are set aside, and this search does not find them again, "
                f"so that no cursor can hold them: fetch_next({len(unreachable)}) first"
            )
            raise ClientError(message)
        return Position.of(
            identity,
            self.template,
            self.query or self.template,
            self.report,
            texts=self._texts,
            pulls=self.log.pulls,
            waiting=[id_ for id_ in waiting if id_ in ids_of_phase] + self.waiting_to_be_pulled,
            set_aside=self.set_aside - len(unreachable),
            earlier=sorted(self.seen - ids_of_phase - unreachable),
            best=self.log.best,
            plain=self.log.plain,
            index_exhausted=self.log.exhausted,
            policies=self._policy_data(),
        )

    def _policy_data(self) -> list[PolicyData]:
        memories = itertools.chain(self.memories, itertools.repeat({}))  # before the first call there is none
        return [PolicyData.of(policy, memory) for policy, memory in zip(self._policies, memories, strict=False)]

    def _modes_of(self, ids: set[str]) -> list[RetrievalMode | None]:
        """Return the mode that brought these matches, or nothing if there were several."""
        modes = {self.phases[provenance.phase].mode for match, provenance in self.waiting if match.id in ids}
        return list(modes) if len(modes) == 1 else []
