"""BM25's term weights as sparse vectors: nextk's stand-in for the service's undisclosed model.

A text becomes lower-case words without English stop words; a word's stem is hashed to its dimension. A document's
weight of a term that occurs `f` times among `length` terms is

    f * (K1 + 1) / (f + K1 * (1 - B + B * length / AVERAGE_LENGTH))

and a query's is 1 for each distinct term. IDF is not in here; a query asks for it (`WeightingStrategy.IDF`). The
formula and its constants are the service's; words, stems and dimensions are not, so vectors must not be mixed with
those that the service made.

An identifier counts as a whole and by its parts: `get_close_matches` is found by "close matches", `TextWrapper` by
"wrapper", and dots separate words anyway.
"""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import ClassVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from nextk.bodies import MAX_NON_ZEROS
from nextk.engine.values import SparseArrays
from nextk.extras import require

__all__ = ["BM25"]

K1 = 1.2
B = 0.75
AVERAGE_LENGTH = 32

# The usual short list for English indexes; then what turns a phrase into a question; then what an apostrophe leaves.
_STOP_WORDS = """
a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to was
will with
am been being can could did do does from had has have he her him his how i its me my our she should so than them us we
were what when where which who whom whose why would you your
s t
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

_WORD = re.compile(r"\w{1,64}")  # bounded: what is longer is no word, and would fill the cache
_SEAM = re.compile(r"_+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class BM25:
    """BM25 with K1 1.2, B 0.75 and a fixed average length of 32 terms, for English."""

    name: ClassVar[str] = "bm25"

    def embed_documents(self, texts: list[str]) -> list[SparseArrays]:
        """Weigh the terms of each text.

        Returns:
            One sparse vector per text, its indices ascending. The 1,000 heaviest terms count, the earlier of two equal
            ones; a text without terms has no entries.

        Raises:
            MissingExtraError: snowballstemmer is not installed.
        """
        return [_document(text) for text in texts]

    def embed_query(self, text: str) -> SparseArrays:
        """Give each distinct term of a question the weight 1. The first 1,000 count.

        Raises:
            MissingExtraError: snowballstemmer is not installed.
        """
        terms = _terms(text)
        return _heaviest(terms, np.ones(len(terms)))


def _document(text: str) -> SparseArrays:
    terms = _terms(text)
    length = terms.total()
    frequency = np.fromiter(terms.values(), dtype=np.float64, count=len(terms))
    return _heaviest(terms, frequency * (K1 + 1) / (frequency + K1 * (1 - B + B * length / AVERAGE_LENGTH)))


def _heaviest(terms: Counter[int], weights: NDArray[np.float64]) -> SparseArrays:
    indices = np.fromiter(terms, dtype=np.int32, count=len(terms))
    if len(indices) > MAX_NON_ZEROS:
        kept = np.argsort(-weights, kind="stable")[:MAX_NON_ZEROS]
        indices, weights = indices[kept], weights[kept]
    ascending = np.argsort(indices)
    return SparseArrays(indices[ascending], weights[ascending].astype(np.float32))


def _terms(text: str) -> Counter[int]:
    """Count the terms, by dimension, in the order of their first occurrence."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text))
    return Counter(chain.from_iterable(map(_dimensions, words)))


@lru_cache(maxsize=65_536)
def _dimensions(word: str) -> tuple[int, ...]:
    """The dimensions of what a word says: itself, and its parts if it is an identifier; none for a stop word.

    CRC-32 is the same in every process and version of Python, as `hash` is not. Without its top bit it is an int32.
    Stems that share a dimension are one term.
    """
    parts = [part for part in _SEAM.split(word) if part]
    names = [*parts, word.strip("_")] if len(parts) > 1 else parts
    return tuple(crc32(_stem(name).encode()) & 0x7FFFFFFF for name in map(str.lower, names) if name not in STOP_WORDS)


def _stem(word: str) -> str:
    # A stemmer keeps its word in itself, so threads must not share one. The class is named because
    # `snowballstemmer.stemmer` may give another implementation, with other stems.
    stemmer = require("snowballstemmer.english_stemmer", extra="local").EnglishStemmer()
    return str(stemmer.stemWord(word))
