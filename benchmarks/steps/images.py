"""One training of the paper's image experiments: a prior in a plain VAE, or VaDE.

    python images.py --settings '{"dataset": "digits", "method": "vmm", "max_epochs": 120}' --out DIR

Writes ``result.json`` (settings, scores, the ELBO taken apart) and ``arrays.npz`` (embedding, clusters, and
for each cluster samples of the prior predictive and its most probable training image).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lightning.pytorch.callbacks import Callback
from sklearn.metrics import normalized_mutual_info_score

from vmmscvi.vae import VAE, VaDE, elbo_surgery, mlp_decoder, mlp_encoder
from vmmscvi.vae._fitting import seeded

DATASETS: dict[str, dict[str, Any]] = {
    "digits": {"hidden": (256, 256), "n_latent": 10},  # smaller layers for 64 pixels
    "mnist": {"hidden": (500, 500, 2000), "n_latent": 10},
    "fashion_mnist": {"hidden": (500, 500, 2000), "n_latent": 30},
}
DEFAULTS = {
    "seed": 0, "batch_size": 256, "max_epochs": 10_000, "lr": 1e-4, "prior_lr_ratio": 1.0, "patience": 100,
    "n_components": 100, "stop_on": "elbo", "n_images": None, "n_test": None, "n_likelihood_samples": 100,
    "accelerator": "auto", "precision": "32-true",
}  # fmt: skip
"""The paper's. ``stop_on="nmi"`` chooses the epoch with labels, as in its Table 2."""
SHARED = ("max_epochs", "batch_size", "lr", "patience", "accelerator", "precision")
"""Settings that are arguments of every estimator."""
N_DRAWS, LARGEST_N_CLUSTERS = 10, 30


class Images(NamedTuple):
    """Flattened images with values between -1 and 1, and their labels."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def load_images(name: str, folder: Path, n_images: int | None = None, n_test: int | None = None) -> Images:
    """Read scikit-learn's digits, or ``mnist.npz`` or ``fashion_mnist.npz`` of a folder.

    Parameters
    ----------
    name
        Name of the dataset.
    folder
        Where the files are: ``x_train``, ``y_train``, ``x_test`` and ``y_test``, with values up to 255.
    n_images, n_test
        Numbers of training and test images, drawn at random, always the same ones; all by default.
    """
    if name == "digits":
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        x, y = load_digits(return_X_y=True)
        x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
        largest = 16
    else:
        with np.load(folder / f"{name}.npz") as file:
            x_train, y_train, x_test, y_test = (file[key] for key in Images._fields)
        largest = 255
    parts = []
    for images, labels, n in ((x_train, y_train, n_images), (x_test, y_test, n_test)):
        rows = np.arange(len(images))
        if n is not None and n < len(images):
            rows = np.sort(np.random.default_rng(0).choice(len(images), n, replace=False))
        scaled = images[rows].reshape(len(rows), -1).astype(np.float32) * np.float32(2 / largest) - 1
        parts += [scaled, labels[rows].astype(np.int64)]
    return Images(*parts)


def build_estimator(settings: dict[str, Any], n_features: int, labels: np.ndarray) -> VAE | VaDE:
    """Make the estimator of a training; ``labels`` are looked at with ``stop_on="nmi"`` only."""
    method, of_data = settings["method"], DATASETS[settings["dataset"]]
    with seeded(settings["seed"]):  # the same initial weights for all methods of a seed
        encoder = mlp_encoder(n_features, of_data["hidden"])
        decoder = mlp_decoder(of_data["n_latent"], n_features, of_data["hidden"][::-1])
    common = {key: settings[key] for key in SHARED}
    common |= {"encoder": encoder, "decoder": decoder, "n_latent": of_data["n_latent"]}
    common |= {"random_state": settings["seed"], "devices": 1}
    if settings["stop_on"] == "nmi":
        if method == "standard_normal":
            raise ValueError("`stop_on` must be 'elbo' for 'standard_normal', which has no clusters.")
        common |= {"monitor": "nmi_validation", "monitor_mode": "max", "callbacks": [ValidationNMI(labels)]}
    if method == "vade":
        return VaDE(10, n_pretrain_epochs=min(max(1, settings["max_epochs"] // 3), 100), **common)
    if method == "vmm_default":
        del common["lr"]  # the estimator's own
        return VAE("vmm", n_components=settings["n_components"], **common)
    # the paper encodes a minibatch anew for the prior's step
    common |= {"n_components": settings["n_components"], "reuse_encoding": False}
    if method == "vmm_embedding":
        return VAE("vmm", start="embedding", **common)
    ratio = settings["prior_lr_ratio"]
    return VAE(method, start="cells", wishart_scale="paper", prior_lr_ratio=ratio, **common)


class ValidationNMI(Callback):
    """Log the NMI of clusters and labels of the validation images in every epoch.

    Parameters
    ----------
    labels
        Labels of all images that are given to ``fit``.
    """

    def __init__(self, labels: np.ndarray) -> None:
        super().__init__()
        self.labels = labels

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Assign the validation images and compare."""
        from vmmscvi.priors import PriorState
        from vmmscvi.vae._embedding import embed_rows

        module, rows, value = pl_module.module, trainer.datamodule.validation_indices, 0.0
        if module.latent_prior.state is not PriorState.WARMING_UP:
            z = embed_rows(module, trainer.datamodule.x[rows]).z.to(next(module.parameters()).device)
            clusters = module.assign(z, module.centers()).cpu().numpy()
            value = float(normalized_mutual_info_score(self.labels[rows], clusters))
        pl_module.log("nmi_validation", value)


