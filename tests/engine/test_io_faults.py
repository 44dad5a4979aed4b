"""Faults at each step of the storage: an index holds the state before a write or the one after it, never a mixture."""

import contextlib
import itertools
import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import astuple
from pathlib import Path

import pytest

from nextk.bodies import Fetch, Range, TextQuery, VectorQuery
from nextk.engine.engine import EmbeddedEngine
from nextk.errors import ClientError, RefusedError
from tests.support import format_one
from tests.support.faulty_connection import StepFault, StepPlan, plan_steps
from tests.support.format_one import OldRecord
from tests.support.stored_states import (
    PREPARATION,
    START,
    WRITES,
    State,
    Stored,
    observed,
    open_stored,
    opened,
)

MARKER = WRITES["namespace"]
"""A write by which an engine shows that it goes on working."""

READS: Mapping[str, Callable[[EmbeddedEngine], object]] = {
    "query": lambda engine: engine.query("", VectorQuery.model_validate({"vector": [1.0, 0.0]})),
    "filter": lambda engine: engine.query("", VectorQuery.model_validate({"vector": [1.0, 0.0], "filter": "n > 1"})),
    "text": lambda engine: engine.query("", TextQuery.model_validate({"data": "text"})),
    "fetch": lambda engine: engine.fetch("", Fetch.model_validate({"ids": ["a1", "b", "absent"]})),
    "prefix": lambda engine: engine.fetch("", Fetch.model_validate({"prefix": "a"})),
    "range": lambda engine: engine.range("", Range.model_validate({"limit": 2})),
    "random": lambda engine: engine.random("one"),
    "stats": lambda engine: engine.stats(),
    "namespaces": lambda engine: engine.list_namespaces(),
}
"""Every kind of read. `random` reads a namespace of one record."""


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the state `START`, to be copied."""
    path = tmp_path_factory.mktemp("prepared") / "index"
    with closing(opened(path)) as engine:
        for write in PREPARATION:
            write.run(engine)
    return path


@pytest.fixture
def path(prepared: Path, tmp_path: Path) -> Path:
    """A copy of that file."""
    return Path(shutil.copy(prepared, tmp_path / "index"))


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> StepPlan:
    """The plan of the steps of every connection."""
    return plan_steps(monkeypatch)


class TestWrites:
    """A fault at every step of every kind of write."""

    @pytest.mark.parametrize("fault", StepFault, ids=lambda fault: fault.value)
    @pytest.mark.parametrize("name", WRITES)
    def test_whole_or_absent(self, path: Path, plan: StepPlan, name: str, fault: StepFault) -> None:
        """After a fault the write is whole or absent, in memory and in the file, and the engine goes on working."""
        write, plan.fault = WRITES[name], fault
        failure: type[BaseException] = KeyboardInterrupt if fault is StepFault.CUT_OFF else RefusedError
        before, after = START.listed(), write.after(START).listed()
        original = path.read_bytes()
        engine = opened(path)
        for step in itertools.count(1):
            with plan.armed(step), contextlib.suppress(failure):
                write.run(engine)
            found = observed(engine)
            if not plan.struck:
                break
            assert found in ([before, after] if fault is StepFault.CUT_OFF else [before]), step
            if found == after:
                engine = self.reopened(engine, path, after)
                engine.close()
                path.write_bytes(original)
                engine = opened(path)
        assert step > 3
        assert after == found
        with closing(self.reopened(engine, path, after)) as again:
            MARKER.run(again)
            assert MARKER.after(write.after(START)).listed() == observed(again)

    @pytest.mark.parametrize("fault", StepFault, ids=lambda fault: fault.value)
    def test_rest(self, path: Path, plan: StepPlan, fault: StepFault) -> None:
        """A fault while the journal is brought to rest loses nothing, and a later attempt succeeds."""
        plan.fault = fault
        engine = opened(path)
        for step in itertools.count(1):
            MARKER.run(engine)
            with plan.armed(step), contextlib.suppress(KeyboardInterrupt):
                engine._rest()
            assert engine._rest()
            assert MARKER.after(START).listed() == observed(engine)
            if not plan.struck:
                break
        assert step > 4
        self.reopened(engine, path, MARKER.after(START).listed()).close()

    def test_after_the_commit(self, path: Path, tmp_path: Path) -> None:
        """A write that is committed is not refused because its journal cannot be looked at."""
        with closing(opened(path)) as engine:
            file = engine._storage._file
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(file, "_journal", tmp_path / "absent")
                MARKER.run(engine)
            assert MARKER.after(START).listed() == observed(engine)

    @staticmethod
    def reopened(engine: EmbeddedEngine, path: Path, expected: list[object]) -> EmbeddedEngine:
        """Close an engine, open its file again, and check that it holds what is expected."""
        engine.close()
        again = opened(path)
        assert expected == observed(again)
        return again


class TestReads:
    """A fault at every step of every kind of read."""

    @pytest.mark.parametrize("fault", [StepFault.FULL, StepFault.BROKEN], ids=lambda fault: fault.value)
    def test_refused(self, path: Path, plan: StepPlan, fault: StepFault) -> None:
        """A read that meets a fault is refused, and gives its whole answer when it is made again."""
        plan.fault = fault
        with closing(opened(path)) as engine:
            for name, read in READS.items():
                answer = repr(read(engine))
                for step in itertools.count(1):
                    engine._cache.invalidate(1, 2, 3)  # so that all that is in memory is read again
                    with plan.armed(step), contextlib.suppress(RefusedError):
                        assert answer == repr(read(engine))
                        assert not plan.struck
                    assert answer == repr(read(engine)), (name, step)
                    if not plan.struck:
                        break
                assert step > 1, name


class TestOpening:
    """A fault at every step of an opening. The error is kept, and still nobody holds the file."""

    error: BaseException | None = None

    @pytest.mark.parametrize("fault", StepFault, ids=lambda fault: fault.value)
    def test_stored(self, path: Path, plan: StepPlan, fault: StepFault) -> None:
        """An index that could not be opened holds what it held."""
        plan.fault = fault
        for step in itertools.count(1):
            if not self.struck(opened, path, plan, step):
                break
            with closing(opened(path)) as engine:
                assert START.listed() == observed(engine)
        assert step > 5

    @pytest.mark.parametrize("fault", StepFault, ids=lambda fault: fault.value)
    def test_new(self, tmp_path: Path, plan: StepPlan, fault: StepFault) -> None:
        """An index that could not be made is made by a later opening, or is there already: whole and empty."""
        plan.fault = fault
        for step in itertools.count(1):
            path = tmp_path / f"index{step}"
            if not self.struck(opened, path, plan, step):
                break
            with closing(opened(path)) as engine:
                assert State({"": {}}).listed() == observed(engine)
                MARKER.run(engine)
                assert MARKER.after(State({"": {}})).listed() == observed(engine)
        assert step > 10

    @pytest.mark.parametrize("fault", StepFault, ids=lambda fault: fault.value)
    def test_older_format(self, tmp_path: Path, plan: StepPlan, fault: StepFault) -> None:
        """A file of format 1 whose conversion failed is as it was, or converted, and holds what it held."""
        records = {"a": Stored((1.0, 0.0), {"n": 1}, "text"), "b": Stored((0.0, 1.0))}
        old = tmp_path / "old"
        format_one.write(old, [OldRecord("", id_, *astuple(record)) for id_, record in records.items()])
        before = format_one.dump(old)
        plan.fault = fault
        for step in itertools.count(1):
            path = Path(shutil.copy(old, tmp_path / f"index{step}"))
            if not self.struck(open_stored, path, plan, step):
                break
            dumped = format_one.dump(path)
            assert before == dumped or dumped[0] > before[0]
            with closing(open_stored(path)) as engine:
                assert State({"": records}).listed() == observed(engine)
        assert step > 15

    def struck(self, open_path: Callable[[Path], EmbeddedEngine], path: Path, plan: StepPlan, step: int) -> bool:
        """Open and close an index with a fault at one step; return whether the fault has struck, and keep the error."""
        failure: type[BaseException] = KeyboardInterrupt if plan.fault is StepFault.CUT_OFF else ClientError
        self.error = None
        try:
            with plan.armed(step):
                open_path(path).close()
        except failure as error:
            assert plan.struck
            self.error = error
        return plan.struck
