"""Draw a query before and after it is mapped: principal components of the reference's embedding.

    python docs/figures/query_mapping.py --data DIR --reference results/mapping/VMM@studies@0

The reference is one that ``benchmarks/mapping`` has trained on the pair "studies".
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "mapping"))

import mapping_methods as methods
from mapping_pairs import PAIRS


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/_static"))
    args = parser.parse_args()
    pair = PAIRS["studies"](args.data)
    reference = methods.trained("VMM", pair.reference, None, args.reference)
    model = methods.loaded_query("VMM", pair.query, reference)
    model.is_trained_ = True  # for the embedding before any training
    z, before = reference.get_latent_representation(), model.get_latent_representation()
    methods.map_query("VMM", model, 1)
    axes = np.linalg.svd(z - z.mean(0), full_matrices=False)[2][:2].T
    figure, panels = plt.subplots(1, 2, figsize=(9, 4.2), sharex=True, sharey=True)
    titles = ("as encoded", "mapped")
    for panel, query, title in zip(panels, (before, model.get_latent_representation()), titles, strict=True):
        for cells, color, label in ((z, "0.75", "reference"), (query, "tab:red", "query")):
            panel.scatter(*((cells - z.mean(0)) @ axes).T, s=2, c=color, label=label, linewidths=0)
        panel.set(title=title, xlabel="PC 1")
    panels[0].set_ylabel("PC 2")
    panels[1].legend(markerscale=5, frameon=False)
    figure.tight_layout()
    figure.savefig(args.out / "query_mapping.png", dpi=110)


if __name__ == "__main__":
    main()
