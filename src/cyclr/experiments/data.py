"""Image data sets, by name or from files, ready to train on.

Whatever the source, the result is one `Dataset`: float32 images in [0, 1] with the samples first and the channels last,
int64 class indices from 0, and a part held out for validation. Nothing is guessed: pixels of an unclear scale, flat
samples or one-hot labels are errors that say how to fix them. Nothing is unpickled, and a compressed file is unpacked
to at most 100 times its size.
"""

import gzip
import importlib
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyclr import _checks, _extras, _files
from cyclr._checks import did_you_mean
from cyclr.errors import DataError

NAMES = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100")
"""The data sets that have a name: `"digits"` is embedded in scikit-learn, the others come from `keras.datasets`."""

_Part = tuple[NDArray[np.float32], NDArray[np.int64]]
_Arrays = tuple[NDArray[Any], NDArray[Any], str, str]
"""Images, labels, and the names of both in error messages."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images for training and for validation. `load` creates and checks them.

    Args:
        name: name of the data in tables and titles.
        x_train: training images, float32 in [0, 1], shape (samples, height, width, channels).
        y_train: class indices of the training images, int64 in 0 … classes − 1, shape (samples,).
        x_val: validation images, in the shape of `x_train` except for the number of samples.
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

    - `"digits"`: 1797 scans of 8 × 8 pixels in scikit-learn, no download, split 80/20, stratified by class;
    - `"mnist"`, `"fashion_mnist"`, `"cifar10"`, `"cifar100"`: `keras.datasets`, downloaded on first use (Keras checks
      the SHA-256 of the CIFAR archives, and then unpickles them); the test part is the validation part;
    - a folder that holds the four IDX files of MNIST or a data set like it, each plain or gzipped
      (`train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`);
    - an `.npz` with the keys `x_train`, `y_train` and `x_val`, `y_val` (else `x_test`, `y_test`), or with only `x` and
      `y`, which are split 80/20. The split is stratified by class if every class has at least two samples, and there
      are not more classes than validation samples.

    Images have shape (samples, height, width, channels), or (samples, height, width), which gets a last axis of 1.
    Integer pixels are taken as 0 … 255 and divided by 255; float pixels must lie in [0, 1] and stay as they are.
    Labels have shape (samples,) or (samples, 1) and are whole numbers from 0.

    Args:
        source: a name or a path. For a file that has the name of a data set, write a path such as `"./digits"`.
        seed: seed of the random split, an integer from 0 to 2³² − 1; unused if the source has two parts.

    Raises:
        DataError: the source does not exist, cannot be read or downloaded, or does not have the described form.
        MissingExtraError: scikit-learn (for a split) or Keras (for its data sets) is not installed.
        TypeError, ValueError: source is not a string or path, or seed not an integer ≥ 0.

    Example:
        >>> from cyclr.experiments.data import load
        >>> digits = load("digits")
        >>> digits.x_train.dtype.name, float(digits.x_train.min()), float(digits.x_train.max())
        ('float32', 0.0, 1.0)
    """
    if not isinstance(source, str | Path):
        raise TypeError(f"source must be a name or a path; got source={source!r} of type {type(source).__name__}.")
    _checks.integer("seed", seed, at_least=0, at_most=2**32 - 1)
    name, parts = _read(source)
    train, *rest = (_part(*part) for part in parts)
    train, val = (train, *rest) if rest else _split(train, seed, parts[0][2])
    data = Dataset(name, *train, *val)
    shapes = f"{data.input_shape} and {data.x_val.shape[1:]}"
    both = f"training and validation images of {name}"
    _require(data.input_shape == data.x_val.shape[1:], both, "have the same shape", shapes, "Resize one part.")
    legal, largest = f"be below the number of classes in training, {data.classes}", data.y_val.max()
    add = "Move samples of every class into the training part."
    _require(largest < data.classes, f"validation labels of {name}", legal, largest, add)
    return data


