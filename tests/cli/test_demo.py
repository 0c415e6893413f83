"""``vmmscvi demo`` compares two priors under the same conditions, and reports the result."""

from __future__ import annotations

import errno
import io
import os

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from torch.nn.modules.module import register_module_forward_pre_hook

from vmmscvi._neighbors import leiden, neighbor_graph
from vmmscvi.cli import _demo
from vmmscvi.cli._demo_colors import matched_colors
from vmmscvi.cli._demo_table import Row, compare, print_table
from vmmscvi.cli._metrics import batch_mixing
from vmmscvi.cli._train import train_model
from vmmscvi.module import VMMVAE
from vmmscvi.plotting import COLORS

QUICK = ("--n-cells", 400, "--epochs", 2, "--accelerator", "cpu", "--quiet")


def test_table_file_and_figure_agree(run, tmp_path, no_umap):
    result = run("demo", *QUICK, "--out-dir", "a/b")
    assert result.exit_code == 0, result.output
    out = tmp_path / "a" / "b"
    assert sorted(path.name for path in out.iterdir()) == ["demo.h5ad", "demo.png"]
    assert (out / "demo.png").read_bytes().startswith(b"\x89PNG")

    adata = anndata.read_h5ad(out / "demo.h5ad")
    assert adata.n_obs == 400
    assert {"X_standard_normal", "X_vmm", "X_umap_standard_normal", "X_umap_vmm"} == set(adata.obsm)
    types, batches = adata.obs["cell_type"], adata.obs["batch"]
    rows = {
        "N(0, I)": compare(
            "",
            "",
            pd.Categorical(adata.obs["leiden_standard_normal"]),
            adata.obsm["X_standard_normal"],
            types,
            batches,
        ),
        "VMM": compare("", "", pd.Categorical(adata.obs["vmm_cluster"]), adata.obsm["X_vmm"], types, batches),
    }
    for name, row in rows.items():
        line = next(line for line in result.output.splitlines() if f" {name} " in line and "│" in line)
        for value in (str(row.n_clusters), *(f"{x:.3f}" for x in (row.nmi, row.ari, row.batch_mixing))):
            assert value in line
    assert result.output.count("┏") == 1  # one table
    comparison = adata.uns["vmmscvi"]["comparison"]
    assert list(comparison["prior"]) == ["N(0, I)", "N(0, I)", "VMM"]
    assert "chosen with the labels" in comparison["clusters_by"].iloc[1]
    assert comparison["ari"].iloc[1] >= comparison["ari"].iloc[0]


def test_the_demonstration_has_no_complaint_about_its_own_settings(run, no_umap, caplog):
    caplog.set_level("INFO", logger="vmmscvi")
    assert run("demo", *QUICK[:-1]).exit_code == 0
    assert "initialised the mixture prior" in caplog.text
    assert "The warm-up has" not in caplog.text


def test_the_same_seed_gives_the_same_table(run, no_umap):
    first, second, other = (
        run("demo", *QUICK, "--out-dir", f"d{i}", "--seed", seed).output for i, seed in enumerate((0, 0, 1))
    )
    assert first == second
    assert first != other


def test_existing_files_are_refused_before_training_and_stay(run, tmp_path, no_training):
    (tmp_path / "vmmscvi_demo").mkdir()
    for name in ("demo.h5ad", "demo.png"):
        path = tmp_path / "vmmscvi_demo" / name
        path.write_text("old")
        result = run("demo", *QUICK)
        assert result.exit_code == 2
        assert len(result.output.splitlines()) == 1 and "--overwrite" in result.output
        assert path.read_text() == "old"
        path.unlink()


@pytest.mark.parametrize("out_dir", ["notes.txt", "notes.txt/x", "notes.txt/x/y"])
def test_a_file_where_a_folder_should_be_is_refused_in_one_line(run, tmp_path, no_training, out_dir):
    (tmp_path / "notes.txt").write_text("old")
    result = run("demo", *QUICK, "--out-dir", out_dir)
    assert result.exit_code == 2
    assert len(result.output.splitlines()) == 1
    assert result.output.startswith(f"Error: --out-dir {out_dir} cannot be created: ")
    assert (tmp_path / "notes.txt").read_text() == "old"


def test_a_folder_that_the_system_cannot_make_is_refused_in_one_line(run, no_training):
    name = 300 * "x"
    result = run("demo", *QUICK, "--out-dir", name)
    reason = f"[Errno {errno.ENAMETOOLONG}] {os.strerror(errno.ENAMETOOLONG)}: '{name}'"
    assert result.exit_code == 2
    assert result.output == f"Error: --out-dir {name} cannot be created: {reason}\n"


def test_existing_files_are_replaced_when_that_was_asked_for(run, tmp_path, no_umap):
    (tmp_path / "demo.png").write_text("old")
    assert run("demo", *QUICK, "--out-dir", ".", "--overwrite").exit_code == 0
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")


def test_without_leiden_the_normal_prior_has_no_clusters(run, tmp_path, no_umap, hide_package):
    hide_package("igraph")
    result = run("demo", *QUICK)
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.output.splitlines() if " N(0, I) " in line]
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells[2:5] == ["-", "-", "-"]
    assert "leiden_standard_normal" not in anndata.read_h5ad(tmp_path / "vmmscvi_demo" / "demo.h5ad").obs


