"""Fixtures for the tests of comparisons."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cyclr.experiments import Spec
from cyclr.records import Record

TIMES = {"seconds", "started"}


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    """A folder with a user's file of torch models, `blobs.py`."""
    folder = tmp_path / "user"
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("blobs.py"), folder)
    return folder


@pytest.fixture
def blob_spec(blobs: Path) -> Callable[..., Spec]:
    """Makes comparisons on functions of that file."""

    def make(function: str = "build", **changes: Any) -> Spec:
        given = {"policies": [{"kind": "fixed", "lr": 0.1}], "seeds": [0], "epochs": 2, "batch_size": 32, **changes}
        return Spec.from_dict({"workload": f"blobs.py:{function}", **given}, folder=str(blobs))

    return make


def timeless(record: Record) -> dict[str, Any]:
    """A record without what a clock put into it."""
    kept = {name: getattr(record, name) for name in record.__struct_fields__ if name not in TIMES}
    return {**kept, "epochs": {name: values for name, values in record.epochs.items() if name not in TIMES}}


@pytest.fixture(name="timeless")
def _timeless() -> Callable[[Record], dict[str, Any]]:
    return timeless
