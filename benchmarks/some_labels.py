"""Labels of some cells: the mixture as a classifier, beside scANVI and nearest neighbours on scVI.

    python benchmarks/some_labels.py --data cellbench.h5ad --shares 0.01 0.1 0.5 --cases plain left_out wrong
    python benchmarks/some_labels.py --data pbmc_2src.h5ad --labelled-batches 10x_v1_pbmc3k --shares 1.0

``obs`` has the columns ``batch`` and ``cell_type``. A share of each type's cells keeps its label, one cell at
least; ``--labelled-batches`` labels cells of these batches only. Cases: ``plain``; ``left_out``, where one
type has no label; ``wrong``, where 10% of the labels are replaced by others. All methods have their defaults,
but for ``--epochs`` of scVI and of the mixture; scANVI is ``SCANVI.from_scvi_model`` of the scVI that the
neighbours are searched in. Accuracies and calibration are those of cells without a label, of types that have
labels. Every run is a JSON file in ``--out``, and is not repeated.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score, balanced_accuracy_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

logger = logging.getLogger("some_labels")

UNKNOWN = "unknown"
N_NEIGHBORS = 15
SHARE_WRONG = 0.1
QUIET: dict[str, Any] = {"enable_progress_bar": False, "accelerator": "cpu"}


@dataclass(frozen=True)
class Labels:
    """Labels as a method sees them, and what it does not see.

    Attributes
    ----------
    given
        Label of every cell, or ``UNKNOWN``.
    truth
        Type of every cell.
    left_out
        The type without labels; empty if there is none.
    """

    given: np.ndarray
    truth: np.ndarray
    left_out: str

    @property
    def labelled(self) -> np.ndarray:
        """Which cells have a label."""
        return self.given != UNKNOWN

    @classmethod
    def draw(
        cls, adata: ad.AnnData, share: float, case: str, batches: list[str] | None, left_out: str, seed: int
    ) -> Labels:
        """Draw the cells that keep their labels."""
        rng = np.random.default_rng(seed)
        truth = adata.obs["cell_type"].to_numpy(str)
        may = np.ones(len(truth), bool) if batches is None else adata.obs["batch"].isin(batches).to_numpy()
        given = np.full(len(truth), UNKNOWN, dtype=object)
        types = [name for name in np.unique(truth[may]) if case != "left_out" or name != left_out]
        for name in types:
            cells = np.flatnonzero(may & (truth == name))
            given[rng.choice(cells, max(1, round(share * len(cells))), replace=False)] = name
        if case == "wrong":
            labelled = np.flatnonzero(given != UNKNOWN)
            for cell in rng.choice(labelled, round(SHARE_WRONG * len(labelled)), replace=False):
                given[cell] = rng.choice([name for name in types if name != truth[cell]])
        return cls(given.astype(str), truth, left_out if case == "left_out" else "")


@dataclass(frozen=True)
class Prediction:
    """What a method says.

    Attributes
    ----------
    probabilities
        Of labels and, if the method knows them, of new types; a row for each cell.
    doubt
        How much each cell's given label is doubted.
    is_new
        Which cells are said to be of a new type.
    clusters
        Clusters of the cells, if the method has some.
    cpu_s
        Processor time, in seconds.
    """

    probabilities: pd.DataFrame
    doubt: np.ndarray
    is_new: np.ndarray
    clusters: np.ndarray | None
    cpu_s: float


def doubt_of(probabilities: pd.DataFrame, given: np.ndarray) -> np.ndarray:
    """One minus the probability of the given label; 0 for cells without."""
    columns = probabilities.columns.get_indexer(given)
    own = probabilities.to_numpy()[np.arange(len(given)), columns]
    return np.where(columns >= 0, 1.0 - own, 0.0)


def run_vmm(
    adata: ad.AnnData, labels: Labels, scvi_model: Any, scvi_cpu_s: float, epochs: int | None
) -> Prediction:
    """Train ``SCVI_VMM`` with labels in its prior."""
    from vmmscvi import SCVI_VMM

    SCVI_VMM.setup_anndata(adata, batch_key="batch", labels_key="given")
    model = SCVI_VMM(adata)
    unlabelled = UNKNOWN if (labels.given == UNKNOWN).any() else None
    began = time.process_time()
    model.train(start="labels", unlabeled_category=unlabelled, max_epochs=epochs, **QUIET)
    cpu_s = time.process_time() - began
    probabilities = model.predict_labels(soft=True)
    return Prediction(
        probabilities,
        model.get_label_disagreement().fillna(0.0).to_numpy(),
        ~np.isin(probabilities.idxmax(axis=1), np.unique(labels.given)),
        model.predict().to_numpy(str),
        cpu_s,
    )


def run_unlabelled(
    adata: ad.AnnData, labels: Labels, scvi_model: Any, scvi_cpu_s: float, epochs: int | None
) -> Prediction:
    """Train ``SCVI_VMM`` without labels; its clusters are named by the given labels, for comparison."""
    from vmmscvi import SCVI_VMM

    SCVI_VMM.setup_anndata(adata, batch_key="batch")
    model = SCVI_VMM(adata)
    began = time.process_time()
    model.train(max_epochs=epochs, **QUIET)
    cpu_s = time.process_time() - began
    given = pd.get_dummies(pd.Series(labels.given)).drop(columns=UNKNOWN, errors="ignore").to_numpy(float)
    r = model.get_cluster_probabilities().to_numpy()
    names = np.unique(labels.given[labels.labelled])
    counts = r.T @ given
    of_clusters = counts / np.maximum(counts.sum(1, keepdims=True), 1e-12)
    probabilities = pd.DataFrame(r @ of_clusters, columns=names)
    clusters = model.predict().to_numpy(str)
    nothing = np.zeros(len(r), bool)
    return Prediction(probabilities, doubt_of(probabilities, labels.given), nothing, clusters, cpu_s)


def run_scanvi(
    adata: ad.AnnData, labels: Labels, scvi_model: Any, scvi_cpu_s: float, epochs: int | None
) -> Prediction:
    """Train scANVI from the trained scVI."""
    from scvi.model import SCANVI

    began = time.process_time()
    model = SCANVI.from_scvi_model(scvi_model, unlabeled_category=UNKNOWN, labels_key="given", adata=adata)
    model.train(**QUIET)
    cpu_s = time.process_time() - began + scvi_cpu_s
    probabilities = model.predict(soft=True)
    nothing = np.zeros(adata.n_obs, bool)
    return Prediction(probabilities, doubt_of(probabilities, labels.given), nothing, None, cpu_s)


def run_neighbours(
    adata: ad.AnnData, labels: Labels, scvi_model: Any, scvi_cpu_s: float, epochs: int | None
) -> Prediction:
    """Shares of labels among nearest labelled neighbours in scVI's embedding, the cell itself left out."""
    z = scvi_model.get_latent_representation()
    known = np.flatnonzero(labels.labelled)
    n = min(N_NEIGHBORS, len(known) - 1)
    classifier = KNeighborsClassifier(n).fit(z[known], labels.given[known])
    names, code = np.unique(labels.given[known], return_inverse=True)
    found = classifier.predict_proba(z)
    own, neighbours = classifier.kneighbors(z[known], n + 1)[1], np.empty((len(known), n), int)
    for row, (cell, among) in enumerate(zip(range(len(known)), own, strict=True)):
        neighbours[row] = among[among != cell][:n]
    found[known] = np.stack([(code[neighbours] == j).mean(1) for j in range(len(names))], axis=1)
    probabilities = pd.DataFrame(found, columns=names)
    nothing = np.zeros(adata.n_obs, bool)
    return Prediction(probabilities, doubt_of(probabilities, labels.given), nothing, None, scvi_cpu_s)


