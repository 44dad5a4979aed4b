"""A server on a free port of this machine, run in a thread."""

from types import TracebackType
from typing import Any

from nextk.engine.factory import open_engine
from nextk.engine.protocol import Engine
from nextk.server.app import create_app
from nextk.testing.server import ServerThread

TOKEN = "test-token"
READ_ONLY_TOKEN = "test-read-only-token"


class LocalServer(ServerThread):
    """Serves whatever is in `engines`, from entering the block until leaving it; then closes them all.

    Attributes:
        url: The base URL; the first index answers there, each one at `index_url(name)`.
        token: What clients have to send.
        read_only_token: What clients that only read may send.
        engines: The indexes by name; add to it at any time.
    """

    def __init__(self, **options: Any) -> None:
        self.token, self.read_only_token = TOKEN, READ_ONLY_TOKEN
        self.engines: dict[str, Engine] = {}
        app = create_app(self.engines, **{"token": TOKEN, "read_only_token": READ_ONLY_TOKEN, **options})
        super().__init__(app)

    def add(self, name: str, **keywords: Any) -> str:
        """Serve a new index in memory, with the keywords of `Index.embedded`; returns its base URL."""
        self.engines[name] = open_engine(None, keywords, name=name)
        return self.index_url(name)

    def index_url(self, name: str) -> str:
        """The base URL of one index."""
        return f"{self.url}/indexes/{name}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        for engine in self.engines.values():
            engine.close()
