"""Conversion between LlamaIndex's nodes and records as LlamaIndex's own Upstash store writes them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from llama_index.core.schema import (
    BaseNode,
    IndexNode,
    MetadataMode,
    NodeWithScore,
    RelatedNodeInfo,
    RelatedNodeType,
    TextNode,
)
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

from nextk.arguments import require_id
from nextk.bodies import MAX_METADATA_BYTES
from nextk.errors import ClientError, RefusedError
from nextk.plain import plain_metadata, record_name
from nextk.retrievers.record_text import NODE, read_text
from nextk.retrievers.writing import listed, require_storable
from nextk.sessions import RowReader
from nextk.types import Data, QueryResult, SparseVector, Vector


def node_reader(text_keys: Sequence[str]) -> RowReader[NodeWithScore]:
    """Return the reader that makes matches into nodes.

    Args:
        text_keys: The metadata keys that may hold the text of a record without a node.
    """
    return RowReader(partial(node_of, text_keys=text_keys), text_of, text_keys)


def stored_node_reader(text_keys: Sequence[str]) -> RowReader[NodeWithScore]:
    """Return the reader of a store: as `node_reader`, but each node has the id of its record (`stored_node_of`).

    Args:
        text_keys: The metadata keys that may hold the text of a record without a node.
    """
    return RowReader(partial(stored_node_of, text_keys=text_keys), text_of, text_keys)


def node_of(match: QueryResult, text_keys: Sequence[str]) -> NodeWithScore | None:
    """Convert a match into a node: the node that the record holds, else a `TextNode` of its text and metadata.

    Args:
        match: The match, with its metadata and its data.
        text_keys: The metadata keys that may hold the text of a record without a node.

    Returns:
        A new node with the score of the match, or `None` if the record holds no text.
    """
    found = read_text(match, text_keys)
    if found is None:
        return None
    if found.has_node and match.metadata:
        return NodeWithScore(node=metadata_dict_to_node(match.metadata), score=match.score)
    return NodeWithScore(node=TextNode(id_=match.id, text=found.text, metadata=found.metadata), score=match.score)


def stored_node_of(match: QueryResult, text_keys: Sequence[str]) -> NodeWithScore | None:
    """Convert a match into a node as a store hands it out: under the id of its record.

    By this id the store reads and removes it, whatever id another writer has put into the node. A retriever keeps the
    node's own id instead (`node_of`), so that a node that is stored under two ids is shown once.

    Args:
        match: The match, with its metadata and its data.
        text_keys: The metadata keys that may hold the text of a record without a node.

    Returns:
        A new node with the score of the match, or `None` if the record holds no text.
    """
    found = node_of(match, text_keys)
    if found is not None:
        found.node.id_ = match.id
    return found


def text_of(node: NodeWithScore) -> str:
    """Return the text that a node adds to a prompt: with its metadata, as LlamaIndex shows them to a model."""
    return node.node.get_content(MetadataMode.LLM)


@dataclass(frozen=True, slots=True)
class StorableNode:
    """A node that was found to be storable.

    Attributes:
        node: The node, with metadata as JSON has it.
        metadata: The metadata of its record, as LlamaIndex's Upstash store writes it: they hold the whole node.
    """

    node: BaseNode
    metadata: dict[str, Any]

    @property
    def text(self) -> str:
        """The text that is embedded: with the metadata, as LlamaIndex shows them to a model that embeds."""
        return self.node.get_content(MetadataMode.EMBED)

    def record(self) -> Data:
        """Make a record for an index that embeds the text."""
        return Data(self.node.node_id, self.text, self.metadata)

    def vector_record(self, dense: list[float] | None, sparse: SparseVector | None) -> Vector:
        """Make a record of the node and its vectors.

        Args:
            dense: The dense vector, float (dimension,); `None` for none.
            sparse: The sparse vector; `None` for none.
        """
        return Vector(self.node.node_id, dense, self.metadata, sparse_vector=sparse)


def storable_nodes(nodes: Iterable[BaseNode]) -> list[StorableNode]:
    """Check nodes before any of them is stored. The nodes themselves are not changed.

    Args:
        nodes: The nodes.

    Returns:
        One storable node for each, in order.

    Raises:
        ClientError: If it is no list of nodes, or if a node is none that JSON can express: its id is empty, its
            metadata is not JSON, or it is an `IndexNode` with an object that is not a node. The message names the node
            by its position and its id.
        RefusedError: If a node is too large, or has metadata that no index stores.
    """
    given = listed_nodes(nodes)
    return [_storable(node, record_name(position, node.node_id)) for position, node in enumerate(given)]


def listed_nodes(nodes: Iterable[BaseNode]) -> list[BaseNode]:
    """Return a list of the nodes or documents that a caller gave.

    Raises:
        ClientError: If it is one node instead of several, or if one of them is no node. The message names that one by
            its position.
    """
    kind: type[BaseNode] = BaseNode  # type: ignore[type-abstract]
    return listed(nodes, kind, "nodes")


def require_storable_embeddings(nodes: Sequence[StorableNode]) -> None:
    """Require that an index can store the embeddings that nodes bring, beside each other.

    Args:
        nodes: The nodes, those without an embedding too.

    Raises:
        ClientError: An embedding is empty, holds NaN or a number beyond float32, or has another length than the first
            one. The message names the node by its position and its id.
    """
    first: tuple[str, int] | None = None  # the name and the length of the first embedding
    for position, node in enumerate(each.node for each in nodes):
        if node.embedding is None:
            continue
        name, length = record_name(position, node.node_id), len(node.embedding)
        if fault := _embedding_fault(node.embedding):
            message = f"{name}: its embedding {fault}"
            raise ClientError(message)
        first = first or (name, length)
        if length != first[1]:
            message = (
                f"{name}: its embedding has {length} numbers, and that of {first[0]} has {first[1]}: embed all alike"
            )
            raise ClientError(message)


def _embedding_fault(embedding: list[float]) -> str | None:
    """Say why no index can store an embedding, which LlamaIndex has found to be a list of numbers."""
    if not embedding:
        return "is empty: give None, so that a model embeds the node"
    with np.errstate(over="ignore"):
        storable = np.isfinite(np.array(embedding, np.float64).astype(np.float32))
    if storable.all():
        return None
    position = int(storable.argmin())
    return f"has the value {embedding[position]!r} at position {position}, which is no number that float32 holds"


def _storable(node: BaseNode, name: str) -> StorableNode:
    require_id(node.node_id, f"{name}: id_")
    if isinstance(node, IndexNode) and not isinstance(node.obj, BaseNode | None):
        message = (
            f"{name}: an IndexNode cannot be stored with its object, a {type(node.obj).__name__}: store it with "
            "obj=None, and give the retriever objects=[...], index nodes with their objects, which it finds by index_id"
        )
        raise ClientError(message)
    related = {kind: _plain_related(info, name) for kind, info in node.relationships.items()}
    node = node.model_copy(update={"metadata": plain_metadata(node.metadata, name), "relationships": related})
    try:
        metadata = node_to_metadata_dict(node)
        size = len(metadata[NODE].encode())
    except (ValueError, TypeError) as error:
        message = f"{name}: the node cannot be written as JSON: {error}"
        raise ClientError(message) from error
    if size > MAX_METADATA_BYTES:
        message = (
            f"{name}: Metadata is {size:,} bytes with the node and its text in it; at most {MAX_METADATA_BYTES:,} are "
            "allowed: split the document into smaller nodes"
        )
        raise RefusedError(message, 422)
    made = StorableNode(node, metadata)
    require_storable(name, node.node_id, metadata, made.text)
    return made


def _plain_related(info: RelatedNodeType, name: str) -> RelatedNodeType:
    if isinstance(info, list):
        return [_plain_one(each, name) for each in info]
    return _plain_one(info, name)


def _plain_one(info: RelatedNodeInfo, name: str) -> RelatedNodeInfo:
    return info.model_copy(update={"metadata": plain_metadata(info.metadata, name)})
