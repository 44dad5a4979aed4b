"""Everything that an index holds, and what every kind of write makes of it, computed with dictionaries alone."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from nextk.bodies import Delete, Range, Record, TextRecord, Update, VectorQuery
from nextk.engine.engine import EmbeddedEngine
from nextk.engine.factory import open_engine
from nextk.engine.schema import IndexWeighting
from nextk.engine.values import Match
from tests.support.engine_oracle import cosine, float32

QUERY = [3.0, 4.0]


@dataclass(frozen=True)
class Stored:
    """A record: its vector, its metadata and its text."""

    vector: tuple[float, ...]
    metadata: Any = None
    data: str | None = None


Namespaces: TypeAlias = dict[str, dict[str, Stored]]
"""The records by namespace and id, in the order of their first insertion."""


@dataclass
class State:
    """Everything that an index holds.

    Attributes:
        namespaces: Its records.
        weighting: Its weighting, which an opening may decide.
    """

    namespaces: Namespaces
    weighting: IndexWeighting | None = None

    def listed(self) -> list[Any]:
        """Return the state as a list, in which order counts, with what a search finds."""
        listed: list[Any] = [self.weighting]
        for name, records in self.namespaces.items():
            found = {
                id_: (float32(cosine(QUERY, each.vector)), each.metadata, each.data) for id_, each in records.items()
            }
            listed.append((name, list(records.items()), len(records), found))
        return listed


def embed(texts: Sequence[str]) -> list[list[float]]:
    """A text model that counts characters."""
    return [[float(len(text)), 1.0] for text in texts]


def opened(path: Path) -> EmbeddedEngine:
    """Open the engine of an index of two dimensions that embeds texts, or make it."""
    engine = open_engine(path, {"type": "dense", "dimension": 2, "embedding": embed})
    assert isinstance(engine, EmbeddedEngine)
    return engine


def open_stored(path: Path) -> EmbeddedEngine:
    """Open the engine of an index that exists, and has no model of its own."""
    engine = open_engine(path, {})
    assert isinstance(engine, EmbeddedEngine)
    return engine


def observed(engine: EmbeddedEngine) -> list[Any]:
    """Read everything that an engine holds, as `State.listed` lists it.

    A range reads the records from the file; a search delivers those that it has in memory.
    """
    listed: list[Any] = [engine.schema.weighting]
    texts = {"includeMetadata": True, "includeData": True}
    everything = {"limit": 1_000, "includeVectors": True, **texts}
    for name in engine.list_namespaces():
        records = []
        for match in engine.range(name, Range.model_validate(everything)).matches:
            assert match.vector is not None
            records.append((match.id, Stored(tuple(match.vector.tolist()), _metadata(match), match.data)))
        matches = engine.query(name, VectorQuery.model_validate({"vector": QUERY, "topK": 1_000, **texts}))
        found = {match.id: (float(match.score or 0), _metadata(match), match.data) for match in matches}
        listed.append((name, records, engine.stats().counts[name], found))
    return listed


def _metadata(match: Match) -> Any:
    return None if match.metadata is None else json.loads(match.metadata)


@dataclass(frozen=True)
class Write:
    """A write.

    Attributes:
        run: Does it.
        apply: Changes a state as the write does.
    """

    run: Callable[[EmbeddedEngine], object]
    apply: Callable[[State], None]

    def after(self, before: State) -> State:
        """Return the state after the write."""
        state = copy.deepcopy(before)
        self.apply(state)
        return state


def _upsert(namespace: str, records: Mapping[str, Stored]) -> Write:
    bodies = [
        Record.model_validate({"id": id_, "vector": list(each.vector), "metadata": each.metadata, "data": each.data})
        for id_, each in records.items()
    ]
    return Write(
        lambda engine: engine.upsert(namespace, bodies),
        lambda state: state.namespaces.setdefault(namespace, {}).update(records),
    )


def _texts(namespace: str, texts: Mapping[str, str]) -> Write:
    bodies = [TextRecord.model_validate({"id": id_, "data": text}) for id_, text in texts.items()]
    stored = {id_: Stored(tuple(embed([text])[0]), None, text) for id_, text in texts.items()}
    return Write(
        lambda engine: engine.upsert_data(namespace, bodies),
        lambda state: state.namespaces.setdefault(namespace, {}).update(stored),
    )


def _update(id_: str, **fields: Any) -> Write:
    changes: dict[str, Any] = {name: tuple(value) if name == "vector" else value for name, value in fields.items()}

    def apply(state: State) -> None:
        state.namespaces[""][id_] = replace(state.namespaces[""][id_], **changes)

    body = Update.model_validate({"id": id_, **fields})
    return Write(lambda engine: engine.update("", body), apply)


def _delete(deleted: Sequence[str], **selection: Any) -> Write:
    def apply(state: State) -> None:
        for id_ in deleted:
            del state.namespaces[""][id_]

    return Write(lambda engine: engine.delete("", Delete.model_validate(selection)), apply)


def _reset(*names: str, all: bool = False) -> Write:
    def apply(state: State) -> None:
        for name in names:
            state.namespaces[name] = {}

    return Write(lambda engine: engine.reset(None if all else names[0]), apply)


def _rename(old: str, new: str) -> Write:
    def apply(state: State) -> None:
        kept = {name: records for name, records in state.namespaces.items() if name != new}
        state.namespaces = {new if name == old else name: records for name, records in kept.items()}

    return Write(lambda engine: engine.rename_namespace(old, new, replace=True), apply)


def _drop(name: str) -> Write:
    return Write(lambda engine: engine.delete_namespace(name), lambda state: state.namespaces.__delitem__(name))


def _weigh() -> Write:
    def apply(state: State) -> None:
        state.weighting = IndexWeighting.NONE

    return Write(lambda engine: engine.complete_schema(lambda schema: schema.with_weighting("none")), apply)


_LONG = "long " * 2_000

START = State(
    {
        "": {
            "a1": Stored((1.0, 0.0), {"n": 1}, "first"),
            "a2": Stored((0.0, 1.0), {"n": 2}, _LONG),
            "b": Stored((1.0, 1.0), {"n": 3}),
        },
        "one": {"a1": Stored((2.0, 1.0))},
        "two": {"c": Stored((-1.0, 1.0), {}), "d": Stored((1.0, -2.0), None, _LONG)},
    }
)
"""The state of an index before the writes."""

PREPARATION = [_upsert(name, records) for name, records in START.namespaces.items()]
"""The writes that bring a new index into that state."""

WRITES: Mapping[str, Write] = {
    "new": _upsert("", {"n1": Stored((5.0, 1.0), {"n": 4}, "new"), "n2": Stored((1.0, 5.0))}),
    "replaced": _upsert("one", {"a1": Stored((0.5, 0.5), {"n": 5}, _LONG)}),
    "both": _upsert("", {"a1": Stored((7.0, 1.0)), "n3": Stored((1.0, 7.0), {"n": 6}, _LONG), "b": Stored((9.0, 9.0))}),
    "namespace": _upsert("three", {"e": Stored((1.0, 3.0), {"n": 7})}),
    "texts": _texts("", {"b": "replaced", "t": "new text"}),
    "fields": _update("a1", vector=[4.0, 1.0], metadata={"n": 8}),
    "text": _update("a2", data="short", vector=[4.0, 2.0]),
    "ids": _delete(["a1", "b"], ids=["a1", "b", "absent"]),
    "prefix": _delete(["a1", "a2"], prefix="a"),
    "filter": _delete(["a2", "b"], filter="n >= 2 AND n <= 3"),
    "reset": _reset("two"),
    "reset all": _reset("", "one", "two", all=True),
    "rename": _rename("one", "four"),
    "replace": _rename("one", "two"),
    "drop": _drop("two"),
    "schema": _weigh(),
}
"""Every kind of write, each of which changes the state above."""
