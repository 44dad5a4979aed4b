"""The labels of a document: its title, its source and its page, as the loaders of both frameworks write them."""

from collections.abc import Mapping
from typing import Any

from nextk.agents.fence import one_line

_KEYS = {
    "title": ("title", "document_title"),
    "source": ("source", "url", "URL", "file_name", "filename", "file_path"),
    "page": ("page_label", "page_number", "page"),
}
"""The metadata keys that may hold each label, the best one first."""


def label_keys(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the key under which some metadata hold each label; a label that they do not hold is left out.

    Args:
        metadata: The metadata of a document.
    """
    found = {label: next((key for key in keys if _is_label(metadata.get(key))), None) for label, keys in _KEYS.items()}
    return {label: key for label, key in found.items() if key is not None}


def labels_of(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of a document, each on one line and shortened if it is long.

    Args:
        metadata: The metadata of the document.
    """
    return {label: one_line(str(metadata[key])) for label, key in label_keys(metadata).items()}


def _is_label(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and bool(one_line(str(value)))
