"""What one cell of the image benchmark is: a dataset, a method, a batch size, a seed, and how to train."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from vmmscvi.benchmark.images._data import DatasetName

MethodName = Literal["vmm", "vmm_embedding", "gmm", "vampprior", "vade", "standard_normal"]
StopOn = Literal["elbo", "nmi"]

TITLES = MappingProxyType(
    {
        "vmm": "VMM",
        "vmm_embedding": "VMM, start from the embedding",
        "gmm": "GMM",
        "vampprior": "VampPrior",
        "vade": "VaDE",
        "standard_normal": "N(0, I)",
    }
)
"""Methods as tables name them; ``"vmm"`` and ``"gmm"`` start from drawn images, as in the paper."""
N_LATENT = MappingProxyType({"digits": 10, "mnist": 10, "fashion_mnist": 30})
"""The paper's, and MNIST's for digits."""
HIDDEN = MappingProxyType(
    {"digits": (256, 256), "mnist": (500, 500, 2000), "fashion_mnist": (500, 500, 2000)}
)
"""Widths of the encoder's layers, the decoder's mirror them: the paper's, and smaller ones for 64 pixels."""
USED_BY = MappingProxyType(
    {"prior_lr_ratio": ("vmm", "gmm"), "n_components": ("vmm", "vmm_embedding", "gmm", "vampprior")}
)
"""Settings that not all methods use."""
N_CLASSES = 10
PRETRAIN_SHARE = 3
"""VaDE's auto-encoder is trained for one epoch in so many."""


@dataclass(frozen=True)
class CellSettings:
    """One training and everything that is computed from it.

    Attributes
    ----------
    dataset, method, seed, batch_size
        Which cell.
    max_epochs, lr, prior_lr_ratio, patience
        See :class:`vmmscvi.vae.VAE`.
    n_components
        Largest number of clusters; VaDE is given the number of classes.
    stop_on
        Which value of the validation images chooses the epoch: ``"elbo"``, or ``"nmi"`` of the clusters with
        the labels, as in the paper's Table 2.
    n_images, n_test
        Numbers of training and test images; all if ``None``.
    n_likelihood_samples
        Samples of each posterior for the likelihoods of the test images.
    """

    dataset: DatasetName
    method: MethodName
    seed: int = 0
    batch_size: int = 256
    max_epochs: int = 10_000
    lr: float = 1e-4
    prior_lr_ratio: float = 1.0
    patience: int = 100
    n_components: int = 100
    stop_on: StopOn = "elbo"
    n_images: int | None = None
    n_test: int | None = None
    n_likelihood_samples: int = 100

    @property
    def n_latent(self) -> int:
        """Dimension of the latent space."""
        return N_LATENT[self.dataset]

    def folder(self, out: Path) -> Path:
        """Where the files of this cell are."""
        return out / self.dataset / self.method / f"batch{self.batch_size}" / f"seed{self.seed}"

    def as_dict(self) -> dict[str, Any]:
        """Return everything that makes a difference for the method, as it is written to a file."""
        unused = {name for name, methods in USED_BY.items() if self.method not in methods}
        return {name: value for name, value in asdict(self).items() if name not in unused}
