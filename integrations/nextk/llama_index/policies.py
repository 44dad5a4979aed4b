"""What LlamaIndex narrows a search by beyond the index: a filter's residual, and node postprocessors, as policies.

Both take part in every call of a search, before anything is counted: so that "2 nodes" are 2 nodes that passed.
"""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle

from nextk.until import BatchCheck, Candidate, Policy, PolicyState


@dataclass(frozen=True)
class MetadataPolicy(Policy):
    """Keeps what `MetadataFilters`, `doc_ids` and `node_ids` mean, where the index could not be told all of it.

    Args:
        matches: Whether a row is meant, by its metadata and its id.
    """

    matches: Callable[[Mapping[str, Any], str], bool]

    def new_state(self, memory: dict[str, Any]) -> PolicyState:  # noqa: ARG002
        """Compare metadata."""
        return _MetadataState(self)


class _MetadataState(PolicyState):
    def keeps(self, candidate: Candidate) -> bool:
        return bool(self.policy.matches(candidate.metadata, candidate.id))


@dataclass(frozen=True)
class NodePostprocessors(Policy):
    """Keeps what node postprocessors leave, in the order of the search and as they leave it.

    Args:
        postprocessors: Applied one after another, each to what the one before it left of some nodes together.
        query_bundle: The question.
        awaited: Whether they are awaited.
    """

    postprocessors: Sequence[BaseNodePostprocessor]
    query_bundle: QueryBundle
    awaited: bool

    def new_state(self, memory: dict[str, Any]) -> PolicyState:  # noqa: ARG002
        """Apply them."""
        return _PostprocessorCheck(self)


class _PostprocessorCheck(BatchCheck):
    def __init__(self, policy: NodePostprocessors) -> None:
        super().__init__(policy)
        self.check = self._acheck if policy.awaited else self._check

    def _check(self, nodes: list[NodeWithScore]) -> list[bool]:
        remaining = list(nodes)
        for postprocessor in self.policy.postprocessors:
            remaining = postprocessor.postprocess_nodes(remaining, query_bundle=self.policy.query_bundle)
        return _verdicts(nodes, remaining)

    async def _acheck(self, nodes: list[NodeWithScore]) -> list[bool]:
        remaining = list(nodes)
        for postprocessor in self.policy.postprocessors:
            remaining = await postprocessor.apostprocess_nodes(remaining, query_bundle=self.policy.query_bundle)
        return _verdicts(nodes, remaining)


def always_on(
    residual: MetadataPolicy | None,
    postprocessors: Sequence[BaseNodePostprocessor],
    query_bundle: QueryBundle,
    *,
    awaited: bool,
) -> Policy | None:
    """The policy that holds for every call on a search, whatever other policy it has.

    Args:
        residual: The part of the filters that the index could not be told; `None` if there is none.
        postprocessors: Those of the retriever.
        query_bundle: The question.
        awaited: Whether the postprocessors are awaited.

    Returns:
        The policy, or `None` where there is nothing to check.
    """
    policies: list[Policy] = [] if residual is None else [residual]
    if postprocessors:
        policies.append(NodePostprocessors(postprocessors, query_bundle, awaited))
    return functools.reduce(operator.or_, policies) if policies else None


def _verdicts(nodes: Sequence[NodeWithScore], remaining: Sequence[NodeWithScore]) -> list[bool]:
    """Which nodes are left; they take on what the postprocessors made of them: another text, another score."""
    made = {node.node_id: node for node in remaining}
    for node in nodes:
        if (after := made.get(node.node_id)) is not None:
            node.node, node.score = after.node, after.score
    return [node.node_id in made for node in nodes]
