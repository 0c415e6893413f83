"""Images from scikit-learn, npz and IDX files are the same arrays, scaled to [-1, 1]."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from vmmscvi.benchmark.images import load_images
from vmmscvi.benchmark.images._data import IDX_FILES, read_idx


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(256, size=(30, 28, 28)).astype(np.uint8),
        "y_train": rng.integers(10, size=30).astype(np.uint8),
        "x_test": rng.integers(256, size=(10, 28, 28)).astype(np.uint8),
        "y_test": rng.integers(10, size=10).astype(np.uint8),
    }


def as_idx(array: np.ndarray) -> bytes:
    head = bytes((0, 0, 8, array.ndim)) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return head + array.tobytes()


@pytest.fixture(params=["npz", "idx", "idx.gz", "folder"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "npz":
        np.savez(tmp_path / "mnist.npz", **arrays())
        return tmp_path
    place = tmp_path / "mnist" if request.param == "folder" else tmp_path
    place.mkdir(exist_ok=True)
    for name, file in IDX_FILES.items():
        content = as_idx(arrays()[name])
        if request.param == "idx.gz":
            (place / f"{file}.gz").write_bytes(gzip.compress(content))
        else:
            (place / file).write_bytes(content)
    return tmp_path


def test_all_kinds_of_files_give_the_same_images(folder: Path) -> None:
    data, wanted = load_images("mnist", folder), arrays()
    np.testing.assert_allclose(data.x_train, wanted["x_train"].reshape(30, 784) / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(data.y_test, wanted["y_test"])
    assert data.side == 28 and data.x_train.dtype == np.float32


def test_digits_come_with_scikit_learn() -> None:
    data = load_images("digits")
    assert data.x_train.shape == (1437, 64) and data.x_test.shape == (360, 64)
    assert data.x_train.min() == -1 and data.x_train.max() == 1
    assert set(data.y_test) == set(range(10))


def test_a_part_is_drawn_once_for_all_and_keeps_images_with_their_labels() -> None:
    part, again, everything = (
        load_images("digits", None, 100, 20),
        load_images("digits", None, 100, 20),
        load_images("digits"),
    )
    np.testing.assert_array_equal(part.x_train, again.x_train)
    assert part.x_train.shape == (100, 64) and part.x_test.shape == (20, 64)
    for x, y in zip(part.x_train, part.y_train, strict=True):
        assert y in everything.y_train[(everything.x_train == x).all(1)]


@pytest.mark.parametrize(
    ("dataset", "message"), [("cifar", "`dataset` must be one of"), ("mnist", "`data` must name the folder")]
)
def test_unknown_images_are_refused(dataset: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_images(dataset)


def test_missing_files_and_parts_of_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`data` must hold mnist.npz, or the files train-images"):
        load_images("mnist", tmp_path)
    np.savez(tmp_path / "mnist.npz", x_train=np.zeros((3, 4, 4)))
    with pytest.raises(ValueError, match="lacks x_test, y_test, y_train"):
        load_images("mnist", tmp_path)
    np.savez(tmp_path / "mnist.npz", **{**arrays(), "x_train": np.zeros((30, 28, 27))})
    with pytest.raises(ValueError, match="square images"):
        load_images("mnist", tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x00\x09\x01\x00\x00\x00\x01\x00", as_idx(np.zeros(5, np.uint8))[:-1]]
)
def test_what_is_no_idx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"`data`: .*file"):
        read_idx(path)
