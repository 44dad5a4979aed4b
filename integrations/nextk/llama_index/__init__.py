"""The LlamaIndex retriever, vector store, query engine and tools for agents.

Needs `pip install 'nextk[llama-index]'`.
"""

from nextk.extras import require

require("llama_index.core", extra="llama-index")  # first, so that its absence says how to install it

from nextk.llama_index.agents import ResumableSearchToolSpec  # noqa: E402
from nextk.llama_index.instrumentation import ShortfallEvent  # noqa: E402
from nextk.llama_index.postgres_store import postgres_source  # noqa: E402
from nextk.llama_index.qdrant_store import qdrant_source  # noqa: E402
from nextk.llama_index.query_engine import RefillingQueryEngine  # noqa: E402
from nextk.llama_index.retriever import ResumableRetriever  # noqa: E402
from nextk.llama_index.vector_store import ResumableVectorStore  # noqa: E402

__all__ = [
    "RefillingQueryEngine",
    "ResumableRetriever",
    "ResumableSearchToolSpec",
    "ResumableVectorStore",
    "ShortfallEvent",
    "postgres_source",
    "qdrant_source",
]
