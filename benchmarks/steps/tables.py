"""Tables of an experiment: Markdown, LaTeX and CSV, of all scores that are there.

    python tables.py results/tables --out results/tables/tables --reference PAPER_TABLES

Means over seeds ± standard deviation. Bold: the best of its column within a data set, and what paired
t-tests do not tell from it (Holm, p >= 0.05). Rows with a dagger used labels and are not compared. "Merged"
clusters are merged by the label of most of their cells, as in the paper; AMI is what the paper calls ARI.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from results import SIGNIFICANCE, between_seeds, compare_with_best, number_of, parser, read_scores, trials

CLUSTERINGS = {
    "own": "own clusters",
    "leiden_1": "Leiden, resolution 1",
    "leiden_best": "Leiden, best resolution †",
    "kmeans": "K-means, true number †",
}
BIO = ("Isolated labels", "KMeans NMI", "KMeans ARI", "Silhouette label", "cLISI")
BATCH_CORRECTION = ("BRAS", "iLISI", "KBET", "Graph connectivity", "PCR comparison")


LATEX = {"_": r"\_", "%": r"\%", "&": r"\&", "†": r"\dag{}", "±": r"$\pm$", "\r": r"\textbf{", "\n": "}"}


@dataclass(frozen=True)
class Column:
    """A measure of a clustering (``""``: of the embedding or the run), and how it is printed."""

    title: str
    clustering: str
    measure: str
    digits: int = 3
    compared: bool = True
    of_paper: str | None = None
    """Column of the paper's table."""


N_CLUSTERS = Column("clusters", "own", "n_clusters", 1, False, "utilized_clusters")
TABLE3 = (
    N_CLUSTERS,
    Column("accuracy, merged †", "own_merged", "accuracy", of_paper="accuracy"),
    Column("NMI, merged †", "own_merged", "nmi", of_paper="nmi_merged"),
    Column("NMI", "own", "nmi", of_paper="nmi_unmerged"),
    *(Column(name.upper(), "own", name) for name in ("ari", "ami")),
    Column("accuracy", "own", "accuracy"),
)
TABLE4 = tuple(
    Column(name, "", name, of_paper=name.lower().replace(" ", "_"))
    for name in ("Total", "Bio conservation", "Batch correction", *BIO, *BATCH_CORRECTION)
)
COST = (
    Column("validation ELBO", "", "elbo_validation", 1, False),
    Column("epochs", "", "n_epochs", 0, False),
    Column("wall s", "", "seconds", 1, False),
    Column("CPU s", "", "cpu_seconds", 1, False),
    Column("peak MB", "", "peak_memory_mb", 0, False),
)
VARIANCE = tuple(
    Column(name, "", f"variance: {name}", compared=False)
    for name in ("batches", "batches within types", "types")
)


def summary(scores: pd.DataFrame, columns: tuple[Column, ...], bold: str = "**{}**") -> pd.DataFrame:
    """Return a table of text, a row for each dataset and method."""
    parts = []
    for column in columns:
        found = trials(scores, column.clustering, column.measure)
        for dataset, values in found.groupby(level=0, sort=False):
            wide = values.droplevel(0).unstack(0)
            best = (
                compare_with_best(wide) if column.compared and wide.shape[1] > 1 else pd.Series(dtype=float)
            )
            n_seeds = scores.loc[scores["dataset"] == dataset, "seed"].nunique()
            for method, trial in wide.items():
                text = in_words(trial, column.digits, n_seeds)
                is_best = best.get(method, 0.0) >= SIGNIFICANCE
                parts.append((dataset, method, column.title, bold.format(text) if is_best else text))
    table = pd.DataFrame(parts, columns=["dataset", "method", "column", "text"])
    if table.empty:
        return table[["dataset", "method"]]
    wide = table.pivot(index=["dataset", "method"], columns="column", values="text").fillna("")
    return (
        wide[[c.title for c in columns if c.title in wide]].reindex(_order(scores, wide.index)).reset_index()
    )


def in_words(trial: pd.Series, digits: int, n_seeds: int) -> str:
    """Return mean ± standard deviation, with the number of seeds where some are missing."""
    trial = trial.dropna()
    spread = f" ± {trial.std():.{digits}f}" if len(trial) > 1 else ""
    few = f" ({len(trial)} of {n_seeds})" if len(trial) < n_seeds else ""
    return f"{trial.mean():.{digits}f}{spread}{few}"


def _order(scores: pd.DataFrame, index: pd.MultiIndex) -> pd.MultiIndex:
    names = scores[["dataset", "method"]].astype(str).drop_duplicates()
    ordered = pd.MultiIndex.from_frame(names)
    return ordered[ordered.isin(index)]


