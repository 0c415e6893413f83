"""Initial weights of a query's new batches: the average over the reference's batches."""

from __future__ import annotations

from typing import Any

import torch
from scvi.nn import FCLayers
from torch import Tensor, nn


@torch.no_grad()
def average_new_batches(module: Any, n_known: int) -> None:
    """Initialise the weights of new batches with the average over the reference's batches.

    scvi-tools initialises them at random. A reference with a single batch has no weights for it, so the new
    weights are then zero.

    Parameters
    ----------
    module
        The module of a query; changed in place.
    n_known
        Number of batches of the reference.
    """
    n_batch = int(getattr(module, "n_batch", 0))
    if n_batch <= max(n_known, 1):
        return
    for layers in module.modules():
        if isinstance(layers, FCLayers) and list(layers.n_cat_list[:1]) == [n_batch]:
            if (
                sum(layers.n_cat_list[1:]) == 0
            ):  # else others follow the batches; scvi-tools appends at the end
                for linear in _with_covariates(layers):
                    _average(linear.weight[:, -n_batch:], n_known)


def _with_covariates(layers: FCLayers) -> list[nn.Linear]:
    return [
        layer
        for i, block in enumerate(layers.fc_layers)
        for layer in block
        if isinstance(layer, nn.Linear) and layers.inject_into_layer(i)
    ]


def _average(columns: Tensor, n_known: int) -> None:
    if n_known == 1:
        columns.zero_()
    else:
        columns[:, n_known:] = columns[:, :n_known].mean(1, keepdim=True)
