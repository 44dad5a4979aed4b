"""The rules that keep web pages away from a server without a token: nobody's page may speak to it.

A browser sends requests to this machine for any page that is open in it, and every command of the protocol answers GET,
so that the picture in a page could empty an index. Who a request is from shows in four of its headers, none of which a
page can choose:

- `Host` has the name by which the browser has reached the server. A name of the page's own, which its DNS leads to this
  machine, is neither a loopback name nor one that the operator has allowed. Only `localhost` itself counts as a name,
  because some browsers ask the network for the names below it.
- `Origin` has the page that a request is from; browsers leave it out of a plain GET.
- `Sec-Fetch-Site` tells whether the page and the server are the same. Browsers since 2023 send it with every request,
  if the server is reached by HTTPS or by a loopback name. Clients that are no browsers do not send it.
- `Referer` has the page, too, unless the page forbids that.

A browser that sends none of the last three may be acting for any page, so it is refused as well. It is known by its
`User-Agent`, which begins with `Mozilla/` in all of them, and in no client of the protocol.
"""

import ipaddress
import re
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import Scope

from nextk.arguments import elements_of, written
from nextk.errors import AuthenticationError, ClientError

_Origin = tuple[str, str, str]  # scheme, host and port

_STATUS = 403  # not 421, upon which browsers and some clients send the request once more
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^\s\[\]:@/\\?#%,]+)(?::([0-9]{1,5}))?")
_PAGE = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#]*)")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_OWN_SITES = ("same-origin", "none")  # "none" is said of what the user has typed or has among the bookmarks
_SHOWN = 100  # characters of a header that a refusal repeats

_OTHER_PAGE = (
    "Forbidden: a page of another site or port may not use a server without a token. If it is to do so, start the "
    "server with a token"
)
_NO_PROOF = (
    "Forbidden: the request is from a browser that does not say which page it acts for, and the server has no token. "
    "Use a newer browser with http://localhost, or start the server with a token"
)


class PageGuard:
    """Decides whether a request may be one of another site's page. A server without a token refuses such requests.

    Args:
        allow_hosts: The names and addresses by which clients may call the server, besides those of loopback.

    Raises:
        ClientError: `allow_hosts` is no list, or an element is not the name of a host.
    """

    def __init__(self, allow_hosts: Iterable[str] = ()) -> None:
        names = None if isinstance(allow_hosts, str | bytes) else elements_of(allow_hosts)
        if names is None:
            message = f"allow_hosts={written(allow_hosts)} is not a list of the names of hosts"
            raise ClientError(message)
        self._allowed = frozenset(map(_allowed_name, names))

    def require_no_other_page(self, scope: Scope) -> None:
        """Refuse a request that a page of another site, or of another port, may have made a browser send.

        Args:
            scope: The scope of the request, of ASGI.

        Raises:
            AuthenticationError: The request may be another page's, or its `Host` is neither a loopback name nor allowed
                (status 403).
        """
        headers = Headers(scope=scope)
        authority = self._permitted_host(headers.getlist("host"))
        own = _origin(scope.get("scheme", "http"), authority)
        origins, sites, referers = map(headers.getlist, ("origin", "sec-fetch-site", "referer"))
        pages = [*origins, *referers]
        if any(_page_origin(page) != own for page in pages) or any(site not in _OWN_SITES for site in sites):
            raise AuthenticationError(_OTHER_PAGE, _STATUS)
        is_browser = any(agent.lower().startswith("mozilla/") for agent in headers.getlist("user-agent"))
        if is_browser and not (pages or sites):
            raise AuthenticationError(_NO_PROOF, _STATUS)

    def _permitted_host(self, hosts: list[str]) -> re.Match[str]:
        """Return the only `Host`, taken apart, if clients may call the server by it.

        What a request line of the form `GET http://name/` says is never looked at: no browser sends it to a server
        that is not its proxy, and it has the same name in `Host`.
        """
        authority = _AUTHORITY.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
        if authority is not None and (_is_loopback_name(authority[1]) or authority[1] in self._allowed):
            return authority
        if len(hosts) != 1:
            message = f"Forbidden: a server without a token needs one Host header, and the request has {len(hosts)}"
            raise AuthenticationError(message, _STATUS)
        message = (
            f"Forbidden: a server without a token answers to the names of this machine alone, such as localhost, and "
            f"not to {written(hosts[0][:_SHOWN])}. Allow the name by --allow-host (allow_hosts= of create_app), or "
            "start the server with a token"
        )
        raise AuthenticationError(message, _STATUS)


def _allowed_name(given: object) -> str:
    """Return the name of a host as `Host` has it without the port; an IPv6 address may be given without brackets."""
    name = given.lower() if isinstance(given, str) else ""
    authority = _AUTHORITY.fullmatch(f"[{name}]" if name.count(":") > 1 and "[" not in name else name)
    if authority is None or authority[2] is not None or "*" in name:
        message = (
            f"{written(given)} is not the name of a host that can be allowed: give a name or an address as clients "
            "have it in their URL, without scheme, port and path"
        )
        raise ClientError(message)
    return authority[1]


def _is_loopback_name(host: str) -> bool:
    """Return whether a host in lower case is `localhost`, in 127.0.0.0/8, or ::1 in brackets.

    Other notations of these addresses, such as 127.1, never come from a browser, which writes them in full.
    """
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_loopback and not host.startswith("[")
    return address == ipaddress.IPv6Address("::1")


def _origin(scheme: str, authority: re.Match[str]) -> _Origin:
    return scheme, authority[1], authority[2] or _DEFAULT_PORTS.get(scheme, "")


def _page_origin(url: str) -> _Origin | None:
    """Return the origin of a page by its URL or by its own `Origin`; `None` if it has none, as `null` says."""
    page = _PAGE.match(url.lower())
    authority = page and _AUTHORITY.fullmatch(page[2])
    return _origin(page[1], authority) if page and authority else None
