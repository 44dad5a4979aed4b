"""The policies that are at work during one call: that of the search, and that of the call."""

import copy
from collections.abc import Iterator
from typing import Any

from nextk.errors import ClientError
from nextk.until.policy import BatchCheck, BatchObserver, Candidate, Policy, PolicyState

_ActivePolicy = tuple[Policy, PolicyState]


class PolicySet:
    """Every policy's state during a call.

    Args:
        until: The policy of the search.
        always: What the search has to check besides.
        stopping: The policy of the call, which also says when to stop; `None` for a call that counts for itself.
        memories: What the states of the first two remember, one for each leaf; not changed.
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
        active = own + others + besides  # in the order in which checks are asked
        self._by_score = [one for one in active if one[0].scores_only]
        self.checks = [(leaf, state) for leaf, state in active if isinstance(state, BatchCheck)]
        self.observers = [state for _, state in active if isinstance(state, BatchObserver)]
        self._by_row = [one for one in active if not one[0].scores_only and not isinstance(one[1], BatchCheck)]
        self._active = active
        self.lookahead = max((state.lookahead for _, state in self._stopping), default=0)
        """How many rows have to be there before the first one is judged."""
        self.first_pull = min((state.first_pull for _, state in self._stopping if state.first_pull), default=0)
        """How many rows will be needed as far as is known; 0 for no idea."""

    def __bool__(self) -> bool:
        return bool(self._active)

    def look_ahead(self, scores: list[float]) -> None:
        """Show what is to come to those who want to see it."""
        for _, state in self._stopping:
            if state.lookahead:
                state.preview(scores[: state.lookahead])

    def drop_cause(self, candidate: Candidate, denied: str | None) -> str | None:
        """Why a row is dropped; `None` if it is not.

        Args:
            candidate: The row.
            denied: Why it may not be shown: the check that did not permit it.
        """
        too_low = [leaf.name for leaf, state in self._by_score if not state.keeps(_shown(leaf, candidate))]  # every row
        if too_low:
            return too_low[0]
        if denied is not None:
            return denied  # before anyone else sees the row
        return next((leaf.name for leaf, state in self._by_row if not state.keeps(candidate)), None)

    def fits(self, candidate: Candidate) -> bool:
        """Whether there is room for a row in this call."""
        fitting = [state.fits(_shown(leaf, candidate)) for leaf, state in self._stopping]  # each is to know of the row
        return all(fitting)

    def add(self, candidate: Candidate) -> None:
        """Let everyone count a row that is kept."""
        for leaf, state in self._active:
            state.kept += 1
            state.add(_shown(leaf, candidate))

    def stop_reason(self) -> str | None:
        """Why to stop; `None` to go on."""
        if self._policy is None:
            return None
        reasons: Iterator[str | None] = iter([leaf.name if state.enough() else None for leaf, state in self._stopping])
        return self._policy.stop_reason(reasons)


def _shown(leaf: Policy, candidate: Candidate) -> Candidate:
    """As much of a row as a policy is to see."""
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
"""No policy at all."""
