"""The training plan: a variational and an empirical-Bayes step per minibatch, each with an optimizer."""

from __future__ import annotations

from typing import Any, Literal

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from scvi.train import TrainingPlan
from torch import Tensor

from vmmscvi._upstream import do_nothing_closure
from vmmscvi.train._arguments import check_optimization, whole_number
from vmmscvi.train._distributed import average_gradients, is_distributed, share
from vmmscvi.train._finite import FiniteGuard, non_finite_explained, require_finite, without_validation
from vmmscvi.train._optimizers import PriorOptimizerMixin, flush_subnormals, held, parameters_of
from vmmscvi.train._protocol import require_prior_module
from vmmscvi.train._resume import ResumableMixin
from vmmscvi.train._single_cells import SingleCellFilter
from vmmscvi.train._utilized import UtilizedComponents

PRIOR_INTERVAL = 8
"""Minibatches from one empirical-Bayes step to the next, for a prior that was initialised with clusters."""


class EmpiricalBayesPlanMixin(ResumableMixin, PriorOptimizerMixin):
    """Alternate the two steps of the VampPrior Mixture Model.

    1. *Variational step*: networks and dispersion follow the gradient of the negative ELBO; the prior is
       held fixed.
    2. *Empirical-Bayes step*: the prior's parameters follow the gradient of their own objective; the networks
       are held fixed.

    The plan accesses the module only through :class:`~vmmscvi.train.PriorModule`. It skips the second step if
    there are no prior parameters to fit (N(0, I), a VampPrior, a frozen prior), and while the networks warm
    up. Other plans add losses, such as an adversary, in :meth:`extra_loss` and
    :meth:`after_variational_step`.

    ``global_step`` is the number of minibatches, as in every other plan of scvi-tools, so warm-up by steps,
    ``max_steps`` and loggers work as usual.

    Parameters
    ----------
    module
        A module that implements :class:`~vmmscvi.train.PriorModule`.
    lr
        Learning rate of the networks.
    prior_lr_ratio
        Learning rate of the prior, as a multiple of ``lr``.
    eps
        Adam's epsilon for the networks; 1e-7, as in the paper (scvi-tools: 0.01). For the prior it is always
        1e-7.
    weight_decay
        Weight decay of the networks; none, as in the paper (scvi-tools: 1e-6). The prior has none.
    prior_every_n_steps
        Minibatches from one empirical-Bayes step to the next; every epoch begins with one. By default 1, as
        in the paper, if the prior was initialised with single cells, and 8 if it was initialised with
        clusters: it is near its optimum then and only has to follow the networks.
    hyperprior_n_obs
        Number of cells that oppose the hyper-priors in an empirical-Bayes step. By default the effective
        sample size found at initialisation from an embedding, or else the size of the minibatch, as in the
        paper.
    reuse_encoding
        Whether empirical-Bayes steps reuse the latent samples of the variational step. By default they
        encode the minibatch again, with the updated networks and without dropout, as in the paper. Reusing
        samples saves a tenth of the time, but fits the prior to noisier positions: the validation ELBO was
        worse by 0.5 nats (6,400 blood cells) to 10 nats (2,900 cells of five lines).
    gradient_clip_val
        Largest norm of the networks' gradient and, separately, of the prior's. Lightning does not clip with
        two optimizers; the model forwards the Trainer's argument of this name. No clipping by default.
    gradient_clip_algorithm
        ``"norm"`` (default) clips the norm, ``"value"`` every entry of the gradient.
    n_epochs_kl_warmup, n_steps_kl_warmup
        As in scvi-tools, but without warm-up by default, because the prior is fitted to the posteriors that
        it shapes.
    **kwargs
        Further arguments of :class:`scvi.train.TrainingPlan`.

    Raises
    ------
    ValueError
        If a learning rate, ``prior_every_n_steps``, ``hyperprior_n_obs`` or ``gradient_clip_val`` is not
        positive, or ``gradient_clip_algorithm`` is unknown.
    """

    def __init__(
        self,
        module: Any,
        *,
        lr: float = 1e-3,
        prior_lr_ratio: float = 5.0,
        eps: float = 1e-7,
        weight_decay: float = 0.0,
        prior_every_n_steps: int | None = None,
        hyperprior_n_obs: float | None = None,
        reuse_encoding: bool = False,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: Literal["norm", "value"] = "norm",
        n_epochs_kl_warmup: int | None = None,
        n_steps_kl_warmup: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_optimization(
            lr, gradient_clip_algorithm, prior_lr_ratio=prior_lr_ratio, hyperprior_n_obs=hyperprior_n_obs,
            gradient_clip_val=gradient_clip_val,
        )  # fmt: skip
        require_prior_module(module)
        super().__init__(
            module,
            lr=lr,
            eps=eps,
            weight_decay=weight_decay,
            n_epochs_kl_warmup=n_epochs_kl_warmup,
            n_steps_kl_warmup=n_steps_kl_warmup,
            **kwargs,
        )
        self.prior_lr_ratio = prior_lr_ratio
        self.prior_every_n_steps = prior_every_n_steps
        if prior_every_n_steps is not None:
            self.prior_every_n_steps = whole_number("prior_every_n_steps", prior_every_n_steps)
        self.hyperprior_n_obs = hyperprior_n_obs
        self.reuse_encoding = reuse_encoding
        self.gradient_clip_val = gradient_clip_val
        self.gradient_clip_algorithm = gradient_clip_algorithm
        self.automatic_optimization = False
        self._utilized = UtilizedComponents()
        self._guard = FiniteGuard()
        self._single_cells = SingleCellFilter(module)
        self._n_steps = 0  # of this epoch
        self._n_obs_step: int | None = None

    # -- hooks for other plans -------------------------------------------------------------------------------

    def extra_loss(self, batch: dict[str, Tensor], outputs: dict[str, Any]) -> Tensor | None:
        """Return a further loss of the networks; ``None`` here.

        Parameters
        ----------
        batch
            The minibatch.
        outputs
            Outputs of ``inference``.

        Returns
        -------
        Tensor | None
            A scalar to add to the loss.
        """
        return None

    def after_variational_step(
        self, batch: dict[str, Tensor], outputs: dict[str, Any], optimizers: list[LightningOptimizer]
    ) -> None:
        """Train further parameters after the variational step; does nothing here.

        Parameters
        ----------
        batch
            The minibatch.
        outputs
            Outputs of ``inference``.
        optimizers
            The optimizers of :meth:`other_optimizers`.
        """

    # -- the two steps ---------------------------------------------------------------------------------------

    @property
    def prior_interval(self) -> int:
        """Minibatches from one empirical-Bayes step to the next."""
        if self.prior_every_n_steps is not None:
            return self.prior_every_n_steps
        return PRIOR_INTERVAL if self.module.latent_prior.is_initialised_with_clusters else 1

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor | None:
        """Train on a minibatch; returns its negative ELBO, or ``None`` if the minibatch was skipped."""
        loss = None if self._single_cells.skips(batch) else self._two_steps(batch)
        if batch_idx + 1 == self.trainer.num_training_batches:
            self._guard.check(self.module, self.current_epoch)
        self.log_epoch_if_last("train", batch_idx)
        return loss

    def _two_steps(self, batch: dict[str, Tensor]) -> Tensor:
        found: Any = self.optimizers()
        networks, *others = found if isinstance(found, list) else [found]
        prior = others.pop() if self.fits_prior else None
        for optimizer in (*others, prior):
            if optimizer is not None:
                # `global_step` counts the steps of optimizers that report to the training loop
                optimizer._on_before_step = optimizer._on_after_step = do_nothing_closure
        loss, outputs = self._variational_step(batch, networks)
        self.after_variational_step(batch, outputs, others)
        if prior is not None and self._n_steps % self.prior_interval == 0:
            self._empirical_bayes_step(batch, prior, outputs if self.reuse_encoding else None)
        self._n_steps += 1
        return loss

    def _variational_step(
        self, batch: dict[str, Tensor], optimizer: LightningOptimizer
    ) -> tuple[Tensor, dict[str, Any]]:
        if "kl_weight" in self.loss_kwargs:
            self.loss_kwargs.update({"kl_weight": self.kl_weight})
            if self.loggers_listen:
                self.log("kl_weight", self.loss_kwargs["kl_weight"], on_step=True, on_epoch=False)
        with held(parameters_of(*self.trainer.optimizers[1:])):
            with non_finite_explained(self.module, self.current_epoch), without_validation():
                outputs, _, loss_output = self.forward(batch, loss_kwargs=self.loss_kwargs)
                extra = self.extra_loss(batch, outputs)
            self._require_finite("variational", loss_output, optimizer)
            self._step(optimizer, loss_output.loss if extra is None else loss_output.loss + extra)
        self._n_obs_step = loss_output.n_obs_minibatch * self.trainer.world_size
        self.log_losses(loss_output, "train")
        return loss_output.loss.detach(), outputs

    def _empirical_bayes_step(
        self, batch: dict[str, Tensor], optimizer: LightningOptimizer, outputs: dict[str, Any] | None
    ) -> None:
        with held(parameters_of(*self.trainer.optimizers[:-1])):
            with non_finite_explained(self.module, self.current_epoch), without_validation():
                # the minibatches of all processes together oppose the hyper-priors
                prior = self.module.latent_prior
                n_obs = self.hyperprior_n_obs or prior.default_hyperprior_n_obs(self._n_obs_step)
                prior_loss, assigned = self.module.empirical_bayes_loss(batch, n_obs, outputs)
            self._require_finite("prior", prior_loss, optimizer)
            self._step(optimizer, prior_loss.loss, averages_gradients=False)
        self._utilized.add(assigned, self.module.latent_prior.n_components)
        self.sum_for_mean("prior_loss", prior_loss.loss, len(assigned), "train")

    def _require_finite(self, kind: str, loss: Any, optimizer: LightningOptimizer) -> None:
        scales_loss = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        if scales_loss or is_distributed():
            require_finite(loss, self.module, self.current_epoch)
        else:
            self._guard.guard(kind, loss, optimizer.optimizer, self.module, self.current_epoch)

    def _step(self, optimizer: LightningOptimizer, loss: Tensor, averages_gradients: bool = True) -> None:
        optimizer.zero_grad()
        # Lightning autocasts the whole training step; gradients are in the precision of the forward pass
        with torch.autocast(self.device.type, enabled=False):
            if averages_gradients or not is_distributed():
                self.manual_backward(loss)
            else:  # `manual_backward` without DDP, which ignores the prior's parameters
                precision = self.trainer.precision_plugin
                precision.pre_backward(loss, self).backward()
                average_gradients(parameters_of(optimizer.optimizer))
        optimizer.step()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Compute the negative ELBO of a minibatch of validation cells."""
        with non_finite_explained(self.module, self.current_epoch):
            _, _, loss_output = self.forward(batch, loss_kwargs=self.loss_kwargs)
        require_finite(loss_output, self.module, self.current_epoch)
        self.log_losses(loss_output, "validation")
        self.log_epoch_if_last("validation", batch_idx)

    # -- epochs ----------------------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        """Reset sums and the set of used components."""
        self.start_epoch("train")
        self._n_steps = 0
        self._utilized.start_epoch(self.prior_interval)

    def on_train_epoch_end(self) -> None:
        """Log the state of the prior, step the schedulers, and flush subnormal optimizer state."""
        self._single_cells.require(self._n_steps)
        self._guard.check(self.module, self.current_epoch)
        self.log_epoch("train")
        if n_utilized := self._utilized.count():
            self.log("n_utilized_clusters", float(n_utilized), prog_bar=True)
            self.log("alpha", self.module.latent_prior.alpha.detach())
        if "validation" not in self.lr_scheduler_metric:
            self.step_schedulers()
        for optimizer in self.trainer.optimizers:
            flush_subnormals(optimizer)

    def on_validation_epoch_start(self) -> None:
        """Store the centres, so weights saved in this epoch are usable without further training."""
        self.start_epoch("validation")
        share(self.module, buffers_only=True)
        self.module.cache_centers()

    def on_train_end(self) -> None:
        """Store the centres of the final weights; runs after callbacks, which may restore a better epoch."""
        super().on_train_end()
        share(self.module, buffers_only=True)
        self.module.cache_centers()

    def on_validation_epoch_end(self) -> None:
        """Show the validation ELBO in the progress bar, and step the schedulers that monitor it."""
        self.log_epoch("validation")
        metrics = self.trainer.callback_metrics
        if "elbo_validation" in metrics:
            self.log("val_elbo", metrics["elbo_validation"], prog_bar=True, logger=False)
        if "validation" in self.lr_scheduler_metric:
            self.step_schedulers()


class EmpiricalBayesTrainingPlan(EmpiricalBayesPlanMixin, TrainingPlan):
    __doc__ = EmpiricalBayesPlanMixin.__doc__
