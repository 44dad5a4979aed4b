"""The static dense model: the vector of a text is the mean of its tokens' vectors, scaled to length 1.

The table of vectors and the tokenizer are those of wordllama (`l2_supercat`, 256 dimensions, English) and are read from
its installed files. The package itself is not imported, because that configures the root logger and imports an HTTP
client.
"""

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nextk.engine.abandonment import require_wanted
from nextk.errors import MissingExtraError
from nextk.extras import require

__all__ = ["Static"]

DIMENSION = 256
MAX_TOKENS = 8_192
"""The number of tokens of a text that count; the rest is cut off. The longest of the hosted models reads as many."""
VERSION = 1
"""Raised whenever equal texts get other vectors than before."""
_MAX_CHARACTERS = 8 * MAX_TOKENS  # bounds the tokenizer's work; eight characters to a token is more than any prose has

_loading = Lock()


@dataclass(frozen=True, slots=True)
class Static:
    """A model of mean-pooled static vectors.

    The files of the model (16 MB, about 0.1 s) are loaded once per process, with the first text.
    """

    name: ClassVar[str] = "static"
    identity: ClassVar[str] = f"static(model='l2_supercat', dimensions={DIMENSION}, version={VERSION})"
    dimension: ClassVar[int] = DIMENSION

    def embed_documents(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed texts that are to be stored.

        Each row depends only on its own text, so a text always has the same vector to the last bit, whatever other
        texts are embedded with it.

        Returns:
            float32 (n, 256). Every row has length 1; the row of a text without tokens is zero.

        Raises:
            MissingExtraError: wordllama or one of its files is not installed.
        """
        vectors = np.zeros((len(texts), DIMENSION), dtype=np.float32)
        for row, text in enumerate(texts):
            require_wanted()
            vectors[row] = self.embed_query(text)
        return vectors

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Embed the text of a query exactly as `embed_documents` does. Returns float32 (256,).

        Raises:
            MissingExtraError: wordllama or one of its files is not installed.
        """
        table = _table()
        tokens = table.tokens(text)
        if not tokens:
            return np.zeros(DIMENSION, dtype=np.float32)
        # Without scaling, the means of short texts are longer, so dot products would favour them.
        total = table.vectors.take(tokens, axis=0).astype(np.float32).sum(axis=0)
        length = np.linalg.norm(total)
        return np.asarray(total / length if length else total, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class _Table:
    """A tokenizer and the vectors of its tokens, float16 (tokens, 256), as stored: to widen all of them costs more."""

    tokenizer: Any
    vectors: NDArray[np.float16]

    def tokens(self, text: str) -> list[int]:
        # Whitespace is collapsed: every newline and indent is a token of its own here and would dilute the mean.
        # A lone surrogate, which JSON can spell, has no UTF-8 form.
        words = " ".join(text[:_MAX_CHARACTERS].split()).encode(errors="replace").decode()
        # One text at a time: the tokenizer's batches use threads that complain on stderr after a fork.
        ids: list[int] = self.tokenizer.encode(words, add_special_tokens=False).ids
        return ids[:MAX_TOKENS]


def _table() -> _Table:
    with _loading:
        return _read_table()


@cache
def _read_table() -> _Table:
    spec = find_spec("wordllama")
    if spec is None or spec.origin is None:
        message = "wordllama is not installed. Run: pip install 'nextk[local]'"
        raise MissingExtraError(message, name="wordllama")
    folder = Path(spec.origin).parent
    tokenizer = folder / "tokenizers" / "l2_supercat_tokenizer_config.json"
    vectors = folder / "weights" / "l2_supercat_256.safetensors"
    for file in (tokenizer, vectors):
        if not file.is_file():
            message = f"wordllama is installed without {file.name}. Run: pip install --force-reinstall 'wordllama>=0.4'"
            raise MissingExtraError(message, name="wordllama")
    return _Table(
        require("tokenizers", extra="local").Tokenizer.from_file(str(tokenizer)),
        require("safetensors.numpy", extra="local").load_file(vectors)["embedding.weight"],
    )
