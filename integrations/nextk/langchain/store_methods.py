"""The methods by which a LangChain `VectorStore` is searched, found by its signatures and attributes, without I/O."""

import inspect
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

from langchain_core.vectorstores import VectorStore

log = logging.getLogger("nextk.langchain")

WINDOW = "fetch_k"
"""The parameter of stores that filter only the nearest rows: how many of these they look at."""

_PLAIN = "similarity_search"
_RAW = "similarity_search_with_score"
_SCORED = "_similarity_search_with_relevance_scores"  # the public one warns of scores outside of 0 to 1
_SCORE_FUNCTION = "_select_relevance_score_fn"
_BY_VECTOR = ("similarity_search_by_vector", "similarity_search_with_score_by_vector")

_FILTERS = ("filter", "expr", "pre_filter", "where", "where_str", "search_filter", "meta_filter", "filters")
_COLLECTIONS = ("_collection_name", "collection_name", "index_name", "_index_name", "table_name", "_table_name")
_COLLECTION_OBJECTS = ("_collection", "collection")
_NAMESPACES = ("_namespace", "namespace")


@dataclass(frozen=True, slots=True)
class StoreMethods:
    """How a store is searched.

    Attributes:
        blocking: The name of the method that searches.
        asynchronous: The name of its asynchronous twin; `None` if the store has none that does the same, so that the
            blocking method has to run on a thread.
        scored: Whether the method returns each document with a score.
        relevance: The function that makes relevance scores of these; `None` if they are such already.
        filter: The name under which the method takes a filter; `None` if it takes none.
        filter_named: Whether the store names that parameter, and does not just take any keyword.
        window: The default of `fetch_k`, if the method takes it; `None` if it does not.
    """

    blocking: str
    asynchronous: str | None
    scored: bool
    relevance: Callable[[float], float] | None
    filter: str | None
    filter_named: bool
    window: int | None

    @classmethod
    def of(cls, store: VectorStore) -> "StoreMethods":
        """Find the methods of a store.

        Documents come with their scores if the store makes relevance scores of these: if it has a relevance function
        for its distance, or a search of its own with relevance scores. A store of which only the plain search takes
        `fetch_k` is searched by that one, because the other one could not bring more.
        """
        plain, scored = _Signatures(store, _PLAIN), _Signatures(store, _SCORED if _overrides(store, _SCORED) else _RAW)
        has_scores, relevance = _relevance_of(store)
        has_scores = has_scores and (scored.takes(WINDOW) or not plain.takes(WINDOW))
        chosen = scored if has_scores else plain
        twin = chosen.name.replace("similarity", "asimilarity")
        named = next((name for name in _FILTERS if chosen.takes(name)), None)
        return cls(
            blocking=chosen.name,
            asynchronous=twin if _overrides_together(type(store), chosen.name, twin) else None,
            scored=has_scores,
            relevance=relevance if chosen.name == _RAW else None,
            filter=named or ("filter" if chosen.open else None),
            filter_named=named is not None or any("filter" in _parameters(store, name) for name in _BY_VECTOR),
            window=chosen.default(WINDOW) if chosen.takes(WINDOW) else None,
        )


class _Signatures:
    """The parameters of a search method, and of the one to which it hands on what it does not name itself.

    Args:
        store: The store.
        name: The name of the search method.

    Attributes:
        name: The name of the search method.
        open: Whether it takes any keyword.
    """

    def __init__(self, store: VectorStore, name: str) -> None:
        self.name = name
        self._own = _parameters(store, name)
        self._inner = _parameters(store, _RAW)
        self.open = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in self._own.values())

    def takes(self, name: str) -> bool:
        """Return whether a parameter is named, here or by the inner method."""
        return name in self._own or (self.open and name in self._inner)

    def default(self, name: str) -> int:
        """Return the default of a parameter that is a number of rows; 1 if it has none."""
        default = {**self._inner, **self._own}[name].default
        return default if isinstance(default, int) else 1


def _parameters(store: VectorStore, name: str) -> Mapping[str, Parameter]:
    """Return the parameters of a method; none if there is no such method or if it does not show them."""
    method = getattr(store, name, None)
    try:
        return {} if method is None else inspect.signature(method).parameters
    except (TypeError, ValueError):
        return {}


def _overrides_together(kind: type, name: str, twin: str) -> bool:
    """Return whether the asynchronous twin of a method is as new as the method, so that both do the same."""
    order = [vars(base) for base in kind.__mro__]
    defined = [next((at for at, names in enumerate(order) if each in names), len(order)) for each in (twin, name)]
    return defined[0] <= defined[1]


def _relevance_of(store: VectorStore) -> tuple[bool, Callable[[float], float] | None]:
    """Return whether a store has relevance scores, which say how near a document is, and the function that makes them.

    The scores of a store that fuses two searches, or that searches sparse vectors, are not those of its distance. The
    function of `langchain_core` for inner products is left out as well: it gives nearer documents lower scores.
    """
    if str(getattr(store, "retrieval_mode", "dense")).rpartition(".")[2].lower() not in ("dense", "none"):
        return False, None
    if not _overrides(store, _SCORE_FUNCTION):
        return _overrides(store, _SCORED), None
    try:
        with warnings.catch_warnings(action="ignore"):  # Chroma's own reading of its settings is deprecated
            function = store._select_relevance_score_fn()  # noqa: SLF001 - what a store overrides to have such scores
    except Exception as error:  # a store has none for a distance that it does not know, and says so in its own way
        log.info("%s has no relevance scores: %s", type(store).__name__, error)
        return False, None
    return function is not VectorStore._max_inner_product_relevance_score_fn, function  # noqa: SLF001


def _overrides(store: VectorStore, name: str) -> bool:
    return getattr(type(store), name, None) is not getattr(VectorStore, name)


def identity_of(store: VectorStore) -> str:
    """Return a text that names the collection of a store: its class, and the name of the collection if it has one.

    Only plain attributes are read, so that nothing is asked of a server.
    """
    attributes = getattr(store, "__dict__", {})
    parts = [f"{type(store).__module__}.{type(store).__qualname__}"]
    objects = [getattr(attributes.get(name), "name", None) for name in _COLLECTION_OBJECTS]
    for candidates in ([attributes.get(name) for name in _COLLECTIONS] + objects, map(attributes.get, _NAMESPACES)):
        parts += [name for name in candidates if isinstance(name, str) and name][:1]
    return ":".join(parts)


def known_size(store: VectorStore) -> int | None:
    """Return how many documents a store in this process holds; `None` for any other one."""
    attributes: dict[str, Any] = getattr(store, "__dict__", {})
    for name in ("index_to_docstore_id", "store"):  # of FAISS and ScaNN, of the one in memory
        if isinstance(attributes.get(name), Mapping | list):
            return len(attributes[name])
    count = getattr(attributes.get("_chroma_collection"), "count", None)
    found = count() if callable(count) else None
    return found if isinstance(found, int) else None
