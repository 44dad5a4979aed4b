"""Hybrid searches beside the searches by either component, with a pool and in exact order, in one run.

Run by hand from the repository: `python -m tests.benchmarks.deep_pulls.hybrid --rows 100000`. P1 is a page of ten rows
and nine more, P2 a page of ten and nine of a hundred. Recall is that of the exact order of the same mode. The figures
are medians of CPU time through the client; ratios within one run are what to look at.
"""

import argparse
import tempfile
from pathlib import Path

from tests.benchmarks.deep_pulls import corpora
from tests.benchmarks.deep_pulls.embedded import MODES, EmbeddedIndex
from tests.benchmarks.deep_pulls.measuring import PATTERNS, Case, compare


def measure(corpus: corpora.Corpus, index: EmbeddedIndex) -> dict[str, dict[str, dict[str, float]]]:
    """Return the figures of every mode, with a pool and without, by pattern and by the name of the mode."""
    figures = {}
    for pattern, sizes in PATTERNS.items():
        truth = {mode: [index.best(mode, question, sum(sizes)) for question in corpus.questions] for mode in MODES}
        cases = [
            Case(index.way(mode, name=f"{mode}{', exact' * exact}", exact=exact), truth[mode])
            for exact in (False, True)
            for mode in MODES
        ]
        figures[pattern] = compare(cases, corpus.questions, sizes)
    return figures


def print_figures(figures: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print the CPU times and recalls, and the ratios of first pages."""
    print(f"{'CPU ms':24}{'first':>8}{'P1':>8}{'P2':>8}{'recall P1, worst':>20}{'recall P2, worst':>20}{'twice':>7}")
    early, deep = figures["P1"], figures["P2"]
    for name, way in early.items():
        recalls = (f"{each['recall']:.5f}, {each['recall_worst']:.3f}" for each in (way, deep[name]))
        print(
            f"{name:24}{way['first_cpu']:8.2f}{way['cpu']:8.2f}{deep[name]['cpu']:8.2f}"
            + "".join(f"{each:>20}" for each in recalls)
            + f"{way['duplicates'] + deep[name]['duplicates']:7.0f}"
        )
    for suffix in ("", ", exact"):
        both = early[f"dense{suffix}"]["first_cpu"] + early[f"sparse{suffix}"]["first_cpu"]
        for mode in ("hybrid DBSF", "hybrid RRF"):
            print(
                f"{mode}{suffix}, first / (dense first + sparse first): {early[mode + suffix]['first_cpu'] / both:.2f}"
            )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="hybrid", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000])
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--texts", type=int, nargs="*", default=[], help="sizes of real text")
    parser.add_argument("--questions", type=int, default=40)
    options = parser.parse_args()
    found = [corpora.clustered(rows, options.dimension, options.questions) for rows in options.rows]
    found += [corpora.texts(rows, options.questions) for rows in options.texts]
    for corpus in found:
        with tempfile.TemporaryDirectory() as folder, EmbeddedIndex(corpus, Path(folder) / "index") as index:
            print(f"\n## {corpus.name}, {len(corpus.questions)} questions")
            print_figures(measure(corpus, index))


if __name__ == "__main__":
    main()
