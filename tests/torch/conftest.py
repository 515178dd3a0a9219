"""What the tests of the torch adapter share."""

import gc
import importlib.util
from collections.abc import Iterable

import pytest

if importlib.util.find_spec("torch") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterable[None]:
    """Tensors here are tiny, and workers share the cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    gc.collect()
