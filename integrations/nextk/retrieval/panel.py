"""The policies that sit in judgement during one call: that of the search, and that of the call."""

import copy
from collections.abc import Iterator
from typing import Any

from nextk.errors import ClientError
from nextk.until.policy import Candidate, Checking, Judge, Learning, Policy

_Seat = tuple[Policy, Judge]


class Panel:
    """Every judge of a call.

    Args:
        until: The policy of the search.
        always: What the search has to check besides.
        driving: The policy of the call, which also says when to stop; `None` for a call that counts for itself.
        memories: What the judges of the first two remember, one for each leaf; not changed.
    """

    def __init__(
        self, until: Policy | None, always: Policy | None, driving: Policy | None, memories: list[dict[str, Any]]
    ) -> None:
        leaves = [[] if policy is None else policy.leaves() for policy in (until, always)]
        self.memories = copy.deepcopy(memories) if memories else [{} for _ in (*leaves[0], *leaves[1])]
        left = iter(self.memories)
        own, besides = ([(leaf, _judge(leaf, next(left))) for leaf in part] for part in leaves)
        others: list[_Seat] = []
        self._driving: list[_Seat] = []
        if driving is not None and driving == until:
            self._driving = own
        elif driving is not None:
            others = self._driving = [(leaf, _judge(leaf, {})) for leaf in driving.leaves()]
        self._policy = driving
        seats = own + others + besides  # in the order in which checks are asked
        self._scores = [seat for seat in seats if seat[0].scores_only]
        self.checks = [(leaf, judge) for leaf, judge in seats if isinstance(judge, Checking)]
        self.learners = [judge for _, judge in seats if isinstance(judge, Learning)]
        self._rest = [seat for seat in seats if not seat[0].scores_only and not isinstance(seat[1], Checking)]
        self._seats = seats
        self.lookahead = max((judge.lookahead for _, judge in self._driving), default=0)
        """How many rows have to be there before the first one is judged."""
        self.rows = min((judge.rows for _, judge in self._driving if judge.rows), default=0)
        """How many rows will be needed as far as is known; 0 for no idea."""

    def __bool__(self) -> bool:
        return bool(self._seats)

    def look(self, scores: list[float]) -> None:
        """Show what is to come to those who want to see it."""
        for _, judge in self._driving:
            if judge.lookahead:
                judge.look(scores[: judge.lookahead])

    def cause(self, candidate: Candidate, denied: str | None) -> str | None:
        """Why a row is dropped; `None` if it is not.

        Args:
            candidate: The row.
            denied: Why it may not be shown: the check that did not permit it.
        """
        far = [leaf.name for leaf, judge in self._scores if not judge.keeps(_shown(leaf, candidate))]  # every row
        if far:
            return far[0]
        if denied is not None:
            return denied  # before anyone else sees the row
        return next((leaf.name for leaf, judge in self._rest if not judge.keeps(candidate)), None)

    def fits(self, candidate: Candidate) -> bool:
        """Whether there is room for a row in this call."""
        fitting = [judge.fits(_shown(leaf, candidate)) for leaf, judge in self._driving]  # each is to know of the row
        return all(fitting)

    def took(self, candidate: Candidate) -> None:
        """Let everyone count a row that is kept."""
        for leaf, judge in self._seats:
            judge.kept += 1
            judge.took(_shown(leaf, candidate))

    def reason(self) -> str | None:
        """Why to stop; `None` to go on."""
        if self._policy is None:
            return None
        said: Iterator[str | None] = iter([leaf.name if judge.enough() else None for leaf, judge in self._driving])
        return self._policy.reason(said)


def _shown(leaf: Policy, candidate: Candidate) -> Candidate:
    """As much of a row as a policy is to see."""
    if not leaf.scores_only:
        return candidate
    return Candidate("", candidate.score, best=candidate.best, again=candidate.again)


def _judge(leaf: Policy, memory: dict[str, Any]) -> Judge:
    judge: object = leaf.judge(memory)
    if not isinstance(judge, Judge) or not hasattr(judge, "kept"):
        message = (
            f"{leaf.name}.judge() made no Judge: return a subclass of nextk.until.Judge that calls super().__init__"
        )
        raise ClientError(message)
    return judge


NOBODY = Panel(None, None, None, [])
"""No judge at all."""
