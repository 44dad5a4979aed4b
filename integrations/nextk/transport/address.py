"""The URL and the token of a server: what is refused, and which URLs lead to this machine. No I/O happens here.

A refusal never shows the URL or the token, because one that is wrong may hold a secret in an unexpected place.
"""

import ipaddress
import re
import socket
from urllib.parse import urlsplit

from nextk.errors import ClientError


def usable_url(url: str, name: str) -> str:
    """Return a server's base URL without the slashes at its end.

    Args:
        url: The URL.
        name: The argument or the environment variable that it comes from, for the error.

    Raises:
        ClientError: No request can be sent to the URL, or it holds a user, a password, a query string or a fragment.
    """
    fault = _fault_of(url)
    if fault is not None:
        message = f"{name} is not the URL of an index: {fault}"
        raise ClientError(message)
    return url.rstrip("/")


def usable_token(token: str, name: str) -> str:
    """Return a token that a header can carry.

    Args:
        token: The token.
        name: The argument or the environment variable that it comes from, for the error.

    Raises:
        ClientError: No header can carry it, or it stands in quotes.
    """
    if not re.fullmatch("[!-~]+", token):
        message = (
            f"{name} is not a token: it holds a character that no header can carry, such as a line's end, a space or a "
            "letter beyond ASCII. Was it read from a file without being stripped?"
        )
        raise ClientError(message)
    if len(token) > 1 and token[0] == token[-1] and token[0] in "\"'":
        message = f"{name} is not a token: it stands in quotes. Leave them out"
        raise ClientError(message)
    return token


def is_this_machine(host: str) -> bool:
    """Return whether a host is this machine by its name or address alone, so that no proxy can lead to it.

    These are `localhost` and the names below it, the loopback addresses of IPv4 and IPv6 in every notation, and the
    unspecified addresses `0.0.0.0` and `::`.

    Args:
        host: The host of a URL, without brackets.
    """
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    return address is not None and (address.is_loopback or address.is_unspecified)


def is_resolvable(host: str) -> bool:
    """Return whether a host could have an address: no part of its name is empty or longer than names may be.

    Args:
        host: The host of a URL in ASCII, without brackets.
    """
    labels = host.removesuffix(".").split(".")
    return ":" in host or (len(host) <= 253 and all(0 < len(label) < 64 for label in labels))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host is, or `None`. The system also takes `127.1`, `0x7f000001` and the like."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def _fault_of(url: str) -> str | None:
    """Return what is wrong with a URL; `None` if nothing is."""
    if re.search(r"[\s\x00-\x1f\x7f\ufeff\ud800-\udfff\"\\]", url):
        return (
            "it holds a blank, a line's end, a quote, a backslash or what is no text. Was it read from a file without "
            "being stripped?"
        )
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return "it has to begin with https:// or http://"
    if "?" in rest or "#" in rest:
        return "it has a query string or a fragment, which the requests cannot carry. A token is passed as token="
    if "@" in rest.partition("/")[0]:
        return "it holds a user or a password, which would be sent in place of the token. Leave out all up to the @"
    if _has_host_and_port(url):
        return None
    return (
        "its host or port cannot be read. A port is a number from 1 to 65535, and an IPv6 address stands in "
        "brackets, as in http://[::1]:8080"
    )


def _has_host_and_port(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
