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
"""Adam's epsilon for the prior, as in the paper: its gradients are small."""
SUBNORMAL = 1e-30
"""Optimizer state below this is set to zero once an epoch: subnormal numbers make a CPU many times slower."""


class PriorOptimizerMixin(LogsOncePerEpoch):
    """For a plan of scvi-tools: optimizers of the networks, of what else the plan trains, and of the prior.

    The prior's comes last. It exists from the moment that the prior is initialised.
    """

    prior_lr_ratio: float
    gradient_clip_val: float | None
    gradient_clip_algorithm: Literal["norm", "value"]
    fits_prior: bool = False
    """Whether there is an optimizer of the prior."""

    @property
    def _fused(self) -> bool:
        # One kernel for all parameters: Adam's many small operations are a fifth of a step on a CPU. Under
        # mixed precision it also unscales the gradient, which is too late for clipping.
        # `fused_optimizer` is an argument of scvi-tools since 1.5.
        return self.gradient_clip_val is None and getattr(self, "fused_optimizer", True)

    def _optimizer_creator_fn(self, optimizer_cls: Callable[..., torch.optim.Optimizer]) -> Any:
        return lambda params: optimizer_cls(
            params, lr=self.lr, eps=self.eps, weight_decay=self.weight_decay, fused=self._fused
        )

    def other_optimizers(self) -> list[torch.optim.Optimizer]:
        """Optimizers of what a plan trains beside networks and prior."""
        return []

    def configure_optimizers(self) -> Any:
        """Create the networks' optimizer, others, and the prior's where there is a prior to fit."""
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
        """Optimise a prior that is new from now on."""
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
        """Clip the gradient, here and not before: mixed precision has unscaled it by now."""
        if self.gradient_clip_val is None:
            return
        clip = (
            nn.utils.clip_grad_norm_ if self.gradient_clip_algorithm == "norm" else nn.utils.clip_grad_value_
        )
        clip(parameters_of(optimizer), self.gradient_clip_val)

    def step_schedulers(self) -> None:
        """Step the schedule of the learning rate, which Lightning does not under manual optimisation."""
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
    """All parameters that optimizers change."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    return [parameter for group in groups for parameter in group["params"]]


@contextmanager
def held(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Keep parameters out of the graph for a while: no gradient is computed for them, or written to them."""
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

    Moments of parameters that no longer receive a gradient (those of unused components) decay geometrically
    and would stay at the smallest subnormal number for ever.
    """
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor) and value.is_floating_point():
                value.copy_(hardshrink(value, SUBNORMAL))
