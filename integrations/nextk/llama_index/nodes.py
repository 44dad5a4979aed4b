"""What a record is to LlamaIndex: nodes of rows, and records of nodes as LlamaIndex's Upstash store writes them."""

from collections.abc import Sequence

from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, TextNode
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

from nextk.retrievers.record_text import RecordText, read_text, read_texts, stored_node
from nextk.types import Data, QueryResult, SparseVector, Vector


def nodes_of(matches: Sequence[QueryResult], text_keys: Sequence[str]) -> list[NodeWithScore]:
    """The nodes of the rows that hold a text, in order, with their scores; as `node_of`."""
    return [
        NodeWithScore(node=_node(match, found), score=match.score) for match, found in read_texts(matches, text_keys)
    ]


def node_of(match: QueryResult, text_keys: Sequence[str]) -> NodeWithScore | None:
    """The node of a row, with its score; `None` where it holds no text.

    Args:
        match: With its metadata and its data.
        text_keys: The metadata keys that may hold the text of a row without a node.
    """
    found = read_text(match, text_keys)
    return None if found is None else NodeWithScore(node=_node(match, found), score=match.score)


def text_of(node: NodeWithScore) -> str:
    """The text that a node adds to a prompt: its metadata too, as LlamaIndex shows them to a model."""
    return node.node.get_content(MetadataMode.LLM)


def record_of(node: BaseNode) -> Data:
    """The record of a node: found by what LlamaIndex embeds of it, and holding it whole."""
    return Data(node.node_id, node.get_content(MetadataMode.EMBED), node_to_metadata_dict(node))


def vector_of(node: BaseNode, dense: list[float] | None, sparse: SparseVector | None) -> Vector:
    """The record of a node whose vectors are made here, as LlamaIndex's Upstash store writes it."""
    return Vector(node.node_id, dense, node_to_metadata_dict(node), sparse_vector=sparse)


def _node(match: QueryResult, read_text: RecordText) -> BaseNode:
    """A new node of a row: the one that was stored, else one of its text and metadata."""
    if match.metadata and stored_node(match.metadata) is not None:
        return metadata_dict_to_node(match.metadata)
    return TextNode(id_=match.id, text=read_text.text, metadata=read_text.metadata)
