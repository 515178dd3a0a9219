"""Data sets: real data, files written by hand from their specification, and invalid files of every kind."""

import gzip
import importlib.util
import io
import os
import pickle
import socket
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cyclr.errors import CyclrError, DataError, MissingExtraError
from cyclr.experiments.data import NAMES, Dataset, load, read_idx

FASHION = Path("/usr/share/datasets/fashion-mnist")
QUARTET = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
# From the format's description: code, one value as struct writes it big-endian, and NumPy's name of it.
IDX_CODES = [
    (0x08, ">B", "uint8"),
    (0x09, ">b", "int8"),
    (0x0B, ">h", "int16"),
    (0x0C, ">i", "int32"),
    (0x0D, ">f", "float32"),
    (0x0E, ">d", "float64"),
]


def idx_bytes(array: np.ndarray) -> bytes:
    """Write an IDX file value by value, sharing nothing with the reader."""
    code, one, _ = next(row for row in IDX_CODES if row[2] == array.dtype.name)
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, code, array.ndim]) + sizes + b"".join(struct.pack(one, v) for v in array.ravel().tolist())


@st.composite
def idx_arrays(draw: st.DrawFn) -> np.ndarray:
    dtype = draw(st.sampled_from([name for _, _, name in IDX_CODES]))
    shape = draw(arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    return draw(arrays.arrays(dtype, shape))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for every example of a property."""
    return tmp_path_factory.mktemp("data")


def images(n: int = 20, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *(shape or (4, 3))), dtype=np.uint8)


def labels(n: int = 20, classes: int = 2) -> np.ndarray:
    return (np.arange(n) % classes).astype(np.uint8)


def quartet(folder: Path, pack: bool = False, suffix: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    contents = (images(), labels(), images(6, seed=1), labels(6))
    for name, array in zip(QUARTET, contents, strict=True):
        data = idx_bytes(array)
        (folder / (name + suffix)).write_bytes(gzip.compress(data) if pack else data)
    return folder


def npz(folder: Path, **named: np.ndarray) -> Path:
    path = folder / "data.npz"
    np.savez(path, **named)
    return path


def assert_sound(data: Dataset) -> None:
    for x, y in ((data.x_train, data.y_train), (data.x_val, data.y_val)):
        assert x.dtype == np.float32
        assert y.dtype == np.int64
        assert x.ndim == 4
        assert y.shape == x.shape[:1]
        assert x.shape[1:] == data.input_shape
        assert 0 <= x.min() <= x.max() <= 1
        assert 0 <= y.min() <= y.max() < data.classes
        assert x.flags.writeable  # torch.from_numpy warns of arrays that are not
        assert x.dtype.isnative


# Real data


def test_digits_are_the_scans_of_scikit_learn_split_by_class():
    from sklearn.datasets import load_digits

    data = load("digits")
    assert_sound(data)
    assert (data.name, data.classes, data.input_shape) == ("digits", 10, (8, 8, 1))
    assert (len(data.x_train), len(data.x_val)) == (1437, 360)
    assert data.x_train.max() == 1
    held_out, every = np.bincount(data.y_val), np.bincount(load_digits().target)
    assert np.abs(held_out - every / 5).max() <= 1
    together = np.concatenate([data.x_train, data.x_val]).reshape(-1, 64) * 16
    np.testing.assert_array_equal(
        together[np.lexsort(together.T)], load_digits().data[np.lexsort(load_digits().data.T)]
    )


def test_only_the_seed_decides_the_split():
    first, again, other = load("digits"), load("digits", seed=0), load("digits", seed=1)
    np.testing.assert_array_equal(first.x_train, again.x_train)
    np.testing.assert_array_equal(first.y_val, again.y_val)
    assert not np.array_equal(first.x_val, other.x_val)


def test_fashion_mnist_from_the_debian_package():
    if not FASHION.is_dir():
        pytest.skip("needs apt-get install dataset-fashion-mnist")
    data = load(str(FASHION))
    assert_sound(data)
    assert (data.name, data.classes, data.input_shape) == ("fashion-mnist", 10, (28, 28, 1))
    assert np.bincount(data.y_train).tolist() == [6000] * 10
    assert np.bincount(data.y_val).tolist() == [1000] * 10
    assert data.y_train[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert data.x_train.mean() == pytest.approx(0.2860, abs=5e-5)  # the mean and deviation that everyone quotes
    assert data.x_train.std(dtype=np.float64) == pytest.approx(0.3530, abs=5e-5)


def test_a_data_set_reads_well_and_cannot_be_changed():
    data = load("digits")
    assert repr(data) == "Dataset(name='digits')"
    assert data == data
    assert data != load("digits")
    with pytest.raises(AttributeError):
        data.name = "other"


# IDX files


@settings(deadline=None)  # files
@given(array=idx_arrays(), packed=st.booleans())
def test_idx_round_trip(scratch, array, packed):
    path = scratch / "round-trip"
    path.write_bytes(gzip.compress(idx_bytes(array), mtime=0) if packed else idx_bytes(array))
    read = read_idx(path)
    assert read.dtype == array.dtype
    assert read.dtype.isnative
    assert read.shape == array.shape
    np.testing.assert_array_equal(read, array)


@settings(deadline=None)  # files
@given(array=idx_arrays(), packed=st.booleans(), data=st.data())
def test_a_shortened_idx_file_is_always_a_data_error(scratch, array, packed, data):
    whole = gzip.compress(idx_bytes(array), mtime=0) if packed else idx_bytes(array)
    path = scratch / "shortened"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1), label="length")])
    with pytest.raises(DataError):
        read_idx(path)


@settings(deadline=None)  # files
@given(array=idx_arrays(), packed=st.booleans(), data=st.data())
def test_a_damaged_idx_file_is_read_or_a_data_error(scratch, array, packed, data):
    damaged = bytearray(gzip.compress(idx_bytes(array), mtime=0) if packed else idx_bytes(array))
    damaged[data.draw(st.integers(0, len(damaged) - 1), label="place")] ^= data.draw(st.integers(1, 255), label="flip")
    path = scratch / "damaged"
    path.write_bytes(damaged)
    with suppress(DataError):
        read_idx(path)


@settings(deadline=None)  # files
@given(content=st.binary(max_size=64))
def test_any_bytes_are_read_as_idx_or_a_data_error(scratch, content):
    path = scratch / "any"
    path.write_bytes(content)
    with suppress(DataError):
        read_idx(path)


def idx_header(code: int, *sizes: int) -> bytes:
    return bytes([0, 0, code, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"must start like an IDX file.*got the bytes \(none\)"),
        (b"\0\0\x08", r"must start like an IDX file.*got the bytes 00 00 08\."),
        (b"PK\x03\x04....", r"two zero bytes, a type code \(08, 09, 0B, 0C, 0D, 0E\).*got the bytes 50 4B 03 04"),
        (idx_header(0x0A, 1) + b"\0", r"got the bytes 00 00 0A 01"),
        (idx_header(0x08, 2, 3)[:9], r"cut short in its header of 2 dimensions; found 9 bytes"),
        (idx_header(0x08, 2, 3) + bytes(5), r"cut short: uint8 values of shape \(2, 3\) take 6 bytes; found 5\. Copy"),
        (idx_header(0x0E, 2) + bytes(17), r"too long: float64 values of shape \(2,\) take 16 bytes; found 17 or more"),
        (idx_header(0x08, *[2**32 - 1] * 3), r"cut short: .* take \d{29} bytes"),
        (idx_header(0x08, *[1] * 255) + b"\0", r"a shape that NumPy cannot hold"),
        (idx_header(0x08, 0, *[2**32 - 1] * 3), r"a shape that NumPy cannot hold"),
        (b"\x1f\x8b", r"cannot be read: .*Copy or download it again"),
        (gzip.compress(idx_header(0x08, 50) + bytes(50), mtime=0)[:-3], r"cannot be read: .*end-of-stream"),
        (gzip.compress(idx_header(0x08, 50) + bytes(50), mtime=0)[:-8] + bytes(8), r"cannot be read: CRC check failed"),
        (gzip.compress(bytes(50), mtime=0)[:10] + b"\xff" * 20, r"cannot be read: .*Error -3"),
    ],
)
def test_errors_describe_invalid_idx_files(tmp_path, content, message):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(path)


def peak_of(read: Callable[[], object]) -> int:
    """Bytes of memory at most while `read` is refused."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"unpacks to .*100 times its size\. |found 2 or more"):
            read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("count", [1, 512 * 2**20], ids=["more than its header says", "as much as its header says"])
def test_a_small_file_that_unpacks_to_much_is_refused_in_little_memory(tmp_path, count):
    zeros = gzip.compress(bytes(2**20), 9) * 512
    (tmp_path / "bomb").write_bytes(gzip.compress(idx_header(0x08, count)) + zeros)
    assert peak_of(lambda: read_idx(tmp_path / "bomb")) < 2**28
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("x.npy", "y.npy"):
            with archive.open(name, "w") as file:
                np.lib.format.write_array_header_1_0(
                    file, {"descr": "|u1", "fortran_order": False, "shape": (count // 2**14 + 1, 128, 128)}
                )
                for _ in range(128):
                    file.write(bytes(2**20))
    assert peak_of(lambda: load(tmp_path / "bomb.npz")) < 2**28


def test_an_idx_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"none cannot be read: .*No such file"):
        read_idx(tmp_path / "none")
    with pytest.raises(DataError, match=r"cannot be read: .*(directory|regular file)"):
        read_idx(str(tmp_path))


# Folders of IDX files


@pytest.mark.parametrize(("packed", "suffix"), [(False, ""), (True, ".gz"), (True, ""), (False, ".gz")])
def test_a_folder_of_idx_files(tmp_path, packed, suffix):
    data = load(quartet(tmp_path / "letters", packed, suffix))
    assert_sound(data)
    assert (data.name, data.classes, data.input_shape) == ("letters", 2, (4, 3, 1))
    np.testing.assert_allclose(data.x_train[..., 0] * 255, images(), rtol=1e-6)
    np.testing.assert_allclose(data.x_val[..., 0] * 255, images(6, seed=1), rtol=1e-6)
    np.testing.assert_array_equal(data.y_train, labels())
    np.testing.assert_array_equal(data.y_val, labels(6))


def test_the_files_that_a_folder_lacks_are_listed(tmp_path):
    folder = quartet(tmp_path)
    (folder / QUARTET[1]).unlink()
    (folder / QUARTET[3]).unlink()
    with pytest.raises(DataError, match=rf"it lacks {QUARTET[1]}, {QUARTET[3]}\. Add the files under"):
        load(folder)


def test_a_bad_file_in_a_folder_is_named(tmp_path):
    folder = quartet(tmp_path)
    (folder / QUARTET[0]).write_bytes(idx_bytes(labels()))
    with pytest.raises(DataError, match=rf"{QUARTET[0]} must be images"):
        load(folder)
    (folder / QUARTET[0]).write_bytes(idx_bytes(images())[:-1])
    with pytest.raises(DataError, match=rf"{QUARTET[0]} is cut short"):
        load(folder)


# Archives


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_an_npz_of_two_parts(tmp_path, held_out):
    part = {f"x_{held_out}": images(6, 4, 3, 2, seed=1), f"y_{held_out}": labels(6)[:, np.newaxis]}
    path = npz(tmp_path, x_train=images(20, 4, 3, 2), y_train=labels()[:, np.newaxis], **part)
    data = load(str(path))
    assert_sound(data)
    assert (data.name, data.classes, data.input_shape) == ("data", 2, (4, 3, 2))
    np.testing.assert_allclose(data.x_val * 255, images(6, 4, 3, 2, seed=1), rtol=1e-6)
    np.testing.assert_array_equal(data.y_val, labels(6))


def test_validation_keys_win_over_test_keys(tmp_path):
    both = {"x_test": images(3), "y_test": labels(3), "x_val": images(6), "y_val": labels(6)}
    assert len(load(npz(tmp_path, x_train=images(), y_train=labels(), **both)).y_val) == 6


def test_an_npz_of_one_part_is_split_by_class(tmp_path):
    data = load(npz(tmp_path, x=images(50), y=np.repeat([0, 1, 2], [30, 15, 5])))
    assert_sound(data)
    assert np.bincount(data.y_train).tolist() == [24, 12, 4]
    assert np.bincount(data.y_val).tolist() == [6, 3, 1]


@pytest.mark.parametrize("y", [[0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 2, 2, 2], [0, 0]], ids=["single", "crowded", "two"])
@pytest.mark.parametrize("seed", range(5))
def test_a_part_that_cannot_be_split_by_class_is_split_at_random(tmp_path, y, seed):
    data = load(npz(tmp_path, x=images(len(y)), y=np.array(y)), seed=seed)
    assert_sound(data)
    assert len(data.y_val) == -(-len(y) // 5)
    assert sorted([*data.y_train, *data.y_val]) == y


def test_one_sample_cannot_be_split(tmp_path):
    with pytest.raises(DataError, match="at least two samples to be split; got 1"):
        load(npz(tmp_path, x=images(1), y=labels(1)))


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({}, "must hold x_train, y_train and x_test, y_test .* got no arrays"),
        ({"x": images(), "label": labels()}, "got x, label. Save the arrays under these keys"),
        ({"x_train": images(), "y_train": labels(), "x_test": images()}, "got x_train, y_train, x_test"),
        (
            {"x": images().astype(object), "y": labels()},
            "Object arrays cannot .* holds Python objects, which are never",
        ),
    ],
)
def test_an_npz_of_the_wrong_arrays(tmp_path, named, message):
    with pytest.raises(DataError, match=message):
        load(npz(tmp_path, **named))


class Bomb:
    """Sets an attribute where it is unpickled."""

    exploded = False

    def __reduce__(self):
        return setattr, (Bomb, "exploded", True)


def test_nothing_is_unpickled(tmp_path):
    path = npz(tmp_path, x=np.array([Bomb()], dtype=object), y=labels(1))
    with pytest.raises(DataError, match="never unpickled"):
        load(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match=r"is not an \.npz archive"):
        load(path)
    assert not Bomb.exploded


def test_an_archive_of_other_files(tmp_path):
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"no array")
        archive.writestr("y.npy", b"no array")
    with pytest.raises(DataError, match=r"x of .*data\.npz must be images.*got shape"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"label,pixel\n1,0\n"])
