"""Batches of a query: a map of the latent space for each, and normalisation that stays the reference's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from vmmscvi._upstream import MODULE_KEYS, BatchNorm
from vmmscvi.priors import LatentMap, Prior


class LatentMapsMixin:
    """For a module whose inference is wrapped by :func:`with_latent_maps`."""

    latent_prior: Prior
    latent_maps: Mapping[int, LatentMap] = {}
    """By the code of a batch: how its cells are moved to where the reference has the like of them."""

    def train(self, mode: bool = True) -> Any:
        """Set the mode; batch normalisation keeps the reference's statistics while a query is trained.

        All cells of a query's batch would otherwise be centred, which undoes the difference of the batch in
        training and not in use.
        """
        module: Any = super().train(mode)  # type: ignore[misc]
        prior = getattr(self, "latent_prior", None)
        if mode and prior is not None and prior.is_frozen:
            for layer in module.modules():
                if isinstance(layer, BatchNorm):
                    layer.eval()
        return module

    def moved_to_reference(self, outputs: dict[str, Any], batch_index: Tensor) -> dict[str, Any]:
        """Move posteriors and their samples by the map of each cell's batch.

        Parameters
        ----------
        outputs
            What ``inference`` returns.
        batch_index
            Codes of batches, shape ``(n, 1)``.
        """
        qz = outputs[MODULE_KEYS.QZ_KEY]
        codes = batch_index.reshape(-1).long()
        shift = torch.zeros_like(qz.loc)
        if any(each.shift.device != shift.device for each in self.latent_maps.values()):
            self.latent_maps = {code: each.to(shift.device) for code, each in self.latent_maps.items()}
        for code, latent_map in self.latent_maps.items():
            cells = (codes == code).nonzero().ravel()
            if len(cells):
                z = qz.loc.detach()[cells].double()
                shift[cells] = (latent_map.moved(z) - z).to(shift)
        moved = {MODULE_KEYS.QZ_KEY: Normal(qz.loc + shift, qz.scale)}
        for name in (MODULE_KEYS.Z_KEY, "untran_z"):
            if outputs.get(name) is not None:
                moved[name] = outputs[name] + shift
        return {**outputs, **moved}


def with_latent_maps(
    inference: Callable[..., dict[str, Any]], stock: Callable[..., Any] | None = None
) -> Callable[..., dict[str, Any]]:
    """Let a module's inference move the cells of batches that have a map.

    Parameters
    ----------
    inference
        A method with an argument ``batch_index`` that returns a posterior ``"qz"`` and samples ``"z"``.
    stock
        The method whose signature names the arguments, where ``inference`` itself does not.
    """
    parameters = inspect.signature(stock or inference)

    @wraps(inference)
    def mapped(self: LatentMapsMixin, *args: Any, **kwargs: Any) -> dict[str, Any]:
        outputs = inference(self, *args, **kwargs)
        if not self.latent_maps:
            return outputs
        batch_index = parameters.bind(self, *args, **kwargs).arguments["batch_index"]
        return self.moved_to_reference(outputs, batch_index)

    return mapped
