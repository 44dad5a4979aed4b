"""What a reply means where a proxy answers in the server's place, and what a transport refuses before it sends."""

import pickle
import time
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import httpx
import pytest

from nextk import Index, operations
from nextk.errors import ClientError, NextKError, PageUncertain, RefusedError, TransportError
from nextk.transport.encoding import decode, encode
from nextk.transport.retries import MAX_PAUSE, Answer, Attempts, may_have_arrived, pause_before
from nextk.types import QueryResult

DEEP = 100_000


def attempts(operation: operations.Operation[Any], retries: int = 0) -> Attempts[Any]:
    """The attempts at an operation, none of them repeated unless told."""
    return Attempts(operation, retries)


@pytest.mark.parametrize("operation", [operations.fetch_next("u", 1), operations.info()], ids=["page", "read"])
def test_a_json_refusal_in_other_words_is_an_answer(operation: operations.Operation[Any]) -> None:
    """A refusal below 500 counts as one whatever its key, and keeps its words and status: no page is in doubt."""
    with pytest.raises(RefusedError, match="no such field") as caught:
        attempts(operation).reply(422, decode(b'{"detail": "no such field"}'))
    assert 422 == caught.value.status


def test_a_result_under_a_failing_status_is_no_success() -> None:
    """A 503 that carries a result leaves a page in doubt, and a read to be repeated."""
    with pytest.raises(PageUncertain):
        attempts(operations.fetch_next("u", 1)).reply(503, decode(b'{"result": []}'))
    repeated = attempts(operations.list_namespaces(), retries=1)
    assert repeated.reply(503, decode(b'{"result": [""]}')) is None
    assert Answer([""]) == repeated.reply(200, decode(b'{"result": [""]}'))


def test_nesting_without_end_is_refused_or_unusable() -> None:
    """Metadata nested too deeply cannot be sent, and such a reply is none: both typed, neither a crash."""
    metadata: dict[str, Any] = {}
    for _ in range(DEEP):
        metadata = {"k": metadata}
    with pytest.raises(ClientError, match="JSON"):
        encode(operations.upsert([("a", [1.0], metadata)], ""))
    with pytest.raises(TransportError):
        attempts(operations.info()).reply(200, decode(b'{"result": ' + b"[" * DEEP + b"]" * DEEP + b"}"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"retries": None},
        {"retry_interval": "a"},
        {"retry_interval": 1e300},
        {"timeout": -1},
        {"timeout": None},
        {"timeout": 1e10},
    ],
    ids=str,
)
def test_numbers_that_are_none(wrong: dict[str, Any]) -> None:
    """A number that is not one, or seconds that no clock can count, are refused by the name of the argument."""
    with pytest.raises(ClientError, match=next(iter(wrong))):
        Index("http://127.0.0.1:1", "t", **wrong)


BY_NUMBER = operations.fetch_next("u", 1, 2)
BY_UUID = operations.start(
    "",
    max_idle=60,
    uuid="u",
    vector=None,
    top_k=1,
    include_vectors=False,
    include_metadata=False,
    filter="",
    data="hi",
    include_data=False,
    sparse_vector=None,
    weighting_strategy=None,
    fusion_algorithm=None,
    query_mode=None,
)
VALUES = {"page": {"pageNumber": 2, "scores": []}, "start": {"uuid": "u", "scores": []}}

LOSSES: dict[str, tuple[int, dict[str, Any] | None]] = {
    "a gateway's page": (502, None),
    "JSON 500": (500, {"error": "no", "status": 500}),
    "JSON 503": (503, {"error": "no", "status": 503}),
    "a result under a 503": (503, {"result": []}),
    "no envelope": (200, {"answer": 42}),
    "no JSON": (200, None),
    "a redirect": (307, None),
}
"""Replies that leave it open whether a page was served."""


