"""A server without a token: no page of another site or port may speak to it, and no client of the protocol notices."""

import socket
from collections.abc import Iterator

import httpx
import pytest
import upstash_vector
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message

from nextk.cli.main import main
from nextk.errors import AuthenticationError, ClientError
from nextk.server import listening
from nextk.server.app import create_app
from nextk.server.browsers import PageGuard
from tests.support.local_server import TOKEN, LocalServer

Head = list[tuple[str, str]]

OWN = "http://localhost:8080"
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36"
OLD_SAFARI = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Safari/605.1.15"

LOOPBACK = """
    localhost localhost:8080 LocalHost:1 127.0.0.1 127.0.0.1:65535 127.1.2.3:80 [::1] [::1]:8080 [0:0:0:0:0:0:0:1]:8080
"""
FOREIGN = """
    evil.example evil.example:8080 localhost.evil.example 127.0.0.1.evil.example evil-localhost app.localhost
    localhost. localhost: localhost:http localhost:8080:8080 localhost:123456 localhost,evil.example
    user@localhost localhost@evil.example user:password@localhost:8080
    http://localhost localhost/ localhost# localhost? \\localhost
    0.0.0.0 [::] 127.1 2130706433 0177.0.0.1 127.0.0.01 128.0.0.1 10.0.0.1
    ::1 [::1 ::1] [127.0.0.1] [localhost] [::1%lo] [::1%25lo]:80 [::ffff:127.0.0.1] [fe80::1]
    :8080 [] *
"""
PAGES = """
    http://localhost:3000 http://localhost https://localhost:8080 http://127.0.0.1:8080 http://[::1]:8080
    http://app.localhost:8080 https://evil.example http://localhost:8080.evil.example file:// about:blank
    http://localhost:8080@evil.example http://localhost:8080\\@evil.example //localhost:8080 localhost:8080
    null * chrome-extension://abcdefgh http://localhost:08080
"""


def check(head: Head, *, scheme: str = "http", allow_hosts: tuple[str, ...] = ()) -> None:
    """Check the head of a request to a server without a token."""
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in head]
    PageGuard(allow_hosts).require_no_other_page({"type": "http", "scheme": scheme, "headers": headers})


def refusal_of(head: Head, *, allow_hosts: tuple[str, ...] = ()) -> str:
    """Return the words by which the head of a request is refused."""
    with pytest.raises(AuthenticationError) as caught:
        check(head, allow_hosts=allow_hosts)
    assert 403 == caught.value.status
    return str(caught.value)


# The name by which the server was called


@pytest.mark.parametrize("host", LOOPBACK.split())
def test_loopback_names_are_answered(host: str) -> None:
    """Clients call the server by `localhost` or a loopback address, with any port."""
    check([("Host", host)])


@pytest.mark.parametrize(
    "host",
    [
        *FOREIGN.split(),
        pytest.param("0x7f000001", id="hexadecimal"),
        "localhost evil.example",
        " localhost",
        "\xe9vil",
        "",
    ],
)
def test_other_names_are_refused_with_the_option_that_allows_them(host: str) -> None:
    """A page whose own name leads to this machine is known by that name, and an operator learns what to do."""
    words = refusal_of([("Host", host)])
    assert repr(host) in words
    assert "--allow-host (allow_hosts= of create_app)" in words


@pytest.mark.parametrize(("hosts", "words"), [((), "has 0"), (("localhost", "localhost"), "has 2")])
def test_there_is_one_host(hosts: tuple[str, ...], words: str) -> None:
    """A request without `Host`, or with two of them, is refused, even if each would do alone."""
    assert words in refusal_of([("Host", host) for host in hosts])


