"""Conversion between LlamaIndex's nodes and records as LlamaIndex's own Upstash store writes them."""

from collections.abc import Sequence

from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, TextNode
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

from nextk.retrievers.record_text import read_text
from nextk.sessions import RowReader
from nextk.types import Data, QueryResult, SparseVector, Vector


def node_reader(text_keys: Sequence[str]) -> RowReader[NodeWithScore]:
    """Return the reader that makes matches into nodes.

    Args:
        text_keys: The metadata keys that may hold the text of a record without a node.
    """
    return RowReader(lambda match: node_of(match, text_keys), text_of, text_keys)


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


def text_of(node: NodeWithScore) -> str:
    """Return the text that a node adds to a prompt: with its metadata, as LlamaIndex shows them to a model."""
    return node.node.get_content(MetadataMode.LLM)


def record_of(node: BaseNode) -> Data:
    """Make a record of a node for an index that embeds: its text is what LlamaIndex embeds, and it holds the node."""
    return Data(node.node_id, node.get_content(MetadataMode.EMBED), node_to_metadata_dict(node))


def vector_of(node: BaseNode, dense: list[float] | None, sparse: SparseVector | None) -> Vector:
    """Make a record of a node and its vectors, as LlamaIndex's Upstash store writes it.

    Args:
        node: The node.
        dense: The dense vector, float (dimension,); `None` for none.
        sparse: The sparse vector; `None` for none.
    """
    return Vector(node.node_id, dense, node_to_metadata_dict(node), sparse_vector=sparse)
