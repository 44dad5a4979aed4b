"""The model that stands for an index that embeds, where LlamaIndex wants a model. Private."""

from llama_index.core.base.embeddings.base import BaseEmbedding


class EmbeddedByIndex(BaseEmbedding):
    """A model that leaves all embedding to the index: it gives each text an empty vector, which is never stored.

    `VectorStoreIndex` and `IngestionPipeline` hand only nodes with a vector to a store. This model marks nodes as
    embedded at no cost, and the store gives their text to the index.
    """

    model_name: str = "embedded-by-index"

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the class, as LlamaIndex writes it down."""
        return "EmbeddedByIndex"

    def _get_query_embedding(self, query: str) -> list[float]:  # noqa: ARG002
        return []

    async def _aget_query_embedding(self, query: str) -> list[float]:  # noqa: ARG002
        return []

    def _get_text_embedding(self, text: str) -> list[float]:  # noqa: ARG002
        return []

    async def _aget_text_embedding(self, text: str) -> list[float]:  # noqa: ARG002
        return []
