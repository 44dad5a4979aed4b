"""What LlamaIndex narrows a search by beyond the index: a filter's residual, and node postprocessors, as policies.

Both take part in every call of a search, before anything is counted: so that "2 nodes" are 2 nodes that passed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle

from nextk.until import Candidate, Checking, Judge, Policy


@dataclass(frozen=True)
class Filters(Policy):
    """Keeps what `MetadataFilters`, `doc_ids` and `node_ids` mean, where the index could not be told all of it.

    Args:
        meant: Whether a row is meant, by its metadata and its id.
    """

    meant: Callable[[Mapping[str, Any], str], bool]

    def judge(self, memory: dict[str, Any]) -> Judge:  # noqa: ARG002
        """Compare metadata."""
        return _Meant(self)


class _Meant(Judge):
    def keeps(self, candidate: Candidate) -> bool:
        return bool(self.policy.meant(candidate.metadata, candidate.id))


@dataclass(frozen=True)
class NodePostprocessors(Policy):
    """Keeps what node postprocessors leave, in the order of the search and as they leave it.

    Args:
        postprocessors: Applied one after another, each to what the one before it left of some nodes together.
        query_bundle: The question.
        native: Whether they are awaited.
    """

    postprocessors: Sequence[BaseNodePostprocessor]
    query_bundle: QueryBundle
    native: bool

    def judge(self, memory: dict[str, Any]) -> Judge:  # noqa: ARG002
        """Apply them."""
        return _Left(self)


class _Left(Checking):
    def __init__(self, policy: NodePostprocessors) -> None:
        super().__init__(policy)
        self.check = self._acheck if policy.native else self._check

    def _check(self, nodes: list[NodeWithScore]) -> list[bool]:
        left = list(nodes)
        for postprocessor in self.policy.postprocessors:
            left = postprocessor.postprocess_nodes(left, query_bundle=self.policy.query_bundle)
        return _verdicts(nodes, left)

    async def _acheck(self, nodes: list[NodeWithScore]) -> list[bool]:
        left = list(nodes)
        for postprocessor in self.policy.postprocessors:
            left = await postprocessor.apostprocess_nodes(left, query_bundle=self.policy.query_bundle)
        return _verdicts(nodes, left)


def _verdicts(nodes: Sequence[NodeWithScore], left: Sequence[NodeWithScore]) -> list[bool]:
    """Which nodes are left; they take on what the postprocessors made of them: another text, another score."""
    made = {node.node_id: node for node in left}
    for node in nodes:
        if (after := made.get(node.node_id)) is not None:
            node.node, node.score = after.node, after.score
    return [node.node_id in made for node in nodes]
