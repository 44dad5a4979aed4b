"""Translation of LlamaIndex's words for the mode and the size of a search into nextk's."""

from llama_index.core.constants import DEFAULT_SIMILARITY_TOP_K
from llama_index.core.vector_stores.types import VectorStoreQueryMode

from nextk.arguments import choose, require_count, written
from nextk.bodies import MAX_ROWS
from nextk.errors import ClientError
from nextk.sessions import RetrievalMode

RETRIEVAL_MODES = {
    VectorStoreQueryMode.DEFAULT: RetrievalMode.DENSE,
    VectorStoreQueryMode.SPARSE: RetrievalMode.SPARSE,
    VectorStoreQueryMode.TEXT_SEARCH: RetrievalMode.SPARSE,
    VectorStoreQueryMode.HYBRID: RetrievalMode.HYBRID,
}
"""The modes of LlamaIndex that are supported, in nextk's words."""


def mode_of(
    retrieval_mode: RetrievalMode | str | None,
    query_mode: VectorStoreQueryMode | str | None,
    alpha: float | None = None,
) -> RetrievalMode | None:
    """Return the mode that the arguments of a retriever ask for.

    Args:
        retrieval_mode: The mode in nextk's words; `None` if it is not given.
        query_mode: The mode in LlamaIndex's words; `None` if it is not given.
        alpha: LlamaIndex's weight of the dense half of a hybrid search; `None` if it is not given. An index has no such
            weights, so only two values are supported: 1 is a dense search, 0 is a sparse search.

    Returns:
        The mode, or `None` if no argument is given.

    Raises:
        ClientError: If a word is unknown or not supported, or if the arguments contradict each other.
    """
    mode = _mode_of(retrieval_mode, query_mode)
    if alpha is None:
        return mode
    weight: object = alpha
    if not isinstance(weight, int | float) or weight not in (0, 1):
        message = f"alpha={written(alpha)} is not supported, only 0 (sparse) and 1 (dense): leave it out for both"
        raise ClientError(message)
    weighed = RetrievalMode.DENSE if alpha else RetrievalMode.SPARSE
    if mode not in (None, RetrievalMode.HYBRID, weighed):
        message = (
            f"alpha={written(alpha)} is a {weighed.value} search, and the mode is {mode.value!r}: leave one of them out"
        )
        raise ClientError(message)
    return weighed


def _mode_of(
    retrieval_mode: RetrievalMode | str | None, query_mode: VectorStoreQueryMode | str | None
) -> RetrievalMode | None:
    mode = choose(RetrievalMode, retrieval_mode, "retrieval_mode")
    chosen = query_mode_of(query_mode)
    if chosen is None:
        return mode
    translated = RETRIEVAL_MODES[chosen]
    if mode not in (None, translated):
        given = f"retrieval_mode={written(retrieval_mode)} and vector_store_query_mode={chosen.value!r}"
        message = f"{given} contradict each other"
        raise ClientError(message)
    return translated


def query_mode_of(given: VectorStoreQueryMode | RetrievalMode | str | None) -> VectorStoreQueryMode | None:
    """Return a mode in LlamaIndex's words.

    Args:
        given: The mode, in the words of LlamaIndex or of nextk; `None` if it is not given.

    Raises:
        ClientError: If the word is unknown, or the mode is not supported, as MMR is not.
    """
    if isinstance(given, RetrievalMode):
        return next(theirs for theirs, ours in RETRIEVAL_MODES.items() if ours is given)
    chosen = choose(VectorStoreQueryMode, given, "vector_store_query_mode")
    if chosen is not None and chosen not in RETRIEVAL_MODES:
        able = ", ".join(repr(supported.value) for supported in RETRIEVAL_MODES)
        message = f"vector_store_query_mode={chosen.value!r} is not supported; these are: {able}"
        raise ClientError(message)
    return chosen


def top_k_of(similarity_top_k: int | None, hybrid_top_k: int | None, mode: RetrievalMode | None) -> int | None:
    """Return how many nodes one call returns: `hybrid_top_k`, if given, in a hybrid search; else `similarity_top_k`."""
    return hybrid_top_k if mode is RetrievalMode.HYBRID and hybrid_top_k is not None else similarity_top_k


class TopK:
    """The part of the retriever that says how many nodes one call returns."""

    _cap: int | None = None

    @property
    def similarity_top_k(self) -> int:
        """The largest number of nodes that one call returns. It may be set."""
        return DEFAULT_SIMILARITY_TOP_K if self._cap is None else self._cap

    @similarity_top_k.setter
    def similarity_top_k(self, count: int) -> None:
        require_count(count, "similarity_top_k")
        self._cap = count

    @property
    def _fits_one_query(self) -> bool:
        """Whether one plain query can bring so many nodes."""
        return self.similarity_top_k <= MAX_ROWS
