"""How training went: curves of what was logged at every epoch."""

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
        """Logged quantities by name, a row for each epoch."""


History: TypeAlias = "AnnData | Trained | Mapping[str, pd.DataFrame | ArrayLike]"

LABELS: Mapping[str, str] = {
    "elbo": "negative ELBO",
    "reconstruction_loss": "reconstruction loss",
    "kl_local": "KL divergence of z",
    "prior_loss": "loss of the prior",
    "n_utilized_clusters": "clusters in use",
    "alpha": "concentration α",
}
WHOLE_NUMBERS = ("n_utilized_clusters",)


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
    """Draw one logged quantity against epochs, for training and validation cells where both were logged.

    Parameters
    ----------
    history
        A trained model, its ``history``, or an AnnData whose ``uns["vmmscvi"]["history"]`` holds values by
        name.
    metric
        Name of the quantity; ``"elbo"`` stands for ``"elbo_train"`` and ``"elbo_validation"``, and so on.
    first_epoch
        Epoch to start from, counted from 1. By default, for what is minimised, the twentieth part of all
        epochs is left out: the first values are so large that nothing could be told of the rest.
    ax
        Axes to draw on; those of a new figure by default.
    palette
        Colours of the two curves, ``"training"`` and ``"validation"``, as in
        :func:`vmmscvi.plotting.embedding`.
    save
        Path of an image to write, or ``True`` for scanpy's folder for figures.

    Returns
    -------
    The axes. A point marks the best validation value, the epoch that early stopping restores.

    Raises
    ------
    ValueError
        If nothing of this name was logged.
    """
    curves = _curves(_logged(history), metric)
    colors = category_colors(["training", "validation"], palette)
    ax = axes_or_new(ax)
    is_loss = metric not in ("n_utilized_clusters", "alpha")
    n_epochs = max(len(values) for values in curves.values())
    start = (1 + n_epochs // 20 if is_loss else 1) if first_epoch is None else first_epoch
    for name, values in curves.items():
        epochs = np.arange(1, len(values) + 1)
        shown = (epochs >= start) & np.isfinite(values)
        dashes = "-" if name == "training" else (0, (4, 1.5))  # told apart in grey print as well
        ax.plot(epochs[shown], values[shown], color=colors[name], linestyle=dashes, label=name)
        if name == "validation" and is_loss and shown.any():
            best = int(np.nanargmin(np.where(shown, values, np.nan)))
            label = f"best: epoch {epochs[best]}"
            ax.plot(epochs[best], values[best], "o", color=colors[name], markersize=5, label=label)
    if len(curves) > 1:
        ax.legend(fontsize="small")
    if metric in WHOLE_NUMBERS:
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    open_axes(ax)
    ax.set_xlabel("epoch")
    ax.set_ylabel(LABELS.get(metric, metric))
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
    """Draw several logged quantities against epochs, side by side.

    Parameters
    ----------
    history, first_epoch, palette
        As in :func:`vmmscvi.plotting.training_curve`.
    metrics
        Names of quantities; by default the negative ELBO and, where there is a mixture, the number of
        clusters in use.
    save
        Path of an image to write, or ``True`` for scanpy's folder for figures.

    Returns
    -------
    The figure.

    Raises
    ------
    ValueError
        If one of them was not logged.
    """
    logged = _logged(history)
    if metrics is None:
        metrics = ["elbo", *(name for name in WHOLE_NUMBERS if name in logged)]
    for metric in metrics:
        _curves(logged, metric)
    figure, axes = plt.subplots(1, len(metrics), figsize=(3.3 * len(metrics), 2.6), squeeze=False)
    for metric, ax in zip(metrics, axes[0], strict=True):
        training_curve(logged, metric, first_epoch=first_epoch, palette=palette, ax=ax)
    save_figure(figure, save, "training_history")
    return figure


def _logged(history: Any) -> dict[str, np.ndarray]:
    """Return logged values by name, each of shape ``(n_epochs,)``."""
    if isinstance(history, AnnData):
        found = stored_results(history, "history")
        if found is None:
            raise ValueError('`adata.uns["vmmscvi"]` has no "history"; pass the trained model instead.')
    else:
        found = history if isinstance(history, Mapping) else getattr(history, "history", None)
    if not found:
        raise ValueError(
            f"`history` is {type(history).__name__} without logged values; train the model first."
        )
    return {name: np.asarray(values, dtype=np.float64).ravel() for name, values in found.items()}


def _curves(logged: Mapping[str, np.ndarray], metric: str) -> dict[str, np.ndarray]:
    """Return the curves of one quantity: ``"training"``, ``"validation"``, or both."""
    names = {"training": (f"{metric}_train", metric), "validation": (f"{metric}_validation",)}
    curves = {
        curve: logged[name] for curve, candidates in names.items() for name in candidates if name in logged
    }
    if not curves:
        raise ValueError(
            f"`metric` is {metric!r}; expected one of what was logged: {', '.join(sorted(logged))}."
        )
    return curves