def test_a_file_that_is_no_npz(tmp_path, content):
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"data\.csv is not an \.npz archive, or is cut short\. A path must be a folder"
    ):
        load(path)


def npz_bytes(compressed: bool) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(
        file, x_train=images(4), y_train=labels(4), x_val=images(2), y_val=[0, 1]
    )
    return file.getvalue()


@settings(deadline=None)  # files
@given(compressed=st.booleans(), data=st.data())
def test_a_shortened_npz_is_always_a_data_error(scratch, compressed, data):
    whole = npz_bytes(compressed)
    path = scratch / "shortened.npz"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1), label="length")])
    with pytest.raises(DataError):
        load(path)


@settings(deadline=None)  # files
@given(compressed=st.booleans(), data=st.data())
def test_a_damaged_npz_is_read_or_a_data_error(scratch, compressed, data):
    damaged = bytearray(npz_bytes(compressed))
    damaged[data.draw(st.integers(0, len(damaged) - 1), label="place")] ^= data.draw(st.integers(1, 255), label="flip")
    path = scratch / "damaged.npz"
    path.write_bytes(damaged)
    with suppress(DataError):
        load(path)


# What the arrays must hold


@pytest.mark.parametrize(
    ("x", "scale"),
    [
        (images(), 255),
        (images().astype(">u2"), 255),
        (images().astype(np.int64), 255),
        (images() > 127, 1),
        (images() / 255, 1),
        ((images() / 255).astype(np.float16), 1),
        ((images() / 255).astype(">f4"), 1),
    ],
    ids=lambda value: str(getattr(value, "dtype", value)),
)
def test_images_are_scaled_by_their_type(tmp_path, x, scale):
    data = load(npz(tmp_path, x_train=x, y_train=labels(), x_val=x, y_val=labels()))
    assert_sound(data)
    np.testing.assert_allclose(data.x_train[..., 0], x.astype(np.float64) / scale, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["u1", "i1", ">i4", "u8", "f4", "f8", "?"])