@pytest.mark.parametrize("operation", [BY_NUMBER, BY_UUID], ids=["page", "start"])
class TestNumbered:
    """The start and the pages of a query of a server that numbers pages."""

    @pytest.mark.parametrize(("status", "envelope"), LOSSES.values(), ids=LOSSES)
    def test_a_reply_that_is_of_no_use(
        self, operation: operations.Operation[Any], status: int, envelope: dict[str, Any] | None
    ) -> None:
        """It is repeated, since the server gives the same again; in the end it is an error, but none of uncertainty."""
        sending = attempts(operation, retries=1)
        assert sending.reply(status, envelope) is None
        with pytest.raises((TransportError, RefusedError)) as caught:
            sending.reply(status, envelope)
        assert type(caught.value) is (RefusedError if envelope and "error" in envelope else TransportError)
        assert may_have_arrived(caught.value)

    def test_an_answer_to_a_repeat(self, operation: operations.Operation[Any]) -> None:
        """A repeat brings what the lost reply would have brought."""
        sending = attempts(operation, retries=2)
        sending.no_reply(ConnectionResetError("broken"), sent=True)
        assert sending.reply(502, None) is None
        value = VALUES["start" if operation.starts else "page"]
        answer = sending.reply(200, {"result": value})
        assert answer == Answer(operation.parse(value))

    @pytest.mark.parametrize("sent", [[False, False], [True, False], [False, True]], ids=str)
    def test_whether_it_may_have_arrived(self, operation: operations.Operation[Any], sent: list[bool]) -> None:
        """The last error says whether any attempt may have arrived, also after it was pickled."""
        sending = attempts(operation, retries=1)
        sending.no_reply(ConnectionResetError("broken"), sent=sent[0])
        with pytest.raises(TransportError) as caught:
            sending.no_reply(ConnectionResetError("broken"), sent=sent[1])
        again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
        assert (TransportError, any(sent), any(sent)) == (type(again), again.sent, may_have_arrived(again))

    @pytest.mark.parametrize("lost", [False, True], ids=["at once", "after a loss"])
    @pytest.mark.parametrize("status", [401, 422, 429])
    def test_a_refusal(self, operation: operations.Operation[Any], status: int, lost: bool) -> None:
        """A refusal says whether an earlier attempt may have arrived, and keeps that when it is pickled."""
        sending = attempts(operation, retries=int(lost))
        if lost:
            sending.no_reply(ConnectionResetError("broken"), sent=True)
        with pytest.raises(RefusedError) as caught:
            sending.reply(status, {"error": "no", "status": status})
        again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
        assert (status, lost, lost) == (again.status, again.after_loss, may_have_arrived(again))

    def test_somebody_else(self, operation: operations.Operation[Any]) -> None:
        """A 409 to a page means that somebody else has advanced the query; a start is just refused."""
        with pytest.raises(RefusedError if operation.starts else PageUncertain, match="past this page"):
            attempts(operation, retries=3).reply(409, {"error": "the query is past this page", "status": 409})

    def test_a_reply_of_another_shape(self, operation: operations.Operation[Any]) -> None:
        """A reply that would be no better the next time is not asked for again at once, but may be later."""
        with pytest.raises(TransportError) as misshapen:
            attempts(operation, retries=3).reply(200, {"result": 42})
        with pytest.raises(TransportError) as unreadable:
            attempts(operation, retries=3).no_use(OSError("too large"))
        for failure in (misshapen.value, unreadable.value):
            assert (TransportError, True) == (type(failure), failure.sent)

    def test_impatient(self, operation: operations.Operation[Any]) -> None:
        """An operation that is not patient has one attempt, whatever the transport was told."""
        once = replace(operation, patient=False)
        with pytest.raises(TransportError):
            attempts(once, retries=9).no_reply(ConnectionResetError("broken"), sent=True)
        with pytest.raises(RefusedError) as caught:
            attempts(once, retries=9).reply(429, {"error": "later", "status": 429}, retry_after="7")
        assert 7.0 == caught.value.retry_after


def test_a_repeat_that_ignores_the_number() -> None:
    """A page without a number is delivered to the first request alone: to a repeat it may be the page after."""
    bare = {"result": [{"id": "a", "score": 0.5}]}
    assert Answer(operations.Page([QueryResult("a", 0.5)])) == attempts(BY_NUMBER).reply(200, bare)
    for never_seen in (True, False):
        sending = attempts(BY_NUMBER, retries=1)
        if never_seen:
            assert sending.reply(429, None) is None
            assert sending.reply(200, bare) is not None
        else:
            sending.no_reply(ConnectionResetError("broken"), sent=True)
            with pytest.raises(PageUncertain, match="another server"):
                sending.reply(200, bare)


@pytest.mark.parametrize(
    "operation",
    [BY_NUMBER, BY_UUID, operations.fetch_next("u", 1), operations.info()],
    ids=lambda each: each.repeat.value,
)
class TestRetryAfter:
    """When the server asks to be tried again, for whoever waits by himself."""

    @pytest.mark.parametrize("envelope", [{"error": "later"}, None], ids=["JSON", "bare"])
    @pytest.mark.parametrize("status", [429, 503])
    @pytest.mark.parametrize(
        ("header", "expected"), [("7", 7.0), ("0", 0.0), ("3600", MAX_PAUSE), (None, None), ("soon", None)]
    )
    def test_errors_carry_it(
        self,
        operation: operations.Operation[Any],
        header: str | None,
        expected: float | None,
        status: int,
        envelope: dict[str, Any] | None,
    ) -> None:
        """The error that a 429 or a 503 ends in carries the seconds of its header, a minute at the most."""
        with pytest.raises(NextKError) as caught:
            attempts(operation).reply(status, envelope, retry_after=header)
        again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
        assert expected == again.retry_after

    @pytest.mark.parametrize("status", [401, 422, 500, 502])
    def test_no_other_reply_may_ask(self, operation: operations.Operation[Any], status: int) -> None:
        """The header of any other reply is not looked at."""
        with pytest.raises(NextKError) as caught:
            attempts(operation).reply(status, {"error": "no"}, retry_after="7")
        assert caught.value.retry_after is None


