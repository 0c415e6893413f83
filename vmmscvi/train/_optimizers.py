"""The optimizers of networks and prior: their gradients, schedules and states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import hardshrink
from torch.optim.lr_scheduler import ReduceLROnPlateau

from vmmscvi.train._epoch_logging import LogsOncePerEpoch

PRIOR_EPS = 1e-7
"""Adam's epsilon for the prior, as in the paper; small because the prior's gradients are small."""
SUBNORMAL = 1e-30
"""Smaller optimizer state is set to zero once per epoch: subnormal numbers slow a CPU down many times."""


class PriorOptimizerMixin(LogsOncePerEpoch):
    """Optimizers of a scvi-tools plan: networks, further parameters, and the prior, in this order.

    The prior's optimizer exists once the prior has been initialised.
    """

    prior_lr_ratio: float
    gradient_clip_val: float | None
    gradient_clip_algorithm: Literal["norm", "value"]
    fits_prior: bool = False
    """Whether there is an optimizer of the prior."""

    @property
    def _fused(self) -> bool:
        # One kernel for all parameters: Adam's many small operations take a fifth of a step on a CPU. Under
        # mixed precision the fused kernel unscales the gradient, after clipping would be needed.
        # `fused_optimizer` is an argument of scvi-tools since 1.5.
        return self.gradient_clip_val is None and getattr(self, "fused_optimizer", True)

    def _optimizer_creator_fn(self, optimizer_cls: Callable[..., torch.optim.Optimizer]) -> Any:
        return lambda params: optimizer_cls(
            params, lr=self.lr, eps=self.eps, weight_decay=self.weight_decay, fused=self._fused
        )

    def other_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return the optimizers of parameters beside networks and prior; none here."""
        return []

    def configure_optimizers(self) -> Any:
        """Create the optimizers of the networks, of further parameters, and of a fitted prior."""
        is_prior = {id(p) for p in self.module.prior_parameters()}
        every: Iterable[nn.Parameter] = self.module.parameters()
        networks = self.get_optimizer_creator()(
            [p for p in every if p.requires_grad and id(p) not in is_prior]
        )
        optimizers = [networks, *self.other_optimizers()]
        self.fits_prior = bool(is_prior) and self.module.latent_prior.is_fitted
        if self.fits_prior:
            optimizers.append(self._prior_optimizer())
        if not self.reduce_lr_on_plateau:
            return optimizers
        scheduler = ReduceLROnPlateau(
            networks,
            patience=self.lr_patience,
            factor=self.lr_factor,
            threshold=self.lr_threshold,
            min_lr=self.lr_min,
            threshold_mode="abs",
        )
        return optimizers, [scheduler]

    def prior_was_installed(self) -> None:
        """Replace the prior's optimizer by that of a newly installed prior."""
        parameters = self.module.prior_parameters()
        if not parameters:
            return
        kept = self.trainer.optimizers[:-1] if self.fits_prior else self.trainer.optimizers
        self.trainer.strategy.optimizers = [*kept, self._prior_optimizer()]
        self.fits_prior = True
        self._prior_follows_schedule()

    def _prior_optimizer(self) -> torch.optim.Optimizer:
        lr = self.lr * self.prior_lr_ratio
        return torch.optim.Adam(self.module.prior_parameters(), lr, eps=PRIOR_EPS, fused=self._fused)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient; done here because mixed precision has unscaled it by now."""
        if self.gradient_clip_val is None:
            return
        clip = (
            nn.utils.clip_grad_norm_ if self.gradient_clip_algorithm == "norm" else nn.utils.clip_grad_value_
        )
        clip(parameters_of(optimizer), self.gradient_clip_val)

    def step_schedulers(self) -> None:
        """Step the learning-rate schedule, which Lightning leaves to the plan under manual optimisation."""
        if not self.reduce_lr_on_plateau or self.trainer.sanity_checking:
            return
        self.lr_schedulers().step(self.trainer.callback_metrics[self.lr_scheduler_metric])
        self._prior_follows_schedule()

    def _prior_follows_schedule(self) -> None:
        """Keep the ratio of the two learning rates."""
        if self.fits_prior:
            networks, prior = self.trainer.optimizers[0], self.trainer.optimizers[-1]
            for group in prior.param_groups:
                group["lr"] = networks.param_groups[0]["lr"] * self.prior_lr_ratio


def parameters_of(*optimizers: torch.optim.Optimizer) -> list[nn.Parameter]:
    """Return all parameters of the optimizers."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    return [parameter for group in groups for parameter in group["params"]]


@contextmanager
def held(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Hold parameters fixed within the context: they receive no gradient."""
    trained = [p for p in parameters if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@torch.no_grad()
def flush_subnormals(optimizer: torch.optim.Optimizer) -> None:
    """Set negligible entries of an optimizer's state to zero.

    Without a gradient, as in unused components, the moments decay geometrically and would stay at the
    smallest subnormal number.
    """
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor) and value.is_floating_point():
                value.copy_(hardshrink(value, SUBNORMAL))
