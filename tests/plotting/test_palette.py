"""Colours are distinguishable for everyone, and palettes work as in scanpy."""

from __future__ import annotations

import itertools

import matplotlib as mpl
import numpy as np
import pytest
from cycler import cycler
from matplotlib.colors import to_hex, to_rgb

from vmmscvi.plotting import COLORS, category_colors
from vmmscvi.plotting._palette import MISSING_COLOR

# Machado, Oliveira & Fernandes (2009), severity 1, on linear RGB
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
# Ottosson (2020): linear RGB to cone responses, and their cube roots to OKLab
TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def as_seen(color: str, vision: str) -> np.ndarray:
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(VISION[vision] @ linear, 0, 1)
    return TO_LAB @ np.cbrt(TO_CONES @ seen)


def smallest_difference(colors: list[str], vision: str) -> float:
    seen = [as_seen(color, vision) for color in colors]
    return min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2))


@pytest.mark.parametrize("vision", VISION)
def test_the_first_colours_are_distinguishable_and_better_than_matplotlibs(vision):
    ours = smallest_difference(list(COLORS[:8]), vision)
    matplotlibs = smallest_difference([to_hex(c) for c in mpl.colormaps["tab10"].colors[:8]], vision)
    assert ours > 0.07
    if vision != "normal":
        assert ours > 1.5 * matplotlibs


@pytest.mark.parametrize("vision", VISION)
def test_every_colour_differs_from_all_others_from_white_and_from_missing(vision):
    assert smallest_difference([*COLORS, "#ffffff", MISSING_COLOR], vision) > 0.05


def test_colours_are_taken_in_order_and_start_again():
    colors = category_colors(map(str, range(len(COLORS) + 2)))
    assert list(colors.values()) == [*COLORS, *COLORS[:2]]


def test_a_palette_may_be_a_list_a_mapping_a_cycler_or_a_name():
    names = ["x", "y", "z"]
    assert category_colors(names, ["red", "blue"]) == {"x": "#ff0000", "y": "#0000ff", "z": "#ff0000"}
    assert category_colors(["y"], {"x": "red", "y": "#00ff00"}) == {"y": "#00ff00"}
    assert list(category_colors(names, cycler(color=["k", "w"])).values()) == [
        "#000000",
        "#ffffff",
        "#000000",
    ]
    tab10 = [to_hex(color) for color in mpl.colormaps["tab10"].colors]
    assert list(category_colors(names, "tab10").values()) == tab10[:3]
    viridis = mpl.colormaps["viridis"]
    assert list(category_colors(names, "viridis").values()) == [to_hex(viridis(x)) for x in (0.0, 0.5, 1.0)]


def test_stored_colours_are_used_when_complete_and_without_a_palette():
    stored = {"x": "red", "y": "blue"}
    assert category_colors(["y", "x"], stored=stored) == {"y": "#0000ff", "x": "#ff0000"}
    assert category_colors(["x", "z"], stored=stored) == {"x": COLORS[0], "z": COLORS[1]}
    assert category_colors(["x"], ["green"], stored) == {"x": "#008000"}


@pytest.mark.parametrize(
    ("palette", "message"),
    [
        ({"x": "red"}, r"`palette` has no colour for \['y'\]"),
        ("no such map", "`palette` is 'no such map'"),
        (["red", "notacolor"], "`palette` has 'notacolor'"),
        ([], "`palette` is empty"),
        (cycler(marker=["o"]), "`palette` is empty"),
    ],
)
def test_a_palette_that_cannot_be_used_is_named(palette, message):
    with pytest.raises(ValueError, match=message):
        category_colors(["x", "y"], palette)
