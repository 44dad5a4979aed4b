"""The schema of an index: its type, dimension, similarity, models and fusion order, fixed when it is created."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import Enum, StrEnum
from typing import Any, Self

from nextk.arguments import choose, require_count
from nextk.errors import ClientError

MAX_DIMENSION = 5_376  # of the largest plan of the hosted service


class IndexType(StrEnum):
    """The vectors that every record of the index has: a dense one, a sparse one, or both."""

    DENSE = "DENSE"
    SPARSE = "SPARSE"
    HYBRID = "HYBRID"


class Similarity(StrEnum):
    """The function that scores two dense vectors."""

    COSINE = "COSINE"
    EUCLIDEAN = "EUCLIDEAN"
    DOT_PRODUCT = "DOT_PRODUCT"


class FusionOrder(StrEnum):
    """The way in which a hybrid resumable query orders its pages.

    `GLOBAL`: The full ranked lists are fused once, so the order does not depend on the sizes of the pages.
    `BATCH`: Every page fuses its own candidates, as the hosted service does.
    """

    GLOBAL = "GLOBAL"
    BATCH = "BATCH"


def _require_dimension(dimension: int) -> None:
    require_count(dimension, "dimension")
    if dimension > MAX_DIMENSION:
        message = f"dimension={dimension} is not in 1..{MAX_DIMENSION}"
        raise ClientError(message)


@dataclass(frozen=True, slots=True)
class Schema:
    """The fixed properties of an index.

    Attributes:
        type: The vectors that every record has.
        dimension: The length of every dense vector, or `None` until the first dense vector decides it.
        similarity: The function that scores two dense vectors.
        embedding: The name of the dense text model: `"static"`, `"custom"` for the caller's own, or `""` for none.
        sparse_embedding: The name of the sparse text model: `"bm25"`, `"custom"` for the caller's own, or `""`.
        fusion_order: The way in which a hybrid query orders its pages.
    """

    type: IndexType
    dimension: int | None
    similarity: Similarity
    embedding: str
    sparse_embedding: str
    fusion_order: FusionOrder

    @classmethod
    def create(
        cls,
        *,
        type: str = "hybrid",
        dimension: int | None = None,
        similarity: str = "cosine",
        embedding: str = "",
        sparse_embedding: str = "",
        fusion_order: str = "global",
    ) -> Self:
        """Check the keywords of a new index and create its schema.

        Raises:
            ClientError: A keyword has a value that is not allowed, or contradicts another one; the message names it.
        """
        kind = choose(IndexType, type, "type")
        if dimension is not None:
            _require_dimension(dimension)
        if kind is IndexType.SPARSE and (dimension is not None or embedding):
            message = 'type="sparse" has no dense vectors: leave out dimension and embedding'
            raise ClientError(message)
        if kind is IndexType.DENSE and sparse_embedding:
            message = 'type="dense" has no sparse vectors: leave out sparse_embedding'
            raise ClientError(message)
        if kind is IndexType.HYBRID and bool(embedding) != bool(sparse_embedding):
            missing = "sparse_embedding" if embedding else "embedding"
            message = f'type="hybrid" embeds text with two models: give {missing} too, or leave both out'
            raise ClientError(message)
        return cls(
            type=kind,
            dimension=dimension,
            similarity=choose(Similarity, similarity, "similarity"),
            embedding=embedding,
            sparse_embedding=sparse_embedding,
            fusion_order=choose(FusionOrder, fusion_order, "fusion_order"),
        )

    @property
    def dense(self) -> bool:
        """Whether every record has a dense vector."""
        return self.type is not IndexType.SPARSE

    @property
    def sparse(self) -> bool:
        """Whether every record has a sparse vector."""
        return self.type is not IndexType.DENSE

    @property
    def embeds_text(self) -> bool:
        """Whether a record can be made from text alone, because there is a text model for each of its vectors."""
        return (not self.dense or bool(self.embedding)) and (not self.sparse or bool(self.sparse_embedding))

    def with_dimension(self, dimension: int) -> Self:
        """Return a copy of the schema with the dimension of the first dense vector."""
        return replace(self, dimension=dimension)

    def to_dict(self) -> dict[str, Any]:
        """Return the schema as plain data for storage."""
        return {key: value.value if isinstance(value, Enum) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Restore a schema from the result of `to_dict`."""
        return cls(
            type=IndexType(stored["type"]),
            dimension=stored["dimension"],
            similarity=Similarity(stored["similarity"]),
            embedding=stored["embedding"],
            sparse_embedding=stored["sparse_embedding"],
            fusion_order=FusionOrder(stored["fusion_order"]),
        )

    def refuse_contradiction(self, keywords: Mapping[str, Any]) -> None:
        """Refuse to open an index with other keywords than it was created with.

        Args:
            keywords: The keywords of the opening by name; a keyword that is missing or `None` agrees with any value.

        Raises:
            ClientError: A keyword has a value that is not allowed, or another value than the stored one. The message
                names the keyword and both values.
        """
        for field in fields(self):
            requested, stored = keywords.get(field.name), getattr(self, field.name)
            if requested is None:
                continue
            if field.name == "dimension":
                _require_dimension(requested)
            given = choose(type(stored), requested, field.name) if isinstance(stored, Enum) else requested
            if given != stored:
                held = stored.value.lower() if isinstance(stored, Enum) else stored
                message = f"this index was made with {field.name}={held!r}; it cannot be opened with {requested!r}"
                raise ClientError(message)
