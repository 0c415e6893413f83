"""Tables 1 and 2 and Figure 1 of the paper, and what clusters look like, of trainings on images.

python images_report.py results/digits --out results/digits/report --reference PAPER_TABLES
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from vmmscvi.plotting import COLORS

TITLES = {
    "vmm": "VMM",
    "vmm_default": "VMM, defaults",
    "vmm_embedding": "VMM, start from the embedding",
    "gmm": "GMM",
    "vampprior": "VampPrior",
    "vade": "VaDE",
    "standard_normal": "N(0, I)",
}
"""``vmm`` and ``gmm`` start from drawn images, as in the paper."""
TABLES = {
    "table1_elbo_surgery": {
        "log_p_x_given_x": "log_p_x_given_x",
        "log_p_x": "log_p_x",
        "reconstruction": "E_q_log_p_x_given_z",
        "rate": "KL_qzx_pz",
        "marginal_kl": "KL_qz_pz",
        "mutual_information": "I_z_n",
    },
    "table2_clusters": {
        "n_clusters": "utilized_clusters",
        "accuracy": "accuracy",
        "nmi_merged": "nmi_merged",
        "nmi": "nmi_unmerged",
        "ari_merged": "",
        "ari": "",
    },
}
"""Measures, and the columns of the paper's tables."""


def read_results(folder: Path) -> pd.DataFrame:
    """Return a row for each training, in the order of ``TITLES``."""
    rows = []
    for file in sorted(folder.glob("*/batch*/seed*/result.json")):
        result = json.loads(file.read_text())
        cost = file.with_name("train.tsv")
        seconds = pd.read_csv(cost, sep="\t", na_values="-").loc[0, "cpu_time"] if cost.is_file() else np.nan
        rows.append({**result.pop("settings"), **result, "cpu_seconds": seconds, "folder": file.parent})
    if not rows:
        raise ValueError(f"{folder} holds no results; expected METHOD/batchN/seedN/result.json.")
    table = pd.DataFrame(rows)
    order = {name: i for i, name in enumerate(TITLES)}
    return table.sort_values(
        ["batch_size", "method", "seed"], key=lambda c: c.map(order) if c.name == "method" else c
    )


def table(results: pd.DataFrame, measures: dict[str, str], paper: pd.DataFrame | None) -> pd.DataFrame:
    """Return means ± standard deviations over seeds; the paper's values follow ours."""
    shown = [name for name in measures if name in results]
    rows = []
    for (dataset, batch, method), group in results.groupby(["dataset", "batch_size", "method"], sort=False):
        if not shown or group[shown].isna().all(axis=None):
            continue  # a prior without clusters
        head = {"dataset": dataset, "method": TITLES[method], "batch": batch}
        values = {name: in_words(group[name]) for name in (*shown, "n_epochs", "cpu_seconds")}
        rows.append({**head, "from": "ours", "seeds": str(len(group)), **values})
        if paper is not None:
            same = paper[(paper["dataset"] == dataset) & (paper["method"] == TITLES[method])]
            of_paper = {ours: theirs for ours, theirs in measures.items() if theirs in paper}
            for _, line in same.dropna(subset=list(of_paper.values()), how="all").iterrows():
                rows.append({**head, "from": "paper", **{ours: line[c] for ours, c in of_paper.items()}})
    return pd.DataFrame(rows).fillna("")


def in_words(values: pd.Series) -> str:
    """Mean, and standard deviation where there are several seeds; three significant figures."""
    mean = values.mean()
    n_digits = 3 if abs(mean) < 1 else 0 if abs(mean) >= 100 else 1
    return f"{mean:.{n_digits}f}" + (f" ± {values.std():.{n_digits}f}" if len(values) > 1 else "")


