"""Any LangChain `VectorStore` as a source: sessions over it ask anew for more documents, by the store's own methods."""

import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

from langchain_core.documents import Document
from langchain_core.runnables import run_in_executor
from langchain_core.vectorstores import VectorStore

from nextk.arguments import shown, written
from nextk.errors import ClientError
from nextk.langchain.source_settings import is_no_filter
from nextk.langchain.store_methods import WINDOW, StoreMethods, identity_of, known_size
from nextk.sessions import SearchQuery
from nextk.stores import RefetchSource, RowKey, ScoreKind, StoreRow, row_id
from nextk.types import QueryResult
from nextk.until.effects import adrive, drive

log = logging.getLogger("nextk.langchain")

MAX_WINDOW = 10_000
"""The number of rows that are filtered at most, in a store that filters the nearest rows alone and hides its size."""

_GROWTH = 4
"""How many times the rows that are wanted, or that were filtered last, are filtered next."""
_REFUSED = {
    "score_threshold": "give until=MinScore(0.8) of nextk.until, which finds all such documents, not the first k alone",
    "search_type": "a search goes on by similarity alone, there is no MMR; and a threshold is until=MinScore(0.8)",
    "lambda_mult": "there is no MMR, whose choice among the first rows leaves no order to go on in",
}
_Requests: TypeAlias = Generator[Mapping[str, Any], Any, list[QueryResult]]


class VectorStoreSource(RefetchSource):
    """The documents of a LangChain `VectorStore`.

    Every search is by text, which the store embeds for each request. Scores are the store's relevance scores, or are
    made of ranks if it has none. The documents are those that the store returns, unchanged.

    Documents are told apart by their `id`, else by `key`, else by their text and metadata: if several have no id and
    no key, and are equal in both, one of them is handed out.

    An event loop is served by the asynchronous methods of the store; where it has none, the blocking ones run on a
    thread.

    Args:
        store: The store. It stays its owner's, who also closes it.
        search_kwargs: Further keywords of each search, as the store takes them. A `fetch_k` among them is a fixed
            number of rows that a filter chooses from; without it, it grows with the search.
        key: The metadata key that tells documents without an `id` apart, or a function that takes the document and
            returns what does; absent: their text and metadata.
        store_id: A name for what the store holds, by which cursors are told from those of other stores; absent: the
            class of the store and the name of its collection. Stores without such a name, like FAISS, need a
            `store_id` to be told apart.

    Raises:
        ClientError: It is no `VectorStore`, or a keyword asks for another kind of search.
    """

    def __init__(
        self,
        store: VectorStore,
        *,
        search_kwargs: Mapping[str, Any] | None = None,
        key: RowKey | None = None,
        store_id: str | None = None,
    ) -> None:
        if not isinstance(store, VectorStore):
            message = f"store={shown(store)} is no LangChain VectorStore"
            raise ClientError(message)
        _require_key(key)
        _require_store_id(store_id)
        self.store = store
        self._keywords = _similarity_keywords(search_kwargs)
        self._key = key
        self._methods = StoreMethods.of(store)
        self.scores = ScoreKind.NEARNESS if self._methods.scored else ScoreKind.RANKS
        self.filters = self._methods.filter is not None
        self._identity = identity_of(store) if store_id is None else store_id
        self._warned = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._identity!r})"

    @property
    def identity(self) -> str:
        """The class of the store and the name of its collection, or the `store_id`."""
        return self._identity

    def size(self, query: SearchQuery) -> int | None:
        """Return how many documents the store holds, as far as it says so at once.

        It is not known how many documents pass a filter. If the store filters only the nearest ones, the answer is one
        more than it filters, so that a search is not said to be complete which may have missed some.

        Args:
            query: The query, with its filter.
        """
        size, default = known_size(self.store), self._methods.window
        if is_no_filter(query.store_filter):
            return size
        if default is None:
            return None if size is None else 0  # such a store looks at all of them
        window = self._keywords.get(WINDOW, MAX_WINDOW if size is None else size)
        return 0 if size is not None and window >= size else window + 1

    def id_of(self, document: Document) -> str:
        """Return the id by which a document counts.

        Raises:
            ClientError: It has no id, and `key` gives none.
        """
        return row_id(document.id, self._key, document, document.page_content, document.metadata)

    def query(self, query: SearchQuery, count: int) -> list[QueryResult]:
        """Fetch the best documents, by one request to the store; by several if a filter leaves too few.

        Args:
            query: The query, with its text, and with its filter as the store takes it.
            count: The number of documents, at least 1.

        Returns:
            At most `count` rows in the order of the store, each with its document as `item`.

        Raises:
            ClientError: The query has no text, or the store has returned something else than documents.
            Exception: Whatever the store raises.
        """
        search = getattr(self.store, self._methods.blocking)
        return drive(self._requests(query, count), lambda keywords: search(query.data, **keywords))

    async def aquery(self, query: SearchQuery, count: int) -> list[QueryResult]:
        """Fetch the best documents without blocking the event loop; see `query`."""

        async def carry_out(keywords: Mapping[str, Any]) -> Any:
            if self._methods.asynchronous is not None:
                try:
                    return await getattr(self.store, self._methods.asynchronous)(query.data, **keywords)
                except NotImplementedError:  # as stores say that have no asynchronous methods
                    pass
            return await run_in_executor(None, getattr(self.store, self._methods.blocking), query.data, **keywords)

        return await adrive(self._requests(query, count), carry_out)

    def _requests(self, query: SearchQuery, count: int) -> _Requests:
        """Yield the keywords of each search that the store is asked for; is sent its answer. Returns the rows."""
        if query.data is None:
            message = "a LangChain store is searched by text: give the query as data=, without vectors"
            raise ClientError(message)
        keywords = {**self._keywords, **self._filter(query), "k": count}
        rows: list[QueryResult] = []
        for window in self._windows(query, count):
            rows = self._rows((yield {**keywords, **window}))
            if len(rows) >= count:
                break
        return rows[:count]

    def _filter(self, query: SearchQuery) -> dict[str, Any]:
        name = self._methods.filter
        if name is None or is_no_filter(query.store_filter):
            return {}
        if not self._methods.filter_named and not self._warned:
            self._warned = True
            log.warning(
                "%s names no filter among the arguments of its searches: make sure that it heeds filter=",
                type(self.store).__name__,
            )
        return {name: query.store_filter}

    def _windows(self, query: SearchQuery, count: int) -> Iterator[dict[str, int]]:
        """Return the `fetch_k` of each request: more and more, as long as a filter leaves fewer rows than are wanted.

        A store that takes none, or whose `fetch_k` the user has fixed, is asked once.
        """
        default = self._methods.window
        if default is None or WINDOW in self._keywords:
            yield {}
        elif is_no_filter(query.store_filter):
            yield {} if count <= default else {WINDOW: count}
        else:
            size = known_size(self.store)
            most = max(count, MAX_WINDOW) if size is None else max(1, size)
            window = max(default, _GROWTH * count)
            while window < most:
                yield {WINDOW: window}
                window *= _GROWTH
            yield {WINDOW: most}

    def _rows(self, answer: Any) -> list[QueryResult]:
        """Return the rows of an answer of the store."""
        if not isinstance(answer, Sequence):
            self._refuse(answer)
        if self._methods.scored:
            return [self._row(*self._pair(found)) for found in answer]
        return [self._row(document, 1 / place) for place, document in enumerate(answer, 1)]

    def _pair(self, found: Any) -> tuple[Any, float]:
        if not isinstance(found, Sequence) or len(found) != 2:
            self._refuse(found)
        relevance = self._methods.relevance
        return found[0], float(found[1] if relevance is None else relevance(found[1]))

    def _row(self, document: Any, score: float) -> QueryResult:
        if not isinstance(document, Document):
            self._refuse(document)
        return StoreRow(
            self.id_of(document),
            score,
            metadata=document.metadata or {},
            data=document.page_content,
            item=document,
        )

    def _refuse(self, found: Any) -> NoReturn:
        wanted = "documents with their scores" if self._methods.scored else "documents"
        message = (
            f"{self._methods.blocking} of {type(self.store).__name__} has returned {shown(found)}, where it has to "
            f"return a list of {wanted}"
        )
        raise ClientError(message)


