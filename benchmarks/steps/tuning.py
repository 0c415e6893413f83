"""The paper's choice of batch size and learning rate of the prior: WITH LABELS.

    python tuning.py results/tuning --out results/tuning/tables

For each batch size and seed the ratio of the prior's learning rate to the networks' goes up, which lowers the
number of clusters; the first run with fewer clusters than types is the last that counts. Chosen is the best
mean scIB total among settings whose mean number of clusters is at least that of the types. A user has no
labels: what is chosen so is not unsupervised.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from results import parser, read_scores, trials

SETTING = ["dataset", "batch_size", "prior_lr_ratio"]
CHOSEN = "chosen_with_labels"


def tuning_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each run that counts, with the choice."""
    columns = {name: trials(scores, "", name) for name in ("batch_size", "prior_lr_ratio", "n_types")}
    columns |= {name: trials(scores, "own", name) for name in ("n_clusters", "nmi")}
    runs = pd.DataFrame({**columns, "total": trials(scores, "", "Total")}).rename_axis(
        ["dataset", "method", "seed"]
    )
    runs = runs.reset_index().drop(columns="method").sort_values([*SETTING, "seed"], ignore_index=True)
    fewer = (runs["n_clusters"] < runs["n_types"]).groupby(
        [runs[k] for k in ("dataset", "batch_size", "seed")]
    )
    before = fewer.transform(lambda run: run.cumsum().shift(fill_value=0))
    return mark_chosen(runs[before == 0].reset_index(drop=True))


def mark_chosen(runs: pd.DataFrame) -> pd.DataFrame:
    """Mark the setting of each dataset that the paper would choose, if there is one."""
    means = runs.groupby(SETTING, as_index=False)[["n_types", "n_clusters", "total"]].mean()
    enough = means[means["n_clusters"] >= means["n_types"]]
    best = enough.loc[enough.groupby("dataset")["total"].idxmax().to_numpy(int), SETTING]
    chosen = pd.MultiIndex.from_frame(runs[SETTING]).isin(pd.MultiIndex.from_frame(best))
    return runs.assign(**{CHOSEN: chosen})


def tuning_figure(runs: pd.DataFrame) -> sns.FacetGrid:
    """Draw number of clusters and scIB total against the batch size, a line for each ratio."""
    long = runs.melt([*SETTING, "seed"], ["n_clusters", "total"], "measure")
    for name in SETTING[1:]:
        long[name] = long[name].map("{:g}".format)
    grid = sns.relplot(
        long, x="batch_size", y="value", hue="prior_lr_ratio", row="measure", col="dataset", kind="line",
        marker="o", errorbar=None, palette="viridis", height=2.6, facet_kws={"sharey": "row"},
    )  # fmt: skip
    for dataset in grid.col_names:
        n_types = runs.loc[runs["dataset"] == dataset, "n_types"].iloc[0]
        grid.axes_dict["n_clusters", dataset].axhline(n_types, color="0.5", linestyle="--")
        chosen = runs[(runs["dataset"] == dataset) & runs[CHOSEN]].groupby("batch_size")["total"].mean()
        sizes = chosen.index.map("{:g}".format)
        grid.axes_dict["total", dataset].plot(sizes, chosen, "o", ms=11, mfc="none", color="black")
    grid.set_titles("{col_name}: {row_name}")
    return grid


def main() -> None:
    """Command line."""
    arguments = parser(__doc__).parse_args()
    runs = tuning_table(read_scores(arguments.results, arguments.datasets, arguments.methods))
    arguments.out.mkdir(parents=True, exist_ok=True)
    runs.to_csv(arguments.out / "tuning.csv", index=False)
    tuning_figure(runs).savefig(arguments.out / "tuning.png", dpi=200)
    plt.close("all")


if __name__ == "__main__":
    main()
