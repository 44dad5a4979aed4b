"""The text and the metadata of a row, whoever wrote it.

| written by                 | the text is                             | besides                          |
| -------------------------- | --------------------------------------- | -------------------------------- |
| LangChain's Upstash store  | metadata `text`                         |                                  |
| LangChain.js               | metadata `_pageContentLC`               |                                  |
| LlamaIndex's Upstash store | in the JSON of metadata `_node_content` | `_node_type`, the parent's id x3 |
| the index itself           | `data`                                  |                                  |

A row's own node comes first: next to it, `text` is a field of the user's.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nextk.types import QueryResult

log = logging.getLogger("nextk.sessions")

TEXT_KEYS = ("text", "_pageContentLC")
"""Where the community stores of LangChain keep the text, in metadata."""
NODE = "_node_content"
"""Where LlamaIndex keeps a whole node, as JSON, in metadata."""

_NODE_TYPE = "_node_type"
_PARENT = ("document_id", "doc_id", "ref_doc_id")
_NO_PARENT = "None"  # the word, as LlamaIndex writes it


@dataclass(frozen=True, slots=True)
class RecordText:
    """A row as its writer meant it: the text, and the writer's own metadata."""

    text: str
    metadata: dict[str, Any]


def read_texts(matches: Sequence[QueryResult], text_keys: Sequence[str]) -> list[tuple[QueryResult, RecordText]]:
    """The rows that hold a text, with it; the others are left out, and a warning says how many.

    One odd record must not cost the answer: an index may be shared with writers of other things than text.
    """
    read = [(match, read_text(match, text_keys)) for match in matches]
    found = [(match, text) for match, text in read if text is not None]
    if len(found) < len(read):
        where = ", ".join(map(repr, text_keys)) or "no key"
        log.warning(
            "%d of %d rows hold no text, neither as data nor in metadata under %s: they are left out",
            len(read) - len(found),
            len(read),
            where,
        )
    return found


def read_text(match: QueryResult, text_keys: Sequence[str]) -> RecordText | None:
    """The text of one row, or `None`; the match itself is not changed.

    Args:
        match: With its metadata and its data.
        text_keys: Keys of the metadata that may hold the text; the first that does is taken out of it.
    """
    metadata = dict(match.metadata or {})
    node = stored_node(metadata)
    if node is not None:
        return RecordText(_node_text(node) or match.data or "", _without_node(metadata, node))
    for key in text_keys:
        if isinstance(metadata.get(key), str):
            return RecordText(metadata.pop(key), metadata)
    return None if match.data is None else RecordText(match.data, metadata)


def stored_node(metadata: dict[str, Any]) -> dict[str, Any] | None:
    """The fields of the LlamaIndex node in a row's metadata; `None` where there is none, or it is not readable."""
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
    """The user's metadata: without the node, and with what LlamaIndex overwrote by the parent's id."""
    own = node.get("metadata")
    own = own if isinstance(own, dict) else {}
    rest = {key: value for key, value in metadata.items() if key not in (NODE, _NODE_TYPE)}
    for key in _PARENT:
        if key in own:
            rest[key] = own[key]
        elif rest.get(key) == _NO_PARENT:
            del rest[key]
    return rest
