"""The policy that fills a context window up to a number of tokens."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from nextk.arguments import require_count, require_kind, written
from nextk.errors import ClientError
from nextk.until.policy import Candidate, Policy, PolicyState

_BYTES_PER_TOKEN = 4


def estimate_tokens(text: str) -> int:
    """Estimate the number of tokens of a text: one for every four bytes of its UTF-8 form, rounded up.

    For English that is the rule of thumb of four characters a token. Other letters have two or three bytes, as they
    have more tokens. It stays an estimate: code has more tokens, and tokenisers differ most where letters are not
    Latin. If the budget is tight, pass the counter of your model to `TokenBudget`.

    Args:
        text: The text.

    Raises:
        ClientError: It is not a text.
    """
    require_kind(text, str, "text")
    return math.ceil(len(text.encode(errors="surrogatepass")) / _BYTES_PER_TOKEN)


@dataclass(frozen=True)
class TokenBudget(Policy):
    """Keeps the matches that fit into `n` tokens, and stops when the budget is full or hardly anything fits any more.

    A match that does not fit is skipped, and smaller matches further on fill the rest. Skipped matches are set aside,
    and the next call on the search is offered them first. A bare `fetch_next` has no budget and skips nothing.

    Args:
        n: The number of tokens, at least 1.
        count: A function that takes a text and returns its number of tokens. Default: `estimate_tokens`.
        patience: The number of consecutive matches that may fail to fit before the search stops. It counts only after a
            first match has fitted, and it does not count matches that an earlier call has set aside. Default: 10.

    Raises:
        ClientError: `n` or `patience` is not a whole number of at least 1, or `count` cannot be called.
    """

    drops: ClassVar[bool] = False  # what it skips is offered again
    n: int
    count: Callable[[str], int] = estimate_tokens
    patience: int = 10

    def __post_init__(self) -> None:
        require_count(self.n, "n")
        require_count(self.patience, "patience")
        if not callable(self.count):
            message = (
                f"count={written(self.count)} cannot be called: give a function from a text to its number of tokens"
            )
            raise ClientError(message)

    def new_state(self, memory: dict[str, Any]) -> PolicyState:  # noqa: ARG002
        """Make a state that adds up the tokens of one call."""
        return _TokenCount(self)

    def tokens(self, candidate: Candidate) -> int:
        """Return the number of tokens of a match.

        Args:
            candidate: The match, whose text is counted.

        Raises:
            ClientError: The counter returned something other than a whole number of at least 0.
        """
        count: object = self.count(candidate.text)
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            message = (
                f"the counter of TokenBudget returned {written(count)} for row {candidate.id!r}: "
                "it has to return an int >= 0"
            )
            raise ClientError(message)
        return count


class _TokenCount(PolicyState):
    def __init__(self, policy: TokenBudget) -> None:
        super().__init__(policy)
        self._left = policy.n
        self._missed = 0
        self._tokens = 0  # of the match that is being decided

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
