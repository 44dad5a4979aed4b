"""Recovery: how pages are pulled, and how a search goes on after a fault. Private, and without I/O.

    a request fails ──> wait ──> the server numbers pages: request the same page, or make the same start, again
                                 it does not: start the query again, and replay the pulls (`nextk.sessions.replay`)

A query may also be gone from the server: it expired, was evicted, was stopped by somebody else, or the server
restarted. Then it is started again, too. Matches that were pulled before are recognised by their id. If a replay brings
others than before, the data has changed in the meantime: what is new is queued, and the search goes on, with each id at
most once.

If the server has no room for a resumable query in the first place, one plain query is used instead.
"""

import logging
from collections.abc import Callable
from typing import Any, TypeAlias

from nextk.bodies import MAX_ROWS
from nextk.errors import LimitReached, NextKError, PageUncertain, QueryNotFound, TooManyQueries
from nextk.sessions.effects import (
    CanRepeat,
    Effects,
    FetchInfo,
    FetchNext,
    PageEffect,
    Pause,
    PlainQuery,
    Release,
    StartQuery,
)
from nextk.sessions.patience import Patience, is_fault, left_alone
from nextk.sessions.pulls import PullLog, ids_of
from nextk.sessions.recovery_state import RecoveryState
from nextk.sessions.replay import (
    Difference,
    ReplayPlan,
    difference,
    fuses_globally,
    is_hybrid,
    may_ask_on,
    pages_passed,
    ranks_exactly,
)
from nextk.types import InfoResult, QueryResult

log = logging.getLogger("nextk.sessions")

ReplayedPage: TypeAlias = tuple[list[str], list[QueryResult]]
"""The ids of a replayed page, and its matches; none if the page was passed, and only its ids are known."""


class QueryLost(Exception):
    """The open query cannot go on where the search stands: it has to be started again.

    Attributes:
        reply_lost: Whether only a reply was lost, and no request is on its way any more, so that the next page tells
            where the query stands.
    """

    def __init__(self, *, reply_lost: bool) -> None:
        super().__init__()
        self.reply_lost = reply_lost


