"""The URL and the token of a server: what is refused, without being shown, and what is sent."""

import contextlib
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk import AsyncIndex, Index
from nextk.connect import TOKEN_VARIABLE, URL_VARIABLE
from nextk.errors import ClientError, NextKError
from nextk.transport.address import is_this_machine
from tests.support.scripted_server import TOKEN, ScriptedServer, result, unused_url

Client = Callable[..., AsyncIndex]

SECRET = "pa55word"

UNUSABLE = {
    "no scheme": "host.example",
    "another scheme": "ftp://host.example",
    "a scheme alone": "https://",
    "only a scheme and a path": "https:///index",
    "a host and a port without a scheme": "localhost:8080",
    "one slash": "http:/host.example",
    "port 0": "http://host.example:0",
    "a port too large": "http://host.example:99999",
    "a port that is no number": "http://host.example:port",
    "IPv6 without brackets": "http://::1:8080",
    "an open bracket": "http://[::1",
    "no IPv6 in brackets": "http://[host]",
    "a blank before it": " https://host.example",
    "a line's end after it": "https://host.example\n",
    "a tab inside": "https://host\t.example",
    "a byte order mark": "\ufeffhttps://host.example",
    "quotes": '"https://host.example"',
    "single quotes": "'https://host.example'",
    "a lone surrogate": "https://host.example/\udc80",
    "a byte that is no text": "https://host\udcff.example",
    "backslashes": "https:\\\\host.example",
    "an empty label": "https://host..example",
    "a label too long": f"https://{'x' * 64}.example",
    "a name too long": "https://" + "x" * 63 + ".x" * 100,
    "no international name": "https://\u2025.example",
    "a user and a password": f"https://user:{SECRET}@host.example",
    "a password alone": f"https://:{SECRET}@host.example",
    "a user alone": f"https://{SECRET}@host.example",
    "a password with a slash and no scheme": f"user:{SECRET}/@host.example",
    "a query string": f"https://host.example/index?key={SECRET}",
    "a fragment": f"https://host.example/index#{SECRET}",
    "a password behind a backslash": f"https://host.example\\@user:{SECRET}@other.example",
}