def _read(source: str | Path) -> tuple[str, list[_Arrays]]:
    """Return the name of the data, and its one or two parts without changes."""
    if source == "digits":
        digits = _imported("sklearn.datasets", "data 'digits'").load_digits()
        images = (digits.images / 16).astype(np.float32)  # 17 shades of grey, 0 … 16
        return "digits", [(images, digits.target, "images of 'digits'", "labels of 'digits'")]
    if isinstance(source, str) and source in NAMES:
        return source, _from_keras(source)
    path = Path(source)
    try:
        check(source)
        return (path.absolute().name, _from_folder(path)) if path.is_dir() else (path.stem, _from_npz(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}. Check the path and its permissions.") from error


def check(source: str | Path) -> None:
    """Raise if a source is not a name, a folder or an archive that `load` can read. No data is read.

    Raises:
        DataError: the source does not exist, or is something else.
    """
    if source in NAMES:
        return
    if source and Path(source).is_dir():
        _idx_files(Path(source))
        return
    if source and Path(source).is_file():
        _npz_keys(Path(source))
        return
    hint = did_you_mean(Path(source).name, NAMES)
    raise DataError(
        f"data must be the name of a data set or a path that exists; got {str(source)!r}. {hint and hint + ' '}"
        f"The names are {', '.join(NAMES)}; a path must be {_FILES}."
    )


def read_idx(path: str | Path) -> NDArray[Any]:
    """Read one file in IDX, the format of MNIST, plain or gzipped (recognized by its first bytes, not by its name).

    The format: two zero bytes, a type code, the number of dimensions, each dimension as a big-endian uint32, then the
    values in C order, big-endian. Type codes: 08 uint8, 09 int8, 0B int16, 0C int32, 0D float32, 0E float64.

    Args:
        path: the file.

    Returns:
        An array of the file's shape and type, in the machine's byte order.

    Raises:
        DataError: the file cannot be opened or unzipped, is not an IDX file, has another length than its header says,
            or is a gzip file that unpacks to more than 64 MiB and 100 times its size.

    Source: LeCun, Cortes & Burges, *The MNIST Database of Handwritten Digits*, "the IDX file format".
    """
    path = Path(path)

    def wrong(message: str) -> DataError:
        return DataError(f"{path} {message}{'' if message.endswith('?') else '.'} Copy or download it again.")

    try:
        _files.check_regular(path)
        with path.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            limit = _files.most_unpacked(path)
            file: Any = gzip.GzipFile(fileobj=plain) if packed else plain
            head = file.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _IDX_TYPES:
                codes = ", ".join(f"{code:02X}" for code in _IDX_TYPES)
                found = head.hex(" ").upper() or "(none)"
                raise wrong(
                    f"must start like an IDX file, with two zero bytes, a type code ({codes}) and the number of "
                    f"dimensions; got the bytes {found}. Is it another file?"
                )
            sizes = file.read(4 * head[3])
            if len(sizes) < 4 * head[3]:
                raise wrong(f"is cut short in its header of {head[3]} dimensions; found {4 + len(sizes)} bytes")
            dtype, shape = np.dtype(_IDX_TYPES[head[2]]), struct.unpack(f">{head[3]}I", sizes)
            expected = math.prod(shape) * dtype.itemsize
            data = bytearray()
            # Read one byte more than expected: it shows that the file is too long, and makes gzip check the data.
            while len(data) <= min(expected, limit) and (part := file.read(min(2**20, expected + 1 - len(data)))):
                data += part
    except (OSError, EOFError, zlib.error) as error:
        raise wrong(f"cannot be read: {error}. Does it exist, and is it complete?") from error
    if len(data) > limit:
        raise DataError(f"{path} unpacks to more than {limit:,} bytes, 100 times its size. Unpack the file yourself.")
    if len(data) != expected:
        problem, more = ("is cut short", "") if len(data) < expected else ("is too long", " or more")
        raise wrong(f"{problem}: {dtype.name} values of shape {shape} take {expected} bytes; found {len(data)}{more}")
    try:
        return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))
    except ValueError as error:
        raise wrong(f"has a shape that NumPy cannot hold: {error}") from error


_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_NPZ_KEYS = (("x_train", "y_train", "x_val", "y_val"), ("x_train", "y_train", "x_test", "y_test"), ("x", "y"))
_FILES = "a folder with the four IDX files of MNIST, or an .npz with x_train, y_train, x_test, y_test"
_MOST_CLASSES = 100_000  # Larger labels are identifiers, not indices: the model would need that many outputs.


def _imported(module: str, what: str, extra: str = "cli") -> Any:
    with _extras.needed(f"{what} needs", module.partition(".")[0], extra=extra):
        return importlib.import_module(module)


def _from_keras(name: str) -> list[_Arrays]:
    keras = _imported("keras", f"data {name!r}", "tensorflow")
    try:
        parts = getattr(keras.datasets, name).load_data()
    except Exception as error:  # A failed download is a plain Exception in Keras.
        raise DataError(
            f"data {name!r} could not be downloaded or read by keras.datasets: {error}. Without a network use the "
            "embedded --data digits, a folder of IDX files or an .npz; on Debian, `apt-get install "
            "dataset-fashion-mnist` and then --data /usr/share/datasets/fashion-mnist. If an earlier download was cut "
            "short, delete it from the folder datasets in KERAS_HOME (~/.keras)."
        ) from error
    if keras.config.image_data_format() == "channels_first":
        parts = [(np.moveaxis(x, 1, -1) if x.ndim == 4 else x, y) for x, y in parts]
    named = zip(("training", "test"), parts, strict=True)
    return [(x, y, f"{part} images of {name}", f"{part} labels of {name}") for part, (x, y) in named]


def _idx_files(folder: Path) -> list[Path]:
    """Return the four IDX files of a folder."""
    paths = [path if (path := folder / name).is_file() else folder / f"{name}.gz" for name in _IDX_FILES]
    missing = [path.stem for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"folder {folder} must hold the four IDX files of MNIST, each plain or with .gz; it lacks "
            f"{', '.join(missing)}. Add the files under these names, or pass an .npz."
        )
    return paths


def _from_folder(folder: Path) -> list[_Arrays]:
    paths = _idx_files(folder)
    return [(read_idx(x), read_idx(y), str(x), str(y)) for x, y in (paths[:2], paths[2:])]