class Puller:
    """Pulls one page of a phase.

    Args:
        pulls: The pulls of the phase so far. New ones are added to it.
        state: The state that all recoveries of the search share.
        deadline: The time at which to give up after a fault; `None` for none.
    """

    def __init__(self, pulls: PullLog, state: RecoveryState, deadline: float | None) -> None:
        self._log = pulls
        self._state = state
        self._patience = Patience(state.clock, deadline, state.chance)

    def catch_up(self) -> Effects[None]:
        """Repeat the pulls of a query that is lost, and queue the matches that have not been seen.

        Raises:
            NextKError: For the reasons given at `pull`.
        """
        return self._persist(self._replay_plain)

    def pull(self, count: int, max_count: int) -> Effects[None]:
        """Pull the next page, and recover first if the query is lost.

        Args:
            count: The number of matches to request.
            max_count: The number of matches to request if the server has room for a plain query only.

        Raises:
            NextKError: Ten requests in a row failed without progress (20 if the server numbers pages, so that a repeat
                costs no more than itself), or the deadline is near. It is the error of the last one: `PageUncertain` or
                `TransportError` for a lost reply, `QueryNotFound` for a query that was gone, or a refusal. No match is
                lost; call again.
            LimitReached: A recovery would request more than `max_recovery` matches again.
            TooManyQueries: A recovery finds no room on the server; or this process has too many searches open.
        """
        return self._persist(lambda: self._fetch(count, max_count))

    def _persist(self, attempt: Callable[[], Effects[None]]) -> Effects[None]:
        """Run an attempt, again and again if the query is lost during it, until the patience is used up."""
        while True:
            try:
                yield from attempt()
            except QueryLost:
                self._patience.query_lost()
                self._log.mark_lost()
                yield Release()
            else:
                return

    # One request

    def _request(self, effect: PageEffect | FetchInfo) -> Effects[Any]:
        """Make a request, and repeat it as long as the server gives the same answer to a repeat.

        Raises:
            QueryLost: It failed, and a repeat could skip a page.
        """
        while True:
            try:
                return (yield effect)
            except NextKError as error:
                if not is_fault(error):
                    raise
                fault = error
            yield from self._wait(effect, fault)

    def _wait(self, effect: PageEffect | FetchInfo, fault: NextKError) -> Effects[None]:
        """Wait after a fault. Raises the fault if the patience is used up, and `QueryLost` if no repeat is allowed."""
        unmoved = left_alone(fault)
        gone = isinstance(fault, QueryNotFound)
        repeatable = unmoved or isinstance(effect, FetchInfo) or (not gone and (yield CanRepeat()))
        left_open = not repeatable and not gone and isinstance(effect, StartQuery)
        self._state.count(faults=1, left_open=int(left_open))
        pause = self._patience.pause_after(fault, first=not self._log.pulls, repeatable=repeatable)
        if pause is None:
            if not repeatable:
                self._log.mark_lost()
                yield Release()
            elif unmoved and not (yield CanRepeat()):
                self._log.outstanding = None
            raise fault
        action = "repeating it" if repeatable else "starting the query again"
        log.info("a request failed (%s: %s): %s in %.2f s", type(fault).__name__, fault, action, pause)
        if pause:
            yield Pause(pause)
            self._state.count(waited=pause)
        if not repeatable:
            raise QueryLost(reply_lost=isinstance(fault, PageUncertain) and not fault.may_be_on_its_way) from fault
        self._state.count(repeats=1)

    def _start(self, count: int) -> StartQuery:
        return StartQuery(count, self._state.counts.left_open)

    def _info(self) -> Effects[InfoResult | None]:
        """Return the description of the index, or `None` if the index refuses to give it."""
        if self._state.info is None:
            try:
                self._state.info = yield from self._request(FetchInfo())
            except NextKError as error:
                if is_fault(error):
                    raise
        return self._state.info

    # The next page

    def _fetch(self, count: int, max_count: int) -> Effects[None]:
        pulls = self._log
        if pulls.lost and not self._keeps_open:
            yield from self._begin_anew(count)
            return
        try:
            if pulls.live and pulls.outstanding is not None and not (yield CanRepeat()):
                raise QueryLost(reply_lost=False)
            if pulls.lost and not (pulls.plain and self._exceeds_max_recovery) and (yield from self._replay(count)):
                return
            if pulls.live:
                count = pulls.outstanding = pulls.outstanding or count
            page = yield from self._request(FetchNext(count) if pulls.live else self._start(count))
        except TooManyQueries as error:
            if not error.status or (pulls.pulls and not pulls.plain):  # ours, or in the middle of the search
                raise
            yield from self._fetch_plain(max_count)
        except NextKError as error:
            if not is_fault(error) and not (yield CanRepeat()):  # the server has not moved
                pulls.outstanding = None
            raise
        else:
            pulls.add_page(count, page)
            pulls.page_count += 1
            self._note_end(page)
            pulls.mark_live()  # last: after an interrupt before it, the page is requested again

    def _note_end(self, page: list[QueryResult]) -> None:
        """Note whether a page says that nothing is left, and whether that is because of a limit of the store."""
        self._log.exhausted = not page
        self._log.complete = bool(page) or self._state.link.limit is None

    @property
    def _keeps_open(self) -> bool:
        return self._state.link.traits.keeps_open

    def _begin_anew(self, count: int) -> Effects[None]:
        """Go on in a source that keeps nothing open: by its next matches without those that are decided.

        Matches that wait according to a cursor are among them, since they are not decided; nothing else is requested
        again, so this is no replay and costs no recovery.

        Args:
            count: The number of matches that are needed besides those that wait; 0 for none.
        """
        pulls = self._log
        unread = pulls.unread
        decided = [id_ for id_ in pulls.ids if id_ not in unread]
        count = min(MAX_ROWS, max(1, count + len(unread)))  # what is left of them comes by the next pages
        page = yield from self._request(StartQuery(count, seen=decided))
        pulls.begin_anew(unread)
        pulls.add_page(count, page)
        pulls.page_count += int(len(page) > len(unread))
        self._note_end(page)
        pulls.mark_live()

    def _fetch_plain(self, max_count: int) -> Effects[None]:
        """Use one plain query, because the server has no room for a resumable one.

        The first one requests `max_count` matches. If they are not enough, a second one that requests as many as a
        query can bring takes its place; the phase ends after it.
        """
        pulls = self._log
        if pulls.plain and pulls.pulls[-1][0] >= MAX_ROWS:
            pulls.exhausted, pulls.complete = True, False
            return
        count = MAX_ROWS if pulls.plain else max_count
        page = yield PlainQuery(count)
        pulls.add_page(count, page, instead=pulls.plain)
        pulls.page_count += 1
        pulls.plain = True
        pulls.exhausted = len(page) < count  # last: an interrupt before it must not pass for the end

    # Replays

    def _replay_plain(self) -> Effects[None]:
        """Repeat the pulls, by a plain query if the matches came from one and the server still has no room."""
        pulls = self._log
        if not self._keeps_open:
            yield from self._begin_anew(0)
            return
        try:
            if not (pulls.plain and self._exceeds_max_recovery):
                if pulls.lost:
                    yield from self._replay(0)
                return
        except TooManyQueries as error:
            if not error.status or not pulls.plain:
                raise
        count = pulls.pulls[-1][0]
        page = yield PlainQuery(count)
        pulls.recovered += 1
        pulls.changed |= (again := [(count, ids_of(page))]) != pulls.pulls
        counted = len(pulls.unread.intersection(ids_of(page)))  # as pulled before the cursor was made
        pulls.pulled += pulls.queue_new(page, ids_of(page)) - counted
        pulls.pulls = again
        pulls.exhausted = len(page) < count

    @property
    def _exceeds_max_recovery(self) -> bool:
        return self._state.max_recovery is not None and self._log.cost > self._state.max_recovery

    def _replay(self, count: int) -> Effects[bool]:
        """Start the query again and repeat its pulls. Matches that were not there before are queued.

        Args:
            count: The size of the page that is needed besides; it may come with the replay. 0 for none.

        Returns:
            Whether matches were queued, or the end was reached.
        """
        pulls = self._log
        if self._exceeds_max_recovery:
            message = (
                f"to go on, {pulls.cost} rows would have to be requested again by {len(pulls.pulls)} pulls, "
                f"which is more than max_recovery={self._state.max_recovery}: open or resume the search with a larger "
                "max_recovery="
            )
            raise LimitReached(message)
        mergeable = yield from self._is_mergeable()
        plan = ReplayPlan.merging(pulls.pulls, count) if mergeable else ReplayPlan.page_by_page(pulls.pulls)
        pages = yield from self._replay_pages(plan)
        found = [id_ for ids, _ in pages for id_ in ids]
        yield from self._compare(found, plan.extra)
        return self._adopt(plan, pages, found)

    def _is_mergeable(self) -> Effects[bool]:
        """Return whether the order of the matches does not depend on the sizes of the pages."""
        if (stable := self._state.link.traits.stable_order) is not None:
            return stable
        if self._log.fused is False:
            return True
        info = yield from self._info()
        if info is None:
            return False
        return fuses_globally(info) or (self._log.fused is None and not is_hybrid(info))

    def _replay_pages(self, plan: ReplayPlan) -> Effects[list[ReplayedPage]]:
        pages: list[ReplayedPage] = []
        while len(pages) < len(plan.sizes):
            size = plan.sizes[len(pages)]
            try:
                page = yield from self._request(FetchNext(size) if pages else self._start(size))
                pages.append((ids_of(page), page))
            except QueryLost as loss:
                if not pages or not loss.reply_lost:
                    raise
                pages += yield from self._ask_on(plan, len(pages))
                page = pages[-1][1]
            self._patience.page_arrived()
            self._state.count(rows=len(page))
            if not page:
                break
        return pages

    def _ask_on(self, plan: ReplayPlan, position: int) -> Effects[list[ReplayedPage]]:
        """Request the page after a lost one. Its ids tell how many pages the server had passed.

        Returns:
            The pages that were passed, of which only the ids are known, and the page that came.

        Raises:
            QueryLost: The ids would not tell, or did not.
        """
        lost = 1
        while may_ask_on(plan, position, lost, self._log.unread):
            try:
                page = yield from self._request(FetchNext(plan.sizes[position], after_loss=True))
            except QueryLost as loss:
                if not loss.reply_lost:
                    raise
                lost += 1
                continue
            passed = pages_passed(plan, position, lost, ids_of(page))
            if passed is None:
                break
            self._state.count(repeats=1)
            known = plan.expected[position : position + passed]
            return [*((ids or [], []) for ids in known), (ids_of(page), page)]
        raise QueryLost(reply_lost=False)

    def _compare(self, found: list[str], extra: int) -> Effects[None]:
        """Note how the matches of a replay differ from those before."""
        kind = difference(self._log.ids, found, extra)
        if kind is Difference.NONE:
            return
        exact = self._state.exact or self._state.link.traits.stable_order
        if exact is None:
            info = yield from self._info()
            exact = info is not None and ranks_exactly(info)
        if kind is Difference.MISSING or exact:
            self._log.changed = True
        else:
            self._log.reordered = True
            log.info("the index found the matches in another order: it may rank approximately, or its data has changed")

    def _adopt(self, plan: ReplayPlan, pages: list[ReplayedPage], found: list[str]) -> bool:
        """Make the query that was started again that of the search. Returns whether that brought anything."""
        pulls = self._log
        before, sizes = pulls.ids, list(plan.sizes)
        was_at_end = not pulls.pulls[-1][1]
        nothing_new = found == before
        if nothing_new:  # the page that was needed besides did not come, so it costs no recovery
            sizes[-1] -= plan.extra
        matches = [match for _, page in pages for match in page]
        again = len(pulls.unread.intersection(found))  # counted as pulled before the cursor was made
        queued = pulls.queue_new(matches, ids_of(matches))
        pulls.pulls = [(size, ids) for size, (ids, _) in zip(sizes, pages, strict=False)]
        pulls.pulled += queued - again
        pulls.page_count += int(len(found) > len(before) and plan.extra > 0)
        pulls.recovered += 1
        self._state.count(replays=1, merged=int(plan.merged), rows=again - queued)
        way = "merged" if plan.merged else "page by page"
        log.info("the query was started again: %d matches by %d requests, %s", len(found), len(pages), way)
        # Last: after an interrupt before it, the replay is repeated.
        pulls.exhausted = not pages[-1][0] or (plan.merged and was_at_end and nothing_new)
        pulls.mark_live()
        return bool(queued) or pulls.exhausted
