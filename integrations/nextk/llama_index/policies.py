"""Policies for the checks that LlamaIndex adds to a search: the residual of its filters, and node postprocessors.

Both take part in every call on a search, before nodes are counted, so that "2 nodes" are 2 nodes that have passed.
"""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle

from nextk.errors import ClientError
from nextk.filter_text import is_balanced
from nextk.sessions import SearchQuery
from nextk.sessions.query import require_filter
from nextk.until import BatchCheck, Candidate, Policy, PolicyState
from nextk.until.identity import describe_used


@dataclass(frozen=True)
class MetadataPolicy(Policy):
    """Keep the matches that pass `MetadataFilters`, `doc_ids` and `node_ids`, where the index cannot check all of it.

    Args:
        matches: A function that returns whether a match passes, by its metadata and its id.
    """

    matches: Callable[[Mapping[str, Any], str], bool]

    def new_state(self, memory: dict[str, Any]) -> PolicyState:  # noqa: ARG002
        """Return the state of one call, which checks the metadata and the id of each match."""
        return _MetadataState(self)


class _MetadataState(PolicyState):
    def keeps(self, candidate: Candidate) -> bool:
        return bool(self.policy.matches(candidate.metadata, candidate.id))


@dataclass(frozen=True)
class NodePostprocessors(Policy):
    """Keep the nodes that node postprocessors leave, as they leave them, in the order of the search.

    Args:
        postprocessors: The postprocessors. They are applied one after another to several nodes together, each to the
            nodes that the one before it has left.
        query_bundle: The query.
        awaited: Whether the coroutine methods of the postprocessors are awaited.
    """

    postprocessors: Sequence[BaseNodePostprocessor]
    query_bundle: QueryBundle
    awaited: bool

    @property
    def identity(self) -> str:
        """The classes of the postprocessors and what does not change in them, whether they are awaited or not."""
        methods = ("postprocess_nodes", "apostprocess_nodes")
        return " ".join([self.name, *(describe_used(one, methods) for one in self.postprocessors)])

    def new_state(self, memory: dict[str, Any]) -> PolicyState:  # noqa: ARG002
        """Return the state of one call, which applies the postprocessors."""
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


@dataclass(frozen=True)
class Restrictions:
    """The restrictions of a LlamaIndex retriever besides its `filter`; they hold for every call on its searches.

    Attributes:
        pushed_down: The part of `filters`, `doc_ids` and `node_ids` that the index checks, as a filter; `""` for none.
        residual: The part of them that the index cannot check; `None` if there is none.
        postprocessors: The node postprocessors.
    """

    pushed_down: str
    residual: MetadataPolicy | None
    postprocessors: Sequence[BaseNodePostprocessor]

    @property
    def checked_here(self) -> bool:
        """Whether there is anything to check that the index does not."""
        return self.residual is not None or bool(self.postprocessors)

    def joined(self, filter: str) -> str:
        """Join a filter of the caller's and the pushed-down part by AND; either may hold an OR.

        Raises:
            ClientError: The caller's filter is not a string; or it closes a parenthesis that it has not opened, or
                leaves a parenthesis or a string open, so that it could undo the pushed-down part.
        """
        require_filter(filter)
        if not self.pushed_down:
            return filter
        if not filter.strip(" \t\r\n"):
            return self.pushed_down
        if not is_balanced(filter):
            message = f"filter={filter!r} leaves a parenthesis or a string open, or closes one too many: balance it"
            raise ClientError(message)
        return f"({filter}) AND ({self.pushed_down})"

    def replacing(self, filter: str | None) -> str | None:
        """Join a filter that replaces the present one, as `joined` does; `None` keeps the present one."""
        return None if filter is None else self.joined(filter)

    def within(self, template: SearchQuery, filter: Any, namespace: str | None) -> "tuple[SearchQuery, Restrictions]":
        """Return the query and the restrictions of one search.

        Args:
            template: The query of the retriever, without text and vectors.
            filter: The filter of the search; `None` for the retriever's own.
            namespace: The namespace of the search; `None` for the retriever's own.

        Raises:
            ClientError: If the filter cannot be joined; see `joined`.
        """
        return template.within(filter=self.replacing(filter), namespace=namespace), self

    def policy(self, query_bundle: QueryBundle, *, awaited: bool) -> Policy | None:
        """Return the policy that holds for every call on a search, whichever other policy the call has.

        Args:
            query_bundle: The query.
            awaited: Whether the coroutine methods of the postprocessors are awaited.

        Returns:
            The policy, or `None` if there is nothing to check.
        """
        policies: list[Policy] = [] if self.residual is None else [self.residual]
        if self.postprocessors:
            policies.append(NodePostprocessors(self.postprocessors, query_bundle, awaited))
        return functools.reduce(operator.or_, policies) if policies else None


def _verdicts(nodes: Sequence[NodeWithScore], remaining: Sequence[NodeWithScore]) -> list[bool]:
    """Return which nodes are left. These nodes take over the text and the score that the postprocessors gave them."""
    made = {node.node_id: node for node in remaining}
    for node in nodes:
        if (after := made.get(node.node_id)) is not None:
            node.node, node.score = after.node, after.score
    return [node.node_id in made for node in nodes]