@pytest.mark.parametrize(
    ("allowed", "host"),
    [
        ("mybox", "MYBOX:8080"),
        ("Host.Docker.Internal", "host.docker.internal"),
        ("10.0.0.7", "10.0.0.7:80"),
        ("fd00::7", "[fd00::7]:8080"),
        ("[fd00::7]", "[fd00::7]"),
        ("app.localhost", "app.localhost:3000"),
    ],
)
def test_an_operator_allows_further_names(allowed: str, host: str) -> None:
    """A name that was allowed is answered with any port and in any case, and no other name is."""
    check([("Host", host)], allow_hosts=(allowed,))
    refusal_of([("Host", f"x{host}")], allow_hosts=(allowed,))
    refusal_of([("Host", host)])


@pytest.mark.parametrize(
    "allow_hosts",
    [
        *([name] for name in ("*", "*.example.com", "http://mybox", "mybox:8080", "mybox/", "user@mybox", "[::1]:80")),
        *("mybox", None, 5, [5], [None], [""], ["a b"], ["my\nbox"]),
    ],
    ids=repr,
)
def test_what_is_no_name_cannot_be_allowed(allow_hosts: object) -> None:
    """A pattern, a URL, a port, or one text in place of a list is refused when the application is made."""
    with pytest.raises(ClientError, match=r"the name of a host|the names of hosts"):
        create_app({}, allow_hosts=allow_hosts)  # type: ignore[arg-type]


def test_the_option_reaches_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    """`nextk serve --allow-host` may be repeated."""
    monkeypatch.delenv("NEXTK_TOKEN", raising=False)
    monkeypatch.delenv("NEXTK_READ_ONLY_TOKEN", raising=False)
    statuses: list[int] = []

    def ask(app: ASGIApp, _listener: socket.socket, _limits: object) -> None:
        clients = (TestClient(app, f"http://{host}") for host in ("one", "two", "three"))
        statuses.extend(client.get("/info").status_code for client in clients)

    monkeypatch.setattr(listening, "run", ask)
    assert 0 == main(["serve", "--port", "0", "--allow-host", "one", "--allow-host", "two"])
    assert [200, 200, 403] == statuses


# The page that the request is from


@pytest.mark.parametrize(
    ("host", "origin", "scheme"),
    [
        ("localhost:8080", OWN, "http"),
        ("LOCALHOST:8080", OWN, "http"),
        ("localhost:8080", OWN.upper(), "http"),
        ("localhost", "http://localhost", "http"),
        ("localhost", "http://localhost:80", "http"),
        ("localhost:443", "https://localhost", "https"),
        ("[::1]:8080", "http://[::1]:8080", "http"),
    ],
)
def test_the_servers_own_pages_are_answered(host: str, origin: str, scheme: str) -> None:
    """A page of the server itself is told by its origin: scheme, name and port are those of the request."""
    check([("Host", host), ("Origin", origin), ("User-Agent", CHROME)], scheme=scheme)
    check([("Host", host), ("Referer", f"{origin}/docs?a#b"), ("User-Agent", CHROME)], scheme=scheme)
    check([("Host", host), ("Origin", origin), ("Sec-Fetch-Site", "same-origin")], scheme=scheme)


@pytest.mark.parametrize("page", [*PAGES.split(), f"{OWN}, {OWN}", ""])
@pytest.mark.parametrize("header", ["Origin", "Referer"])
def test_other_pages_are_refused(header: str, page: str) -> None:
    """A page of another site, another port or another scheme is refused, and so is one that has no origin."""
    head = [("Host", "localhost:8080"), (header, page)]
    assert "a page of another site or port" in refusal_of(head)
    refusal_of([*head, ("Sec-Fetch-Site", "same-origin")])
    refusal_of([*head, (header, OWN)])


@pytest.mark.parametrize(
    "sites",
    [
        *([site] for site in ("cross-site", "same-site", "Same-Origin", "CROSS-SITE", "none, same-origin", "new", "")),
        ["same-origin", "cross-site"],
        ["none", ""],
    ],
    ids=repr,
)
def test_a_browser_that_tells_of_another_site_is_refused(sites: list[str]) -> None:
    """Every `Sec-Fetch-Site` but the two of our own pages and of the user is refused, unknown ones too."""
    head = [("Host", "localhost:8080"), *(("Sec-Fetch-Site", site) for site in sites)]
    assert "a page of another site or port" in refusal_of(head)
    refusal_of([*head, ("Origin", OWN)])


