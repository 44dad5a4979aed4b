"""The two indexes of the load, and what each search of them has to bring."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nextk import Index
from nextk.cli.corpus import standard_library
from nextk.cli.writing import MODELS, fill

VECTORS, DIMENSION, GROUPS = 20_000, 384, 20
QUESTIONS = 40
WRITTEN = "written-"
"""How the ids of the records begin that clients write."""


@dataclass(frozen=True, slots=True)
class Search:
    """One search, and the ids that it has to bring.

    Attributes:
        index: The name of the index.
        kind: The kind of search, for the report.
        command: The command that starts it, without `resumable-`.
        body: The body of the request, without `topK`.
        ids: The ids of all records that pass, nearest first, of those that no client writes.
    """

    index: str
    kind: str
    command: str
    body: dict[str, Any]
    ids: list[str]


def unit_vectors(count: int, seed: int) -> NDArray[np.float32]:
    """Return random vectors of length 1, float32 (count, `DIMENSION`)."""
    found = np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def build(folder: Path) -> list[Search]:
    """Write the indexes into a folder, and return the searches with the ids that they have to bring.

    Dense searches are held to float64 products of all vectors, rounded to float32 as scores are. Hybrid ones are held
    to a search of all records that is read before: nobody writes to their index during the load.
    """
    return [*_build_vectors(folder / "vectors.nextk"), *_build_texts(folder / "texts.nextk")]


def _build_vectors(path: Path) -> list[Search]:
    rows, questions = unit_vectors(VECTORS, 1), unit_vectors(QUESTIONS, 2)
    with Index.embedded(path, type="dense", dimension=DIMENSION, similarity="cosine") as index:
        for first in range(0, VECTORS, 1_000):
            index.upsert([(f"v{n}", rows[n], {"group": n % GROUPS}) for n in range(first, first + 1_000)])
    searches = []
    exact = rows.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    for number, question in enumerate(questions):
        scores = (1 + exact @ (question / np.linalg.norm(question.astype(np.float64)))) / 2
        order = np.argsort(-scores.astype(np.float32), kind="stable")
        body: dict[str, Any] = {"vector": question.tolist(), "includeMetadata": True}
        if number % 4 == 0:
            group = number % GROUPS
            order = order[order % GROUPS == group]
            searches.append(
                Search("vectors", "dense, filtered", "query", body | {"filter": f"group = {group}"}, _ids(order))
            )
        else:
            searches.append(Search("vectors", "dense", "query", body, _ids(order)))
    return searches


def _ids(order: NDArray[np.int64]) -> list[str]:
    return [f"v{n}" for n in order.tolist()]


def _build_texts(path: Path) -> list[Search]:
    passages = list(standard_library())
    with Index.embedded(path, **MODELS) as index:
        fill(index, passages)
        searches = []
        for number, passage in enumerate(passages[:: len(passages) // QUESTIONS][:QUESTIONS]):
            body: dict[str, Any] = {"data": passage.title, "includeMetadata": True, "includeData": True}
            kind = "hybrid"
            if number % 4 == 0:
                kind, body["filter"] = "hybrid, filtered", "title GLOB '*a*'"
            found, handle = index.resumable_query(data=passage.title, top_k=1_000, filter=body.get("filter", ""))
            with handle:
                ids = [match.id for match in found]
                while page := handle.fetch_next(1_000):
                    ids += [match.id for match in page]
            searches.append(Search("texts", kind, "query-data", body, ids))
    return searches
