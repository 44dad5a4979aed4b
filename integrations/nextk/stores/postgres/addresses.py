"""Connection strings of psycopg, made of the addresses that other packages keep. Private, without I/O."""

from typing import Any

_SSL = {"true": "require", "false": "disable"}


def dsn_of(url: Any) -> str | None:
    """Return the connection string of a database whose address SQLAlchemy has.

    Args:
        url: A `sqlalchemy.URL`, known by its attributes, or the text of one.

    Returns:
        The connection string; `None` if the address does not say where the database is, as where a function connects,
        or if it has options that psycopg does not know.
    """
    from psycopg import conninfo, pq

    if isinstance(url, str):
        from sqlalchemy import make_url

        url = make_url(url)
    options = {key: value for key, value in dict(url.query).items() if isinstance(value, str)}
    if len(options) < len(dict(url.query)) or not url.drivername.startswith("postgresql"):
        return None
    if "ssl" in options:  # of asyncpg
        ssl = options.pop("ssl")
        options.setdefault("sslmode", _SSL.get(ssl.lower(), ssl))
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    parts = {"host": url.host, "port": url.port, "user": url.username, "password": url.password, "dbname": url.database}
    given = {name: str(value) for name, value in parts.items() if value is not None}
    if not given or not options.keys() <= known:
        return None
    return conninfo.make_conninfo(**{**given, **options})