def read_paper(folder: Path) -> pd.DataFrame:
    """Read the paper's Tables 1 (whose file's name tells the images) and 2."""
    parts = [pd.read_csv(file, dtype=str) for file in sorted(folder.glob("table2*.csv"))]
    for file in sorted(folder.glob("table1*.csv")):
        name = "fashion_mnist" if "fashion" in file.name else "mnist"
        parts.append(pd.read_csv(file, dtype=str).assign(dataset=name))
    if not parts:
        raise ValueError(f"The reference {folder} has neither table1*.csv nor table2*.csv.")
    paper = pd.concat([part.rename(columns={"prior": "method"}) for part in parts])
    return paper.assign(method=paper["method"].str.replace("N(0,I)", "N(0, I)", regex=False))


def batch_size_figure(results: pd.DataFrame) -> Figure:
    """Draw clusters in use and NMI against the batch size: means of seeds, and every seed as a point."""
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 2.8), layout="constrained")
    results = results.assign(method=results["method"].map(TITLES))
    palette = list(COLORS[: results["method"].nunique()])
    for ax, name, label in zip(
        axes, ("n_clusters", "nmi"), ("clusters in use", "NMI, unmerged"), strict=True
    ):
        look = {"data": results, "x": "batch_size", "y": name, "hue": "method", "palette": palette, "ax": ax}
        sns.lineplot(**look, style="method", markers=True, dashes=False, errorbar=None, legend=ax is axes[1])
        sns.scatterplot(**look, s=12, legend=False)
        sizes = sorted(results["batch_size"].unique())
        ax.set_xscale("log", base=2)
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.set(xlabel="batch size", ylabel=label, ylim=(0, None))
    axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def predictive_figure(arrays: dict[str, np.ndarray], title: str) -> Figure:
    """Draw a column for each of the heaviest clusters: its most probable image, and samples below it."""
    n, n_rows = min(16, len(arrays["weights"])), 8
    side = int(np.sqrt(arrays["most_probable"].shape[1]))
    figure, axes = plt.subplots(
        n_rows + 1, n, figsize=(0.42 * n + 0.6, 0.42 * n_rows + 1), squeeze=False, layout="constrained"
    )
    for j in range(n):
        for ax, image in zip(axes[:, j], [arrays["most_probable"][j], *arrays["images"][j]], strict=False):
            ax.imshow(np.clip(image, -1, 1).reshape(side, side), cmap="gray_r", vmin=-1, vmax=1)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        axes[0, j].set_title(f"{arrays['weights'][j]:.0%}", fontsize=7)
        axes[0, j].spines[:].set(visible=True, color="tab:red")
    figure.suptitle(title, fontsize=9)
    return figure


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--reference", type=Path, help="folder with the paper's table1*.csv and table2*.csv")
    arguments = parser.parse_args()
    write(arguments.results, arguments.out, arguments.reference)


def write(folder: Path, out: Path, reference: Path | None = None) -> None:
    """Write ``tables.md``, a CSV for each table, and the figures."""
    results, paper = read_results(folder), None if reference is None else read_paper(reference)
    out.mkdir(parents=True, exist_ok=True)
    text = []
    for name, measures in TABLES.items():
        found = table(results, measures, paper)
        if len(found):
            found.to_csv(out / f"{name}.csv", index=False)
            text.append(f"## {name}\n\n{found.to_markdown(index=False, disable_numparse=True)}\n")
    clustered = results[results["method"] != "standard_normal"]
    with mpl.rc_context({"backend": "Agg"}):
        if clustered["batch_size"].nunique() > 1:
            batch_size_figure(clustered).savefig(out / "batch_size.png", dpi=130)
        for _, run in clustered[clustered["seed"] == clustered["seed"].min()].iterrows():
            with np.load(run["folder"] / "arrays.npz") as arrays:
                title = f"{TITLES[run['method']]}, {run['dataset']}: {int(run['n_clusters'])} clusters"
                figure = predictive_figure(dict(arrays), title)
            figure.savefig(out / f"clusters_{run['method']}_batch{run['batch_size']}.png", dpi=130)
        plt.close("all")
    (out / "tables.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
