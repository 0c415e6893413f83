"""Tables of the image benchmark, the paper's values beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vmmscvi.benchmark.images._cell import RUN_FILE, read_record
from vmmscvi.benchmark.images._settings import TITLES

if TYPE_CHECKING:
    import pandas as pd

SURGERY: Final = (
    "log_p_x_given_x",
    "log_p_x",
    "reconstruction",
    "rate",
    "marginal_kl",
    "mutual_information",
)
CLUSTERS: Final = ("n_clusters", "accuracy", "nmi_merged", "nmi", "ari_merged", "ari")
KEY: Final = ("dataset", "method", "batch_size")
RUN: Final = ("n_epochs", "cpu_seconds")
PAPER_METHODS: Final = {
    "VMM": "vmm",
    "GMM": "gmm",
    "VampPrior": "vampprior",
    "VaDE": "vade",
    "N(0,I)": "standard_normal",
}
PAPER_TABLE_1: Final = {
    "log_p_x_given_x": "log_p_x_given_x",
    "log_p_x": "log_p_x",
    "E_q_log_p_x_given_z": "reconstruction",
    "KL_qzx_pz": "rate",
    "KL_qz_pz": "marginal_kl",
    "I_z_n": "mutual_information",
}
PAPER_TABLE_2: Final = {
    "utilized_clusters": "n_clusters",
    "accuracy": "accuracy",
    "nmi_merged": "nmi_merged",
    "nmi_unmerged": "nmi",
}


def read_cells(results: Path) -> pd.DataFrame:
    """Read all complete cells, a row for each.

    Raises
    ------
    ValueError
        If there are none.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for path in sorted(results.glob(f"*/*/batch*/seed*/{RUN_FILE}")):
        record = read_record(path.parent)
        if record is None or not path.parent.name.removeprefix("seed").isdigit():
            continue
        scores = {**record["surgery"], **record.get("clusters", {})}
        kept = {name: record[name] for name in ("n_epochs", "cpu_seconds", "elbo_validation", "noise_scale")}
        rows.append({**record["settings"], **scores, **kept, "folder": str(path.parent)})
    if not rows:
        raise ValueError(f"`results` must be a folder that a run wrote; {results} holds no complete cell.")
    table = pd.DataFrame(rows)
    order = table["method"].map({name: i for i, name in enumerate(TITLES)})
    sorted_rows = table.assign(order=order).sort_values(["dataset", "batch_size", "order", "seed"])
    return sorted_rows.drop(columns="order")


def read_reference(folder: Path) -> pd.DataFrame:
    """Read the paper's tables: a row for each dataset and method, values as the paper prints them.

    Raises
    ------
    ValueError
        If the folder has neither of them.
    """
    import pandas as pd

    parts = []
    for path in sorted(folder.glob("table1*.csv")):
        table = pd.read_csv(path).rename(columns={"prior": "method", **PAPER_TABLE_1})
        # the file's name tells which images Table 1 is about
        parts.append(table.assign(dataset="fashion_mnist" if "fashion" in path.name else "mnist"))
    for path in sorted(folder.glob("table2*.csv")):
        parts.append(pd.read_csv(path).rename(columns=PAPER_TABLE_2))
    if not parts:
        raise ValueError(f"`reference` must hold table1*.csv or table2*.csv, found neither in {folder}.")
    paper = pd.concat(parts, ignore_index=True)
    paper["method"] = paper["method"].map(PAPER_METHODS)
    return paper.groupby(["dataset", "method"], as_index=False).first()


def comparison_table(
    cells: pd.DataFrame, measures: tuple[str, ...], reference: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Mean and standard deviation over seeds; a row of the paper's values after each of ours.

    Parameters
    ----------
    cells
        What :func:`read_cells` read.
    measures
        Columns.
    reference
        What :func:`read_reference` read.
    """
    import pandas as pd

    rows: list[dict[str, str]] = []
    usual_batch = cells.groupby("dataset")["batch_size"].agg(lambda sizes: sizes.mode()[0])
    for key, group in cells.groupby(list(KEY), sort=False):
        dataset, method, batch_size = key
        if group[list(measures)].isna().all(axis=None):
            continue  # a prior without clusters
        head = {"dataset": str(dataset), "method": TITLES[method], "batch": str(batch_size)}
        values = {name: _mean_and_spread(group[name]) for name in (*measures, *RUN)}
        rows.append({**head, "from": "ours", "seeds": str(len(group)), **values})
        if reference is not None and batch_size == usual_batch[dataset]:
            paper = reference[(reference["dataset"] == dataset) & (reference["method"] == method)]
            for _, line in paper.iterrows():
                printed = {name: _printed(line.get(name)) for name in measures}
                if any(printed.values()):
                    rows.append({**head, "from": "paper", **printed})
    return pd.DataFrame(rows).fillna("")


def to_markdown(table: pd.DataFrame) -> str:
    """Return a Markdown table."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _printed(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None or value != value else f"{value:g}"


def _mean_and_spread(values: pd.Series) -> str:
    """Mean, and standard deviation where there are several seeds; three significant figures."""
    mean = values.mean()
    n_digits = 3 if abs(mean) < 1 else 1
    if abs(mean) >= 100:
        n_digits = 0
    spread = f" ± {values.std(ddof=1):.{n_digits}f}" if len(values) > 1 else ""
    return f"{mean:.{n_digits}f}{spread}"