def require_keywords(search_kwargs: object) -> dict[str, Any]:
    """Return the keywords of searches as a new dict; an empty one for `None`.

    Raises:
        ClientError: They are no dict.
    """
    if search_kwargs is None:
        return {}
    if not isinstance(search_kwargs, Mapping):
        message = f"search_kwargs={written(search_kwargs)} has to be a dict of keywords that the store's search takes"
        raise ClientError(message)
    return dict(search_kwargs)


def _similarity_keywords(search_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the keywords of searches by similarity.

    Raises:
        ClientError: They are no dict, or one of them asks for another kind of search.
    """
    keywords = require_keywords(search_kwargs)
    if refused := next((name for name in keywords if name in _REFUSED), None):
        message = f"search_kwargs has {refused!r}: {_REFUSED[refused]}"
        raise ClientError(message)
    if taken := next((name for name in ("k", "filter", "query") if name in keywords), None):
        message = f"search_kwargs has {taken!r}, which each query of this source has by itself: leave it out"
        raise ClientError(message)
    return keywords


def _require_key(key: object) -> None:
    if key is not None and not callable(key) and not (isinstance(key, str) and key):
        message = f"key={written(key)} has to be the name of a metadata key, or a function of a document"
        raise ClientError(message)


def _require_store_id(store_id: object) -> None:
    if store_id is not None and not (isinstance(store_id, str) and store_id):
        message = f"store_id={written(store_id)} has to be a text that names what the store holds"
        raise ClientError(message)
