"""Image data sets, by name or from files, ready to train on.

Whatever the source, the result is one `Dataset`: float32 images in [0, 1] with the samples first and the channels last,
int64 class indices from 0, and a part held out for validation. Nothing is guessed: pixels of an unclear scale, flat
samples or one-hot labels are errors that say how to mend them. cyclr unpickles nothing.
"""

import difflib
import gzip
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyclr import _checks
from cyclr.errors import DataError, MissingExtraError

NAMES = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100")
"""The data sets known by name: `"digits"` is embedded in scikit-learn, the others are those of `keras.datasets`."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images in two parts, one to train on and one held out; `load` makes and checks them.

    Args:
        name: what to call the data in a table or a title.
        x_train: training images, float32 in [0, 1], shape (samples, height, width, channels).
        y_train: class indices of the training images, int64 in 0 … classes − 1, shape (samples,).
        x_val: validation images, the same in shape but for the number of samples.
        y_val: class indices of the validation images.

    Example:
        >>> from cyclr.experiments.data import load
        >>> digits = load("digits")
        >>> digits.x_train.shape, digits.x_val.shape
        ((1437, 8, 8, 1), (360, 8, 8, 1))
        >>> digits.classes, digits.input_shape
        (10, (8, 8, 1))
    """

    name: str
    x_train: NDArray[np.float32] = field(repr=False)
    y_train: NDArray[np.int64] = field(repr=False)
    x_val: NDArray[np.float32] = field(repr=False)
    y_val: NDArray[np.int64] = field(repr=False)

    @property
    def classes(self) -> int:
        """Number of classes: the largest training label, plus one."""
        return int(self.y_train.max()) + 1

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image: (height, width, channels)."""
        return self.x_train.shape[1:]


def load(source: str | Path, *, seed: int = 0) -> Dataset:
    """Load images and labels by name or from files.

    A source is one of

    - `"digits"`: 1797 scans of 8 × 8 pixels in scikit-learn, no download, split 80/20 by class;
    - `"mnist"`, `"fashion_mnist"`, `"cifar10"`, `"cifar100"`: `keras.datasets`, downloaded on first use (the CIFAR
      archives are unpickled by Keras, once their SHA-256 is checked); the test part is the validation part;
    - a folder that holds the four IDX files of MNIST or a data set like it, each plain or gzipped
      (`train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`);
    - an `.npz` with the keys `x_train`, `y_train` and `x_val`, `y_val` (else `x_test`, `y_test`), or with `x`, `y`
      alone, which are split 80/20, by class if every class has two samples and the smaller part has room for all.

    Images have shape (samples, height, width), which gets a channel axis of 1, or (samples, height, width, channels).
    Integer pixels are taken as 0 … 255 and divided by 255; float pixels must lie in [0, 1] and stay as they are.
    Labels have shape (samples,) or (samples, 1) and are whole numbers from 0.

    Args:
        source: a name or a path. A name wins over a file of that name: `"./digits"` is the path.
        seed: of the random split, an integer from 0 to 2³² − 1; unused where the source has two parts.

    Raises:
        DataError: there is no such source, it cannot be read or downloaded, or it does not hold what is said above.
        MissingExtraError: scikit-learn (for a split) or Keras (for its names) is not installed.
        TypeError, ValueError: source is no string or path, or seed no integer ≥ 0.

    Example:
        >>> from cyclr.experiments.data import load
        >>> digits = load("digits")
        >>> digits.x_train.dtype.name, float(digits.x_train.min()), float(digits.x_train.max())
        ('float32', 0.0, 1.0)
    """
    if not isinstance(source, str | Path):
        raise TypeError(f"source must be a name or a path; got source={source!r} of type {type(source).__name__}.")
    _checks.integer("seed", seed, at_least=0)
    if source == "digits":
        return _digits(seed)
    if isinstance(source, str) and source in NAMES:
        return _from_keras(source)
    path = Path(source)
    try:
        if source and path.is_dir():
            return _from_folder(path)
        if path.is_file():
            return _from_npz(path, seed)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}. Check the path and its permissions.") from error
    close = difflib.get_close_matches(str(source), NAMES, n=1)
    raise DataError(
        f"data must be the name of a data set or a path that exists; got {str(source)!r}. "
        + (f"Did you mean {close[0]!r}? " if close else "")
        + f"The names are {', '.join(NAMES)}; a path leads to {_FILES}."
    )


def read_idx(path: str | Path) -> NDArray[Any]:
    """Read one IDX file, the format of MNIST, plain or gzipped (its first bytes tell, whatever the file's name).

    The format: two zero bytes, a type code, the number of dimensions, each dimension as a big-endian uint32, then the
    values in C order, big-endian. Type codes: 08 uint8, 09 int8, 0B int16, 0C int32, 0D float32, 0E float64.

    Args:
        path: the file.

    Returns:
        An array of the file's shape and type, in the machine's byte order.

    Raises:
        DataError: the file cannot be opened or unzipped, is no IDX file, or is shorter or longer than its header says.

    Source: LeCun, Cortes & Burges, *The MNIST Database of Handwritten Digits*, "the IDX file format".
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read: {error}. Is it there, and whole? Copy or download it again."
        ) from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _IDX_TYPES:
        raise DataError(
            f"{path} must begin like an IDX file, with two zero bytes, a type code "
            f"({', '.join(f'{code:02X}' for code in _IDX_TYPES)}) and the number of dimensions; "
            f"got the bytes {data[:4].hex(' ').upper() or '(none)'}. Is it another file? Copy or download it again."
        )
    dtype, start = np.dtype(_IDX_TYPES[data[2]]), 4 + 4 * data[3]
    if len(data) < start:
        raise DataError(
            f"{path} is cut short: its header of {data[3]} dimensions takes {start} bytes; found {len(data)}. "
            "Copy or download it again."
        )
    shape = struct.unpack_from(f">{data[3]}I", data, 4)
    expected = start + math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise DataError(
            f"{path} is {'cut short' if len(data) < expected else 'too long'}: {expected} bytes are expected for "
            f"{dtype.name} values of shape {shape}; found {len(data)}. Copy or download it again."
        )
    try:
        return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))
    except ValueError as error:
        raise DataError(
            f"{path} has a shape that NumPy cannot hold: {error}. Use fewer or smaller dimensions."
        ) from error


