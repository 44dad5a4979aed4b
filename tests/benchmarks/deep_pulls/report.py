"""The tables, the targets and the picture of a run."""

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Result = dict[str, Any]
"""All figures of one corpus, as JSON has them; `measure` in `__main__.py` says which."""


@dataclass(frozen=True)
class Target:
    """A ratio within one run that is not to be passed.

    Attributes:
        name: What is compared with what.
        limits: The limit at 10,000, 100,000 and 1,000,000 rows; `None` where the ratio is only reported.
    """

    name: str
    limits: tuple[float | None, float | None, float | None]

    def limit(self, rows: int) -> float | None:
        """Return the limit at the nearest of the three sizes."""
        return self.limits[0 if rows < 31_623 else 1 if rows < 316_228 else 2]


FIRST = Target("dense first / numpy brute kept", (1.5, 1.15, 1.3))
DEEP = Target("dense P2 / numpy brute kept", (3.0, 1.3, 1.4))
DRAIN = Target("P3 / hnswlib over-fetching", (0.5, 0.5, None))
HYBRID = Target("hybrid first / (dense first + sparse first)", (2.5, 2.5, 4.0))
FILTERED = Target("filtered P1 at 1 % / unfiltered P1", (0.5, 0.2, 0.1))
CHURNED = Target("dense first after deleting and replacing 10 %", (1.15, 1.15, 1.15))


def ratios(result: Result) -> Iterator[tuple[Target, float]]:
    """Yield every target with the ratio of CPU times that was measured; those that were not measured are left out."""
    patterns, modes, filtered, churned = (result[name] for name in ("patterns", "modes", "filtered", "churned"))
    yield FIRST, _ratio(patterns["P1"], "nextk", "numpy brute kept", "first_cpu")
    yield DEEP, _ratio(patterns["P2"], "nextk", "numpy brute kept", "cpu")
    if "hnswlib over-fetching" in patterns["P3"]:
        yield DRAIN, _ratio(patterns["P3"], "nextk", "hnswlib over-fetching", "cpu")
    first = {mode: figures["first_cpu"] for mode, figures in modes["P1"].items()}
    hybrid = max(first["nextk hybrid RRF"], first["nextk hybrid DBSF"])
    yield HYBRID, hybrid / (first["nextk dense"] + first["nextk sparse"])
    yield FILTERED, _ratio(filtered, "nextk 1 %", "nextk unfiltered", "cpu")
    yield CHURNED, _ratio(churned, "nextk churned", "nextk as written", "first_cpu")


def _ratio(ways: Mapping[str, Mapping[str, float]], one: str, other: str, figure: str) -> float:
    return ways[one][figure] / ways[other][figure]


def print_result(result: Result) -> None:
    """Print all figures of a corpus."""
    print(f"\n## {result['corpus']}, {result['questions']} questions; ms, medians: CPU (wall)")
    if result["left_out"]:
        print(f"left out, because they are not installed: {', '.join(result['left_out'])}")
    _print_ways(result["ways"])
    for name, ways in result["patterns"].items():
        _print_table(f"dense {name}", ways)
    for name, ways in result["modes"].items():
        _print_table(name, ways)
    _print_table("dense P1, share that passes", result["filtered"])
    _print_table("dense P1 after writes", result["churned"])
    print(f"\n{'ratio of CPU':50}{'measured':>10}{'target':>10}")
    for target, ratio in ratios(result):
        limit = target.limit(result["rows"])
        verdict = "" if limit is None else "met" if ratio <= limit else "NOT MET"
        print(f"{target.name:50}{ratio:10.2f}{'' if limit is None else f'<= {limit:g}':>10}  {verdict}")


def _print_ways(ways: Mapping[str, Mapping[str, Any]]) -> None:
    print(f"\n{'':28}{'build CPU s':>13}{'open CPU s':>12}{'bytes/row':>12}{'bytes/search':>14}")
    for name, way in ways.items():
        opened = way.get("open_seconds")
        row = "-" if way["bytes_per_row"] is None else f"{way['bytes_per_row']:,.0f}"
        print(
            f"{name:28}{way['build_seconds']:13.1f}{'-' if opened is None else f'{opened:.2f}':>12}{row:>12}"
            f"{way['bytes_per_search']:14,.0f}"
        )


def _print_table(title: str, ways: Mapping[str, Mapping[str, float]]) -> None:
    print(f"\n{title:28}{'first':>18}{'all':>20}{'recall first':>17}{'recall end':>17}{'twice':>7}")
    for name, way in ways.items():
        first, every = (
            f"{way[cpu]:.2f} ({way[wall]:.2f})" for cpu, wall in (("first_cpu", "first_wall"), ("cpu", "wall"))
        )
        early = f"{way['first_recall']:.4f}, {way['first_recall_worst']:.2f}"
        late = f"{way['recall']:.4f}, {way['recall_worst']:.2f}"
        print(f"{name:28}{first:>18}{every:>20}{early:>17}{late:>17}{way['duplicates']:7.0f}")


def draw(results: list[Result], path: Path) -> str:
    """Draw the times of all ways in all patterns, by size.

    Returns:
        What was done, in words.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return "no picture, because matplotlib is not installed"
    from matplotlib.figure import Figure  # type: ignore[import-not-found, unused-ignore]

    figure = Figure(figsize=(5 * 3, 4.5 * len(results)), layout="constrained")
    axes = figure.subplots(len(results), 3, squeeze=False)
    for row, result in zip(axes, results, strict=True):
        for axis, (name, ways) in zip(row, result["patterns"].items(), strict=True):
            axis.plot([way["cpu"] for way in ways.values()], list(ways), "o", color="#4878a8")
            axis.set(title=f"{result['corpus']}: {name}", xlabel="CPU ms, median", xscale="log", xlim=(0.1, 10_000))
            axis.grid(alpha=0.3)
            axis.invert_yaxis()
    figure.savefig(path, dpi=120)
    return f"picture in {path}"
