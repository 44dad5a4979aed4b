"""A query of LlamaIndex's for a vector store, as an index takes it. Private."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from llama_index.core.schema import QueryBundle
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

from nextk.arguments import choose, require_count, require_kind, require_number, written
from nextk.errors import ClientError
from nextk.llama_index.filters import translate
from nextk.llama_index.mode import RETRIEVAL_MODES, mode_of, top_k_of
from nextk.llama_index.policies import MetadataPolicy, Restrictions
from nextk.payloads import plain_list
from nextk.sessions import RetrievalMode, SearchQuery

MMR_OPTIONS = ("mmr_threshold", "mmr_prefetch_k", "mmr_prefetch_factor")
"""The keywords of a query that say how MMR chooses, under the names that LlamaIndex's other stores have for them."""

_PREFETCH_FACTOR = 4.0
_THRESHOLD = 0.5  # LlamaIndex's own


@dataclass(frozen=True, slots=True)
class Mmr:
    """How nodes are chosen by maximal marginal relevance.

    Attributes:
        top_k: The number of nodes to choose.
        threshold: The weight of the nearness to the query, 0 to 1. The rest is that of the distance from the nodes that
            are chosen already.
    """

    top_k: int
    threshold: float


@dataclass(frozen=True, slots=True)
class NodeSearch:
    """One search of a vector store.

    Attributes:
        bundle: The text of the query and the vector that LlamaIndex made of it.
        template: The mode, the filter and all else that an index is told, without text and vectors.
        residual: The part of the restrictions that the index cannot check; `None` if there is none.
        count: The number of nodes to find.
        mmr: How some of them are chosen; `None` to take all as they come.
        is_filter_alone: Whether there is nothing to search for but what passes the query's own filters.
            `VectorIndexAutoRetriever` asks so where its model makes filters of a whole question.
        names_nodes: Whether the query names its nodes by their ids, of which none may be left out for want of time.
    """

    bundle: QueryBundle
    template: SearchQuery
    residual: MetadataPolicy | None
    count: int
    mmr: Mmr | None = None
    is_filter_alone: bool = False
    names_nodes: bool = False


def read_query(query: VectorStoreQuery, options: Mapping[str, Any], template: SearchQuery) -> NodeSearch:
    """Read a query of LlamaIndex's.

    Args:
        query: The query.
        options: The keywords of the call, of `MMR_OPTIONS`.
        template: The settings of the store: its filter, namespace, fusion and weighting.

    Raises:
        ClientError: If the query asks for what no index can do, if its parts contradict each other, or if its filters
            are refused by `translate`.
    """
    require_kind(query, VectorStoreQuery, "query")
    _refuse_unsupported(query)
    chosen = choose(VectorStoreQueryMode, query.mode, "mode")
    if chosen is VectorStoreQueryMode.MMR:
        mode: RetrievalMode | None = mode_of(RetrievalMode.DENSE, None, query.alpha)
    else:
        _refuse_mmr_options(options, chosen)
        mode = mode_of(None, _supported(chosen), query.alpha)
    translated = translate(query.filters, query.doc_ids, query.node_ids)
    residual = None if translated.residual is None else MetadataPolicy(translated.residual)
    joined = Restrictions(translated.filter, residual, ()).joined(template.filter)
    top_k = top_k_of(query.similarity_top_k, query.hybrid_top_k, mode)
    require_count(top_k, "similarity_top_k" if top_k is query.similarity_top_k else "hybrid_top_k")
    bundle, restricted = _bundle_of(query), bool(translated.filter or residual is not None)
    search = NodeSearch(
        bundle,
        replace(template, mode=mode, filter=joined),
        residual,
        _at_most(top_k or 1, query),
        is_filter_alone=restricted and not bundle.query_str.strip() and not bundle.embedding,
        names_nodes=bool(query.node_ids),
    )
    if chosen is not VectorStoreQueryMode.MMR or search.is_filter_alone:
        return search
    return _with_mmr(search, query, options)


def _bundle_of(query: VectorStoreQuery) -> QueryBundle:
    """Return the text and the vector of a query, of which LlamaIndex checks nothing.

    Raises:
        ClientError: The text is no text, or the vector no list of numbers.
    """
    text = require_kind(query.query_str or "", str, "query_str")
    vector: Any = query.query_embedding
    if vector is not None:
        vector = plain_list(list(vector) if isinstance(vector, tuple) else vector, "query_embedding")
    return QueryBundle(text, embedding=vector)


def _refuse_unsupported(query: VectorStoreQuery) -> None:
    refused = {
        "sparse_top_k": "both halves of a hybrid search are read as far as the result needs: leave it out",
        "embedding_field": "a record has one dense vector: leave it out",
        "output_fields": "nodes always come whole: leave it out",
    }
    for name, reason in refused.items():
        if getattr(query, name) is not None:
            message = f"{name}={written(getattr(query, name))} is not supported: {reason}"
            raise ClientError(message)


def _supported(mode: VectorStoreQueryMode) -> VectorStoreQueryMode:
    if mode not in RETRIEVAL_MODES:
        able = ", ".join(repr(supported.value) for supported in (*RETRIEVAL_MODES, VectorStoreQueryMode.MMR))
        message = f"mode={mode.value!r} is not supported; these are: {able}"
        raise ClientError(message)
    return mode


def _refuse_mmr_options(options: Mapping[str, Any], mode: VectorStoreQueryMode) -> None:
    given = [name for name in options if options[name] is not None]
    if given:
        message = f"{given[0]}= is for the mode 'mmr', and the mode is {mode.value!r}: leave one of them out"
        raise ClientError(message)


def _with_mmr(search: NodeSearch, query: VectorStoreQuery, options: Mapping[str, Any]) -> NodeSearch:
    """Return a search for as many candidates as MMR chooses from, with their vectors."""
    threshold, prefetch, factor = (options.get(name) for name in MMR_OPTIONS)
    threshold = query.mmr_threshold if threshold is None else threshold
    threshold = _THRESHOLD if threshold is None else threshold
    require_number(threshold, "mmr_threshold", 0, 1)
    if prefetch is not None and factor is not None:
        message = "mmr_prefetch_k= and mmr_prefetch_factor= both say how many candidates there are: leave one out"
        raise ClientError(message)
    if prefetch is None:
        factor = _PREFETCH_FACTOR if factor is None else factor
        require_number(factor, "mmr_prefetch_factor", 1)
        prefetch = math.ceil(search.count * factor)
    require_count(prefetch, "mmr_prefetch_k")
    template = replace(search.template, include_vectors=True)
    count = _at_most(max(search.count, prefetch), query)
    return replace(search, template=template, count=count, mmr=Mmr(search.count, float(threshold)))


def _at_most(count: int, query: VectorStoreQuery) -> int:
    """Return how many nodes there can be, so that a search for nodes by their ids ends when all are found."""
    return min(count, len(set(query.node_ids))) if query.node_ids else count
