"""Rows of the answers of LlamaIndex's vector stores, and the nodes that have to be looked up for them. No I/O. Private.

How an answer is read is LlamaIndex's own contract: `VectorIndexRetriever` in llama_index.core 0.14.25 reads it so. The
difference is that a node which is not in the docstore ends that retrieval by a `KeyError`, and is left out here.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, ObjectType, TextNode
from llama_index.core.vector_stores.types import VectorStoreQueryResult

from nextk.llama_index.filters import NO_DOCUMENT, PARENT_KEYS
from nextk.llama_index.nodes import text_of
from nextk.sessions import RowReader
from nextk.stores import RowKey, StoreRow, row_id
from nextk.types import QueryResult

log = logging.getLogger("nextk.llama_index")


@dataclass(frozen=True)
class ItemReader(RowReader[NodeWithScore]):
    """The reader of a source's rows: it hands out their nodes, and leaves out rows without one."""

    def warn_left_out(self, left_out: int, total: int) -> None:
        """Warn that `left_out` of the `total` rows of one call have no node."""
        message = "%d of %d rows that the store has found have no node, for example in the docstore: they are left out"
        log.warning(message, left_out, total)


def item_reader() -> ItemReader:
    """Return the reader that makes nodes of the rows of a source.

    The node is the row's `item`, if it is one, or else a `TextNode` of its text. The score is that of the item, which
    is the store's own, or else that of the row.
    """
    return ItemReader(_node_of, text_of)


def _node_of(row: QueryResult) -> NodeWithScore | None:
    item = getattr(row, "item", None)
    if isinstance(item, NodeWithScore):
        return NodeWithScore(node=_copied(item.node), score=item.score)
    if isinstance(item, BaseNode):
        return NodeWithScore(node=_copied(item), score=row.score)
    if row.data is None:
        return None
    return NodeWithScore(node=TextNode(id_=row.id, text=row.data, metadata=row.metadata or {}), score=row.score)


def _copied(node: BaseNode) -> BaseNode:
    """Return a copy of a node, of which a postprocessor may change the content and the metadata."""
    return node.model_copy(update={"metadata": dict(node.metadata)})


def to_fetch(answer: VectorStoreQueryResult, node_ids: Mapping[str, str] | None) -> list[str]:
    """Return the ids of the nodes that the docstore has to give for an answer.

    Args:
        answer: The answer of a store: with nodes, of which only those without text are looked up, or with ids alone.
        node_ids: The `node_id` of each id that the store gives; `None` if they are the same.
    """
    if answer.nodes:
        return [node.node_id for node in answer.nodes if node.get_type() != ObjectType.TEXT]
    named = [_node_id(id_, node_ids) for id_ in answer.ids or []]
    return [node_id for node_id in named if node_id is not None]


def rows_of(
    answer: VectorStoreQueryResult,
    found: Sequence[BaseNode],
    node_ids: Mapping[str, str] | None,
    key: RowKey | None,
    *,
    ranks: bool,
) -> list[StoreRow]:
    """Return the rows of an answer, in its order.

    Args:
        answer: The answer of a store.
        found: The nodes that the docstore has given for it, in any order.
        node_ids: The `node_id` of each id that the store gives; `None` if they are the same.
        key: The metadata key that holds the id of a node without an id, or a function that takes the node.
        ranks: Whether the scores are made of ranks, whatever similarities there are.

    Returns:
        The rows. A row whose node was not found has no item, no text and no metadata.
    """
    fetched = {node.node_id: node for node in found}
    ids: list[str | None] = list(answer.ids or [])
    if answer.nodes:
        nodes: list[BaseNode | None] = [fetched.get(node.node_id, node) for node in answer.nodes]
        ids += [None] * (len(nodes) - len(ids))
    else:
        nodes = [fetched.get(_node_id(id_, node_ids) or "") for id_ in answer.ids or []]
    given = list(answer.similarities or [])
    own = given if len(given) == len(nodes) else [None] * len(nodes)
    scores = [1 / position for position in range(1, len(nodes) + 1)] if ranks else scores_of(own)
    return [_row(*parts, key) for parts in zip(ids, nodes, own, scores, strict=False)]


def scores_of(similarities: Sequence[float | None]) -> list[float]:
    """Return the scores of rows, higher for nearer.

    Args:
        similarities: What the store calls the similarity of each row; `None` if it gives none.

    Returns:
        The similarities; the distances times -1, if these rise from the first row to the last, which similarities never
        do; or 1/position, if a row has none.
    """
    known = [float(each) for each in similarities if each is not None]
    if len(known) < len(similarities):
        return [1 / position for position in range(1, len(similarities) + 1)]
    rising = len(known) > 1 and known[0] < known[-1] and all(one <= next_ for one, next_ in pairwise(known))
    return [-each for each in known] if rising else known


def _row(id_: str | None, node: BaseNode | None, own: float | None, score: float, key: RowKey | None) -> StoreRow:
    if node is None:
        return StoreRow(str(id_), score)
    text = node.get_content(MetadataMode.NONE)
    # A node that was made without an id has a random one, which a store that makes its nodes anew gives anew.
    own_id = node.node_id if "id_" in node.model_fields_set else id_
    parent = dict.fromkeys(PARENT_KEYS, node.ref_doc_id or NO_DOCUMENT)
    item = NodeWithScore(node=node, score=None if own is None or math.isnan(own) else float(own))
    return StoreRow(
        id=row_id(own_id, key, node, text, node.metadata),
        score=score,
        data=text,
        metadata={**node.metadata, **parent},
        item=item,
    )


def _node_id(id_: str, node_ids: Mapping[str, str] | None) -> str | None:
    return id_ if node_ids is None else node_ids.get(id_)
