"""Packing a context window."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nextk.arguments import require_count
from nextk.errors import ClientError
from nextk.until.policy import Candidate, Policy, PolicyState

_CHARACTERS_PER_TOKEN = 4


def estimate_tokens(text: str) -> int:
    """About how many tokens a text has: one for every four characters, rounded up.

    That is the rule of thumb for English and the usual tokenisers; code and other languages have more. Pass the counter
    of your model where the budget is tight.
    """
    return math.ceil(len(text) / _CHARACTERS_PER_TOKEN)


@dataclass(frozen=True)
class TokenBudget(Policy):
    """Until `n` tokens are filled. A row that does not fit is skipped, and smaller ones further on fill the rest.

    What was skipped is set aside, and offered again by the next call on the search. In a bare `fetch_next`, which has
    no budget, nothing is skipped.

    Args:
        n: How many tokens.
        count: Counts those of a text; absent: `estimate_tokens`.
        patience: After how many rows that do not fit, one after another, to stop, once something has fitted; those set
            aside before do not count.

    Raises:
        ClientError: A number is not a whole one of at least 1, or `count` cannot be called.
    """

    n: int
    count: Callable[[str], int] = estimate_tokens
    patience: int = 10

    def __post_init__(self) -> None:
        require_count(self.n, "n")
        require_count(self.patience, "patience")
        if not callable(self.count):
            message = f"count={self.count!r} cannot be called: give a function from a text to its number of tokens"
            raise ClientError(message)

    def new_state(self, memory: dict[str, Any]) -> PolicyState:  # noqa: ARG002
        """Add up tokens."""
        return _TokenCount(self)

    def tokens(self, candidate: Candidate) -> int:
        """How many tokens a row has.

        Raises:
            ClientError: The counter returned something else than a whole number of at least 0.
        """
        count: object = self.count(candidate.text)
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            message = (
                f"the counter of TokenBudget returned {count!r} for row {candidate.id!r}: it has to return an int >= 0"
            )
            raise ClientError(message)
        return count


class _TokenCount(PolicyState):
    def __init__(self, policy: TokenBudget) -> None:
        super().__init__(policy)
        self._left = policy.n
        self._missed = 0
        self._tokens = 0  # of the row under judgement

    def fits(self, candidate: Candidate) -> bool:
        self._tokens = self.policy.tokens(candidate)
        fitting = self._tokens <= self._left
        # What did not fit an earlier call either must not end this one before it gets to anything new.
        self._missed = 0 if fitting else self._missed + (not candidate.offered_before)
        return fitting

    def add(self, candidate: Candidate) -> None:  # noqa: ARG002
        self._left -= self._tokens

    def enough(self) -> bool:
        # Patience is for a budget that is nearly full; where nothing has fitted yet, the bounds of the call decide.
        return bool(self._left <= 0 or (self.kept and self._missed >= self.policy.patience))
