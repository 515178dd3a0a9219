"""The data of the benchmark: real, or from a generator with a fixed seed.

Fashion-MNIST and the texts are files of the Debian packages `dataset-fashion-mnist` and `base-files`. If they are in
other folders, set the environment variables `FASHION_MNIST` and `COMMON_LICENSES` to these folders.
"""

import functools
import gzip
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sklearn import datasets

FASHION = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
LICENSES = Path(os.environ.get("COMMON_LICENSES", "/usr/share/common-licenses"))
TEXTS = ("Apache-2.0", "GFDL-1.2", "GPL-2", "GPL-3", "LGPL-2.1", "MPL-2.0")
LETTERS = " abcdefghijklmnopqrstuvwxyz."


@dataclass(frozen=True)
class Data:
    x: Any
    y: Any
    x_val: Any
    y_val: Any
    outputs: int
    kind: Literal["classes", "values"]

    @property
    def features(self) -> int:
        return int(np.prod(self.x.shape[1:]))


def _split(x: Any, y: Any, kind: Literal["classes", "values"], *, raw: bool = False) -> Data:
    """Return three quarters for training and one for validation. Inputs are standardized, and targets unless `raw`."""
    rng = np.random.default_rng(7)
    order = rng.permutation(len(x))
    x, y = np.asarray(x, np.float32)[order], np.asarray(y)[order]
    cut = len(x) * 3 // 4
    x = (x - x[:cut].mean(0)) / (x[:cut].std(0) + 1e-3)
    if kind == "classes":
        y, outputs = y.astype(np.int32), int(y.max()) + 1
    else:
        y = np.asarray(y, np.float32).reshape(len(y), -1)
        y = y if raw else (y - y[:cut].mean(0)) / y[:cut].std(0)
        outputs = y.shape[1]
    return Data(x[:cut], y[:cut], x[cut:], y[cut:], outputs, kind)


@functools.cache
def read(name: str) -> Data:
    """Read or generate the data of a task by its name."""
    loaders: dict[str, Callable[[], Data]] = {
        "iris": lambda: _split(*datasets.load_iris(return_X_y=True), "classes"),
        "wine": lambda: _split(*datasets.load_wine(return_X_y=True), "classes"),
        "cancer": lambda: _split(*datasets.load_breast_cancer(return_X_y=True), "classes"),
        "digits": lambda: _split(*_digits(), "classes"),
        "digits, noisy labels": lambda: _noisy_labels(_split(*_digits(), "classes")),
        "digits, as values": lambda: _split(*_digits(), "values"),
        "digits, themselves": lambda: _split(_digits()[0], _digits()[0], "values", raw=True),
        "moons": lambda: _split(*datasets.make_moons(1200, noise=0.25, random_state=0), "classes"),
        "classification": lambda: _split(
            *datasets.make_classification(2000, 30, n_informative=12, n_classes=5, random_state=0), "classes"
        ),
        "diabetes": lambda: _split(*datasets.load_diabetes(return_X_y=True), "values"),
        "diabetes, raw": lambda: _split(*datasets.load_diabetes(return_X_y=True), "values", raw=True),
        "friedman 1": lambda: _split(*datasets.make_friedman1(1500, noise=1.0, random_state=0), "values"),
        "friedman 2": lambda: _split(*datasets.make_friedman2(800, noise=50.0, random_state=0), "values"),
        "friedman 3": lambda: _split(*datasets.make_friedman3(800, noise=0.1, random_state=0), "values"),
        "regression": lambda: _split(
            *datasets.make_regression(600, 20, n_informative=8, noise=40.0, random_state=0), "values"
        ),
        "fashion": lambda: _fashion(8000, 2),
        "fashion, small": lambda: _fashion(2000, 4),
        "text, 8 letters": lambda: _text(8, every=False),
        "text, 16 letters": lambda: _text(16),
        "text, 12 letters": lambda: _text(12),
        "digits with noise": _denoising,
        "shapes": _shapes,
        "textures": _textures,
        "regression, ill-conditioned": lambda: _split(*_ill_conditioned(), "values"),
        "classes, ill-conditioned": lambda: _split(*_ill_conditioned(classes=True), "classes"),
    }
    return loaders[name]()


def _digits() -> tuple[Any, Any]:
    digits = datasets.load_digits()
    return digits.data, digits.target


def _noisy_labels(data: Data) -> Data:
    rng = np.random.default_rng(3)
    wrong = rng.random(len(data.y)) < 0.2
    y = np.where(wrong, rng.integers(0, data.outputs, len(data.y)), data.y).astype(np.int32)
    return Data(data.x, y, data.x_val, data.y_val, data.outputs, data.kind)


def _idx(name: str) -> Any:
    with gzip.open(FASHION / f"{name}.gz") as file:
        content = file.read()
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, 4 + 4 * content[3], 4)]
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


