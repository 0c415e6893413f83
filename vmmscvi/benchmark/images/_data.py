"""Images with labels: scikit-learn's digits, and MNIST or Fashion-MNIST from files."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

DatasetName = Literal["digits", "mnist", "fashion_mnist"]

IDX_FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
UNSIGNED_BYTES = 0x08
"""The type of values in the head of an IDX file."""
DIGITS_TEST_SHARE = 0.2
DIGITS_LARGEST = 16
CLASS_NAMES = {
    "fashion_mnist": (
        "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    )
}  # fmt: skip


class ImageData(NamedTuple):
    """Flattened images with values between -1 and 1, and their labels.

    Attributes
    ----------
    name
        Name of the dataset.
    x_train, x_test
        Images, shape ``(n, height * width)``, float32.
    y_train, y_test
        Labels, shape ``(n,)``.
    side
        Height and width.
    """

    name: str
    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]
    side: int


def load_images(
    dataset: DatasetName, folder: Path | None = None, n_images: int | None = None, n_test: int | None = None
) -> ImageData:
    """Read a dataset.

    Parameters
    ----------
    dataset
        ``"digits"``, which comes with scikit-learn, ``"mnist"`` or ``"fashion_mnist"``.
    folder
        Where MNIST or Fashion-MNIST are: ``<dataset>.npz`` with ``x_train``, ``y_train``, ``x_test`` and
        ``y_test``, or the four usual IDX files, compressed or not, here or in ``<dataset>/``.
    n_images, n_test
        Numbers of training and test images, drawn at random, the same for every call; all by default.

    Raises
    ------
    ValueError
        If there is no such dataset, or its files are missing or something else.
    """
    if dataset not in get_args(DatasetName):
        raise ValueError(f"`dataset` must be one of {get_args(DatasetName)}, found {dataset!r}.")
    if dataset == "digits":
        arrays, largest = _digits(), DIGITS_LARGEST
    elif folder is None:
        raise ValueError(f"`data` must name the folder with the files of {dataset}, found None.")
    else:
        arrays, largest = _read_folder(dataset, folder), 255
    parts: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = []
    for part, n_wanted in (("train", n_images), ("test", n_test)):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.ndim != 3 or x.shape[1] != x.shape[2] or y.shape != x.shape[:1]:
            raise ValueError(
                f"`data` must hold square images (n, height, width) and labels (n,), found shapes {x.shape} "
                f"and {y.shape} for {part} in {folder}."
            )
        if n_wanted is not None and n_wanted < len(x):
            rows = np.sort(np.random.default_rng(0).choice(len(x), n_wanted, replace=False))
            x, y = x[rows], y[rows]
        scaled = x.reshape(len(x), -1).astype(np.float32) * np.float32(2.0 / largest) - np.float32(1.0)
        parts.append((scaled, y.astype(np.int64)))
    return ImageData(dataset, *parts[0], *parts[1], arrays["x_train"].shape[1])


def _digits() -> dict[str, NDArray[np.generic]]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    x_train, x_test, y_train, y_test = train_test_split(
        digits.images, digits.target, test_size=DIGITS_TEST_SHARE, stratify=digits.target, random_state=0
    )
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def _read_folder(dataset: str, folder: Path) -> dict[str, NDArray[np.generic]]:
    npz = folder / f"{dataset}.npz"
    if npz.is_file():
        with np.load(npz) as file:
            missing = sorted(set(IDX_FILES) - set(file.files))
            if missing:
                raise ValueError(f"`data`: {npz} lacks {', '.join(missing)}, found {', '.join(file.files)}.")
            return {name: file[name] for name in IDX_FILES}
    for place in (folder / dataset, folder):
        paths = {name: _existing(place / file) for name, file in IDX_FILES.items()}
        if all(paths.values()):
            return {name: read_idx(path) for name, path in paths.items() if path is not None}
    raise ValueError(
        f"`data` must hold {dataset}.npz, or the files {', '.join(IDX_FILES.values())} (.gz or not) here or "
        f"in {dataset}/; found neither in {folder}."
    )


def _existing(path: Path) -> Path | None:
    candidates = (path, path.with_name(f"{path.name}.gz"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, compressed if its name ends in ``.gz``.

    Raises
    ------
    ValueError
        If it is no such file, or is not as long as its head says.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        content = file.read()
    n_dimensions = content[3] if len(content) > 3 else 0
    if content[:3] != bytes((0, 0, UNSIGNED_BYTES)) or len(content) < 4 + 4 * n_dimensions:
        raise ValueError(f"`data`: {path} is not an IDX file of unsigned bytes.")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", n_dimensions, offset=4))
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * n_dimensions)
    if len(values) != np.prod(shape):
        raise ValueError(f"`data`: {path} holds {len(values)} values, its head says {shape}.")
    return values.reshape(shape)