@pytest.mark.parametrize("site", ["none", "same-origin"])
def test_what_the_user_opens_is_answered(site: str) -> None:
    """An address that the user types, and what our own page requests, is answered in a browser."""
    check([("Host", "localhost:8080"), ("Sec-Fetch-Site", site), ("User-Agent", CHROME)])


@pytest.mark.parametrize("agent", [CHROME, OLD_SAFARI, "mozilla/4.0 (compatible; MSIE 6.0)"])
def test_a_browser_that_tells_nothing_is_refused(agent: str) -> None:
    """A picture in a page that forbids `Referer` shows nothing in an old browser, nor where a name is not loopback."""
    assert "does not say which page" in refusal_of([("Host", "localhost:8080"), ("User-Agent", agent)])
    assert "does not say which page" in refusal_of([("Host", "mybox"), ("User-Agent", agent)], allow_hosts=("mybox",))


@pytest.mark.parametrize(
    "head",
    [
        [
            ("User-Agent", "python-httpx/0.28.1"),
            ("Accept", "*/*"),
            ("Upstash-Telemetry-Sdk", "py-upstash-vector@v0.8.0"),
        ],
        [("User-Agent", "node"), ("Accept", "*/*"), ("Accept-Language", "*"), ("Sec-Fetch-Mode", "cors")],
        [("User-Agent", "Deno/2.5.0"), ("Accept", "*/*"), ("Accept-Language", "*")],
        [("User-Agent", "Bun/1.3.0"), ("Accept", "*/*")],
        [("User-Agent", "Go-http-client/1.1"), ("Accept-Encoding", "gzip")],
        [("User-Agent", "GuzzleHttp/7"), ("Content-Type", "application/json")],
        [("User-Agent", "curl/8.5.0"), ("Accept", "*/*")],
        [("User-Agent", "Prometheus/3.5.0"), ("X-Prometheus-Scrape-Timeout-Seconds", "10")],
        [],
    ],
    ids=["python", "node", "deno", "bun", "go", "php", "curl", "prometheus", "bare"],
)
def test_clients_that_are_no_browsers_notice_nothing(head: Head) -> None:
    """The official clients send none of the headers of browsers, in whichever language they are written."""
    check([("Host", "localhost:8080"), ("Authorization", "Bearer none"), *head])


# Over HTTP

