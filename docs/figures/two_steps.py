"""The two steps of a minibatch as a diagram: what is trained in each, and what is held.

python docs/figures/two_steps.py
"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
from _style import BLUE, STATIC, VERMILION, saved
from matplotlib.axes import Axes

HELD = "0.6"
BOXES: dict[str, tuple[float, float, str]] = {
    "cells": (0.0, 1.0, "minibatch\ncounts $x_i$\nbatch $s_i$"),
    "encoder": (2.1, 1.0, "encoder\n$q(z_i\\,;x_i,s_i)$"),
    "latent": (4.2, 1.0, "$z_i$"),
    "decoder": (6.2, 1.0, "decoder\n$p(x_i|z_i,s_i)$"),
    "pseudo": (0.0, -1.0, "pseudo-\ncells\n$u_j$"),
    "encoder2": (2.1, -1.0, "same encoder\n$q(\\mu_j\\,;u_j)$"),
    "prior": (4.2, -1.0, "mixture\n$\\pi_j,\\Lambda_j,\\alpha$"),
}
HALF_WIDTH = {"cells": 0.66, "latent": 0.28, "pseudo": 0.56, "prior": 0.72, "encoder2": 0.85}
FLOW = [
    ("cells", "encoder"),
    ("encoder", "latent"),
    ("latent", "decoder"),
    ("pseudo", "encoder2"),
    ("encoder2", "prior"),
]


def box(ax: Axes, name: str, trained: bool, color: str) -> None:
    """Draw what is trained filled and in colour, what is held in grey."""
    x, y, text = BOXES[name]
    is_data = name in ("cells", "latent")
    edge = "0.2" if is_data else (color if trained else HELD)
    face = "white" if is_data or not trained else color
    ax.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        fontsize=9.5,
        color="white" if trained and not is_data else ("0.2" if is_data else "0.35"),
        bbox={"boxstyle": "round,pad=0.45", "facecolor": face, "edgecolor": edge, "linewidth": 1.4},
        zorder=3,
    )


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], **kwargs: Any) -> None:
    style = {"arrowstyle": "-|>", "color": "0.35", "lw": 1.1, "mutation_scale": 11, **kwargs}
    ax.annotate("", xy=end, xytext=start, arrowprops=style, zorder=2)


def panel(ax: Axes, title: str, goal: str, trained: set[str], color: str, without: set[str]) -> None:
    for name in BOXES:
        if name not in without:
            box(ax, name, name in trained, color)
    for start, end in FLOW:
        if {start, end} & without:
            continue
        (x0, y, _), (x1, _, _) = BOXES[start], BOXES[end]
        gap = 0.08
        arrow(
            ax,
            (x0 + HALF_WIDTH.get(start, 0.8) + gap, y),
            (x1 - HALF_WIDTH.get(end, 0.8) - gap, y),
        )
    x = BOXES["latent"][0]
    arrow(ax, (x, 0.62), (x, -0.42), arrowstyle="<|-|>", color=color, lw=1.6)
    ax.text(x + 0.25, 0.12, goal, color=color, fontsize=9.5, va="center")
    ax.set_title(title, loc="left", fontsize=10.5, color=color, weight="bold")
    ax.set_xlim(-0.75, 7.1)
    ax.set_ylim(-1.75, 1.75)
    ax.axis("off")


def main() -> None:
    figure, (first, second) = plt.subplots(2, 1, figsize=(5.6, 5.4))
    panel(
        first,
        "1  Variational step: networks are trained",
        "ELBO: rebuild the counts,\nstay where $p(z)$ is dense",
        {"encoder", "decoder", "encoder2"},
        BLUE,
        set(),
    )
    panel(
        second,
        "2  Empirical-Bayes step: the prior is trained",
        "likelihood of $z_i$ under\nthe clusters + hyper-priors",
        {"pseudo", "prior"},
        VERMILION,
        {"decoder"},
    )
    saved(figure, STATIC / "two_steps.svg")


if __name__ == "__main__":
    main()