def test_whole_labels_of_any_type(tmp_path, dtype):
    y = labels().astype(dtype)
    data = load(npz(tmp_path, x_train=images(), y_train=y, x_val=images(), y_val=y))
    assert data.y_train.dtype == np.int64
    np.testing.assert_array_equal(data.y_train, labels())


def test_a_class_may_be_unseen_in_training(tmp_path):
    data = load(npz(tmp_path, x_train=images(2), y_train=np.array([0, 2]), x_val=images(1), y_val=np.array([1])))
    assert (data.classes, data.y_val.tolist()) == (3, [1])


def with_pixel(value: float) -> np.ndarray:
    x = images() / 255
    x[3, 2, 1] = value
    return x


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x_train": images().reshape(20, 12)}, r"x_train of .* must be images.* got shape \(20, 12\).*x.reshape"),
        ({"x_train": images(20, 2, 2, 2, 2)}, r"must be images.* got shape \(20, 2, 2, 2, 2\)"),
        ({"x_train": np.float32(1)}, r"must be images.* got shape \(\)"),
        ({"x_train": images(0)}, r"must hold at least one image.* got shape \(0, 4, 3\)"),
        ({"x_val": images(20, 0, 3)}, r"x_val of .* at least one pixel; got shape \(20, 0, 3\)"),
        ({"x_train": images().astype(complex)}, "must be real numbers; got complex128"),
        ({"x_train": images().astype(str)}, "must be real numbers; got <U"),
        ({"x_train": with_pixel(np.nan)}, "must be finite; got 1 pixels that are NaN or infinite.*nan_to_num"),
        ({"x_val": with_pixel(-np.inf)}, "x_val of .* must be finite; got 1 pixels"),
        ({"x_train": with_pixel(1.5)}, r"must lie in \[0, 1\] if they are floats; got float64 from .* to 1.5\. Scale"),
        ({"x_train": with_pixel(-0.5)}, r"must lie in \[0, 1\].* from -0.5 to"),
        (
            {"x_train": images().astype(">u2") + 1},
            r"must lie in \[0, 255\] if they are integers; got >?u\w+ from .* to 256",
        ),
        ({"x_train": images().view(np.int8)}, r"must lie in \[0, 255\].* got int8 from -"),
        ({"y_train": np.eye(2)[labels()]}, r"y_train of .* one class index per image.* \(20, 2\).*argmax\(axis=1\)"),
        ({"y_train": np.int64(1)}, r"must be one class index per image.* got shape \(\)"),
        ({"y_train": labels(19)}, "must be as many as the images, 20; got 19"),
        ({"y_val": labels(0)}, "y_val of .* must be as many as the images, 20; got 0"),
        ({"y_train": labels() / 2}, r"whole numbers from 0 to 99999; got 0\.5\. Number the classes with numpy\.unique"),
        ({"y_train": np.where(labels(), np.nan, 0)}, "must be whole numbers .* got nan"),
        ({"y_train": np.where(labels(), np.inf, 0)}, "must be whole numbers .* got inf"),
        ({"y_train": labels() - 1.0}, r"must be whole numbers .* got -1\.0"),
        ({"y_train": labels().astype(int) - 1}, "must be whole numbers .* got -1"),
        ({"y_train": labels().astype("u8") + 2**63}, "must be whole numbers .* got 9223372036854775808"),
        ({"y_train": np.array(["cat", "dog"])[labels()]}, "must be whole numbers from 0; got <U3, such as 'cat'"),
        ({"x_val": images(20, 5, 3)}, r"of data must have the same shape; got \(4, 3, 1\) and \(5, 3, 1\)\. Resize"),
        ({"y_val": labels() + 1}, r"must be below the number of classes in training, 2; got 2\. Move"),
    ],
)
def test_errors_describe_invalid_arrays(tmp_path, changed, message):
    named = {"x_train": images(), "y_train": labels(), "x_val": images(seed=1), "y_val": labels(), **changed}
    with pytest.raises(DataError, match=message):
        load(npz(tmp_path, **named))


