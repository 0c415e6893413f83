"""The model's clusters against Leiden's on stock scVI's embedding: the first figure of the benchmarks.

    python docs/figures/against_leiden.py

Reads the means of five seeds beside it, which `snakemake -s benchmarks/Snakefile clusters` has measured.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from _style import BLUE, STATIC, VERMILION, saved

TABLE = Path(__file__).with_suffix(".csv")
MARKS = {
    "scVI + Leiden, best resolution": {"marker": "s", "color": VERMILION, "mfc": "white", "ms": 9},
    "scVI + Leiden, resolution 1": {"marker": "s", "color": VERMILION, "ms": 6},
    "VMM": {"marker": "o", "color": BLUE, "ms": 4.5},
}
"""From below to above, large to small: marks at the same place are all seen."""
LABELS = {"scVI + Leiden, best resolution": "scVI + Leiden, resolution chosen with the labels"}
PANELS = {"nmi": "NMI with the annotation", "seed_agreement": "agreement between seeds (ARI)"}


def main() -> None:
    """Draw a row for each data set and a mark for each method."""
    table = pd.read_csv(TABLE)
    names = list(table["data"].unique())
    figure, axes = plt.subplots(1, len(PANELS), figsize=(7.4, 3.4), sharey=True)
    for ax, (column, label) in zip(axes, PANELS.items(), strict=True):
        ax.hlines(range(len(names)), 0.3, 1, color="0.9", linewidth=0.8, zorder=0)
        for method, marks in MARKS.items():
            rows = table[table["method"] == method].dropna(subset=[column])
            heights = [names.index(name) for name in rows["data"]]
            ax.plot(rows[column], heights, linestyle="none", label=LABELS.get(method, method), **marks)
        ax.set(xlabel=label, xlim=(0.3, 1.03))
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8.5)
    saved(figure, STATIC / "against_leiden.svg")


if __name__ == "__main__":
    main()
