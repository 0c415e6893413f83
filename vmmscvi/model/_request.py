"""A request for training: the arguments of ``train`` after defaults, configurations and checks."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from scvi.model.base import UnsupervisedTrainingMixin
from scvi.train import Trainer

from vmmscvi._upstream import merge_kwargs
from vmmscvi.model._keywords import known_keywords
from vmmscvi.model._pace import Warmup, default_pace, number_of_epochs
from vmmscvi.model._training_facts import TrainingFacts, check_last_minibatch
from vmmscvi.priors import BayesianMixturePrior
from vmmscvi.train._arguments import (
    check_trainer_arguments,
    early_stopping_asked,
    merge_trainer_config,
    n_processes,
    take_clipping,
    whole_number,
)

StartName = Literal["embedding", "cells", "labels"]

PLAN_ARGUMENTS = (
    "eps",
    "n_epochs_kl_warmup",
    "n_steps_kl_warmup",
    "optimizer",
    "reduce_lr_on_plateau",
    "weight_decay",
)
"""Arguments of the training plan that some models of scvi-tools take in ``train`` itself."""


def keywords_of_training(model_class: type) -> set[str]:
    """Return the names of all arguments of ``train``, including those of the Trainer.

    Parameters
    ----------
    model_class
        The model's class.

    Returns
    -------
    set of str
        The names.
    """
    of_trainer = known_keywords("__init__", Trainer)
    of_training = known_keywords("train", model_class, UnsupervisedTrainingMixin)
    return of_training | of_trainer | {*PLAN_ARGUMENTS, "ckpt_path"}


def sort_arguments(plan_kwargs: Mapping[str, Any] | None, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Move arguments of ``train`` that belong to the plan or the splitter.

    Parameters
    ----------
    plan_kwargs
        Arguments of the plan. Arguments passed to ``train`` itself take precedence, as in scvi-tools.
    kwargs
        Further arguments of ``train``; changed in place.

    Returns
    -------
    dict
        Arguments of the plan.
    """
    moved = {name: kwargs.pop(name) for name in PLAN_ARGUMENTS if name in kwargs}
    if "external_indexing" in kwargs:
        indexing = kwargs.pop("external_indexing")
        kwargs["datasplitter_kwargs"] = {
            **(kwargs.get("datasplitter_kwargs") or {}),
            "external_indexing": indexing,
        }
    return {**merge_kwargs(None, plan_kwargs, name="plan"), **moved}


