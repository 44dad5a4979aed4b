"""What a reply means where a proxy answers in the server's place, and what a transport refuses before it sends."""

from typing import Any

import pytest

from nextk import Index, operations
from nextk.errors import ClientError, PageUncertain, RefusedError, TransportError
from nextk.transport.retries import Answer, Attempts, encode

DEEP = 100_000


def attempts(operation: operations.Operation[Any], retries: int = 0) -> Attempts[Any]:
    """The attempts at an operation, none of them repeated unless told."""
    return Attempts(operation, retries)


@pytest.mark.parametrize("operation", [operations.fetch_next("u", 1), operations.info()], ids=["page", "read"])
def test_a_json_refusal_in_other_words_is_an_answer(operation: operations.Operation[Any]) -> None:
    """A refusal below 500 counts as one whatever its key, and keeps its words and status: no page is in doubt."""
    with pytest.raises(RefusedError, match="no such field") as caught:
        attempts(operation).reply(422, b'{"detail": "no such field"}')
    assert 422 == caught.value.status


def test_a_result_under_a_failing_status_is_no_success() -> None:
    """A 503 that carries a result leaves a page in doubt, and a read to be repeated."""
    with pytest.raises(PageUncertain):
        attempts(operations.fetch_next("u", 1)).reply(503, b'{"result": []}')
    repeated = attempts(operations.list_namespaces(), retries=1)
    assert repeated.reply(503, b'{"result": [""]}') is None
    assert Answer([""]) == repeated.reply(200, b'{"result": [""]}')


def test_nesting_without_end_is_refused_or_unusable() -> None:
    """Metadata nested too deeply cannot be sent, and such a reply is none: both typed, neither a crash."""
    metadata: dict[str, Any] = {}
    for _ in range(DEEP):
        metadata = {"k": metadata}
    with pytest.raises(ClientError, match="JSON"):
        encode(operations.upsert([("a", [1.0], metadata)], ""))
    with pytest.raises(TransportError):
        attempts(operations.info()).reply(200, b'{"result": ' + b"[" * DEEP + b"]" * DEEP + b"}")


@pytest.mark.parametrize(
    "wrong", [{"retries": None}, {"retry_interval": "a"}, {"timeout": -1}, {"timeout": None}], ids=str
)
def test_numbers_that_are_none(wrong: dict[str, Any]) -> None:
    """A number that is not one is refused by the name of its argument."""
    with pytest.raises(ClientError, match=next(iter(wrong))):
        Index("http://127.0.0.1:1", "t", **wrong)


def test_a_password_in_the_url_never_shows() -> None:
    """Neither a representation nor an error holds the user and password of a URL."""
    with Index("http://user:pa55word@127.0.0.1:1", "t", retries=0) as index:
        assert "pa55word" not in repr(index)
        with pytest.raises(TransportError) as caught:
            index.info()
        assert "pa55word" not in str(caught.value)
        assert "127.0.0.1:1" in str(caught.value)
