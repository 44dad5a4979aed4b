"""The clients of the load. Each does its work again and again, and checks all that it is answered."""

import random
from collections.abc import Sequence
from typing import Any

from tests.benchmarks.load.connection import Connection
from tests.benchmarks.load.indexes import WRITTEN, Search, unit_vectors
from tests.benchmarks.load.timings import Timings

PAGES = (5, 10, 10, 20, 50)
"""The sizes of pages, drawn at random."""
ROWS_WRITTEN, KEPT = 20, 200
"""The number of records of one upsert, and of those that a writer leaves in the index."""


class Searcher:
    """A client that searches; the base of those below.

    Args:
        connection: The connection of the client.
        searches: The searches to choose from.
        timings: The place for faults.
        seed: The seed of the choices.
    """

    def __init__(self, connection: Connection, searches: Sequence[Search], timings: Timings, seed: int) -> None:
        self._connection = connection
        self._searches = searches
        self._timings = timings
        self._chance = random.Random(seed)  # noqa: S311 - choices, no secrets

    def _draw(self) -> tuple[Search, dict[str, Any]]:
        """Return a search, and the body of a request for its first page."""
        search = self._chance.choice(self._searches)
        return search, search.body | {"topK": self._chance.choice(PAGES)}


class Reader(Searcher):
    """Reads searches page by page, with a random number of pages, and stops them."""

    async def work(self) -> None:
        """Open a search, read up to eight further pages, check the ids, and stop."""
        search, body = self._draw()
        at = f"indexes/{search.index}/"
        started = await self._connection.call(f"start {search.kind}", f"{at}resumable-{search.command}", body)
        if started is None:
            return
        ids = _ids(started["scores"])
        for _ in range(self._chance.randint(0, 8)):
            page = {"uuid": started["uuid"], "additionalK": self._chance.choice(PAGES)}
            found = await self._connection.call(f"next {search.kind}", f"{at}resumable-query-next", page)
            if found is None:
                break
            ids += _ids(found)
        await self._connection.call("stop", f"{at}resumable-query-end", {"uuid": started["uuid"]})
        check(search, ids, self._timings)


class Asker(Searcher):
    """Sends plain queries."""

    async def work(self) -> None:
        """Send one query, and check the ids."""
        search, body = self._draw()
        found = await self._connection.call(f"query {search.kind}", f"indexes/{search.index}/{search.command}", body)
        if found is not None:
            check(search, _ids(found), self._timings)


class Writer:
    """Upserts records of its own, changes and deletes them, and reads back what was acknowledged.

    Args:
        connection: The connection of the client.
        timings: The place for faults.
        seed: The seed of the vectors and choices; the ids of the records begin with it.
    """

    def __init__(self, connection: Connection, timings: Timings, seed: int) -> None:
        self._connection = connection
        self._timings = timings
        self._chance = random.Random(seed)  # noqa: S311 - choices, no secrets
        self._vectors = unit_vectors(ROWS_WRITTEN, seed).tolist()
        self._name = f"{WRITTEN}{seed}-"
        self._count = 0
        self._values: dict[str, int] = {}
        """The value that was acknowledged last, by the id of each record."""

    async def work(self) -> None:
        """Upsert records, some of them anew, delete the oldest ones, and read some back."""
        await self._upsert()
        if len(self._values) > KEPT:
            old = list(self._values)[:ROWS_WRITTEN]
            if await self._connection.call("delete", "indexes/vectors/delete", {"ids": old}) is not None:
                for id_ in old:
                    del self._values[id_]
        await self.check(self._chance.sample(sorted(self._values), min(10, len(self._values))))

    async def check(self, ids: Sequence[str] | None = None) -> None:
        """Compare records with what was acknowledged; without ids, all of them, and that no other ones are left."""
        wanted = list(self._values) if ids is None else ids
        body = {"ids": wanted, "includeMetadata": True}
        found = await self._connection.call("fetch", "indexes/vectors/fetch", body) if wanted else []
        for id_, record in zip(wanted, found or (), strict=False):
            if record is None or record["metadata"]["value"] != self._values[id_]:
                self._timings.faults.append(f"lost write: {id_} has to be {self._values[id_]}, is {record}")
        if ids is None:
            await self._check_prefix()

    async def _upsert(self) -> None:
        values: dict[str, int] = {}
        for _ in range(ROWS_WRITTEN):
            self._count += 1
            known = self._values and self._chance.random() < 0.2
            values[self._chance.choice(list(self._values)) if known else f"{self._name}{self._count}"] = self._count
        records = [
            {"id": id_, "vector": vector, "metadata": {"value": value}}
            for (id_, value), vector in zip(values.items(), self._vectors, strict=False)
        ]
        if await self._connection.call("upsert", "indexes/vectors/upsert", records) is not None:
            self._values |= values

    async def _check_prefix(self) -> None:
        body = {"cursor": "0", "limit": 1_000, "prefix": self._name}
        page = await self._connection.call("range", "indexes/vectors/range", body)
        stored = {record["id"] for record in page["vectors"]} if page else set()
        for id_ in stored ^ self._values.keys():
            self._timings.faults.append(f"{id_} is {'stored' if id_ in stored else 'lost'} against what was said")


def check(search: Search, ids: Sequence[str], timings: Timings) -> None:
    """Hold the ids that a search has brought to those that it has to bring; those of writers may come in between."""
    fixed = [id_ for id_ in ids if not id_.startswith(WRITTEN)]
    expected = search.ids[: len(fixed)]
    if len(set(ids)) < len(ids):
        timings.faults.append(f"{search.kind}: an id has come twice")
    elif fixed != expected:
        missing = [id_ for id_ in expected if id_ not in fixed]
        what = f"{len(missing)} of {len(expected)} ids are missing" if missing else "the ids are in another order"
        timings.faults.append(f"{search.kind}: {what}")


def _ids(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]
