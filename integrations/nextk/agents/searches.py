"""The searches of a thread: books by the name of their tool, joined by a reducer; and until what a call goes on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from nextk.retrieval.book import Patch, Plan, empty, patched
from nextk.until import Candidate, Judge, MaxResults, Policy

Books: TypeAlias = dict[str, Any]
"""The books of a thread, by the name of the tool that searches; as an update, patches, or `None` to begin anew."""


def merge(books: Books, update: Mapping[str, Patch | None]) -> Books:
    """The reducer of the state.

    Args:
        books: As they are.
        update: A patch for each book that changes; `None` to forget it.
    """
    merged = dict(books or {})
    for name, patch in update.items():
        if patch is None:
            merged.pop(name, None)
        else:
            merged[name] = patched(merged.get(name) or empty(), patch)
    return merged


def policy_of(plan: Plan) -> Policy:
    """Until what a call goes on, and what it leaves out."""
    return MaxResults(plan.size) | Unshown(plan.shown)


@dataclass(frozen=True)
class Unshown(Policy):
    """Keeps what was not shown before.

    Args:
        shown: Ids.
    """

    shown: frozenset[str]

    def judge(self, memory: dict[str, Any]) -> Judge:  # noqa: ARG002
        """Compare ids."""
        return _Comparing(self)


class _Comparing(Judge):
    def keeps(self, candidate: Candidate) -> bool:
        return candidate.id not in self.policy.shown
