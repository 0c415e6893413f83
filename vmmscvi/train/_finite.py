"""Stop training when a loss is not finite, and explain which loss and what to try.

Reading a loss waits for the device, so it is not done in every step. If the optimizer can skip a step on the
device (fused Adam), :class:`FiniteGuard` makes it skip every step from the first non-finite loss on, so
parameters stay unchanged. The loss is then read every few steps and at the end of an epoch, before
validation, so such an epoch cannot become the best one. For other optimizers every loss is read before the
step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

if TYPE_CHECKING:
    from scvi.module.base import LossOutput

INVALID_PARAMETER = re.compile(r"Expected parameter (\w+) .*? of distribution (\w+)", re.DOTALL)
"""Message of ``torch.distributions`` for NaN parameters; it raises no specific exception class."""


REMEDY = "Try a smaller learning rate (`lr`)."
"""Advice for modules without an attribute ``remedy``."""


STEPS_BETWEEN_CHECKS = 25
"""Number of guarded steps after which the loss is read."""


class NonFiniteTrainingError(RuntimeError):
    """A loss or a parameter became NaN or infinite."""


def require_finite(loss: LossOutput | Any, module: nn.Module, epoch: int) -> None:
    """Raise if a loss is NaN or infinite.

    Parameters
    ----------
    loss
        Any object with a scalar tensor ``loss``.
    module
        The module, searched for parameters that are not finite.
    epoch
        Index of the epoch, from 0; messages count from 1.

    Raises
    ------
    NonFiniteTrainingError
        Names the parts of the loss and the parameters that are not finite.
    """
    if torch.isfinite(loss.loss).all():
        return
    parts = [name for name, value in _parts(loss).items() if not torch.isfinite(value).all()]
    raise _error(" and ".join(parts) or "the loss", module, epoch)


class FiniteGuard:
    """Stop optimizers from stepping after a non-finite loss, without waiting for the device."""

    def __init__(self) -> None:
        self._total: Tensor | None = None
        self._last: dict[str, Any] = {}
        self._n_unread = 0

    def guard(
        self,
        kind: str,
        loss: LossOutput | Any,
        optimizer: torch.optim.Optimizer,
        module: nn.Module,
        epoch: int,
    ) -> None:
        """Make an optimizer skip its next step if this or an earlier loss is not finite.

        Parameters
        ----------
        kind
            Name of the step, for the message.
        loss
            Any object with a scalar tensor ``loss``.
        optimizer
            Optimizer of the next step. If it cannot skip a step on the device, the loss is read now.
        module, epoch
            As in :func:`require_finite`.

        Raises
        ------
        NonFiniteTrainingError
            If the loss is read, and this or an earlier loss is not finite.
        """
        if not _skips_on_device(optimizer, loss.loss):
            require_finite(loss, module, epoch)
            return
        value = loss.loss.detach()
        self._total = value if self._total is None else self._total + value
        # NaN if any loss so far was NaN or infinite; fused Adam skips the step if this is one
        optimizer.found_inf = (self._total - self._total).ne_(0.0)  # type: ignore[attr-defined]
        self._last[kind] = loss
        self._n_unread += 1
        if self._n_unread >= 2 * STEPS_BETWEEN_CHECKS:
            self.check(module, epoch)

    def check(self, module: nn.Module, epoch: int) -> None:
        """Read the losses guarded since the last check.

        Parameters
        ----------
        module, epoch
            As in :func:`require_finite`.

        Raises
        ------
        NonFiniteTrainingError
            If a loss was not finite.
        """
        total, last = self._total, self._last
        self._total, self._last, self._n_unread = None, {}, 0
        if total is None or torch.isfinite(total):
            return
        for loss in last.values():
            require_finite(loss, module, epoch)
        raise _error("the loss", module, epoch)


def _skips_on_device(optimizer: torch.optim.Optimizer, loss: Tensor) -> bool:
    return (
        type(optimizer) in (torch.optim.Adam, torch.optim.AdamW)
        and bool(optimizer.defaults.get("fused"))
        and loss.device.type in ("cpu", "cuda")
        and loss.dtype == torch.float32
    )


@contextmanager
def without_validation() -> Iterator[None]:
    """Turn off validation of distributions within the context; each check copies from the device."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


@contextmanager
def non_finite_explained(module: nn.Module, epoch: int) -> Iterator[None]:
    """Explain torch's errors about NaN, which often occur before there is a loss to check.

    Distributions reject NaN parameters, and Cholesky factorisations reject NaN matrices.

    Parameters
    ----------
    module, epoch
        As in :func:`require_finite`.

    Raises
    ------
    NonFiniteTrainingError
        Names the rejected quantity and the parameters that are not finite.
    """
    try:
        yield
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise _error("a matrix of the prior", module, epoch) from error
    except ValueError as error:
        refused = INVALID_PARAMETER.search(str(error))
        if refused is None:
            raise
        raise _error(f"`{refused[1]}` of a {refused[2]} distribution", module, epoch) from error


def _error(quantity: str, module: nn.Module, epoch: int) -> NonFiniteTrainingError:
    names = [name for name, p in module.named_parameters() if not torch.isfinite(p).all()]
    where = (
        f"parameters that are not finite: {', '.join(names[:5])}"
        if names
        else "all parameters are finite, so the data or the step size is the cause"
    )
    return NonFiniteTrainingError(
        f"Training stopped in epoch {epoch + 1}: {quantity} became NaN or infinite; {where}. "
        f"{getattr(module, 'remedy', REMEDY)}"
    )


def _parts(loss: LossOutput | Any) -> dict[str, Tensor]:
    if hasattr(loss, "reconstruction_loss"):
        return {**loss.reconstruction_loss, **loss.kl_local}
    return {name: value for name, value in loss._asdict().items() if name.endswith("nll")}