def clusterings_table(scores: pd.DataFrame, bold: str = "**{}**") -> pd.DataFrame:
    """Return all clusterings of all embeddings; methods and clusterings are compared with each other."""
    fair = scores[scores["clustering"].isin(CLUSTERINGS)].copy()
    names = fair["clustering"].map(CLUSTERINGS)
    fair["method"] = fair["method"].astype(str) + " | " + names
    order = {name: i for i, name in enumerate(dict.fromkeys(fair["method"]))}
    fair["clustering"] = "all"
    parts = []
    for uses_labels in (False, True):
        columns = [Column("clusters", "all", "n_clusters", 1, False)]
        columns += [
            Column(title, "all", name, compared=not uses_labels)
            for name, title in (("nmi", "NMI"), ("ari", "ARI"), ("ami", "AMI"), ("accuracy", "accuracy"))
        ]
        parts.append(summary(fair[fair["uses_labels"] == uses_labels], tuple(columns), bold))
    table = pd.concat(parts, ignore_index=True)
    datasets = list(scores["dataset"].cat.categories)
    table = table.sort_values(
        ["dataset", "method"],
        key=lambda c: c.map(order if c.name == "method" else datasets.index),
        ignore_index=True,
    )
    split = table["method"].str.split(" | ", n=1, expand=True, regex=False)
    types = [number_of(scores, dataset, "n_types") for dataset in table["dataset"]]
    head = {"dataset": table["dataset"], "types": types, "method": split.get(0), "clustering": split.get(1)}
    return pd.concat([pd.DataFrame(head), table.drop(columns=["dataset", "method"])], axis=1)


def stability_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the agreement of clusters between seeds, over all pairs."""
    rows = []
    for dataset, method in scores[["dataset", "method"]].drop_duplicates().itertuples(index=False):
        for clustering in ("own", "leiden_1"):
            pairs = between_seeds(scores, dataset, method, clustering)
            if len(pairs):
                text = in_words(pairs, 3, len(pairs))
                rows.append((dataset, method, CLUSTERINGS[clustering], len(pairs), text))
    return pd.DataFrame(rows, columns=["dataset", "method", "clustering", "pairs", "ARI between seeds"])


def with_paper(
    table: pd.DataFrame, columns: tuple[Column, ...], folder: Path | None, pattern: str
) -> pd.DataFrame:
    """Append the paper's rows, from a folder with its tables."""
    if folder is None:
        return table
    files = sorted(folder.glob(pattern))
    if not files:
        raise ValueError(f"The reference {folder} has no file {pattern}.")
    paper = pd.concat([pd.read_csv(file, dtype=str, keep_default_na=False) for file in files])
    model = paper["model"] + ", " if "model" in paper else ""
    rows = {"dataset": paper["dataset"], "method": "paper: " + model + paper["prior"]}
    rows |= {c.title: paper[c.of_paper] for c in columns if c.of_paper in paper and c.title in table}
    return pd.concat([table, pd.DataFrame(rows)], ignore_index=True).fillna("")


def tables(
    scores: pd.DataFrame, reference: Path | None, bold: str
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield name, title and content of every table that has rows."""
    table3 = with_paper(summary(scores, TABLE3, bold), TABLE3, reference, "table3*.csv")
    table4 = with_paper(summary(scores, TABLE4, bold), TABLE4, reference, "table4*.csv")
    of_batches = scores[[number_of(scores, name, "n_batches") > 1 for name in scores["dataset"]]]
    for name, title, table in (
        ("table3_clustering", "Clusters of mixture priors (the paper's Table 3)", table3),
        ("table4_integration", "Integration, scIB's measures (the paper's Table 4)", table4),
        ("clusterings", "All clusterings against the annotation, unmerged", clusterings_table(scores, bold)),
        ("stability", "Agreement of clusters between seeds", stability_table(scores)),
        ("variance", "Shares of the embedding's variance", summary(of_batches, VARIANCE, bold)),
        ("time_and_memory", "ELBO, time and memory of training", summary(scores, COST, bold)),
    ):
        if len(table):
            yield name, title, table


def main() -> None:
    """Command line."""
    command = parser(__doc__)
    command.add_argument("--reference", type=Path, help="folder with the paper's table3*.csv and table4*.csv")
    arguments = command.parse_args()
    scores = read_scores(arguments.results, arguments.datasets, arguments.methods)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write(scores, arguments.out, arguments.reference)


def write(scores: pd.DataFrame, out: Path, reference: Path | None = None) -> None:
    """Write ``scores.csv``, and every table as Markdown and LaTeX; ``tables.md`` has all of them."""
    scores.drop(columns="folder").to_csv(out / "scores.csv", index=False)
    lines = [str(__doc__).split("\n\n")[-1].strip(), ""]
    seeds = {name: of["seed"].nunique() for name, of in scores.groupby("dataset", observed=True)}
    lines += ["Seeds: " + ", ".join(f"{name} {n}" for name, n in seeds.items()) + ".", ""]
    for name, title, table in tables(scores, reference, "**{}**"):
        text = table.to_markdown(index=False, disable_numparse=True)
        (out / f"{name}.md").write_text(text + "\n")
        lines += [f"## {title}", "", text, ""]
    (out / "tables.md").write_text("\n".join(lines))
    for name, title, table in tables(scores, reference, "<b>{}</b>"):
        text = table.astype(str).map(to_latex).rename(columns=to_latex)
        (out / f"{name}.tex").write_text(text.to_latex(index=False, caption=title, label=f"tab:{name}"))


def to_latex(text: str) -> str:
    """Return text that LaTeX prints as it is; ``<b>`` becomes bold."""
    marked = text.replace("<b>", "\r").replace("</b>", "\n")
    return "".join(LATEX.get(character, character) for character in marked)


if __name__ == "__main__":
    main()
