"""The mode of a search, in LlamaIndex's words and in ours."""

from llama_index.core.vector_stores.types import VectorStoreQueryMode

from nextk.arguments import choose
from nextk.errors import ClientError
from nextk.sessions import RetrievalMode

_MODES = {
    VectorStoreQueryMode.DEFAULT: RetrievalMode.DENSE,
    VectorStoreQueryMode.SPARSE: RetrievalMode.SPARSE,
    VectorStoreQueryMode.TEXT_SEARCH: RetrievalMode.SPARSE,
    VectorStoreQueryMode.HYBRID: RetrievalMode.HYBRID,
}


def mode_of(
    retrieval_mode: RetrievalMode | str | None,
    query_mode: VectorStoreQueryMode | str | None,
    alpha: float | None = None,
) -> RetrievalMode | None:
    """The mode that is asked for, in whichever words.

    Args:
        retrieval_mode: In nextk's.
        query_mode: In LlamaIndex's.
        alpha: LlamaIndex's weight of the dense half of a hybrid search. An index has no weights, so that it is all or
            nothing: 1 is dense, 0 is sparse.

    Raises:
        ClientError: A word is unknown or not supported, or they contradict each other.
    """
    mode = _mode_of(retrieval_mode, query_mode)
    if alpha is None:
        return mode
    if alpha not in (0, 1):
        message = f"alpha={alpha!r} is not supported, only 0 (sparse) and 1 (dense): leave it out for both"
        raise ClientError(message)
    weighed = RetrievalMode.DENSE if alpha else RetrievalMode.SPARSE
    if mode not in (None, RetrievalMode.HYBRID, weighed):
        message = f"alpha={alpha!r} is a {weighed.value} search, and the mode is {mode.value!r}: leave one of them out"
        raise ClientError(message)
    return weighed


def _mode_of(
    retrieval_mode: RetrievalMode | str | None, query_mode: VectorStoreQueryMode | str | None
) -> RetrievalMode | None:
    mode = choose(RetrievalMode, retrieval_mode, "retrieval_mode")
    chosen = choose(VectorStoreQueryMode, query_mode, "vector_store_query_mode")
    if chosen is None:
        return mode
    translated = _MODES.get(chosen)
    if translated is None:
        able = ", ".join(repr(supported.value) for supported in _MODES)
        message = f"vector_store_query_mode={chosen.value!r} is not supported; these are: {able}"
        raise ClientError(message)
    if mode not in (None, translated):
        message = (
            f"retrieval_mode={retrieval_mode!r} and vector_store_query_mode={chosen.value!r} contradict each other"
        )
        raise ClientError(message)
    return translated


def top_k_of(similarity_top_k: int | None, hybrid_top_k: int | None, mode: RetrievalMode | None) -> int | None:
    """How many nodes one call returns: in a hybrid search LlamaIndex has another word for it."""
    return hybrid_top_k if mode is RetrievalMode.HYBRID and hybrid_top_k is not None else similarity_top_k
