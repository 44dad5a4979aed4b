"""The HTTP server, which serves engines through the Upstash Vector protocol. Needs `pip install 'nextk[server]'`.

`nextk.server.app.create_app` makes the ASGI application, and `nextk serve` runs it.
"""

from nextk.extras import require

for _module in ("numpy", "orjson", "lark", "starlette", "uvicorn", "prometheus_client"):
    require(_module, extra="server")
