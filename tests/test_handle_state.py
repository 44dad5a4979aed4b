"""The state of a handle without I/O: which pages it requests again, and what it refuses."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk.errors import ClientError, NextKError, PageUncertain, QueryNotFound, RefusedError, TransportError
from nextk.handle_state import HandleState, HandleStatus
from nextk.operations import Operation, Page
from nextk.transport.numbering import Numbering
from nextk.types import QueryResult
from tests.support.subprocesses import output

UUID = "6f1e3c5a-3d0c-4a53-9a34-0c9e5b1f7a11"
ROWS = 40


def lost() -> TransportError:
    """The error of a request that may have arrived."""
    return TransportError("the reply was lost")


def never_sent() -> TransportError:
    """The error of a request that surely did not arrive."""
    error = TransportError("the connection was never made")
    error.sent = False
    return error


def refused(status: int, *, after_loss: bool = False) -> RefusedError:
    """A refusal of the server."""
    error = RefusedError("no", status)
    error.after_loss = after_loss
    return error


def matches(*numbers: int) -> list[QueryResult]:
    """Matches that are named by numbers."""
    return [QueryResult(str(number), 0.5) for number in numbers]


def numbers(page: list[QueryResult]) -> list[int]:
    """The numbers that the matches are named by."""
    return [int(match.id) for match in page]


def body(operation: Operation[Any] | None) -> dict[str, Any]:
    """The body of an operation, less its uuid."""
    assert operation is not None
    assert UUID == operation.body["uuid"]
    return {key: value for key, value in operation.body.items() if key != "uuid"}


def failing(error: BaseException, *, said: bool | None = True, count: int = 3) -> HandleState:
    """A handle whose second page has failed."""
    state = HandleState(UUID, Numbering(said))
    state.next_page(count)
    state.failed(error)
    return state


class NumberingServer:
    """A server that numbers the pages of one query, whose first page was row 0."""

    def __init__(self) -> None:
        self.number, self.count = 1, 1
        self.page, self.rest = [0], list(range(1, ROWS))

    def serve(self, operation: Operation[Page]) -> Page:
        """Serve the next page, or the last one again."""
        asked, count = operation.body["pageNumber"], operation.body["additionalK"]
        if asked == self.number + 1:
            self.number, self.count = asked, count
            self.page, self.rest = self.rest[:count], self.rest[count:]
        assert (asked, count) == (self.number, self.count), "a page that is neither the next one nor the last one again"
        return Page(matches(*self.page), numbered=True)


FATES: dict[str, tuple[bool, Callable[[], BaseException] | None]] = {
    "arrives": (True, None),
    "reply lost": (True, lost),
    "request lost": (False, lost),
    "never sent": (False, never_sent),
    "429": (False, lambda: refused(429)),
    "429 after a lost reply": (True, lambda: refused(429, after_loss=True)),
    "503": (True, lambda: refused(503)),
    "interrupted before": (False, KeyboardInterrupt),
    "interrupted after": (True, KeyboardInterrupt),
}
"""The fates of a request: whether the server serves it, and what is raised to the caller."""


def pull(state: HandleState, server: NumberingServer, count: int, fate: str) -> list[QueryResult] | None:
    """Ask for a page; return it, or `None` if it did not arrive."""
    operation = state.next_page(count)
    if operation is None:
        return state.take_waiting(count)
    served, error = FATES[fate]
    page = server.serve(operation) if served else Page([])
    if error is None:
        return state.arrived(page, count)
    state.failed(error())
    return None


@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from(sorted(FATES)))))
def test_whatever_is_lost_the_pages_follow_each_other(pulls: list[tuple[int, str]]) -> None:
    """Over a server that numbers pages, no loss skips or repeats a match, and no page is larger than asked."""
    state, server, delivered = HandleState(UUID, Numbering(True)), NumberingServer(), [0]
    for count, fate in [*pulls, *[(6, "arrives")] * ROWS]:
        page = pull(state, server, count, fate)
        assert page is None or len(page) <= count
        assert page != [] or len(delivered) == ROWS
        delivered += numbers(page or [])
    assert list(range(ROWS)) == delivered


class TestNumbers:
    """A client sends uuids and page numbers to a server that numbers pages."""

    def test_pages_are_counted(self) -> None:
        """The page of the start is number 1; each page that arrives counts, and a failure does not."""
        state = HandleState(UUID, Numbering(True))
        assert {"additionalK": 4, "pageNumber": 2} == body(state.next_page(4))
        assert [1] == numbers(state.arrived(Page(matches(1), numbered=True), 4))
        state.next_page(4)
        state.failed(never_sent())
        assert (2, {"additionalK": 5, "pageNumber": 3}) == (state.page_number, body(state.next_page(5)))

    def test_a_handle_may_begin_later(self) -> None:
        """A handle that continues a query goes on behind the page that was delivered last."""
        assert {"additionalK": 1, "pageNumber": 8} == body(HandleState(UUID, Numbering(True), 7).next_page(1))

    @pytest.mark.parametrize("said", [None, False])
    def test_no_number_is_sent_unless_the_server_asks_for_it(self, said: bool | None) -> None:
        """A server that has not said that it numbers pages is sent no number; the page counts nevertheless."""
        numbering = Numbering(said)
        state = HandleState(UUID, numbering)
        assert {"additionalK": 1} == body(state.next_page(1))
        state.arrived(Page(matches(1)), 1)
        numbering.note_info(numbered=True)
        assert {"additionalK": 1, "pageNumber": 3} == body(state.next_page(1))

    def test_a_first_request_may_be_answered_without_a_number(self) -> None:
        """A page that was requested once is the next one, even if the server ignores the number."""
        state = HandleState(UUID, Numbering(True))
        state.next_page(2)
        assert [1, 2] == numbers(state.arrived(Page(matches(1, 2)), 2))

    def test_patience(self) -> None:
        """The transport repeats the pages of a handle unless its owner does so."""
        operations = [HandleState(UUID, Numbering(True), patient=patient).next_page(1) for patient in (True, False)]
        assert [True, False] == [operation is not None and operation.patient for operation in operations]

    def test_a_fork_ends_the_counting(self) -> None:
        """After a fork, a handle sends numbers in neither process: both would be given the same page.

        A page that is outstanding then cannot be requested again, and a handle that is made later is not concerned.
        """
        code = """
