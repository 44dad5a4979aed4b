"""Which proxy leads to a server, by the environment. No I/O happens here."""

import ipaddress
from collections.abc import Iterator, Mapping

from nextk.transport.address import is_this_machine


def proxy_for(scheme: str, host: str, port: int, settings: Mapping[str, str]) -> tuple[str, str] | None:
    """Return which of the settings for proxies applies to a server, and its value; `None` if no proxy leads there.

    The setting for the scheme of the server's URL goes before `all`. A server on this machine needs no proxy, and
    neither does one that `no` lists.

    Args:
        scheme: `http` or `https`.
        host: The server's host, without brackets.
        port: Its port.
        settings: The settings `http`, `https`, `all` and `no`, as `urllib.request.getproxies` returns them.
    """
    if is_this_machine(host) or is_exempt(host, port, settings.get("no", "")):
        return None
    return next(((kind, settings[kind]) for kind in (scheme, "all") if settings.get(kind)), None)


def setting_name(kind: str, environment: Mapping[str, str]) -> str:
    """Return the name of the environment variable that a setting for proxies comes from.

    Args:
        kind: The setting: `http`, `https` or `all`.
        environment: The environment variables. Small letters go before capitals. If none of them is set, the setting is
            one of macOS or Windows.
    """
    names = (name for name in (f"{kind}_proxy", f"{kind}_proxy".upper()) if environment.get(name))
    return next(names, "the proxy in the settings of this system")


def is_exempt(host: str, port: int, no_proxy: str) -> bool:
    """Return whether a value of `NO_PROXY` lists a server.

    Args:
        host: The server's host, without brackets.
        port: Its port.
        no_proxy: The list, separated by commas or blanks. An entry is `*`, for every host; a domain, for itself and all
            names below it, with or without `.` or `*.` before it; an address, or a network such as `10.0.0.0/8`. IPv6
            may stand in brackets, and a port may follow. An entry that cannot be read lists nothing.
    """
    return any(_lists(entry, host.lower().rstrip("."), port) for entry in _entries(no_proxy))


def _entries(no_proxy: str) -> Iterator[tuple[str, str]]:
    """Yield the host and the port of each entry; the port is `""` if it has none."""
    for written in no_proxy.lower().replace(",", " ").split():
        entry = written.rpartition("://")[2]
        if entry.startswith("["):
            host, _, port = entry[1:].partition("]")
            yield host, port.removeprefix(":")
        elif entry.count(":") == 1:
            host, _, port = entry.partition(":")
            yield host, port
        else:
            yield entry, ""


def _lists(entry: tuple[str, str], host: str, port: int) -> bool:
    listed, listed_port = entry
    if listed_port not in ("", str(port)):
        return False
    domain = listed.removeprefix("*").strip(".")
    if listed == "*" or (domain and (host == domain or host.endswith(f".{domain}"))):
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(listed, strict=False)
    except ValueError:
        return False
