"""One cell of the image benchmark: fit, score, take the ELBO apart, draw samples, and write it down."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from vmmscvi.benchmark.images._data import ImageData
from vmmscvi.benchmark.images._methods import build_estimator
from vmmscvi.benchmark.images._scores import score_clusters
from vmmscvi.benchmark.images._settings import CellSettings
from vmmscvi.vae import VAE, VaDE, elbo_surgery

if TYPE_CHECKING:
    from vmmscvi.vae._likelihoods import GaussianLikelihood

RUN_FILE = "run.json"
"""Settings, scores and times; written last, so that a cell that has it is complete."""
ARRAYS_FILE = "arrays.npz"
HISTORY_FILE = "history.csv"
N_DRAWS = 10
"""Prior predictive samples of every cluster that are kept."""
LARGEST_N_CLUSTERS = 30
"""Clusters, the heaviest first, of which samples are kept."""


class PredictiveSamples(NamedTuple):
    """What clusters look like, the heaviest first.

    Attributes
    ----------
    components
        Indices of the components, shape ``(C,)``.
    weights
        Their mixing weights, shape ``(C,)``.
    images
        Means of prior predictive samples, shape ``(C, n_draws, n_features)``.
    most_probable
        The training image of each cluster with the highest density under its component, ``(C, n_features)``.
    """

    components: NDArray[np.intp]
    weights: NDArray[np.float32]
    images: NDArray[np.float32]
    most_probable: NDArray[np.float32]


def run_cell(
    settings: CellSettings, data: ImageData, out: Path, accelerator: str = "auto", verbose: bool = False
) -> dict[str, Any]:
    """Run a cell and write its files.

    Parameters
    ----------
    settings
        The cell.
    data
        Its images.
    out
        Folder of the benchmark.
    accelerator
        Where to train.
    verbose
        Whether to show a progress bar.

    Returns
    -------
    What ``run.json`` says.
    """
    model = build_estimator(settings, data.x_train.shape[1], data.y_train, accelerator, verbose)
    start, cpu_start = time.perf_counter(), time.process_time()
    model.fit(data.x_train)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    arrays: dict[str, NDArray[Any]] = {"z": model.transform(data.x_train), "labels": data.y_train}
    record: dict[str, Any] = {
        "settings": settings.as_dict(),
        "n_images": len(data.x_train),
        "n_test": len(data.x_test),
        "n_epochs": len(model.history_),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "elbo_validation": -float(model.history_["elbo_validation"].min()),
        "noise_scale": noise_scale(model),
    }
    surgery = elbo_surgery(model, data.x_test, settings.n_likelihood_samples, random_state=settings.seed)
    record["surgery"] = surgery._asdict()
    if settings.method != "standard_normal":
        clusters = model.predict(data.x_train)
        record["clusters"] = score_clusters(data.y_train, clusters)._asdict()
        samples = predictive_samples(model, data.x_train, clusters)
        arrays |= {"clusters": clusters, **samples._asdict()}
    else:
        arrays["images"] = model.sample(N_DRAWS * N_DRAWS, noise=False)[0]
    _write(settings.folder(out), record, arrays, model)
    return record


def predictive_samples(
    model: VAE | VaDE, x: NDArray[np.float32], clusters: NDArray[np.intp], n_draws: int = N_DRAWS
) -> PredictiveSamples:
    """Draw from the prior predictive of every cluster that is in use.

    Parameters
    ----------
    model
        A fitted model whose prior has components.
    x
        Training images, shape ``(n, n_features)``.
    clusters
        Their clusters, shape ``(n,)``.
    n_draws
        Samples of each.
    """
    import torch

    weights = model.cluster_weights()
    used = np.unique(clusters)
    used = used[np.argsort(-weights[used])][:LARGEST_N_CLUSTERS]
    with torch.no_grad():
        z = torch.from_numpy(model.transform(x))
        density: Any = model.module_.prior
        log_prob = density.component_log_prob(z).numpy()
    most_probable = [x[clusters == j][log_prob[clusters == j, j].argmax()] for j in used]
    images = [model.sample(n_draws, component=int(j), noise=False)[0] for j in used]
    return PredictiveSamples(used, weights[used], np.stack(images), np.stack(most_probable))


def noise_scale(model: VAE | VaDE) -> float:
    """Learned standard deviation of a pixel."""
    likelihood = cast("GaussianLikelihood", model.module_.likelihood)
    return float(likelihood.log_scale.detach().exp())


def read_record(folder: Path) -> dict[str, Any] | None:
    """Read what is written of a cell, ``None`` if it has not been run to its end."""
    path = folder / RUN_FILE
    if not path.is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def _write(folder: Path, record: dict[str, Any], arrays: dict[str, NDArray[Any]], model: VAE | VaDE) -> None:
    """Write into a folder beside, which takes the place when it is complete."""
    beside = folder.with_name(f"{folder.name}.incomplete")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    np.savez_compressed(beside / ARRAYS_FILE, **arrays)  # type: ignore[arg-type]
    model.history_.to_csv(beside / HISTORY_FILE)
    (beside / RUN_FILE).write_text(json.dumps(record, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