METHODS: dict[str, Callable[..., Prediction]] = {
    "VMM with labels": run_vmm,
    "VMM without labels": run_unlabelled,
    "scVI, scANVI": run_scanvi,
    "scVI, k-NN": run_neighbours,
}


def calibration_error(probability: np.ndarray, correct: np.ndarray, n_bins: int = 15) -> float:
    """Return the expected calibration error with bins of equal width."""
    at = np.minimum((probability * n_bins).astype(int), n_bins - 1)
    table = pd.DataFrame({"at": at, "difference": correct - probability})
    return float(table.groupby("at")["difference"].sum().abs().sum() / len(table))


def score(found: Prediction, labels: Labels) -> dict[str, float]:
    """Compare a prediction with the truth."""
    known = np.unique(labels.given[labels.labelled])
    scored = ~labels.labelled & np.isin(labels.truth, known)
    predicted = found.probabilities.idxmax(axis=1).to_numpy(str)
    probability = found.probabilities.max(axis=1).to_numpy(float)
    correct = predicted == labels.truth
    scores = {
        "accuracy": float(correct[scored].mean()),
        "balanced_accuracy": float(balanced_accuracy_score(labels.truth[scored], predicted[scored])),
        "ece": calibration_error(probability[scored], correct[scored]),
        "called_new": float(found.is_new[scored].mean()),
        "cpu_s": found.cpu_s,
    }
    if labels.left_out:
        of_type = labels.truth == labels.left_out
        scores["ari_left_out"] = float(adjusted_rand_score(of_type, found.is_new))
        if found.clusters is not None:
            names = np.unique(found.clusters)
            scores["ari_best_cluster"] = max(
                adjusted_rand_score(of_type, found.clusters == name) for name in names
            )
    is_wrong = (labels.given != labels.truth)[labels.labelled]
    if is_wrong.any():
        scores["auroc_wrong"] = float(roc_auc_score(is_wrong, found.doubt[labels.labelled]))
    return scores


