"""Names of arguments that other retrievers and stores have, and what to give to the retrievers here instead."""

from collections.abc import Mapping

from nextk.sessions.config import FOREIGN_SETTINGS, WRITE_FILTER

_SHARED = {
    **FOREIGN_SETTINGS,
    **dict.fromkeys(("fetch_k", "lambda_mult"), "this retriever has no MMR: a ResumableVectorStore has"),
    **dict.fromkeys(("expr", "pre_filter"), WRITE_FILTER),
    **dict.fromkeys(("path", "persist_directory", "persist_dir"), "give index=Index.embedded(path)"),
}

LANGCHAIN: Mapping[str, str] = {
    **_SHARED,
    **dict.fromkeys(("top_k", "similarity_top_k", "n_results", "limit"), "give k="),
    "search_kwargs": "give what is in it by itself, as in k=5, filter=..., or give it to from_vectorstore",
    "fetch_k": (
        "this retriever has no MMR: ResumableVectorStore.as_retriever(search_type='mmr') has; and a store that filters "
        "so many takes it by from_vectorstore(store, search_kwargs=...)"
    ),
    "filters": WRITE_FILTER,
    **dict.fromkeys(("vectorstore", "vector_store", "store"), "call ResumableRetriever.from_vectorstore(store)"),
    **dict.fromkeys(("embedding_function", "embeddings", "embedding_model", "embed_model"), "give embedding="),
}
"""The hints for the arguments of the LangChain retriever, for `did_you_mean`."""

LANGCHAIN_STORE: Mapping[str, str] = {
    **dict.fromkeys(("top_k", "similarity_top_k", "n_results", "limit"), "give k= to a search or to as_retriever"),
    **dict.fromkeys(
        ("where", "expr", "pre_filter", "filters"), "give filter=, a dict or a string such as \"lang = 'de'\""
    ),
    **dict.fromkeys(("embedding_function", "embeddings", "embedding_model", "embed_model"), "give embedding="),
    **dict.fromkeys(("async_index", "client", "async_client"), "give index=, over which both colours work"),
    **dict.fromkeys(("path", "persist_directory", "persist_dir"), "give index=Index.embedded(path)"),
    **dict.fromkeys(("until", "max_results", "max_pulls", "deadline", "score_key"), "give it to as_retriever"),
    "score_threshold": "call similarity_search_with_relevance_scores, or give it to as_retriever",
    "index_url": "give url=",
    "index_token": "give token=",
    "embedding_chunk_size": "give batch_size=",
    "query_mode": "make the store with retrieval_mode=",
    "fusion_algorithm": "make the store with fusion=",
    "weighting_strategy": "make the store with weighting=",
}
"""The hints for the arguments of the LangChain vector store, for `did_you_mean`."""

LLAMA_INDEX: Mapping[str, str] = {
    **_SHARED,
    **dict.fromkeys(("k", "top_k", "n_results", "limit"), "give similarity_top_k="),
    "search_kwargs": "give what is in it by itself, as in similarity_top_k=5, filter=...",
    **dict.fromkeys(("vector_store", "vectorstore"), "call ResumableRetriever.from_vector_store(vector_store)"),
    **dict.fromkeys(("embedding_function", "embeddings", "embedding_model"), "give embed_model="),
}
"""The hints for the arguments of the LlamaIndex retriever, for `did_you_mean`."""

LLAMA_INDEX_STORE: Mapping[str, str] = {
    **LLAMA_INDEX,
    **dict.fromkeys(("k", "top_k", "n_results", "limit", "similarity_top_k"), "each query says how many it wants"),
    **dict.fromkeys(("collection_name", "index_name", "table_name"), "give namespace="),
    **dict.fromkeys(("fetch_k", "mmr_fetch_k"), "give mmr_prefetch_k= to the query"),
    **dict.fromkeys(("lambda_mult", "mmr_lambda"), "give mmr_threshold= to the query"),
    **dict.fromkeys(("retrieval_mode", "vector_store_query_mode"), "each query says its mode"),
    **dict.fromkeys(("vector_store", "vectorstore"), "give index="),
    **dict.fromkeys(("filters", "doc_ids", "node_ids"), "each query says its own; filter= holds for all of them"),
}
"""The hints for the arguments of the LlamaIndex vector store, for `did_you_mean`."""
