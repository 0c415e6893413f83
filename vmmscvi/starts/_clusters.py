"""Initialisation of a prior from clusters of the embedding."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from scvi import REGISTRY_KEYS, settings
from torch import Tensor, nn

from vmmscvi.module._encoder_inputs import MeanInputs
from vmmscvi.priors import N_EFFECTIVE, CoarsenedMixture, LabelledCells, fit_coarsened_mixture
from vmmscvi.starts._protocol import InitialPrior
from vmmscvi.starts._sample import Minibatches, dense, training_sample
from vmmscvi.train._single_cells import n_cells_of

CELLS_PER_COMPONENT = 10
"""Smallest number of cells per component at the beginning of the search."""


class Embedding(NamedTuple):
    """Means and variances of posteriors, shape ``(n, p)``, on the CPU.

    Also the registered codes of labels and batches, shape ``(n,)``, if the data have them, and the logarithm
    of the cells' depth, if the module reports that the distance from the centre depends on it.
    """

    z: Tensor
    variance: Tensor
    labels: Tensor | None = None
    batches: Tensor | None = None
    log_depth: Tensor | None = None


class FromEmbedding:
    """Initialise a prior from clusters of the training cells' embedding.

    There is one component for each cluster. It has the cluster's weight and covariance; its pseudo-input is
    the cluster's mean encoder input. Cells are read twice, so only one minibatch is held in memory.

    Parameters
    ----------
    n_effective
        Effective sample size, ``None`` for the default; see
        :func:`vmmscvi.priors.fit_coarsened_mixture`.
    max_components
        Largest number of clusters; by default the prior's number of components.
    seed
        Seed of the search; by default scvi-tools' seed, which a resumed training takes from its checkpoint.
    """

    needs_warm_up = True

    def __init__(
        self, n_effective: float | None, max_components: int | None = None, seed: int | None = None
    ) -> None:
        self.n_effective = n_effective
        self.max_components = max_components
        self.seed = seed

    def check(self, datamodule: Any) -> None:
        """Accept any data."""

    def sample(self, datamodule: Any) -> Minibatches:
        """Return minibatches of the cells from which the prior is initialised.

        Parameters
        ----------
        datamodule
            The trainer's data module.
        """
        return training_sample(datamodule)

    def find_clusters(self, module: Any, embedding: Embedding) -> CoarsenedMixture:
        """Find the clusters of an embedding.

        Parameters
        ----------
        module
            The module.
        embedding
            Posteriors of the cells.

        Returns
        -------
        CoarsenedMixture
            The mixture.
        """
        return self._search(module, embedding)

    def _search(
        self, module: Any, embedding: Embedding, labels: LabelledCells | None = None
    ) -> CoarsenedMixture:
        bound = self.max_components or module.latent_prior.n_components
        n_components = min(bound, max(1, len(embedding.z) // CELLS_PER_COMPONENT))
        seed = settings.seed or 0 if self.seed is None else self.seed
        return fit_coarsened_mixture(
            embedding.z,
            n_components,
            self.n_effective,
            seed=seed,
            labels=labels,
            log_depth=embedding.log_depth,
        )

    def initialise(self, module: Any, datamodule: Any) -> InitialPrior:
        """Embed training cells, find clusters, and make a prior of them."""
        sample = self.sample(datamodule)
        embedding = embed(module, sample)
        mixture = self.find_clusters(module, embedding)
        n_effective = mixture.n_effective or min(self.n_effective or N_EFFECTIVE, len(embedding.z))
        shares = (mixture.responsibilities / mixture.responsibilities.sum(0)).float().mT
        prior = module.latent_prior.initialised_from(mixture, n_effective, shares @ embedding.variance)
        return InitialPrior(prior, mean_inputs(module, sample, shares))


def embed(module: Any, sample: Minibatches) -> Embedding:
    """Encode minibatches in evaluation mode.

    Parameters
    ----------
    module
        The module.
    sample
        Minibatches of ``n`` cells.

    Returns
    -------
    Embedding
        Posteriors of the ``n`` cells.
    """
    means, variances, depths = [], [], []
    codes: dict[str, list[Tensor]] = {REGISTRY_KEYS.LABELS_KEY: [], REGISTRY_KEYS.BATCH_KEY: []}
    for tensors in sample:
        on_its_device = on_device(tensors, module)
        with torch.no_grad():
            qz = module.posterior(module.encode_for_prior(on_its_device))
        means.append(qz.mean.float().cpu())
        variances.append(qz.variance.float().cpu())
        depth = module.log_depth(on_its_device)
        if depth is not None:
            depths.append(depth.float().cpu())
        for name, of_cells in codes.items():
            if tensors.get(name) is not None:
                of_cells.append(tensors[name].view(-1).long().cpu())
    labels, batches = (torch.cat(of_cells) if of_cells else None for of_cells in codes.values())
    log_depth = torch.cat(depths) if depths else None
    return Embedding(torch.cat(means), torch.cat(variances), labels, batches, log_depth)


def mean_inputs(module: Any, sample: Minibatches, shares: Tensor) -> nn.ModuleDict | None:
    """Average the encoders' inputs over each cluster's cells.

    Parameters
    ----------
    module
        The module.
    sample
        Minibatches of ``n`` cells.
    shares
        Weight of every cell in each cluster's mean, shape ``(K, n)``; rows sum to one.

    Returns
    -------
    ModuleDict | None
        New pseudo-inputs by encoder; ``None`` if the module's prior has none.
    """
    if module.pseudo_inputs is None:
        return None
    means = {name: MeanInputs() for name in module.pseudo_inputs}
    start = 0
    for tensors in sample:
        stop = start + n_cells_of(tensors)
        _, inputs = module.capture_inputs(on_device(tensors, module))
        for name, values in inputs.items():
            means[name].add(values, shares[:, start:stop].to(values.values.device))
        start = stop
    return new_pseudo_inputs(module, {name: mean.result() for name, mean in means.items()})


def new_pseudo_inputs(module: Any, results: dict[str, Any]) -> nn.ModuleDict:
    """Make pseudo-inputs of each encoder from values and the number of non-negative inputs."""
    return nn.ModuleDict(
        {
            name: module.pseudo_inputs[name].initialised_from(
                values, n_nonnegative if module.keeps_inputs_positive else 0
            )
            for name, (values, n_nonnegative) in results.items()
        }
    )


def on_device(tensors: dict[str, Tensor], module: Any) -> dict[str, Tensor]:
    """Move a minibatch to a module's device, in the strided layout."""
    device = next(module.parameters()).device
    return {name: tensor.to(device) for name, tensor in dense(tensors).items()}
