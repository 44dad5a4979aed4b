"""The picture of a run: times and recalls of all ways by the number of rows. It needs matplotlib."""

from pathlib import Path
from typing import Any

from tests.benchmarks.deep_pulls.measuring import PATTERNS
from tests.benchmarks.deep_pulls.targets import Result

_TITLES = {"P1": "ten pages of 10", "P2": "a page of 10 and nine of 100"}
_STYLES = {  # colour-blind safe colours of Okabe and Ito, and a mark of its own for each way
    "nextk": ("#d55e00", "o"),
    "nextk exact": ("#e69f00", "s"),
    "numpy brute kept": ("#555555", "x"),
    "hnswlib over-fetching": ("#0072b2", "^"),
    "chromadb asked again": ("#009e73", "v"),
    "lancedb asked again": ("#56b4e9", "D"),
    "pgvector asked again": ("#cc79a7", "P"),
    "pgvector cursor": ("#7b4ea3", "*"),
}


def draw(results: list[Result], path: Path) -> None:
    """Draw the results of made rows, of one dimension or several, by size.

    Args:
        results: The results; those of texts are left out.
        path: The file; its ending decides the format.
    """
    import matplotlib as mpl  # type: ignore[import-not-found, unused-ignore]
    from matplotlib.figure import Figure  # type: ignore[import-not-found, unused-ignore]

    made = sorted((each for each in results if each["corpus"].startswith("clustered")), key=lambda each: each["rows"])
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "nextk",
        "font.family": "sans-serif",
        "font.size": 9,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(8.4, 6.2), layout="constrained", facecolor="white")
        axes = figure.subplots(2, len(PATTERNS), sharex=True, sharey="row")
        for column, pattern in enumerate(PATTERNS):
            times, recalls = axes[0, column], axes[1, column]
            for name, (colour, mark) in _STYLES.items():
                found = [(each["rows"], each["patterns"][pattern][name]) for each in made if name in each["ways"]]
                wide = {"color": colour, "marker": mark, "linewidth": 2.4 if name == "nextk" else 1.2, "markersize": 5}
                rows = [count for count, _ in found]
                times.plot(rows, [ways["cpu"] for _, ways in found], label=name, **wide)
                recalls.plot(rows, [ways["recall_worst"] for _, ways in found], **wide)
            times.set(title=f"{pattern}: {_TITLES[pattern]}", xscale="log", yscale="log")
            recalls.set(xlabel="records", xticks=[each["rows"] for each in made])
            recalls.set_xticklabels([f"{each['rows']:,}" for each in made])
            recalls.minorticks_off()
            for axis in (times, recalls):
                axis.grid(alpha=0.3)
        axes[0, 0].set_ylabel("CPU time, ms")
        axes[1, 0].set_ylabel("recall of the worst question")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)
