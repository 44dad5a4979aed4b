"""What the environment says of proxies and certificates is followed, or refused by the name of its variable."""

import contextlib
import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk import AsyncIndex
from nextk.errors import ClientError, TransportError
from nextk.transport import connections
from nextk.transport.proxies import is_exempt, proxy_for
from tests.support.scripted_server import TOKEN, Act, ScriptedServer, result, unused_url
from tests.transport.test_address import shown

Client = Callable[..., AsyncIndex]

PASSWORD = "pa55word"
REMOTE = "http://index.example"

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxies and no certificates but those of the test."""
    for name in (*PROXY_VARIABLES, "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


UNUSABLE_PROXIES = {
    "SOCKS without its package": f"socks5h://user:{PASSWORD}@127.0.0.1:1080",
    "an unknown scheme": f"ftp://user:{PASSWORD}@127.0.0.1:21",
    "a port that is no number": f"http://user:{PASSWORD}@127.0.0.1:port",
    "a port too large": f"http://user:{PASSWORD}@127.0.0.1:99999",
    "port 0": f"http://user:{PASSWORD}@127.0.0.1:0",
    "an open bracket": f"http://user:{PASSWORD}@[::1",
    "no host": f"http://user:{PASSWORD}@",
    "no scheme and a bad port": f"user:{PASSWORD}@127.0.0.1:port",
    "a password with a slash": f"http://user:{PASSWORD}/@127.0.0.1:1",
    "an empty label": f"http://user:{PASSWORD}@proxy..example:1",
    "not ASCII": f"http://user:{PASSWORD}@\u2025:1",
    "a control character": f"http://user:{PASSWORD}@proxy\x01:1",
    "bytes that are no text": f"http://user:{PASSWORD}@proxy\udcff:1",
}


class TestUnusableProxies:
    """Proxies that the environment names and nobody could use."""

    @pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
    @pytest.mark.parametrize("value", UNUSABLE_PROXIES.values(), ids=UNUSABLE_PROXIES)
    async def test_refused(self, client: Client, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
        """Making the index says which variable is at fault, and does not show a password that it holds."""
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
        monkeypatch.setenv(name, value)
        with pytest.raises(
            ClientError, match=f"^{name} .*(Correct or unset it, or add index.example to NO_PROXY)"
        ) as caught:
            client(REMOTE)
        assert PASSWORD not in shown(caught.value)

    async def test_the_one_that_is_used(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable that this server has no use for is not looked at."""
        monkeypatch.setenv("HTTPS_PROXY", "ftp://host")
        async with client(REMOTE):
            monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
            monkeypatch.setenv("ALL_PROXY", "ftp://host")
            async with client(REMOTE):
                pass

    async def test_empty(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        """An empty variable names no proxy."""
        for name in PROXY_VARIABLES:
            monkeypatch.setenv(name, "")
        async with client(REMOTE):
            pass

    @given(value=st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20))
    def test_nothing_but_our_errors(self, value: str) -> None:
        """Whatever a variable holds, an index or `ClientError` comes of it."""
        with pytest.MonkeyPatch.context() as monkeypatch:
            for name in PROXY_VARIABLES:
                monkeypatch.setenv(name, value)
            with contextlib.suppress(ClientError):
                AsyncIndex(REMOTE, TOKEN)


