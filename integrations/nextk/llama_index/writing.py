"""Storing nodes and documents in the index that a retriever searches, and making a retriever over nodes."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.ingestion import run_transformations
from llama_index.core.schema import BaseNode, Document, TransformComponent
from llama_index.core.settings import Settings

from nextk.arguments import written
from nextk.errors import ClientError
from nextk.llama_index.filters import NO_DOCUMENT, filter_of_document
from nextk.llama_index.node_writer import NodeWriter
from nextk.llama_index.nodes import listed_nodes, storable_nodes
from nextk.llama_index.question import Embedder
from nextk.retrievers.connection import Connection
from nextk.retrievers.source_connection import SourceConnection
from nextk.retrievers.writing import BATCH, open_embedded
from nextk.sessions import SearchQuery

_SHOWN = 60  # letters of an id in an error message


class Writing:
    """The part of LlamaIndex's retriever that stores and removes. Its twin in `nextk.langchain` does so with texts."""

    _embedder: Embedder
    _template: SearchQuery
    _connection: Connection | SourceConnection

    @classmethod
    def from_nodes(
        cls,
        nodes: Iterable[BaseNode],
        embed_model: BaseEmbedding | Callable[[list[str]], Any] | str | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
        sparse_embedding: Any = None,
        same_model: bool = False,
        batch_size: int = BATCH,
        show_progress: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Make a retriever over nodes, in a hybrid index in this process. Needs `pip install 'nextk[local]'`.

        The index owns the models and embeds by itself. It embeds what LlamaIndex embeds of a node: the text and the
        metadata as `MetadataMode.EMBED` shows them. A vector that a node has already is not used. Records are written
        as LlamaIndex's Upstash store writes them, so that any reader of those finds the whole nodes. The retriever owns
        the index: close it by `close()` or `with`.

        Args:
            nodes: The nodes to store, each under its `node_id`.
            embed_model: The dense model: one of LlamaIndex's, or anything that `Index.embedded` takes; absent:
                `"static"`, which needs no download. `Settings.embed_model` is not used.
            path: The file of the index, which is created or added to; absent: the index is in memory.
            sparse_embedding: The sparse model, as `Index.embedded` takes it; absent: `"bm25"`, with
                `weighting="idf"`, because BM25 is incomplete without it. The index remembers its first weighting.
            same_model: Whether models other than those that an existing index was made with make the same vectors
                nevertheless, as for `Index.embedded`.
            batch_size: The number of records in one request, 1 to 1,000.
            show_progress: Whether to show a progress bar on stderr.
            **kwargs: Further arguments of the retriever. The nodes are stored in its `namespace`.

        Raises:
            ClientError, RefusedError: If a node cannot be stored, as for `insert_nodes`. No index is made then.
            MissingExtraError: If the engine is not installed.
        """
        storable = storable_nodes(nodes)  # checked before an index is made
        index = open_embedded(path, embed_model, sparse_embedding, kwargs.get("weighting"), same_model=same_model)
        try:
            made: Any = cls  # the retriever, whose part this class is, has the constructor
            retriever: Self = made(index, embedding=True, **kwargs)
            retriever._connection = Connection(index, owned=True)
            retriever._writer().store(storable, batch_size, show_progress=show_progress)
        except BaseException:
            index.close()
            raise
        return retriever

    @classmethod
    def from_documents(
        cls,
        documents: Sequence[Document],
        embed_model: BaseEmbedding | Callable[[list[str]], Any] | str | None = None,
        *,
        transformations: Sequence[TransformComponent] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Make a retriever over documents, split into nodes as `VectorStoreIndex.from_documents` does.

        Args:
            documents: The documents to store.
            embed_model: The dense model: one of LlamaIndex's, or anything that `Index.embedded` takes; absent:
                `"static"`, which needs no download.
            transformations: The steps that make nodes of documents; absent: `Settings.transformations`, which are a
                sentence splitter if nothing else is set. `[]` keeps each document whole. LlamaIndex's splitters give
                nodes random ids, so splitting the same document again, into the same `path`, stores it twice.
            **kwargs: Further arguments of `from_nodes`, and of the retriever.

        Raises:
            ClientError, RefusedError, MissingExtraError: As for `from_nodes`; also if it is no list of documents.
        """
        steps = Settings.transformations if transformations is None else transformations
        return cls.from_nodes(run_transformations(listed_nodes(documents), steps), embed_model, **kwargs)

    def insert_nodes(
        self, nodes: Iterable[BaseNode], *, batch_size: int = BATCH, show_progress: bool = False
    ) -> list[str]:
        """Store nodes, so that this retriever finds them. Of several nodes with one id, the last one stays.

        Records are written as LlamaIndex's Upstash store writes them. A node that has a vector keeps it; the
        retriever's models make the other vectors. If the index embeds, it is given the text.

        Args:
            nodes: The nodes. Each is stored under its `node_id`, in the retriever's namespace.
            batch_size: The number of records in one request, 1 to 1,000. Each request is stored whole or not at all.
            show_progress: Whether to show a progress bar on stderr, which needs `pip install 'nextk[local]'`.

        Returns:
            The id of each node, in order.

        Raises:
            ClientError: If it is no list of nodes; if nobody embeds; if a node is none that JSON can express, because
                of its metadata, or because it is an `IndexNode` with an object; or if the embeddings that nodes bring
                are not all of one length and of numbers that float32 holds. Nothing is stored then, and the message
                names the node by its position and its id.
            RefusedError: If a node is too large. Nothing is stored then.
            NextKError: If a batch was not stored. A note on the exception says how many batches were.
        """
        return self._writer().insert(nodes, batch_size, show_progress=show_progress)

    async def ainsert_nodes(
        self, nodes: Iterable[BaseNode], *, batch_size: int = BATCH, show_progress: bool = False
    ) -> list[str]:
        """Store nodes without blocking the event loop; see `insert_nodes`."""
        return await self._writer().ainsert(nodes, batch_size, show_progress=show_progress)

    def delete_ref_doc(self, ref_doc_id: str) -> int:
        """Remove every node of a source document.

        Args:
            ref_doc_id: The id of the document. It may hold quotes, backslashes and any other characters that an index
                can store. LlamaIndex stores `"None"` with every node that has no source document, as a `Document` that
                was not split has none; therefore a document whose id is really `"None"` cannot be named here.

        Returns:
            The number of nodes that were removed.

        Raises:
            ClientError: If the id is `"None"`, empty or no string, or cannot be written into a filter because it holds
                a NUL or a lone surrogate or takes more than 6,000 bytes (fewer if many of its characters are special to
                `GLOB`). Nothing is removed. Remove the nodes by their own ids then:
                `retriever.index.delete(ids, namespace=...)`.
        """
        of_document = _of_document(ref_doc_id)
        return self._writable().index.delete(filter=of_document, namespace=self._template.namespace).deleted

    async def adelete_ref_doc(self, ref_doc_id: str) -> int:
        """Remove every node of a source document without blocking the event loop; see `delete_ref_doc`."""
        of_document = _of_document(ref_doc_id)
        index = self._writable().async_index
        return (await index.delete(filter=of_document, namespace=self._template.namespace)).deleted

    def _writer(self) -> NodeWriter:
        return NodeWriter(self._writable(), self._embedder, self._template.namespace)

    def _writable(self) -> Connection:
        """Return the connection to the index.

        Raises:
            ClientError: If the retriever searches a source that is no index.
        """
        if isinstance(self._connection, SourceConnection):
            message = (
                f"this retriever searches {self._connection!r}, and has no index: write to the store itself, for "
                "example by VectorStoreIndex.insert_nodes or delete_ref_doc"
            )
            raise ClientError(message)
        return self._connection


def _of_document(ref_doc_id: Any) -> str:
    """Return the filter for the nodes of a source document; raise `ClientError` if no filter can name it."""
    if not isinstance(ref_doc_id, str) or ref_doc_id in ("", NO_DOCUMENT):
        reason = f"names no source document; LlamaIndex stores {NO_DOCUMENT!r} with every node that has none"
        raise ClientError(_refusal(ref_doc_id, reason))
    found = filter_of_document(ref_doc_id)
    if found is None:
        reason = "cannot be written into a filter: it is too long, or holds a NUL or a lone surrogate"
        raise ClientError(_refusal(ref_doc_id, reason))
    return found


def _refusal(ref_doc_id: Any, reason: str) -> str:
    shown = written(ref_doc_id)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    return (
        f"ref_doc_id={shown} {reason}. Nothing was removed; "
        "remove nodes by their own ids, with retriever.index.delete(ids, namespace=...)"
    )
