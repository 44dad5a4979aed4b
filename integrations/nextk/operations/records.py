"""The operations about records, about namespaces, and about the index as a whole."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

from nextk.arguments import choose, id_list, require_count, require_kind
from nextk.errors import ClientError
from nextk.operations.operation import Operation, read_nothing, read_text, reads, target
from nextk.payloads import Upsertable, record_fields, sparse_field, vector_field
from nextk.types import (
    DeleteResult,
    DenseLike,
    FetchResult,
    InfoResult,
    MetadataUpdateMode,
    RangeResult,
    SparseLike,
    UntilFirstFault,
)

_records: Callable[[Any], list[FetchResult | None]] = reads(Annotated[list[FetchResult | None], UntilFirstFault()])
_texts: Callable[[Any], list[str]] = reads(Annotated[list[str], UntilFirstFault()])
_counts: Callable[[Any], dict[str, int]] = reads(dict[str, int])


def upsert(vectors: Iterable[Upsertable], namespace: str | None, embeds: bool | None = None) -> Operation[str]:
    """Return the operation that stores records: vectors, or texts for the index to embed; see `record_fields`."""
    embeds, records = record_fields(vectors, embeds)
    return Operation(target("upsert-data" if embeds else "upsert", namespace), records, read_text)


def update(
    namespace: str | None,
    *,
    id: int | str,
    vector: DenseLike | None,
    data: str | None,
    metadata: Mapping[str, Any] | None,
    metadata_update_mode: MetadataUpdateMode,
    sparse_vector: SparseLike | None,
) -> Operation[bool]:
    """Return the operation that changes parts of one record; its value says whether the record exists."""
    body = {
        "id": id,
        "vector": vector_field(vector),
        "sparseVector": sparse_field(sparse_vector),
        "data": data,
        "metadata": metadata,
        "metadataUpdateMode": choose(MetadataUpdateMode, metadata_update_mode, "metadata_update_mode"),
    }
    body = {key: value for key, value in body.items() if value is not None}
    return Operation(target("update", namespace), body, lambda result: _counts(result)["updated"] == 1)


def fetch(
    namespace: str | None,
    *,
    ids: int | str | Sequence[int | str] | None,
    prefix: str | None,
    include_vectors: bool,
    include_metadata: bool,
    include_data: bool,
) -> Operation[list[FetchResult | None]]:
    """Return the operation that fetches records by id or by prefix."""
    body: dict[str, Any] = {
        "includeVectors": include_vectors,
        "includeMetadata": include_metadata,
        "includeData": include_data,
    }
    if ids is not None:
        body["ids"] = id_list(ids)
    if prefix is not None:
        body["prefix"] = prefix
    return Operation(target("fetch", namespace), body, _records)


def range_(
    namespace: str | None,
    *,
    cursor: str,
    limit: int,
    prefix: str | None,
    include_vectors: bool,
    include_metadata: bool,
    include_data: bool,
) -> Operation[RangeResult]:
    """Return the operation that fetches records in the order of their insertion, from a cursor on."""
    require_count(limit, "limit")
    body = {
        "cursor": cursor,
        "limit": limit,
        "includeVectors": include_vectors,
        "includeMetadata": include_metadata,
        "includeData": include_data,
    }
    if prefix is not None:
        body["prefix"] = prefix
    return Operation(target("range", namespace), body, reads(RangeResult))


def delete(
    namespace: str | None,
    *,
    ids: int | str | Sequence[int | str] | None,
    prefix: str | None,
    filter: str | None,
) -> Operation[DeleteResult]:
    """Return the operation that removes records by id, by prefix or by filter."""
    body: dict[str, Any] = {}
    if ids is not None:
        body["ids"] = id_list(ids)
    if prefix is not None:
        body["prefix"] = prefix
    if filter is not None:
        body["filter"] = filter
    return Operation(target("delete", namespace), body, reads(DeleteResult))


def reset(namespace: str | None, *, all: bool) -> Operation[str]:
    """Return the operation that empties one namespace, or all of them."""
    path = target("reset", namespace)
    return Operation("reset?all" if require_kind(all, bool, "all") else path, None, read_text)


def info() -> Operation[InfoResult]:
    """Return the operation that fetches the properties and the size of the index."""
    return Operation("info", None, reads(InfoResult))


def list_namespaces() -> Operation[list[str]]:
    """Return the operation that lists the names of all namespaces."""
    return Operation("list-namespaces", None, _texts)


def delete_namespace(namespace: str) -> Operation[None]:
    """Return the operation that removes a namespace.

    Raises:
        ClientError: It is the default namespace.
    """
    path = target("delete-namespace", namespace)
    if path == "delete-namespace":
        message = "the default namespace cannot be deleted; use reset()"
        raise ClientError(message)
    return Operation(path, None, read_nothing)
