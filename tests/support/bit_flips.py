"""Flips of single bits in the file of an index, and what they lead to."""

import contextlib
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nextk import Index
from nextk.engine.check import open_file
from nextk.errors import ClientError, RefusedError

NAMESPACES = ("", "de")
RECORDS = 30
"""The number of records in each namespace."""


def make(path: Path) -> None:
    """Make a hybrid index of two namespaces, whose records have metadata and texts, one of them of several pages."""
    chance = random.Random(7)  # noqa: S311 - no secret depends on it
    with Index.embedded(path, type="hybrid", dimension=4) as index:
        for namespace in NAMESPACES:
            records = []
            for number in range(RECORDS):
                vector = [chance.uniform(-1, 1) for _ in range(4)]
                sparse = (chance.sample(range(9), 3), [chance.uniform(0.1, 1) for _ in range(3)])
                metadata = {"n": number, "even": number % 2 == 0, "name": f"{namespace}{number}"}
                text = f"text {number} of {namespace!r} ☃ " * (400 if number == 3 else 4)
                records.append((f"{namespace}-{number}", vector, sparse, metadata, text))
            index.upsert(records, namespace)


EVERYTHING: dict[str, Any] = {"include_vectors": True, "include_metadata": True, "include_data": True}
DENSE: dict[str, Any] = {"vector": [0.3, -0.2, 0.5, 0.1], **EVERYTHING}
SPARSE: dict[str, Any] = {"sparse_vector": (list(range(9)), [1.0] * 9), **EVERYTHING}


def _pages(index: Index, namespace: str) -> Iterator[Any]:
    page, handle = index.resumable_query(top_k=17, namespace=namespace, **DENSE)
    with handle:
        while page:
            yield from page
            page = handle.fetch_next(17)


def _ranges(index: Index, namespace: str) -> Iterator[Any]:
    cursor = ""
    while True:
        page = index.range(cursor, 17, namespace=namespace, **EVERYTHING)
        yield from page.vectors
        cursor = page.next_cursor
        if not cursor:
            return


def _fetched(index: Index, namespace: str) -> Iterator[Any]:
    ids = [f"{namespace}-{number}" for number in range(RECORDS)]
    with contextlib.suppress(RefusedError):
        yield from filter(None, index.fetch(ids, namespace=namespace, **EVERYTHING))
        return
    for id_ in ids:
        try:
            yield from filter(None, index.fetch([id_], namespace=namespace, **EVERYTHING))
        except RefusedError as error:
            logging.getLogger("nextk.engine").error("%s", error)  # is noticed, as what is in the log


CALLS: Mapping[str, Callable[[Index, str], Iterable[Any]]] = {
    "dense": lambda index, namespace: index.query(top_k=1_000, namespace=namespace, **DENSE),
    "sparse": lambda index, namespace: index.query(top_k=1_000, namespace=namespace, **SPARSE),
    "filtered": lambda index, namespace: index.query(top_k=99, namespace=namespace, filter="even = true", **DENSE),
    "pages": _pages,
    "range": _ranges,
    "prefix": lambda index, namespace: index.fetch(prefix=f"{namespace}-1", namespace=namespace, **EVERYTHING),
    "fetch": _fetched,
}
"""Every way of being served. Each returns records or matches with all of their fields."""


def served(index: Index) -> Iterator[tuple[str, list[Any]]]:
    """Yield what each call serves from each namespace, by a name for the two; an empty list if it is refused."""
    yield "namespaces", index.list_namespaces()
    for namespace in NAMESPACES:
        for name, call in CALLS.items():
            try:
                found = list(call(index, namespace))
            except RefusedError as error:
                logging.getLogger("nextk.engine").error("%s", error)
                found = []
            yield f"{name} {namespace!r}", found


@dataclass
class Outcome:
    """The outcome of a flip.

    Attributes:
        refused: Why the whole file was refused; `""` if it was not.
        wrong: What was served and is not the truth.
        missing: What was not served.
        noticed: What the log and the refusals said.
        reported: What `nextk check` found.
    """

    refused: str = ""
    wrong: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    noticed: list[str] = field(default_factory=list)
    reported: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """Return the outcome in two words."""
        if self.wrong:
            return "wrong"
        if self.refused:
            return "refused whole"
        if self.missing:
            return "left out, noticed" if self.noticed else "left out, silently"
        return "noticed only" if self.noticed else "no effect"


def observe(path: Path, truth: Mapping[str, Sequence[Any]]) -> Outcome:
    """Open a file, ask for everything in every way, and compare it with the truth."""
    outcome = Outcome()
    with log_of_errors(outcome.noticed):
        try:
            with Index.embedded(path) as index:
                for name, found in served(index):
                    ids = {getattr(each, "id", each) for each in found}
                    outcome.missing += [f"{name}: {each}" for each in truth[name] if each not in found]
                    outcome.wrong += [f"{name}: {each}" for each in found if each not in truth[name]]
                    outcome.wrong += [f"{name}: an id twice"] * (len(ids) < len(found))
        except ClientError as error:
            outcome.refused = str(error)
    return outcome


def report(path: Path) -> list[str]:
    """Return what the check of a file finds; nothing if it finds it whole."""
    try:
        with open_file(path) as file:
            result = file.check()
            return [*result.problems, *(f"{name}: {ids}" for name, ids in result.damaged.items())]
    except ClientError as error:
        return [str(error)]


@contextlib.contextmanager
def log_of_errors(messages: list[str]) -> Iterator[None]:
    """Collect the errors that the engine logs."""
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("nextk.engine")
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.propagate = True
        log.removeHandler(handler)