def shown(error: BaseException | None) -> str:
    """All that an error and its causes show."""
    parts = []
    while error is not None:
        parts += [str(error), repr(error), repr(error.args), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return "\n".join(parts)


class TestUrl:
    """The URL of a server."""

    @pytest.mark.parametrize("url", UNUSABLE.values(), ids=UNUSABLE)
    async def test_unusable(self, client: Client, url: str) -> None:
        """A URL that no request can be sent to is refused when the index is made, and no secret in it is shown."""
        with pytest.raises(ClientError, match="is not the URL of an index") as caught:
            client(url)
        assert SECRET not in shown(caught.value)

    @pytest.mark.parametrize("url", UNUSABLE.values(), ids=UNUSABLE)
    def test_from_the_environment(self, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
        """One that comes from the environment is refused by the name of its variable."""
        monkeypatch.setenv(URL_VARIABLE, url)
        monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
        with pytest.raises(ClientError) as caught:
            Index()
        assert URL_VARIABLE in str(caught.value) or repr(url) in str(caught.value)
        assert SECRET not in shown(caught.value)

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("", "/query"),
            ("/", "/query"),
            ("///", "/query"),
            ("/indexes/a/", "/indexes/a/query"),
            ("/a@b", "/a@b/query"),
        ],
    )
    async def test_paths(self, client: Client, path: str, expected: str) -> None:
        """The path of the URL stands before that of each request, whatever slashes it ends with."""
        with ScriptedServer(result([])) as server:
            async with client(server.url + path) as index:
                await index.query([1.0])
        assert [expected] == [seen.path for seen in server.seen]

    @pytest.mark.parametrize(
        "url",
        [
            "https://b\u00fccher.example",
            "HTTPS://HOST.example.",
            "http://[::1]:8080/x",
            "https://host.example/" + "x" * 9_000,
        ],
    )
    def test_usable(self, url: str) -> None:
        """International names, capitals, addresses of IPv6 and long paths are taken."""
        assert url.rstrip("/") == Index(url, TOKEN)._transport.identity

    @given(
        url=st.text(max_size=30)
        | st.text("htps:/@?#[]\\.:0123456789a\u00fc\u2025 %", max_size=30).map("http://".__add__)
    )
    def test_nothing_but_our_errors(self, url: str) -> None:
        """Whatever is passed as a URL, an index or `ClientError` comes of it."""
        with contextlib.suppress(ClientError):
            Index(url or "x", TOKEN)

    async def test_the_token_is_sent(self, client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
        """The token is what the server gets, even where a `.netrc` knows a password for it."""
        (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login user password {SECRET}\n")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        with ScriptedServer(result([])) as server:
            async with client(server) as index:
                await index.query([1.0])
        assert [f"Bearer {TOKEN}"] == [seen.headers["authorization"] for seen in server.seen]

    async def test_what_is_shown(self, client: Client, caplog: pytest.LogCaptureFixture) -> None:
        """Errors, logs and representations show the URL, since nothing secret is in it, and never the token."""
        caplog.set_level(logging.DEBUG)
        url = unused_url()
        async with client(url, 0) as index:
            with pytest.raises(NextKError) as caught:
                await index.info()
            assert url in str(caught.value)
            assert url in repr(index)
            assert TOKEN not in shown(caught.value) + repr(index) + caplog.text


NO_TOKENS = {
    "a line's end": f"{SECRET}\n",
    "a line's end of Windows": f"{SECRET}\r\n",
    "a header of its own": f"{SECRET}\r\nX-Other: y",
    "a blank before it": f" {SECRET}",
    "a blank inside": f"Bearer {SECRET}",
    "NUL": f"{SECRET}\x00",
    "a letter beyond ASCII": f"{SECRET}\u00fc",
    "a byte order mark": f"\ufeff{SECRET}",
    "a lone surrogate": f"{SECRET}\ud800",
    "quotes": f'"{SECRET}"',
    "single quotes": f"'{SECRET}'",
    "blanks alone": " ",
}


class TestToken:
    """The token of a server."""

    @pytest.mark.parametrize("token", NO_TOKENS.values(), ids=NO_TOKENS)
    async def test_unusable(self, colour: str, token: str) -> None:
        """A token that no header can hold, as one read with its line's end, is refused without being shown."""
        with pytest.raises(ClientError, match=r"^token is not a token") as caught:
            _ = Index(unused_url(), token) if colour == "sync" else AsyncIndex(unused_url(), token)
        assert SECRET not in shown(caught.value)

    def test_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One that comes from the environment is refused by the name of its variable."""
        monkeypatch.setenv(TOKEN_VARIABLE, f"{SECRET} ")
        with pytest.raises(ClientError, match=rf"^{TOKEN_VARIABLE} is not a token") as caught:
            Index("http://127.0.0.1:1")
        assert SECRET not in shown(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST.",
        "db.localhost",
        "127.0.0.1",
        "127.255.0.9",
        "127.1",
        "0x7f.1",
        "2130706433",
        "::1",
        "0:0:0:0:0:0:0:1",
        "::ffff:127.0.0.1",
        "0.0.0.0",  # noqa: S104
        "::",
    ],
)
def test_this_machine(host: str) -> None:
    """Loopback and unspecified addresses, in every notation, and `localhost` are this machine."""
    assert is_this_machine(host)


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "localhost.example.com",
        "mylocalhost",
        "128.0.0.1",
        "10.0.0.1",
        "::2",
        "::ffff:10.0.0.1",
        "",
        "1.2.3",
    ],
)
def test_another_machine(host: str) -> None:
    """All other names and addresses may be another machine."""
    assert not is_this_machine(host)