import os
from nextk.errors import PageUncertain, TransportError
from nextk.handle_state import HandleState
from nextk.transport.numbering import Numbering
def body(state):
    return sorted(state.next_page(1).body)
state, outstanding = HandleState("u", Numbering(True)), HandleState("u", Numbering(True))
outstanding.next_page(1)
outstanding.failed(TransportError("lost"))
child = os.fork()
seen = [body(state), body(HandleState("u", Numbering(True)))]
try:
    outstanding.next_page(1)
except PageUncertain:
    seen.append("uncertain")
if child == 0:
    print(*seen, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(*seen)
"""
        expected = "['additionalK', 'uuid'] ['additionalK', 'pageNumber', 'uuid'] uncertain"
        assert [expected] * 2 == output(code).splitlines()


class TestRequestingAgain:
    """A page that did not arrive."""

    @pytest.mark.parametrize(
        "error",
        [lost(), refused(500), refused(401, after_loss=True), refused(429, after_loss=True), KeyboardInterrupt()],
        ids=["lost", "500", "401 after a loss", "429 after a loss", "interrupted"],
    )
    def test_the_same_page_with_the_same_count(self, error: BaseException) -> None:
        """A page that may have been served is requested again as it was at first, whatever is asked for now."""
        for count in (1, 3, 9):
            assert {"additionalK": 3, "pageNumber": 2} == body(failing(error).next_page(count))

    @pytest.mark.parametrize(
        "error",
        [never_sent(), refused(429), refused(401), refused(422), ClientError("closed")],
        ids=["never sent", "429", "401", "422", "closed"],
    )
    def test_a_page_that_surely_was_not_served(self, error: NextKError) -> None:
        """A page that surely was not served is requested with the count of the next call."""
        state = failing(error)
        assert HandleStatus.OPEN is state.status
        assert {"additionalK": 9, "pageNumber": 2} == body(state.next_page(9))

    @pytest.mark.parametrize("error", [never_sent(), refused(429), lost()], ids=["never sent", "429", "lost"])
    def test_a_repeat_that_fails(self, error: NextKError) -> None:
        """The page stays outstanding until it has arrived, however its repeats fail."""
        state = failing(lost())
        state.next_page(1)
        state.failed(error)
        assert {"additionalK": 3, "pageNumber": 2} == body(state.next_page(9))

    def test_a_count_that_the_server_refuses(self) -> None:
        """A lost request whose count turns out to be refused does not stand in the way of the next one."""
        state = failing(lost(), count=5_000)
        state.next_page(3)
        state.failed(refused(422))
        assert {"additionalK": 3, "pageNumber": 2} == body(state.next_page(3))

    def test_what_is_more_than_asked_waits(self) -> None:
        """If fewer are wanted from a page by now, the others come first at the next calls, without a request."""
        state = failing(lost())
        state.next_page(1)
        assert [1] == numbers(state.arrived(Page(matches(1, 2, 3), numbered=True), 1))
        for count in (0, -1, True, "2"):
            with pytest.raises(ClientError, match="additional_k"):
                state.next_page(count)  # type: ignore[arg-type]
        assert state.next_page(9) is None
        assert [2, 3] == numbers(state.take_waiting(9))
        assert {"additionalK": 9, "pageNumber": 3} == body(state.next_page(9))

    @pytest.mark.parametrize("count", [0, -1, 2.0, None])
    def test_a_count_that_would_look_like_the_end(self, count: Any) -> None:
        """While a page is outstanding, a count that is none is refused: an empty page would be taken for the end."""
        state = failing(lost())
        with pytest.raises(ClientError, match="additional_k"):
            state.next_page(count)
        assert {"additionalK": 3, "pageNumber": 2} == body(state.next_page(1))

    def test_another_server_has_answered(self) -> None:
        """A repeat that is answered without a number is not delivered, for it may be the page after the lost one."""
        state = failing(lost())
        state.next_page(3)
        with pytest.raises(PageUncertain) as caught:
            state.arrived(Page(matches(4, 5, 6)), 3)
        state.failed(caught.value)
        with pytest.raises(PageUncertain):
            state.next_page(3)
        assert "resumable-query-end" == getattr(state.stop_operation(), "command", None)

    def test_somebody_else_has_advanced_the_query(self) -> None:
        """A page by number that ends in `PageUncertain` is not requested again."""
        state = failing(PageUncertain("somebody else has advanced this query"))
        with pytest.raises(PageUncertain):
            state.next_page(3)
        assert state.held

    def test_the_query_is_gone(self) -> None:
        """A repeat that finds no query ends the handle: the server has restarted, or dropped it."""
        state = failing(lost())
        state.next_page(3)
        state.failed(QueryNotFound("no such query", 404))
        with pytest.raises(QueryNotFound):
            state.next_page(3)
        assert not state.held

    def test_info_saves_a_lost_page(self) -> None:
        """A page lost before the server said that it numbers pages is requested by its number once it has said so."""
        numbering = Numbering()
        state = HandleState(UUID, numbering)
        state.next_page(3)
        state.failed(PageUncertain("the reply was lost"))
        with pytest.raises(PageUncertain):
            state.next_page(3)
        numbering.note_info(numbered=True)
        assert {"additionalK": 3, "pageNumber": 2} == body(state.next_page(3))
        with pytest.raises(PageUncertain):
            state.arrived(Page(matches(4)), 3)

    def test_the_server_stops_numbering(self) -> None:
        """If another server takes the place of the one that numbered pages, a lost page is uncertain."""
        numbering = Numbering()
        numbering.note_header("1")
        state = HandleState(UUID, numbering)
        state.next_page(3)
        state.failed(lost())
        numbering.note_header(None)
        with pytest.raises(PageUncertain):
            state.next_page(3)

    def test_interrupted_before_it_was_noted(self) -> None:
        """A page whose request was made, but of which nothing was heard, is outstanding as well."""
        state = HandleState(UUID, Numbering(True))
        state.next_page(3)
        assert {"additionalK": 3, "pageNumber": 2} == body(state.next_page(1))


class TestGivingUp:
    """Stopping and detaching a handle with a page that did not arrive."""

    def test_it_can_be_stopped(self) -> None:
        """A handle whose page is outstanding holds its query, and can be stopped."""
        state = failing(lost())
        assert (True, True) == (state.held, state.reply_lost)
        assert "resumable-query-end" == getattr(state.stop_operation(), "command", None)
        with pytest.raises(RefusedError, match="stopped"):
            state.next_page(1)

    def test_it_cannot_be_continued_by_another_handle(self) -> None:
        """No other handle could know which page is outstanding, or which matches wait; until then one may go on."""
        state = failing(lost())
        assert state.detach_uuid() is None
        state.next_page(1)
        state.arrived(Page(matches(1, 2), numbered=True), 1)
        assert (state.detach_uuid(), state.reply_lost) == (None, False)
        state.take_waiting(1)
        assert (UUID, 2) == (state.detach_uuid(), state.page_number)
