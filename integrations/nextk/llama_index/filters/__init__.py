"""LlamaIndex's `MetadataFilters` in two halves: a filter that the index applies, and a check of what it returns.

The filter language says less than LlamaIndex can express: it has no word for a record's id, for `null`, for the order
of strings, or for a key with a space in it. So the pushed-down filter lets through all records that pass, and maybe
more; the residual, where there is one, then checks the records themselves. This is cheap, because a search goes on
until enough records have passed.

`semantics` holds what a filter means, and `pushdown` what the index is told of it. How that is written, so that no key
and no value is read as syntax, and never larger than an index takes, is in `nextk.retrievers.filter_expressions`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters

from nextk.arguments import elements_of
from nextk.errors import ClientError
from nextk.llama_index.filters.pushdown import one_of, pushed_down
from nextk.llama_index.filters.semantics import ConditionGroup, read
from nextk.retrievers.filter_expressions import EVERYTHING, all_of, any_of

NO_DOCUMENT = "None"
"""LlamaIndex stores this as the id of the source document with every node that has no source document."""

PARENT_KEYS = ("ref_doc_id", "doc_id", "document_id")
"""LlamaIndex stores the id of the source document under these keys."""


@dataclass(frozen=True, slots=True)
class Translation:
    """A restriction of LlamaIndex's as a filter of the index and a check besides. It can be compared and pickled.

    Attributes:
        filter: A filter in the index's language. It lets through every record that passes the restriction, and maybe
            others; `""` lets all records through. It leaves room for a filter of the caller's own: it has at most 6,144
            bytes, 300 predicates and 32 nested parentheses.
        residual: A function that returns whether a record passes, by its metadata (`{}` if it has none) and its id. It
            never raises. `None` if the filter alone is exact.
    """

    filter: str
    residual: Callable[[Mapping[str, Any], str], bool] | None


def translate(
    filters: MetadataFilters | None, doc_ids: Collection[str] | None = None, node_ids: Collection[str] | None = None
) -> Translation:
    """Translate the three restrictions of a LlamaIndex search; a record has to pass all that are given.

    A filter means what it means to LlamaIndex's in-memory store, and nested groups mean what that implies: a key is a
    key of the metadata itself, including any dots; a key that is missing or `null` passes `!=`, `nin`, `is_empty` and
    nothing else; `contains`, `any` and `all` look into arrays, into strings and among the keys of objects; `in` a
    string looks for a part of it; NOT holds if none of its filters does; a group without filters restricts nothing.

    Where LlamaIndex would raise because of one record, for example one that holds a string under a key that is compared
    with a number, that filter is undecided for this record: neither it nor its negation holds.

    Args:
        filters: The filters. Later changes to them do not affect the translation.
        doc_ids: The ids of source documents. LlamaIndex writes them into the metadata as `ref_doc_id`, `doc_id` and
            `document_id`, of which one match suffices. An empty collection counts as absent, as everywhere in
            LlamaIndex. `"None"` is refused, because LlamaIndex stores it with every node that has no source document.
        node_ids: The ids of records. An empty collection counts as absent, as everywhere in LlamaIndex. No filter of
            the index can name them, so the residual always checks them.

    Raises:
        ClientError: If LlamaIndex would raise on a filter at every record that holds the key (`> None`, `in 5`,
            `text_match 5`), if its own model refuses one, if groups are nested deeper than 64, or if ids are not a
            list of strings, or if `doc_ids` hold `"None"`.
    """
    check = check_of(filters, doc_ids, node_ids)
    group, documents = check.group, check.documents
    pushed = all_of(
        [
            EVERYTHING if group is None else pushed_down(group),
            EVERYTHING if documents is None else any_of([one_of(key, sorted(documents)) for key in PARENT_KEYS]),
        ]
    )
    exact = pushed.exact and check.nodes is None
    return Translation(pushed.text, None if exact else check)


def filter_of_document(ref_doc_id: str) -> str | None:
    """Return the filter that passes the nodes of a source document and nothing else.

    Args:
        ref_doc_id: The id of the document.

    Returns:
        The filter; `None` if none can name the document: because the id is too long, holds a NUL or a lone surrogate,
        or is `"None"`, which LlamaIndex stores with every node that has no source document.
    """
    if ref_doc_id == NO_DOCUMENT:
        return None
    translated = translate(MetadataFilters(filters=[MetadataFilter(key="ref_doc_id", value=ref_doc_id)]))
    return translated.filter if translated.residual is None else None


def check_of(
    filters: MetadataFilters | None, doc_ids: Collection[str] | None = None, node_ids: Collection[str] | None = None
) -> "RecordCheck":
    """Return the check of all of a restriction, for records of a store that may not have checked any of it.

    Args:
        filters: The filters, with the meaning that `translate` describes.
        doc_ids: The ids of source documents, as for `translate`.
        node_ids: The ids of records, as for `translate`.

    Raises:
        ClientError: For the reasons given at `translate`.
    """
    group = None if filters is None else read(filters)
    documents, nodes = _ids(doc_ids, "doc_ids"), _ids(node_ids, "node_ids")
    if documents is not None and NO_DOCUMENT in documents:
        message = (
            f"doc_ids= holds {NO_DOCUMENT!r}, which LlamaIndex stores with every node that has no source document: "
            f"leave it out, or find these nodes by MetadataFilter(key='ref_doc_id', value={NO_DOCUMENT!r})"
        )
        raise ClientError(message)
    return RecordCheck(group, documents, nodes)


@dataclass(frozen=True, slots=True)
class RecordCheck:
    """The check of a record by its metadata and its id. It never raises; it can be compared and pickled.

    Attributes:
        group: The filters; `None` for none.
        documents: The ids of source documents of which the record has to have one; `None` for all.
        nodes: The ids of records, of which the record has to have one; `None` for all.
    """

    group: ConditionGroup | None
    documents: frozenset[str] | None
    nodes: frozenset[str] | None

    @property
    def restricts(self) -> bool:
        """Whether there is anything to check."""
        return (self.group, self.documents, self.nodes) != (None, None, None)

    def __call__(self, metadata: Mapping[str, Any], id: str) -> bool:
        """Return whether a record passes.

        Args:
            metadata: The metadata of the record.
            id: Its id.
        """
        if self.nodes is not None and id not in self.nodes:
            return False
        if self.documents is not None:
            stored = [metadata.get(key) for key in PARENT_KEYS]
            if not any(isinstance(value, str) and value in self.documents for value in stored):
                return False
        return self.group is None or self.group.holds(metadata) is True


def _ids(ids: Any, name: str) -> frozenset[str] | None:
    if ids is None:
        return None
    listed = elements_of(ids) if isinstance(ids, Collection) and not isinstance(ids, str) else None
    if listed is None or not all(isinstance(one, str) for one in listed):
        message = f"{name}= must be a list of strings"
        raise ClientError(message)
    return frozenset(listed) or None
