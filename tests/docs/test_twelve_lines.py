"""From counts to named clusters with markers and a figure in twelve lines, as the page says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import anndata
import pandas as pd

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "from_counts_to_figure.md"


def script() -> str:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)[0]


def test_the_script_has_twelve_lines_and_leaves_names_markers_and_a_figure(
    folder_with_files: Path, run_example: Callable[..., None]
) -> None:
    assert sum(bool(line.strip()) for line in script().splitlines()) <= 12
    run_example(script(), PAGE, {})
    annotated = anndata.read_h5ad("annotated.h5ad")
    assert {"vmm_cluster", "vmm_cluster_name", "vmm_novelty"} <= set(annotated.obs)
    markers = pd.read_csv("markers.csv", dtype={"cluster": str})
    assert (markers["cluster"].value_counts() == 10).all()
    assert set(markers["cluster"]) == set(annotated.obs["vmm_cluster"].astype(str))
    assert Path("clusters.png").read_bytes().startswith(b"\x89PNG")
