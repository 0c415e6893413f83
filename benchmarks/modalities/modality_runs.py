"""One run of the comparison: train a model, score its clusters, write a JSON file. Finished runs are kept."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scvi
import torch
from modality_data import DataSpec
from modality_models import MODELS, MissingModelError, cells_of
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from vmmscvi._neighbors import leiden, neighbor_graph

LEIDEN_RESOLUTIONS = tuple(round(0.1 * step, 1) for step in range(1, 21))
"""Resolutions that the best is chosen from."""

logger = logging.getLogger("modalities")

N_ELBO_DRAWS = 5
"""The ELBO of the validation cells is the mean of so many draws of their latent variables."""


@dataclass(frozen=True)
class Run:
    """One training."""

    data: DataSpec
    model: str
    method: str
    seed: int

    def path(self, out: Path) -> Path:
        """Return the file of its result; the embedding lies beside it."""
        return out / self.data.name / self.model / f"{self.method}-seed{self.seed}.json"


def runs_of(
    specs: list[DataSpec], models: list[str] | None, methods: list[str], seeds: list[int]
) -> list[Run]:
    """Return all runs, in the order of the data sets."""
    return [
        Run(spec, model, method, seed)
        for spec in specs
        for model in spec.models
        if not models or model in models
        for method in methods
        for seed in seeds
    ]


def run_all(runs: list[Run], data: Path, out: Path, max_epochs: int | None) -> int:
    """Make the results that are missing; return how many could not be made."""
    loaded: tuple[str, ad.AnnData] | None = None
    n_failed = 0
    for i, run in enumerate(runs, start=1):
        title = f"[{i}/{len(runs)}] {run.data.name}, {run.model}, {run.method}, seed {run.seed}"
        if run.path(out).exists():
            logger.info("%s: done before", title)
            continue
        try:
            MODELS[run.model].model_class(run.method)
            if loaded is None or loaded[0] != run.data.name:
                loaded = run.data.name, run.data.load(data)
            result = measure(run, loaded[1].copy(), out, max_epochs)
        except (MissingModelError, FileNotFoundError) as error:
            logger.warning("%s: skipped: %s", title, error)
            n_failed += 1
        except Exception:
            logger.exception("%s: failed; the next call tries again", title)
            n_failed += 1
        else:
            logger.info("%s: %s", title, summary(result))
    return n_failed


def summary(result: dict[str, Any]) -> str:
    """Return a line about a run: time, ELBO, and the first labels' scores."""
    found = result["own"] or next(each for each in result["leiden"] if each["resolution"] == 1)
    column, scores = next(iter(found["scores"].items()))
    return (
        f"{result['train_seconds']:.0f} s, {result['n_epochs']} epochs, ELBO {result['elbo']:.1f}, "
        f"{found['n_clusters']} clusters, {column} ({result['n_types'][column]}): NMI {scores['nmi']:.3f}, "
        f"ARI {scores['ari']:.3f}"
    )


def measure(run: Run, adata: ad.AnnData, out: Path, max_epochs: int | None) -> dict[str, Any]:
    """Train with defaults and write the result.

    The seed is set before the model is built: it decides the validation cells, the same ones for scvi-tools'
    model and for ours.
    """
    spec = MODELS[run.model]
    adata = cells_of(run.model, adata)
    model_class = spec.model_class(run.method)
    registered = spec.setup(model_class, adata)
    scvi.settings.seed = run.seed
    model = model_class(registered)
    arguments: dict[str, Any] = {"enable_progress_bar": False}
    if max_epochs is not None:
        arguments["max_epochs"] = max_epochs
    wall, cpu = time.perf_counter(), time.process_time()
    model.train(**arguments)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu

    torch.manual_seed(run.seed)
    held_out = np.sort(model.validation_indices)
    elbo = float(np.mean([float(model.get_elbo(indices=held_out)) for _ in range(N_ELBO_DRAWS)]))
    z = np.asarray(model.get_latent_representation(), dtype=np.float32)
    labels = {column: adata.obs[column].to_numpy(str) for column in run.data.labels}
    own = np.asarray(model.predict(), dtype=str) if run.method == "vmm" else None
    graph = neighbor_graph(z, run.seed)
    result = {
        "data": run.data.name,
        "modality": run.data.modality,
        "model": run.model,
        "method": run.method,
        "seed": run.seed,
        "max_epochs": max_epochs,
        "versions": {"scvi-tools": scvi.__version__, "torch": torch.__version__},
        "n_cells": adata.n_obs,
        "n_latent": z.shape[1],
        "n_types": {column: len(np.unique(values)) for column, values in labels.items()},
        "validation_cells": len(held_out),
        "validation_hash": hashlib.sha1(held_out.astype("<i8").tobytes()).hexdigest(),
        "n_epochs": max(len(values) for values in model.history.values()),
        "train_seconds": wall,
        "train_cpu_seconds": cpu,
        "elbo": elbo,
        "own": None if own is None else scored(own, labels),
        "leiden": [
            {
                "resolution": resolution,
                **scored(np.asarray(leiden(graph, run.seed, resolution), dtype=str), labels),
            }
            for resolution in LEIDEN_RESOLUTIONS
        ],
    }
    arrays = {"z": z, "obs_names": adata.obs_names.to_numpy(str), **labels}
    write(run.path(out), result, arrays if own is None else {**arrays, "own": own})
    return result


def scored(clusters: NDArray[np.str_], labels: dict[str, NDArray[np.str_]]) -> dict[str, Any]:
    """Return the number of clusters, and NMI and ARI with each column of labels."""
    return {
        "n_clusters": len(np.unique(clusters)),
        "scores": {
            column: {
                "nmi": float(normalized_mutual_info_score(values, clusters)),
                "ari": float(adjusted_rand_score(values, clusters)),
            }
            for column, values in labels.items()
        },
    }


def write(path: Path, result: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Write the embedding, then the result: a result that exists is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path.with_suffix(".npz"), **arrays)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(result, indent=1))
    os.replace(part, path)
