"""Curves of the quantities logged during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from vmmscvi.plotting._access import stored_results
from vmmscvi.plotting._figure import axes_figure, axes_or_new, open_axes, save_figure, styled
from vmmscvi.plotting._palette import Palette, category_colors


class Trained(Protocol):
    """A model of scvi-tools that has been trained."""

    @property
    def history(self) -> Mapping[str, pd.DataFrame] | None:
        """Logged quantities by name, one row for each epoch."""


class Fitted(Protocol):
    """An estimator of :mod:`vmmscvi.vae` that has been fitted."""

    @property
    def history_(self) -> pd.DataFrame:
        """Logged quantities as columns, one row for each epoch."""


History: TypeAlias = "AnnData | Trained | Fitted | pd.DataFrame | Mapping[str, pd.DataFrame | ArrayLike]"

LABELS: Mapping[str, str] = {
    "elbo": "negative ELBO",
    "reconstruction_loss": "reconstruction loss",
    "kl_local": "KL divergence of z",
    "prior_loss": "loss of the prior",
    "n_utilized_clusters": "clusters in use",
    "alpha": "concentration α",
}
WHOLE_NUMBERS = ("n_utilized_clusters",)
OF_PRIOR = ("prior_loss", "n_utilized_clusters", "alpha")
"""Quantities that are logged only once the mixture is initialised."""


@styled
def training_curve(
    history: History,
    metric: str = "elbo",
    *,
    first_epoch: int | None = None,
    ax: Axes | None = None,
    palette: Palette | None = None,
    save: str | Path | bool | None = None,
) -> Axes:
    """Draw one logged quantity by epoch, for training and validation cells if both were logged.

    Parameters
    ----------
    history
        A trained model (also :class:`vmmscvi.vae.VAE` and :class:`vmmscvi.vae.VaDE`), its ``history``, or an
        AnnData with ``uns["vmmscvi"]["history"]``: arrays by name, with one entry for each epoch (NaN if
        nothing was logged).
    metric
        Name of the quantity. ``"elbo"`` stands for ``"elbo_train"`` and ``"elbo_validation"``, and so on.
    first_epoch
        First epoch to show, counted from 1. By default the first twentieth of all epochs is left out, because
        its large losses would hide the rest.
    ax
        Axes to draw on; those of a new figure by default.
    palette
        Colours of the two curves, ``"training"`` and ``"validation"``, as in
        :func:`vmmscvi.plotting.embedding`.
    save
        Path of an image to write, or ``True`` for scanpy's figure folder.

    Returns
    -------
    Axes
        A point marks the best validation value, at the epoch that early stopping restores. A dotted line
        marks the epoch in which the mixture is initialised, unless it is the first.

    Raises
    ------
    ValueError
        If no quantity of this name was logged.
    """
    ax = axes_or_new(ax)
    _draw(ax, _logged(history), metric, first_epoch, palette)
    save_figure(axes_figure(ax), save, f"training_{metric}")
    return ax


@styled
def training_history(
    history: History,
    metrics: Sequence[str] | None = None,
    *,
    first_epoch: int | None = None,
    palette: Palette | None = None,
    save: str | Path | bool | None = None,
) -> Figure:
    """Draw several logged quantities by epoch, side by side.

    Parameters
    ----------
    history
        As in :func:`vmmscvi.plotting.training_curve`.
    metrics
        Names of quantities. By default the negative ELBO and, for a mixture, the number of clusters in use.
    first_epoch, palette
        As in :func:`vmmscvi.plotting.training_curve`.
    save
        Path of an image to write, or ``True`` for scanpy's figure folder.

    Returns
    -------
    Figure
        The figure.

    Raises
    ------
    ValueError
        If a quantity was not logged.
    """
    logged = _logged(history)
    if metrics is None:
        metrics = ["elbo", *(name for name in WHOLE_NUMBERS if name in logged)]
    for metric in metrics:
        _curves(logged, metric)
    figure, axes = plt.subplots(
        1, len(metrics), figsize=(3.3 * len(metrics), 2.6), squeeze=False, sharex=True
    )
    for metric, ax in zip(metrics, axes[0], strict=True):
        _draw(ax, logged, metric, first_epoch, palette)
    save_figure(figure, save, "training_history")
    return figure


def _draw(
    ax: Axes, logged: Mapping[str, pd.Series], metric: str, first_epoch: int | None, palette: Palette | None
) -> None:
    curves = _curves(logged, metric)
    colors = category_colors(["training", "validation"], palette)
    start_of_prior = min((logged[name].index[0] for name in OF_PRIOR if name in logged), default=1)
    if first_epoch is None:
        n_epochs = max(values.index[-1] for values in curves.values())
        first_epoch = 1 if metric in OF_PRIOR else 1 + n_epochs // 20
    for name, values in curves.items():
        values = values[values.index >= first_epoch]
        dashes = "-" if name == "training" else (0, (4, 1.5))  # distinguishable in greyscale
        ax.plot(values.index, values, color=colors[name], linestyle=dashes, label=name)
        candidates = values[values.index >= start_of_prior]
        if name == "validation" and not candidates.empty:
            best = candidates.idxmin()
            label = f"best: epoch {best}"
            ax.plot(best, values[best], "o", color=colors[name], markersize=5, label=label)
    if has_warmup := metric not in OF_PRIOR and start_of_prior > first_epoch:
        ax.axvline(start_of_prior - 0.5, color="0.6", linewidth=0.8, linestyle=":", label="mixture starts")
    if len(curves) > 1 or has_warmup:
        ax.legend(fontsize="small")
    if metric in WHOLE_NUMBERS:
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    open_axes(ax)
    ax.set_xlabel("epoch")
    ax.set_ylabel(LABELS.get(metric, metric))


def _logged(history: Any) -> dict[str, pd.Series]:
    """Return logged values by name, indexed by epoch, counted from 1."""
    if isinstance(history, AnnData):
        found = stored_results(history, "history")
        if found is None:
            raise ValueError('`adata.uns["vmmscvi"]` has no "history": pass the trained model instead.')
    else:
        is_table = isinstance(history, Mapping | pd.DataFrame)
        found = history if is_table else getattr(history, "history", getattr(history, "history_", None))
    found = {} if found is None else found
    logged = {name: _by_epoch(values) for name, values in found.items()}
    logged = {name: values for name, values in logged.items() if not values.empty}
    if not logged:
        raise ValueError(
            f"`history` is {type(history).__name__} without logged values: train the model first."
        )
    return logged


def _by_epoch(values: Any) -> pd.Series:
    """Return logged values by epoch, without missing values."""
    numbers = np.asarray(values, dtype=np.float64).ravel()
    has_epochs = isinstance(values, pd.DataFrame | pd.Series)
    epochs = np.asarray(values.index) + 1 if has_epochs else np.arange(1, len(numbers) + 1)
    return pd.Series(numbers, index=epochs).dropna()


def _curves(logged: Mapping[str, pd.Series], metric: str) -> dict[str, pd.Series]:
    """Return the curves of one quantity: ``"training"``, ``"validation"``, or both."""
    names = {"training": (f"{metric}_train", metric), "validation": (f"{metric}_validation",)}
    curves = {
        curve: logged[name] for curve, candidates in names.items() for name in candidates if name in logged
    }
    if not curves:
        raise ValueError(f"`metric` is {metric!r}; expected a logged quantity: {', '.join(sorted(logged))}.")
    return curves
