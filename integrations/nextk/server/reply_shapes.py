"""The results of the commands as JSON schemas, for the description of the server in `nextk.server.openapi`."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from nextk.bodies import MAX_ROWS
from nextk.engine.schema import FusionOrder, IndexType, IndexWeighting, Similarity
from nextk.types import UNDECIDED

JsonSchema: TypeAlias = dict[str, Any]


def list_of(items: JsonSchema, most: int | None = None) -> JsonSchema:
    """Return the schema of a list.

    Args:
        items: The schema of its elements.
        most: The greatest number of elements. Default `None`, for any number.
    """
    return {"type": "array", "items": items} | ({} if most is None else {"maxItems": most})


def object_of(required: Mapping[str, JsonSchema], optional: Mapping[str, JsonSchema] | None = None) -> JsonSchema:
    """Return the schema of an object that has no other fields.

    Args:
        required: The schemas of the fields that it always has.
        optional: The schemas of the fields that are left out where there is nothing to say; they are never `null`.
    """
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **(optional or {})},
        "additionalProperties": False,
    }


def reference(name: str, kind: str = "schemas") -> JsonSchema:
    """Return a reference to a component of the description.

    Args:
        name: The name of the component.
        kind: The kind of component. Default `"schemas"`.
    """
    return {"$ref": f"#/components/{kind}/{name}"}


_TEXT: JsonSchema = {"type": "string"}
_COUNT: JsonSchema = {"type": "integer", "minimum": 0}
_FLOATS = list_of({"type": "number", "description": "The shortest decimal that names a float32."})
_SUCCESS: JsonSchema = {"const": "Success"}
_MATCHES = list_of(reference("Match"), MAX_ROWS)
_RECORD_FIELDS = {
    "vector": _FLOATS,
    "sparseVector": object_of({"indices": list_of({"type": "integer", "format": "int32"}), "values": _FLOATS}),
    "metadata": {"type": "object"},
    "data": _TEXT,
}
_SIMILARITY: JsonSchema = {"enum": [*Similarity, ""], "description": "Empty for an index without dense vectors."}
_COUNTS = {"vectorCount": _COUNT, "pendingVectorCount": {"const": 0}}

SHARED: Mapping[str, JsonSchema] = {
    "Match": {
        **object_of({"id": _TEXT, "score": {"type": "number"}}, _RECORD_FIELDS),
        "description": "A record that a search has found. A higher score is nearer to the query.",
    },
    "StoredRecord": {
        **object_of({"id": _TEXT}, _RECORD_FIELDS),
        "description": "A record without a score. A field that was not requested, or does not exist, is left out.",
    },
    "Refusal": object_of(
        {"error": {**_TEXT, "description": "What went wrong, and what to do."}, "status": {"type": "integer"}}
    ),
}
"""The schemas that several replies have in common, by their names."""

_INFO = object_of(
    {
        **_COUNTS,
        "indexSize": {**_COUNT, "description": "The bytes that the index takes."},
        "dimension": {**_COUNT, "description": "0 as long as the index has no dense vector."},
        "similarityFunction": _SIMILARITY,
        "indexType": {"enum": [*IndexType, UNDECIDED]},
        "namespaces": {"type": "object", "additionalProperties": object_of(_COUNTS)},
    },
    {
        "denseIndex": object_of({"dimension": _COUNT, "similarityFunction": _SIMILARITY, "embeddingModel": _TEXT}),
        "sparseIndex": object_of({"embeddingModel": _TEXT}),
        "fusionOrder": {"enum": list(FusionOrder)},
        "numberedPages": {"const": True},
        "approximate": {"const": True},
        "weighting": {"enum": list(IndexWeighting)},
        "embeddingIdentity": _TEXT,
        "sparseEmbeddingIdentity": _TEXT,
    },
)
_STARTED = object_of(
    {
        "uuid": {**_TEXT, "description": "Empty if the namespace does not exist: then no query was opened."},
        "scores": _MATCHES,
    }
)
_NUMBERED_PAGE = object_of({"pageNumber": {"type": "integer", "minimum": 1}, "scores": _MATCHES})
_FOUND: JsonSchema = {
    "anyOf": [_MATCHES, list_of(_MATCHES)],
    "description": "The matches, best first. For a list of two or more queries, one such list for each of them.",
}

RESULTS: Mapping[str, JsonSchema] = {
    "upsert": _SUCCESS,
    "upsert-data": _SUCCESS,
    "update": object_of({"updated": {"enum": [0, 1]}}),
    "query": _FOUND,
    "query-data": _FOUND,
    "resumable-query": _STARTED,
    "resumable-query-data": _STARTED,
    "resumable-query-next": {
        "anyOf": [_MATCHES, _NUMBERED_PAGE],
        "description": "The matches, best first; with their page's number if the request has one.",
    },
    "resumable-query-end": _SUCCESS,
    "fetch": list_of({"anyOf": [reference("StoredRecord"), {"type": "null"}]}, MAX_ROWS),
    "range": object_of(
        {
            "nextCursor": {**_TEXT, "description": "The cursor of the next page; empty if there is none."},
            "vectors": list_of(reference("StoredRecord"), MAX_ROWS),
        }
    ),
    "random": {"anyOf": [reference("StoredRecord"), {"type": "null"}]},
    "delete": object_of({"deleted": _COUNT}),
    "reset": _SUCCESS,
    "info": _INFO,
    "list-namespaces": {**list_of(_TEXT), "description": 'The names; that of the default namespace, "", is the first.'},
    "delete-namespace": _SUCCESS,
    "rename-namespace": object_of({"renamed": {"type": "boolean"}}),
}
"""The schema of the result of each command."""
