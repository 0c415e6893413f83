"""Training as a method of a model: what is checked before, how the prior starts, what is kept in the end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from lightning.pytorch.callbacks import Callback
from scvi.data import AnnDataManager
from scvi.model.base import UnsupervisedTrainingMixin
from scvi.train._config import merge_kwargs

from vmmscvi.model._after_training import number_epochs_of_prior, settle
from vmmscvi.model._initialization import InitializePseudoInputs, check_start_cells
from vmmscvi.model._label_start import StartFromLabels
from vmmscvi.model._pace import (
    DEFAULT_BATCH_SIZE,
    LEARNING_RATE,
    default_pace,
    default_warmup_for_cells,
    number_of_epochs,
)
from vmmscvi.model._start import StartFromEmbedding
from vmmscvi.model._training_cells import has_validation_cells, n_training_cells
from vmmscvi.model._validation import check_batches, check_counts, check_covariates, check_n_components
from vmmscvi.priors import BayesianMixturePrior
from vmmscvi.train import RestoreBestEpoch
from vmmscvi.train._arguments import (
    check_trainer_arguments,
    early_stopping_asked,
    early_stopping_of,
    is_ddp,
    merge_trainer_config,
    n_processes,
    take_clipping,
)
from vmmscvi.train._best_epoch import copied_state
from vmmscvi.train._start import Start, check_start

if TYPE_CHECKING:
    from vmmscvi.module import VMMVAE


class TrainingMixin(UnsupervisedTrainingMixin):
    """Networks and prior are trained together; the prior starts from cells or from the embedding."""

    module: VMMVAE
    adata: AnnData
    adata_manager: AnnDataManager
    is_trained_: bool
    history_: dict[str, pd.DataFrame] | None
    has_fitted_prior_: bool = False
    """Whether the next training goes on with the prior: saved with the model, and handed on to a query."""
    has_trained_networks_: bool = False
    """Whether the networks come from a trained scVI, so that they need no warm-up."""

    if TYPE_CHECKING:

        @property
        def minified_data_type(self) -> str | None: ...
        def _remember_reference(self) -> None: ...

    def train(
        self,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        train_size: float | None = None,
        validation_size: float | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        lr: float | None = None,
        prior_lr_ratio: float = 5.0,
        start: Start = "embedding",
        n_effective: float | None = None,
        n_warmup_epochs: int | None = None,
        start_cells: Sequence[int] | np.ndarray | None = None,
        unlabeled_category: str | None = None,
        early_stopping: bool | None = None,
        early_stopping_patience: int | None = None,
        plan_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Train networks and prior.

        Parameters
        ----------
        max_epochs
            Largest number of epochs; by default scvi-tools' rule, 400 up to 20,000 cells and fewer above.
        accelerator, devices, train_size, validation_size
            As in :meth:`scvi.model.SCVI.train`.
        batch_size
            Cells in a minibatch. With ``start="cells"`` it tunes the prior as well: hyper-priors are then
            weighed against one minibatch, so that a larger one allows more clusters.
        lr
            Learning rate of the networks. By default 1e-3; with more than 256 cells in a minibatch, of all
            processes together, by the square-root rule of Adam: 2e-3 with 1024, 4e-3 with 4096 and more.
        prior_lr_ratio
            Learning rate of the prior as a multiple of ``lr``.
        start
            How a Gaussian-mixture prior starts. ``"embedding"`` (default): the networks train under N(0, I)
            first; then clusters are found in the embedding, their number included, and the prior starts from
            them. ``"cells"``: from ``n_components`` randomly drawn cells and from the first minibatch on, as
            in the paper; how many clusters are left then depends on ``prior_lr_ratio``, ``batch_size`` and
            the length of training. ``"labels"``: after the warm-up from the registered labels, one
            component for each, which training then moves; ``start_labels_`` tells which is which. A prior
            that has been trained before goes on from where it is.
        n_effective
            Unless ``start="cells"``: number of cells that the data count as against the hyper-priors. What
            so many cells could not tell apart is not split; a rare type needs a share of about two cells in
            so many. At most the number of cells that the start is fitted to. By default 500; see
            :func:`vmmscvi.priors.fit_coarsened_mixture`.
        n_warmup_epochs
            Epochs before the start from the embedding; by default as many as make 1000 minibatches (of 256
            cells, if they are smaller; fewer, as ``lr`` grows by default, if they are larger), at least five
            and at most half of ``max_epochs``; none after :meth:`from_scvi_model`.
        start_cells
            With ``start="cells"``: positions of ``n_components`` cells that pseudo-inputs start from, for
            example of a few cells of each known type, instead of random ones.
        unlabeled_category
            With ``start="labels"``: label of cells whose type is not known.
        early_stopping
            Whether to stop when the validation ELBO no longer improves, and to restore the best epoch's
            weights; by default where there are validation cells.
        early_stopping_patience
            Epochs without improvement after which training stops; 45 by default.
        plan_kwargs
            Further arguments of :class:`vmmscvi.train.EmpiricalBayesTrainingPlan`; they win over ``lr`` and
            ``prior_lr_ratio``.
        **kwargs
            Further arguments of :meth:`scvi.model.SCVI.train` and of the Trainer, ``ckpt_path`` of a
            checkpoint to resume from among them.

        Raises
        ------
        ValueError
            If the data are not raw counts, have empty cells, batches of one cell, covariates that are not
            finite, or fewer cells than components; if ``max_epochs``, ``batch_size``, a learning rate or
            ``n_effective`` is not positive, ``start`` is unknown or has no use for an argument that is given,
            or the warm-up is not shorter than the training; if an argument of the Trainer cannot be had with
            two optimizers.
        FileNotFoundError
            If there is no checkpoint at ``ckpt_path``.
        NonFiniteTrainingError
            If a loss becomes NaN or infinite. The best epoch's weights are kept, or else those of an earlier
            training, and the model can be used.
        """
        trainer_config = kwargs.pop("trainer_config", None)
        early_stopping, patience = early_stopping_asked(
            early_stopping, early_stopping_patience, trainer_config
        )
        kwargs = merge_trainer_config(trainer_config, kwargs)
        plan_kwargs = merge_kwargs(kwargs.pop("plan_config", None), plan_kwargs, name="plan")
        plan_kwargs = {**take_clipping(kwargs), **plan_kwargs}
        check_trainer_arguments(kwargs, accelerator, batch_size)
        if early_stopping is None:
            early_stopping = has_validation_cells(train_size, validation_size, kwargs)
        has_adata = kwargs.get("datamodule") is None
        if has_adata:
            self._check_data(train_size, start)
        n_obs = self._n_obs(kwargs.get("datamodule"))
        max_epochs = number_of_epochs(max_epochs, n_obs)
        check_start(start, n_effective, n_warmup_epochs, max_epochs)
        start_cells = check_start_cells(start_cells, start, self.module.pseudo_inputs, n_obs, has_adata)
        n_cells = getattr(kwargs.get("datamodule"), "batch_size", None) or batch_size
        n_together = min(n_cells * n_processes(kwargs, accelerator, devices), n_obs or sys.maxsize)
        pace = default_pace(n_together) if lr is None and "lr" not in plan_kwargs else 1.0
        if n_warmup_epochs is None and self.has_trained_networks_:
            n_warmup_epochs = 0
        elif n_warmup_epochs is None:
            n_train = n_training_cells(n_obs, train_size, kwargs)
            n_warmup_epochs = default_warmup_for_cells(n_train, n_together, max_epochs, pace)
        manager = self.adata_manager if has_adata and self.adata is not None else None
        starter = self._starter(start, n_effective, n_warmup_epochs, start_cells, unlabeled_category, manager)
        n_warmup_epochs = getattr(starter, "n_warmup_epochs", 0)
        # a start tells the prior what the data count as; one that goes on may be told anew
        goes_on = isinstance(starter, InitializePseudoInputs) and start != "cells"
        hyperprior_n_obs = min(n_effective, n_obs or n_effective) if goes_on and n_effective else None
        # scvi-tools counts validations, not epochs
        n_validations = n_warmup_epochs // (kwargs.get("check_val_every_n_epoch") or 1)
        n_waiting = kwargs.get("early_stopping_warmup_epochs") or 0
        kwargs["early_stopping_warmup_epochs"] = max(n_waiting, n_validations)
        best_epoch = RestoreBestEpoch(
            first_epoch=n_warmup_epochs,
            monitor=kwargs.get("early_stopping_monitor", "elbo_validation"),
            mode=kwargs.get("early_stopping_mode", "min"),
        )
        callbacks = [*(kwargs.pop("callbacks", None) or []), starter]
        if early_stopping:
            callbacks.append(best_epoch)
            if is_ddp(kwargs.get("strategy")):
                callbacks.append(early_stopping_of(kwargs, patience))
        earlier = (self.history_ or {}) if self.is_trained_ else {}
        n_logged = {name: len(table) for name, table in earlier.items()}
        had_fitted_prior = self.has_fitted_prior_
        before = copied_state(self.module) if self.is_trained_ else None
        # what checkpoints that are models are to say of the prior; a start from clusters comes later
        self.has_fitted_prior_ = isinstance(starter, InitializePseudoInputs)
        # after a training or a load the module is in evaluation mode, and Lightning trains it as it finds it
        self.module.train()
        is_default_of_module = kwargs.get("datamodule") is not None and batch_size == DEFAULT_BATCH_SIZE
        try:
            super().train(
                max_epochs=max_epochs,
                accelerator=accelerator,
                devices=devices,
                train_size=train_size,
                validation_size=validation_size,
                # scvi-tools >= 1.5 sets a data module's, but for this value: its own default
                batch_size=128 if is_default_of_module else batch_size,
                early_stopping=early_stopping,
                early_stopping_patience=patience,
                plan_kwargs={
                    "lr": LEARNING_RATE * pace if lr is None else lr,
                    "prior_lr_ratio": prior_lr_ratio,
                    "hyperprior_n_obs": hyperprior_n_obs,
                    **plan_kwargs,
                },
                callbacks=callbacks,
                **kwargs,
            )
        except BaseException as error:  # an interruption by the user is a SystemExit by the time it gets here
            self.has_fitted_prior_ = had_fitted_prior
            settle(self, error, restored=best_epoch.best_epoch is not None, before=before)
            raise
        else:
            self.has_fitted_prior_ = self.module.prior.is_started
            self._remember_reference()
        finally:
            number_epochs_of_prior(self.history_ or {}, n_logged)

    def _n_obs(self, datamodule: Any) -> int | None:
        """Return the number of cells, ``None`` if a data module does not tell."""
        return self.adata.n_obs if datamodule is None else getattr(datamodule, "n_obs", None)

    def _starter(
        self,
        start: Start,
        n_effective: float | None,
        n_warmup_epochs: int,
        start_cells: np.ndarray | None,
        unlabeled_category: str | None,
        adata_manager: AnnDataManager | None,
    ) -> Callback:
        """Choose how the prior starts; one that goes on, or is fitted with the ELBO, needs no embedding."""
        prior = self.module.prior
        goes_on = self.has_fitted_prior_ or prior.is_frozen
        if start != "labels" and unlabeled_category is not None:
            raise ValueError(
                f"`unlabeled_category` needs `start='labels'`, found {unlabeled_category!r} with {start!r}."
            )
        if start == "labels" and not isinstance(prior, BayesianMixturePrior):
            raise ValueError(
                f"`start='labels'` needs a Gaussian mixture prior, found {type(prior).__name__}."
            )
        if start == "labels" and not goes_on:
            return StartFromLabels.of_registered(
                adata_manager,
                unlabeled_category,
                n_warmup_epochs,
                n_effective,
            )
        if start == "embedding" and isinstance(prior, BayesianMixturePrior) and not goes_on:
            return StartFromEmbedding(n_warmup_epochs, n_effective)
        prior.is_started = True  # a training that failed in its warm-up has left it waiting
        return InitializePseudoInputs(start_cells)

    def _check_data(self, train_size: float | None, start: Start) -> None:
        """Everything that can be known to fail, before training starts."""
        if self.minified_data_type is not None:
            raise ValueError(
                "The model's data are minified: they cannot be trained on. Load the model with full counts."
            )
        check_counts(self.adata_manager, require_counts=self.module.gene_likelihood != "normal")
        check_batches(self.adata_manager)
        check_covariates(self.adata_manager)
        pseudo_inputs = self.module.pseudo_inputs
        # clusters of an embedding, or labels, are as many as they are
        takes_cells = start == "cells" or not isinstance(self.module.prior, BayesianMixturePrior)
        if pseudo_inputs is not None and takes_cells and not bool(pseudo_inputs.is_initialized):
            n_train = int(np.ceil((train_size or 0.9) * self.adata.n_obs))
            check_n_components(pseudo_inputs.n_components, n_train)