class TestProxies:
    """Proxies that are used."""

    @pytest.mark.parametrize("scheme", ["http://", ""], ids=["scheme", "no scheme"])
    async def test_used(
        self, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, scheme: str
    ) -> None:
        """A request goes through the proxy, with the password of the proxy and the token of the index, never shown."""
        caplog.set_level(logging.DEBUG)
        with ScriptedServer(result([])) as proxy:
            monkeypatch.setenv("HTTP_PROXY", f"{scheme}user:{PASSWORD}@{proxy.url.removeprefix('http://')}")
            async with client(REMOTE) as index:
                assert [] == await index.query([1.0])
                assert PASSWORD not in repr(index) + repr(index._transport) + caplog.text
            [seen] = proxy.seen
        assert f"{REMOTE}/query" == seen.path
        assert f"Bearer {TOKEN}" == seen.headers["authorization"]
        assert "Basic dXNlcjpwYTU1d29yZA==" == seen.headers["proxy-authorization"]

    def test_what_a_socks_proxy_is_greeted_with(self) -> None:
        """The login for a SOCKS proxy is passed on, but shows in no representation, because httpcore logs it."""
        options = connections._Proxy(httpx.URL(f"socks5://user:{PASSWORD}@proxy.example")).options(None)
        assert (b"user", PASSWORD.encode()) == options["proxy_auth"]
        assert PASSWORD not in repr(options)

    async def test_refused_tunnel(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        """A proxy that opens no tunnel has sent nothing on, so even a start is repeated."""
        refusals = [Act(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")] * 2
        with ScriptedServer(*refusals) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://user:{PASSWORD}@{proxy.url.removeprefix('http://')}")
            async with client("https://index.example", 1) as index:
                with pytest.raises(TransportError, match="407") as caught:
                    await index.resumable_query([1.0])
            assert (TransportError, 2) == (type(caught.value), proxy.connections)
        assert PASSWORD not in shown(caught.value)

    @pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
    @pytest.mark.parametrize(
        "value", [unused_url(), "ftp://host", "socks5h://127.0.0.1:1"], ids=["gone", "ftp", "socks"]
    )
    async def test_this_machine(self, client: Client, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
        """An index on this machine is reached without a proxy, whatever the environment says."""
        monkeypatch.setenv(name, value)
        with ScriptedServer(result([])) as server:
            async with client(server) as index:
                assert [] == await index.query([1.0])

    async def test_read_once(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        """An index keeps the proxy that the environment named when it was made."""
        with ScriptedServer(result([]), result([])) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            async with client(REMOTE) as index:
                monkeypatch.setenv("HTTP_PROXY", "ftp://host")
                assert [] == await index.query([1.0])
                await index.close()
                assert [] == await index.query([1.0])

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({}, None),
            ({"https": "a"}, ("https", "a")),
            ({"https": "a", "all": "b"}, ("https", "a")),
            ({"http": "a", "all": "b"}, ("all", "b")),
            ({"https": "", "all": "b"}, ("all", "b")),
            ({"http": "a"}, None),
            ({"all": "b", "no": "other.example, index.example"}, None),
        ],
        ids=["none", "scheme", "scheme first", "all", "empty", "another scheme", "exempt"],
    )
    def test_which_setting(self, settings: dict[str, str], expected: tuple[str, str] | None) -> None:
        """The setting for the scheme goes before that for all, and `NO_PROXY` before both."""
        assert expected == proxy_for("https", "index.example", 443, settings)


class TestNoProxy:
    """The hosts that `NO_PROXY` lists."""

    @pytest.mark.parametrize(
        ("host", "no_proxy"),
        [
            ("index.example", "*"),
            ("index.example", "localhost, * ,x"),
            ("index.example", "index.example"),
            ("index.example", "INDEX.example."),
            ("INDEX.example.", "index.example"),
            ("index.example", "example"),
            ("a.index.example", ".index.example"),
            ("index.example", ".index.example"),
            ("a.index.example", "*.index.example"),
            ("index.example", "localhost,[::1],index.example:8080"),
            ("index.example", "a b  index.example"),
            ("index.example", "http://index.example"),
            ("10.1.2.3", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.2.3", "10.1.2.3:8080"),
            ("fd00::1", "fd00::/8"),
            ("fd00::1", "[fd00::1]"),
            ("fd00::1", "[FD00::1]:8080"),
            ("fd00::1", "fd00:0::1"),
        ],
    )
    def test_listed(self, host: str, no_proxy: str) -> None:
        """Domains list themselves and what is below them; addresses, networks, ports and brackets are understood."""
        assert is_exempt(host, 8080, no_proxy)

    @pytest.mark.parametrize(
        ("host", "no_proxy"),
        [
            ("index.example", ""),
            ("index.example", " , ,"),
            ("index.example", "localhost,[::1]"),
            ("index.example", "dex.example"),
            ("index.example", "a.index.example"),
            ("index.example", "index.example:80"),
            ("index.example", "[::1,[,],:,/,.,*."),
            ("10.1.2.3", "11.0.0.0/8"),
            ("10.1.2.3", "10.1.2.0/99"),
            ("fd00::1", "[fd00::1]:80"),
            ("index.example", "\u0660\ud800"),
        ],
    )
    def test_not_listed(self, host: str, no_proxy: str) -> None:
        """Nothing else is listed, and an entry that cannot be read lists nothing."""
        assert not is_exempt(host, 8080, no_proxy)

    async def test_brackets(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        """A list with an address of IPv6 in brackets does not keep an index from being made."""
        monkeypatch.setenv("NO_PROXY", "localhost,[::1],index.example")
        monkeypatch.setenv("ALL_PROXY", "ftp://host")
        async with client(REMOTE):
            pass


UNUSABLE_CERTIFICATES = {
    "a missing file": ("SSL_CERT_FILE", "missing.pem"),
    "a folder for a file": ("SSL_CERT_FILE", "."),
    "no certificate": ("SSL_CERT_FILE", "text.pem"),
    "a broken certificate": ("SSL_CERT_FILE", "half.pem"),
    "a missing folder": ("SSL_CERT_DIR", "missing"),
    "a file for a folder": ("SSL_CERT_DIR", "text.pem"),
    "a log in a missing folder": ("SSLKEYLOGFILE", "missing/keys"),
    "a folder for a log": ("SSLKEYLOGFILE", "."),
}


class TestCertificates:
    """Certificates and their log."""

    @pytest.mark.parametrize(("name", "file"), UNUSABLE_CERTIFICATES.values(), ids=UNUSABLE_CERTIFICATES)
    async def test_unusable(
        self, client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, file: str
    ) -> None:
        """Making an index that is reached over TLS says which variable is at fault, and that it may be unset."""
        (tmp_path / "text.pem").write_text("no certificate")
        (tmp_path / "half.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        monkeypatch.setenv(name, str(tmp_path / file))
        with pytest.raises(ClientError, match=f"^{name}.*unset it"):
            client("https://index.example")

    async def test_not_needed(self, client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """An index that is reached without TLS needs no certificates."""
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
        with ScriptedServer(result([])) as server:
            async with client(server) as index:
                assert [] == await index.query([1.0])

    async def test_encrypted_proxy(self, client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """One that is reached through a proxy over TLS does."""
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
        monkeypatch.setenv("ALL_PROXY", "https://proxy.example")
        with pytest.raises(ClientError, match=r"^SSL_CERT_FILE"):
            client(REMOTE)


async def test_redirects_are_not_followed(client: Client) -> None:
    """A redirect is no answer, wherever it leads: the token goes to the server that was named and to no other."""
    with ScriptedServer() as other:
        for location in (f"{other.url}/query", "http://[", "//\udcff", ""):
            head = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\nContent-Length: 14\r\n\r\n"
            act = Act(head.encode("utf-8", "surrogateescape") + b'{"result": []}')
            with ScriptedServer(act) as server:
                async with client(server, 0) as index:
                    with pytest.raises(TransportError, match="redirect"):
                        await index.query([1.0])
        assert 0 == other.connections


async def test_cookies_are_not_kept(client: Client) -> None:
    """A cookie that the server sets is not sent again."""
    body = b'{"result": []}'
    head = (
        f"HTTP/1.1 200 OK\r\nSet-Cookie: session=x; Path=/\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with ScriptedServer(Act(head.encode() + body), result([])) as server:
        async with client(server) as index:
            for _ in range(2):
                assert [] == await index.query([1.0])
    assert ["cookie" in seen.headers for seen in server.seen] == [False, False]
