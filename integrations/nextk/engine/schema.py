"""What an index is: its type, metric, models and fusion order. Fixed when the index is made."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import Enum, StrEnum
from typing import Any, Self

from nextk.arguments import choose, require_count
from nextk.errors import ClientError

MAX_DIMENSION = 5_376  # the largest plan of the service


class IndexType(StrEnum):
    """Which components every record of the index has."""

    DENSE = "DENSE"
    SPARSE = "SPARSE"
    HYBRID = "HYBRID"


class Similarity(StrEnum):
    """How two dense vectors are compared."""

    COSINE = "COSINE"
    EUCLIDEAN = "EUCLIDEAN"
    DOT_PRODUCT = "DOT_PRODUCT"


class FusionOrder(StrEnum):
    """How a hybrid resumable query orders its pages.

    `GLOBAL`: one fused order over the full lists, the same whatever the sizes of the pulls.
    `BATCH`: every pull fuses its own candidates, as the hosted service does.
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

    `dimension` is `None` until the first dense vector decides it. `embedding` and `sparse_embedding` are the names of
    the text models ("static", "bm25", "custom" for the caller's own), or `""`.
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
        """Check the keywords and make a schema of them.

        Raises:
            ClientError: A keyword is unknown or contradicts another; the message names it.
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
        """Whether records have a dense vector."""
        return self.type is not IndexType.SPARSE

    @property
    def sparse(self) -> bool:
        """Whether records have a sparse vector."""
        return self.type is not IndexType.DENSE

    @property
    def embeds_text(self) -> bool:
        """Whether text alone is enough to make a record: every component has its model."""
        return (not self.dense or bool(self.embedding)) and (not self.sparse or bool(self.sparse_embedding))

    def with_dimension(self, dimension: int) -> Self:
        """The same schema, its dimension now decided."""
        return replace(self, dimension=dimension)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for storage."""
        return {key: value.value if isinstance(value, Enum) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Read back what `to_dict` gave."""
        return cls(
            type=IndexType(stored["type"]),
            dimension=stored["dimension"],
            similarity=Similarity(stored["similarity"]),
            embedding=stored["embedding"],
            sparse_embedding=stored["sparse_embedding"],
            fusion_order=FusionOrder(stored["fusion_order"]),
        )

    def refuse_contradiction(self, keywords: Mapping[str, Any]) -> None:
        """Compare with the keywords of a reopening; those left out (`None`) agree with anything.

        Raises:
            ClientError: A keyword differs from what is stored; the message names both.
        """
        for field in fields(self):
            wanted, stored = keywords.get(field.name), getattr(self, field.name)
            if wanted is None:
                continue
            if field.name == "dimension":
                _require_dimension(wanted)
            given = choose(type(stored), wanted, field.name) if isinstance(stored, Enum) else wanted
            if given != stored:
                held = stored.value.lower() if isinstance(stored, Enum) else stored
                message = f"this index was made with {field.name}={held!r}; it cannot be opened with {wanted!r}"
                raise ClientError(message)
