from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import io as scipy_io
from scipy import sparse

from vmmscvi.benchmark import _datasets_paper as paper
from vmmscvi.benchmark._datasets import load_dataset, load_h5ad
from vmmscvi.benchmark._datasets_download import ChecksumError, DownloadError, cache_folder, fetch
from vmmscvi.benchmark._specs import DatasetSpec
from vmmscvi.data import simulate_counts

UNREACHABLE = "http://127.0.0.1:9/"  # the port of the discard service: refused at once


@pytest.fixture(scope="module")
def simulated() -> AnnData:
    return simulate_counts(n_cells=120, n_genes=60, n_types=3, n_batches=2, seed=0)


@pytest.fixture
def h5ad(simulated: AnnData, tmp_path: Path) -> Path:
    path = tmp_path / "cells.h5ad"
    adata = simulated.copy()
    adata.layers["counts"] = adata.X.copy()
    adata.X = adata.X.log1p()
    adata.obs = adata.obs.rename(columns={"batch": "donor", "cell_type": "annotation"})
    adata.write_h5ad(path)
    return path


def file_url(path: Path, content: bytes = b"counts") -> str:
    path.write_bytes(content)
    return path.as_uri()


class TestFetch:
    def test_downloads_once(self, tmp_path: Path) -> None:
        source = tmp_path / "source"
        url = file_url(source)
        path = fetch(url, tmp_path / "cache", "data.bin")
        assert path.read_bytes() == b"counts"
        source.unlink()
        assert fetch(url, tmp_path / "cache", "data.bin") == path

    def test_records_the_checksum_and_checks_it_afterwards(self, tmp_path: Path) -> None:
        url = file_url(tmp_path / "source")
        path = fetch(url, tmp_path / "cache", "data.bin")
        path.write_bytes(b"other")
        with pytest.raises(
            ChecksumError, match=r"data\.bin has SHA256 d9298a10d1b0735837dc4bd85dac641b0f3cef27"
        ):
            fetch(url, tmp_path / "cache", "data.bin")

    def test_checks_a_known_checksum_at_the_first_download(self, tmp_path: Path) -> None:
        with pytest.raises(ChecksumError, match="expected 00"):
            fetch(file_url(tmp_path / "source"), tmp_path / "cache", "data.bin", sha256="00")

    def test_without_a_network_says_what_to_do_and_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(
            DownloadError, match=r"Could not download http.*refused.*Without a network.*VMMSCVI_CACHE"
        ):
            fetch(UNREACHABLE, tmp_path / "cache", "data.bin")
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]

    def test_a_broken_download_is_not_taken_for_a_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Response(io.BytesIO):
            headers = {"Content-Length": "100"}  # noqa: RUF012

        monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: Response(b"half"))
        with pytest.raises(DownloadError, match="got 4 of 100 bytes"):
            fetch("http://example.org/data", tmp_path, "data.bin")
        assert not list(tmp_path.iterdir())

    def test_the_cache_is_where_the_environment_says(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("VMMSCVI_CACHE", str(tmp_path))
        assert cache_folder("cortex") == tmp_path / "datasets" / "cortex"


class TestH5ad:
    def test_names_are_fixed_and_counts_come_from_the_layer(self, h5ad: Path, simulated: AnnData) -> None:
        spec = DatasetSpec("x", path=h5ad, batch_key="donor", label_key="annotation", layer="counts")
        adata = load_dataset(spec)
        np.testing.assert_array_equal(adata.X.toarray(), simulated.X.toarray())
        assert adata.X.dtype == np.float32
        assert list(adata.obs) == ["batch", "cell_type"]
        assert (adata.obs["batch"] == simulated.obs["batch"].to_numpy()).all()
        assert (adata.obs["cell_type"] == simulated.obs["cell_type"].to_numpy()).all()

    def test_without_batch_key_there_is_one_batch(self, h5ad: Path) -> None:
        adata = load_h5ad(h5ad, batch_key=None, label_key="annotation", layer="counts")
        assert adata.obs["batch"].nunique() == 1

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"batch_key": "sample"}, "`batch_key` is 'sample'; expected one of the columns"),
            ({"label_key": "type"}, "`label_key` is 'type'"),
            ({"layer": "raw"}, r"`layer` is 'raw'; expected one of \['counts'\]"),
        ],
    )
    def test_what_is_missing_is_named(self, h5ad: Path, arguments: dict[str, str], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            load_h5ad(h5ad, **{"batch_key": "donor", "label_key": "annotation", **arguments})

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="`path` is"):
            load_h5ad(tmp_path / "none.h5ad")

    def test_negative_values_are_no_counts(self, simulated: AnnData, tmp_path: Path) -> None:
        adata = simulated.copy()
        adata.X = adata.X - sparse.csr_matrix(np.full(adata.shape, 2.0, dtype=np.float32))
        adata.write_h5ad(tmp_path / "scaled.h5ad")
        with pytest.raises(ValueError, match="negative or missing"):
            load_h5ad(tmp_path / "scaled.h5ad")

    def test_fractions_are_warned_of(self, h5ad: Path, caplog: pytest.LogCaptureFixture) -> None:
        load_h5ad(h5ad, batch_key="donor", label_key="annotation")
        assert "not whole numbers" in caplog.text

    def test_cells_without_type_or_counts_are_left_out_and_counted(
        self, simulated: AnnData, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        adata = simulated.copy()
        adata.obs["cell_type"] = adata.obs["cell_type"].astype(object)
        adata.obs.iloc[:3, adata.obs.columns.get_loc("cell_type")] = np.nan
        counts = adata.X.toarray()
        counts[5] = 0
        adata.X = sparse.csr_matrix(counts)
        adata.write_h5ad(tmp_path / "cells.h5ad")
        assert load_h5ad(tmp_path / "cells.h5ad").n_obs == 116
        assert "3 cells without a type" in caplog.text
        assert "1 cells have fewer than 1 counts" in caplog.text

    def test_genes_are_those_of_seurat_v3_within_batches(self, h5ad: Path, simulated: AnnData) -> None:
        adata = load_h5ad(h5ad, batch_key="donor", label_key="annotation", layer="counts", n_top_genes=20)
        table = sc.pp.highly_variable_genes(
            simulated, n_top_genes=20, flavor="seurat_v3", batch_key="batch", inplace=False
        )
        assert list(adata.var_names) == list(simulated.var_names[table["highly_variable"]])

    def test_a_subsample_is_always_the_same(self, h5ad: Path) -> None:
        def names() -> list[str]:
            adata = load_h5ad(h5ad, batch_key="donor", label_key="annotation", layer="counts", subsample=50)
            return list(adata.obs_names)

        assert len(names()) == 50
        assert names() == names()


class TestSimulated:
    def test_a_preset_with_arguments(self) -> None:
        spec = DatasetSpec(
            "s", simulate="well_separated", arguments={"n_cells": 90, "n_genes": 50, "n_types": 3}
        )
        adata = load_dataset(spec)
        assert adata.shape == (90, 50)
        assert adata.obs["cell_type"].nunique() == 3
        assert (adata.X != load_dataset(spec).X).nnz == 0


class TestPaper:
    """Each loader on a small file of the same format as the public one."""

    def test_unknown_sources_and_arguments_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"'retina'; expected one of \['cortex', 'lung_atlas', 'pbmc'"):
            load_dataset(DatasetSpec("x", source="retina"))
        with pytest.raises(ValueError, match=r"\['genes'\]"):
            load_dataset(DatasetSpec("x", source="cortex", arguments={"genes": 10}))

    def test_lung_atlas_takes_counts_not_normalised_values(
        self, simulated: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        adata = simulated.copy()
        adata.layers["counts"] = adata.X.copy()
        adata.X = adata.X.log1p()
        adata.write_h5ad(tmp_path / "public.h5ad")
        monkeypatch.setattr(paper, "LUNG_ATLAS_URL", (tmp_path / "public.h5ad").as_uri())
        arguments = {"cache": str(tmp_path / "cache")}
        loaded = load_dataset(DatasetSpec("l", source="lung_atlas", arguments=arguments))
        kept = simulated[:, np.asarray(simulated.X.sum(axis=0)).ravel() >= 3]
        np.testing.assert_array_equal(loaded.X.toarray(), kept.X.toarray())
        normalised = load_dataset(DatasetSpec("l", source="lung_atlas", layer="X", arguments=arguments))
        assert normalised.X.max() == pytest.approx(np.log1p(simulated.X.max()))

    def test_cortex_as_scvi_reads_it(
        self, simulated: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The text format of the public file: eleven rows of annotation, then genes."""
        cells = simulated.n_obs
        rows = [["", "tissue", *["c"] * cells] for _ in range(11)]
        rows[8] = ["", "level1class", *simulated.obs["cell_type"]]
        counts = simulated.X.toarray().astype(int)
        rows += [[name, "0", *map(str, counts[:, g])] for g, name in enumerate(simulated.var_names)]
        text = "\n".join("\t".join(row) for row in rows) + "\n"
        folder = tmp_path / "datasets" / "cortex"
        folder.mkdir(parents=True)
        (folder / "expression.bin").write_text(text)
        spec = DatasetSpec("c", source="cortex", n_top_genes=30, arguments={"cache": str(tmp_path)})
        adata = load_dataset(spec)
        assert adata.n_obs == cells
        assert adata.n_vars <= 30
        np.testing.assert_array_equal(adata.X.toarray(), simulated[:, adata.var_names].X.toarray())
        assert list(adata.obs["cell_type"]) == list(simulated.obs["cell_type"].astype(str))
        assert list(json.loads((folder / "checksums.json").read_text())) == ["expression.bin"]
        (folder / "expression.bin").write_text(text + "\n")
        with pytest.raises(ChecksumError):
            load_dataset(spec)

    def test_pbmc_has_scvis_labels_and_batches(
        self, simulated: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stored(save_path: str) -> AnnData:
            (Path(save_path) / "gene_info.csv").write_text("ENSG\n")
            adata = AnnData(simulated.X.copy())
            adata.obs["str_labels"] = simulated.obs["cell_type"].astype(str).to_numpy()
            adata.obs["labels"] = simulated.obs["cell_type"].cat.codes.to_numpy()
            adata.obs["batch"] = simulated.obs["batch"].cat.codes.to_numpy()
            return adata

        monkeypatch.setattr("scvi.data.pbmc_dataset", stored)
        adata = load_dataset("pbmc", cache=str(tmp_path))
        assert list(adata.obs["cell_type"].cat.categories) == ["type0", "type1", "type2"]
        assert list(adata.obs["batch"].cat.categories) == ["0", "1"]

    @pytest.mark.parametrize("source", ["cortex", "pbmc"])
    def test_scvis_downloads_fail_with_the_same_message_and_leave_no_half_file(
        self, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(save_path: str) -> AnnData:
            (Path(save_path) / "expression.bin").write_bytes(b"half")
            raise TimeoutError("timed out")

        monkeypatch.setattr(f"scvi.data.{'cortex' if source == 'cortex' else 'pbmc_dataset'}", broken)
        with pytest.raises(DownloadError, match=r"timed out\. Without a network"):
            load_dataset(DatasetSpec("c", source=source, arguments={"cache": str(tmp_path)}))
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]

    def test_split_seq_of_the_brain_with_broad_types(
        self, simulated: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rng = np.random.default_rng(0)
        n = simulated.n_obs
        samples = rng.choice(["p2_brain ", "p11_brain", "p2_spine ", "p11_spine"], n)
        clusters = rng.choice(["6 CTX PyrL2 ", "61 OPC      ", "53 Unresolved"], n)
        content: dict[str, Any] = {
            "DGE": simulated.X,
            "genes": np.array([f"{name:12}" for name in simulated.var_names]),
            "sample_type": samples,
            "cluster_assignment": clusters,
            "barcodes": np.arange(n)[None, :],
        }
        buffer = io.BytesIO()
        scipy_io.savemat(buffer, content)
        (tmp_path / "public.mat.gz").write_bytes(gzip.compress(buffer.getvalue()))
        monkeypatch.setattr(paper, "SPLIT_SEQ_URL", (tmp_path / "public.mat.gz").as_uri())
        adata = load_dataset(
            DatasetSpec("s", source="split_seq", arguments={"cache": str(tmp_path / "cache")})
        )
        expected = pd.Series(samples).str.contains("brain") & ~pd.Series(clusters).str.contains("Unresolved")
        assert list(adata.obs_names) == [str(i) for i in np.flatnonzero(expected)]
        assert set(adata.obs["cell_type"]) == {"CTX", "OPC"}
        assert set(adata.obs["batch"]) == {"p2", "p11"}
        np.testing.assert_array_equal(
            adata.X.toarray(), simulated.X.toarray()[expected][:, simulated.var_names.isin(adata.var_names)]
        )