# Names and paths


def test_an_unknown_name_error_lists_the_names():
    with pytest.raises(
        DataError, match=f"got 'minst'. Did you mean 'mnist'[?] The names are {', '.join(NAMES)}; a path"
    ):
        load("minst")


@pytest.mark.parametrize("source", ["", "./digits", "/no/such/file.npz", "x" * 5000, "null\0byte", Path("digits")])
def test_a_path_that_does_not_exist(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"a path that exists; got '|cannot be read: .*name too long"):
        load(source)


def test_a_name_wins_over_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(quartet(tmp_path / "digits").parent)
    assert load("digits").input_shape == (8, 8, 1)
    for path in ("./digits", Path("digits"), tmp_path / "digits"):
        assert load(path).input_shape == (4, 3, 1)
        assert load(path).name == "digits"
    monkeypatch.chdir("digits")
    assert load(".").name == "digits"


def test_arguments_of_the_wrong_type():
    with pytest.raises(TypeError, match="source must be a name or a path; got source=7 of type int"):
        load(7)
    with pytest.raises(TypeError, match="seed must be an integer"):
        load("digits", seed=0.5)
    with pytest.raises(ValueError, match="seed must be an integer of at least 0"):
        load("digits", seed=-1)


# Optional packages


@pytest.mark.parametrize("module", ["sklearn.datasets", "sklearn.model_selection"])
def test_without_scikit_learn(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        MissingExtraError, match=r"'digits' needs scikit-learn .* Run: pip install \"cyclr\[cli\]\""
    ) as e:
        load("digits")
    assert isinstance(e.value, CyclrError)
    assert isinstance(e.value, ImportError)