_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_NPZ_KEYS = (("x_train", "y_train", "x_val", "y_val"), ("x_train", "y_train", "x_test", "y_test"), ("x", "y"))
_FILES = "a folder of the four IDX files of MNIST, or to an .npz with x_train, y_train, x_test, y_test"
_MOST_CLASSES = 100_000  # Labels beyond are identifiers, not indices, and would make a model of that many outputs.

_Images = NDArray[np.float32]
_Labels = NDArray[np.int64]
_Part = tuple[_Images, _Labels]


def _digits(seed: int) -> Dataset:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise _missing("'digits'", "scikit-learn", "cli", error) from error
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)  # 17 shades of grey, 0 … 16
    return _dataset("digits", *_split(_part(images, digits.target, "digits images", "digits labels"), seed, "'digits'"))


def _from_keras(name: str) -> Dataset:
    try:
        import keras
    except ImportError as error:
        raise _missing(repr(name), "Keras and a backend", "tensorflow", error) from error
    try:
        train, val = getattr(keras.datasets, name).load_data()
    except Exception as error:  # A failed download is a plain Exception in Keras.
        raise DataError(
            f"data {name!r} could not be downloaded or read by keras.datasets: {error}. Without a network use the "
            "embedded --data digits, a folder of IDX files or an .npz; on Debian, `apt-get install "
            "dataset-fashion-mnist` and then --data /usr/share/datasets/fashion-mnist. If an earlier download was cut "
            "short, delete it from the folder datasets in KERAS_HOME (~/.keras)."
        ) from error
    channels_first = keras.config.image_data_format() == "channels_first"
    parts = []
    for part, (x, y) in (("training", train), ("test", val)):
        images = np.moveaxis(x, 1, -1) if channels_first and x.ndim == 4 else x
        parts.append(_part(images, y, f"{part} images of {name}", f"{part} labels of {name}"))
    return _dataset(name, *parts)


def _from_folder(folder: Path) -> Dataset:
    found = [
        next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None) for name in _IDX_FILES
    ]
    missing = [name for name, path in zip(_IDX_FILES, found, strict=True) if path is None]
    if missing:
        raise DataError(
            f"folder {folder} must hold the four IDX files of MNIST, each plain or with .gz; it lacks "
            f"{', '.join(missing)}. Put them there under these names, or pass an .npz."
        )
    paths = [path for path in found if path is not None]
    train_x, train_y, val_x, val_y = (read_idx(path) for path in paths)
    what = [str(path) for path in paths]
    return _dataset(folder.absolute().name, _part(train_x, train_y, *what[:2]), _part(val_x, val_y, *what[2:]))


