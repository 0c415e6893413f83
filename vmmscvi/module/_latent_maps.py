"""Query batches: a map of the latent space for each, and the reference's batch normalisation."""

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
    """Latent maps for a module whose inference is wrapped by :func:`with_latent_maps`."""

    latent_prior: Prior
    latent_maps: Mapping[int, LatentMap] = {}
    """Map that moves the cells of a batch to similar cells of the reference, by batch code."""

    def train(self, mode: bool = True) -> Any:
        """Set the mode; a query keeps the reference's batch-norm statistics during training.

        Otherwise, batch normalisation would centre the cells of a query batch in training but not in use.

        Parameters
        ----------
        mode
            Whether to set training mode.

        Returns
        -------
        Self
            The module.
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
            Outputs of ``inference``.
        batch_index
            Batch codes, shape ``(n, 1)``.

        Returns
        -------
        dict
            Outputs with moved posteriors and samples.
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
    """Make a module's inference move the cells of batches that have a map.

    Parameters
    ----------
    inference
        A method with an argument ``batch_index`` that returns a posterior ``"qz"`` and samples ``"z"``.
    stock
        Method whose signature names the arguments, if that of ``inference`` does not.

    Returns
    -------
    Callable
        The wrapped method.
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