def cluster_scores(labels: np.ndarray, clusters: np.ndarray) -> dict[str, float]:
    """Scores of the paper's Table 2. Accuracy and ``*_merged`` merge clusters by their majority label."""
    from score import agreement, merge_by_label

    labels = labels.astype(str)
    merged, own = merge_by_label(labels, clusters), agreement(labels, clusters)
    of_merged = agreement(labels, merged)
    return {
        "n_clusters": own["n_clusters"],
        "accuracy": float(np.mean(labels == merged)),
        **{f"{name}_merged": float(of_merged[name]) for name in ("nmi", "ari")},
        **{name: float(own[name]) for name in ("nmi", "ari")},
    }


def predictive_samples(model: VAE | VaDE, x: np.ndarray, clusters: np.ndarray) -> dict[str, np.ndarray]:
    """Draw from the prior predictive of the heaviest clusters; with the most probable image of each."""
    import torch

    weights, used = model.cluster_weights(), np.unique(clusters)
    used = used[np.argsort(-weights[used])][:LARGEST_N_CLUSTERS]
    with torch.no_grad():
        log_prob = model.module_.latent_prior.component_log_prob(torch.from_numpy(model.transform(x))).numpy()
    best = [x[clusters == j][log_prob[clusters == j, j].argmax()] for j in used]
    drawn = [model.sample(N_DRAWS, component=int(j), noise=False)[0] for j in used]
    return {"weights": weights[used], "images": np.stack(drawn), "most_probable": np.stack(best)}


def run(settings: dict[str, Any], data: Images) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Train and score; return what is written to ``result.json`` and to ``arrays.npz``."""
    model = build_estimator(settings, data.x_train.shape[1], data.y_train).fit(data.x_train)
    surgery = elbo_surgery(
        model, data.x_test, settings["n_likelihood_samples"], random_state=settings["seed"]
    )
    result = {
        "settings": {**settings, "lr": model.lr},
        "n_epochs": len(model.history_),
        "elbo_validation": -float(model.history_["elbo_validation"].min()),
        "noise_scale": float(model.module_.likelihood.log_scale.detach().exp()),
        **surgery._asdict(),
    }
    arrays = {"z": model.transform(data.x_train), "labels": data.y_train}
    if settings["method"] != "standard_normal":
        clusters = model.predict(data.x_train)
        result |= cluster_scores(data.y_train, clusters)
        arrays |= {"clusters": clusters, **predictive_samples(model, data.x_train, clusters)}
    return result, arrays


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=json.loads, required=True)
    parser.add_argument("--data", type=Path, default=Path())
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    unknown = set(arguments.settings) - {*DEFAULTS, "dataset", "method"}
    if unknown:
        raise ValueError(f"`settings` has {sorted(unknown)}; expected some of {sorted(DEFAULTS)}.")
    settings = {**DEFAULTS, **arguments.settings}
    data = load_images(settings["dataset"], arguments.data, settings["n_images"], settings["n_test"])
    result, arrays = run(settings, data)
    arguments.out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(arguments.out / "arrays.npz", **arrays)
    (arguments.out / "result.json").write_text(json.dumps(result, indent=1, default=float))


if __name__ == "__main__":
    main()
