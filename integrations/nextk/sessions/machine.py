"""The search machine: what a search does next. Private, and without I/O.

Each call is a generator of effects (`nextk.sessions.effects`). A session carries out each effect, blocking or awaiting,
and sends the answer in. A call changes the decisions of the search in `_commit` or `_commit_page` only; whatever raises
before that costs no match.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from nextk.arguments import choose, require_kind
from nextk.bodies import MAX_ROWS
from nextk.errors import ClientError, LimitReached
from nextk.sessions.config import UNBOUNDED, SearchConfig, require_n
from nextk.sessions.cursor import Position
from nextk.sessions.effects import Effects, Embed, FetchInfo, Release
from nextk.sessions.evaluation import Evaluation, RowReader
from nextk.sessions.link import BaseLink
from nextk.sessions.query import RetrievalMode, SearchQuery
from nextk.sessions.shortfall import NO_ROOM, STORE_LIMIT, Shortfall
from nextk.sessions.source import SourceTraits
from nextk.sessions.state import SearchState
from nextk.until.decisions import NO_TEXT
from nextk.until.policy import Policy, require_policy
from nextk.until.policy_set import NO_POLICIES, PolicySet

log = logging.getLogger("nextk.sessions")

T = TypeVar("T")


class SearchMachine(Generic[T]):
    """The calls of one search, as generators of effects.

    Args:
        template: The query; its text or vectors may be missing, then `Embed` asks for them.
        reader: The conversion of matches into results.
        texts: The texts of the query as the caller wrote them, for cursors.
        config: The policy of the search, its limits, and how much a recovery may cost.
        link: The link to what is searched, of which the traits and the counts are read.
        position: The position at which to go on; `None` for a new search.

    Attributes:
        state: Where the search stands.
    """

    def __init__(
        self,
        template: SearchQuery,
        reader: RowReader[T],
        texts: Sequence[str],
        config: SearchConfig,
        link: BaseLink,
        position: Position | None = None,
    ) -> None:
        self.state = SearchState(template, texts, config, link, position)
        self._reader = reader
        self._config = config
        self._always_on = config.always_on
        self._unbounded = config.limits == UNBOUNDED
        self._began: float | None = None  # the time of the first call, by the clock of the config

    def fetch_next(self, n: object, prefetch: int = 0) -> Effects[list[T]]:
        """Return the next `n` results; fewer at the end of the search or at a limit, and none after the end.

        Args:
            n: The number of results.
            prefetch: The number of matches that each pull brings at least; those that are not needed yet wait.

        Raises:
            ClientError: `n` is not a whole number of at least 1.
            LimitReached: A limit of the search leaves nothing to hand out.
        """
        count = require_n(n)
        passes_on = not prefetch and count <= MAX_ROWS and self._passes_pages_on
        if passes_on:
            yield from self._pull_page(count, MAX_ROWS, None)
            if (page := self._whole_page(count)) is not None:
                return page
        evaluation = self._evaluation(None, count, prefetch)
        if passes_on:
            evaluation.note_pull(count, len(self.state.waiting))
        return (yield from self._evaluate(evaluation, None))

    @property
    def _passes_pages_on(self) -> bool:
        """Whether the next page can be handed out as it comes: nothing decides about it, limits it, or waits."""
        log = self.state.log
        undecided = self._always_on or not self._unbounded or self.state.waiting
        return log.live and not (undecided or log.exhausted)

    def _whole_page(self, count: int) -> list[T] | None:
        """Hand out the matches that wait, if they are a full page of results: the cheap way of most calls.

        Returns:
            The results; `None` if the matches have to be decided, because they are fewer or some hold no text.
        """
        state = self.state
        if len(state.waiting) != count or not state.log.live:
            return None
        convert = self._reader.convert
        page = [item for match, _ in state.waiting if (item := convert(match)) is not None]
        if len(page) < count:
            return None
        self._commit_page(count)
        return page

    def fetch_until(self, policy: Policy | None) -> Effects[list[T]]:
        """Return results until a policy has enough, or a guard ends the call.

        Args:
            policy: The policy; `None` for the policy of the search.

        Raises:
            ClientError: There is no policy, or it cannot be applied to this search.
            LimitReached: A limit of the search leaves nothing to hand out.
        """
        stopping = self._config.until if policy is None else require_policy(policy, "policy")
        if stopping is None:
            message = "fetch_until() needs a policy: pass one, or open the search with until="
            raise ClientError(message)
        return (yield from self._evaluate(self._evaluation(stopping, None), stopping))

    def widen(self, mode: RetrievalMode | str | None, filter: Any) -> Effects[None]:
        """Go on with the same query in another mode or through another filter.

        Args:
            mode: The new mode; `None` for the present one.
            filter: The new filter; `None` for the present one.

        Raises:
            ClientError: Neither the mode nor the filter changes, or the source takes none.
        """
        state = self.state
        chosen = choose(RetrievalMode, mode, "retrieval_mode")
        self._refuse_untaken(chosen, filter)
        wider = state.with_filter(state.template, filter)
        if chosen is not None:
            wider = replace(wider, mode=chosen)
        if wider == state.template:
            message = "widen() changes nothing: name another retrieval_mode= or another filter="
            raise ClientError(message)
        if state.set_aside and state.waiting_to_be_pulled:  # they would be lost with the phase that brings them
            yield from self._catch_up()
        state.widen(wider)

    def _refuse_untaken(self, mode: RetrievalMode | None, filter: Any) -> None:
        """Refuse a mode or a filter that the source does not take."""
        traits = self.state.traits
        for name, given, taken in (("retrieval_mode", mode, traits.modes), ("filter", filter, traits.filters)):
            if given is not None and not taken:
                message = f"this search is one of a store that takes no {name}: leave {name}= out"
                raise ClientError(message)

    def _evaluation(self, stopping: Policy | None, n: int | None, prefetch: int = 0) -> Evaluation[T]:
        config, state = self._config, self.state
        max_results = None if stopping is None else config.max_results
        if config.limits.max_results is not None:
            left = config.limits.max_results - state.kept
            max_results = left if max_results is None else min(max_results, left)
        has_policies = stopping is not None or bool(self._always_on)
        policies = PolicySet(config.until, config.always, stopping, state.memories) if has_policies else NO_POLICIES
        return Evaluation(state.waiting, state.set_aside, self._reader, policies, n, max_results, prefetch)

    def _evaluate(self, evaluation: Evaluation[T], stopping: Policy | None) -> Effects[list[T]]:
        began = self._config.clock()
        self._began = began if self._began is None else self._began
        state, pull_log, has_policies = self.state, self.state.log, bool(evaluation.policies)
        if has_policies:
            yield from self._refuse_fused(stopping)
        while True:
            # What waits according to the cursor comes first, and its recovery is no pull of this call.
            if pull_log.lost and state.waiting_to_be_pulled:
                yield from self._catch_up(self._deadline(began, stopping))
            if not has_policies:
                evaluation.keep_all()
            elif pull_log.exhausted or not evaluation.needs_lookahead():
                yield from evaluation.examine()
            if evaluation.done or (pull_log.exhausted and not evaluation.needs_lookahead()):
                break
            if (limit := self._limit_of_call(evaluation, began, stopping)) is not None:
                if evaluation.needs_lookahead():  # no more matches will come
                    yield from evaluation.examine()
                evaluation.end_by(limit)
                break
            yield from self._pull(evaluation, stopping, self._deadline(began, stopping))
        return (yield from self._conclude(evaluation))

    def _conclude(self, evaluation: Evaluation[T]) -> Effects[list[T]]:
        if self.state.log.exhausted:
            yield Release()  # before the commit: if this is interrupted, the next call gets the results
        self._commit(evaluation)
        if not evaluation.kept:
            self._refuse_empty()
        shortfall = self.state.shortfall
        if self._config.warns and shortfall is not None and (evaluation.policies or shortfall.reason == NO_ROOM):
            log.warning("%s", shortfall)
        return evaluation.kept

    def _pull(self, evaluation: Evaluation[T], stopping: Policy | None, deadline: float | None) -> Effects[None]:
        if self.state.query is None:
            yield from self._embed()
        waiting = self.state.waiting
        max_count = MAX_ROWS if self.state.log.pulls else self._plain_count(stopping)
        count, waiting_before = evaluation.next_count(), len(waiting)
        yield from self._pull_page(count, max_count, deadline)
        evaluation.note_pull(count, len(waiting) - waiting_before)

    def _pull_page(self, count: int, max_count: int, deadline: float | None) -> Effects[None]:
        pull_log = self.state.log
        changed = pull_log.changed
        yield from self.state.puller(deadline).pull(count, max_count)
        if pull_log.changed > changed:
            log.warning("the search was asked anew and found other rows: the data has changed since it began")

    def _catch_up(self, deadline: float | None = None) -> Effects[None]:
        if self.state.query is None:
            yield from self._embed()
        yield from self.state.puller(deadline).catch_up()

    def _deadline(self, began: float, stopping: Policy | None) -> float | None:
        """Return the time at which the caller wants no further request; `None` for never."""
        guard = None if stopping is None else self._config.guards.deadline
        limit = self._config.limits.deadline
        ends = [None if guard is None else began + guard, None if limit is None else (self._began or began) + limit]
        return min((end for end in ends if end is not None), default=None)

    def _embed(self) -> Effects[None]:
        self.state.query = require_kind((yield Embed(self.state.template)), SearchQuery, "the query that embed= made")

    def _plain_count(self, stopping: Policy | None) -> int:
        """Return the number of matches to request if one page has to do: the limit, if no policy drops matches."""
        if any(leaf.drops for leaf in self._active_policies(stopping)):
            return MAX_ROWS
        max_results = self._config.limits.max_results or (self._config.max_results if stopping else None)
        return min(MAX_ROWS, max_results or MAX_ROWS)

    def _active_policies(self, stopping: Policy | None) -> list[Policy]:
        return self._always_on + ([] if stopping is None else stopping.leaves())

    def _refuse_fused(self, stopping: Policy | None) -> Effects[None]:
        """Refuse policies that compare scores if the scores are fused ranks.

        Such scores do not say how near a match is: the policy would drop every match, or none, without a sign.
        """
        leaf = next((leaf for leaf in self._active_policies(stopping) if leaf.scores_only), None)
        if leaf is None:
            return
        state = self.state
        if state.query is None:
            yield from self._embed()
        state.note_fused()
        numbers = {provenance.phase for _, provenance in state.waiting}
        scored = [*(state.phases[number].log for number in numbers), state.log]
        if any(log.fused is None for log in scored) and state.recovery.info is None:
            state.recovery.info = yield FetchInfo()
        if any(state.is_fused(log) for log in scored):
            raise ClientError(_ranked_scores(leaf, state.traits))

    def _limit_of_call(self, evaluation: Evaluation[T], began: float, stopping: Policy | None) -> str | None:
        """Return the name of the guard of the call, or of the limit of the search, that forbids another pull."""
        if stopping is None and self._unbounded:
            return None
        now = self._config.clock()
        if stopping is not None:
            guard = self._config.guards.reached(
                results=len(evaluation.kept), pulls=evaluation.pulls, seconds=now - began
            )
            if guard is not None:
                return guard
        return self._limit_of_search(len(evaluation.kept), now)

    def _limit_of_search(self, more: int, now: float) -> str | None:
        pulls = sum(phase.log.page_count for phase in self.state.phases)
        seconds = 0.0 if self._began is None else now - self._began
        return self._config.limits.reached(results=self.state.kept + more, pulls=pulls, seconds=seconds)

    def _refuse_empty(self) -> None:
        """Refuse to return nothing because of a limit: the caller would take it for the end of the search."""
        if self._unbounded or self.state.exhausted:
            return
        limit = self._limit_of_search(0, self._config.clock())
        if limit is not None:
            message = (
                f"{limit} is reached, a bound that was asked for when this search was opened: "
                "open or resume it with a larger one to go on"
            )
            raise LimitReached(message)

    def _commit(self, evaluation: Evaluation[T]) -> None:
        """Make the decisions of a call final."""
        state = self.state
        state.shortfall = self._shortfall(evaluation)
        state.waiting[: evaluation.position] = evaluation.set_aside
        state.set_aside = len(evaluation.set_aside) + max(0, state.set_aside - evaluation.position)
        for number, phase in enumerate(state.phases):
            phase.kept += evaluation.kept_phases.count(number)
        if evaluation.dropped:
            state.dropped.update(evaluation.dropped)
        if NO_TEXT in evaluation.dropped:
            self._reader.warn_left_out(evaluation.dropped[NO_TEXT], evaluation.position)
        if evaluation.policies:
            state.memories = evaluation.policies.memories
        state.stop_reason = evaluation.stop_reason or (None if evaluation.done else "exhausted")

    def _commit_page(self, count: int) -> None:
        """Make it final that all matches that wait, `count` of the present phase, are handed out."""
        state = self.state
        state.waiting.clear()
        state.phases[-1].kept += count
        state.stop_reason = state.shortfall = None

    def _shortfall(self, evaluation: Evaluation[T]) -> Shortfall | None:
        """Return what a call has brought if a limit has ended it, and not the number of results that was asked for."""
        kept, reason = len(evaluation.kept), evaluation.ended_by
        if reason is None and evaluation.pulls and not (evaluation.done or self.state.log.complete):
            reason = NO_ROOM if self.state.log.plain else STORE_LIMIT
        if reason is None or (self._config.cap is not None and kept >= self._config.cap):
            return None
        bound = self._bound(reason, kept)
        return Shortfall(reason, bound, evaluation.pulls, evaluation.pulled, kept, evaluation.dropped)

    def _bound(self, name: str, kept: int) -> float | None:
        """Return the value of the limit that has ended a call: that of the search, if it is reached, or the guard."""
        if name == NO_ROOM:
            return None
        if name == STORE_LIMIT:
            return self.state.report.limit
        limits = [self._config.guards, self._config.limits]
        if self._limit_of_search(kept, self._config.clock()) == name:
            limits.reverse()
        return next((bound for each in limits if (bound := getattr(each, name)) is not None), None)


def _ranked_scores(leaf: Policy, traits: SourceTraits) -> str:
    """Return the message that refuses a policy of scores, because these are made of ranks."""
    if not traits.modes:
        return (
            f"{leaf.name} compares scores, and this store gives none that say how near a row is, so that they are made "
            "of ranks: use another policy"
        )
    return (
        f"{leaf.name} compares scores, and those of a hybrid search are made of ranks: "
        'make the retriever with retrieval_mode="dense" or "sparse", widen(retrieval_mode=) an open search, '
        "or use another policy"
    )
