"""The default start of the prior, in a latent space of two dimensions, where it can be looked at.

    python docs/figures/default_start.py

Simulated counts of five types in two batches, and a training with the defaults but for the two dimensions.
"""

from __future__ import annotations

import warnings
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import scvi
import torch
from _style import STATIC
from lightning.pytorch.callbacks import Callback
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse

from vmmscvi import SCVI_VMM
from vmmscvi.data import simulate_counts
from vmmscvi.plotting import COLORS
from vmmscvi.priors import PriorState


class AtStart(Callback):
    """Keep the embedding and the components of the moment at which the prior has started."""

    def __init__(self, model: SCVI_VMM) -> None:
        self.model, self.state = model, None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        module = self.model.module
        if self.state is not None or module.latent_prior.state is PriorState.WARMING_UP:
            return
        with torch.random.fork_rng():
            module.eval()
            module.cache_centers()
            self.model.is_trained_ = True
            self.state = snapshot(self.model)
            self.model.is_trained_ = False
            module.train()


def snapshot(model: SCVI_VMM) -> dict[str, np.ndarray]:
    components = model.module.latent_prior.component_distribution()
    return {
        "z": model.get_latent_representation(),
        "clusters": model.get_cluster_probabilities().to_numpy().argmax(1),
        "loc": components.loc.detach().numpy(),
        "covariance": components.covariance_matrix.detach().numpy(),
    }


def ellipses(ax: Axes, state: dict[str, np.ndarray]) -> None:
    """Two standard deviations of every component in use."""
    for j in np.unique(state["clusters"]):
        values, vectors = np.linalg.eigh(state["covariance"][j])
        angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
        width, height = 4 * np.sqrt(values[::-1])
        color = COLORS[int(j)]
        ax.add_patch(Ellipse(state["loc"][j], width, height, angle=angle, fc="none", ec=color, lw=1.4))
        ax.plot(*state["loc"][j], "+", color="black", ms=7, mew=1.2)


def main() -> None:
    warnings.filterwarnings("ignore")
    scvi.settings.seed = 0
    adata = simulate_counts(n_cells=1500, n_genes=300, n_types=5, n_batches=2, batch_effect=0.2, seed=0)
    SCVI_VMM.setup_anndata(adata, batch_key="batch")
    model = SCVI_VMM(adata, n_latent=2)
    at_start = AtStart(model)
    model.train(callbacks=[at_start], max_epochs=334, accelerator="cpu", enable_progress_bar=False)
    start, end = at_start.state, snapshot(model)
    assert start is not None
    figure, axes = plt.subplots(1, 3, figsize=(6.8, 2.6), sharex=True, sharey=True)
    titles = (
        "1  warm-up:\nembedding under N(0, I)",
        "2  start: clusters\nin this embedding",
        "3  after training\nwith both steps",
    )
    for ax, title, state in zip(axes, titles, (start, start, end), strict=True):
        is_warm_up = ax is axes[0]
        colors = "0.55" if is_warm_up else [COLORS[int(j)] for j in state["clusters"]]
        ax.scatter(*state["z"].T, s=3, c=colors, lw=0, rasterized=True)
        if not is_warm_up:
            ellipses(ax, state)
        ax.set_title(title, loc="left", fontsize=10)
        ax.set_xlabel("$z_1$")
    axes[0].set_ylabel("$z_2$")
    axes[0].set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.2), aspect="equal")
    figure.savefig(STATIC / "default_start.png", dpi=160, bbox_inches="tight")
    plt.close(figure)
    print("clusters at the start and in the end:", *(len(np.unique(s["clusters"])) for s in (start, end)))


if __name__ == "__main__":
    main()
