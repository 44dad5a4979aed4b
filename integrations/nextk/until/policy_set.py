"""The policies that are applied during one call: those of the search, and that of the call. Private."""

import copy
from collections.abc import Iterator
from typing import Any

from nextk.errors import ClientError
from nextk.until.policy import BatchCheck, BatchObserver, Candidate, Policy, PolicyState

_ActivePolicy = tuple[Policy, PolicyState]


class PolicySet:
    """The state of every policy during one call.

    Args:
        until: The policy of the search; `None` for none.
        always: The policy that the search applies besides, and that never stops a call; `None` for none.
        stopping: The policy of the call, which also says when to stop; `None` if the call counts its results itself.
        memories: What the single policies of `until` and `always` remember, one for each; it is not changed.

    Attributes:
        memories: The memories after the call.
        checks: The policies that check matches in batches, with their states.
        observers: The states of the policies that observe results in batches.
        lookahead: The number of matches that have to be there before the first one is decided.
        first_pull: The number of matches that will be needed as far as is known; 0 if it is not known.
    """

    def __init__(
        self, until: Policy | None, always: Policy | None, stopping: Policy | None, memories: list[dict[str, Any]]
    ) -> None:
        leaves = [[] if policy is None else policy.leaves() for policy in (until, always)]
        self.memories = copy.deepcopy(memories) if memories else [{} for _ in (*leaves[0], *leaves[1])]
        left = iter(self.memories)
        own, besides = ([(leaf, _new_state(leaf, next(left))) for leaf in part] for part in leaves)
        others: list[_ActivePolicy] = []
        self._stopping: list[_ActivePolicy] = []
        if stopping is not None and stopping == until:
            self._stopping = own
        elif stopping is not None:
            others = self._stopping = [(leaf, _new_state(leaf, {})) for leaf in stopping.leaves()]
        self._policy = stopping
        active = own + others + besides  # in the order in which checks are called
        self._by_score = [one for one in active if one[0].scores_only]
        self.checks = [(leaf, state) for leaf, state in active if isinstance(state, BatchCheck)]
        self.observers = [state for _, state in active if isinstance(state, BatchObserver)]
        self._by_match = [one for one in active if not one[0].scores_only and not isinstance(one[1], BatchCheck)]
        self._active = active
        self.lookahead = max((state.lookahead for _, state in self._stopping), default=0)
        self.first_pull = min((state.first_pull for _, state in self._stopping if state.first_pull), default=0)

    def __bool__(self) -> bool:
        return bool(self._active)

    def missing(self) -> int:
        """Return how many matches have to be kept besides before a policy can have enough; 1 if that is not known."""
        missing = [state.first_pull - state.kept for _, state in self._stopping]
        return min((number for number in missing if number > 0), default=1)

    def look_ahead(self, scores: list[float]) -> None:
        """Show the first scores to the policies that look ahead."""
        for _, state in self._stopping:
            if state.lookahead:
                state.preview(scores[: state.lookahead])

    def drop_cause(self, candidate: Candidate, denied: str | None) -> str | None:
        """Return why a match is dropped; `None` if it is kept.

        Args:
            candidate: The match.
            denied: The name of the check that denied the match; `None` if all have permitted it.
        """
        # Policies of scores see every match. The others see none that a check has denied.
        too_low = [leaf.name for leaf, state in self._by_score if not state.keeps(_visible_to(leaf, candidate))]
        if too_low:
            return too_low[0]
        if denied is not None:
            return denied
        return next((leaf.name for leaf, state in self._by_match if not state.keeps(candidate)), None)

    def fits(self, candidate: Candidate) -> bool:
        """Return whether every policy of the call has room for a match."""
        fitting = [state.fits(_visible_to(leaf, candidate)) for leaf, state in self._stopping]  # each has to see it
        return all(fitting)

    def add(self, candidate: Candidate) -> None:
        """Let every policy count a match that is kept."""
        for leaf, state in self._active:
            state.kept += 1
            state.add(_visible_to(leaf, candidate))

    def stop_reason(self) -> str | None:
        """Return the name of the policy that has enough; `None` to go on."""
        if self._policy is None:
            return None
        reasons: Iterator[str | None] = iter([leaf.name if state.enough() else None for leaf, state in self._stopping])
        return self._policy.stop_reason(reasons)


def _visible_to(leaf: Policy, candidate: Candidate) -> Candidate:
    """Return as much of a match as a policy may see: a policy of scores sees the score, and neither id nor text."""
    if not leaf.scores_only:
        return candidate
    return Candidate("", candidate.score, best_score=candidate.best_score, offered_before=candidate.offered_before)


def _new_state(leaf: Policy, memory: dict[str, Any]) -> PolicyState:
    state: object = leaf.new_state(memory)
    if not isinstance(state, PolicyState) or not hasattr(state, "kept"):
        message = (
            f"{leaf.name}.new_state() made no PolicyState: return a subclass of nextk.until.PolicyState "
            "that calls super().__init__"
        )
        raise ClientError(message)
    return state


NO_POLICIES = PolicySet(None, None, None, [])
"""The policies of a call that has none."""
