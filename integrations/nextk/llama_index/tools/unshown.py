"""The policy that shows a model no node twice."""

from dataclasses import dataclass
from typing import Any

from nextk.until import Candidate, Judge, Policy


@dataclass(frozen=True)
class Unshown(Policy):
    """Keeps the nodes that were not shown before; by their own ids, which need not be those of the records.

    Args:
        shown: Ids of nodes.
    """

    shown: frozenset[str]

    def judge(self, memory: dict[str, Any]) -> Judge:  # noqa: ARG002
        """Compare ids."""
        return _Comparing(self)


class _Comparing(Judge):
    def __init__(self, policy: Unshown) -> None:
        super().__init__(policy)
        self._taken: set[str] = set()

    def keeps(self, candidate: Candidate) -> bool:
        id_ = candidate.item.node_id
        return id_ not in self.policy.shown and id_ not in self._taken

    def took(self, candidate: Candidate) -> None:
        self._taken.add(candidate.item.node_id)
