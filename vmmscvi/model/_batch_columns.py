"""Weights of batches that a query adds: those of an average batch of the reference."""

from __future__ import annotations

from typing import Any

import torch
from scvi.nn import FCLayers
from torch import Tensor, nn


@torch.no_grad()
def average_new_batches(module: Any, n_known: int) -> None:
    """Let new batches be treated as the average batch of the reference, until they are trained.

    scvi-tools gives them random weights. A reference of a single batch has no weights for it, so that there
    the batches of the query have none either.

    Parameters
    ----------
    module
        The module of a query.
    n_known
        Number of batches of the reference.
    """
    n_batch = int(getattr(module, "n_batch", 0))
    if n_batch <= max(n_known, 1):
        return
    for layers in module.modules():
        if isinstance(layers, FCLayers) and list(layers.n_cat_list[:1]) == [n_batch]:
            if sum(layers.n_cat_list[1:]) == 0:  # others follow the batches: scvi-tools appends to the end
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
