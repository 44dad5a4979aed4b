"""The connection of a vector store, which can be pickled without its token. Private."""

from threading import Lock
from typing import Any, Self

from nextk.async_client import AsyncIndex
from nextk.client import Index
from nextk.errors import ClientError
from nextk.retrievers.connection import Connection


class LazyConnection:
    """A connection to an index that is opened when it is made, or at its first use if it comes out of a pickle.

    Copies share it. Pickled it is its URL alone: whoever reads the pickle takes the token from the environment, and the
    URL, too, if there is none.

    Args:
        index: The index, blocking or asynchronous.
        url: The URL of the index, instead of `index`; absent: the environment's `UPSTASH_VECTOR_REST_URL`.
        token: The token for that URL; absent: the environment's `UPSTASH_VECTOR_REST_TOKEN`.

    Raises:
        ClientError: If there is an index as well as a URL, or neither, or if it is no index of nextk's.
    """

    def __init__(self, index: Index | AsyncIndex | None, url: str | None, token: str | None) -> None:
        self._url = url
        self._handed_over = index is not None
        self._opened: Connection | None = Connection(index, url, token)
        self._lock = Lock()

    def __repr__(self) -> str:
        return repr(self._opened) if self._opened is not None else f"Index({self._url!r})"

    def open(self) -> Connection:
        """Return the connection, and open it if it is not open yet.

        Raises:
            ClientError: If it comes out of a pickle, and the environment has no token or no URL.
        """
        with self._lock:
            if self._opened is None:
                self._opened = Connection(None, self._url, None)
            return self._opened

    def close(self) -> None:
        """Close the index if it was opened here; one that is not open yet stays so."""
        if self._opened is not None:
            self._opened.close()

    async def aclose(self) -> None:
        """Close the index for the running event loop if it was opened here; see `close`."""
        if self._opened is not None:
            await self._opened.aclose()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: the URL.

        Raises:
            ClientError: If the index was handed over.
        """
        if self._handed_over:
            message = (
                "this store was given an index object, which is tied to this process: make it by url= and token=, or "
                "by the environment, to pickle it; or make it anew where it is needed, by "
                "ResumableVectorStore.from_dict(store.to_dict())"
            )
            raise ClientError(message)
        return {"url": self._url}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._url, self._handed_over, self._opened, self._lock = state["url"], False, None, Lock()
