"""A search whose pages are requested by their numbers, over an index whose reads fail on demand."""

from collections.abc import Callable
from typing import Any

import pytest

from nextk.engine.values import Match
from nextk.errors import RefusedError
from tests.support.bare_engine import Rig

Scored = list[tuple[str, float]]

NAME = "0b54a7a2-6c5f-4b8e-9d0a-2f6f3c1e7d11"
"""A uuid that a client has made."""
KINDS = ["dense", "sparse", "global RRF", "batch RRF", "batch DBSF"]


class Searched:
    """An index with records "0", "1", ... in this order of relevance, whose reads fail on demand.

    Args:
        kind: One of `KINDS`.
        count: The number of records.
    """

    def __init__(self, kind: str, count: int = 30, **options: Any) -> None:
        order, _, algorithm = kind.partition(" ")
        self.type = order if order in ("dense", "sparse") else "hybrid"
        schema: dict[str, Any] = {} if self.type == "sparse" else {"dimension": 2}
        if algorithm:
            schema["fusion_order"] = order
        self.rig = Rig(self.type, **schema, **options)
        self.query: dict[str, Any] = {"filter": "group = 'red'", "fusionAlgorithm": algorithm or "RRF"}
        if self.type != "sparse":
            self.query["vector"] = [1.0, 0.0]
        if self.type != "dense":
            self.query["sparseVector"] = {"indices": [1], "values": [1.0]}
        self.fails = False
        self._load, self.rig.engine._storage.load = self.rig.engine._storage.load, self._failing  # type: ignore[method-assign, assignment]
        self.rig.upsert(*(self.record(number) for number in range(count)))

    def record(self, number: float, id_: str | None = None, group: str = "red") -> dict[str, Any]:
        """A record whose number says how little it matches."""
        record: dict[str, Any] = {"id": id_ or str(number), "metadata": {"group": group}}
        if self.type != "sparse":
            record["vector"] = [1.0, number]
        if self.type != "dense":
            record["sparseVector"] = {"indices": [1], "values": [99.0 - number]}
        return record

    def _failing(self, *arguments: Any) -> dict[int, Match]:
        if self.fails:
            raise OSError(5, "the disk is gone")
        return self._load(*arguments)

    def start(self, count: int = 2, name: str | None = NAME, **more: Any) -> tuple[str, Scored]:
        """Start the query with a uuid of the client."""
        return self.rig.start(uuid=name, **self.query | {"topK": count} | more)

    def page(self, number: int | None, count: int = 2, name: str = NAME) -> list[str]:
        """The ids of a page."""
        return ids(self.rig.fetch_next(name, count, number))


def refusal(request: Callable[..., object], *arguments: Any, **keywords: Any) -> tuple[int, str]:
    """The status and the text with which a request is refused."""
    with pytest.raises(RefusedError) as caught:
        request(*arguments, **keywords)
    return caught.value.status, str(caught.value)


def ids(page: Scored) -> list[str]:
    """The ids of a page."""
    return [id_ for id_, _ in page]