def test_leiden_is_left_out_where_it_is_not_installed(no_umap, hide_package):
    graph = neighbor_graph(np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32), seed=0)
    assert len(leiden(graph, seed=0)) == 60
    hide_package("igraph")
    assert leiden(graph, seed=0) is None


def test_both_priors_have_the_same_split_and_the_same_initial_networks():
    adata = _demo.simulate(400, seed=0)
    initial: dict[str, dict[str, torch.Tensor]] = {}
    split: dict[str, np.ndarray] = {}

    def note(module, _):
        if isinstance(module, VMMVAE) and prior not in initial:
            initial[prior] = {name: value.clone() for name, value in module.state_dict().items()}

    handle = register_module_forward_pre_hook(note)
    for prior in ("standard_normal", "vmm"):
        model = train_model(
            adata.copy(),
            batch_key="batch",
            prior=prior,
            seed=0,
            max_epochs=1,
            accelerator="cpu",
            show_progress=False,
        )
        split[prior] = model.validation_indices
    handle.remove()
    np.testing.assert_array_equal(split["standard_normal"], split["vmm"])
    of_prior = ("latent_prior.", "pseudo_inputs.")
    networks = [name for name in initial["standard_normal"] if not name.startswith(of_prior)]
    assert len(networks) > 10
    for name in networks:
        torch.testing.assert_close(initial["standard_normal"][name], initial["vmm"][name], rtol=0, atol=0)


def test_simulated_types_are_uneven_and_one_is_missing_in_a_batch():
    adata = _demo.simulate(2000, seed=0)
    table = pd.crosstab(adata.obs["cell_type"], adata.obs["batch"])
    assert table.shape == (8, 3)
    assert table.loc["type3", "batch1"] == 0 and (table.drop(index="type3") > 0).all().all()
    shares = table.sum(axis=1) / 2000
    assert shares.max() == pytest.approx(0.4, abs=0.01) and shares.min() == pytest.approx(0.02, abs=0.01)


# --- scores, table, colours -----------------------------------------------------------------


def test_batches_that_do_not_matter_are_mixed_and_batches_far_apart_are_not():
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(400, 3)).astype(np.float32)
    types, batches = np.repeat(["a", "b"], 200), np.tile(["x", "y"], 200)
    assert batch_mixing(embedding, types, batches) > 0.9
    apart = embedding + 1000 * (batches == "x")[:, None]
    assert batch_mixing(apart, types, batches) < 0.01


def test_types_of_one_batch_do_not_count_for_mixing():
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(200, 3)).astype(np.float32)
    types, batches = np.repeat(["a", "b"], 100), np.tile(["x", "y"], 100)
    alone = np.repeat(["x"], 50)
    more = np.vstack([embedding, rng.normal(size=(50, 3)) + 9])
    assert batch_mixing(embedding, types, batches) == pytest.approx(
        batch_mixing(more, np.append(types, ["c"] * 50), np.append(batches, alone))
    )
    assert np.isnan(batch_mixing(embedding, types, types))


def test_the_table_shows_every_score_and_fits_a_narrow_terminal():
    rows = [
        Row("N(0, I)", "none (Leiden needs igraph)", 0, float("nan"), float("nan"), 0.5),
        Row("VMM", "the prior's components", 12, 0.87654, 0.5, 0.91),
    ]
    stream = io.StringIO()
    print_table(rows, "a title", Console(file=stream, width=80))
    text = stream.getvalue()
    assert "a title" in text and "scanpy's default" in text.replace("\n", " ")
    (line,) = [line for line in text.splitlines() if " VMM " in line]
    assert [cell.strip() for cell in line.strip("│").split("│")] == [
        "VMM",
        "the prior's components",
        "12",
        "0.877",
        "0.500",
        "0.910",
    ]
    assert "nan" not in text and "…" not in text


def test_clusters_have_the_colours_of_their_types_and_each_its_own():
    types = pd.Series(pd.Categorical(["a"] * 10 + ["b"] * 6 + ["c"] * 4))
    clusters = pd.Series(pd.Categorical(["9"] * 4 + ["1"] * 6 + ["3"] * 10))  # a in two parts; b and c in one
    assert list(clusters.cat.categories) == ["1", "3", "9"]
    colors = matched_colors(clusters, types)
    assert colors[:2] == [COLORS[0], COLORS[1]]
    assert colors[2] not in COLORS[:3]


@pytest.mark.slow
def test_the_demonstration_as_it_is_shipped_finds_the_types(run, tmp_path):
    result = run("demo", "--quiet", "--accelerator", "cpu")
    assert result.exit_code == 0, result.output
    table = anndata.read_h5ad(tmp_path / "vmmscvi_demo" / "demo.h5ad").uns["vmmscvi"]["comparison"]
    scores = table.set_index("prior").loc["VMM"]
    assert scores["nmi"] > 0.9 and scores["ari"] > 0.9 and scores["batch_mixing"] > 0.9
    assert 6 <= scores["n_clusters"] <= 16
