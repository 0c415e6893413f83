"""Names of the files, columns and measures of a benchmark: what the run writes and the report reads."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

# -- files ---------------------------------------------------------------------------------------------------
CONFIG_FILE: Final = "config.yaml"
RESULTS_FILE: Final = "results.csv"
CELLS_FOLDER: Final = "cells"
"""``cells/<dataset>/<method-slug>/seed<k>/`` holds the files of one cell of the benchmark."""
RUN_FILE: Final = "run.json"
"""Settings, versions, sizes, times and status of one cell."""
EMBEDDING_FILE: Final = "embedding.npz"
"""``z`` (float32), ``clusters`` (strings, or empty), ``cluster_probability`` (likewise), ``labels``,
``batch`` and ``obs_names``."""
HISTORY_FILE: Final = "history.csv"
"""What the training logged, a row for each epoch."""
DECODED_FILE: Final = "decoded.npz"
"""``expression`` (clusters by genes; sums to one over genes), ``clusters`` and ``genes`` (names)."""
SCORES_FILE: Final = "scores.csv"

# -- columns of results.csv ----------------------------------------------------------------------------------
DATASET: Final = "dataset"
METHOD: Final = "method"
SEED: Final = "seed"
CLUSTERING: Final = "clustering"
MEASURE: Final = "measure"
VALUE: Final = "value"
USES_LABELS: Final = "uses_labels"
"""Whether labels chose something about what is measured; all scores *compare* with labels."""
COLUMNS: Final = (DATASET, METHOD, SEED, CLUSTERING, MEASURE, VALUE, USES_LABELS)

# -- clusterings ---------------------------------------------------------------------------------------------
NO_CLUSTERING: Final = ""
"""For measures of the embedding and of the run."""
OWN: Final = "own"
"""Clusters of the prior."""
OWN_MERGED: Final = "own_merged"
"""Clusters of the prior, merged by the label that most of their cells have, as in the paper; uses labels."""
LEIDEN_1: Final = "leiden_1"
LEIDEN_BEST: Final = "leiden_best"
"""Resolution between 0.1 and 2 with the best NMI; uses labels."""
KMEANS: Final = "kmeans"
"""As many clusters as there are types; uses labels in that."""
CLUSTERINGS: Final = (OWN, LEIDEN_1, LEIDEN_BEST, KMEANS)
"""What a configuration can ask for; ``own`` brings ``own_merged`` with it."""
LABEL_CLUSTERINGS: Final = frozenset({OWN_MERGED, LEIDEN_BEST, KMEANS})

# -- measures of a clustering --------------------------------------------------------------------------------
N_CLUSTERS: Final = "n_clusters"
"""Clusters that some cell is assigned to."""
N_CLUSTERS_BY_WEIGHT: Final = "n_clusters_by_weight"
"""Components whose weight is worth one cell of the data or more; for ``own`` alone."""
NMI: Final = "nmi"
ARI: Final = "ari"
AMI: Final = "ami"
"""What the paper calls ARI."""
ACCURACY: Final = "accuracy"
RESOLUTION: Final = "resolution"
"""Leiden's resolution; for ``leiden_1`` and ``leiden_best``."""
CLUSTERING_MEASURES: Final = (N_CLUSTERS, N_CLUSTERS_BY_WEIGHT, NMI, ARI, AMI, ACCURACY, RESOLUTION)

# -- measures of an embedding, by the names that scib-metrics prints -----------------------------------------
BIO_MEASURES: Final = ("Isolated labels", "KMeans NMI", "KMeans ARI", "Silhouette label", "cLISI")
BATCH_MEASURES: Final = ("BRAS", "iLISI", "KBET", "Graph connectivity", "PCR comparison")
BIO_CONSERVATION: Final = "Bio conservation"
BATCH_CORRECTION: Final = "Batch correction"
TOTAL: Final = "Total"
"""0.6 bio-conservation + 0.4 batch correction; the former alone where there is a single batch."""
SCIB_MEASURES: Final = (*BIO_MEASURES, *BATCH_MEASURES, BIO_CONSERVATION, BATCH_CORRECTION, TOTAL)

# -- measures of a run ---------------------------------------------------------------------------------------
ELBO_VALIDATION: Final = "elbo_validation"
"""Nats per cell at the weights that are used, larger is better; for models of counts."""
TRAIN_SECONDS: Final = "train_seconds"
TRAIN_CPU_SECONDS: Final = "train_cpu_seconds"
PEAK_MEMORY_MB: Final = "peak_memory_mb"
N_EPOCHS: Final = "n_epochs"
RUN_MEASURES: Final = (ELBO_VALIDATION, TRAIN_SECONDS, TRAIN_CPU_SECONDS, PEAK_MEMORY_MB, N_EPOCHS)

# -- values of "status" in run.json --------------------------------------------------------------------------
TRAINED: Final = "trained"
DONE: Final = "done"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"
"""The method cannot be applied to these data; ``error`` says why."""

LEIDEN_RESOLUTIONS: Final = tuple(round(0.1 * step, 1) for step in range(1, 21))
SCIB_MAX_CELLS: Final = 5000

METHOD_KINDS: Final = MappingProxyType(
    {
        "scvi_vmm": "vmmscvi.SCVI_VMM",
        "scvi": "scvi.model.SCVI",
        "sysvi": "scvi.external.SysVI",
        "harmony": "harmonypy",
        "scanorama": "scanorama",
        "pca": "principal components",
    }
)
"""Kinds of method and what stands behind them."""
