"""The index that a retriever searches: where it is, in both colours, and whether it embeds text by itself."""

from types import TracebackType
from typing import Any, Self

from nextk.async_client import AsyncIndex
from nextk.client import Index
from nextk.errors import ClientError
from nextk.sessions.query import RetrievalMode
from nextk.types import InfoResult


class Connection:
    """An index that was handed over, or one that is opened here.

    Copies of a retriever share it. It pickles as what it was made from, so a token from the environment is not pickled;
    an index that was handed over has to pickle itself.

    Args:
        index: The index, in either colour.
        url: Where it is instead; absent: the environment's `UPSTASH_VECTOR_REST_URL`.
        token: Its token; absent: the environment's `UPSTASH_VECTOR_REST_TOKEN`.
        owned: Whether `close` closes an index that was handed over, too.

    Raises:
        ClientError: There is an index and a URL, or neither.
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
        self._made_from = (index, url, token, owned)
        self._owned = owned or index is None
        found = Index(url, token) if index is None else index
        self.index = found if isinstance(found, Index) else found.to_sync()
        """The index, for blocking calls."""
        self.async_index = found if isinstance(found, AsyncIndex) else found.to_async()
        """The index, for an event loop."""
        self._info: InfoResult | None = None

    def __repr__(self) -> str:
        return repr(self.index)

    def made_from(self, index: Index | AsyncIndex | None, url: str | None, token: str | None) -> bool:
        """Whether it is the source of these arguments."""
        return self._made_from[:3] == (index, url, token)

    def embeds_text(self, mode: RetrievalMode | None) -> bool:
        """Whether the index embeds a question by itself in a mode; it is asked once."""
        self._info = self._info or self.index.info()
        return has_text_models(self._info, mode)

    async def aembeds_text(self, mode: RetrievalMode | None) -> bool:
        """The same without blocking the event loop."""
        self._info = self._info or await self.async_index.info()
        return has_text_models(self._info, mode)

    def close(self) -> None:
        """Close what was opened here, or is owned."""
        if self._owned:
            self.index.close()

    async def aclose(self) -> None:
        """The same for the running event loop."""
        if self._owned:
            await self.async_index.close()

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, self._made_from


def _rebuild(index: Index | AsyncIndex | None, url: str | None, token: str | None, owned: bool) -> Connection:
    return Connection(index, url, token, owned=owned)


_BEARER = "Bearer "


def location_of(index: Any, holder: str) -> dict[str, Any]:
    """Where an index of the Upstash SDK is, read off its attributes, so that nothing is imported.

    Args:
        index: One of the SDK's, of any version, or one of ours.
        holder: What holds it, for the error.

    Returns:
        The arguments of a retriever: `index`, or `url` and `token`.

    Raises:
        ClientError: It does not say where it is.
    """
    if isinstance(index, Index | AsyncIndex):
        return {"index": index}
    url, headers = getattr(index, "_url", None), getattr(index, "_headers", None)
    sent = headers.get("Authorization") if isinstance(headers, dict) else None
    if not isinstance(url, str) or not isinstance(sent, str) or not sent.startswith(_BEARER):
        message = (
            f"the index of this {holder} does not say where it is, as the Upstash SDK's does: "
            "make the retriever yourself, with url= and token="
        )
        raise ClientError(message)
    return {"url": url, "token": sent.removeprefix(_BEARER)}


def has_text_models(info: InfoResult, mode: RetrievalMode | None) -> bool:
    """Whether an index has a text model for each component that a mode searches; `None` searches those that it has."""
    if info.dense_index is None and info.sparse_index is None:
        return True  # it does not describe its components, so it is left to refuse
    if mode in (None, RetrievalMode.HYBRID):
        halves = [half for half in (info.dense_index, info.sparse_index) if half is not None]
    elif mode is RetrievalMode.SPARSE:
        halves = [info.sparse_index] if info.sparse_index is not None else []
    else:
        halves = [info.dense_index] if info.dense_index is not None else []
    return bool(halves) and all(half.embedding_model for half in halves)


class ClosingMixin:
    """What a retriever does with its source in the end. Leaving `with` or `async with` closes it, too."""

    def _current_connection(self) -> Connection:
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the index, if this retriever opened it; one that was handed over is its owner's to close."""
        self._current_connection().close()

    async def aclose(self) -> None:
        """The same for the running event loop."""
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