PATHS = ["/reset?all", "/indexes/pairs/reset?all", "/indexes/absent/info", "/absent", "/"]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    """A server without a token, with one record in its only index."""
    with LocalServer(token=None, read_only_token=None) as running:
        running.add("pairs", type="dense", dimension=2)
        httpx.post(f"{running.url}/upsert", json={"id": "a", "vector": [1, 0]}).raise_for_status()
        yield running


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "PATCH"])
@pytest.mark.parametrize(
    "head",
    [
        {"Host": "evil.example", "Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "same-site"},
        {"User-Agent": OLD_SAFARI},
        {"Origin": "null", "Access-Control-Request-Method": "POST", "Access-Control-Request-Private-Network": "true"},
    ],
    ids=["rebinding", "other-port", "same-site", "old-browser", "preflight"],
)
def test_a_page_can_change_and_read_nothing(server: LocalServer, method: str, head: dict[str, str]) -> None:
    """No path answers a page, by whichever method, and no header of the refusal invites it to go on."""
    with httpx.Client(base_url=server.url) as client:
        replies = [client.request(method, path, headers=head) for path in PATHS]
        replies += [client.request(method, "/metrics", headers=head)] if method in ("GET", "HEAD") else []
    assert {403} == {reply.status_code for reply in replies}
    assert not [name for reply in replies for name in reply.headers if name.startswith("access-control-")]
    assert method == "HEAD" or all(reply.json()["error"].startswith("Forbidden: ") for reply in replies)
    assert 1 == server.engines["pairs"].stats().counts[""]


def test_a_monitor_may_call_the_server_by_any_name(server: LocalServer) -> None:
    """`/healthz` tells nothing but that the server is up, which every page could learn by connecting to it."""
    assert 200 == httpx.get(f"{server.url}/healthz", headers={"Host": "10.1.2.3", "User-Agent": CHROME}).status_code


def exchange(server: LocalServer, request: str) -> str:
    """Send a request as it is, and return what comes back until the server closes the connection."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request.replace("\n", "\r\n").encode())
        return b"".join(iter(lambda: connection.recv(65_536), b"")).decode()


@pytest.mark.parametrize("target", ["http://localhost/info", "http://127.0.0.1:8080/info", "//localhost/info"])
def test_a_name_in_the_request_line_is_no_way_round(server: LocalServer, target: str) -> None:
    """`Host` decides, even if the request line has the whole URL with a name that would be answered."""
    head = f"GET {target} HTTP/1.1\nHost: evil.example\nConnection: close\n\n"
    assert exchange(server, head).startswith("HTTP/1.1 403 ")


def test_a_request_without_a_host_is_refused(server: LocalServer) -> None:
    """HTTP/1.0 lets a client leave its name out, and nobody's page is to make use of that."""
    assert exchange(server, "GET /info HTTP/1.0\n\n").partition("\n")[0].split()[1] == "403"


@pytest.mark.filterwarnings("ignore:Unsupported upgrade")
@pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost:3000"])
def test_a_page_opens_no_websocket(server: LocalServer, origin: str) -> None:
    """A page may open a websocket to any site, but is not answered with 101."""
    head = (
        "GET /info HTTP/1.1\nHost: localhost\nUpgrade: websocket\nConnection: Upgrade, close\n"
        f"Sec-WebSocket-Version: 13\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\nOrigin: {origin}\n\n"
    )
    assert exchange(server, head).startswith("HTTP/1.1 403 ")


@pytest.mark.parametrize("token", [None, TOKEN], ids=["open", "protected"])
async def test_an_application_in_any_server_accepts_no_websocket(token: str | None) -> None:
    """A server that speaks websockets is told to close one, with a token as without."""
    sent: list[str] = []

    async def send(message: Message) -> None:
        sent.append(message["type"])

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/info", "query_string": b"", "headers": [(b"host", b"localhost")]}
    await create_app({}, token=token)(scope, receive, send)
    assert ["websocket.close"] == sent


def test_with_a_token_nothing_changes() -> None:
    """A request with a valid token is answered, whatever its name and its page, since no page has the token."""
    with LocalServer() as protected:
        protected.add("pairs", type="dense", dimension=2)
        for head in (
            {"Host": "evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"User-Agent": CHROME},
        ):
            reply = httpx.get(f"{protected.url}/info", headers={"Authorization": f"Bearer {TOKEN}", **head})
            assert 200 == reply.status_code
            assert not [name for name in reply.headers if name.startswith("access-control-")]
            assert 401 == httpx.get(f"{protected.url}/info", headers=head).status_code


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_the_official_sdk_runs_without_a_token(server: LocalServer, name: str) -> None:
    """The vendor's own client writes, searches and goes on, by either name of this machine."""
    url = server.add("sdk", type="dense", dimension=2).replace("127.0.0.1", name)
    index = upstash_vector.Index(url=url, token="none")
    index.upsert([("a", [1.0, 0.0]), ("b", [0.0, 1.0])])
    page, handle = index.resumable_query(vector=[1.0, 0.0], top_k=1)
    with handle:
        assert ["a", "b"] == [match.id for match in [*page, *handle.fetch_next(5)]]
    assert "Success" == index.reset()
    index._client.close()
    server.engines.pop("sdk").close()