def _fashion(count: int, pool: int) -> Data:
    """Fashion-MNIST, its images averaged over squares of `pool` pixels."""
    x, y = _idx("train-images-idx3-ubyte")[:count], _idx("train-labels-idx1-ubyte")[:count]
    small = x.reshape(count, 28 // pool, pool, 28 // pool, pool).mean((2, 4))
    return _split(small.reshape(count, -1), y, "classes")


def _text(length: int, *, every: bool = True) -> Data:
    """Windows of `length` letters of licenses, one-hot. The target is the next letter, after every letter or the last.

    Upper case is changed to lower case, and all characters except letters and spaces to a full stop. The last quarter
    of every text is for validation.
    """
    code = {letter: number for number, letter in enumerate(LETTERS)}
    parts: tuple[list[Any], list[Any]] = [], []
    for name in TEXTS:
        text = re.sub(r"[^a-z ]+", ".", re.sub(r"\s+", " ", (LICENSES / name).read_text(encoding="utf-8").lower()))
        letters = np.array([code[letter] for letter in text])
        cut = len(letters) * 3 // 4
        parts[0].append(letters[:cut])
        parts[1].append(letters[cut:])
    found: list[Any] = []
    for part, stride in zip(parts, (4, 40), strict=True):
        windows = np.concatenate([np.lib.stride_tricks.sliding_window_view(p, length + 1)[::stride] for p in part])
        y = windows[:, 1:] if every else windows[:, -1]
        found += [np.eye(len(LETTERS), dtype=np.float32)[windows[:, :-1]], y.astype(np.int32)]
    return Data(*found, len(LETTERS), "classes")


def _denoising() -> Data:
    """Digits with normal noise as large as their spread, and the digits themselves."""
    y = _digits()[0].astype(np.float32) / 16
    x = y + np.random.default_rng(11).normal(0, 0.4, y.shape).astype(np.float32)
    cut = len(x) * 3 // 4
    return Data(x[:cut], y[:cut], x[cut:], y[cut:], y.shape[1], "values")


def _per_pixel(x: Any, y: Any) -> Data:
    """Images (count, side, side) and the class of each pixel."""
    x, y = x.reshape(len(x), -1).astype(np.float32), y.reshape(len(y), -1).astype(np.int32)
    cut = len(x) * 3 // 4
    return Data(x[:cut], y[:cut], x[cut:], y[cut:], int(y.max()) + 1, "classes")


def _shapes(count: int = 1200, side: int = 10) -> Data:
    """Discs, squares and crosses of one brightness in noise; a pixel belongs to one of them or to the background."""
    rng = np.random.default_rng(12)
    row, column = np.mgrid[:side, :side]
    classes = np.zeros((count, side, side), np.int32)
    for image in classes:
        for _ in range(3):
            kind, (a, b), size = rng.integers(1, 4), rng.integers(1, side - 1, 2), rng.uniform(1.5, 3)
            across, down = abs(row - a), abs(column - b)
            inside = (
                across**2 + down**2 <= size**2,
                np.maximum(across, down) <= size,
                (np.minimum(across, down) < 1) & (np.maximum(across, down) <= size + 1),
            )[kind - 1]
            image[inside] = kind
    return _per_pixel((classes > 0) + rng.normal(0, 0.3, classes.shape), classes)


def _textures(count: int = 1200, side: int = 10) -> Data:
    """Three regions of an image, each with one of four patterns: rows, columns, diagonals, or a chessboard."""
    rng = np.random.default_rng(13)
    row, column = np.mgrid[:side, :side]
    patterns = np.stack([row % 2, column % 2, (row + column) // 2 % 2, (row + column) % 2])
    centers, kinds = rng.uniform(0, side, (count, 3, 2)), rng.integers(0, 4, (count, 3))
    distances = (row - centers[..., 0, None, None]) ** 2 + (column - centers[..., 1, None, None]) ** 2
    classes = np.take_along_axis(kinds, distances.argmin(1).reshape(count, -1), 1).reshape(count, side, side)
    return _per_pixel(patterns[classes, row, column] - 0.5 + rng.normal(0, 0.4, classes.shape), classes)


def _ill_conditioned(count: int = 800, features: int = 30, *, classes: bool = False) -> tuple[Any, Any]:
    """Correlated features whose covariance has the condition number 10⁴. All its directions are equally important."""
    rng = np.random.default_rng(15)
    z = rng.normal(size=(count, features))
    turned = np.linalg.qr(rng.normal(size=(features, features)))[0]
    y = z @ rng.normal(size=features) + rng.normal(0, 1, count)
    return z * np.geomspace(1, 1e-2, features) @ turned, (y > 0).astype(int) if classes else y
