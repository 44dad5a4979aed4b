"""A sparse model with the term weights of BM25, in place of the hosted service's model, which is not published.

A text is cut into words, and into the characters and bigrams of scripts that write no blanks between words
(`nextk.engine.text.words`). English stop words are removed, and English endings are cut off, which no word in other
letters has. What remains, a term, is hashed to a dimension. The weight of a term that occurs `f` times in a document of
`length` terms is

    f * (K1 + 1) / (f + K1 * (1 - B + B * length / AVERAGE_LENGTH))

and the weight of each distinct term of a query is 1. Inverse document frequency is not included; a query requests it by
`WeightingStrategy.IDF`. The formula and its constants are those of the hosted service. Words, stems and dimensions are
not, so these vectors must not be mixed with vectors that the service has made.

The bigrams of a document are not part of its `length`, because they overlap with its characters: counted twice, a text
without blanks would seem twice as long as it is. A sentence has then about as many characters as `AVERAGE_LENGTH`.

An identifier counts both as a whole and by its parts: `get_close_matches` is found by "close matches", and
`TextWrapper` by "wrapper". Dots always separate words.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import ClassVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from nextk.bodies import MAX_NON_ZEROS
from nextk.engine.abandonment import require_wanted
from nextk.engine.text.words import FORMER_RULE, RULE, WordRule
from nextk.engine.values import SparseArrays
from nextk.extras import require

__all__ = ["BM25", "FORMER"]

K1 = 1.2
B = 0.75
AVERAGE_LENGTH = 32
VERSION = 2
"""Raised whenever equal texts get other terms or weights than before."""

# The usual short list for English indexes, then the words that make a phrase a question, then the rest of contractions.
_STOP_WORDS = """
a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to was
will with
am been being can could did do does from had has have he her him his how i its me my our she should so than them us we
were what when where which who whom whose why would you your
s t
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

_SEAM = re.compile(r"_+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class BM25:
    """A BM25 model with K1 = 1.2, B = 0.75 and a fixed average length of 32 terms.

    Attributes:
        identity: The text that an index stores to say which rule its vectors were made by.
        rule: The rule by which texts are cut into words.
    """

    name: ClassVar[str] = "bm25"
    identity: str = f"bm25-{VERSION}"
    rule: WordRule = RULE

    def embed_documents(self, texts: list[str]) -> list[SparseArrays]:
        """Embed texts that are to be stored, by the weights of their terms.

        Returns:
            One sparse vector for each text, its indices ascending. Only the 1,000 heaviest terms count. Of equally
            heavy terms, words come first, then characters, then bigrams, and the earlier one of a kind. A text without
            terms has no entries.

        Raises:
            MissingExtraError: snowballstemmer is not installed.
        """
        return [self._document(text) for text in texts]

    def embed_query(self, text: str) -> SparseArrays:
        """Embed the text of a query: each distinct term has the weight 1. Only the first 1,000 terms count.

        Raises:
            MissingExtraError: snowballstemmer is not installed.
        """
        terms, _ = self._terms(text)
        return _heaviest(terms, np.ones(len(terms)))

    def _document(self, text: str) -> SparseArrays:
        require_wanted()
        terms, length = self._terms(text)
        frequency = np.fromiter(terms.values(), dtype=np.float64, count=len(terms))
        return _heaviest(terms, frequency * (K1 + 1) / (frequency + K1 * (1 - B + B * length / AVERAGE_LENGTH)))

    def _terms(self, text: str) -> tuple[Counter[int], int]:
        """Count the terms of a text by their dimension: words, characters and bigrams, each in the order of the text.

        Returns:
            The counts, and the length of the text, which is the number of its terms without the bigrams.
        """
        pieces, fold = self.rule.cut(text), self.rule.fold
        terms = Counter(chain.from_iterable(_dimensions(word, fold) for word in pieces.words))
        terms.update(map(_dimension, pieces.characters))
        length = terms.total()
        terms.update(map(_dimension, pieces.bigrams))
        return terms, length


FORMER = BM25("bm25(k1=1.2, b=0.75, average_length=32, version=1)", FORMER_RULE)
"""The model of version 1, for the indexes that were made by it. Its documents and queries fit no others."""


def _heaviest(terms: Counter[int], weights: NDArray[np.float64]) -> SparseArrays:
    indices = np.fromiter(terms, dtype=np.int32, count=len(terms))
    if len(indices) > MAX_NON_ZEROS:
        kept = np.argsort(-weights, kind="stable")[:MAX_NON_ZEROS]
        indices, weights = indices[kept], weights[kept]
    ascending = np.argsort(indices)
    return SparseArrays(indices[ascending], weights[ascending].astype(np.float32))


@lru_cache(maxsize=65_536)
def _dimensions(word: str, fold: Callable[[str], str]) -> tuple[int, ...]:
    """Return the dimensions of a word, and of its parts if it is an identifier. A stop word has none.

    Stems that share a dimension count as one term.

    Args:
        word: The word as it is written.
        fold: Returns the form of a word that equal words share.
    """
    parts = [part for part in _SEAM.split(word) if any(map(str.isalnum, part))]
    names = [*parts, word.strip("_")] if len(parts) > 1 else parts
    return tuple(_dimension(_stem(name)) for name in map(fold, names) if name not in STOP_WORDS)


def _dimension(term: str) -> int:
    """Return the dimension of a term: its CRC-32 without the top bit, which fits an int32.

    Unlike `hash` it gives the same result in every process and in every version of Python.
    """
    return crc32(term.encode()) & 0x7FFFFFFF


def _stem(word: str) -> str:
    # A stemmer keeps its word in itself, so threads must not share one. The class is named because
    # `snowballstemmer.stemmer` may give another implementation, with other stems.
    stemmer = require("snowballstemmer.english_stemmer", extra="local").EnglishStemmer()
    return str(stemmer.stemWord(word))
