"""What each hyper-parameter does: one at a time is changed, the others are the defaults.

    python docs/figures/hyperparameters.py run
    python docs/figures/hyperparameters.py draw

``run`` adds what is missing to hyperparameters.csv and may be stopped and started again; ``draw`` makes one
figure for each parameter of it. Simulated counts with labels, which are used for the scores only.
"""

from __future__ import annotations

import argparse
import csv
import logging
import math
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from _style import BLUE, STATIC, VERMILION, axes_pair, saved

HERE = Path(__file__).parent
TABLE = HERE / "hyperparameters.csv"
N_CELLS, N_TYPES, N_MINIBATCHES = 1500, 8, 1500
DATA: dict[str, Any] = {
    "n_cells": N_CELLS,
    "n_genes": 400,
    "n_types": 6,
    "n_subtypes": {"type0": 3},
    "proportions": {"type5": 0.03},
    "marker_log_fold_change": 1.3,
    "subtype_log_fold_change": 1.0,
    "depth": 350.0,
    "seed": 0,
}
DEFAULTS: dict[str, Any] = {
    "n_effective": 750.0,
    "n_warmup_minibatches": 750,
    "n_components": 100,
    "prior_lr_ratio": 5.0,
    "batch_size": 256,
    "wishart_scale": "learned",
}
VALUES: dict[str, list[Any]] = {
    "n_effective": [50.0, 150.0, 400.0, 750.0, 1350.0],
    "n_warmup_minibatches": [30, 150, 400, 750],
    "n_components": [15, 40, 100, 300],
    "prior_lr_ratio": [0.5, 1.0, 5.0, 20.0],
    "batch_size": [128, 256, 512],
    "wishart_scale": ["learned", "half", "paper"],
}
BOTH_STARTS = ("prior_lr_ratio", "batch_size")
"""Where the paper's start is drawn as well."""

logger = logging.getLogger("hyperparameters")


class Run(NamedTuple):
    """One training: the defaults but for one parameter."""

    parameter: str
    value: Any
    start: str
    seed: int

    @property
    def settings(self) -> dict[str, Any]:
        return {**DEFAULTS, self.parameter: self.value}

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells trainings apart: the defaults are trained once, whatever the parameter."""
        return (*(str(value) for value in self.settings.values()), self.start, self.seed)


def runs(seeds: list[int], parameters: Iterable[str] = tuple(VALUES)) -> Iterator[Run]:
    for seed in seeds:
        for parameter in parameters:
            values = VALUES[parameter]
            for start in ("embedding", "cells") if parameter in BOTH_STARTS else ("embedding",):
                for value in values:
                    yield Run(parameter, value, start, seed)


def train(run: Run) -> dict[str, Any]:
    """Number of clusters, and their agreement with the simulated types."""
    import scvi
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    from vmmscvi import SCVI_VMM
    from vmmscvi.data import simulate_counts

    settings = run.settings
    scvi.settings.seed = run.seed
    adata = simulate_counts(**DATA)
    SCVI_VMM.setup_anndata(adata, batch_key="batch")
    model = SCVI_VMM(adata, n_components=settings["n_components"], wishart_scale=settings["wishart_scale"])
    per_epoch = math.ceil(0.9 * N_CELLS / settings["batch_size"])
    max_epochs = math.ceil(N_MINIBATCHES / per_epoch)
    n_warmup_epochs = min(math.ceil(settings["n_warmup_minibatches"] / per_epoch), max_epochs // 2)
    began = time.process_time()
    model.train(
        max_epochs=max_epochs,
        batch_size=settings["batch_size"],
        prior_lr_ratio=settings["prior_lr_ratio"],
        start=run.start,
        n_effective=settings["n_effective"],
        n_warmup_epochs=n_warmup_epochs,
        accelerator="cpu",
        enable_progress_bar=False,
    )
    clusters, types = model.predict(), adata.obs["cell_type"]
    return {
        "n_clusters": clusters.nunique(),
        "nmi": round(normalized_mutual_info_score(types, clusters), 4),
        "ari": round(adjusted_rand_score(types, clusters), 4),
        "n_epochs": len(model.history["elbo_train"]),
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def run_missing(seeds: list[int], parameters: list[str]) -> None:
    """Train what the table lacks, and add each line as it is known."""
    known = pd.read_csv(TABLE).to_dict("records") if TABLE.exists() else []
    results = {}
    for row in known:
        value = type(DEFAULTS[row["parameter"]])(row["value"])
        run = Run(row["parameter"], value, row["start"], row["seed"])
        results[run.key] = {name: row[name] for name in list(row)[len(Run._fields) :]}
    n_known = {Run(r["parameter"], str(r["value"]), r["start"], r["seed"]) for r in known}
    for run in runs(seeds, parameters):
        if run._replace(value=str(run.value)) in n_known:
            continue
        if run.key not in results:
            results[run.key] = train(run)
            logger.info("%s: %s", run, results[run.key])
        row = {**run._asdict(), **results[run.key]}
        is_new = not TABLE.exists()
        with TABLE.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
            if is_new:
                writer.writeheader()
            writer.writerow(row)


def draw(parameter: str, table: pd.DataFrame) -> None:
    """Draw clusters and agreement against the values of one parameter."""
    rows = table[table["parameter"] == parameter]
    values = [str(value) for value in VALUES[parameter] if str(value) in set(rows["value"])]
    ticks = [value.removesuffix(".0") for value in values]
    figure, axes = axes_pair()
    for ax, column, label in zip(
        axes, ("n_clusters", "nmi"), ("clusters", "NMI with the types"), strict=True
    ):
        for start, color, name in (
            ("embedding", BLUE, "default start"),
            ("cells", VERMILION, "paper's start"),
        ):
            part = rows[rows["start"] == start]
            if part.empty:
                continue
            for _, of_seed in part.groupby("seed"):
                y = of_seed.set_index(of_seed["value"].astype(str))[column].reindex(values)
                ax.plot(ticks, y, color=color, lw=0.8, alpha=0.5)
                ax.plot(ticks, y, "o" if start == "embedding" else "s", color=color, ms=5, alpha=0.8)
            ax.plot([], [], "o-" if start == "embedding" else "s-", color=color, ms=5, lw=0.8, label=name)
        ax.axvline(ticks[values.index(str(DEFAULTS[parameter]))], color="0.8", lw=6, zorder=0)
        ax.set_xlabel(parameter)
        ax.set_ylabel(label)
    axes[0].axhline(N_TYPES, color="0.6", lw=0.8, ls="--")
    axes[0].set_ylim(bottom=0)
    axes[1].set_ylim(0, 1.02)
    if rows["start"].nunique() > 1:
        axes[1].legend(loc="lower right")
    saved(figure, STATIC / f"hyperparameter_{parameter}.svg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["run", "draw"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--parameters", nargs="+", choices=list(VALUES), default=list(VALUES))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    warnings.filterwarnings("ignore")
    if arguments.what == "run":
        run_missing(arguments.seeds, arguments.parameters)
    else:
        for parameter in arguments.parameters:
            draw(parameter, pd.read_csv(TABLE, dtype={"value": str}))


if __name__ == "__main__":
    main()