def test_an_interrupted_request_may_have_arrived() -> None:
    """An interruption leaves it open whether the server has seen the request; a misuse means that nothing was sent."""
    assert may_have_arrived(KeyboardInterrupt())
    assert not may_have_arrived(ClientError("the index is closed"))


class TestPauses:
    """The pauses between two attempts."""

    def test_they_double_up_to_a_minute(self) -> None:
        """Without luck a pause is twice the one before, from the interval on, until it is a minute long."""
        assert [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] == [pause_before(repeat, 1.0, 1.0) for repeat in range(8)]
        assert MAX_PAUSE == pause_before(10_000, 1.0, 1.0)

    def test_chance_takes_half_at_the_most(self) -> None:
        """Chance shortens a pause by half at the most, so that clients do not come back together."""
        assert [0.5, 0.75, 1.0] == [pause_before(0, 1.0, chance) for chance in (0.0, 0.5, 1.0)]

    def test_an_interval_beyond_the_bound_is_kept(self) -> None:
        """Whoever asks for an interval of more than a minute gets it; whoever asks for none gets none."""
        assert [90.0, 90.0] == [pause_before(repeat, 90.0, 1.0) for repeat in range(2)]
        assert [0.0, 0.0] == [pause_before(repeat, 0.0, 1.0) for repeat in range(2)]

    def test_every_repeat_has_its_pause(self) -> None:
        """Both kinds of failure count: a reply that never came, and one that is unusable."""
        sending = Attempts(operations.info(), 3, 0.5, chance=lambda: 1.0)
        pauses = []
        sending.no_reply(ConnectionResetError("broken"), sent=True)
        pauses.append(sending.pause)
        for status in (502, 429):
            assert sending.reply(status, None) is None
            pauses.append(sending.pause)
        assert [0.5, 1.0, 2.0] == pauses
        with pytest.raises(TransportError):
            sending.reply(502, None)

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("7", 7.0),
            (" 7 ", 7.0),
            ("0", 1.0),
            ("3600", MAX_PAUSE),
            ("9" * 400, MAX_PAUSE),
            (None, 1.0),
            ("", 1.0),
            ("soon", 1.0),
            ("-5", 1.0),
            ("1.5", 1.0),
            ("\u0667", 1.0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 1.0),
            ("Thu, 01 Jan 9999 00:00:00 GMT", MAX_PAUSE),
        ],
    )
    def test_retry_after(self, given: str | None, expected: float) -> None:
        """After a 429 the pause is what the server asks for, up to a minute, if that is longer than our own."""
        sending = Attempts(operations.info(), 1, 1.0, chance=lambda: 1.0)
        assert sending.reply(429, {"error": "too many"}, retry_after=given) is None
        assert expected == sending.pause

    def test_a_stop_does_not_wait_long(self) -> None:
        """The end of a query holds nobody up: its pauses neither grow nor follow `Retry-After`."""
        sending = Attempts(operations.stop("u"), 3, 1.0, chance=lambda: 1.0)
        for _ in range(3):
            assert sending.reply(429, {"error": "too many"}, retry_after="60") is None
            assert 1.0 == sending.pause

    def test_retry_after_as_a_date(self) -> None:
        """A date of HTTP in the future is as good as seconds."""
        sending = Attempts(operations.info(), 1, 0.0)
        later = formatdate(time.time() + 30, usegmt=True)
        assert sending.reply(429, {"error": "too many"}, retry_after=later) is None
        assert 1.0 < sending.pause <= 30.0

    @pytest.mark.parametrize(("status", "expected"), [(429, 30.0), (503, 30.0), (500, 1.0), (502, 1.0), (504, 1.0)])
    def test_who_may_ask(self, status: int, expected: float) -> None:
        """A 429 and a 503 may ask for a longer pause; the header of any other reply is not looked at."""
        sending = Attempts(operations.info(), 1, 1.0, chance=lambda: 1.0)
        assert sending.reply(status, None, retry_after="30") is None
        assert expected == sending.pause


class TestTexts:
    """Texts of other packages that the transport relies on; each test fails loudly when the text changes."""

    def test_a_closed_client(self) -> None:
        """Httpx says that a closed client has sent nothing, in the words that the transport looks for."""
        client = httpx.Client(verify=False)  # noqa: S501 - certificates take long to load, and nothing is sent
        client.close()
        with pytest.raises(RuntimeError, match=r"^Cannot send a request"):
            client.send(client.build_request("POST", "http://127.0.0.1:1"))

    async def test_a_closed_asynchronous_client(self) -> None:
        """So does its asynchronous client."""
        client = httpx.AsyncClient(verify=False)  # noqa: S501 - certificates take long to load, and nothing is sent
        await client.aclose()
        with pytest.raises(RuntimeError, match=r"^Cannot send a request"):
            await client.send(client.build_request("POST", "http://127.0.0.1:1"))
