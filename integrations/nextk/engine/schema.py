"""The schema of an index: its type, dimension, similarity, models, fusion order and weighting.

It is fixed when the index is created, but for what was left open then: the type and the dimension, which the first
write decides, the weighting, which a later opening may name, and the identities of models, which an index of an earlier
version does not hold.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum, StrEnum
from typing import Any, Self

from nextk.arguments import choose, require_count, written
from nextk.bodies import MAX_DIMENSION
from nextk.errors import ClientError


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


class IndexWeighting(StrEnum):
    """The weighting of sparse queries that an index asks of its retrievers.

    `IDF`: Weight the terms of a query by their rarity.
    `NONE`: Leave them as they are. An index that asks for this is no longer open to another weighting.
    """

    IDF = "IDF"
    NONE = "NONE"


def _require_dimension(dimension: int) -> None:
    require_count(dimension, "dimension")
    if dimension > MAX_DIMENSION:
        message = f"dimension={written(dimension)} is not in 1..{MAX_DIMENSION}"
        raise ClientError(message)


@dataclass(frozen=True, slots=True)
class Schema:
    """The fixed properties of an index.

    Attributes:
        type: The vectors that every record has, or `None` until the first write decides it.
        dimension: The length of every dense vector, or `None` until the first dense vector decides it.
        similarity: The function that scores two dense vectors.
        embedding: The name of the dense text model: `"static"`, `"custom"` for the caller's own, or `""` for none.
        sparse_embedding: The name of the sparse text model: `"bm25"`, `"custom"` for the caller's own, or `""`.
        fusion_order: The way in which a hybrid query orders its pages.
        weighting: The weighting of sparse values that retrievers use if they are told none; `None` while it is unset,
            until an opening names one.
        embedding_identity: The identity of the dense text model, as `nextk.engine.text.identity` makes it; `""` for
            none, or if it is unknown.
        sparse_embedding_identity: The identity of the sparse text model; `""` for none, or if it is unknown.
    """

    type: IndexType | None
    dimension: int | None
    similarity: Similarity
    embedding: str
    sparse_embedding: str
    fusion_order: FusionOrder
    weighting: IndexWeighting | None = None
    embedding_identity: str = ""
    sparse_embedding_identity: str = ""

    @classmethod
    def create(
        cls,
        *,
        type: str | None = None,
        dimension: int | None = None,
        similarity: str = "cosine",
        embedding: str = "",
        sparse_embedding: str = "",
        fusion_order: str = "global",
        weighting: str | None = None,
        embedding_identity: str = "",
        sparse_embedding_identity: str = "",
    ) -> Self:
        """Check the keywords of a new index and create its schema.

        Without `type`, the models decide the type; without models, the first write does.

        Raises:
            ClientError: A keyword has a value that is not allowed, or contradicts another one; the message names it.
        """
        kind = choose(IndexType, type, "type") or _type_of_models(embedding, sparse_embedding)
        chosen_weighting = choose(IndexWeighting, weighting, "weighting")
        if dimension is not None:
            _require_dimension(dimension)
        if kind is IndexType.SPARSE and (dimension is not None or embedding):
            message = 'type="sparse" has no dense vectors: leave out dimension and embedding'
            raise ClientError(message)
        if kind is IndexType.DENSE and (sparse_embedding or chosen_weighting is IndexWeighting.IDF):
            message = 'type="dense" has no sparse vectors: leave out sparse_embedding and weighting'
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
            weighting=chosen_weighting,
            embedding_identity=embedding_identity,
            sparse_embedding_identity=sparse_embedding_identity,
        )

    @property
    def undecided(self) -> bool:
        """Whether the type is still open, and the index therefore empty: the first write decides it."""
        return self.type is None

    @property
    def dense(self) -> bool:
        """Whether every record has a dense vector."""
        return self.type in (IndexType.DENSE, IndexType.HYBRID)

    @property
    def sparse(self) -> bool:
        """Whether every record has a sparse vector."""
        return self.type in (IndexType.SPARSE, IndexType.HYBRID)

    @property
    def embeds_text(self) -> bool:
        """Whether a record can be made from text alone, because there is a text model for each of its vectors."""
        return (
            not self.undecided
            and (not self.dense or bool(self.embedding))
            and (not self.sparse or bool(self.sparse_embedding))
        )

    def with_type(self, type: IndexType) -> Self:
        """Return a copy of an undecided schema with the type that the first write has, or that a caller names.

        Args:
            type: The vectors that every record has from then on.

        Raises:
            ClientError: The type contradicts the dimension or the weighting that the index was made with.
        """
        if type is IndexType.SPARSE and self.dimension is not None:
            message = f"this index was made with dimension={self.dimension}, so its records need dense vectors"
            raise ClientError(message)
        if type is IndexType.DENSE and self.weighting is IndexWeighting.IDF:
            message = 'this index was made with weighting="idf", so its records need sparse vectors'
            raise ClientError(message)
        return replace(self, type=type)

    def with_dimension(self, dimension: int) -> Self:
        """Return a copy of the schema with the dimension of the first dense vector."""
        return replace(self, dimension=dimension)

    def to_dict(self) -> dict[str, Any]:
        """Return the schema as plain data for storage."""
        return {key: value.value if isinstance(value, Enum) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Restore a schema from the result of `to_dict`."""
        weighting = stored.get("weighting")
        return cls(
            type=None if stored["type"] is None else IndexType(stored["type"]),
            dimension=stored["dimension"],
            similarity=Similarity(stored["similarity"]),
            embedding=stored["embedding"],
            sparse_embedding=stored["sparse_embedding"],
            fusion_order=FusionOrder(stored["fusion_order"]),
            weighting=None if weighting is None else IndexWeighting(weighting),
            embedding_identity=stored.get("embedding_identity", ""),
            sparse_embedding_identity=stored.get("sparse_embedding_identity", ""),
        )

    def reopened(self, keywords: Mapping[str, Any]) -> Self:
        """Return the schema of a stored index that is opened with these keywords: what they decide is added to it.

        A type decides an undecided one, and a weighting decides one that is unset.

        Args:
            keywords: The keywords of the opening by name, without the models; a keyword that is missing or `None`
                agrees with any value.

        Raises:
            ClientError: A keyword has a value that is not allowed, or another value than the stored one. The message
                names the keyword and both values.
        """
        given = {name: value for name in _REOPENING if (value := keywords.get(name)) is not None}
        schema = self
        if "type" in given and schema.undecided:
            schema = schema.with_type(choose(IndexType, given["type"], "type"))
        if "dimension" in given:
            _require_dimension(given["dimension"])
            if schema.undecided and schema.dimension is None:
                schema = schema.with_dimension(given["dimension"])
        if "weighting" in given and schema.weighting is None:
            schema = schema.with_weighting(given["weighting"])
        for name, requested in given.items():
            _refuse_contradiction(schema, name, requested)
        return schema

    def with_model(self, keyword: str, name: str, identity: str, *, accepted: bool) -> Self:
        """Return the schema of a stored index that is opened with a text model.

        An index that holds no identity takes the one of the model, and one of which nothing is decided the model.

        Args:
            keyword: The keyword of the model, `"embedding"` or `"sparse_embedding"`.
            name: The stored name of the model.
            identity: The identity of the model.
            accepted: Whether the caller says that another model makes the same vectors as the stored one.

        Raises:
            ClientError: The index has no model, or has another one and the model is not accepted. The message names
                both.
        """
        stored, known = getattr(self, keyword), getattr(self, f"{keyword}_identity")
        other = stored != name or known not in ("", identity)
        if not (stored or self.undecided) or (stored and other and not accepted):
            held = known or stored
            message = (
                f"this index was made with the model {held} as {keyword}=; it cannot be opened with {identity}, whose "
                "vectors may differ. If they are the same, pass same_model=True, and the index keeps the new name; "
                "else make the index anew"
                if stored
                else f"this index was made without {keyword}=; it cannot be opened with {identity}"
            )
            raise ClientError(message)
        changed: dict[str, Any] = {keyword: name, f"{keyword}_identity": identity}
        return replace(self, **changed)

    def decided_by_models(self) -> Self:
        """Return an undecided schema with the type whose vectors its models make; any other one as it is.

        Raises:
            ClientError: The type contradicts the dimension or the weighting that the index was made with.
        """
        kind = _type_of_models(self.embedding, self.sparse_embedding) if self.undecided else None
        return self if kind is None else self.with_type(kind)

    def with_weighting(self, weighting: str) -> Self:
        """Return the schema of a stored index, whose weighting is unset, that is opened with a weighting.

        Args:
            weighting: `"idf"` or `"none"`, as `Index.embedded` takes it.

        Raises:
            ClientError: The weighting is not one, or the index is dense.
        """
        chosen = choose(IndexWeighting, weighting, "weighting")
        if chosen is IndexWeighting.IDF and self.type is IndexType.DENSE:
            message = "this index is dense, without sparse vectors to weight: leave out weighting="
            raise ClientError(message)
        return replace(self, weighting=chosen)


_REOPENING = ("type", "dimension", "similarity", "fusion_order", "weighting")


def _type_of_models(embedding: str, sparse_embedding: str) -> IndexType | None:
    """Return the type of an index whose type was left out: the one whose vectors its models make; `None` for none."""
    if embedding and sparse_embedding:
        return IndexType.HYBRID
    if embedding:
        return IndexType.DENSE
    return IndexType.SPARSE if sparse_embedding else None


def _refuse_contradiction(schema: Schema, name: str, requested: Any) -> None:
    stored = getattr(schema, name)
    given = choose(type(stored), requested, name) if isinstance(stored, Enum) else requested
    if given != stored:
        held = stored.value.lower() if isinstance(stored, Enum) else stored
        message = f"this index was made with {name}={held!r}; it cannot be opened with {written(requested)}"
        raise ClientError(message)
