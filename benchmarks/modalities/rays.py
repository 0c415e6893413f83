"""What the search finds after the warm-up: distances from the centre as they are, and as the data choose.

    python benchmarks/modalities/rays.py --data DIR schep_scatac:PEAKVI pbmc_2src:SCVI

Embeddings of the training cells, after the default warm-up, are kept below ``--out``. Labels score only.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from unittest import mock

import anndata as ad
import numpy as np
import pandas as pd


class Embedded(Exception):
    """The warm-up is over."""


def embed(name: str, model: str, data: Path, seed: int) -> dict[str, np.ndarray]:
    """Train until the prior is initialised; return what is searched, and labels."""
    import modality_data
    import modality_models
    import scvi

    from vmmscvi.starts import FromEmbedding

    spec = modality_data.BY_NAME.get(name)
    adata = spec.load(data) if spec else ad.read_h5ad(data / f"{name}.h5ad")
    adata = modality_models.cells_of(model, adata)
    labels = adata.obs[spec.labels[0] if spec else "cell_type"].to_numpy(str)
    found: dict[str, np.ndarray] = {}

    def initialise(start: FromEmbedding, module: object, datamodule: object) -> None:
        from vmmscvi.starts._clusters import embed as embed_cells

        cells = np.sort(np.asarray(datamodule.train_idx))  # type: ignore[attr-defined]
        found.update(z=embed_cells(module, start.sample(datamodule)).z.numpy(), labels=labels[cells])
        raise Embedded

    scvi.settings.seed = seed
    registered = modality_models.MODELS[model].setup(modality_models.MODELS[model].model_class("vmm"), adata)
    ours = modality_models.MODELS[model].model_class("vmm")(registered)
    with mock.patch.object(FromEmbedding, "initialise", initialise):
        try:
            ours.train(enable_progress_bar=False)
        except Embedded:
            pass
    return found


def score(z: np.ndarray, labels: np.ndarray) -> str:
    """Return number of clusters, NMI and ARI."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    from vmmscvi.priors import fit_coarsened_mixture

    mixture = fit_coarsened_mixture(z, min(100, max(1, len(z) // 10)))
    clusters = mixture.responsibilities.argmax(1).numpy()
    nmi, ari = normalized_mutual_info_score(labels, clusters), adjusted_rand_score(labels, clusters)
    return f"{len(np.unique(clusters))}, {nmi:.3f}, {ari:.3f}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("embeddings", nargs="+", help="DATA:MODEL")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=Path("results/rays"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    import torch

    from vmmscvi.priors import coarsened
    from vmmscvi.priors._radial import RadialCoordinates

    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for each in args.embeddings:
        name, model = each.split(":")
        path = args.out / f"{name}-{model}-{args.seed}.npz"
        if not path.exists():
            np.savez_compressed(path, **embed(name, model, args.data, args.seed))
        run = np.load(path)
        with mock.patch.object(coarsened, "radial_coordinates", lambda z: [RadialCoordinates(z)]):
            before = score(run["z"], run["labels"])
        after = score(run["z"], run["labels"])
        rows.append({"data": name, "model": model, "as it is": before, "chosen": after})
    sys.stdout.write(pd.DataFrame(rows).to_markdown(index=False) + "\n")


if __name__ == "__main__":
    main()
