"""Reading the text and the metadata of a match, in the layout of any library that may have stored the record.

| written by                 | where the text is                    | what the writer adds                           |
| -------------------------- | ------------------------------------ | ---------------------------------------------- |
| LangChain's Upstash store  | metadata `text`                      |                                                |
| LangChain.js               | metadata `_pageContentLC`            |                                                |
| LlamaIndex's Upstash store | the JSON of metadata `_node_content` | `_node_type`, and the parent's id in 3 fields  |
| the index itself           | `data`                               |                                                |

A LlamaIndex node is looked for first: in a record that holds one, `text` is a metadata field of the user's own.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nextk.types import FetchResult, QueryResult

TEXT_KEYS = ("text", "_pageContentLC")
"""The metadata keys under which LangChain's community stores keep the text."""
NODE = "_node_content"
"""The metadata key under which LlamaIndex's store keeps a whole node, as JSON."""

_NODE_TYPE = "_node_type"
_PARENT = ("document_id", "doc_id", "ref_doc_id")
_NO_PARENT = "None"  # LlamaIndex writes this word where a node has no parent


@dataclass(frozen=True, slots=True)
class RecordText:
    """The text and the metadata of a record as its writer meant them.

    Attributes:
        text: The text.
        metadata: The user's own metadata, without the fields in which the writing library keeps the text.
        has_node: Whether the record holds a readable LlamaIndex node.
    """

    text: str
    metadata: dict[str, Any]
    has_node: bool = field(default=False, compare=False)


def match_of(record: FetchResult) -> QueryResult:
    """Return a record that was fetched by its id as a match without a score, which readers take."""
    return QueryResult(record.id, 0.0, metadata=record.metadata, data=record.data)


def read_text(match: QueryResult, text_keys: Sequence[str]) -> RecordText | None:
    """Read the text of one match. The match itself is not changed.

    Args:
        match: The match, with its metadata and its data.
        text_keys: The metadata keys that may hold the text; the first one that does is taken out of the metadata.

    Returns:
        The text and the metadata, or `None` if the record holds no text.
    """
    metadata = dict(match.metadata or {})
    node = _stored_node(metadata)
    if node is not None:
        return RecordText(_node_text(node) or match.data or "", _without_node(metadata, node), has_node=True)
    for key in text_keys:
        if isinstance(metadata.get(key), str):
            return RecordText(metadata.pop(key), metadata)
    return None if match.data is None else RecordText(match.data, metadata)


def _stored_node(metadata: dict[str, Any]) -> dict[str, Any] | None:
    """Return the fields of the LlamaIndex node in some metadata; `None` if there is none, or it is not readable."""
    content = metadata.get(NODE)
    if not isinstance(content, str):
        return None
    try:
        node = json.loads(content)
    except ValueError:
        return None
    return node if isinstance(node, dict) else None


def _node_text(node: dict[str, Any]) -> str | None:
    resource = node.get("text_resource")
    text = node.get("text", resource.get("text") if isinstance(resource, dict) else None)
    return text if isinstance(text, str) else None


def _without_node(metadata: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """Return the user's metadata: without the node, and with the values that the parent's id has overwritten."""
    own = node.get("metadata")
    own = own if isinstance(own, dict) else {}
    rest = {key: value for key, value in metadata.items() if key not in (NODE, _NODE_TYPE)}
    for key in _PARENT:
        if key in own:
            rest[key] = own[key]
        elif rest.get(key) == _NO_PARENT:
            del rest[key]
    return rest
