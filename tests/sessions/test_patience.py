"""How often a failed request of a session is repeated, and how long it waits before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk.errors import NextKError, PageUncertain, QueryNotFound, RefusedError, TooManyQueries, TransportError
from nextk.sessions.patience import FIRST_PAUSE, MAX_FAILURES, MAX_REFUSALS, Patience, is_fault, left_alone
from nextk.testing import ManualClock


def unsent() -> TransportError:
    """Return the error of a request that never reached the index."""
    error = TransportError("no connection")
    error.sent = False
    return error


def asking(error: NextKError, seconds: float) -> NextKError:
    """Return an error whose reply asked to be tried again after some seconds."""
    error.retry_after = seconds
    return error


def failures_until_the_end(patience: Patience, error: NextKError, *, first: bool = False) -> int:
    """Return how many failures the patience takes."""
    count = 1
    while patience.pause_after(error, first=first) is not None:
        count += 1
    return count


class TestFaults:
    """Which errors a session waits and goes on after."""

    @pytest.mark.parametrize(
        ("error", "fault", "alone"),
        [
            (PageUncertain("lost"), True, False),
            (TransportError("a gateway's page"), True, False),
            (unsent(), True, True),
            (QueryNotFound("gone", 404), True, False),
            (RefusedError("slow down", 429), True, True),
            (TooManyQueries("slow down", 429), True, True),
            (RefusedError("overloaded", 503), True, False),
            (RefusedError("full", 507), True, False),
            (TooManyQueries("the limit", 403), False, False),
            (RefusedError("this query has been stopped", 0), False, False),
            (RefusedError("bad filter", 422), False, False),
        ],
        ids=lambda value: (
            f"{type(value).__name__}-{getattr(value, 'status', '')}" if isinstance(value, Exception) else ""
        ),
    )
    def test_kinds(self, error: NextKError, fault: bool, alone: bool) -> None:
        """A lost reply, a lost query, an overload and a busy server are faults; a refusal of the request is none."""
        assert (fault, alone) == (is_fault(error), left_alone(error))


class TestEnd:
    """When the patience is used up."""

    @pytest.mark.parametrize("error", [PageUncertain("lost"), QueryNotFound("gone", 404), RefusedError("busy", 503)])
    def test_ten_failures_in_a_row(self, error: NextKError) -> None:
        """The tenth failure without progress is raised."""
        assert failures_until_the_end(Patience(ManualClock()), error) == MAX_FAILURES == 10

    @pytest.mark.parametrize(("status", "failures"), [(500, 4), (507, 4), (502, 10), (503, 10), (504, 10)])
    def test_an_index_that_fails(self, status: int, failures: int) -> None:
        """An index that says that it failed is given up sooner than one that a gateway says is away."""
        assert failures_until_the_end(Patience(ManualClock()), RefusedError("no", status)) == failures

    def test_repeats(self) -> None:
        """Where a repeat is answered as the first request would have been, twice as many failures are borne."""

        def failures(error: NextKError) -> int:
            patience, count = Patience(ManualClock()), 1
            while patience.pause_after(error, first=False, repeatable=True) is not None:
                count += 1
            return count

        assert [20, 10, 4] == [failures(error) for error in (TransportError("lost"), unsent(), RefusedError("no", 500))]

    def test_nothing_was_ever_reached(self) -> None:
        """An index to which nothing gets through at the beginning is given up sooner."""
        assert failures_until_the_end(Patience(ManualClock()), unsent(), first=True) == MAX_REFUSALS == 4
        assert failures_until_the_end(Patience(ManualClock()), unsent()) == MAX_FAILURES

    def test_a_page_starts_the_count_anew(self) -> None:
        """A replay whose pages arrive goes on, however many faults it meets."""
        patience = Patience(ManualClock())
        for _ in range(100):
            for _ in range(MAX_FAILURES - 1):
                assert patience.pause_after(PageUncertain("lost"), first=False) is not None
            patience.page_arrived()

    def test_replays_in_vain(self) -> None:
        """To bring the same pages again, and to lose the page that is needed each time, is no progress."""
        patience = Patience(ManualClock(), chance=lambda: 1.0)
        pauses = []
        while (pause := patience.pause_after(PageUncertain("lost"), first=False)) is not None:
            pauses.append(pause)
            patience.query_lost()
            patience.page_arrived()
        doubled = [FIRST_PAUSE * 2 ** min(number, 6) for number in range(MAX_FAILURES - 1)]
        assert pauses == [FIRST_PAUSE, *doubled]

    def test_the_deadline_of_the_caller(self) -> None:
        """A pause that would last until the deadline is not begun."""
        clock = ManualClock()
        patience = Patience(clock, deadline=10.0, chance=lambda: 1.0)
        assert patience.pause_after(PageUncertain("lost"), first=False) is not None
        clock.advance(9.9)
        assert patience.pause_after(PageUncertain("lost"), first=False) is None

    def test_a_server_that_wants_more_time_than_there_is(self) -> None:
        """A server that asks for a pause beyond the deadline ends the patience at once."""
        patience = Patience(ManualClock(), deadline=10.0)
        assert patience.pause_after(asking(RefusedError("busy", 503), 11.0), first=False) is None


class TestPauses:
    """How long a session waits."""

    @given(st.floats(0, 1))
    def test_they_grow_with_jitter(self, chance: float) -> None:
        """Each pause is at least half and at most the whole of a length that doubles up to 6.4 seconds."""
        patience = Patience(ManualClock(), chance=lambda: chance)
        for failure in range(MAX_FAILURES - 1):
            longest = FIRST_PAUSE * 2 ** min(failure, 6)
            pause = patience.pause_after(PageUncertain("lost"), first=False)
            assert pause is not None
            assert longest / 2 <= pause <= longest

    def test_a_query_that_is_gone_needs_none(self) -> None:
        """The first answer that the query is gone is followed at once by a new start; the next one is not."""
        patience = Patience(ManualClock(), chance=lambda: 1.0)
        gone = QueryNotFound("gone", 404)
        assert patience.pause_after(gone, first=False) == 0
        assert patience.pause_after(gone, first=False) == 2 * FIRST_PAUSE

    @pytest.mark.parametrize(("asked", "waited"), [(0.01, FIRST_PAUSE), (3.5, 3.5), (60.0, 60.0), (3_600.0, 60.0)])
    def test_retry_after(self, asked: float, waited: float) -> None:
        """A pause is at least as long as the server asks for, up to a minute."""
        patience = Patience(ManualClock(), chance=lambda: 1.0)
        assert patience.pause_after(asking(RefusedError("busy", 429), asked), first=False) == waited
