"""The LangChain retriever and vector store, compression that refills, and what `SelfQueryRetriever` needs.

Needs `pip install 'nextk[langchain]'`.
"""

from nextk.extras import require

require("langchain_core.retrievers", extra="langchain")  # first, so that its absence says how to install it

from nextk.langchain.compression import ResumableCompressionRetriever  # noqa: E402
from nextk.langchain.retriever import ResumableRetriever  # noqa: E402
from nextk.langchain.structured_query import StructuredQueryTranslator  # noqa: E402
from nextk.langchain.vector_store import ResumableVectorStore  # noqa: E402

__all__ = [
    "ResumableCompressionRetriever",
    "ResumableRetriever",
    "ResumableVectorStore",
    "StructuredQueryTranslator",
]
