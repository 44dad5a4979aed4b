"""A plain Starlette route that returns the bytes which nextk has returned, on uvicorn as it is.

python -m tests.benchmarks.load.peer FILE     # a JSON object: the reply by the kind of request
"""

import json
import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nextk.server.listening import listen, url_of


def peer(replies: dict[str, bytes]) -> Starlette:
    """Return the application. It reads the body of each request, and returns the reply that the path names.

    Args:
        replies: The replies by name.
    """

    async def reply(request: Request) -> Response:
        await request.body()
        return Response(replies[request.path_params["kind"]], media_type="application/json")

    return Starlette(routes=[Route("/{kind}", reply, methods=["POST"])])


def main() -> None:
    """Serve the replies of a file until the process is ended."""
    kept = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with listen("127.0.0.1", 0, protected=True) as listener:
        print(f"_URL={url_of(listener)}", flush=True)
        app = peer({kind: text.encode() for kind, text in kept.items()})
        uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False)).run(sockets=[listener])


if __name__ == "__main__":
    main()