def test_a_split_needs_scikit_learn_and_two_parts_do_not(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn.model_selection", None)
    load(npz(tmp_path, x_train=images(), y_train=labels(), x_val=images(), y_val=labels()))
    with pytest.raises(MissingExtraError, match=r"data\.npz needs scikit-learn"):
        load(npz(tmp_path, x=images(), y=labels()))


def test_without_keras(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingExtraError, match=r"'mnist' needs Keras .* Run: pip install \"cyclr\[tensorflow\]\""):
        load("mnist")


def test_neither_keras_nor_scikit_learn_is_imported_before_it_is_needed():
    code = "import sys, cyclr.experiments.data; print(sorted({'keras', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


KERAS_SCRIPT = """
import sys
import keras
import numpy as np
from cyclr.errors import DataError
from cyclr.experiments.data import NAMES, load

for name in NAMES[1:]:
    try:
        data = load(name)
    except DataError as error:
        print(name, "|", error, "|", type(error.__cause__).__name__)
    else:
        print(name, "|", data.x_train.shape, data.x_val.shape, data.classes, "| loaded")

pixels = np.arange(2 * 3 * 4 * 5, dtype="uint8").reshape(2, 3, 4, 5)  # as Keras has CIFAR where channels come first
keras.datasets.cifar10.load_data = lambda: ((pixels, np.array([[0], [1]])), (pixels, np.array([[1], [0]])))
for order, expected in ("channels_first", np.moveaxis(pixels, 1, -1)), ("channels_last", pixels):
    keras.config.set_image_data_format(order)
    data = load("cifar10")
    np.testing.assert_allclose(data.x_train * 255, expected, rtol=1e-6)
    print("cifar10", "|", order, data.y_val.tolist(), "| loaded")
"""


def test_keras_data_sets_with_one_in_the_cache_and_no_network(tmp_path):
    """Keras looks in its cache (where only Fashion-MNIST has no checksum), then for a network that refuses it."""
    if not all(importlib.util.find_spec(name) for name in ("keras", "tensorflow")):
        pytest.skip("needs Keras and TensorFlow")
    quartet(tmp_path / "datasets" / "fashion-mnist", pack=True, suffix=".gz")
    for name in QUARTET[::2]:  # Keras takes no other size
        path = tmp_path / "datasets" / "fashion-mnist" / f"{name}.gz"
        path.write_bytes(gzip.compress(idx_bytes(images(len(read_idx(path)), 28, 28))))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{probe.getsockname()[1]}"  # bound, never listening: every connection is refused
        proxies = {f"{scheme}_proxy": closed for scheme in ("http", "https")}
        kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        keras = {"KERAS_BACKEND": "tensorflow", "KERAS_HOME": str(tmp_path), "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(
            [sys.executable, "-c", KERAS_SCRIPT], capture_output=True, text=True, env={**kept, **proxies, **keras}
        )
    assert done.returncode == 0, done.stderr
    said = [line.split(" | ") for line in done.stdout.splitlines() if " | " in line]
    assert [line[0] for line in said] == [*NAMES[1:], "cifar10", "cifar10"]
    for name, message, cause in (said[0], said[2], said[3]):
        assert cause == "Exception"
        assert f"data {name!r} could not be downloaded or read by keras.datasets: URL fetch failure on https" in message
        assert "--data digits" in message
        assert "apt-get install dataset-fashion-mnist" in message
        assert "--data /usr/share/datasets/fashion-mnist" in message
    assert said[1][1:] == ["(20, 28, 28, 1) (6, 28, 28, 1) 2", "loaded"]
    assert [line[1] for line in said[4:]] == ["channels_first [1, 0]", "channels_last [1, 0]"]
