"""Names of arguments that other retrievers and stores have, and what to give to the retrievers here instead."""

from collections.abc import Mapping

from nextk.sessions.config import FOREIGN_SETTINGS, WRITE_FILTER

_SHARED = {
    **FOREIGN_SETTINGS,
    **dict.fromkeys(("fetch_k", "lambda_mult"), "there is no MMR"),
    **dict.fromkeys(("expr", "pre_filter"), WRITE_FILTER),
    **dict.fromkeys(("path", "persist_directory", "persist_dir"), "give index=Index.embedded(path)"),
}

LANGCHAIN: Mapping[str, str] = {
    **_SHARED,
    **dict.fromkeys(("top_k", "similarity_top_k", "n_results", "limit"), "give k="),
    "search_kwargs": "give what is in it by itself, as in k=5, filter=..., or give it to from_vectorstore",
    "fetch_k": "there is no MMR; a store that filters so many takes it by from_vectorstore(store, search_kwargs=...)",
    "filters": WRITE_FILTER,
    **dict.fromkeys(("vectorstore", "vector_store", "store"), "call ResumableRetriever.from_vectorstore(store)"),
    **dict.fromkeys(("embedding_function", "embeddings", "embedding_model", "embed_model"), "give embedding="),
}
"""The hints for the arguments of the LangChain retriever, for `did_you_mean`."""

LLAMA_INDEX: Mapping[str, str] = {
    **_SHARED,
    **dict.fromkeys(("k", "top_k", "n_results", "limit"), "give similarity_top_k="),
    "search_kwargs": "give what is in it by itself, as in similarity_top_k=5, filter=...",
    **dict.fromkeys(("vector_store", "vectorstore"), "call ResumableRetriever.from_vector_store(vector_store)"),
    **dict.fromkeys(("embedding_function", "embeddings", "embedding_model"), "give embed_model="),
}
"""The hints for the arguments of the LlamaIndex retriever, for `did_you_mean`."""
