"""The connection of a retriever to its index: blocking and asynchronous, opened here or handed over."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, cast

from nextk.arguments import shown
from nextk.async_client import AsyncIndex
from nextk.client import Index
from nextk.errors import ClientError, NextKError
from nextk.retrievers.source_connection import SourceConnection
from nextk.sessions.query import RetrievalMode, SearchQuery, explaining_models
from nextk.transport import QueryEmbedder
from nextk.types import UNDECIDED, InfoResult, QueryMode, QueryResult, WeightingStrategy


class Connection:
    """An index that was handed over, or one that is opened here.

    Copies of a retriever share the connection. It is pickled as its arguments, so that a token from the environment is
    not pickled; an index that was handed over has to support pickling itself.

    Args:
        index: The index, blocking or asynchronous.
        url: The URL of the index, instead of `index`; absent: the environment's `UPSTASH_VECTOR_REST_URL`.
        token: The token for that URL; absent: the environment's `UPSTASH_VECTOR_REST_TOKEN`.
        owned: Whether `close` also closes an index that was handed over.

    Raises:
        ClientError: If there is an index as well as a URL, or neither, or if it is no index of nextk's.
    """

    def __init__(
        self,
        index: Index | AsyncIndex | None = None,
        url: str | None = None,
        token: str | None = None,
        *,
        owned: bool = False,
    ) -> None:
        if index is not None and (url is not None or token is not None):
            message = "an index is given, so url= and token= are not used: leave them out, or leave out index="
            raise ClientError(message)
        if index is not None and not isinstance(index, Index | AsyncIndex):
            message = f"index={shown(index)} has to be a nextk Index or AsyncIndex"
            raise ClientError(message)
        self._made_from = (index, url, token, owned)
        self._owned = owned or index is None
        found = Index(url, token) if index is None else index
        self.index = found if isinstance(found, Index) else found.to_sync()
        """The index for blocking calls."""
        self.async_index = found if isinstance(found, AsyncIndex) else found.to_async()
        """The index for an event loop."""
        self._info: InfoResult | None = None

    def __repr__(self) -> str:
        return repr(self.index)

    def made_from(self, index: Index | AsyncIndex | None, url: str | None, token: str | None) -> bool:
        """Return whether this connection was made from these arguments."""
        return self._made_from[0] is index and self._made_from[1:3] == (url, token)

    def embeds_text(self, mode: RetrievalMode | None) -> bool:
        """Return whether the index itself embeds a query in a mode. It is asked once."""
        return has_text_models(self._fetch_info(), mode)

    async def aembeds_text(self, mode: RetrievalMode | None) -> bool:
        """Return whether the index itself embeds a query in a mode, without blocking the event loop."""
        return has_text_models(await self._afetch_info(), mode)

    def embeds_sparsely_alone(self) -> bool:
        """Return whether the index embeds text, and makes sparse vectors of it alone. It is asked once."""
        info = self._fetch_info()
        return (
            info.dense_index is None and has_text_models(info, RetrievalMode.SPARSE) and info.sparse_index is not None
        )

    async def aembeds_sparsely_alone(self) -> bool:
        """Return whether the index makes sparse vectors of text alone, without blocking the event loop."""
        await self._afetch_info()
        return self.embeds_sparsely_alone()

    def takes_dense(self) -> bool:
        """Return whether records of the index may have dense vectors. It is asked once."""
        return _takes_dense(self._fetch_info())

    async def atakes_dense(self) -> bool:
        """Return whether records of the index may have dense vectors, without blocking the event loop."""
        return _takes_dense(await self._afetch_info())

    def has_vectors(self) -> bool:
        """Return whether the index has a kind of vectors, as every index has in which something was stored."""
        info = self._fetch_info()
        return info.dense_index is not None or info.sparse_index is not None

    async def ahas_vectors(self) -> bool:
        """Return whether the index has a kind of vectors, without blocking the event loop; see `has_vectors`."""
        await self._afetch_info()
        return self.has_vectors()

    def any_vector(self) -> list[float] | None:
        """Return a vector for a search in which only the filter matters, float (dimension,).

        It is `None` for an index without dense vectors. The index is asked once.
        """
        return _any_vector(self._fetch_info())

    async def aany_vector(self) -> list[float] | None:
        """Return a vector for a search in which only the filter matters, without blocking the event loop."""
        return _any_vector(await self._afetch_info())

    def query_embedder(self) -> QueryEmbedder | None:
        """Return who embeds queries by the models of the index; `None` if these are not in this process."""
        transport = self.index._transport  # noqa: SLF001 - no method of the documented client embeds
        return transport if isinstance(transport, QueryEmbedder) else None

    def query(self, query: SearchQuery, top_k: int) -> list[QueryResult]:
        """Run one plain query.

        Args:
            query: The complete query.
            top_k: The number of matches, 1 to 1,000.

        Raises:
            RefusedError: The index refused the query. If it was for vectors that do not fit, the message also says
                where the models belong.
        """
        with explaining_models(by_vectors=query.data is None):
            return self.index.query(top_k=top_k, **query.parameters())

    async def aquery(self, query: SearchQuery, top_k: int) -> list[QueryResult]:
        """Run one plain query without blocking the event loop; see `query`."""
        with explaining_models(by_vectors=query.data is None):
            return await self.async_index.query(top_k=top_k, **query.parameters())

    def with_weighting(self, query: SearchQuery) -> SearchQuery:
        """Return a complete query with the weighting that the index wants, if the query leaves it to the index.

        The index is asked at most once, and only for a query that may search sparse vectors.

        Raises:
            NextKError: The index did not say; the error has a note that tells how to search without asking.
        """
        if not query.awaits_weighting:
            return query
        with _noting_weighting():
            return query.with_weighting(_weighting_of(self._fetch_info()))

    async def awith_weighting(self, query: SearchQuery) -> SearchQuery:
        """Return a complete query with the weighting of the index without blocking the event loop."""
        if not query.awaits_weighting:
            return query
        with _noting_weighting():
            return query.with_weighting(_weighting_of(await self._afetch_info()))

    def _fetch_info(self) -> InfoResult:
        if not _is_settled(self._info):
            self._info = self.index.info()
        return cast("InfoResult", self._info)

    async def _afetch_info(self) -> InfoResult:
        if not _is_settled(self._info):
            self._info = await self.async_index.info()
        return cast("InfoResult", self._info)

    def borrowed(self) -> Self:
        """Return a connection to the index over the same transport, which closes nothing."""
        other = self.__new__(type(self))  # the copy module would connect anew, from the arguments
        vars(other).update(vars(self), _owned=False)
        return other

    def close(self) -> None:
        """Close the index if it was opened here or is owned."""
        if self._owned:
            self.index.close()

    async def aclose(self) -> None:
        """Close the index for the running event loop if it was opened here or is owned."""
        if self._owned:
            await self.async_index.close()

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, self._made_from


def _rebuild(index: Index | AsyncIndex | None, url: str | None, token: str | None, owned: bool) -> Connection:
    return Connection(index, url, token, owned=owned)


def _is_settled(info: InfoResult | None) -> bool:
    """Return whether a description stays true: that of an index in which nothing is stored yet may not."""
    return info is not None and info.index_type != UNDECIDED


def _any_vector(info: InfoResult) -> list[float] | None:
    dimension = info.dimension if info.dense_index is not None else 0
    return [1.0] + [0.0] * (dimension - 1) if dimension else None


def _takes_dense(info: InfoResult) -> bool:
    """Return whether an index has a dense part, or may get one, because nothing is stored in it yet."""
    return info.index_type != QueryMode.SPARSE and (info.dense_index is not None or info.sparse_index is None)


def _weighting_of(info: InfoResult) -> WeightingStrategy | None:
    """Return the weighting that an index wants; `None` if it wants none, leaves it unset, or says an unknown one."""
    return next((one for one in WeightingStrategy if one.value == info.weighting), None)


@contextmanager
def _noting_weighting() -> Iterator[None]:
    """Add a note to the error of an index that does not say which weighting it wants."""
    try:
        yield
    except NextKError as error:
        error.add_note(
            "raised when the index was asked which weighting it wants; nothing was searched. "
            'Call again, or set weighting="idf" or weighting="none", which asks nothing'
        )
        raise


_BEARER = "Bearer "


def location_of(index: Any, holder: str) -> dict[str, Any]:
    """Return where an index of the Upstash SDK is, read off its attributes so that nothing is imported.

    Args:
        index: An index of the SDK, of any version, or one of nextk.
        holder: The name of the object that holds the index, for the error.

    Returns:
        The arguments of a retriever: `index`, or `url` and `token`.

    Raises:
        ClientError: If the index does not say where it is.
    """
    if isinstance(index, Index | AsyncIndex):
        return {"index": index}
    url, headers = getattr(index, "_url", None), getattr(index, "_headers", None)
    sent = headers.get("Authorization") if isinstance(headers, dict) else None
    if not isinstance(url, str) or not isinstance(sent, str) or not sent.startswith(_BEARER):
        message = (
            f"the index of this {holder} does not say where it is, as the Upstash SDK's does: make the retriever "
            "yourself, with url= and token="
        )
        raise ClientError(message)
    return {"url": url, "token": sent.removeprefix(_BEARER)}


def has_text_models(info: InfoResult, mode: RetrievalMode | None) -> bool:
    """Return whether an index has a text model for each component that a mode searches.

    Args:
        info: The description of the index.
        mode: The mode of the search; `None` searches every component that the index has.
    """
    if info.index_type == UNDECIDED:
        return False  # an index that has text models has a type
    if info.dense_index is None and info.sparse_index is None:
        return True  # the index does not describe its components, so refusing is left to it
    if mode in (None, RetrievalMode.HYBRID):
        halves = [half for half in (info.dense_index, info.sparse_index) if half is not None]
    elif mode is RetrievalMode.SPARSE:
        halves = [info.sparse_index] if info.sparse_index is not None else []
    else:
        halves = [info.dense_index] if info.dense_index is not None else []
    return bool(halves) and all(half.embedding_model for half in halves)


class ClosingMixin:
    """Closing a retriever or a store: by `close`, by `aclose`, or by leaving `with` or `async with`."""

    def _current_connection(self) -> Connection | SourceConnection:
        raise NotImplementedError

    def close(self) -> None:
        """Close the index if it was opened here. An index that was handed over is closed by its owner."""
        self._current_connection().close()

    async def aclose(self) -> None:
        """Close the index for the running event loop if it was opened here; see `close`."""
        await self._current_connection().aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
