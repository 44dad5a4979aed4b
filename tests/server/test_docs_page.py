"""The page at `/docs`: complete, and without anything that could act for its reader."""

from collections.abc import Iterator
from html.parser import HTMLParser

import httpx
import pytest

from nextk.dispatch import COMMANDS
from nextk.server.refusal_shapes import REFUSALS
from tests.support.local_server import TOKEN, LocalServer

HOSTILE = "<script>alert('x')</script>"


class Page(HTMLParser):
    """The parts of a page.

    Attributes:
        tags: The names of its elements.
        attributes: The attributes of all elements, with their values.
        text: Its text.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.text += data


@pytest.fixture(scope="module")
def reply() -> Iterator[httpx.Response]:
    """The page of a server without a token, one of whose indexes has a hostile name, as a browser requests it."""
    with LocalServer(token=None, read_only_token=None, root=HOSTILE) as server:
        server.add("notes", type="dense")
        server.add(HOSTILE, type="dense")
        yield httpx.get(f"{server.url}/docs", headers={"Sec-Fetch-Site": "none", "User-Agent": "Mozilla/5.0"})


def test_the_page_shows_every_command_and_every_refusal(reply: httpx.Response) -> None:
    """A person finds each path, each status and the names of the indexes."""
    text = Page(reply.text).text
    assert not [name for name in COMMANDS if f"/{name}" not in text]
    assert not [shape.meaning for shape in REFUSALS.values() if shape.meaning.replace("`", "") not in text]
    assert "the index <script>alert('x')</script>" in text
    assert "notes" in text


def test_every_link_leads_to_a_shape_on_the_page(reply: httpx.Response) -> None:
    """The names of shapes are links within the page, and none leads elsewhere."""
    attributes = Page(reply.text).attributes
    ids = {f"#{value}" for name, value in attributes if name == "id"}
    links = {value for name, value in attributes if name == "href"}
    assert {"#Record", "#Match"} <= links <= ids


def test_nothing_on_the_page_acts_or_is_from_elsewhere(reply: httpx.Response) -> None:
    """There is no script, form, picture or handler, not even by the name of an index, and a browser is told so."""
    page = Page(reply.text)
    assert not page.tags & {"script", "form", "img", "link", "iframe", "object", "base", "svg"}
    assert {"lang", "charset", "id", "href"} == {name for name, _ in page.attributes}
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["content-security-policy"].startswith("default-src 'none'; ")


def test_the_page_is_for_those_who_may_read() -> None:
    """With a token the page needs it, as the description does; without one no other page may read it."""
    with LocalServer() as protected:
        assert 401 == httpx.get(f"{protected.url}/docs").status_code
        assert 200 == httpx.get(f"{protected.url}/docs", headers={"Authorization": f"Bearer {TOKEN}"}).status_code
    with LocalServer(token=None, read_only_token=None) as server:
        assert 403 == httpx.get(f"{server.url}/docs", headers={"Origin": "http://localhost:1"}).status_code