@dataclass(frozen=True)
class TrainingRequest:
    """A complete and checked request for training.

    Attributes
    ----------
    max_epochs, n_warmup_epochs, batch_size, patience
        Numbers of epochs, and of cells in a minibatch.
    start
        Initialisation of the prior; ``None`` if a fitted prior is trained further, or none is needed.
    n_effective, start_cells, unlabeled_category, label_noise
        Arguments of the initialisation.
    early_stopping
        Whether to stop early and restore the best epoch.
    plan_kwargs, trainer_kwargs
        Arguments of the training plan, and further arguments of :class:`scvi.train.Trainer`.
    notes
        Warnings to log before training.
    """

    max_epochs: int
    n_warmup_epochs: int
    batch_size: int
    start: StartName | None
    n_effective: float | None
    start_cells: np.ndarray | None
    unlabeled_category: str | None
    label_noise: float | None
    early_stopping: bool
    patience: int
    plan_kwargs: dict[str, Any]
    trainer_kwargs: dict[str, Any]
    notes: tuple[str, ...] = ()

    @classmethod
    def resolve(
        cls,
        facts: TrainingFacts,
        *,
        max_epochs: int | None = None,
        accelerator: Any = "auto",
        devices: Any = "auto",
        batch_size: int | None = None,
        lr: float | None = None,
        prior_lr_ratio: float | None = None,
        start: StartName | None = None,
        n_effective: float | None = None,
        n_warmup_epochs: int | None = None,
        start_cells: Sequence[int] | np.ndarray | None = None,
        unlabeled_category: str | None = None,
        label_noise: float | None = None,
        early_stopping: bool | None = None,
        early_stopping_patience: int | None = None,
        plan_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> TrainingRequest:
        """Fill in defaults, and check all arguments before training.

        Parameters
        ----------
        facts
            The model and its data.
        max_epochs, accelerator, devices, batch_size, lr, prior_lr_ratio, start, n_effective, \
n_warmup_epochs, start_cells, unlabeled_category, label_noise, early_stopping, early_stopping_patience, \
plan_kwargs, kwargs
            As in :meth:`vmmscvi.SCVI_VMM.train`.

        Returns
        -------
        TrainingRequest
            The request.

        Raises
        ------
        ValueError
            If an argument is out of range, would have no effect, or does not work with two optimizers.
        """
        trainer_config = kwargs.pop("trainer_config", None)
        stops, patience = early_stopping_asked(early_stopping, early_stopping_patience, trainer_config)
        kwargs = merge_trainer_config(trainer_config, kwargs)
        plan = merge_kwargs(kwargs.pop("plan_config", None), plan_kwargs, name="plan")
        plan = {**facts.defaults.plan, **take_clipping(kwargs), **plan}
        batch_size = whole_number(
            "batch_size", facts.defaults.batch_size if batch_size is None else batch_size
        )
        check_trainer_arguments(kwargs, accelerator, batch_size)
        max_epochs = number_of_epochs(max_epochs, facts.n_obs)
        datamodule = kwargs.get("datamodule")
        n_cells = getattr(datamodule, "batch_size", None) or batch_size
        processes = n_processes(kwargs, accelerator, devices)
        if datamodule is None:
            check_last_minibatch(facts, n_cells, kwargs, processes)
        n_together = min(n_cells * processes, facts.n_obs or sys.maxsize)
        pace = default_pace(n_together) if lr is None and "lr" not in plan else 1.0

        of_start = {
            "n_effective": n_effective,
            "n_warmup_epochs": n_warmup_epochs,
            "start_cells": start_cells,
            "unlabeled_category": unlabeled_category,
            "label_noise": label_noise,
        }
        chosen = _choose_start(facts, start, of_start)
        if n_effective is not None and not n_effective > 0:
            raise ValueError(f"`n_effective` must be positive, found {n_effective}.")
        if label_noise is not None and not 0 <= label_noise < 1:
            raise ValueError(f"`label_noise` must be at least 0 and less than 1, found {label_noise}.")
        default = Warmup.default(facts.n_train or 0, n_together, max_epochs, pace)
        notes: tuple[str, ...] = ()
        if chosen not in ("embedding", "labels"):
            n_warmup = 0
        elif n_warmup_epochs is not None:
            n_warmup = whole_number("n_warmup_epochs", n_warmup_epochs, smallest=0)
        elif facts.has_trained_networks or facts.prior.is_fitted:
            n_warmup = 0
        else:
            n_warmup = default.n_epochs
            if facts.n_obs is not None:
                usual = number_of_epochs(None, facts.n_obs)
                notes = default.notes(Warmup.default(facts.n_train or 0, n_together, usual, pace))
        if n_warmup >= max_epochs:
            raise ValueError(
                f"`n_warmup_epochs` must be at least 0 and less than `max_epochs` ({max_epochs}), "
                f"found {n_warmup}."
            )
        if facts.defaults.kl_warmup and not facts.prior.is_fitted and not facts.has_trained_networks:
            warmup = n_warmup or (default.n_epochs if chosen is None else 0)
            if not {"n_epochs_kl_warmup", "n_steps_kl_warmup"} & plan.keys() and warmup:
                plan["n_epochs_kl_warmup"] = max(1, int(facts.defaults.kl_warmup * warmup))
        return cls(
            max_epochs=max_epochs,
            n_warmup_epochs=n_warmup,
            batch_size=batch_size,
            start=chosen,
            n_effective=n_effective,
            start_cells=None if start_cells is None else np.asarray(start_cells),
            unlabeled_category=unlabeled_category,
            label_noise=label_noise,
            early_stopping=facts.n_validation != 0 if stops is None else stops,
            patience=patience,
            plan_kwargs={
                "lr": facts.defaults.lr * pace if lr is None else lr,
                "prior_lr_ratio": (
                    facts.defaults.prior_lr_ratio if prior_lr_ratio is None else prior_lr_ratio
                ),
                **plan,
            },
            trainer_kwargs=kwargs,
            notes=notes,
        )


def _choose_start(
    facts: TrainingFacts, start: StartName | None, arguments: Mapping[str, Any]
) -> StartName | None:
    """Choose the initialisation of the prior; reject arguments without effect.

    A fitted prior is trained further unless ``start`` is given, which initialises it again.
    """
    prior = facts.prior
    name = type(prior).__name__
    if start is not None and start not in get_args(StartName):
        raise ValueError(f"`start` must be one of {get_args(StartName)}, found {start!r}.")
    is_mixture = isinstance(prior, BayesianMixturePrior)
    given = {argument: value for argument, value in arguments.items() if value is not None}
    useful: set[str] = set()
    chosen: StartName | None
    if prior.is_frozen:
        where, chosen = "the prior is frozen, because it is that of a reference", None
        if start is not None:
            given["start"] = start
    elif prior.is_fitted and start is None and "start_cells" not in given:
        where, chosen = "the prior is already fitted; pass `start` to initialise it again", None
        useful = {"n_effective"} if is_mixture else set()
    elif not is_mixture:
        where, chosen = f"the prior is a {name}", "cells" if prior.uses_pseudo_inputs else None
        useful = {"start_cells"} if prior.uses_pseudo_inputs else set()
        if start in ("embedding", "labels"):
            given["start"] = start
    else:
        chosen = start or ("cells" if "start_cells" in given else "embedding")
        where = f"`start` is {chosen!r}"
        useful = {"n_effective", "n_warmup_epochs"} if chosen != "cells" else set()
        if chosen == "labels":
            useful |= {"unlabeled_category", "label_noise"}
        if chosen == "cells" and prior.uses_pseudo_inputs:
            useful.add("start_cells")
    useless = sorted(given.keys() - useful)
    if useless:
        raise ValueError(f"{useless} would have no effect: {where}. Leave them out.")
    return chosen
