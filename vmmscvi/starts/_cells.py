"""Initialisation of a prior from single cells, as in the paper."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from vmmscvi.module._encoder_inputs import InputValues, count_nonnegative
from vmmscvi.priors import MixturePrior, PriorState
from vmmscvi.starts._clusters import new_pseudo_inputs, on_device
from vmmscvi.starts._protocol import InitialPrior
from vmmscvi.starts._sample import training_sample


class FromCells:
    """Initialise pseudo-inputs with ``K`` different training cells; keep weights and precisions.

    Batches and categories are initialised as uniform, as in the paper, so no centre prefers a batch.

    Parameters
    ----------
    indices
        Positions of the cells, one for each component; drawn at random by default.
    """

    needs_warm_up = False

    def __init__(self, indices: np.ndarray | None = None) -> None:
        self.indices = indices

    def check(self, datamodule: Any) -> None:
        """Accept any data."""

    def initialise(self, module: Any, datamodule: Any) -> InitialPrior:
        """Use training cells as pseudo-inputs."""
        prior = module.latent_prior
        prior.state = PriorState.FITTED
        if module.pseudo_inputs is None:
            return InitialPrior(prior, None)
        return InitialPrior(prior, self._pseudo_inputs(module, datamodule, prior))

    def _pseudo_inputs(self, module: Any, datamodule: Any, prior: MixturePrior) -> nn.ModuleDict:
        n_components = prior.n_components
        parts: dict[str, list[torch.Tensor]] = {}
        with torch.random.fork_rng(devices=[]):  # every loader draws a seed, even without workers
            found = 0
            for tensors in training_sample(datamodule, n_components, self.indices):
                _, inputs = module.capture_inputs(on_device(tensors, module))
                for name, values in inputs.items():
                    parts.setdefault(name, []).append(values.values)
                    found_here = len(values.values)
                found += found_here
                if found >= n_components:
                    break
        if found < n_components:
            raise ValueError(
                f"`n_components` must not exceed the number of training cells, {found}, found {n_components}."
            )
        cells = {name: torch.cat(values)[:n_components] for name, values in parts.items()}
        if self.indices is not None:  # cells were read in sorted order
            ranks = np.argsort(np.argsort(self.indices))
            cells = {name: values[ranks] for name, values in cells.items()}
        return new_pseudo_inputs(
            module,
            {
                name: (InputValues(values), count_nonnegative(values.amin(0)))
                for name, values in cells.items()
            },
        )
