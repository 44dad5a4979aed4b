"""Storing nodes in an index, as the LlamaIndex retriever and the vector store both do it."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llama_index.core.schema import BaseNode

from nextk.llama_index.nodes import StorableNode, require_storable_embeddings, storable_nodes
from nextk.llama_index.question import Embedder
from nextk.retrievers.connection import Connection
from nextk.retrievers.writing import in_batches
from nextk.sessions.query import explaining_models
from nextk.types import Data, SparseVector, Vector


@dataclass(frozen=True, slots=True)
class NodeWriter:
    """The writer of nodes: it checks all of them, embeds what brings no vector, and stores them in batches.

    Records are written as LlamaIndex's Upstash store writes them. Of several nodes with one id, the last one stays.

    Attributes:
        connection: The connection to the index.
        embedder: The embedder of the nodes.
        namespace: The namespace in which they are stored.
    """

    connection: Connection
    embedder: Embedder
    namespace: str

    def insert(self, nodes: Iterable[BaseNode], batch_size: int, *, show_progress: bool = False) -> list[str]:
        """Check nodes, and store them.

        Args:
            nodes: The nodes. Each is stored under its `node_id`.
            batch_size: The number of records in one request, 1 to 1,000. Each request is stored whole or not at all.
            show_progress: Whether to show a progress bar on stderr.

        Returns:
            The id of each node, in order.

        Raises:
            ClientError: If it is no list of nodes; if nobody embeds; if a node is none that JSON can express; or if the
                embeddings that nodes bring are not all of one length and of numbers that float32 holds. Nothing is
                stored then, and the message names the node by its position and its id.
            RefusedError: If a node is too large. Nothing is stored then.
            NextKError: If a batch was not stored. A note on the exception says how many batches were.
        """
        return self.store(storable_nodes(nodes), batch_size, show_progress=show_progress)

    async def ainsert(self, nodes: Iterable[BaseNode], batch_size: int, *, show_progress: bool = False) -> list[str]:
        """Check nodes, and store them without blocking the event loop; see `insert`."""
        storable = await asyncio.to_thread(storable_nodes, nodes)  # checks of many nodes take seconds
        given = _bring_vectors(storable)
        dense = await self.embedder.astores_dense(self.connection, given=given) if storable else None
        if dense:
            require_storable_embeddings(storable)
        with in_batches(storable, _ids(storable), batch_size, show_progress=show_progress) as (batches, stored):
            for batch in batches:
                rows = _text_rows(batch) if dense is None else await self._avector_rows(batch, dense=dense)
                with explaining_models(by_vectors=dense is not None):
                    await self.connection.async_index.upsert(rows, self.namespace)
                stored()
        return _ids(storable)

    def store(self, storable: Sequence[StorableNode], batch_size: int, *, show_progress: bool = False) -> list[str]:
        """Store nodes that were checked by `storable_nodes`; see `insert`."""
        given = _bring_vectors(storable)
        dense = self.embedder.stores_dense(self.connection, given=given) if storable else None
        if dense:
            require_storable_embeddings(storable)
        with in_batches(storable, _ids(storable), batch_size, show_progress=show_progress) as (batches, stored):
            for batch in batches:
                rows = _text_rows(batch) if dense is None else self._vector_rows(batch, dense=dense)
                with explaining_models(by_vectors=dense is not None):
                    self.connection.index.upsert(rows, self.namespace)
                stored()
        return _ids(storable)

    def _vector_rows(self, nodes: Sequence[StorableNode], *, dense: bool) -> list[Data] | list[Vector]:
        return _rows_of(nodes, *self.embedder.vectors(*_parts(nodes), dense=dense))

    async def _avector_rows(self, nodes: Sequence[StorableNode], *, dense: bool) -> list[Data] | list[Vector]:
        return _rows_of(nodes, *await self.embedder.avectors(*_parts(nodes), dense=dense))


def _ids(nodes: Sequence[StorableNode]) -> list[str]:
    return [each.node.node_id for each in nodes]


def _bring_vectors(nodes: Sequence[StorableNode]) -> bool:
    return any(each.node.embedding is not None for each in nodes)


def _parts(nodes: Sequence[StorableNode]) -> tuple[list[str], list[list[float] | None]]:
    """Return the text of each node, and the dense vector that it brings, or `None`."""
    return [each.text for each in nodes], [each.node.embedding for each in nodes]


def _text_rows(nodes: Sequence[StorableNode]) -> list[Data] | list[Vector]:
    return [node.record() for node in nodes]


def _rows_of(
    nodes: Sequence[StorableNode], dense: list[list[float]] | None, sparse: list[SparseVector] | None
) -> list[Data] | list[Vector]:
    return [
        node.vector_record(None if dense is None else dense[position], None if sparse is None else sparse[position])
        for position, node in enumerate(nodes)
    ]