def trained_scvi(adata: ad.AnnData, folder: Path, seed: int, epochs: int | None) -> tuple[Any, float]:
    """Train scVI with its defaults, once for each data set and seed; the model and its processor time."""
    import scvi

    SCVI = scvi.model.SCVI
    SCVI.setup_anndata(adata, batch_key="batch", labels_key="given")
    cpu_file = folder / "cpu_s.json"
    if cpu_file.exists():
        return SCVI.load(str(folder), adata=adata, accelerator="cpu"), json.loads(cpu_file.read_text())
    scvi.settings.seed = seed
    model = SCVI(adata)
    began = time.process_time()
    model.train(max_epochs=epochs, **QUIET)
    cpu_s = time.process_time() - began
    model.save(str(folder), overwrite=True)
    cpu_file.write_text(json.dumps(cpu_s))
    return model, cpu_s


def table(out: Path) -> pd.DataFrame:
    """One row for each data set, case, share and method; means over seeds."""
    runs = pd.DataFrame([json.loads(path.read_text()) for path in sorted(out.glob("*.json"))])
    keys = ["data", "cells", "epochs", "labelled", "case", "share", "method"]
    means = runs.drop(columns=["left_out"]).groupby(keys).mean().round(3)
    return means.rename(columns={"seed": "mean seed"}).reset_index()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", default=[Path("cellbench.h5ad")])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.01, 0.1, 0.5])
    parser.add_argument("--cases", nargs="+", default=["plain"], choices=["plain", "left_out", "wrong"])
    parser.add_argument("--labelled-batches", nargs="+", default=None)
    parser.add_argument("--left-out", default=None, help="type; by default the second largest")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--max-cells", type=int, default=None, help="cells to draw from each data set")
    parser.add_argument("--epochs", type=int, default=None, help="of scVI and the mixture; default: theirs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/some_labels"))
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.basicConfig(level=logging.WARNING)
    logger.setLevel(logging.INFO)
    import scvi
    import torch

    torch.set_num_threads(args.threads)
    for path in args.data:
        complete = ad.read_h5ad(path)
        if args.max_cells is not None and complete.n_obs > args.max_cells:
            cells = np.random.default_rng(0).choice(complete.n_obs, args.max_cells, replace=False)
            complete = complete[np.sort(cells)].copy()
        left_out = args.left_out or complete.obs["cell_type"].value_counts().index[1]
        for seed, case, share in (
            (seed, case, share) for seed in args.seeds for case in args.cases for share in args.shares
        ):
            labels = Labels.draw(complete, share, case, args.labelled_batches, str(left_out), seed)
            for method in args.methods:
                where = "+".join(args.labelled_batches or ["all"])
                name = f"{path.stem}@{complete.n_obs}@{args.epochs}@{where}@{case}@{share}@{method}@{seed}"
                if (args.out / f"{name}.json").exists():
                    continue
                adata = complete.copy()
                adata.obs["given"] = labels.given
                folder = args.out / "scvi" / f"{path.stem}@{complete.n_obs}@{args.epochs}@{seed}"
                scvi_model, scvi_cpu_s = (None, 0.0)
                if method.startswith("scVI"):
                    folder.parent.mkdir(parents=True, exist_ok=True)
                    # a model with other labels: scVI does not use them
                    scvi_model, scvi_cpu_s = trained_scvi(adata, folder, seed, args.epochs)
                scvi.settings.seed = seed
                found = METHODS[method](adata, labels, scvi_model, scvi_cpu_s, args.epochs)
                row: dict[str, Any] = {"data": path.stem, "case": case, "share": share, "method": method}
                row |= {
                    "seed": seed,
                    "left_out": labels.left_out,
                    "labelled": where,
                    "epochs": args.epochs or 0,
                }
                row |= {"cells": complete.n_obs, **score(found, labels)}
                args.out.mkdir(parents=True, exist_ok=True)
                (args.out / f"{name}.json").write_text(json.dumps(row))
                logger.info("%s", row)
    print(table(args.out).to_markdown(index=False))


if __name__ == "__main__":
    main()
