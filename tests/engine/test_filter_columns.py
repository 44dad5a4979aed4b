"""The columns that filters are evaluated over: how they are filled, what they take, and when a filter is given up."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk.engine.filter.columns import Cells, Field
from nextk.engine.filter.evaluate import evaluate, fields_of
from nextk.engine.filter.numbers import are_any, same_integers, same_reals
from nextk.engine.filter.store import FieldBudget, FieldColumns
from nextk.engine.filter.syntax import parse
from nextk.engine.filter.timer import FilterTimer
from nextk.errors import RefusedError

N = Field(("n",))


class Rows:
    """Records whose field `n` is their row, and which count how many values were read."""

    def __init__(self) -> None:
        self.read_rows = 0
        self.fails = False

    def read(self, fields: Sequence[Field], rows: Sequence[int]) -> list[Cells]:
        """Read the values of fields."""
        self.read_rows += len(rows) * len(fields)
        cells = [Cells(rows, ["integer"] * len(rows), rows) for _ in fields]
        if self.fails:
            cells[-1] = Cells(rows, ["integer"] * len(rows), [object()] * len(rows))  # type: ignore[list-item]
        return cells


def passing(columns: FieldColumns, text: str, slots: int) -> list[int]:
    """Return the slots that pass a filter, all of which are live."""
    node = parse(text)
    assert node is not None
    found = evaluate(node, columns.values(fields_of(node)), np.ones(slots, np.bool_), lambda: None)
    return np.flatnonzero(found).tolist()


def test_a_column_reads_what_is_new_alone() -> None:
    """The values of a slot are read once, however often a filter needs them, and in parts."""
    columns, rows = FieldColumns(), Rows()
    assert not columns.read_part([N], np.arange(10), None, rows.read, 4)
    assert not columns.read_part([N], np.arange(10), None, rows.read, 4)
    assert columns.read_part([N], np.arange(10), None, rows.read, 4)
    assert columns.read_part([N], np.arange(11), None, rows.read, 4)
    assert columns.read_part([N], np.arange(11), None, rows.read, 4)
    assert rows.read_rows == 11
    assert [9, 10] == passing(columns, "n > 8", 11)


def test_values_that_were_taken_stay_as_they_are() -> None:
    """A search that has taken values reads these, while the column grows and is numbered anew."""
    columns, rows = FieldColumns(), Rows()
    columns.read_part([N], np.arange(4), None, rows.read, 2_048)
    taken = columns.values([N])
    columns.read_part([N], np.arange(9), None, rows.read, 2_048)
    columns.keep(np.array([0, 5, 8]))
    assert [1, 2] == passing(columns, "n >= 5", 3)
    node = parse("n >= 2")
    assert node is not None
    assert [2, 3] == np.flatnonzero(evaluate(node, taken, np.ones(4, np.bool_), lambda: None)).tolist()


def test_columns_that_a_failure_has_torn_are_read_anew() -> None:
    """If one of several columns cannot take what was read, none of them keeps it."""
    columns, rows, both = FieldColumns(), Rows(), [N, Field(("m",))]
    columns.read_part(both, np.arange(9), None, rows.read, 4)
    rows.fails = True
    with pytest.raises(KeyError):
        columns.read_part(both, np.arange(9), None, rows.read, 2_048)
    rows.fails = False
    assert columns.read_part(both, np.arange(9), None, rows.read, 2_048)
    assert [8] == passing(columns, "n > 7 AND m > 7", 9)


def test_the_columns_that_were_not_used_for_longest_are_forgotten() -> None:
    """Where the columns of all namespaces exceed their bound, the latest stay."""
    namespaces, rows, slots = [FieldColumns(), FieldColumns()], Rows(), np.arange(1_000)
    namespaces[0].read_part([N], slots, None, rows.read, 2_048)
    budget = FieldBudget(2 * namespaces[0].nbytes)

    def read(namespace: int, *names: str) -> int:
        """Use fields; return how many values had to be read for that."""
        before, fields = rows.read_rows, [Field((name,)) for name in names]
        namespaces[namespace].read_part(fields, slots, None, rows.read, 2_048)
        budget.use(namespaces[namespace], fields)
        return rows.read_rows - before

    assert [0, 1_000, 0, 1_000] == [read(0, "n"), read(0, "m"), read(0, "n"), read(1, "n")]  # m of 0 is forgotten
    assert [0, 0, 1_000] == [read(1, "n"), read(0, "n"), read(0, "m")]  # n of 1 is forgotten
    assert [2_000, 0, 1_000] == [read(1, "a", "b"), read(1, "a", "b"), read(0, "n")]


def test_fields_that_exceed_the_bound_by_themselves_are_too_large() -> None:
    """The largest of them is forgotten, and known as too large; the others stay."""
    columns, rows, slots = FieldColumns(), Rows(), np.arange(1_000)
    columns.read_part([N], slots, None, rows.read, 2_048)
    budget = FieldBudget(columns.nbytes)
    budget.use(columns, [N])
    assert set() == columns.too_large
    columns.read_part([N, Field(("m",))], slots, None, rows.read, 2_048)
    budget.use(columns, [N, Field(("m",))])
    assert 1 == len(columns.too_large)
    assert columns.read_part({N, Field(("m",))} - columns.too_large, slots, None, rows.read, 1)


@pytest.mark.parametrize("text", ["n < 5", "n IN (1, 2)", "u GLOB '*1*'", "n < 5 OR u GLOB '*'"])
def test_a_filter_is_checked_for_its_time(text: str) -> None:
    """The evaluation of any filter ends with the error that its check raises."""
    node = parse(text)
    assert node is not None
    columns = FieldColumns()

    def read(fields: Sequence[Field], rows: Sequence[int]) -> list[Cells]:
        return [Cells(rows, ["text"] * len(rows), [str(row) for row in rows]) for _ in fields]

    columns.read_part(fields_of(node), np.arange(9), None, read, 2_048)
    with pytest.raises(RefusedError, match="does not wait for it any more"):
        evaluate(node, columns.values(fields_of(node)), np.ones(9, np.bool_), FilterTimer(9, lambda: True).check)


WHOLE = st.sampled_from([0, 1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)])
REAL = st.sampled_from([0.0, 0.5, 1.0, 2.0**53, 2.0**63, -(2.0**63), 1e300])


@given(whole=st.lists(WHOLE, min_size=1), real=st.lists(REAL, min_size=1), literals=st.lists(WHOLE | REAL, max_size=12))
def test_many_literals_are_compared_exactly(whole: list[int], real: list[float], literals: list[float]) -> None:
    """However many literals there are, whole numbers and floats equal those that they are equal to."""
    integers, reals = np.array(whole, np.int64), np.array(real, np.float64)
    assert [value in literals for value in whole] == are_any(integers, same_integers(literals)).tolist()
    assert [value in literals for value in real] == are_any(reals, same_reals(literals)).tolist()


def ticking(*times: float) -> Callable[[], float]:
    """Return a clock that shows these times one after the other."""
    return iter(times).__next__


def test_a_filter_has_a_deadline() -> None:
    """Once its seconds are over, a filter is refused with a status that says to try again, and with what to do."""
    timer = FilterTimer(2.5, lambda: False, ticking(10.0, 11.0, 12.0, 20.0, 20.4, 20.6, 20.7))
    with timer.working():
        timer.check()
    with timer.working():  # what lies between does not count
        timer.check()
        with pytest.raises(RefusedError, match=r"longer than 2\.5 seconds.*--filter-timeout") as caught:
            timer.check()
    assert caught.value.status == 503