def _npz_keys(path: Path) -> tuple[str, ...]:
    """Return the keys of the arrays to read in an archive."""
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is not an .npz archive, or is cut short. A path must be {_FILES}.")
    try:
        with zipfile.ZipFile(path) as archive:
            present = [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(
            f"{path} cannot be read: {error}. The archive is damaged; write it again with numpy.savez."
        ) from error
    keys = next((keys for keys in _NPZ_KEYS if {*keys} <= {*present}), ())
    if not keys:
        raise DataError(
            f"{path} must hold x_train, y_train and x_test, y_test (or x_val, y_val), or only x and y, to be split; "
            f"got {', '.join(present) or 'no arrays'}. Save the arrays under these keys with numpy.savez."
        )
    return keys


def _from_npz(path: Path) -> list[_Arrays]:
    keys = _npz_keys(path)
    try:
        with _files.open_archive(path, keys) as archive:
            arrays = {key: np.asarray(archive[key]) for key in keys}
    except Exception as error:  # Damaged bytes surface as errors of zipfile, zlib, struct, ast or NumPy.
        raise DataError(
            f"{path} cannot be read: {error}. The archive is damaged, compressed too far, or holds Python objects, "
            "which are never unpickled. Write it again from numeric arrays with numpy.savez."
        ) from error
    pairs = zip(keys[::2], keys[1::2], strict=True)
    return [(arrays[x], arrays[y], f"{x} of {path}", f"{y} of {path}") for x, y in pairs]


def _part(x: NDArray[Any], y: NDArray[Any], images: str, labels: str) -> _Part:
    """Check images and labels, and convert them; `images` and `labels` name them in errors."""
    _check_images(x, images)
    pixels = x.astype(np.float32)
    if x.dtype.kind in "iu":
        pixels /= 255
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    _check_labels(y, len(x), labels)
    return pixels[..., np.newaxis] if pixels.ndim == 3 else pixels, y.astype(np.int64)


def _require(holds: Any, what: str, legal: str, found: Any, remedy: str) -> None:
    if not holds:
        raise DataError(f"{what} must {legal}; got {found}. {remedy}")


def _check_images(x: NDArray[Any], what: str) -> None:
    """Raise if an array does not hold images. Each check relies on the checks before it."""
    reshape = "Reshape flat samples, as in x.reshape(-1, 28, 28)."
    shapes = "be images, of shape (samples, height, width) or (samples, height, width, channels)"
    _require(x.ndim in (3, 4), what, shapes, f"shape {x.shape}", reshape)
    _require(x.size, what, "hold at least one image of at least one pixel", f"shape {x.shape}", "Add samples.")
    _require(x.dtype.kind in "biuf", what, "be real numbers", x.dtype, "Save the pixels as uint8 or float32.")
    bad = np.count_nonzero(~np.isfinite(x)) if x.dtype.kind == "f" else 0
    replace = "Drop these images, or replace the pixels as with numpy.nan_to_num."
    _require(bad == 0, what, "be finite", f"{bad} pixels that are NaN or infinite", replace)
    low, high = x.min(), x.max()
    limit, kind = (255, "integers") if x.dtype.kind in "iu" else (1, "floats")
    legal, found = f"lie in [0, {limit}] if they are {kind}", f"{x.dtype} from {low} to {high}"
    _require(low >= 0 and high <= limit, what, legal, found, "Scale them to floats in [0, 1] first.")


def _check_labels(y: NDArray[Any], samples: int, what: str) -> None:
    """Raise if an array does not hold labels of the images. Each check relies on the checks before it."""
    one_hot = "Turn one-hot rows into indices with y.argmax(axis=1)."
    _require(y.ndim == 1, what, "be one class index per image, of shape (samples,)", f"shape {y.shape}", one_hot)
    _require(len(y) == samples, what, f"be as many as the images, {samples}", len(y), "Save both parts again.")
    number = "Number the classes with numpy.unique(y, return_inverse=True)."
    text = f"{y.dtype}, such as {y[0].item()!r}"
    _require(y.dtype.kind in "biuf", what, "be whole numbers from 0", text, number)
    wrong = y[(y < 0) | (y >= _MOST_CLASSES) | (y != np.floor(y) if y.dtype.kind == "f" else False)]
    found = repr(wrong[0].item()) if wrong.size else ""
    _require(not found, what, f"be whole numbers from 0 to {_MOST_CLASSES - 1}", found, number)


def _split(part: _Part, seed: int, what: str) -> tuple[_Part, _Part]:
    """Hold out a fifth of the samples (rounded up), stratified by class if possible."""
    split = _imported("sklearn.model_selection", f"the split of {what}").train_test_split
    x, y = part
    _require(len(y) >= 2, what, "hold at least two samples to be split", len(y), "Add samples.")
    held_out = -(-len(y) // 5)
    counts = np.unique(y, return_counts=True)[1]
    by_class = y if counts.min() >= 2 and len(counts) <= held_out else None
    x_train, x_val, y_train, y_val = split(x, y, test_size=held_out, random_state=seed, stratify=by_class)
    return (x_train, y_train), (x_val, y_val)