def _from_npz(path: Path, seed: int) -> Dataset:
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is no .npz archive, or is cut short. A path must lead to {_FILES}.")
    wanted = {key for keys in _NPZ_KEYS for key in keys}
    try:
        # NumPy leaves a file open that it opened itself and found damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            present = archive.files
            arrays = {key: np.asarray(archive[key]) for key in present if key in wanted}
    except Exception as error:  # Damaged bytes surface as errors of zipfile, zlib, struct, ast or NumPy.
        raise DataError(
            f"{path} cannot be read: {error}. It is damaged, or holds Python objects, which are never unpickled; "
            "write it again from numeric arrays with numpy.savez."
        ) from error
    keys = next((keys for keys in _NPZ_KEYS if arrays.keys() >= set(keys)), None)
    if keys is None:
        raise DataError(
            f"{path} must hold x_train, y_train and x_test, y_test (or x_val, y_val), or x and y alone to be split; "
            f"got {', '.join(present) or 'no arrays'}. Save it again under these keys with numpy.savez."
        )
    parts = [
        _part(arrays[x], arrays[y], f"{x} of {path}", f"{y} of {path}")
        for x, y in zip(keys[::2], keys[1::2], strict=True)
    ]
    train, val = parts if len(parts) == 2 else _split(parts[0], seed, str(path))
    return _dataset(path.stem, train, val)


def _dataset(name: str, train: _Part, val: _Part) -> Dataset:
    """The two parts as one data set, if they go together."""
    data = Dataset(name, *train, *val)
    if data.x_val.shape[1:] != data.input_shape:
        raise DataError(
            f"training and validation images of {name} must have one shape; got {data.input_shape} and "
            f"{data.x_val.shape[1:]}. Resize one part."
        )
    if data.y_val.max() >= data.classes:
        raise DataError(
            f"validation labels of {name} must be below the number of classes in training, {data.classes}; "
            f"got {data.y_val.max()}. Move samples of every class into the training part."
        )
    return data


def _part(x: NDArray[Any], y: NDArray[Any], images: str, labels: str) -> _Part:
    """Checked images and labels; `images` and `labels` name them in errors."""
    return _images(x, images), _labels(y, labels, len(x))


def _images(values: NDArray[Any], what: str) -> _Images:
    if values.ndim not in (3, 4):
        raise DataError(
            f"{what} must be images, of shape (samples, height, width) or (samples, height, width, channels); "
            f"got shape {values.shape}. Give flat samples their shape back, as in x.reshape(-1, 28, 28)."
        )
    if values.size == 0:
        raise DataError(f"{what} must hold at least one image of at least one pixel; got shape {values.shape}.")
    if values.dtype.kind not in "biuf":
        raise DataError(f"{what} must be real numbers; got {values.dtype}. Save the pixels as uint8 or float32.")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(
            f"{what} must be finite; got {np.count_nonzero(~np.isfinite(values))} pixels that are NaN or infinite. "
            "Drop these images, or replace the pixels as with numpy.nan_to_num."
        )
    whole = values.dtype.kind in "iu"
    low, high, legal = values.min(), values.max(), 255 if whole else 1
    if low < 0 or high > legal:
        raise DataError(
            f"{what} must lie in [0, {legal}], as {'integers' if whole else 'floats'} do here; "
            f"got {values.dtype} from {low} to {high}. Scale them to floats in [0, 1] first."
        )
    images = values.astype(np.float32)
    if whole:
        images /= 255
    return images[..., np.newaxis] if images.ndim == 3 else images


def _labels(values: NDArray[Any], what: str, samples: int) -> _Labels:
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(
            f"{what} must be one class index per image, of shape (samples,); got shape {values.shape}. "
            "Turn one-hot rows into indices with y.argmax(axis=1)."
        )
    if len(values) != samples:
        raise DataError(f"{what} must be as many as the images, {samples}; got {len(values)}. Save both parts again.")
    if values.dtype.kind not in "biuf":
        raise DataError(
            f"{what} must be whole numbers from 0; got {values.dtype}, such as {values[0].item()!r}. "
            "Number the classes with numpy.unique(y, return_inverse=True)."
        )
    wrong = (values < 0) | (values >= _MOST_CLASSES)
    if values.dtype.kind == "f":
        wrong |= values != np.floor(values)
    if wrong.any():
        raise DataError(
            f"{what} must be whole numbers from 0 to {_MOST_CLASSES - 1}; got {values[wrong][0].item()!r}. "
            "Number the classes with numpy.unique(y, return_inverse=True)."
        )
    return values.astype(np.int64)


def _split(part: _Part, seed: int, what: str) -> tuple[_Part, _Part]:
    """Hold out a fifth (rounded up), by class where that is possible."""
    try:
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise _missing(what, "scikit-learn", "cli", error) from error
    x, y = part
    if len(y) < 2:
        raise DataError(f"{what} must hold at least two samples to be split; got {len(y)}. Add samples.")
    held_out = -(-len(y) // 5)
    counts = np.unique(y, return_counts=True)[1]
    by_class = y if counts.min() >= 2 and len(counts) <= held_out else None
    x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=held_out, random_state=seed, stratify=by_class)
    return (x_train, y_train), (x_val, y_val)


def _missing(what: str, package: str, extra: str, error: ImportError) -> MissingExtraError:
    return MissingExtraError(f'data {what} needs {package} ({error}). Run: pip install "cyclr[{extra}]"')
