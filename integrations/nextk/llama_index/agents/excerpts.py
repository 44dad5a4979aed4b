"""Excerpts of nodes: what a model reads of a node."""

from collections.abc import Callable

from llama_index.core.schema import MetadataMode, NodeWithScore

from nextk.agents.fence import Excerpt
from nextk.agents.labels import label_keys, labels_of


def excerpts_by(node_formatter: Callable[[NodeWithScore], str] | None) -> Callable[[NodeWithScore], Excerpt]:
    """Return the function that makes excerpts of nodes.

    Args:
        node_formatter: A function of the user's own that returns the whole text; `None` for the usual excerpt.
    """
    return excerpt_of if node_formatter is None else lambda node: Excerpt(node_formatter(node))


def excerpt_of(node: NodeWithScore) -> Excerpt:
    """Return the content of a node, with the metadata that LlamaIndex shows to models.

    Title, source and page are the labels of the excerpt, and are not repeated among the other metadata.

    Args:
        node: The node; it is not changed.
    """
    hidden = node.node.excluded_llm_metadata_keys
    metadata = {key: value for key, value in node.node.metadata.items() if key not in hidden}
    shown_above = list(label_keys(metadata).values())
    rest = node.node.model_copy(update={"excluded_llm_metadata_keys": [*hidden, *shown_above]})
    return Excerpt(rest.get_content(MetadataMode.LLM), labels_of(metadata))
