"""The request bodies of the protocol, as the server half validates them.

`null` means absent, unknown fields are ignored, ids may be numbers, and flags may be spelt `"true"`; everything else
must be of its own type. Dense vectors and sparse values become float32 arrays here. Sizes that the service publishes
are checked here; the engine checks what depends on an index: its dimension, its components, its models.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StrictFloat,
    StrictStr,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from nextk.body_fields import Flag, Float32Array, Id, bytes_up_to, id_schema, items_up_to, text_id
from nextk.plain import INT64, path_to
from nextk.types import FusionAlgorithm, MetadataUpdateMode, QueryMode, UntilFirstFault, WeightingStrategy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_ROWS = 1_000
"""How many records one request may read or write."""
MAX_QUERIES = 100
"""How many queries one batch may have."""
MAX_NON_ZEROS = 1_000
"""How many entries a sparse vector may have."""
MAX_DIMENSION = 5_376
"""How many values a dense vector may have: as many as in the largest plan of the hosted service."""
MAX_QUERY_BYTES = 64 * 1024
"""How long the text of a query may be."""
MAX_ID_BYTES = 1_000
MAX_NAMESPACE_BYTES = 1_000
MAX_DATA_BYTES = 1_000_000
MAX_METADATA_BYTES = 48 * 1024
MAX_METADATA_DEPTH = 250
"""How many levels of objects and lists metadata may have: fewer than any writer or reader of JSON in use here takes."""
MAX_IDLE_SECONDS = 86_400
DEFAULT_IDLE_SECONDS = 3_600
DEFAULT_TOP_K = 10
DEFAULT_LIMIT = 10


def _sized_id(value: str) -> str:
    if not value:
        message = "id must not be empty"
        raise ValueError(message)
    if len(value.encode()) > MAX_ID_BYTES:
        message = f"id must not be longer than {MAX_ID_BYTES} bytes"
        raise ValueError(message)
    return value


def sized_namespace(value: str) -> str:
    """Return the name of a namespace as it is.

    Raises:
        ValueError: It is too long.
    """
    if len(value.encode()) > MAX_NAMESPACE_BYTES:
        message = f"the name of a namespace must not be longer than {MAX_NAMESPACE_BYTES} bytes of UTF-8"
        raise ValueError(message)
    return value


_Floats = Annotated[list[StrictFloat], UntilFirstFault(), Float32Array()]
if TYPE_CHECKING:
    DenseFloats: TypeAlias = NDArray[np.float32]
    SparseFloats: TypeAlias = NDArray[np.float32]
else:
    DenseFloats = Annotated[_Floats, items_up_to(MAX_DIMENSION)]
    SparseFloats = Annotated[_Floats, items_up_to(MAX_NON_ZEROS)]
_Int32 = Annotated[int, Strict(), Field(ge=-(2**31), le=2**31 - 1)]
SparseIndices: TypeAlias = Annotated[list[_Int32], UntilFirstFault(), items_up_to(MAX_NON_ZEROS)]
Ids: TypeAlias = Annotated[list[Id], UntilFirstFault(), items_up_to(MAX_ROWS, "divide them into several requests")]
Rows: TypeAlias = Annotated[int, Strict(), Field(ge=1, le=MAX_ROWS)]
Text: TypeAlias = StrictStr
RecordId: TypeAlias = Annotated[
    Id, AfterValidator(_sized_id), WithJsonSchema(id_schema(minLength=1, maxLength=MAX_ID_BYTES))
]
Prefix: TypeAlias = Annotated[Text, bytes_up_to(MAX_ID_BYTES, "no id is longer")]
QueryText: TypeAlias = Annotated[Text, bytes_up_to(MAX_QUERY_BYTES, "shorten it, or search by parts of it")]
QueryUuid: TypeAlias = Annotated[str, Strict(), Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]


class Body(BaseModel):
    """The base of all request bodies: keys are in camelCase, unknown keys are ignored, and `null` means absent.

    Attributes:
        ignored: The keys that are unknown although a base class has a field of the name.
    """

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True)
    ignored: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, body: object) -> object:
        if not isinstance(body, dict):
            return body
        return {key: value for key, value in body.items() if value is not None and key not in cls.ignored}


class SparseBody(Body):
    """A sparse vector: equally long lists of dimensions (signed int32, any order, repeats allowed) and values."""

    indices: SparseIndices
    values: SparseFloats

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if len(self.indices) != len(self.values):
            message = f"has {len(self.indices)} indices but {len(self.values)} values"
            raise ValueError(message)
        return self


class Vectors(Body):
    """The dense and the sparse vector, which records and queries have in common."""

    vector: DenseFloats | None = None
    sparse_vector: SparseBody | None = None


def metadata_fault(metadata: dict[str, Any], encoded: bytes) -> str | None:
    """Say why an index cannot store metadata; `None` if it can.

    Args:
        metadata: The metadata as plain values.
        encoded: The metadata as JSON in UTF-8.
    """
    if encoded.count(b"{") + encoded.count(b"[") > MAX_METADATA_DEPTH and (fault := nesting_fault(metadata)):
        return fault
    if len(encoded) > MAX_METADATA_BYTES:
        return f"Metadata is {len(encoded)} bytes; at most {MAX_METADATA_BYTES} are allowed{_largest(metadata)}"
    if b"\\u0000" in encoded and (path := path_to(metadata, "metadata", _holds_nul)):
        # SQLite ends a string there, so a filter would take "acme\0x" for "acme".
        return f"Metadata must not contain the NUL character; {path} does"
    return large_number_fault(metadata) if _LONG_NUMBER.search(encoded) else None


def nesting_fault(metadata: dict[str, Any]) -> str | None:
    """Say that metadata are nested too deeply to be stored; `None` if they are not."""
    level: list[Any] = [metadata]
    for _ in range(MAX_METADATA_DEPTH):  # level by level, because values may be nested more deeply than calls
        level = [
            part
            for value in level
            if isinstance(value, dict | list)
            for part in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return None
    deeper = any(isinstance(value, dict | list) for value in level)
    return f"Metadata is nested too deeply; at most {MAX_METADATA_DEPTH} levels are allowed" if deeper else None


def large_number_fault(metadata: dict[str, Any]) -> str | None:
    """Say which number of metadata does not fit a signed integer of 64 bits; `None` if all do."""
    path = path_to(metadata, "metadata", lambda value: isinstance(value, int) and value not in INT64)
    if path is None:
        return None
    return f"{path} is a whole number beyond 64 bits, which no filter could compare exactly: give a text or a float"


_LONG_NUMBER = re.compile(rb"\d{19}")


def _holds_nul(value: object) -> bool:
    return isinstance(value, str) and "\0" in value


def _largest(metadata: Mapping[str, Any]) -> str:
    """Name the text that takes more than half of the room, if there is one."""
    texts = {key: len(value.encode()) for key, value in metadata.items() if isinstance(value, str)}
    key = max(texts, key=lambda key: texts[key], default="")
    return f", and its {key!r} alone has {texts[key]}" if texts.get(key, 0) > MAX_METADATA_BYTES / 2 else ""


def _sized_data(data: str | None) -> str | None:
    if data is not None and len(data) * 4 > MAX_DATA_BYTES and len(data.encode()) > MAX_DATA_BYTES:
        message = f"data must not be larger than {MAX_DATA_BYTES} bytes"
        raise ValueError(message)
    return data


class Record(Vectors):
    """A record of `/upsert`."""

    id: RecordId
    metadata: dict[str, Any] | None = None
    data: Text | None = None

    _data = field_validator("data")(_sized_data)


class TextRecord(Body):
    """A record of `/upsert-data`: the index embeds `data` and stores it."""

    id: RecordId
    data: Text
    metadata: dict[str, Any] | None = None

    _data = field_validator("data")(_sized_data)


class Update(Vectors):
    """The body of `/update`: fields that are given change, the others stay."""

    id: Id
    data: Text | None = None
    metadata: dict[str, Any] | None = None
    metadata_update_mode: MetadataUpdateMode = MetadataUpdateMode.OVERWRITE

    _data = field_validator("data")(_sized_data)


class Include(Body):
    """The flags that say which fields of a record a reply has besides its id."""

    include_vectors: Flag = False
    include_metadata: Flag = False
    include_data: Flag = False


class Query(Vectors, Include):
    """The body of `/query`; `/query-data` sends `data` instead of vectors.

    Attributes:
        exact: Whether the matches come in exact order, although the index searches large namespaces approximately.
    """

    data: QueryText | None = None
    top_k: Rows = DEFAULT_TOP_K
    filter: Text = ""
    weighting_strategy: WeightingStrategy | None = None
    fusion_algorithm: FusionAlgorithm = FusionAlgorithm.RRF
    query_mode: QueryMode = QueryMode.HYBRID
    exact: Flag = False


class VectorQuery(Query):
    """The body of `/query`; `data` is not one of its fields."""

    ignored = frozenset({"data"})


class TextQuery(Query):
    """The body of `/query-data`: the index embeds `data`; vectors are not among its fields."""

    data: QueryText

    ignored = frozenset({"vector", "sparseVector"})


class Idle(Body):
    """The time that a resumable query may be idle.

    Attributes:
        max_idle: The seconds without a call after which the query may be dropped; 0 is the default. A server may allow
            fewer than the greatest number here.
    """

    max_idle: Annotated[int, Strict(), Field(ge=0, le=MAX_IDLE_SECONDS)] = DEFAULT_IDLE_SECONDS

    @property
    def idle_seconds(self) -> int:
        """Seconds without a call after which the query may be dropped; 0 in the body means the default."""
        return self.max_idle or DEFAULT_IDLE_SECONDS


class Start(Idle):
    """The fields that a resumable start has and a plain query does not.

    Attributes:
        uuid: The uuid that the query is to have; `None` lets the server choose. A start that is repeated with the uuid
            of an open query finds that query.
    """

    uuid: QueryUuid | None = None


class VectorStart(VectorQuery, Start):
    """The body of `/resumable-query`."""


class TextStart(TextQuery, Start):
    """The body of `/resumable-query-data`."""


class Uuid(Body):
    """The uuid of the resumable query that a body speaks of."""

    uuid: Text


class NextPage(Uuid):
    """The body of `/resumable-query-next`.

    Attributes:
        additional_k: The number of matches of the page.
        page_number: The number of the page; that of the first page is 1. `None` for whichever page is next.
    """

    additional_k: Rows
    page_number: Annotated[int, Strict(), Field(ge=1)] | None = None


class Fetch(Include):
    """The body of `/fetch`: exactly one of `ids` and `prefix`."""

    ids: Ids | None = None
    prefix: Prefix | None = None


_CURSOR = r"^[0-9]{0,18}$"
RangeCursor: TypeAlias = Annotated[
    StrictStr,
    BeforeValidator(text_id),
    Field(pattern=_CURSOR),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": _CURSOR}, {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}]}
    ),
]


class Range(Include):
    """The body of `/range`; a cursor of `""`, `"0"` or `0` is the beginning."""

    cursor: RangeCursor = ""
    limit: Rows = DEFAULT_LIMIT
    prefix: Prefix = ""


class Delete(Body):
    """The body of `/delete`: exactly one of three fields.

    An empty prefix or filter would select everything, so it counts as absent.
    """

    ids: Ids | None = None
    prefix: Prefix | None = None
    filter: Text | None = None

    @field_validator("prefix", "filter")
    @classmethod
    def _empty_is_absent(cls, value: str | None, field: ValidationInfo) -> str | None:
        return None if not value or (field.field_name == "filter" and value.isspace()) else value


class Rename(Body):
    """The body of `/rename-namespace`."""

    namespace: Text
    new_namespace: Text
    delete_existing: Flag = False

    _sized = field_validator("namespace", "new_namespace")(sized_namespace)
