"""Comparisons of learning-rate policies on real data: data sets, models, trials, and the comparison of `cyclr demo`."""

import warnings
from typing import Any

from cyclr import _extras, _names

with _extras.needed("comparisons need", "msgspec", extra="compare"):
    import msgspec  # noqa: F401

from cyclr.experiments.compare import compare
from cyclr.experiments.spec import Spec
from cyclr.records import read_records

__all__ = ["Spec", "compare", "read_records"]


def __getattr__(name: str) -> Any:
    if name == "statistics":
        from cyclr import records

        said = "cyclr.experiments.statistics is now cyclr.records; the old name is removed in cyclr 0.3."
        warnings.warn(said, DeprecationWarning, stacklevel=2)
        return records
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_names.Package.adopt(__name__)
