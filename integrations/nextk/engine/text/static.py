"""The static dense model: a text's vector is the mean of its tokens' vectors, of length 1.

Table and tokenizer are those of wordllama (`l2_supercat`, 256 dimensions, English), read from its installed files. The
package itself is not imported: doing so configures the root logger and brings in an HTTP client.
"""

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nextk.errors import MissingExtraError
from nextk.extras import require

__all__ = ["Static"]

DIMENSION = 256
MAX_TOKENS = 8_192
"""The most tokens of a text that count, as many as the longest of the hosted models reads; the rest is cut off."""
_MAX_CHARACTERS = 8 * MAX_TOKENS  # bounds the tokenizer's work; eight characters to a token is more than any prose has

_loading = Lock()


@dataclass(frozen=True, slots=True)
class Static:
    """Mean-pooled static vectors. Loads its files (16 MB, about 0.1 s) once per process, at the first text."""

    name: ClassVar[str] = "static"
    dimension: ClassVar[int] = DIMENSION

    def embed_documents(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed texts.

        Each row depends on its own text alone, so the same text has the same vector to the last bit in any company.

        Returns:
            float32 (n, 256), rows of length 1; zeros for a text without tokens.

        Raises:
            MissingExtraError: wordllama is not installed, or its files are not.
        """
        vectors = np.zeros((len(texts), DIMENSION), dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[row] = self.embed_query(text)
        return vectors

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Embed one text, exactly as `embed_documents` does: float32 (256,).

        Raises:
            MissingExtraError: wordllama is not installed, or its files are not.
        """
        table = _table()
        tokens = table.tokens(text)
        if not tokens:
            return np.zeros(DIMENSION, dtype=np.float32)
        # Unnormalised means are the longer the shorter the text, which would let dot products favour short texts.
        total = table.vectors.take(tokens, axis=0).astype(np.float32).sum(axis=0)
        length = np.linalg.norm(total)
        return np.asarray(total / length if length else total, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class _Table:
    """A tokenizer and its vectors, float16 (tokens, 256): as stored, because widening all of them costs more."""

    tokenizer: Any
    vectors: NDArray[np.float16]

    def tokens(self, text: str) -> list[int]:
        # Blanks are collapsed: every newline and indent is a token of its own here and would dilute the mean.
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
