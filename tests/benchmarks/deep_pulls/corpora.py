"""The rows that are searched: clustered vectors, or real texts with the vectors that the models of nextk give them."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nextk.cli.corpus import read_folder, standard_library
from nextk.engine.text import dense_model, sparse_model
from nextk.types import SparseVector

_CLUSTERS, _LATENT = 2_000, 32
_VOCABULARY, _TERMS, _QUESTION_TERMS = 30_000, 20, 4
_SENTENCE = re.compile(r"(?<=[.!?])\s+")

PARTS = 1_000
"""The rows are dealt into this many parts at random, by which filters select."""


@dataclass(frozen=True)
class Question:
    """A query by vectors: a dense one, float32 (d,), of length 1, and a sparse one."""

    vector: NDArray[np.float32]
    sparse: SparseVector


@dataclass(frozen=True)
class Corpus:
    """Rows, which are numbered from 0, and questions about them.

    Attributes:
        name: What the report calls it.
        vectors: The dense vectors, of length 1; float32 (n, d).
        sparse: The sparse vector of each row.
        parts: The part of each row, int64 (n,), less than `PARTS`.
        questions: The questions.
    """

    name: str
    vectors: NDArray[np.float32]
    sparse: list[SparseVector]
    parts: NDArray[np.int64]
    questions: list[Question]

    def __len__(self) -> int:
        return len(self.vectors)


def clustered(rows: int, dimension: int, questions: int) -> Corpus:
    """Return rows around 2,000 centres in a space of 32 dimensions, with noise in all dimensions.

    The terms of the sparse vectors are as frequent as words are: the k-th term is k times rarer than the first.
    """
    random = np.random.default_rng(0)
    centres = random.standard_normal((_CLUSTERS, _LATENT), np.float32)
    turn = random.standard_normal((_LATENT, dimension), np.float32) / np.sqrt(np.float32(_LATENT))
    count = rows + questions
    vectors = np.empty((count, dimension), np.float32)
    for start in range(0, count, 50_000):
        size = min(50_000, count - start)
        latent = centres[random.integers(_CLUSTERS, size=size)]
        latent += np.float32(0.5) * random.standard_normal((size, _LATENT), np.float32)
        vectors[start : start + size] = latent @ turn
        vectors[start : start + size] += np.float32(0.2) * random.standard_normal((size, dimension), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    sizes = [_TERMS] * rows + [_QUESTION_TERMS] * questions
    sparse = [_terms(random, size) for size in sizes]
    asked = [Question(*pair) for pair in zip(vectors[rows:], sparse[rows:], strict=True)]
    parts = random.integers(PARTS, size=rows)
    return Corpus(f"clustered {rows:,} x {dimension}", vectors[:rows], sparse[:rows], parts, asked)


def _terms(random: np.random.Generator, count: int) -> SparseVector:
    ranks = np.unique((_VOCABULARY ** random.random(count)).astype(np.int64))
    return SparseVector(ranks.tolist(), (0.5 + random.random(len(ranks))).astype(np.float32).tolist())


def texts(rows: int, questions: int) -> Corpus:
    """Return sentences with the vectors of the static model of nextk, and others as questions."""
    found = list(islice(dict.fromkeys(sentences()), rows + questions))
    np.random.default_rng(0).shuffle(found)
    dense = dense_model("static")
    assert dense is not None
    vectors = dense.embed_documents(found).astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return of_texts("sentences by a static model", found, vectors, questions)


def of_texts(name: str, found: list[str], vectors: NDArray[np.float32], questions: int) -> Corpus:
    """Return texts and their vectors as a corpus, the last of them as questions.

    Args:
        name: What the texts are, for the report.
        found: The texts.
        vectors: The dense vector of each, of length 1; float32 (n, d).
        questions: The number of questions.
    """
    sparse = sparse_model("bm25")
    assert sparse is not None
    rows = len(found) - questions
    arrays = [*sparse.embed_documents(found[:rows]), *(sparse.embed_query(text) for text in found[rows:])]
    words = [SparseVector(array.indices.tolist(), array.values.tolist()) for array in arrays]
    asked = [Question(*pair) for pair in zip(vectors[rows:], words[rows:], strict=True)]
    parts = np.random.default_rng(0).integers(PARTS, size=rows)
    return Corpus(f"{name} {rows:,} x {vectors.shape[1]}", vectors[:rows], words[:rows], parts, asked)


def sentences() -> Iterator[str]:
    """Yield the sentences of the documentation of Python and its installed packages."""
    folders = [Path(each) for each in sys.path if each.endswith(("site-packages", "dist-packages"))]
    passages = (passage for folder in folders if folder.is_dir() for passage in read_folder(folder))
    for source in (standard_library(), passages):
        for passage in source:
            for sentence in _SENTENCE.split(passage.text.partition("\n\n")[2]):
                text = " ".join(sentence.split())
                if 30 <= len(text) <= 300:
                    yield text
