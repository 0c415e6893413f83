"""Losses of an epoch, summed and logged once: logging each minibatch takes a tenth of the time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from scvi.module.base import LossOutput
    from scvi.train import TrainingPlan as Plan
else:
    Plan = object  # a mixin for any plan of scvi-tools

Mode = Literal["train", "validation"]


class LogsOncePerEpoch(Plan):
    """Log the losses of a scvi-tools plan once, at the last minibatch of an epoch.

    Names and values stay the same, and callbacks see them as early. With ``on_step=True``, and for modules
    that report further metrics, scvi-tools' own methods log every minibatch.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sums: dict[str, EpochSums] = {}

    @property
    def logs_every_step(self) -> bool:
        """Whether the user asks for values of single minibatches."""
        return self.on_step is not False or self.on_epoch is not True

    @property
    def loggers_listen(self) -> bool:
        """Whether loggers record the next minibatch."""
        interval = self.trainer.log_every_n_steps
        return self.logs_every_step or (interval > 0 and (self.global_step + 1) % interval == 0)

    def start_epoch(self, mode: Mode) -> None:
        """Discard the sums of an unfinished epoch.

        Parameters
        ----------
        mode
            ``"train"`` or ``"validation"``.
        """
        self._sums[mode] = EpochSums()

    def log_losses(self, loss_output: LossOutput, mode: Mode) -> None:
        """Log, or sum, the loss of a minibatch and the parts of its ELBO.

        Parameters
        ----------
        loss_output
            Output of the module's ``loss``.
        mode
            ``"train"`` or ``"validation"``.
        """
        loss, n_obs, is_training = loss_output.loss.detach(), loss_output.n_obs_minibatch, mode == "train"
        if self.logs_every_step:
            self.log(
                f"{mode}_loss", loss, on_step=self.on_step, on_epoch=self.on_epoch, prog_bar=is_training,
                sync_dist=self.use_sync_dist,
            )  # fmt: skip
        else:
            self.sum_for_mean(f"{mode}_loss", loss, n_obs, mode)
        if is_training and self.on_step:
            self.trainer.logger.log_metrics({"train_loss_step": loss}, step=self.global_step)
        self.compute_and_log_metrics(
            loss_output, self.train_metrics if is_training else self.val_metrics, mode
        )
        if loss_output.extra_metrics:
            self.prepare_scib_autotune(loss_output.extra_metrics, "training" if is_training else mode)

    def compute_and_log_metrics(self, loss_output: LossOutput, metrics: dict[str, Any], mode: str) -> None:
        """Log, or sum, the ELBO of a minibatch; arguments as in :class:`scvi.train.TrainingPlan`."""
        if self.logs_every_step or loss_output.extra_metrics:
            super().compute_and_log_metrics(loss_output, metrics, mode)
        else:
            self._sums[mode].add_elbo(loss_output)

    def sum_for_mean(self, name: str, value: Tensor, n_obs: int, mode: Mode) -> None:
        """Sum a quantity that is logged as its mean over the cells of an epoch.

        Parameters
        ----------
        name
            Name in the history.
        value
            Mean over a minibatch, a scalar.
        n_obs
            Number of cells in the minibatch.
        mode
            ``"train"`` or ``"validation"``.
        """
        self._sums[mode].add_mean(name, value.detach(), n_obs)

    def log_epoch_if_last(self, mode: Mode, batch_idx: int) -> None:
        """Log the epoch if this is known to be its last minibatch.

        Parameters
        ----------
        mode
            ``"train"`` or ``"validation"``.
        batch_idx
            Index of the minibatch in its epoch.
        """
        n_batches = self.trainer.num_training_batches if mode == "train" else self.trainer.num_val_batches[0]
        if batch_idx + 1 == n_batches:
            self.log_epoch(mode)

    def log_epoch(self, mode: Mode) -> None:
        """Log pending sums; for epochs of unknown length, called when the epoch ends.

        Parameters
        ----------
        mode
            ``"train"`` or ``"validation"``.
        """
        sums = self._sums.pop(mode, EpochSums())
        options = {"on_step": False, "on_epoch": True, "sync_dist": self.use_sync_dist}
        for name, (total, n_obs) in sums.means.items():
            self.log(name, total / n_obs, batch_size=n_obs, prog_bar=name == "train_loss", **options)
        if sums.n_batches:
            metrics = self.train_metrics if mode == "train" else self.val_metrics
            metrics[f"elbo_{mode}"].update(**sums.elbo, n_obs_minibatch=sums.n_obs)
            for part in sums.elbo:
                metrics[f"{part}_{mode}"].n_batches += sums.n_batches - 1
            self.log_dict(metrics, batch_size=sums.n_obs, **options)


@dataclass
class EpochSums:
    """Sums over the minibatches of an epoch, in their order.

    Attributes
    ----------
    n_obs, n_batches
        Numbers of cells and minibatches in the sums of the ELBO.
    elbo
        Sums of the parts of the ELBO over cells, by the names of scvi-tools' metrics.
    means
        Sums of other quantities over cells, and the number of cells, by name.
    """

    n_obs: int = 0
    n_batches: int = 0
    elbo: dict[str, Tensor] = field(default_factory=dict)
    means: dict[str, tuple[Tensor, int]] = field(default_factory=dict)

    def add_elbo(self, loss_output: LossOutput) -> None:
        """Add a minibatch."""
        self.n_obs += loss_output.n_obs_minibatch
        self.n_batches += 1
        parts = {
            "reconstruction_loss": loss_output.reconstruction_loss_sum.detach(),
            "kl_local": loss_output.kl_local_sum.detach(),
            "kl_global": loss_output.kl_global_sum.detach(),
        }
        self.elbo = {name: self.elbo[name] + part for name, part in parts.items()} if self.elbo else parts

    def add_mean(self, name: str, value: Tensor, n_obs: int) -> None:
        """Add the mean of a minibatch of ``n_obs`` cells."""
        total, n_before = self.means.get(name, (0.0, 0))
        summed = value * n_obs if n_before == 0 else torch.add(total, value, alpha=n_obs)
        self.means[name] = (summed, n_before + n_obs)
